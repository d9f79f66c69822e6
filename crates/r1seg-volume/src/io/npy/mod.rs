//! Arrays of `numpy.save`.
//!
//! An array is one volume in `[D, H, W]` order, as the models' own files are: there is nothing in
//! the file that could say otherwise. `1xDxHxW` is the same with a channel axis.

mod header;

use std::io::{self, Write};
use std::path::PathBuf;

use ndarray::ArrayView;
use ndarray_npy::{WritableElement, WriteNpyExt};

use super::scalar::Decoder;
use super::source::{Rest, Source, check_size};
use super::{Loaded, ReadOptions, SourceKind, findings, voxels};
use crate::error::join;
use crate::{Error, Geometry, Mask, Volume, Voxels, Warning};
use header::Header;

pub(super) const MAGIC: &[u8] = b"\x93NUMPY";

/// Reads a volume from the start of `source`, which begins with [`MAGIC`].
pub(super) fn read(mut source: Source<'_>, options: &ReadOptions) -> Result<Loaded, Error> {
    const KIND: SourceKind = SourceKind::Npy;
    let path = source.path();
    let path = || path.clone();
    source.set_kind(KIND);
    let header = Header::read(&mut source)?;
    let (shape, leading_axis) = shape(&header.shape, path)?;
    let size = header.scalar.size();
    let count = check_size(&path(), KIND, &header.shape, size, options)?;
    voxels::check_axes(path(), shape, options)?;

    let decoder = Decoder { scalar: header.scalar, endian: header.endian, scale: None };
    let mut data = source.voxels(KIND, count, &decoder)?;
    if source.rest()? == Rest::MoreData {
        let promised = source.got() - 1;
        return Err(Error::NpyTooLong { path: path(), promised, got: source.got() });
    }
    if header.fortran_order {
        data = match data {
            Voxels::I16 { stored, scale } => Voxels::I16 { stored: c_order(&stored, shape), scale },
            Voxels::F32(data) => c_order(&data, shape).into(),
        };
    }
    let mut warnings = vec![findings::no_spacing("a npy array")];
    if let [d, h, w] = shape
        && d == h
        && w < h
    {
        let text = format!(
            "the array is {d}x{h}x{w} and is read as D,H,W: {d} slices of {h}x{w}; \
             the last axis looks like the slices"
        );
        warnings.push(
            Warning::new("W-AXES", text).with_fix("transpose it to slices, rows, columns first"),
        );
    }
    let data = voxels::make_finite(path(), data, &mut warnings)?;
    let geometry = Geometry::from_npy(shape, leading_axis);
    Ok(Loaded { volume: Volume::new(data, geometry)?, warnings, kind: KIND })
}

/// `[D, H, W]`, and whether a leading axis of 1 was taken off.
fn shape(sizes: &[u64], path: impl Fn() -> PathBuf) -> Result<([usize; 3], bool), Error> {
    let other = || Error::NpyShape {
        path: path(),
        shape: if sizes.is_empty() { "a single number".to_owned() } else { join(sizes) },
    };
    let (d, h, w, leading_axis) = match sizes {
        [d, h, w] => (*d, *h, *w, false),
        [1, d, h, w] => (*d, *h, *w, true),
        _ => return Err(other()),
    };
    let size = |n: u64| usize::try_from(n).map_err(|_| other());
    Ok(([size(d)?, size(h)?, size(w)?], leading_axis))
}

/// Reorders an array whose first axis runs fastest.
fn c_order<T: Copy>(data: &[T], [d, h, w]: [usize; 3]) -> Vec<T> {
    let mut out = Vec::with_capacity(data.len());
    for z in 0..d {
        for y in 0..h {
            out.extend((0..w).map(|x| data[z + d * (y + h * x)]));
        }
    }
    out
}

/// Writes a mask as `|u1` in C order, `DxHxW` or, if the input was, `1xDxHxW`.
pub(super) fn write_mask(out: &mut dyn Write, mask: &Mask) -> io::Result<()> {
    write(out, mask.data(), mask.geometry())
}

/// Writes a volume as `<f4` in C order, in the shape that a mask of it has.
pub(super) fn write_volume(out: &mut dyn Write, volume: &Volume) -> io::Result<()> {
    write(out, &volume.voxels().to_f32(), volume.geometry())
}

fn write<T: WritableElement>(
    out: &mut dyn Write,
    data: &[T],
    geometry: &Geometry,
) -> io::Result<()> {
    let [d, h, w] = geometry.shape();
    let leading: &[usize] = if geometry.npy_leading_axis() { &[1] } else { &[] };
    let shape = [leading, &[d, h, w]].concat();
    let array = ArrayView::from_shape(shape, data).map_err(io::Error::other)?;
    array.write_npy(out).map_err(|e| match e {
        ndarray_npy::WriteNpyError::Io(e) => e,
        e => io::Error::other(e),
    })
}
