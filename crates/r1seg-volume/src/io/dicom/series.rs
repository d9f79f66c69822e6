//! Which images belong together, and which of them are meant.
//!
//! Images are of one series if they have the same SeriesInstanceUID and the same StudyInstanceUID: some
//! anonymisers leave UIDs out, or give all studies the same. Where there is no SeriesInstanceUID,
//! anything that tells series apart keeps images apart.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{ErrorKind, Read};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::dataset::storage;
use super::fault::{self, DicomFault};
use super::geometry;
use super::header::{self, Header};
use super::store::Store;
use crate::error::Detail;
use crate::error::in_file_order;
use crate::{Error, ReadOptions, Warning};

/// Hex digits of an id.
const ID_DIGITS: usize = 12;
/// Fewest characters of an id that stand for it.
const LEAST_OF_ID: usize = 4;
/// Series without a UID that are told apart by the geometry of their planes.
const MOST_GEOMETRIES: usize = 64;

/// Which DICOM series a volume is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChosenSeries {
    /// Its [place in the list](SeriesSummary::number), from 1.
    pub number: usize,
    /// How many series there are.
    pub of: usize,
    /// Its [id](SeriesSummary::id).
    pub id: String,
}

/// One DICOM series of a folder or archive, without anything that could name a patient.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SeriesSummary {
    /// Place in the list, from 1; the order is that of the ids.
    pub number: usize,
    /// The start of the SHA-256 of its SeriesInstanceUID, in hex digits; where that is missing or
    /// shared by several studies, of everything that tells it apart.
    pub id: String,
    /// Such as `CT`; `?` where it is missing, `OTHER` where it is not a common one.
    pub modality: String,
    /// Slices, or frames of multi-frame files.
    pub slices: usize,
    /// `[D, H, W]`, if it is a volume.
    pub shape: Option<[usize; 3]>,
    /// Millimeters a voxel, `[D, H, W]`, if it is a volume.
    pub spacing_mm: Option<[f64; 3]>,
    /// Whether its images are localizers (scouts, topograms).
    pub is_localizer: bool,
    /// Why it cannot be read, if it cannot.
    pub verdict: Option<String>,
}

/// `1: 5fd924625f6a CT, 60 slices, 204x201x60 voxels (i,j,k)`.
impl fmt::Display for SeriesSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, id, modality, slices, .. } = self;
        let noun = if *slices == 1 { "slice" } else { "slices" };
        write!(f, "{number}: {id} {modality}, {slices} {noun}")?;
        match &self.shape {
            Some(shape) => write!(f, ", {} voxels (i,j,k)", in_file_order(shape))?,
            None => write!(f, ", not a volume")?,
        }
        if self.is_localizer {
            write!(f, ", localizer")?;
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
    /// Broken files that belong to none of them.
    pub(super) unplaced: Vec<(usize, DicomFault)>,
}

/// What the images of a series share. Not `Debug`: UIDs must not reach a message.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    series_uid: String,
    study_uid: String,
    is_localizer: bool,
    /// What else tells a series without a UID apart.
    other: Option<Other>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Other {
    frame_of_reference_uid: String,
    /// The bits of a number.
    series_number: Option<u64>,
    patient: Option<[u8; 32]>,
}

impl Key {
    fn of(header: &Header) -> Self {
        let other = || Other {
            frame_of_reference_uid: header.frame_of_reference_uid.clone(),
            series_number: header.series_number.map(f64::to_bits),
            patient: header.patient,
        };
        Self {
            series_uid: header.series_uid.clone(),
            study_uid: header.study_uid.clone(),
            is_localizer: header.localizer,
            other: header.series_uid.is_empty().then(other),
        }
    }

    /// The id of the series, of which another study may have the same UID; `nth` counts those that
    /// differ in geometry alone.
    fn id(&self, has_a_uid_of_its_own: bool, nth: usize) -> String {
        let mut digest = Sha256::new();
        digest.update(&self.series_uid);
        if !has_a_uid_of_its_own {
            digest.update([0]);
            digest.update(&self.study_uid);
        }
        if let Some(other) = &self.other {
            digest.update([0]);
            digest.update(&other.frame_of_reference_uid);
            digest.update(other.series_number.unwrap_or_default().to_le_bytes());
            digest.update(other.patient.unwrap_or_default());
            digest.update(nth.to_le_bytes());
        }
        let digits = digest.finalize().into_iter().map(|b| format!("{b:02x}"));
        digits.take(ID_DIGITS / 2).collect()
    }
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
        .map(|n| store.with(n, |reader| scan_file(store, n, reader, options)))
        .collect::<Result<_, Error>>()?;
    let mut groups: BTreeMap<Key, Vec<Image>> = BTreeMap::new();
    let mut broken = Vec::new();
    for file in scanned {
        match file {
            Scanned::Image(image) => {
                groups.entry(Key::of(&image.header)).or_default().push(*image);
            }
            Scanned::Broken(n, fault) => broken.push((n, fault)),
            Scanned::Other => {}
        }
    }
    let mut broken_of: BTreeMap<Key, Vec<(usize, DicomFault)>> = BTreeMap::new();
    let mut unplaced = Vec::new();
    for (n, file) in broken {
        let header::Broken { series_uid, study_uid, fault } = *file;
        let key = Key { series_uid, study_uid, is_localizer: false, other: None };
        match groups.contains_key(&key) {
            true => broken_of.entry(key).or_default().push((n, fault)),
            false => unplaced.push((n, fault)),
        }
    }
    if groups.is_empty() {
        return Err(match unplaced.into_iter().next() {
            Some((n, fault)) => Error::from(Detail::Dicom { path: store.name(n), fault }),
            None => store.no_image(),
        });
    }
    let mut studies_of: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for key in groups.keys() {
        studies_of.entry(key.series_uid.clone()).or_default().insert(key.study_uid.clone());
    }
    let mut series = Vec::new();
    for (key, images) in groups {
        let has_a_uid_of_its_own = key.other.is_none()
            && studies_of.get(&key.series_uid).is_some_and(|studies| studies.len() == 1);
        let parts = if key.other.is_some() { by_geometry(images) } else { vec![images] };
        let mut broken = broken_of.remove(&key).unwrap_or_default();
        for (nth, images) in parts.into_iter().enumerate() {
            let id = key.id(has_a_uid_of_its_own, nth);
            let (is_localizer, broken) = (key.is_localizer, std::mem::take(&mut broken));
            series.push(Series { id, is_localizer, images, broken });
        }
    }
    series.sort_by(|a, b| (&a.id, a.is_localizer).cmp(&(&b.id, b.is_localizer)));
    Ok(Found { series, unplaced })
}

