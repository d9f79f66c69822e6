//! The volume that a run is about, and the hash of the bytes that it came from.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use r1seg::volume::{
    ChosenSeries, Loaded, ReadOptions, SourceKind, Volume, Warning, intensity, read, read_from,
};
use sha2::{Digest, Sha256};

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
            let thread = std::thread::spawn(move || hash_file(&path).ok());
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
        let mut stream = Hashing { inner: stream, hash: Sha256::new() };
        let loaded = read_from(&mut stream, name, options)?;
        let known = OnceLock::from(stream.finish(options.max_bytes));
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

/// The SHA-256 of a file's bytes, in lower-case hexadecimal.
///
/// # Errors
/// Those of reading.
pub fn hash_file(path: &Path) -> io::Result<String> {
    let mut file = Hashing { inner: File::open(path)?, hash: Sha256::new() };
    let mut buffer = vec![0; 1 << 18];
    while file.read(&mut buffer)? != 0 {}
    Ok(hex(file.hash))
}

pub(crate) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Hashes what is read through it.
struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if let Some(bytes) = buffer.get(..count) {
            self.hash.update(bytes);
        }
        Ok(count)
    }
}

impl<R: Read> Hashing<R> {
    /// The hash of the whole stream, unless it goes on for long behind the volume.
    fn finish(mut self, most: u64) -> Option<String> {
        let rest = io::copy(&mut (&mut self).take(most), &mut io::sink()).ok()?;
        (rest < most).then(|| hex(self.hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `sha256sum` of `abc`.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_file_and_a_stream_of_equal_bytes_have_equal_hashes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(hash_file(&path).unwrap(), ABC);
        let mut stream = Hashing { inner: &b"abc"[..], hash: Sha256::new() };
        // A reader need not look at all of it.
        assert_eq!(stream.read(&mut [0; 2]).unwrap(), 2);
        assert_eq!(stream.finish(10), Some(ABC.to_string()));
    }

    #[test]
    fn an_endless_stream_has_no_hash() {
        let stream = Hashing { inner: io::repeat(0), hash: Sha256::new() };
        assert_eq!(stream.finish(1 << 16), None);
    }

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
