//! Reading volumes and writing masks.

mod atomic;
pub(crate) mod dicom;
mod findings;
mod frames;
pub(crate) mod nifti;
mod npy;
mod npz;
mod nrrd;
mod overrides;
mod scalar;
mod source;
mod voxels;
mod write;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub use atomic::{Overwrite, write_atomically};
pub use npy::{npy_header, read_matrix};
pub use nrrd::{Segment, Segmentation, write_segmentation, write_segmentation_to};
pub use overrides::nifti_geometry;
pub use write::{
    MaskFormat, write_labels, write_labels_to, write_mask, write_mask_to, write_volume,
};

use crate::error::Detail;
use crate::{ChosenSeries, Error, Geometry, LabelMap, Volume, Warning};
use source::Source;

/// The file format that a volume was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceKind {
    /// NIfTI-1, single file or `.hdr`/`.img` pair, compressed or not.
    Nifti1,
    /// NIfTI-2, single file or `.hdr`/`.img` pair, compressed or not.
    Nifti2,
    /// A numpy array.
    Npy,
    /// One array of a numpy archive.
    Npz,
    /// A DICOM series.
    Dicom,
    /// NRRD, with the voxels inside or beside it.
    Nrrd,
}

impl SourceKind {
    /// `nifti-1`, `nifti-2`, `npy`, `npz`, `dicom` or `nrrd`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nifti1 => "nifti-1",
            Self::Nifti2 => "nifti-2",
            Self::Npy => "npy",
            Self::Npz => "npz",
            Self::Dicom => "dicom",
            Self::Nrrd => "nrrd",
        }
    }
}

/// Which volume is read where a file holds several, what is known beyond the file, and limits.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ReadOptions {
    /// Most voxels of a volume; 2³⁰ by default.
    pub max_voxels: u64,
    /// Most bytes of stored voxels, after inflation; 4 GiB by default.
    pub max_bytes: u64,
    /// Fewest voxels along each axis; 4 by default, because less is a picture, not a volume.
    pub min_axis: usize,
    /// Which frame of a NIfTI file with more than three axes, or along the first axis of a 4D array,
    /// from 0.
    pub frame: Option<usize>,
    /// Which array of an `.npz` file.
    pub key: Option<String>,
    /// How the axes of an array lie, where that is not `[D, H, W]`.
    pub axes: Option<ArrayAxes>,
    /// Millimeters a voxel, `[D, H, W]`, for a file that does not say or says nonsense.
    pub spacing_mm: Option<[f64; 3]>,
    /// A volume of the same shape whose geometry is taken instead of the file's own.
    pub affine_from: Option<PathBuf>,
    /// The geometry of the volume, where the caller knows it, instead of the file's own.
    pub geometry: Option<Geometry>,
    /// Which DICOM series: its number in the list, or at least four characters from the start of its id
    /// there. Digits alone are a number, unless they are a whole id.
    pub series: Option<String>,
    /// Reads a DICOM series with missing or unequal slices, resampled to equal distances.
    pub allow_gaps: bool,
    /// Reads DICOM that is not CT.
    pub allow_modality: bool,
}

/// How the axes of a bare array lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ArrayAxes {
    /// Slices, rows, columns: `[D, H, W]`, as SimpleITK gives them.
    #[default]
    Zyx,
    /// Columns, rows, slices: as nibabel gives them.
    Xyz,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            max_voxels: 1 << 30,
            max_bytes: 4 << 30,
            min_axis: 4,
            frame: None,
            key: None,
            axes: None,
            spacing_mm: None,
            affine_from: None,
            geometry: None,
            series: None,
            allow_gaps: false,
            allow_modality: false,
        }
    }
}

impl ReadOptions {
    /// Sets the most voxels of a volume.
    #[must_use]
    pub fn with_max_voxels(mut self, max_voxels: u64) -> Self {
        self.max_voxels = max_voxels;
        self
    }

    /// Sets the most bytes of stored voxels, after inflation.
    #[must_use]
    pub fn with_max_bytes(mut self, max_bytes: u64) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Sets the fewest voxels along each axis; 1 reads anything that is not empty.
    #[must_use]
    pub fn with_min_axis(mut self, min_axis: usize) -> Self {
        self.min_axis = min_axis;
        self
    }

    /// Chooses a frame of a file that holds several, from 0.
    #[must_use]
    pub fn with_frame(mut self, frame: usize) -> Self {
        self.frame = Some(frame);
        self
    }

    /// Chooses an array of an `.npz` file, by the name that `numpy.savez` was given.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Says how the axes of an array lie.
    #[must_use]
    pub fn with_axes(mut self, axes: ArrayAxes) -> Self {
        self.axes = Some(axes);
        self
    }

