use std::io;
use std::path::{Path, PathBuf};

use r1seg_diagnostic::{Diagnostic, ErrorKind, Remedy};

use crate::io::dicom::DicomFault;
use crate::{Orientation, SourceKind};

/// The cases of [`Error`](super::Error); `Display` is the message without the path.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Detail {
    #[error("no such file")]
    NotFound { path: PathBuf },
    #[error("the file cannot be read")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("the folder contains no DICOM image ({files} {})", if *files == 1 { "file" } else { "files" })]
    Directory { path: PathBuf, files: usize },
    #[error("not a regular file but a pipe, socket or device")]
    NotAFile { path: PathBuf },
    #[error("file is empty (0 bytes)")]
    EmptyFile { path: PathBuf },
    #[error(
        "format not recognized: {looks_like}; NIfTI (.nii, .nii.gz), DICOM, NRRD, .npy or .npz is \
         needed"
    )]
    UnknownFormat { path: PathBuf, looks_like: &'static str },
    #[error(
        "volume of {shape} {} is {voxels} voxels, {bytes} bytes; the limits are {max_voxels} \
         voxels and {max_bytes} bytes",
        axes(*kind)
    )]
    TooLarge {
        path: PathBuf,
        kind: SourceKind,
        shape: String,
        voxels: u128,
        bytes: u128,
        max_voxels: u64,
        max_bytes: u64,
    },
    #[error(
        "volume is {} voxels (i,j,k); at least {least} per axis are needed",
        in_file_order(shape)
    )]
    TooFewVoxels { path: PathBuf, shape: [usize; 3], least: usize },
    #[error("none of the {voxels} voxels is a finite number")]
    NoFiniteVoxel { path: PathBuf, voxels: usize },
    #[error("reading failed after {got} bytes")]
    ReadFailed { path: PathBuf, got: u64, source: io::Error },
    #[error("frame {frame} does not exist: the file has {frames}, counted from 0")]
    FrameRange { path: PathBuf, frame: u64, frames: u64 },
    #[error(
        "the input is a stream of more than {most} bytes, which has to be kept whole to be read"
    )]
    StreamTooLong { path: PathBuf, most: u64 },
    #[error("not enough memory for {bytes} bytes of voxels")]
    OutOfMemory { path: PathBuf, bytes: u64 },
    #[error(
        "{} ends early: header promises {promised} bytes, got {got}",
        if *compressed { "compressed file" } else { "file" }
    )]
    EndsEarly { path: PathBuf, kind: SourceKind, compressed: bool, promised: u64, got: u64 },
    #[error("compressed data is corrupt after {got} bytes: {reason}")]
    CorruptGzip { path: PathBuf, kind: Option<SourceKind>, got: u64, reason: String },

    #[error("NIfTI header is cut short: {expected} bytes are needed, got {got}")]
    NiftiHeaderShort { path: PathBuf, expected: usize, got: usize },
    #[error(
        "NIfTI header of {sizeof_hdr} bytes carries no NIfTI magic ({magic:02x?}): it is Analyze \
         7.5, or damaged"
    )]
    NiftiMagic { path: PathBuf, sizeof_hdr: usize, magic: [u8; 4] },
    #[error("the input is the header of a .hdr/.img pair; a stream does not have the other file")]
    NiftiPair { path: PathBuf },
    #[error("the file is one half of a .hdr/.img pair; the other half, {}, is not beside it", .partner.display())]
    NiftiMissingHalf { path: PathBuf, partner: PathBuf },
    #[error("dim[0] is {dim0}; 1..7 dimensions are possible")]
    NiftiDim0 { path: PathBuf, dim0: i64 },
    #[error("dim[{axis}] is {value}; at least 1 voxel is needed")]
    NiftiDim { path: PathBuf, axis: usize, value: i64 },
    #[error("volume has {} frames ({shape}); one 3D volume is needed", frames)]
    NiftiFrames { path: PathBuf, shape: String, frames: u64 },
    #[error("datatype {code} ({name}) is not one number per voxel")]
    NiftiDatatype { path: PathBuf, code: i16, name: &'static str },
    #[error("bitpix is {bitpix}, but datatype {code} has {expected} bits per voxel")]
    NiftiBitpix { path: PathBuf, code: i16, bitpix: i16, expected: usize },
    #[error("vox_offset is {offset}; {least} or more is needed, and no more than {most}")]
    NiftiVoxOffset { path: PathBuf, offset: f64, least: u64, most: u64 },
    #[error("the {transform} affine is not usable: {reason}")]
    NiftiAffine { path: PathBuf, transform: &'static str, reason: String },

    #[error("npy header is not readable: {reason}")]
    NpyHeader { path: PathBuf, reason: &'static str },
    #[error("npy header claims {length} bytes; at most {most} are read")]
    NpyHeaderLength { path: PathBuf, length: u64, most: u64 },
    #[error("npy format version {major}.{minor} is unknown; expected 1.0, 2.0 or 3.0")]
    NpyVersion { path: PathBuf, major: u8, minor: u8 },
    #[error("array holds Python objects (a pickle); r1seg never loads pickles")]
    NpyObject { path: PathBuf },
    #[error("array dtype `{descr}` is not one number per voxel")]
    NpyDtype { path: PathBuf, descr: String },
    #[error("array is {shape}; one 3D volume (D,H,W) or 1xDxHxW is needed")]
    NpyShape { path: PathBuf, shape: String, frames: u64 },
    #[error("array is {shape}; a table of two axes is needed")]
    NpyMatrix { path: PathBuf, shape: String },
    #[error("file goes on after the array: its shape promises {promised} bytes, got {got} or more")]
    NpyTooLong { path: PathBuf, promised: u64, got: u64 },

    #[error("NRRD header is not readable: {reason}")]
    NrrdHeader { path: PathBuf, reason: &'static str },
    #[error("the voxels are blocks of bytes, not one number each")]
    NrrdBlock { path: PathBuf },
    #[error("the voxels are in {name} encoding; raw, gzip and ascii are read")]
    NrrdEncoding { path: PathBuf, name: &'static str },
    #[error("array is {shape} (fastest axis first); one 3D volume is needed")]
    NrrdShape { path: PathBuf, shape: String },
    #[error("the space directions are not usable: {reason}")]
    NrrdAffine { path: PathBuf, reason: &'static str },
    /// The voxels are in other files than the one beside the header.
    #[error("{reason}")]
    NrrdDataFile { path: PathBuf, reason: &'static str },
    #[error("the file that holds the voxels, which the header names, is not beside it")]
    NrrdDataMissing { path: PathBuf },
    #[error("the text with the voxels is not readable: {reason}")]
    NrrdText { path: PathBuf, reason: &'static str },
    #[error("the text with the voxels ends early: header promises {promised} numbers, got {got}")]
    NrrdTextShort { path: PathBuf, promised: usize, got: usize },

    #[error("zip archive is damaged, or packed in a way other than stored and deflated")]
    NpzArchive { path: PathBuf },
    /// An archive of several arrays, or none of the name that was asked for.
    #[error("{}: {names}", if *asked {
        format!("no array has that name; there are {count}")
    } else {
        format!("archive holds {count} arrays; one is needed")
    })]
    NpzKey { path: PathBuf, asked: bool, count: usize, names: String },
    #[error("{fault}")]
    Dicom { path: PathBuf, fault: DicomFault },

    #[error("data has {got} values, but the shape {} has {expected} voxels", join(shape))]
    DataLength { shape: [usize; 3], expected: usize, got: usize },
    #[error("the shape {} has an axis of 0", join(shape))]
    EmptyShape { shape: [usize; 3] },
    #[error("the shape is {}, expected {}", join(got), join(expected))]
    ShapeMismatch { expected: [usize; 3], got: [usize; 3] },
    #[error("spacing {spacing_mm:?} mm (slices first); finite numbers above 0 are needed")]
    Spacing { spacing_mm: [f64; 3] },
    #[error("a spacing is given, and a volume to take the geometry from; one of them is needed")]
    SpacingAndAffine,
    #[error(
        "the file has a geometry of its own: {own:?} mm per voxel (slices first), not {given:?}"
    )]
    SpacingContradicts { path: PathBuf, own: [f64; 3], given: [f64; 3] },
    #[error(
        "volume is {} voxels (i,j,k), but {}, whose geometry it is to take, is {}",
        in_file_order(expected), from.display(), in_file_order(got)
    )]
    AffineFromShape { path: PathBuf, from: PathBuf, expected: [usize; 3], got: [usize; 3] },
    #[error("the file has no geometry that another volume could take")]
    AffineFromNone { path: PathBuf },
    #[error("the affine is not usable: {reason}")]
    Affine { reason: &'static str },
    #[error(
        "the volume cannot be brought to {wanted}: its file does not say which way its axes run \
         through the body"
    )]
    UnknownOrientation { wanted: Orientation },
    #[error(
        "a volume of {from_mm:?} mm per voxel (slices first) is too large for voxels of {to_mm:?} mm"
    )]
    LatticeSize { from_mm: [f64; 3], to_mm: [f64; 3] },
    /// A box outside of the volume or of what the model reads, or without voxels.
    #[error("{message}")]
    Box { message: String },
    /// A point outside of the volume or of what the model reads.
    #[error("{message}")]
    Point { message: String },
    #[error("`{text}` is not an orientation")]
    Orientation { text: String },
    #[error("the box {start:?}..{end:?} is empty or not inside the shape {}", join(shape))]
    Region { start: [usize; 3], end: [usize; 3], shape: [usize; 3] },
    #[error("the size of the voxels is not known, and the volume cannot be resampled without it")]
    UnknownSpacing,
    #[error(
        "the grid is not the volume's: its corner {corner:?} (slices first) lies {mm:.1} mm away"
    )]
    OtherGrid { corner: [usize; 3], mm: f64 },
    #[error("{value} is not a label: a segmentation has whole numbers from 0 to 65535")]
    NotALabel { value: f32 },
    #[error("fewer than two different values are above 0, so that they cannot be normalized")]
    NothingPositive,
    #[error("overlap is {overlap}; 0 up to, but not including, 1 is needed")]
    Overlap { overlap: f64 },

    #[error("a segmentation of {got} segments for {labels} labels; each label needs one")]
    Segments { got: usize, labels: usize },
    #[error("a label map holds at most {most} labels")]
    TooManyLabels { most: usize },
    #[error("the output exists already")]
    Exists { path: PathBuf },
    #[error("the output cannot be created")]
    CannotCreate { path: PathBuf, source: io::Error },
    #[error("the output is a folder, pipe or device, which no file replaces")]
    NotReplaceable { path: PathBuf },
    #[error("the file name does not say the format; .nii.gz, .nii or .npy is needed")]
    UnknownExtension { path: PathBuf },
    #[error("writing failed")]
    WriteFailed { path: PathBuf, source: io::Error },
}

