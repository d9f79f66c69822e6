//! Arrays of `numpy.save`.
//!
//! An array is one volume in `[D, H, W]` order, as the models' own files are, unless the caller says
//! otherwise: there is nothing in the file that could. `1xDxHxW` is the same with a channel axis,
//! and `NxDxHxW` holds N frames.

mod header;

use std::io::{self, Write};
use std::path::Path;

use super::frames::{self, Frame};
use super::scalar::Decoder;
use super::source::{Rest, Source, check_size};
use super::write::label_values;
use super::{ArrayAxes, Loaded, ReadOptions, SourceKind, findings, voxels};
use crate::error::Detail;
use crate::error::join;
use crate::geometry::ArrayLayout;
use crate::{Error, Geometry, LabelMap, Mask, Volume, Voxels, Warning};
use header::Header;
pub use header::npy_header;
use r1seg_diagnostic::Remedy;

pub(super) const MAGIC: &[u8] = b"\x93NUMPY";

/// Reads a volume from the start of `source`, which begins with [`MAGIC`]; `kind` says whether it is
/// a file of its own or part of an archive.
pub(super) fn read(
    mut source: Source<'_>,
    kind: SourceKind,
    options: &ReadOptions,
) -> Result<Loaded, Error> {
    let path = source.path();
    source.set_kind(kind);
    let header = Header::read(&mut source)?;
    let array = Array::of(&header, &path, kind, options)?;
    voxels::check_axes(path.clone(), array.shape, options)?;

    let decoder = Decoder { scalar: header.scalar, endian: header.endian, scale: None };
    let data = match array.frame {
        Some(frame) => {
            frame.skip_to(&mut source, kind)?;
            let data = source.voxels(kind, array.voxels, &decoder)?;
            frame.skip_rest(&mut source, kind)?;
            data
        }
        None => source.voxels(kind, array.voxels, &decoder)?,
    };
    if source.rest()? == Rest::MoreData {
        let promised = source.got() - 1;
        return Err(Detail::NpyTooLong { path, promised, got: source.got() }.into());
    }
    let data = match data {
        Voxels::I16 { stored, scale } => Voxels::I16 { stored: array.in_order(stored), scale },
        Voxels::F32(data) => array.in_order(data).into(),
    };
    let mut warnings = vec![findings::no_spacing("a numpy array")];
    if let [d, h, w] = array.shape
        && (d == h && w < h && options.axes.is_none())
    {
        let text = format!(
            "the array is {d}x{h}x{w} and is read as D,H,W: {d} slices of {h}x{w}; \
             the last axis looks like the slices"
        );
        warnings.push(Warning::new("W-AXES", text).with_remedy(Remedy::StateAxes));
    }
    let data = voxels::make_finite(path, data, &mut warnings)?;
    let geometry = Geometry::of_array(array.shape, array.layout);
    Ok(Loaded { volume: Volume::new(data, geometry)?, warnings, kind, series: None })
}

/// Reads a table of numbers: an array with two axes, row by row, and its shape.
///
/// # Errors
/// What the file is instead, or where it ends; as for a volume beyond its default limits.
pub fn read_matrix(path: &Path) -> Result<([usize; 2], Vec<f32>), Error> {
    let mut source = super::open(path)?;
    let kind = SourceKind::Npy;
    source.set_kind(kind);
    if source.peek(MAGIC.len())? != MAGIC {
        let reason = "it does not begin as numpy.save begins";
        return Err(Detail::NpyHeader { path: path.to_owned(), reason }.into());
    }
    let header = Header::read(&mut source)?;
    let [rows, columns] = *header.shape.as_slice() else {
        let shape = join(&header.shape);
        return Err(Detail::NpyMatrix { path: path.to_owned(), shape }.into());
    };
    let (size, options) = (header.scalar.size(), ReadOptions::default());
    let numbers = check_size(path, kind, &header.shape, size, &options)?;
    let decoder = Decoder { scalar: header.scalar, endian: header.endian, scale: None };
    let data = source.voxels(kind, numbers, &decoder)?;
    if source.rest()? == Rest::MoreData {
        let promised = source.got() - 1;
        let (path, got) = (path.to_owned(), source.got());
        return Err(Detail::NpyTooLong { path, promised, got }.into());
    }
    // `check_size` has shown that the product, hence each size, fits.
    let [rows, columns] = [rows, columns].map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    let data = data.to_f32().into_owned();
    let data = match header.fortran_order {
        false => data,
        true => (0..numbers).map(|n| data[n / columns + rows * (n % columns)]).collect(),
    };
    Ok(([rows, columns], data))
}

