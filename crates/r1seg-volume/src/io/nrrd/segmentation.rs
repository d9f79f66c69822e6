//! Segmentations as 3D Slicer keeps them: NRRD with the names and colors of the segments in
//! key/value pairs (the Slicer manual's "segmentation file format", `.seg.nrrd`).

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;

use crate::io::write::gzip;
use crate::io::{Overwrite, write_atomically};
use crate::{Error, Geometry};

/// Most segments of a segmentation: voxels are u8, and 0 is background.
const MAX_SEGMENTS: usize = 255;
/// Longest name that is written, in characters.
const MAX_NAME: usize = 256;

/// One structure of a [`Segmentation`]: its name, its color and its voxels.
#[derive(Debug, Clone)]
pub struct Segment<'a> {
    name: String,
    color: [u8; 3],
    voxels: &'a [u8],
    label: Option<u8>,
}

impl<'a> Segment<'a> {
    /// The voxels of `mask` (`[D, H, W]` C order) that are not 0.
    pub fn new(name: impl Into<String>, color: [u8; 3], mask: &'a [u8]) -> Self {
        Self { name: name.into(), color, voxels: mask, label: None }
    }

    /// The voxels of `labels` (`[D, H, W]` C order) that are `label`.
    pub fn of_label(name: impl Into<String>, color: [u8; 3], labels: &'a [u8], label: u8) -> Self {
        Self { name: name.into(), color, voxels: labels, label: Some(label) }
    }

    fn holds(&self, value: u8) -> bool {
        self.label.map_or(value != 0, |label| value == label)
    }

    /// `i`, `j` and `k` of the first and last voxel; `None` without any.
    fn extent(&self, [_, h, w]: [usize; 3]) -> Option<[[usize; 2]; 3]> {
        let mut extent: Option<[[usize; 2]; 3]> = None;
        for n in (0..self.voxels.len()).filter(|n| self.holds(self.voxels[*n])) {
            let ijk = [n % w, n / w % h, n / w / h];
            let so_far = extent.get_or_insert(ijk.map(|v| [v, v]));
            for ([first, last], v) in so_far.iter_mut().zip(ijk) {
                (*first, *last) = ((*first).min(v), (*last).max(v));
            }
        }
        extent
    }
}

/// Several segments on one grid, which may overlap.
///
/// Segment `n` of the list has label value `n + 1`. Segments that do not overlap share a layer;
/// there are as many layers as it takes to keep every voxel of every segment.
#[derive(Debug, Clone)]
pub struct Segmentation<'a> {
    geometry: &'a Geometry,
    segments: Vec<Segment<'a>>,
    /// The layer that each segment is in.
    layer_of: Vec<usize>,
    /// Label maps.
    layers: Vec<Vec<u8>>,
}

impl<'a> Segmentation<'a> {
    /// A segmentation of `segments` on the grid of `geometry`.
    ///
    /// # Errors
    /// [`Error::Segments`] without a segment or with more than 255, [`Error::DataLength`] if one
    /// has not one value a voxel.
    pub fn new(geometry: &'a Geometry, segments: Vec<Segment<'a>>) -> Result<Self, Error> {
        let (got, most) = (segments.len(), MAX_SEGMENTS);
        if got == 0 || most < got {
            return Err(Error::Segments { got, most });
        }
        let expected = geometry.voxels();
        let mut out =
            Self { geometry, segments: Vec::new(), layer_of: Vec::new(), layers: Vec::new() };
        for (segment, value) in segments.into_iter().zip(1..=u8::MAX) {
            let got = segment.voxels.len();
            if got != expected {
                return Err(Error::DataLength { shape: geometry.shape(), expected, got });
            }
            out.add(segment, value);
        }
        Ok(out)
    }

    fn add(&mut self, segment: Segment<'a>, value: u8) {
        let free = |layer: &Vec<u8>| {
            segment.voxels.iter().zip(layer).all(|(v, taken)| *taken == 0 || !segment.holds(*v))
        };
        let layer = self.layers.iter().position(free).unwrap_or_else(|| {
            self.layers.push(vec![0; segment.voxels.len()]);
            self.layers.len() - 1
        });
        for (voxel, v) in self.layers[layer].iter_mut().zip(segment.voxels) {
            if segment.holds(*v) {
                *voxel = value;
            }
        }
        self.segments.push(segment);
        self.layer_of.push(layer);
    }

