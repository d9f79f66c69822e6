//! The volume that a command is about, and the hash of the bytes that it came from.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use r1seg::volume::{
    ChosenSeries, Loaded, ReadOptions, SourceKind, Volume, Warning, intensity, read, read_from,
};
use sha2::{Digest, Sha256};

/// A volume that was read, and where from.
pub(crate) struct Input {
    /// As given; `-` for standard input.
    pub(crate) path: PathBuf,
    pub(crate) volume: Volume,
    pub(crate) warnings: Vec<Warning>,
    /// Of the file format.
    pub(crate) kind: &'static str,
    /// Which DICOM series it is.
    pub(crate) series: Option<ChosenSeries>,
    /// An array in a file of numpy.
    pub(crate) is_array: bool,
    /// Smallest and largest intensity.
    pub(crate) range: Option<(f32, f32)>,
    /// How long reading took.
    pub(crate) io: Duration,
    hash: Hash,
}

enum Hash {
    Known(Option<String>),
    /// Computed while the model works.
    Running(JoinHandle<Option<String>>),
}

/// Whether the volume comes from standard input.
pub(crate) fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

impl Input {
    /// Reads a file, a folder or standard input.
    pub(crate) fn read(path: &Path, options: &ReadOptions) -> Result<Self> {
        let start = Instant::now();
        let _span = tracing::info_span!("read").entered();
        let (loaded, hash) = if let Some(stream) = stream(path)? {
            let mut stream = Hashing { inner: stream, hash: Sha256::new() };
            let loaded = read_from(&mut stream, stream_name(path), options)?;
            (loaded, Hash::Known(stream.finish(options.max_bytes)))
        } else {
            let loaded = read(path, options)?;
            let hash = if is_whole(path) {
                let path = path.to_path_buf();
                Hash::Running(std::thread::spawn(move || hash_file(&path).ok()))
            } else {
                Hash::Known(None)
            };
            (loaded, hash)
        };
        let io = start.elapsed();
        Ok(Self {
            path: path.to_path_buf(),
            range: intensity::min_max(loaded.volume.voxels()),
            kind: loaded.kind.as_str(),
            series: loaded.series,
            is_array: matches!(loaded.kind, SourceKind::Npy | SourceKind::Npz),
            volume: loaded.volume,
            warnings: loaded.warnings,
            io,
            hash,
        })
    }

    /// The SHA-256 of the file's or stream's bytes; `None` for what is more than one file.
    pub(crate) fn sha256(&mut self) -> Option<String> {
        let hash = match std::mem::replace(&mut self.hash, Hash::Known(None)) {
            Hash::Known(hash) => hash,
            Hash::Running(thread) => thread.join().ok().flatten(),
        };
        self.hash = Hash::Known(hash.clone());
        hash
    }
}

/// Reads a volume from a file, a folder, standard input or a pipe.
pub(crate) fn load(path: &Path, options: &ReadOptions) -> Result<Loaded, r1seg::volume::Error> {
    match stream(path)? {
        Some(stream) => read_from(stream, stream_name(path), options),
        None => read(path, options),
    }
}

/// What can be read once only, from its beginning to its end: standard input, or a pipe that a shell
/// made for this process, as bash does for `<(zcat ct.nii.gz)`.
///
/// A pipe with a name in a folder is not read: it may wait for a writer that never comes.
fn stream(path: &Path) -> Result<Option<Box<dyn Read>>, r1seg::volume::Error> {
    if is_stdin(path) {
        return Ok(Some(Box::new(io::stdin().lock())));
    }
    if !is_own_pipe(path) {
        return Ok(None);
    }
    let unreadable = |source| r1seg::volume::Error::Unreadable { path: path.to_path_buf(), source };
    Ok(Some(Box::new(File::open(path).map_err(unreadable)?)))
}

fn stream_name(path: &Path) -> &'static str {
    if is_stdin(path) { "standard input" } else { "the pipe" }
}

/// Whether `path` is a pipe that this process has open already.
#[cfg(unix)]
pub(crate) fn is_own_pipe(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;

    let is_pipe = || path.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo());
    let is_descriptor = || {
        let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
        let folders = ["/dev/fd", "/proc/self/fd"].map(|own| Path::new(own).canonicalize().ok());
        path == Path::new("/dev/stdin") || folder.is_some() && folders.contains(&folder)
    };
    is_pipe() && is_descriptor()
}

#[cfg(not(unix))]
pub(crate) fn is_own_pipe(_: &Path) -> bool {
    false
}

/// Whether all voxels are in the one file: not so in a folder, nor where a header has its voxels
/// beside it.
pub(crate) fn is_whole(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    !path.is_dir()
        && !is_own_pipe(path)
        && ![".hdr", ".img", ".nhdr"].iter().any(|e| name.ends_with(e))
}

/// The SHA-256 of a file's bytes.
pub(crate) fn hash_file(path: &Path) -> io::Result<String> {
    let mut file = Hashing { inner: File::open(path)?, hash: Sha256::new() };
    let mut buffer = vec![0; 1 << 18];
    while file.read(&mut buffer)? != 0 {}
    Ok(hex(file.hash))
}

fn hex(hash: Sha256) -> String {
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
