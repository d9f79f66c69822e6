//! Arrays of `numpy.savez` and `numpy.savez_compressed`: a zip archive with one `.npy` a member.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use zip::ZipArchive;

use super::source::Source;
use super::{Loaded, ReadOptions, SourceKind, npy};
use crate::Error;
use crate::error::Detail;

pub(super) const MAGIC: &[u8] = b"PK\x03\x04";
const EXTENSION: &str = ".npy";
/// Most members that are looked at; `numpy.savez` of a data set has a handful.
const MAX_MEMBERS: usize = 4096;
/// Most bytes that are read of the list of members, all of which is kept: 256 for each member.
const MAX_LIST: u64 = 256 * MAX_MEMBERS as u64;
/// Most names in a message, and most characters of one.
const LISTED: usize = 8;
const LISTED_NAME: usize = 32;

/// Reads the array that the options choose from `source`, which begins with [`MAGIC`]; `None` if the
/// archive holds no array, but something else.
pub(super) fn read(mut source: Source<'_>, options: &ReadOptions) -> Result<Option<Loaded>, Error> {
    let path = source.path();
    source.set_kind(SourceKind::Npz);
    if source.left().is_some() {
        let unreadable = |source| Error::from(Detail::Unreadable { path: path.clone(), source });
        return read_zip(BufReader::new(File::open(&path).map_err(unreadable)?), &path, options);
    }
    // The list of members is at the end, so that a stream has to be kept.
    read_zip(Cursor::new(source.all(options.max_bytes)?), &path, options)
}

fn read_zip(
    reader: impl Read + Seek,
    path: &Path,
    options: &ReadOptions,
) -> Result<Option<Loaded>, Error> {
    let fault = |_| Error::from(Detail::NpzArchive { path: path.to_owned() });
    let left = Cell::new(MAX_LIST);
    let mut archive = ZipArchive::new(Bounded { inner: reader, left: &left }).map_err(fault)?;
    left.set(u64::MAX);

    let mut names = Vec::new();
    for name in archive.file_names().take(MAX_MEMBERS) {
        names.extend(name.map_err(fault)?.strip_suffix(EXTENSION).map(str::to_owned));
    }
    if names.is_empty() {
        return Ok(None);
    }
    let key = match (&options.key, names.as_slice()) {
        (Some(key), names) if names.contains(key) => key,
        (None, [name]) => name,
        (key, names) => {
            let (asked, count, names) = (key.is_some(), names.len(), list(names));
            return Err(Detail::NpzKey { path: path.to_owned(), asked, count, names }.into());
        }
    };

    let member = archive.by_name(&format!("{key}{EXTENSION}")).map_err(fault)?;
    let mut array = Source::inflated(member, path);
    if !array.peek(npy::MAGIC.len())?.starts_with(npy::MAGIC) {
        let reason = "it does not start as numpy's arrays do";
        return Err(Detail::NpyHeader { path: path.to_owned(), reason }.into());
    }
    npy::read(array, SourceKind::Npz, options).map(Some)
}

/// A reader that gives no more bytes than are `left`, so that a list built of them has an end.
struct Bounded<'a, R> {
    inner: R,
    left: &'a Cell<u64>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let read = self.inner.read(&mut buffer[..most])?;
        self.left.set(left - read as u64);
        Ok(read)
    }
}

impl<R: Seek> Seek for Bounded<'_, R> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.inner.seek(position)
    }
}

/// Names that a program gave to its variables, in short and plain.
fn list(names: &[String]) -> String {
    let plain = |name: &String| {
        name.chars()
            .map(|c| if c.is_ascii_graphic() { c } else { '?' })
            .take(LISTED_NAME)
            .collect::<String>()
    };
    let mut text = names.iter().take(LISTED).map(plain).collect::<Vec<_>>().join(", ");
    if LISTED < names.len() {
        text.push_str(", ...");
    }
    text
}
