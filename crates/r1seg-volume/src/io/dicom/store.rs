//! Where the bytes of a series are: a folder, one file, a zip archive, or memory.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use super::fault::DicomFault;
use super::header::MOST_SLICES;
use crate::error::Detail;
use crate::{Error, ReadOptions};

/// Folders inside folders.
const DEEPEST: usize = 32;
/// Deflate cannot shrink data further than this (zlib technical details: 1032:1).
const DEFLATE_LIMIT: u64 = 1032;

/// Files that may be DICOM.
pub(super) struct Store {
    /// What the caller named.
    pub(super) path: PathBuf,
    folder: bool,
    files: Files,
}

enum Files {
    Paths(Vec<PathBuf>),
    Members(ZipArchive<LazyFile>, Vec<usize>),
    Memory(Vec<u8>),
}

impl Store {
    pub(super) fn len(&self) -> usize {
        match &self.files {
            Files::Paths(paths) => paths.len(),
            Files::Members(_, members) => members.len(),
            Files::Memory(_) => 1,
        }
    }

    /// The name of file `n` for an error; a member of an archive goes by its number.
    pub(super) fn name(&self, n: usize) -> PathBuf {
        match &self.files {
            Files::Paths(paths) => paths.get(n).unwrap_or(&self.path).clone(),
            Files::Members(_, members) => {
                let mut name = self.path.clone().into_os_string();
                name.push(format!("#{}", members.get(n).unwrap_or(&n)));
                name.into()
            }
            Files::Memory(_) => self.path.clone(),
        }
    }

    /// The name of file `n` within what the caller named.
    pub(super) fn short_name(&self, n: usize) -> String {
        let name = self.name(n);
        let short = name.strip_prefix(&self.path).ok().filter(|rest| !rest.as_os_str().is_empty());
        short.or(name.file_name().map(Path::new)).unwrap_or(&name).display().to_string()
    }

    /// Whether the name of file `n` says that it is DICOM.
    pub(super) fn is_named_dicom(&self, n: usize) -> bool {
        let Files::Paths(paths) = &self.files else { return false };
        let extension = paths.get(n).and_then(|path| path.extension());
        extension.is_some_and(|extension| extension.eq_ignore_ascii_case("dcm"))
    }

    /// Whether files end in a checksum, which reading to their end verifies.
    pub(super) fn has_checksums(&self) -> bool {
        matches!(self.files, Files::Members(..))
    }

