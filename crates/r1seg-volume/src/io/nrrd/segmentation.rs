//! Segmentations as 3D Slicer keeps them: NRRD with the names and colors of the segments in
//! key/value pairs (the Slicer manual's "segmentation file format", `.seg.nrrd`).

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;

use crate::error::Detail;
use crate::io::write::{gzip, label_values};
use crate::io::{Overwrite, write_atomically};
use crate::{Error, LabelMap};

/// Longest name that is written, in characters.
const MAX_NAME: usize = 256;

/// What a label of a [`Segmentation`] stands for: its name and its color.
#[derive(Debug, Clone)]
pub struct Segment {
    name: String,
    color: [u8; 3],
}

impl Segment {
    /// A structure of this name, shown in this color (red, green, blue).
    pub fn new(name: impl Into<String>, color: [u8; 3]) -> Self {
        Self { name: name.into(), color }
    }
}

/// A label map with a name and a color for each label.
///
/// Labels that do not overlap share a layer; there are as many layers as it takes to keep every voxel
/// of every label.
#[derive(Debug, Clone)]
pub struct Segmentation<'a> {
    labels: &'a LabelMap,
    /// Of label `n` at `n - 1`, if it is one.
    segments: Vec<Option<Segment>>,
    /// The layer that each segment is in.
    layer_of: Vec<usize>,
    /// `None` for the label map itself, which then is the only layer.
    layers: Option<Vec<Vec<u16>>>,
}

impl<'a> Segmentation<'a> {
    /// The labels of a map, of which label `n` has segment `n - 1`, or none where that number stands for
    /// nothing.
    ///
    /// # Errors
    /// `R-OUT-09` unless there is a place for each label, and at least one.
    pub fn new<S: Into<Option<Segment>>>(
        labels: &'a LabelMap,
        segments: Vec<S>,
    ) -> Result<Self, Error> {
        let segments: Vec<Option<Segment>> = segments.into_iter().map(Into::into).collect();
        let got = segments.len();
        if got == 0 || got != labels.len() {
            return Err(Detail::Segments { got, labels: labels.len() }.into());
        }
        let (layers, layer_of) = match labels.overlap() {
            0 => (None, vec![0; got]),
            _ => {
                let (layers, layer_of) = labels.layers();
                (Some(layers), layer_of)
            }
        };
        Ok(Self { labels, segments, layer_of, layers })
    }

    fn layers(&self) -> Vec<&[u16]> {
        match &self.layers {
            None => vec![self.labels.labels()],
            Some(layers) => layers.iter().map(Vec::as_slice).collect(),
        }
    }

    /// `i`, `j` and `k` of the first and last voxel of each segment; `None` for those without any.
    fn extents(&self) -> Vec<Option<[[usize; 2]; 3]>> {
        let [_, h, w] = self.labels.shape();
        let mut extents: Vec<Option<[[usize; 2]; 3]>> = vec![None; self.segments.len()];
        for layer in self.layers() {
            for (n, label) in layer.iter().enumerate().filter(|(_, label)| **label != 0) {
                let ijk = [n % w, n / w % h, n / w / h];
                let extent = &mut extents[usize::from(*label) - 1];
                let extent = extent.get_or_insert(ijk.map(|v| [v, v]));
                for ([first, last], v) in extent.iter_mut().zip(ijk) {
                    (*first, *last) = ((*first).min(v), (*last).max(v));
                }
            }
        }
        extents
    }

