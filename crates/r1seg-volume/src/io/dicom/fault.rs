//! What can be wrong with a DICOM series.

use std::io::ErrorKind as IoKind;

use r1seg_diagnostic::{ErrorKind, Remedy};

use super::SeriesSummary;

/// What makes a DICOM file, folder or archive unusable.
///
/// Messages carry numbers, names of attributes, sanitized modalities and transfer syntaxes; never
/// the text of another attribute, since that may name a patient.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum DicomFault {
    #[error("no DICOM image among {files} files")]
    NoImage { files: usize },
    #[error("{} series; one must be chosen: {}", series.len(), list(series))]
    SeveralSeries { series: Vec<SeriesSummary> },
    #[error("{reason}; there are: {}", list(series))]
    NoSuchSeries { reason: String, series: Vec<SeriesSummary> },
    #[error("modality is {modality}, not CT")]
    Modality { modality: String },
    #[error("the file does not say its modality; CT is needed")]
    NoModality,
    #[error("{attribute} is missing or not readable")]
    Missing { attribute: &'static str },
    #[error("DICOM structure is broken: {0}")]
    Malformed(&'static str),
    #[error("DICOM file ends early (it is truncated): got {at} bytes of its data set")]
    EndsEarly { at: u64 },
    #[error("pixels are cut short: {expected} bytes are needed, got {got}")]
    PixelsShort { expected: u64, got: u64 },
    #[error("reading failed: {0}")]
    Storage(IoKind),
    #[error("transfer syntax {uid} is not supported")]
    TransferSyntax { uid: String },
    #[error("pixels are not one grey value each: {0}")]
    NotGrey(&'static str),
    #[error("pixel layout is not supported: {0}")]
    Layout(&'static str),
    #[error("{codec} data cannot be decoded: {reason}")]
    Codec { codec: &'static str, reason: &'static str },
    #[error(
        "gap of {gap_mm:.3} mm between slices {after} and {} of {slices}; the others are \
         {spacing_mm:.3} mm apart",
        after + 1
    )]
    Gap { gap_mm: f64, spacing_mm: f64, after: usize, slices: usize },
    /// A gap, beside broken files that may be the slices that are missing.
    #[error("{fault}; without this file{} there is a {gap}", and_others(others))]
    BrokenSlice { fault: Box<DicomFault>, others: Vec<String>, gap: Box<DicomFault> },
    #[error(
        "not one volume: {slices} slices lie at {positions} distinct position(s) (time points, or \
         copies)"
    )]
    SamePosition { slices: usize, positions: usize },
    #[error("gantry tilt: slices are shifted along their planes, {degrees:.2} degrees")]
    Tilt { degrees: f64 },
    #[error("not one volume: the slices differ in {0}")]
    Mixed(&'static str),
    #[error("zip archive: {0}")]
    Zip(&'static str),
    #[error("{what}: {count}; at most {most} are read")]
    TooMany { what: &'static str, count: u64, most: u64 },
}

impl DicomFault {
    /// The stable code, such as `R-DCM-02`.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::NoImage { .. } => "R-DCM-01",
            Self::SeveralSeries { .. } => "R-DCM-02",
            Self::NoSuchSeries { .. } => "R-DCM-03",
            Self::Modality { .. } | Self::NoModality => "R-DCM-04",
            Self::Missing { .. } => "R-DCM-05",
            Self::Malformed(_) => "R-DCM-06",
            Self::EndsEarly { .. } | Self::PixelsShort { .. } => "R-DCM-07",
            Self::Storage(_) => "R-DCM-08",
            Self::TransferSyntax { .. } => "R-DCM-09",
            Self::NotGrey(_) => "R-DCM-10",
            Self::Layout(_) => "R-DCM-11",
            Self::Codec { .. } => "R-DCM-12",
            Self::Gap { .. } => "R-DCM-13",
            Self::BrokenSlice { fault, .. } => fault.code(),
            Self::SamePosition { .. } => "R-DCM-14",
            Self::Tilt { .. } => "R-DCM-15",
            Self::Mixed(_) => "R-DCM-16",
            Self::Zip(_) => "R-DCM-17",
            Self::TooMany { .. } => "R-DCM-18",
        }
    }

    /// What kind of failure this is.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchSeries { .. } => ErrorKind::Usage,
            Self::Storage(_) => ErrorKind::Io,
            Self::BrokenSlice { fault, .. } => fault.kind(),
            _ => ErrorKind::BadData,
        }
    }

    /// What to do about it, where something can be done.
    pub(crate) fn remedy(&self) -> Option<Remedy> {
        let advice = match self {
            Self::SeveralSeries { .. } | Self::NoSuchSeries { .. } => {
                return Some(Remedy::ChooseSeries);
            }
            Self::NoImage { .. } => "name the folder, file or zip archive of one CT series",
            Self::Modality { .. } | Self::NoModality => {
                return Some(Remedy::AllowModality);
            }
            Self::Malformed(_) | Self::EndsEarly { .. } | Self::PixelsShort { .. } => {
                "export or copy the series again"
            }
            Self::TransferSyntax { .. } | Self::Codec { .. } => {
                "decompress it with gdcmconv --raw or dcmdjpeg, or convert it with dcm2niix"
            }
            Self::BrokenSlice { .. } => return Some(Remedy::ReplaceSlice),
            Self::Gap { .. } => return Some(Remedy::FillGaps),
            Self::SamePosition { .. } => "keep one time point, one file per position",
            Self::Tilt { .. } => "convert it with dcm2niix, which corrects the tilt",
            Self::Mixed(_) | Self::Missing { .. } | Self::Layout(_) => {
                "convert it with dcm2niix, which may split or repair it"
            }
            Self::NotGrey(_) => "export the CT itself, not a picture of it",
            Self::Zip(_) => "unpack it, and name the folder",
            Self::TooMany { .. } => "name a folder that holds one study only",
            Self::Storage(_) => return None,
        };
        Some(advice.into())
    }
}

/// Names of further files, of which a folder may hold any number.
pub(super) fn names(files: &[String]) -> String {
    const SHOWN: usize = 3;
    let mut names: Vec<String> = files.iter().take(SHOWN).cloned().collect();
    if SHOWN < files.len() {
        names.push(format!("{} more", files.len() - SHOWN));
    }
    names.join(", ")
}

fn and_others(others: &[String]) -> String {
    if others.is_empty() { String::new() } else { format!(" and {}", names(others)) }
}

/// The first series in words; a folder may hold hundreds.
fn list(series: &[SeriesSummary]) -> String {
    const SHOWN: usize = 20;
    let mut words: Vec<String> = series.iter().take(SHOWN).map(SeriesSummary::to_string).collect();
    if SHOWN < series.len() {
        words.push(format!("and {} more", series.len() - SHOWN));
    }
    words.join("; ")
}