/// Images whose planes cannot be of one volume, apart.
fn by_geometry(images: Vec<Image>) -> Vec<Vec<Image>> {
    let mut parts: Vec<Vec<Image>> = Vec::new();
    for image in images {
        let alike = |part: &Vec<Image>| {
            part.first().is_some_and(|first| geometry::alike(&first.header, &image.header))
        };
        let is_full = parts.len() == MOST_GEOMETRIES;
        let place = parts.iter().position(alike).or(is_full.then_some(MOST_GEOMETRIES - 1));
        match place.and_then(|n| parts.get_mut(n)) {
            Some(part) => part.push(image),
            None => parts.push(vec![image]),
        }
    }
    parts
}

/// Files that are broken and belong to no series.
pub(super) fn skipped(unplaced: &[(usize, DicomFault)], store: &Store) -> Option<Warning> {
    let (_, fault) = unplaced.first()?;
    let names: Vec<String> = unplaced.iter().map(|(n, _)| store.short_name(*n)).collect();
    let text = match names.as_slice() {
        [name] => format!("{name} is broken, belongs to no series, and is left out: {fault}"),
        _ => format!(
            "{} files are broken, belong to no series, and are left out: {} (the first one: {fault})",
            names.len(),
            fault::names(&names),
        ),
    };
    Some(Warning::new("W-SKIPPED", text).with_remedy("export or copy them again"))
}

fn scan_file<'a>(
    store: &Store,
    n: usize,
    mut reader: Box<dyn Read + 'a>,
    options: &ReadOptions,
) -> Scanned {
    let broken = |fault| Scanned::Broken(n, Box::new(header::Broken::unplaced(fault)));
    let mut start = Vec::new();
    match (&mut reader).take(132).read_to_end(&mut start) {
        Ok(_) if header::is_dicom(&start) => {}
        Ok(got) if got < 132 && store.is_named_dicom(n) => {
            return broken(DicomFault::EndsEarly { at: 0 });
        }
        Ok(_) => return Scanned::Other,
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Scanned::Other,
        Err(e) => return broken(storage(&e)),
    }
    match header::open(reader, options.max_bytes) {
        Ok(opened) if opened.header.is_image() => {
            Scanned::Image(Box::new(Image { file: n, header: opened.header }))
        }
        Ok(_) => Scanned::Other,
        Err(broken) => Scanned::Broken(n, broken),
    }
}

/// The series that `wanted` names, by its number in the list or the start of its id; without
/// `wanted`, the only one.
///
/// # Errors
/// Why `wanted` names none; `None` where something must be wanted.
pub(super) fn choose(series: &[Series], wanted: Option<&str>) -> Result<usize, Option<String>> {
    let Some(wanted) = wanted else {
        return if series.len() == 1 { Ok(0) } else { Err(None) };
    };
    let lower = wanted.to_ascii_lowercase();
    let is_number = !wanted.is_empty() && wanted.bytes().all(|b| b.is_ascii_digit());
    if is_number && !series.iter().any(|s| s.id == lower) {
        let number = wanted.parse().ok().filter(|n| (1..=series.len()).contains(n));
        return number.map(|n: usize| n - 1).ok_or(Some(format!("there is no series {wanted}")));
    }
    if lower.len() < LEAST_OF_ID {
        let reason = format!("at least {LEAST_OF_ID} characters of an id are needed");
        return Err(Some(reason));
    }
    let mut found = series.iter().enumerate().filter(|(_, s)| s.id.starts_with(&lower));
    match (found.next(), found.next()) {
        (Some((n, _)), None) => Ok(n),
        (None, _) => Err(Some("no series has an id that begins so".to_owned())),
        _ => Err(Some("several series have an id that begins so".to_owned())),
    }
}