    /// The NRRD header, with the empty line behind it.
    fn header(&self) -> Result<String, std::fmt::Error> {
        let [d, h, w] = self.labels.shape();
        let geometry = self.labels.geometry();
        let layers = self.layers().len();
        let list = 1 < layers;
        let mut out = String::from("NRRD0004\n");
        let fit_bytes = self.labels.fits_bytes();
        writeln!(out, "type: unsigned {}", if fit_bytes { "char" } else { "short" })?;
        writeln!(out, "dimension: {}", if list { 4 } else { 3 })?;
        if geometry.affine().is_some() {
            writeln!(out, "space: left-posterior-superior")?;
        }
        let (list_size, list_direction, list_kind) = match list {
            true => (format!("{layers} "), "none ", "list "),
            false => (String::new(), "", ""),
        };
        writeln!(out, "sizes: {list_size}{w} {h} {d}")?;
        writeln!(out, "kinds: {list_kind}domain domain domain")?;
        writeln!(out, "encoding: gzip")?;
        if !fit_bytes {
            writeln!(out, "endian: little")?;
        }
        if let Some(affine) = geometry.affine() {
            let lps = |column: usize| {
                // Not a minus sign, which would make -0 of 0.
                let [x, y, z] =
                    [0.0 - affine[0][column], 0.0 - affine[1][column], affine[2][column]];
                format!("({x},{y},{z})")
            };
            writeln!(out, "space directions: {list_direction}{} {} {}", lps(0), lps(1), lps(2))?;
            writeln!(out, "space origin: {}", lps(3))?;
        }
        let places = self.segments.iter().zip(self.extents()).zip(&self.layer_of).zip(1..);
        let used = places.filter_map(|(((segment, extent), layer), label)| {
            segment.as_ref().map(|segment| (segment, extent, layer, label))
        });
        for (n, (segment, extent, layer, label)) in used.enumerate() {
            let [red, green, blue] =
                segment.color.map(|v| (f64::from(v) / 255.0 * 1e6).round() / 1e6);
            writeln!(out, "Segment{n}_Color:={red} {green} {blue}")?;
            writeln!(out, "Segment{n}_ColorAutoGenerated:=0")?;
            let [i, j, k] = match extent {
                Some(extent) => extent.map(|[first, last]| format!("{first} {last}")),
                None => [(); 3].map(|()| "0 -1".to_owned()),
            };
            writeln!(out, "Segment{n}_Extent:={i} {j} {k}")?;
            writeln!(out, "Segment{n}_ID:=Segment_{label}")?;
            writeln!(out, "Segment{n}_LabelValue:={label}")?;
            writeln!(out, "Segment{n}_Layer:={layer}")?;
            writeln!(out, "Segment{n}_Name:={}", name(&segment.name, label))?;
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
fn name(text: &str, label: usize) -> String {
    let plain: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_NAME).collect();
    match plain.trim() {
        "" => format!("Segment_{label}"),
        plain => plain.replace('\\', "\\\\"),
    }
}

/// Writes a segmentation for 3D Slicer, as a whole or not at all; end the name in `.seg.nrrd`, by
/// which Slicer tells a segmentation.
///
/// Gzipped label values, u8 up to label 255 and u16 if there are more: one 3D label map, or, where labels
/// overlap, a list of them (the first, fastest axis). It lies on the volume that `geometry` is of, in the LPS world that Slicer and ITK
/// use; without an affine there are no space fields, and viewers take voxels of 1 mm. Names are put
/// on one line; equal segmentations give equal files. No text of the input's header is written.
///
/// ```
/// use r1seg_volume::{
///     Geometry, LabelMap, Mask, Overwrite, Segment, Segmentation, write_segmentation,
/// };
///
/// let geometry = Geometry::with_spacing([4, 4, 4], [5.0, 0.8, 0.8])?;
/// let mut labels = LabelMap::new(geometry.clone());
/// for n in 1..=2 {
///     labels.push(&Mask::new((0..64).map(|v| u8::from(v / 22 == n)).collect(), geometry.clone())?)?;
/// }
/// let segments = vec![
///     Segment::new("liver", [221, 130, 101]),
///     Segment::new("spleen", [157, 108, 162]),
/// ];
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("mask.seg.nrrd");
/// write_segmentation(&path, &Segmentation::new(&labels, segments)?, Overwrite::Refuse)?;
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
    let fit_bytes = segmentation.labels.fits_bytes();
    gzip(out, |out| {
        let layers = segmentation.layers();
        if let [labels] = layers[..] {
            return label_values(out, labels, fit_bytes);
        }
        let voxels = segmentation.labels.labels().len();
        let mut values = Vec::new();
        for start in (0..voxels).step_by(1 << 16) {
            values.clear();
            for voxel in start..voxels.min(start + (1 << 16)) {
                values.extend(layers.iter().map(|layer| layer[voxel]));
            }
            label_values(out, &values, fit_bytes)?;
        }
        Ok(())
    })
}