    /// Opens file `n` for `read`.
    pub(super) fn with<T>(
        &self,
        n: usize,
        read: impl FnOnce(Box<dyn Read + '_>) -> T,
    ) -> Result<T, Error> {
        match &self.files {
            Files::Paths(paths) => {
                let path = paths.get(n).unwrap_or(&self.path);
                let file = File::open(path).map_err(|source| {
                    Error::from(Detail::Unreadable { path: path.clone(), source })
                })?;
                Ok(read(Box::new(BufReader::with_capacity(1 << 16, file))))
            }
            Files::Members(archive, members) => {
                let mut archive = archive.clone();
                let number = members.get(n).copied().unwrap_or(usize::MAX);
                let member = archive.by_index(number).map_err(|e| self.fault(zip_fault(&e)))?;
                // One byte more than claimed: reading to the end checks the checksum.
                let most = member.size().saturating_add(1);
                Ok(read(Box::new(BufReader::new(member.take(most)))))
            }
            Files::Memory(bytes) => Ok(read(Box::new(Cursor::new(bytes)))),
        }
    }

    /// The error of a store without a DICOM image.
    pub(super) fn no_image(&self) -> Error {
        match &self.files {
            Files::Paths(paths) if self.folder => {
                Error::from(Detail::Directory { path: self.path.clone(), files: paths.len() })
            }
            _ => self.fault(DicomFault::NoImage { files: self.len() }),
        }
    }

    fn fault(&self, fault: DicomFault) -> Error {
        Error::from(Detail::Dicom { path: self.path.clone(), fault })
    }

    pub(super) fn memory(path: PathBuf, bytes: Vec<u8>) -> Self {
        Self { path, folder: false, files: Files::Memory(bytes) }
    }

    pub(super) fn file(path: &Path) -> Self {
        Self { path: path.to_owned(), folder: false, files: Files::Paths(vec![path.to_owned()]) }
    }

    /// Every regular file below `folder` but hidden ones, in the order of their paths.
    pub(super) fn folder(folder: &Path) -> Result<Self, Error> {
        let unreadable =
            |path: &Path, source| Error::from(Detail::Unreadable { path: path.to_owned(), source });
        let mut seen = HashSet::new();
        let mut todo = vec![(folder.to_owned(), 0)];
        let mut paths = Vec::new();
        while let Some((folder, depth)) = todo.pop() {
            // A link may lead back to where it lies.
            let real = fs::canonicalize(&folder).map_err(|e| unreadable(&folder, e))?;
            if DEEPEST < depth || !seen.insert(real) {
                continue;
            }
            for entry in fs::read_dir(&folder).map_err(|e| unreadable(&folder, e))? {
                let path = entry.map_err(|e| unreadable(&folder, e))?.path();
                let hidden =
                    path.file_name().is_none_or(|n| n.as_encoded_bytes().starts_with(b"."));
                // A broken link is no file; opening a pipe would wait for a writer.
                let Ok(metadata) = fs::metadata(&path) else { continue };
                if hidden {
                    continue;
                } else if metadata.is_dir() {
                    todo.push((path, depth + 1));
                } else if metadata.is_file() {
                    paths.push(path);
                }
                if MOST_SLICES < paths.len() + todo.len() {
                    let (count, most) = ((paths.len() + todo.len()) as u64, MOST_SLICES as u64);
                    let fault = DicomFault::TooMany { what: "files in the folder", count, most };
                    return Err(Detail::Dicom { path: folder, fault }.into());
                }
            }
        }
        paths.sort();
        Ok(Self { path: folder.to_owned(), folder: true, files: Files::Paths(paths) })
    }

    /// The members of a zip archive. Their names are looked at, and never used as paths.
    pub(super) fn archive(path: &Path, options: &ReadOptions) -> Result<Self, Error> {
        let fault = |fault| Error::from(Detail::Dicom { path: path.to_owned(), fault });
        let mut archive = ZipArchive::new(LazyFile::new(path)).map_err(|e| fault(zip_fault(&e)))?;
        if MOST_SLICES < archive.len() {
            let (count, most) = (archive.len() as u64, MOST_SLICES as u64);
            return Err(fault(DicomFault::TooMany { what: "members of the archive", count, most }));
        }
        let (mut members, mut bytes) = (Vec::new(), 0_u64);
        for n in 0..archive.len() {
            let member = archive.by_index_raw(n).map_err(|e| fault(zip_fault(&e)))?;
            let name = member.name_raw();
            let base = name.rsplit(|b| b"/\\".contains(b)).next().unwrap_or_default();
            if member.is_dir() || base.starts_with(b".") || name.starts_with(b"__MACOSX/") {
                continue;
            }
            if member.encrypted() {
                return Err(fault(DicomFault::Zip("a member is encrypted")));
            }
            if !matches!(
                member.compression(),
                CompressionMethod::Stored | CompressionMethod::Deflated
            ) {
                return Err(fault(DicomFault::Zip("it uses a compression that is not supported")));
            }
            let (size, packed) = (member.size(), member.compressed_size());
            if packed.saturating_mul(DEFLATE_LIMIT).saturating_add(64) < size {
                return Err(fault(DicomFault::Zip("a member claims more than it can inflate to")));
            }
            bytes = bytes.saturating_add(size);
            members.push(n);
        }
        if options.max_bytes < bytes {
            let (what, most) = ("bytes in the archive, inflated", options.max_bytes);
            return Err(fault(DicomFault::TooMany { what, count: bytes, most }));
        }
        Ok(Self { path: path.to_owned(), folder: false, files: Files::Members(archive, members) })
    }
}

/// What is wrong with an archive, without the text of its headers.
fn zip_fault(error: &ZipError) -> DicomFault {
    DicomFault::Zip(match error {
        ZipError::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof => "it ends early",
        ZipError::Io(e) if e.kind() != io::ErrorKind::InvalidData => {
            return DicomFault::Storage(e.kind());
        }
        ZipError::UnsupportedArchive(_) => "it uses a compression or feature that is not supported",
        _ => "its directory is broken",
    })
}

/// A file that is opened when it is first read, so that every thread can have its own.
struct LazyFile {
    path: PathBuf,
    file: Option<File>,
}

impl LazyFile {
    fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), file: None }
    }

    fn get(&mut self) -> io::Result<&mut File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => File::open(&self.path)?,
        };
        Ok(self.file.insert(file))
    }
}

impl Clone for LazyFile {
    fn clone(&self) -> Self {
        Self::new(&self.path)
    }
}

impl Read for LazyFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.get()?.read(buffer)
    }
}

impl Seek for LazyFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.get()?.seek(to)
    }
}