    /// Says how large a voxel is, mm along `[D, H, W]`.
    #[must_use]
    pub fn with_spacing_mm(mut self, spacing_mm: [f64; 3]) -> Self {
        self.spacing_mm = Some(spacing_mm);
        self
    }

    /// Takes the geometry of another volume of the same shape.
    #[must_use]
    pub fn with_affine_from(mut self, path: impl Into<PathBuf>) -> Self {
        self.affine_from = Some(path.into());
        self
    }

    /// Sets the geometry of the volume.
    #[must_use]
    pub fn with_geometry(mut self, geometry: Geometry) -> Self {
        self.geometry = Some(geometry);
        self
    }

    /// Chooses a DICOM series.
    #[must_use]
    pub fn with_series(mut self, series: impl Into<String>) -> Self {
        self.series = Some(series.into());
        self
    }

    /// Reads a DICOM series with missing or unequal slices.
    #[must_use]
    pub fn with_allow_gaps(mut self, allow_gaps: bool) -> Self {
        self.allow_gaps = allow_gaps;
        self
    }

    /// Reads DICOM that is not CT.
    #[must_use]
    pub fn with_allow_modality(mut self, allow_modality: bool) -> Self {
        self.allow_modality = allow_modality;
        self
    }
}

/// A volume, and what is worth saying about the file it was in.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Loaded {
    /// The volume; all of its voxels are finite.
    pub volume: Volume,
    /// What was repaired or guessed.
    pub warnings: Vec<Warning>,
    /// The format of the file.
    pub kind: SourceKind,
    /// Which DICOM series it is; `None` of other formats.
    pub series: Option<ChosenSeries>,
}

impl Loaded {
    /// A volume of which there is nothing to say but the format of its file.
    pub fn new(volume: Volume, kind: SourceKind) -> Self {
        Self { volume, warnings: Vec::new(), kind, series: None }
    }
}

/// A segmentation, and what is worth saying about the file it was in.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LoadedLabels {
    /// The labels, those of overlapping segments included.
    pub labels: LabelMap,
    /// The names of labels, as far as the file has them. They are text of its header: somebody typed them.
    pub names: BTreeMap<u16, String>,
    /// What was repaired or guessed.
    pub warnings: Vec<Warning>,
    /// The format of the file.
    pub kind: SourceKind,
}

/// Reads a segmentation from any file that [`read`] reads: its voxels are labels, whole numbers from 0. Of
/// NRRD files as 3D Slicer writes them (`.seg.nrrd`) names are read, too, and segments that overlap.
///
/// # Errors
/// As [`read`], and `R-GEO-16` for voxels that are not labels.
pub fn read_labels(path: impl AsRef<Path>, options: &ReadOptions) -> Result<LoadedLabels, Error> {
    let path = path.as_ref();
    overrides::check(options)?;
    if path.is_file() && nifti::header_of(path).is_none() {
        let mut source = open(path)?;
        if source.peek(nrrd::MAGIC.len())?.starts_with(nrrd::MAGIC) {
            return nrrd::read_labels(source, options);
        }
    }
    let Loaded { volume, warnings, kind, .. } = read(path, options)?;
    let labels = LabelMap::from_volume(&volume)?;
    Ok(LoadedLabels { labels, names: BTreeMap::new(), warnings, kind })
}

/// Reads one 3D volume from NIfTI-1 or NIfTI-2 (`.nii`, `.nii.gz`), NRRD (`.nrrd`, `.nhdr`),
/// `.npy`, `.npz`, or DICOM: a folder, a zip archive or one multi-frame file.
///
/// The format is told by the file's first bytes, so that a wrong or missing extension does no harm;
/// any of the formats may be gzipped. Of a `.hdr`/`.img` pair, either file may be named; the other
/// one lies beside it. Voxels keep the file order: nothing is reoriented, and only an array that is
/// not `[D, H, W]` is transposed.
///
/// A file that has no geometry, or an unusable one, takes that of [`ReadOptions::spacing_mm`]. Any
/// file takes that of [`ReadOptions::affine_from`], with the NIfTI fields that its masks repeat.
///
/// A DICOM folder is searched with the folders in it; files that are hidden, not DICOM, or not
/// images are passed over. Slices are sorted by position, along the normal of their planes. Where
/// there are several series, [`ReadOptions::series`] chooses; [`list_series`](crate::list_series)
/// shows them. Voxels outside of the scanner's field of view (`PixelPaddingValue`) are read as
/// -1024 HU, where their own value lies outside of -1024..=3071 HU: values such as -3024 would
/// widen the range that intensities are normalized by, and other readers keep them.
///
/// # Errors
/// [`ErrorKind::Usage`](crate::ErrorKind::Usage) if the options contradict the file,
/// [`ErrorKind::Missing`](crate::ErrorKind::Missing) if there is no readable file,
/// [`ErrorKind::BadData`](crate::ErrorKind::BadData) if it is not a usable volume,
/// [`ErrorKind::Io`](crate::ErrorKind::Io) if reading breaks off.
pub fn read(path: impl AsRef<Path>, options: &ReadOptions) -> Result<Loaded, Error> {
    let path = path.as_ref();
    overrides::check(options)?;
    if path.is_dir() {
        return overrides::apply(dicom::read_folder(path, options)?, path, options);
    }
    let header = nifti::header_of(path);
    let path = header.as_deref().unwrap_or(path);
    let loaded = read_source(open(path)?, options).map_err(|e| match e {
        e if matches!(e.detail(), Detail::UnknownFormat { .. }) => {
            nifti::without_header(path).unwrap_or(e)
        }
        e => e,
    })?;
    overrides::apply(loaded, path, options)
}

