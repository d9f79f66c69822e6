use std::path::PathBuf;

use super::header::{Header, NiftiFields, NiftiVersion};
use super::pair;
use crate::affine::{self, Affine};
use crate::error::Detail;
use crate::error::join;
use crate::io::frames::{self, Frame};
use crate::io::scalar::{Decoder, Endian, Scalar};
use crate::io::source::{Source, check_size};
use crate::io::{Loaded, ReadOptions, findings, overrides, voxels};
use crate::{AffineSource, Error, Geometry, Volume, Warning};

/// Most bytes of header extensions that are passed over on the way to the voxels.
const MAX_EXTENSIONS: u64 = 256 << 20;
/// Two affines that agree this well (mm) are the same.
const AFFINE_TOLERANCE: f64 = 1e-3;
/// The largest code of `nifti1.h` and its successors (`NIFTI_XFORM_TEMPLATE_OTHER`).
const LAST_XFORM_CODE: i32 = 5;

/// Reads a volume from the start of `source`, which [`sniff`](super::sniff) has looked at.
pub(in crate::io) fn read(
    mut source: Source<'_>,
    version: NiftiVersion,
    endian: Endian,
    options: &ReadOptions,
) -> Result<Loaded, Error> {
    let path = source.path();
    let kind = version.kind();
    let Grid { header, scalar, frame, geometry, mut warnings } =
        grid(&mut source, version, endian, options)?;
    let scale = scale(&header, &mut warnings);
    let offset = vox_offset(&header, || path.clone())?;
    if header.pair {
        source = pair::image_of(&source)?;
        source.set_kind(kind);
    }
    source.skip(offset - source.got())?;
    frame.skip_to(&mut source, kind)?;
    let decoder = Decoder { scalar, endian, scale };
    let data = source.voxels(kind, geometry.voxels(), &decoder)?;
    frame.skip_rest(&mut source, kind)?;
    warnings.extend(findings::rest(&source.rest()?));
    let data = voxels::make_finite(path, data, &mut warnings)?;
    Ok(Loaded { volume: Volume::new(data, geometry)?, warnings, kind, series: None })
}

/// Only the geometry, with the warnings about it.
pub(in crate::io) fn geometry(
    mut source: Source<'_>,
    version: NiftiVersion,
    endian: Endian,
    options: &ReadOptions,
) -> Result<(Geometry, Vec<Warning>), Error> {
    let grid = grid(&mut source, version, endian, options)?;
    Ok((grid.geometry, grid.warnings))
}

/// What a header says, before any voxel is read.
struct Grid {
    header: Header,
    scalar: Scalar,
    frame: Frame,
    geometry: Geometry,
    warnings: Vec<Warning>,
}

fn grid(
    source: &mut Source<'_>,
    version: NiftiVersion,
    endian: Endian,
    options: &ReadOptions,
) -> Result<Grid, Error> {
    let path = source.path();
    let path = || path.clone();
    source.set_kind(version.kind());
    let expected = version.header_length();
    let mut bytes = [0; 540];
    let got = source.fill(&mut bytes[..expected])?;
    if got < expected {
        return Err(Detail::NiftiHeaderShort { path: path(), expected, got }.into());
    }
    let mut header = Header::parse(&bytes[..expected], version, endian, path)?;
    let mut warnings = Vec::new();

    let scalar = header.scalar(path)?;
    let (shape, frame) = shape(&mut header, path, scalar.size(), options)?;
    voxels::check_axes(path(), shape, options)?;
    let geometry = match place(&header, shape, path, &mut warnings) {
        Ok(geometry) => geometry,
        Err(error) => match error.detail() {
            Detail::NiftiAffine { transform, reason, .. }
                if overrides::replace_geometry(options) =>
            {
                warnings.push(overrides::replaced(transform, reason));
                Geometry::without_affine(shape)
            }
            _ => return Err(error),
        },
    };
    Ok(Grid { header, scalar, frame, geometry, warnings })
}

/// `[D, H, W]`, and the frame that is read. All axes behind the third count frames.
fn shape(
    header: &mut Header,
    path: impl Fn() -> PathBuf,
    voxel_bytes: usize,
    options: &ReadOptions,
) -> Result<([usize; 3], Frame), Error> {
    let mut sizes = [1_u64; 7];
    for (n, size) in sizes.iter_mut().enumerate().take(header.fields.ndim) {
        let value = header.dim[n + 1];
        *size = match u64::try_from(value) {
            Ok(value @ 1..) => value,
            _ => return Err(Detail::NiftiDim { path: path(), axis: n + 1, value }.into()),
        };
    }
    let frames = sizes[3..].iter().fold(1_u64, |n, size| n.saturating_mul(*size));
    let sizes = &sizes[..header.fields.ndim.max(3)];
    let kind = header.fields.version.kind();
    let voxels = check_size(&path(), kind, &sizes[..3], voxel_bytes, options)? as u64;
    let Some(index) = frames::chosen(&path(), frames, options)? else {
        return Err(Detail::NiftiFrames { path: path(), shape: join(sizes), frames }.into());
    };
    let frame = Frame::new(&path(), kind, index, [voxels, frames], voxel_bytes, options)?;
    if frames != 1 {
        // The mask of one frame is a volume of three dimensions.
        header.fields.ndim = 3;
    }
    // `check_size` has shown that the product, hence each size, fits.
    let size = |n: usize| usize::try_from(sizes[n]).unwrap_or(usize::MAX);
    Ok(([size(2), size(1), size(0)], frame))
}