    /// The NRRD header, with the empty line behind it.
    fn header(&self) -> Result<String, std::fmt::Error> {
        let [d, h, w] = self.geometry.shape();
        let layers = self.layers.len();
        let list = 1 < layers;
        let mut out = String::from("NRRD0004\n");
        writeln!(out, "type: unsigned char")?;
        writeln!(out, "dimension: {}", if list { 4 } else { 3 })?;
        if self.geometry.affine().is_some() {
            writeln!(out, "space: left-posterior-superior")?;
        }
        let (list_size, list_direction, list_kind) = match list {
            true => (format!("{layers} "), "none ", "list "),
            false => (String::new(), "", ""),
        };
        writeln!(out, "sizes: {list_size}{w} {h} {d}")?;
        writeln!(out, "kinds: {list_kind}domain domain domain")?;
        writeln!(out, "encoding: gzip")?;
        if let Some(affine) = self.geometry.affine() {
            let lps = |column: usize| {
                // Not a minus sign, which would make -0 of 0.
                let [x, y, z] =
                    [0.0 - affine[0][column], 0.0 - affine[1][column], affine[2][column]];
                format!("({x},{y},{z})")
            };
            writeln!(out, "space directions: {list_direction}{} {} {}", lps(0), lps(1), lps(2))?;
            writeln!(out, "space origin: {}", lps(3))?;
        }
        for (n, segment) in self.segments.iter().enumerate() {
            let [red, green, blue] =
                segment.color.map(|v| (f64::from(v) / 255.0 * 1e6).round() / 1e6);
            writeln!(out, "Segment{n}_Color:={red} {green} {blue}")?;
            writeln!(out, "Segment{n}_ColorAutoGenerated:=0")?;
            let [i, j, k] = match segment.extent([d, h, w]) {
                Some(extent) => extent.map(|[first, last]| format!("{first} {last}")),
                None => [(); 3].map(|()| "0 -1".to_owned()),
            };
            writeln!(out, "Segment{n}_Extent:={i} {j} {k}")?;
            writeln!(out, "Segment{n}_ID:=Segment_{}", n + 1)?;
            writeln!(out, "Segment{n}_LabelValue:={}", n + 1)?;
            writeln!(out, "Segment{n}_Layer:={}", self.layer_of[n])?;
            writeln!(out, "Segment{n}_Name:={}", name(&segment.name, n))?;
            writeln!(out, "Segment{n}_NameAutoGenerated:=0")?;
            writeln!(out, "Segment{n}_Tags:=Segmentation.Status:inprogress|")?;
        }
        writeln!(out, "Segmentation_ContainedRepresentationNames:=Binary labelmap|")?;
        writeln!(out, "Segmentation_MasterRepresentation:=Binary labelmap")?;
        writeln!(out, "Segmentation_ReferenceImageExtentOffset:=0 0 0")?;
        writeln!(out)?;
        Ok(out)
    }
}

/// A name on one line, with what NRRD escapes escaped.
fn name(text: &str, n: usize) -> String {
    let plain: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_NAME).collect();
    match plain.trim() {
        "" => format!("Segment_{}", n + 1),
        plain => plain.replace('\\', "\\\\"),
    }
}

/// Writes a segmentation for 3D Slicer, as a whole or not at all; end the name in `.seg.nrrd`, by
/// which Slicer tells a segmentation.
///
/// Gzipped u8 label values: one 3D label map, or, where segments overlap, a list of them (the first,
/// fastest axis). It lies on the volume that `geometry` is of, in the LPS world that Slicer and ITK
/// use; without an affine there are no space fields, and viewers take voxels of 1 mm. Names are put
/// on one line; equal segmentations give equal files. No text of the input's header is written.
///
/// ```
/// use r1seg_volume::{Geometry, Overwrite, Segment, Segmentation, write_segmentation};
///
/// let geometry = Geometry::with_spacing([4, 4, 4], [5.0, 0.8, 0.8])?;
/// let labels: Vec<u8> = (0..64).map(|n| n / 22).collect();
/// let segments = vec![
///     Segment::of_label("liver", [221, 130, 101], &labels, 1),
///     Segment::of_label("spleen", [157, 108, 162], &labels, 2),
/// ];
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("mask.seg.nrrd");
/// write_segmentation(&path, &Segmentation::new(&geometry, segments)?, Overwrite::Refuse)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`write_atomically`].
pub fn write_segmentation(
    path: impl AsRef<Path>,
    segmentation: &Segmentation<'_>,
    overwrite: Overwrite,
) -> Result<(), Error> {
    write_atomically(path, overwrite, |out| write_segmentation_to(out, segmentation))
}

/// Writes a segmentation to a stream, such as standard output.
///
/// # Errors
/// Those of `out`.
pub fn write_segmentation_to(
    mut out: impl Write,
    segmentation: &Segmentation<'_>,
) -> io::Result<()> {
    let header = segmentation.header().map_err(io::Error::other)?;
    out.write_all(header.as_bytes())?;
    gzip(out, |out| match segmentation.layers.as_slice() {
        [labels] => out.write_all(labels),
        layers => {
            let mut voxels = Vec::new();
            for start in (0..segmentation.geometry.voxels()).step_by(1 << 16) {
                let end = (start + (1 << 16)).min(segmentation.geometry.voxels());
                voxels.clear();
                for n in start..end {
                    voxels.extend(layers.iter().map(|layer| layer[n]));
                }
                out.write_all(&voxels)?;
            }
            Ok(())
        }
    })
}