/// The bytes of a regular file.
fn open(path: &Path) -> Result<Source<'static>, Error> {
    let (file, length) = open_file(path, path)?;
    Source::new(file, path, Some(length))
}

/// A regular file and its length; errors name `named`.
fn open_file(path: &Path, named: &Path) -> Result<(File, u64), Error> {
    let named = named.to_owned();
    let file = r1seg_files::open_regular(path).map_err(|error| match error {
        r1seg_files::Error::Io(e) if e.kind() == io::ErrorKind::NotFound => {
            Error::from(Detail::NotFound { path: named.clone() })
        }
        r1seg_files::Error::Io(source) => {
            Error::from(Detail::Unreadable { path: named.clone(), source })
        }
        _ => Error::from(Detail::NotAFile { path: named.clone() }),
    })?;
    let metadata = file.metadata();
    let length =
        metadata.map_err(|source| Error::from(Detail::Unreadable { path: named, source }))?.len();
    Ok((file, length))
}

/// Reads one 3D volume from a stream, such as standard input; `name` stands for it in errors.
///
/// Of DICOM, one multi-frame file can be a stream.
///
/// # Errors
/// As [`read`], without those about opening a file.
pub fn read_from(
    reader: impl Read,
    name: impl AsRef<Path>,
    options: &ReadOptions,
) -> Result<Loaded, Error> {
    overrides::check(options)?;
    let loaded = read_source(Source::new(reader, name.as_ref(), None)?, options)?;
    overrides::apply(loaded, name.as_ref(), options)
}

fn read_source(mut source: Source<'_>, options: &ReadOptions) -> Result<Loaded, Error> {
    let path = source.path();
    // 132 bytes reach the mark of a DICOM file.
    let start = source.peek(132)?;
    if start.starts_with(npy::MAGIC) {
        return npy::read(source, SourceKind::Npy, options);
    }
    if let Some((version, endian)) = nifti::sniff(start) {
        return nifti::read(source, version, endian, options);
    }
    if dicom::is_dicom(start) {
        return match source.left() {
            Some(_) => dicom::read_file(&path, options),
            None => dicom::read_stream(source, options),
        };
    }
    if start.starts_with(npz::MAGIC) {
        let is_file = source.left().is_some();
        return match npz::read(source, options)? {
            Some(loaded) => Ok(loaded),
            None if is_file => dicom::read_archive(&path, options),
            None => {
                let looks_like = "it is a zip archive without a .npy array, in a stream";
                Err(Detail::UnknownFormat { path, looks_like }.into())
            }
        };
    }
    if start.starts_with(nrrd::MAGIC) {
        return nrrd::read(source, options);
    }
    if start.is_empty() {
        return Err(source.no_data());
    }
    let looks_like = looks_like(start, &path);
    Err(Detail::UnknownFormat { path, looks_like }.into())
}

/// A few words on a file that is not read, never the bytes themselves.
fn looks_like(start: &[u8], path: &Path) -> &'static str {
    match start {
        [b'P', b'K', 5, 6, ..] => "it is an empty zip archive",
        [0x89, b'P', b'N', b'G', ..] => "it is a PNG picture",
        [0xff, 0xd8, 0xff, ..] => "it is a JPEG picture",
        [0x80, 2..=5, ..] => "it is a Python pickle",
        _ => match path.extension().and_then(|e| e.to_str()) {
            Some("nii" | "gz") => "it has no NIfTI header",
            Some("npy") => "it has no npy header",
            _ => "its first bytes are not known",
        },
    }
}
