//! Volumes that were uploaded, and what is said about them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use r1seg::CancelToken;
use r1seg::volume::{IntensityRange, ReadOptions, Voxels};
use r1seg_results::Input;
use r1seg_results::report::{ijk, is_hu};
use serde::Serialize;
use tempfile::TempDir;
use utoipa::ToSchema;

use crate::Error;
use crate::budget::Reserved;
use crate::fix::fix;
use crate::ids::{Id, Kind};
use crate::keys::Owner;
use crate::shelf::{Kept, Lease, lock};

/// A volume as the API shows it. Voxel indexes and lengths are in the order (i, j, k).
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Volume)]
pub(crate) struct VolumeReply {
    #[schema(example = "vol_0123456789abcdef0123456789abcdef")]
    id: String,
    /// What the client called the file.
    name: String,
    /// Its format, such as `nifti`.
    kind: String,
    shape: [usize; 3],
    spacing_mm: Option<[f64; 3]>,
    /// The axes of the voxels in the patient, such as `RAS`.
    orientation: Option<String>,
    intensity_range: Option<[f32; 2]>,
    /// What the intensities seem to be, such as `hu`.
    intensity_verdict: Option<String>,
    /// Whether they are Hounsfield units.
    is_hu: bool,
    /// Which DICOM series of the upload it is.
    series: Option<SeriesChoice>,
    warnings: Vec<WarningReply>,
    /// Of the upload.
    bytes: u64,
    /// Of an upload of one file.
    sha256: Option<String>,
    /// Unix seconds.
    created: u64,
    /// Unix seconds. Any use of the volume moves it.
    expires: u64,
}

/// A series among those of an upload.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct SeriesChoice {
    /// From 1.
    number: usize,
    of: usize,
    id: String,
}

/// Something that a person should know.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct WarningReply {
    pub(crate) code: String,
    pub(crate) text: String,
    pub(crate) fix: Option<String>,
}

impl From<&r1seg::volume::Warning> for WarningReply {
    fn from(warning: &r1seg::volume::Warning) -> Self {
        Self {
            code: warning.code.to_string(),
            text: warning.text.clone(),
            fix: warning.remedy.as_ref().and_then(fix),
        }
    }
}

/// A volume that is kept, with the voxels in memory.
#[derive(Debug)]
pub(crate) struct Stored {
    id: Id,
    owner: Owner,
    pub(crate) input: Input,
    /// What the client called it.
    pub(crate) name: String,
    sha256: Option<String>,
    /// Of all that was uploaded and how it was read: what a model makes of it depends on nothing else.
    pub(crate) content: [u8; 32],
    /// Stops whatever is done with the volume.
    pub(crate) gone: CancelToken,
    lease: Lease,
    /// The folder of its own, for what is made of it.
    folder: TempDir,
    /// Whether it may go for the sake of a later one, if nobody works with it.
    pub(crate) may_yield: bool,
    /// Of the upload, in bytes.
    bytes: u64,
    disk: Mutex<Reserved>,
    /// Held by the request that writes the volume on its own grid into the folder.
    pub(crate) copying: Arc<tokio::sync::Mutex<()>>,
    _memory: Reserved,
}

impl Kept for Stored {
    fn id(&self) -> &str {
        self.id.as_str()
    }

    fn owner(&self) -> Owner {
        self.owner
    }

    fn lease(&self) -> &Lease {
        &self.lease
    }
}

/// What is known of a volume before it is kept.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) owner: Owner,
    pub(crate) name: String,
    pub(crate) sha256: Option<String>,
    pub(crate) content: [u8; 32],
    pub(crate) lease: Lease,
    pub(crate) folder: TempDir,
    pub(crate) may_yield: bool,
    pub(crate) disk: Reserved,
    pub(crate) memory: Reserved,
}

impl Stored {
    /// Takes a volume that was read. Its report will call it by its name, and never by its path here.
    pub(crate) fn new(mut input: Input, origin: Origin) -> Arc<Self> {
        input.path = PathBuf::from(&origin.name);
        Arc::new(Self {
            id: Kind::Volume.draw(),
            owner: origin.owner,
            input,
            name: origin.name,
            sha256: origin.sha256,
            content: origin.content,
            gone: CancelToken::default(),
            lease: origin.lease,
            folder: origin.folder,
            may_yield: origin.may_yield,
            bytes: origin.disk.bytes(),
            disk: Mutex::new(origin.disk),
            copying: Arc::default(),
            _memory: origin.memory,
        })
    }

