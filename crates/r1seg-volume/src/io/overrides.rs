//! What the caller knows about the place of a volume beyond its file.

use std::path::Path;

use super::source::Source;
use super::{Loaded, ReadOptions, nifti, nrrd, open_file, read};
use crate::error::Detail;
use crate::{Error, Geometry, Volume, Warning};

/// Spacings that agree this well are the same: headers round to f32 or to a few decimals.
const SPACING_TOLERANCE: f64 = 1e-3;
/// The codes of warnings that are about a geometry, and go with it.
const OF_GEOMETRY: [&str; 5] = ["W-AFFINE", "W-GEOM", "W-GEOM-GUESS", "W-SHEAR", "W-UNITS"];

/// Checks what can be checked before any file is read.
pub(super) fn check(options: &ReadOptions) -> Result<(), Error> {
    let others =
        usize::from(options.affine_from.is_some()) + usize::from(options.geometry.is_some());
    if others + usize::from(options.spacing_mm.is_some()) > 1 {
        return Err(Detail::SpacingAndAffine.into());
    }
    let Some(spacing_mm) = options.spacing_mm else { return Ok(()) };
    Geometry::with_spacing([1; 3], spacing_mm).map(|_| ())
}

/// Whether a file's own geometry may be unusable, since it is replaced.
pub(super) fn replace_geometry(options: &ReadOptions) -> bool {
    options.spacing_mm.is_some() || options.affine_from.is_some() || options.geometry.is_some()
}

/// The warning of a file whose own geometry is unusable, and is replaced.
pub(super) fn replaced(what: &str, reason: &str) -> Warning {
    let text = format!("the {what} is not usable ({reason}): the given geometry is used instead");
    Warning::new("W-GEOM-GIVEN", text)
}

/// Puts a volume where the caller says that it is.
pub(super) fn apply(
    mut loaded: Loaded,
    path: &Path,
    options: &ReadOptions,
) -> Result<Loaded, Error> {
    let own = loaded.volume.geometry();
    let (given, warnings) = if let Some(given) = &options.geometry {
        if given.shape() != own.shape() {
            let (expected, got) = (own.shape(), given.shape());
            return Err(Detail::ShapeMismatch { expected, got }.into());
        }
        (given.clone(), Vec::new())
    } else if let Some(from) = &options.affine_from {
        let (given, warnings) = geometry_of(from, options)?;
        if given.affine().is_none() {
            return Err(Detail::AffineFromNone { path: from.clone() }.into());
        }
        if given.shape() != own.shape() {
            let (path, from) = (path.to_owned(), from.clone());
            let (expected, got) = (own.shape(), given.shape());
            return Err(Detail::AffineFromShape { path, from, expected, got }.into());
        }
        (given, warnings)
    } else if let Some(given) = options.spacing_mm {
        // A guess may be replaced, but not what the file says.
        let guessed = loaded.warnings.iter().any(|w| w.code == "W-GEOM-GUESS");
        match own.spacing_mm().filter(|_| !guessed) {
            Some(own) if agree(own, given) => return Ok(loaded),
            Some(own) => {
                return Err(Detail::SpacingContradicts { path: path.to_owned(), own, given }.into());
            }
            None => {
                let placed = Geometry::with_spacing(own.shape(), given)?;
                (placed.with_guessed_sides(true), Vec::new())
            }
        }
    } else {
        return Ok(loaded);
    };
    let (voxels, own) = loaded.volume.into_parts();
    loaded.volume = Volume::new(voxels, own.placed_as(&given))?;
    loaded.warnings.retain(|w| !OF_GEOMETRY.contains(&w.code));
    loaded.warnings.extend(warnings.into_iter().filter(|w| OF_GEOMETRY.contains(&w.code)));
    Ok(loaded)
}

fn agree(own: [f64; 3], given: [f64; 3]) -> bool {
    own.iter().zip(given).all(|(own, given)| (own - given).abs() <= SPACING_TOLERANCE * own)
}

/// The geometry of another volume, and the warnings about it.
fn geometry_of(path: &Path, options: &ReadOptions) -> Result<(Geometry, Vec<Warning>), Error> {
    let options = ReadOptions {
        // All frames lie in one place.
        frame: Some(0),
        key: None,
        axes: None,
        spacing_mm: None,
        affine_from: None,
        geometry: None,
        ..options.clone()
    };
    if let Some(placed) = geometry_of_header(path, &options)? {
        return Ok(placed);
    }
    let loaded = read(path, &options)?;
    Ok((loaded.volume.into_parts().1, loaded.warnings))
}

/// The geometry that a NIfTI header says, with the fields that masks repeat, and the warnings about it: of a
/// volume that is in memory.
///
/// # Errors
/// Those of [`read`] about headers of NIfTI; `R-IN-06` for bytes that are none.
pub fn nifti_geometry(header: &[u8]) -> Result<(Geometry, Vec<Warning>), Error> {
    let name = Path::new("header");
    let mut source = Source::new(header, name, None)?;
    match nifti::sniff(source.peek(4)?) {
        Some((version, endian)) => {
            // Of several frames, one is read, and all lie in one place.
            let options = ReadOptions {
                frame: Some(0),
                min_axis: 1,
                max_bytes: u64::MAX,
                ..ReadOptions::default()
            };
            nifti::geometry(source, version, endian, &options)
        }
        None => {
            Err(Detail::UnknownFormat { path: name.to_owned(), looks_like: "no NIfTI header" }
                .into())
        }
    }
}

/// The same for a file whose header says it, without reading any voxel.
fn geometry_of_header(
    path: &Path,
    options: &ReadOptions,
) -> Result<Option<(Geometry, Vec<Warning>)>, Error> {
    let header = nifti::header_of(path);
    let path = header.as_deref().unwrap_or(path);
    if !path.is_file() {
        return Ok(None);
    }
    let (file, length) = open_file(path, path)?;
    let mut source = Source::new(file, path, Some(length))?;
    let start = source.peek(132)?;
    if let Some((version, endian)) = nifti::sniff(start) {
        return nifti::geometry(source, version, endian, options).map(Some);
    }
    if start.starts_with(nrrd::MAGIC) {
        return nrrd::geometry(source, options).map(Some);
    }
    Ok(None)
}
