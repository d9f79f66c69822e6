//! DICOM CT series: a folder, a zip archive, or one file.
//!
//! Headers of all files are read first, up to their pixels, and only the few attributes that matter
//! are kept. Then the slices of the chosen series are decoded in parallel, straight into the volume.
//!
//! - `store`: the files of a folder, archive or stream, and limits on their number
//! - `dataset`, `header`: elements of a file; the attributes that are read
//! - `series`: which files belong together, and which are meant
//! - `geometry`: order of slices, gaps, tilt, the affine
//! - `pixels`, `fragments`, `codec`: the stored numbers of all slices
//! - `format`: stored numbers to HU
//!
//! Why an own walk over the elements, and not dicom-rs: dicom-object 0.10 allocates by the length
//! that a file claims (a file of 336 bytes takes 4 GB) and calls itself for every sequence inside a
//! sequence until the stack overflows. dicom-parser's lazy reader can be bounded, and would bring
//! some thirty crates, an unmaintained text decoder among them, in place of one module; here nothing
//! but numbers, codes and UIDs is ever wanted. The tests compare with dicom-object.

mod codec;
mod dataset;
mod fault;
mod format;
mod fragments;
mod geometry;
mod header;
mod pixels;
mod series;
mod store;

use std::path::Path;

use super::npz;
use super::source::{Source, check_size};
use super::voxels::check_axes;
use super::{Loaded, ReadOptions, SourceKind};
use crate::error::Detail;
use crate::{AffineSource, Error, Geometry, Volume, Warning};
use format::Format;
use r1seg_diagnostic::Remedy;

use series::{Found, Series};
use store::Store;

pub(crate) use fault::DicomFault;
pub use series::{ChosenSeries, SeriesSummary};

pub(super) use header::is_dicom;

/// Reads the series of a folder.
pub(super) fn read_folder(path: &Path, options: &ReadOptions) -> Result<Loaded, Error> {
    read(&Store::folder(path)?, options)
}

/// Reads the series of a zip archive.
pub(super) fn read_archive(path: &Path, options: &ReadOptions) -> Result<Loaded, Error> {
    read(&Store::archive(path, options)?, options)
}

/// Reads the frames of one file.
pub(super) fn read_file(path: &Path, options: &ReadOptions) -> Result<Loaded, Error> {
    read(&Store::file(path), options)
}

/// Reads the frames of one file that comes as a stream.
pub(super) fn read_stream(mut source: Source<'_>, options: &ReadOptions) -> Result<Loaded, Error> {
    let path = source.path();
    let bytes = source.all(options.max_bytes)?;
    read(&Store::memory(path, bytes), options)
}

/// Lists the DICOM series of a folder, zip archive or file, in the order of their ids, without
/// decoding their pixels.
///
/// Objects that are no images (RTSTRUCT, SEG, SR, DICOMDIR and the like) are left out. A summary
/// holds nothing that could name a patient.
///
/// # Errors
/// As [`read`](crate::read), if there is no DICOM image. A series that cannot be read is no error;
/// its [`verdict`](SeriesSummary::verdict) says why.
pub fn list_series(
    path: impl AsRef<Path>,
    options: &ReadOptions,
) -> Result<Vec<SeriesSummary>, Error> {
    let path = path.as_ref();
    let store = if path.is_dir() {
        Store::folder(path)?
    } else if super::open(path)?.peek(4)?.starts_with(npz::MAGIC) {
        Store::archive(path, options)?
    } else {
        Store::file(path)
    };
    Ok(summaries(&series::scan(&store, options)?, &store, options))
}

fn summaries(found: &Found, store: &Store, options: &ReadOptions) -> Vec<SeriesSummary> {
    let summary = |(n, series): (usize, &Series)| {
        let plan =
            plan(series, store, options).map_err(|e| broken_before_gap(e, &found.unplaced, store));
        let slices = |image: &series::Image| image.header.frames().unwrap_or(1);
        let modality = series.images.first().and_then(|image| image.header.modality.clone());
        SeriesSummary {
            number: n + 1,
            id: series.id.clone(),
            modality: modality.unwrap_or_else(|| "?".to_owned()),
            slices: series.images.iter().map(slices).sum(),
            shape: plan.as_ref().ok().map(|plan| plan.geometry.shape()),
            spacing_mm: plan.as_ref().ok().and_then(|plan| plan.geometry.spacing_mm()),
            is_localizer: series.is_localizer,
            verdict: plan.err().map(|error| error.message()),
        }
    };
    found.series.iter().enumerate().map(summary).collect()
}