    /// A folder that is removed with it.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Stops what is done with it, and removes its files at once, whoever else still holds it.
    pub(crate) fn wipe(&self) {
        self.gone.cancel();
        let _ = std::fs::remove_dir_all(self.folder.path());
    }

    /// Of the upload.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Counts bytes of a file that was added to its folder. Whether there was room for it.
    #[must_use]
    pub(crate) fn add_bytes(&self, bytes: u64) -> bool {
        lock(&self.disk).grow(bytes)
    }

    pub(crate) fn reply(&self) -> VolumeReply {
        let input = &self.input;
        let geometry = input.volume.geometry();
        let range = input.range;
        VolumeReply {
            id: self.id.to_string(),
            name: self.name.clone(),
            kind: input.kind.as_str().to_string(),
            shape: ijk(geometry.shape()),
            spacing_mm: geometry.spacing_mm().map(ijk),
            orientation: geometry.orientation().map(|o| o.to_string()),
            intensity_range: range.map(|(low, high)| [low, high]),
            intensity_verdict: range
                .map(|(low, high)| IntensityRange::of(low, high).as_str().to_string()),
            is_hu: is_hu(range),
            series: input.series.as_ref().map(|series| SeriesChoice {
                number: series.number,
                of: series.of,
                id: series.id.clone(),
            }),
            warnings: input.warnings.iter().map(WarningReply::from).collect(),
            bytes: self.bytes(),
            sha256: self.sha256.clone(),
            created: self.lease.created,
            expires: self.lease.expires(),
        }
    }
}

/// Bytes of the voxels as they are kept.
pub(crate) fn bytes_of(input: &Input) -> u64 {
    let voxels = input.volume.voxels();
    let each = match voxels {
        Voxels::I16 { .. } => 2,
        Voxels::F32(_) => 4,
    };
    each * voxels.len() as u64
}

/// How an upload is to be read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reading {
    pub(crate) series: Option<String>,
    pub(crate) frame: Option<usize>,
    /// (i, j, k).
    pub(crate) spacing_mm: Option<[f64; 3]>,
}

impl Reading {
    fn options(&self, max_bytes: u64) -> ReadOptions {
        let mut options = ReadOptions::default().with_max_bytes(max_bytes);
        options.series = self.series.clone();
        options.frame = self.frame;
        options.spacing_mm = self.spacing_mm.map(ijk);
        options
    }

    /// Reads a file or a folder of slices; blocks.
    pub(crate) fn read(&self, path: &Path, max_bytes: u64) -> Result<Input, Error> {
        Ok(Input::read(path, &self.options(max_bytes))?)
    }
}

/// A name for people, from what a client calls a file: no folder, nothing that a terminal obeys.
pub(crate) fn display_name(given: Option<&str>) -> String {
    const LONGEST: usize = 128;
    let name = given.unwrap_or_default().rsplit(['/', '\\']).next().unwrap_or_default();
    let is_shown = |c: &char| {
        !c.is_control()
            && !matches!(c, '\u{200e}'..='\u{202f}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let name: String = name.chars().filter(is_shown).take(LONGEST).collect();
    match name.trim() {
        "" | "." | ".." => "volume".to_string(),
        name => name.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_no_folder_and_nothing_that_a_terminal_obeys() {
        for (given, name) in [
            (Some("ct.nii.gz"), "ct.nii.gz"),
            (Some("../../etc/passwd"), "passwd"),
            (Some("C:\\scans\\ct.nii"), "ct.nii"),
            (Some("a\u{1b}[31mb\n\u{202e}c"), "a[31mbc"),
            (Some(".."), "volume"),
            (Some("x/"), "volume"),
            (None, "volume"),
        ] {
            assert_eq!(display_name(given), name);
        }
        assert_eq!(display_name(Some(&"\u{fc}".repeat(500))).chars().count(), 128);
    }
}
