//! Arrays of `numpy.savez` and `numpy.savez_compressed`: a zip archive with one `.npy` a member.

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek};
use std::path::Path;

use zip::ZipReadOptions;
use zip::read::{Config, ZipFileEntry};
use zip::unstable::read::ZipIterable;

use super::source::Source;
use super::{Loaded, ReadOptions, SourceKind, npy};
use crate::Error;

pub(super) const MAGIC: &[u8] = b"PK\x03\x04";
const EXTENSION: &str = ".npy";
/// Most members that are looked at; `numpy.savez` of a data set has a handful.
const MAX_MEMBERS: usize = 4096;
/// Most names in a message, and most characters of one.
const LISTED: usize = 8;
const LISTED_NAME: usize = 32;

/// Reads the array that the options choose from `source`, which begins with [`MAGIC`]; `None` if the
/// archive holds no array, but something else.
pub(super) fn read(mut source: Source<'_>, options: &ReadOptions) -> Result<Option<Loaded>, Error> {
    let path = source.path();
    source.set_kind(SourceKind::Npz);
    if source.left().is_some() {
        let unreadable = |source| Error::Unreadable { path: path.clone(), source };
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
    let fault = |_| Error::NpzArchive { path: path.to_owned() };
    // Unlike `ZipArchive`, this keeps no list of members, whose number is the file's claim.
    let mut archive = ZipIterable::try_new(reader, Config::default()).map_err(fault)?;

    let mut names = Vec::new();
    for member in archive.files().map_err(fault)?.take(MAX_MEMBERS) {
        names.extend(array_name(&member.map_err(fault)?));
    }
    if names.is_empty() {
        return Ok(None);
    }
    let key = match (&options.key, names.as_slice()) {
        (Some(key), names) if names.contains(key) => key,
        (None, [name]) => name,
        (key, names) => {
            let (asked, count, names) = (key.is_some(), names.len(), list(names));
            return Err(Error::NpzKey { path: path.to_owned(), asked, count, names });
        }
    };

    let members = archive.files().map_err(fault)?;
    let chosen = |member: &ZipFileEntry<'_>| array_name(member).as_ref() == Some(key);
    let member = members.take(MAX_MEMBERS).flatten().find(chosen);
    let member = member.ok_or(Error::NpzArchive { path: path.to_owned() })?;
    let plain = ZipReadOptions::default();
    let member = member.with_reader(members.reader_mut(), plain).map_err(fault)?;
    let mut array = Source::inflated(member, path);
    if !array.peek(npy::MAGIC.len())?.starts_with(npy::MAGIC) {
        let reason = "it does not start as numpy's arrays do";
        return Err(Error::NpyHeader { path: path.to_owned(), reason });
    }
    npy::read(array, SourceKind::Npz, options).map(Some)
}

/// The name that numpy gives to an array of the archive.
fn array_name(member: &ZipFileEntry<'_>) -> Option<String> {
    let name = member.name().ok()?;
    name.strip_suffix(EXTENSION).map(str::to_owned)
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
