//! The bytes of a weight file: mapped, read, or part of the program.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use memmap2::Mmap;

use crate::Error;

/// The bytes of a weight file, of which tensors are slices.
pub(crate) struct FileBytes {
    bytes: Bytes,
    map: Option<Arc<Mmap>>,
}

/// What keeps the mapping alive for as long as a slice of it is in use.
struct Owner(Arc<Mmap>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl FileBytes {
    pub(crate) fn embedded(bytes: &'static [u8]) -> Self {
        Self { bytes: Bytes::from_static(bytes), map: None }
    }

    /// Reads a file into memory, for file systems on which a mapped file may vanish.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let (file, length) = open(path)?;
        let mut bytes = Vec::new();
        // No more than was there at first, should the file grow.
        bytes
            .try_reserve_exact(usize::try_from(length).unwrap_or(usize::MAX))
            .map_err(|_| no_memory(path, length))?;
        file.take(length).read_to_end(&mut bytes).map_err(|source| io(path, source))?;
        Ok(Self { bytes: Bytes::from(bytes), map: None })
    }

    #[expect(unsafe_code, reason = "mmap of weight files")]
    pub(crate) fn map(path: &Path) -> Result<Self, Error> {
        let (file, length) = open(path)?;
        // SAFETY: the file is opened read-only and is mapped privately; the documentation of
        // `WeightFiles::open` asks callers not to change a checkpoint while a model uses it.
        let map = unsafe { Mmap::map(&file) }.map_err(|source| match source.kind() {
            ErrorKind::OutOfMemory => no_memory(path, length),
            _ => io(path, source),
        })?;
        let map = Arc::new(map);
        Ok(Self { bytes: Bytes::from_owner(Owner(map.clone())), map: Some(map) })
    }

    pub(crate) fn slice(&self, range: Range<usize>) -> Bytes {
        self.bytes.slice(range)
    }

    /// Brings a range into memory at once: page by page, as the first product touches it, would
    /// be slower.
    pub(crate) fn populate(&self, range: Range<usize>) {
        #[cfg(target_os = "linux")]
        if let Some(map) = &self.map {
            // Where the kernel cannot do it the pages come by themselves.
            let _ = map.advise_range(memmap2::Advice::WillNeed, range.start, range.len());
            let _ = map.advise_range(memmap2::Advice::PopulateRead, range.start, range.len());
        }
        let _ = range;
    }

    /// Drops the pages of a range that was copied, so that a loading process never holds its
    /// weights twice.
    #[cfg(unix)]
    #[expect(unsafe_code, reason = "madvise on the mapped weight files")]
    pub(crate) fn release(&self, range: Range<usize>) {
        if let Some(map) = &self.map {
            // SAFETY: the mapping is a read-only file mapping without private changes, so that
            // dropped pages are read again from the file if they are touched again.
            let advised = unsafe {
                map.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    range.start,
                    range.len(),
                )
            };
            // Failing to drop pages costs memory, not correctness.
            let _ = advised;
        }
    }

    #[cfg(not(unix))]
    pub(crate) fn release(&self, _range: Range<usize>) {}
}

/// A regular file and its length.
fn open(path: &Path) -> Result<(File, u64), Error> {
    let file = r1seg_files::open_regular(path)
        .map_err(|error| Error::unreadable(path.to_path_buf(), error))?;
    let length = file.metadata().map_err(|source| io(path, source))?.len();
    Ok((file, length))
}

fn io(path: &Path, source: std::io::Error) -> Error {
    Error::Read { path: path.to_path_buf(), source }
}

fn no_memory(path: &Path, bytes: u64) -> Error {
    let text = format!("its {bytes} bytes are more than this process may have in memory");
    io(path, std::io::Error::new(ErrorKind::OutOfMemory, text))
}

/// Whether a file lies where another machine can cut it short while it is mapped, which would end
/// the process (`SIGBUS`).
pub(crate) fn on_network_drive(path: &Path) -> bool {
    #[cfg(target_os = "linux")]
    {
        // From linux/magic.h and the file systems' own headers: NFS, SMB, CIFS, SMB2, Lustre,
        // CephFS, AFS, 9P.
        const REMOTE: [u32; 8] = [
            0x6969,
            0x517b,
            0xff53_4d42,
            0xfe53_4d42,
            0x0bd0_0bd0,
            0x00c3_6400,
            0x5346_414f,
            0x0102_1997,
        ];
        let kind = rustix::fs::statfs(path).map(|stat| stat.f_type as u32);
        kind.is_ok_and(|kind| REMOTE.contains(&kind))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = path;
        false
    }
}