impl Diagnostic for Detail {
    fn code(&self) -> &'static str {
        use Detail as E;
        match self {
            E::NotFound { .. } => "R-IN-01",
            E::Unreadable { .. } => "R-IN-02",
            E::Directory { .. } => "R-IN-03",
            E::NotAFile { .. } => "R-IN-04",
            E::EmptyFile { .. } => "R-IN-05",
            E::UnknownFormat { .. } => "R-IN-06",
            E::TooLarge { .. } => "R-IN-07",
            E::TooFewVoxels { .. } => "R-IN-08",
            E::NoFiniteVoxel { .. } => "R-IN-09",
            E::ReadFailed { .. } => "R-IN-10",
            E::OutOfMemory { .. } => "R-IN-11",
            E::FrameRange { .. } => "R-IN-13",
            E::StreamTooLong { .. } => "R-IN-14",
            E::EndsEarly { kind: SourceKind::Npy | SourceKind::Npz, .. } => "R-NPY-06",
            E::EndsEarly { kind: SourceKind::Nrrd, .. } => "R-NRD-07",
            E::EndsEarly { .. } => "R-NII-07",
            E::CorruptGzip { kind: Some(SourceKind::Npy | SourceKind::Npz), .. } => "R-NPY-08",
            E::CorruptGzip { kind: Some(SourceKind::Nrrd), .. } => "R-NRD-08",
            E::CorruptGzip { kind: Some(_), .. } => "R-NII-08",
            E::CorruptGzip { kind: None, .. } => "R-IN-12",
            E::NiftiHeaderShort { .. } => "R-NII-01",
            E::NiftiMagic { .. } => "R-NII-02",
            E::NiftiDim0 { .. } => "R-NII-03",
            E::NiftiDim { .. } => "R-NII-04",
            E::NiftiDatatype { .. } => "R-NII-05",
            E::NiftiBitpix { .. } => "R-NII-06",
            E::NiftiVoxOffset { .. } => "R-NII-09",
            E::NiftiAffine { .. } => "R-NII-10",
            E::NiftiFrames { .. } => "R-NII-11",
            E::NiftiPair { .. } => "R-NII-12",
            E::NiftiMissingHalf { .. } => "R-NII-13",
            E::NpyHeader { .. } => "R-NPY-01",
            E::NpyDtype { .. } => "R-NPY-02",
            E::NpyShape { .. } => "R-NPY-03",
            E::NpyHeaderLength { .. } => "R-NPY-04",
            E::NpyTooLong { .. } => "R-NPY-05",
            E::NpyVersion { .. } => "R-NPY-07",
            E::NpyObject { .. } => "R-NPY-09",
            E::NpyMatrix { .. } => "R-NPY-10",
            E::NpzArchive { .. } => "R-NPZ-01",
            E::NpzKey { .. } => "R-NPZ-02",
            E::NrrdHeader { .. } => "R-NRD-01",
            E::NrrdBlock { .. } => "R-NRD-02",
            E::NrrdShape { .. } => "R-NRD-03",
            E::NrrdEncoding { .. } => "R-NRD-04",
            E::NrrdDataFile { .. } => "R-NRD-05",
            E::NrrdDataMissing { .. } => "R-NRD-06",
            E::NrrdText { .. } => "R-NRD-09",
            E::NrrdTextShort { .. } => "R-NRD-10",
            E::NrrdAffine { .. } => "R-NRD-11",
            E::Dicom { fault, .. } => fault.code(),
            E::DataLength { .. } => "R-GEO-01",
            E::ShapeMismatch { .. } => "R-GEO-02",
            E::Spacing { .. } => "R-GEO-03",
            E::Region { .. } => "R-GEO-04",
            E::Affine { .. } => "R-GEO-05",
            E::EmptyShape { .. } => "R-GEO-06",
            E::SpacingAndAffine => "R-GEO-07",
            E::SpacingContradicts { .. } => "R-GEO-08",
            E::AffineFromShape { .. } => "R-GEO-09",
            E::AffineFromNone { .. } => "R-GEO-10",
            E::UnknownOrientation { .. } => "R-GEO-11",
            E::Orientation { .. } => "R-GEO-12",
            E::LatticeSize { .. } => "R-GEO-13",
            E::UnknownSpacing => "R-GEO-14",
            E::OtherGrid { .. } => "R-GEO-15",
            E::NotALabel { .. } => "R-GEO-16",
            E::Box { .. } => "R-BOX-01",
            E::Point { .. } => "R-PNT-01",
            E::NothingPositive => "R-PRE-03",
            E::Overlap { .. } => "R-PRE-02",
            E::Exists { .. } => "R-OUT-01",
            E::CannotCreate { .. } => "R-OUT-02",
            E::NotReplaceable { .. } => "R-OUT-03",
            E::UnknownExtension { .. } => "R-OUT-04",
            E::WriteFailed { .. } => "R-OUT-05",
            E::Segments { .. } => "R-OUT-09",
            E::TooManyLabels { .. } => "R-OUT-10",
        }
    }

    fn kind(&self) -> ErrorKind {
        use Detail as E;
        match self {
            E::NotFound { .. }
            | E::Directory { .. }
            | E::Unreadable { .. }
            | E::NotAFile { .. }
            | E::NiftiMissingHalf { .. }
            | E::NrrdDataMissing { .. } => ErrorKind::Missing,
            E::Dicom { fault, .. } => fault.kind(),
            E::ReadFailed { .. } | E::WriteFailed { .. } => ErrorKind::Io,
            E::OutOfMemory { .. } => ErrorKind::Resources,
            E::Exists { .. }
            | E::CannotCreate { .. }
            | E::NotReplaceable { .. }
            | E::UnknownExtension { .. } => ErrorKind::CannotCreate,
            E::FrameRange { .. }
            | E::SpacingAndAffine
            | E::SpacingContradicts { .. }
            | E::AffineFromShape { .. }
            | E::AffineFromNone { .. }
            | E::Spacing { .. }
            | E::Affine { .. }
            | E::Region { .. }
            | E::UnknownOrientation { .. }
            | E::Orientation { .. }
            | E::UnknownSpacing
            | E::Overlap { .. }
            | E::Segments { .. }
            | E::TooManyLabels { .. } => ErrorKind::Usage,
            _ => ErrorKind::BadData,
        }
    }

    fn path(&self) -> Option<&Path> {
        use Detail as E;
        match self {
            E::NotFound { path }
            | E::Unreadable { path, .. }
            | E::Directory { path, .. }
            | E::NotAFile { path }
            | E::EmptyFile { path }
            | E::UnknownFormat { path, .. }
            | E::TooLarge { path, .. }
            | E::TooFewVoxels { path, .. }
            | E::NoFiniteVoxel { path, .. }
            | E::ReadFailed { path, .. }
            | E::FrameRange { path, .. }
            | E::StreamTooLong { path, .. }
            | E::OutOfMemory { path, .. }
            | E::EndsEarly { path, .. }
            | E::CorruptGzip { path, .. }
            | E::NiftiHeaderShort { path, .. }
            | E::NiftiMagic { path, .. }
            | E::NiftiPair { path }
            | E::NiftiMissingHalf { path, .. }
            | E::NiftiDim0 { path, .. }
            | E::NiftiDim { path, .. }
            | E::NiftiFrames { path, .. }
            | E::NiftiDatatype { path, .. }
            | E::NiftiBitpix { path, .. }
            | E::NiftiVoxOffset { path, .. }
            | E::NiftiAffine { path, .. }
            | E::NpyHeader { path, .. }
            | E::NpyHeaderLength { path, .. }
            | E::NpyVersion { path, .. }
            | E::NpyObject { path }
            | E::NpyDtype { path, .. }
            | E::NpyShape { path, .. }
            | E::NpyMatrix { path, .. }
            | E::NpyTooLong { path, .. }
            | E::SpacingContradicts { path, .. }
            | E::AffineFromShape { path, .. }
            | E::AffineFromNone { path }
            | E::NpzArchive { path }
            | E::NpzKey { path, .. }
            | E::NrrdHeader { path, .. }
            | E::NrrdBlock { path }
            | E::NrrdEncoding { path, .. }
            | E::NrrdShape { path, .. }
            | E::NrrdAffine { path, .. }
            | E::NrrdDataFile { path, .. }
            | E::NrrdDataMissing { path }
            | E::NrrdText { path, .. }
            | E::NrrdTextShort { path, .. }
            | E::Dicom { path, .. }
            | E::Exists { path }
            | E::CannotCreate { path, .. }
            | E::NotReplaceable { path }
            | E::UnknownExtension { path }
            | E::WriteFailed { path, .. } => Some(path),
            E::DataLength { .. }
            | E::ShapeMismatch { .. }
            | E::EmptyShape { .. }
            | E::SpacingAndAffine
            | E::Spacing { .. }
            | E::Affine { .. }
            | E::Region { .. }
            | E::UnknownOrientation { .. }
            | E::Orientation { .. }
            | E::UnknownSpacing
            | E::OtherGrid { .. }
            | E::NotALabel { .. }
            | E::NothingPositive
            | E::Box { .. }
            | E::Point { .. }
            | E::Overlap { .. }
            | E::Segments { .. }
            | E::TooManyLabels { .. }
            | E::LatticeSize { .. } => None,
        }
    }

    fn remedy(&self) -> Option<Remedy> {
        use Detail as E;
        let text = match self {
            E::NotFound { .. } => "check the path",
            E::Unreadable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "check the permissions of the file and of its folder"
            }
            E::Unreadable { .. } => "check that the path leads to a file that can be read",
            E::Directory { .. } => "name the folder of a CT series, or one .nii.gz or .npy file",
            E::NotAFile { .. } => return Some(Remedy::CopyToFile),
            E::EmptyFile { .. } | E::EndsEarly { .. } | E::CorruptGzip { .. } => "re-copy the file",
            E::UnknownFormat { .. } => "convert it to NIfTI (.nii.gz)",
            E::TooLarge { .. } => "crop or downsample it first",
            E::TooFewVoxels { .. } => "a 3D volume is needed, not one slice",
            E::OutOfMemory { .. } => "free memory, or crop the volume first",
            E::NiftiHeaderShort { .. } => "re-copy the file, or export it to NIfTI again",
            E::NiftiMagic { .. } => {
                "export it to NIfTI again, since Analyze does not say which side is left"
            }
            E::NiftiPair { .. } => "name the file, or convert the pair to one .nii.gz file",
            E::NiftiMissingHalf { .. } => "copy both halves to one folder, under one name",
            E::FrameRange { frames: 0 | 1, .. } => return Some(Remedy::OmitFrame),
            E::NiftiFrames { frames, .. } | E::FrameRange { frames, .. } => {
                return Some(Remedy::ChooseFrame { frames: *frames });
            }
            E::NiftiDatatype { .. } => "export the volume as grey values, such as int16 HU",
            E::NiftiAffine { .. } | E::NrrdAffine { .. } => {
                return Some(Remedy::CorrectGeometry);
            }
            E::NpyHeader { .. } | E::NpyVersion { .. } | E::NpyHeaderLength { .. } => {
                "write it with numpy.save"
            }
            E::NpyObject { .. } => "save the plain array: numpy.save(f, a, allow_pickle=False)",
            E::NpyDtype { .. } => "save it as a number type, such as float32",
            E::NpyShape { frames: 2.., .. } => return Some(Remedy::ChooseAlongFirstAxis),
            E::NpyShape { .. } => "save it as one volume",
            E::NpyMatrix { .. } => "save a row for each of them",
            E::Dicom { fault, .. } => return fault.remedy(),
            E::NpyTooLong { .. } => "save one array per file",
            E::NpzArchive { .. } => "re-copy the file, or pack it again",
            E::NpzKey { .. } => return Some(Remedy::ChooseArray),
            E::StreamTooLong { .. } => "name the file instead",
            E::NrrdHeader { .. } | E::NrrdText { .. } | E::NrrdTextShort { .. } => {
                "export it again as NRRD or NIfTI"
            }
            E::NrrdBlock { .. } => "export the volume as grey values, such as int16 HU",
            E::NrrdEncoding { .. } => "save it with gzip compression, or as NIfTI (.nii.gz)",
            E::NrrdShape { .. } => "save the one volume that you mean into its own file",
            E::SpacingAndAffine => return Some(Remedy::GiveOneGeometry),
            E::SpacingContradicts { .. } => return Some(Remedy::OmitSpacing),
            E::AffineFromShape { .. } | E::AffineFromNone { .. } => {
                "name the volume that this one was made from, on the same grid"
            }
            E::NrrdDataFile { .. } => "save it as one .nrrd file",
            E::NrrdDataMissing { .. } => "copy both files to one folder, under their names",
            E::UnknownOrientation { .. } => return Some(Remedy::GiveOrientation),
            E::LatticeSize { .. } => "check the voxel sizes in the header",
            E::UnknownSpacing => return Some(Remedy::GiveGeometry),
            E::OtherGrid { .. } => "name a mask that was made from this volume, on its grid",
            E::NotALabel { .. } => "name a mask or a label map, not an image",
            E::Box { .. } | E::Point { .. } => {
                return Some(Remedy::InspectVolume);
            }
            E::Orientation { .. } => "use stored, LPS, RAS or three other axis codes, such as PIR",
            E::Exists { .. } => "choose another name, or allow overwriting",
            E::CannotCreate { .. } => "check that the folder exists and is writable",
            E::NotReplaceable { .. } => "choose another name",
            E::UnknownExtension { .. } => "end the name in .nii.gz, .nii or .npy",
            E::WriteFailed { .. } => "check the space left on the device",
            _ => return None,
        };
        Some(text.into())
    }
}

fn axes(kind: SourceKind) -> &'static str {
    match kind {
        SourceKind::Npy | SourceKind::Npz => "(D,H,W)",
        _ => "(i,j,k)",
    }
}

/// `[D, H, W]` as `WxHxD`: i, j, k.
pub(crate) fn in_file_order([d, h, w]: &[usize; 3]) -> String {
    join(&[w, h, d])
}

/// `32x256x256`.
pub(crate) fn join<T: ToString>(shape: &[T]) -> String {
    shape.iter().map(T::to_string).collect::<Vec<_>>().join("x")
}