/// How the voxels of one volume lie in an array.
struct Array {
    /// `[D, H, W]`.
    shape: [usize; 3],
    layout: ArrayLayout,
    /// Voxels to be read, of which `in_order` takes those of the volume.
    voxels: usize,
    /// The frame to be read; `None` where frames are interleaved, so that all of them are.
    frame: Option<Frame>,
    /// Whether the slices run fastest.
    slices_fastest: bool,
    /// Number of the volume's first voxel, and the step to its next.
    first: usize,
    step: usize,
}

impl Array {
    fn of(
        header: &Header,
        path: &Path,
        kind: SourceKind,
        options: &ReadOptions,
    ) -> Result<Self, Error> {
        let (frames, sizes) = match *header.shape.as_slice() {
            [a, b, c] => (1, [a, b, c]),
            [frames, a, b, c] => (frames, [a, b, c]),
            _ => return Err(not_a_volume(path, &header.shape, 1)),
        };
        let (axes, size) = (options.axes.unwrap_or_default(), header.scalar.size());
        let voxels = check_size(path, kind, &sizes, size, options)?;
        let Some(index) = frames::chosen(path, frames, options)? else {
            return Err(not_a_volume(path, &header.shape, frames));
        };
        let interleaved = header.fortran_order && frames != 1;
        let (voxels, frame, first, step) = if interleaved {
            let all = check_size(path, kind, &header.shape, size, options)?;
            // `check_size` has shown that the product, hence each size, fits.
            let [first, step] = [index, frames].map(|n| usize::try_from(n).unwrap_or(usize::MAX));
            (all, None, first, step)
        } else {
            let volume = [voxels as u64, frames];
            (voxels, Some(Frame::new(path, kind, index, volume, size, options)?), 0, 1)
        };
        let [a, b, c] = sizes.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        let leading_axis = header.shape.len() == 4 && frames == 1;
        Ok(Self {
            shape: if axes == ArrayAxes::Zyx { [a, b, c] } else { [c, b, a] },
            layout: ArrayLayout { leading_axis, axes },
            voxels,
            frame,
            slices_fastest: header.fortran_order == (axes == ArrayAxes::Zyx),
            first,
            step,
        })
    }

    /// The voxels of the volume in `[D, H, W]` C order.
    fn in_order<T: Copy>(&self, data: Vec<T>) -> Vec<T> {
        let [d, h, w] = self.shape;
        if !self.slices_fastest {
            return if self.step == 1 {
                data
            } else {
                data.into_iter().skip(self.first).step_by(self.step).collect()
            };
        }
        let mut out = Vec::with_capacity(d * h * w);
        for z in 0..d {
            for y in 0..h {
                let at = |x| self.first + self.step * (z + d * (y + h * x));
                out.extend((0..w).map(|x| data[at(x)]));
            }
        }
        out
    }
}

fn not_a_volume(path: &Path, sizes: &[u64], frames: u64) -> Error {
    let shape = if sizes.is_empty() { "a single number".to_owned() } else { join(sizes) };
    Error::from(Detail::NpyShape { path: path.to_owned(), shape, frames })
}

/// Writes a mask as `|u1`, in the axes of the array that it is of.
pub(super) fn write_mask(out: &mut dyn Write, mask: &Mask) -> io::Result<()> {
    out.write_all(&header_of("|u1", mask.geometry()))?;
    out.write_all(mask.data())
}

/// Writes a label map as `|u1`, or as `<u2` with more labels, in the axes that a mask has.
pub(super) fn write_labels(out: &mut dyn Write, labels: &LabelMap) -> io::Result<()> {
    let fit_bytes = labels.fits_bytes();
    out.write_all(&header_of(if fit_bytes { "|u1" } else { "<u2" }, labels.geometry()))?;
    label_values(out, labels.labels(), fit_bytes)
}

/// Writes a volume as `<f4`, in the axes that a mask of it has.
pub(super) fn write_volume(out: &mut dyn Write, volume: &Volume) -> io::Result<()> {
    out.write_all(&header_of("<f4", volume.geometry()))?;
    let mut out = io::BufWriter::new(out);
    for voxel in volume.voxels().to_f32().iter() {
        out.write_all(&voxel.to_le_bytes())?;
    }
    out.flush()
}

fn header_of(descr: &str, geometry: &Geometry) -> Vec<u8> {
    let ArrayLayout { leading_axis, axes } = geometry.array_layout();
    let [d, h, w] = geometry.shape();
    let leading: &[usize] = if leading_axis { &[1] } else { &[] };
    match axes {
        ArrayAxes::Zyx => npy_header(descr, false, &[leading, &[d, h, w]].concat()),
        // `[D, H, W]` in C order is x, y, z in Fortran order.
        ArrayAxes::Xyz => npy_header(descr, true, &[leading, &[w, h, d]].concat()),
    }
}