/// Offset of the first voxel. nibabel, too, takes 0 for "right behind the header".
fn vox_offset(header: &Header, path: impl Fn() -> PathBuf) -> Result<u64, Error> {
    let least = if header.pair { 0 } else { header.fields.version.least_vox_offset() };
    let most = least + MAX_EXTENSIONS;
    let offset = header.vox_offset;
    if offset == 0.0 {
        return Ok(least);
    }
    if offset.fract() != 0.0 || !(least as f64..=most as f64).contains(&offset) {
        return Err(Detail::NiftiVoxOffset { path: path(), offset, least, most }.into());
    }
    Ok(offset as u64)
}

fn scale(header: &Header, warnings: &mut Vec<Warning>) -> Option<(f64, f64)> {
    let (slope, inter) = (header.scl_slope, header.scl_inter);
    // Zero is the standard's word for "no scaling".
    if slope == 0.0 {
        return None;
    }
    if !slope.is_finite() {
        let text = format!("scl_slope is {slope}, scl_inter {inter}: values are used as stored");
        warnings.push(Warning::new("W-SLOPE", text));
        return None;
    }
    if !inter.is_finite() {
        let text = format!("scl_inter is {inter}: only scl_slope {slope} is applied");
        warnings.push(Warning::new("W-SLOPE", text));
        return Some((slope, 0.0));
    }
    (slope != 1.0 || inter != 0.0).then_some((slope, inter))
}

/// The affine by nibabel's rule: sform if its code is set, else qform, else the voxel sizes.
fn place(
    header: &Header,
    shape: [usize; 3],
    path: impl Fn() -> PathBuf,
    warnings: &mut Vec<Warning>,
) -> Result<Geometry, Error> {
    let fields = &header.fields;
    let unusable = |transform, reason: &str| {
        Error::from(Detail::NiftiAffine { path: path(), transform, reason: reason.to_owned() })
    };
    let qform = qform(fields);
    let (affine, source) = if is_set(fields.sform_code) {
        (affine::from_rows(fields.srow), AffineSource::Sform)
    } else if is_set(fields.qform_code) {
        (qform.map_err(|reason| unusable("qform", reason))?, AffineSource::Qform)
    } else {
        check_pixdim(fields).map_err(|reason| unusable("pixdim", reason))?;
        (affine::from_pixdim(shape, &fields.pixdim), AffineSource::Pixdim)
    };
    let (affine_mm, other_unit) = in_mm(&affine, fields);
    if let Some(reason) = affine::defect(&affine_mm) {
        return Err(unusable(source.as_str(), reason));
    }
    if source == AffineSource::Pixdim {
        warnings.push(
            Warning::new(
                "W-GEOM-GUESS",
                "neither sform nor qform is set: position and left/right are guessed",
            )
            .with_remedy("export the volume again with its position"),
        );
    }
    if source == AffineSource::Sform && is_set(fields.qform_code) {
        compare(&affine, qform, warnings);
    }
    warnings.extend(findings::shear(&affine_mm));
    warnings.extend(other_unit);
    Ok(Geometry::from_nifti(shape, affine_mm, source, fields.clone()))
}

/// nibabel resets codes outside the standard to 0.
fn is_set(code: i32) -> bool {
    (1..=LAST_XFORM_CODE).contains(&code)
}

fn check_pixdim(fields: &NiftiFields) -> Result<(), &'static str> {
    match &fields.pixdim[1..4] {
        p if p.iter().any(|mm| !mm.is_finite()) => Err("a voxel size is NaN or infinite"),
        p if p.iter().any(|mm| *mm < 0.0) => Err("a voxel size is negative"),
        p if p.contains(&0.0) => Err("a voxel size is 0"),
        _ => Ok(()),
    }
}

fn qform(fields: &NiftiFields) -> Result<Affine, &'static str> {
    check_pixdim(fields)?;
    let tolerance = match fields.version {
        NiftiVersion::One => affine::QUATERNION_TOLERANCE_F32,
        NiftiVersion::Two => affine::QUATERNION_TOLERANCE_F64,
    };
    affine::from_qform(fields.quatern, fields.qoffset, &fields.pixdim, tolerance)
        .ok_or("its quaternion is longer than 1 or NaN")
}

fn compare(sform: &Affine, qform: Result<Affine, &'static str>, warnings: &mut Vec<Warning>) {
    let text = match qform {
        Err(reason) => format!("the qform is not usable ({reason}): the sform is used"),
        Ok(qform) => {
            let pairs = sform.iter().flatten().zip(qform.iter().flatten());
            let apart = pairs.map(|(s, q)| (s - q).abs()).fold(0.0, f64::max);
            if apart <= AFFINE_TOLERANCE {
                return;
            }
            format!("sform and qform differ by up to {apart:.4}: the sform is used")
        }
    };
    warnings.push(
        Warning::new("W-AFFINE", text).with_remedy(
            "check in a viewer that reads the qform, since it may show another position",
        ),
    );
}

/// Meters and micrometers become mm; nibabel leaves them, but volumes in mL depend on it.
fn in_mm(affine: &Affine, fields: &NiftiFields) -> (Affine, Option<Warning>) {
    let (unit, mm) = match fields.xyzt_units & 7 {
        1 => ("meters", 1e3),
        3 => ("micrometers", 1e-3),
        _ => return (*affine, None),
    };
    let text = format!("the header is in {unit}: spacing, positions and volumes are given in mm");
    let scaled = |row: usize| affine[row].map(|v| v * mm);
    let affine = affine::from_rows([scaled(0), scaled(1), scaled(2)]);
    (affine, Some(Warning::new("W-UNITS", text)))
}
