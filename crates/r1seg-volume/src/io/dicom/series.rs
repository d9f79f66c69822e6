//! Which images belong together, and which of them are meant.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{ErrorKind, Read};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::dataset::storage;
use super::fault::DicomFault;
use super::header::{self, Header};
use super::store::Store;
use crate::error::join;
use crate::{Error, ReadOptions, Warning};

/// Hex digits of a hashed SeriesInstanceUID.
const ID_DIGITS: usize = 12;

/// One DICOM series of a folder or archive, without anything that could name a patient.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SeriesSummary {
    /// Place in the list, from 1; the order is that of the ids.
    pub number: usize,
    /// The start of the SHA-256 of its SeriesInstanceUID, in hex digits.
    pub id: String,
    /// Such as `CT`; `?` where it is missing, `OTHER` where it is not a common one.
    pub modality: String,
    /// Slices, or frames of multi-frame files.
    pub slices: usize,
    /// `[D, H, W]`, if it is a volume.
    pub shape: Option<[usize; 3]>,
    /// Millimetres a voxel, `[D, H, W]`, if it is a volume.
    pub spacing_mm: Option<[f64; 3]>,
    /// Whether its images are localisers (scouts, topograms).
    pub is_localizer: bool,
    /// Why it cannot be read, if it cannot.
    pub verdict: Option<String>,
}

/// `1: 5fd924625f6a CT, 60 slices, 60x201x204`.
impl fmt::Display for SeriesSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, id, modality, slices, .. } = self;
        let noun = if *slices == 1 { "slice" } else { "slices" };
        write!(f, "{number}: {id} {modality}, {slices} {noun}")?;
        match &self.shape {
            Some(shape) => write!(f, ", {}", join(shape))?,
            None => write!(f, ", not a volume")?,
        }
        if self.is_localizer {
            write!(f, ", localiser")?;
        }
        Ok(())
    }
}

/// An image file of a series.
pub(super) struct Image {
    pub(super) file: usize,
    pub(super) header: Header,
}

pub(super) struct Series {
    pub(super) id: String,
    pub(super) is_localizer: bool,
    pub(super) images: Vec<Image>,
    /// Files of it that cannot be read.
    pub(super) broken: Vec<(usize, DicomFault)>,
}

/// What was found in a folder, file or archive.
pub(super) struct Found {
    /// In the order of their ids.
    pub(super) series: Vec<Series>,
    pub(super) warnings: Vec<Warning>,
}

enum Scanned {
    Image(Box<Image>),
    Broken(usize, Box<header::Broken>),
    Other,
}

/// Reads every header of `store`.
pub(super) fn scan(store: &Store, options: &ReadOptions) -> Result<Found, Error> {
    let scanned: Vec<Scanned> = (0..store.len())
        .into_par_iter()
        .map(|n| store.with(n, |reader| scan_file(n, reader, options)))
        .collect::<Result<_, Error>>()?;
    let mut series: BTreeMap<(String, bool), Series> = BTreeMap::new();
    let mut lost = 0;
    let mut unplaced = Vec::new();
    for file in scanned {
        match file {
            Scanned::Image(image) => {
                let (id, is_localizer) = (hash(&image.header.series_uid), image.header.localizer);
                let empty = |id| Series { id, is_localizer, images: vec![], broken: vec![] };
                let series = series.entry((id.clone(), is_localizer)).or_insert_with(|| empty(id));
                series.images.push(*image);
            }
            Scanned::Broken(n, broken) => unplaced.push((n, broken)),
            Scanned::Other => {}
        }
    }
    let mut first_fault = None;
    for (n, broken) in unplaced {
        let id = hash(&broken.series_uid);
        match series.get_mut(&(id, false)) {
            Some(series) if !broken.series_uid.is_empty() => {
                series.broken.push((n, broken.fault));
            }
            _ => {
                lost += 1;
                first_fault.get_or_insert((n, broken.fault));
            }
        }
    }
    if series.is_empty() {
        return Err(match first_fault {
            Some((n, fault)) => Error::Dicom { path: store.name(n), fault },
            None => store.no_image(),
        });
    }
    let mut warnings = Vec::new();
    if 0 < lost {
        let text = format!("{lost} files are broken and belong to no series: left out");
        warnings.push(Warning::new("W-SKIPPED", text).with_fix("export or copy them again"));
    }
    Ok(Found { series: series.into_values().collect(), warnings })
}

fn scan_file<'a>(n: usize, mut reader: Box<dyn Read + 'a>, options: &ReadOptions) -> Scanned {
    let mut start = [0; 132];
    match reader.read_exact(&mut start) {
        Ok(()) if header::is_dicom(&start) => {}
        Err(e) if e.kind() != ErrorKind::UnexpectedEof => {
            let broken = header::Broken { series_uid: String::new(), fault: storage(&e) };
            return Scanned::Broken(n, Box::new(broken));
        }
        _ => return Scanned::Other,
    }
    match header::open(reader, options.max_bytes) {
        Ok(opened) if opened.header.is_image() => {
            Scanned::Image(Box::new(Image { file: n, header: opened.header }))
        }
        Ok(_) => Scanned::Other,
        Err(broken) => Scanned::Broken(n, broken),
    }
}

/// A UID says where and when a scan was made, so that only a hash of it is shown.
fn hash(uid: &str) -> String {
    let digest = Sha256::digest(uid.as_bytes());
    digest
        .iter()
        .flat_map(|b| format!("{b:02x}").into_bytes())
        .take(ID_DIGITS)
        .map(char::from)
        .collect()
}

/// The series that `wanted` names, by its number in the list or the start of its id; without
/// `wanted`, the only one.
pub(super) fn choose(series: &[Series], wanted: Option<&str>) -> Option<usize> {
    let Some(wanted) = wanted else {
        return (series.len() == 1).then_some(0);
    };
    let number = wanted.parse::<usize>().ok().filter(|n| (1..=series.len()).contains(n));
    if let Some(number) = number {
        return Some(number - 1);
    }
    let wanted = wanted.to_ascii_lowercase();
    let mut found = series.iter().enumerate().filter(|(_, s)| s.id.starts_with(&wanted));
    match (wanted.is_empty(), found.next(), found.next()) {
        (false, Some((n, _)), None) => Some(n),
        _ => None,
    }
}
