//! The volume that a run is about, and the hash of the bytes that it came from.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use r1seg::files::{HashingStream, sha256_of_file};
use r1seg::volume::{
    ChosenSeries, Loaded, ReadOptions, SourceKind, Volume, Warning, intensity, read, read_from,
};

/// A volume that was read, and where from.
#[derive(Debug)]
pub struct Input {
    /// As given.
    pub path: PathBuf,
    /// The volume.
    pub volume: Volume,
    /// What is odd about it.
    pub warnings: Vec<Warning>,
    /// The format of the file.
    pub kind: SourceKind,
    /// Which DICOM series it is.
    pub series: Option<ChosenSeries>,
    /// Smallest and largest intensity; `None` if no voxel is finite.
    pub range: Option<(f32, f32)>,
    /// How long reading took.
    pub io: Duration,
    hash: Hash,
}

/// A hash that may be computed while the model works.
#[derive(Debug, Default)]
struct Hash {
    known: OnceLock<Option<String>>,
    running: Mutex<Option<JoinHandle<Option<String>>>>,
}

impl Input {
    /// Reads a file or a folder. A thread of its own hashes the file meanwhile.
    ///
    /// # Errors
    /// When the volume cannot be read or is refused.
    pub fn read(path: &Path, options: &ReadOptions) -> Result<Self, r1seg::volume::Error> {
        let start = Instant::now();
        let _span = tracing::info_span!("read").entered();
        let loaded = read(path, options)?;
        let hash = Hash::default();
        if is_whole(path) {
            let path = path.to_path_buf();
            let thread = std::thread::spawn(move || sha256_of_file(&path).ok());
            *hash.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        }
        Ok(Self::new(path, loaded, hash, start))
    }

    /// Reads a stream, which the report calls `path`, and errors call `name`.
    ///
    /// # Errors
    /// When the volume cannot be read or is refused.
    pub fn read_stream(
        stream: impl Read,
        (path, name): (&Path, &'static str),
        options: &ReadOptions,
    ) -> Result<Self, r1seg::volume::Error> {
        let start = Instant::now();
        let _span = tracing::info_span!("read").entered();
        let mut stream = HashingStream::new(stream);
        let loaded = read_from(&mut stream, name, options)?;
        let known = OnceLock::from(stream.finish(options.max_bytes).ok().flatten());
        Ok(Self::new(path, loaded, Hash { known, ..Hash::default() }, start))
    }

    fn new(path: &Path, loaded: Loaded, hash: Hash, start: Instant) -> Self {
        let io = start.elapsed();
        Self {
            path: path.to_path_buf(),
            range: intensity::min_max(loaded.volume.voxels()),
            kind: loaded.kind,
            series: loaded.series,
            volume: loaded.volume,
            warnings: loaded.warnings,
            io,
            hash,
        }
    }

    /// The SHA-256 of the file's or stream's bytes, in lower-case hexadecimal; `None` for what is more
    /// than one file. Waits for the thread that computes it.
    pub fn sha256(&self) -> Option<String> {
        let hash = self.hash.known.get_or_init(|| {
            let mut running = self.hash.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.take().and_then(|thread| thread.join().ok().flatten())
        });
        hash.clone()
    }

    /// As it was read.
    pub fn loaded(&self) -> Loaded {
        let mut loaded = Loaded::new(self.volume.clone(), self.kind);
        loaded.warnings.clone_from(&self.warnings);
        loaded.series.clone_from(&self.series);
        loaded
    }

    /// Whether it is an array in a file of numpy.
    pub fn is_array(&self) -> bool {
        matches!(self.kind, SourceKind::Npy | SourceKind::Npz)
    }

    pub(crate) fn has_affine(&self) -> bool {
        self.volume.geometry().affine().is_some()
    }
}

/// Whether all voxels are in the one file: not so in a folder, nor where a header has its voxels
/// beside it.
pub fn is_whole(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    !path.is_dir() && ![".hdr", ".img", ".nhdr"].iter().any(|e| name.ends_with(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_without_its_voxels_is_not_the_whole() {
        for (name, whole) in
            [("ct.nii.gz", true), ("ct.HDR", false), ("ct.img.gz", false), ("ct.nhdr", false)]
        {
            assert_eq!(is_whole(Path::new(name)), whole, "{name}");
        }
        assert!(!is_whole(&std::env::temp_dir()));
    }
}