/// A series that can be read, as far as headers tell.
struct Plan {
    grid: geometry::Grid,
    geometry: Geometry,
}

fn plan(series: &Series, store: &Store, options: &ReadOptions) -> Result<Plan, Error> {
    let at = |file: usize, fault| Error::from(Detail::Dicom { path: store.name(file), fault });
    let here = |fault| Error::from(Detail::Dicom { path: store.path.clone(), fault });
    if let Some((file, fault)) = series.broken.first() {
        return Err(at(*file, fault.clone()));
    }
    for image in &series.images {
        match image.header.modality.as_deref() {
            Some("CT") => {}
            _ if options.allow_modality => {}
            Some(modality) => {
                let modality = modality.to_owned();
                return Err(at(image.file, DicomFault::Modality { modality }));
            }
            None => return Err(at(image.file, DicomFault::NoModality)),
        }
        Format::of(&image.header).map_err(|fault| at(image.file, fault))?;
    }
    if let [image] = series.images.as_slice()
        && image.header.frames().map_err(|fault| at(image.file, fault))? == 1
    {
        let shape = [1, image.header.rows.into(), image.header.columns.into()];
        check_axes(store.path.clone(), shape, options)?;
    }
    let grid = geometry::grid(series, options).map_err(here)?;
    let [d, h, w] = grid.shape;
    let sizes = [w as u64, h as u64, d as u64];
    check_size(&store.path, SourceKind::Dicom, &sizes, 2, options)?;
    check_axes(store.path.clone(), grid.shape, options)?;
    let geometry = Geometry::with_affine(grid.shape, grid.affine)?.with_source(AffineSource::Dicom);
    Ok(Plan { grid, geometry })
}

fn read(store: &Store, options: &ReadOptions) -> Result<Loaded, Error> {
    let found = series::scan(store, options)?;
    let Found { series: all, unplaced } = &found;
    let n = series::choose(all, options.series.as_deref()).map_err(|reason| {
        let series = summaries(&found, store, options);
        let fault = match reason {
            Some(reason) => DicomFault::NoSuchSeries { reason, series },
            None => DicomFault::SeveralSeries { series },
        };
        Error::from(Detail::Dicom { path: store.path.clone(), fault })
    })?;
    let Some(series) = all.get(n) else {
        return Err(store.no_image());
    };
    let Plan { grid, geometry } =
        plan(series, store, options).map_err(|e| broken_before_gap(e, unplaced, store))?;
    let mut warnings: Vec<Warning> = series::skipped(unplaced, store).into_iter().collect();
    let voxels = pixels::read(store, series, &grid, options, &mut warnings)?;
    warnings.extend(grid.warnings);
    if series.images.iter().any(|image| image.header.burned_in) {
        let text = "pixels may show the patient's name (BurnedInAnnotation is YES)";
        warnings.push(Warning::new("W-PHI", text).with_remedy(Remedy::OmitPreview));
    }
    let volume = Volume::new(voxels, geometry)?;
    let series = Some(ChosenSeries { number: n + 1, of: all.len(), id: series.id.clone() });
    Ok(Loaded { volume, warnings, kind: SourceKind::Dicom, series })
}

/// A gap is most likely the place of a broken file that says no more where it belongs: that is what has
/// to be mended.
fn broken_before_gap(error: Error, unplaced: &[(usize, DicomFault)], store: &Store) -> Error {
    match (error.detail(), unplaced) {
        (
            Detail::Dicom { fault: gap @ DicomFault::Gap { .. }, .. },
            [(first, fault), others @ ..],
        ) => {
            let others = others.iter().map(|(n, _)| store.short_name(*n)).collect();
            let (fault, gap) = (Box::new(fault.clone()), Box::new(gap.clone()));
            let fault = DicomFault::BrokenSlice { fault, others, gap };
            Error::from(Detail::Dicom { path: store.name(*first), fault })
        }
        _ => error,
    }
}
