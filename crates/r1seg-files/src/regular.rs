//! Regular files, read within limits.

use std::fs::{File, FileType};
use std::io::{self, Read};
use std::path::Path;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is something else that has a name.
    #[error("is a {kind}, not a regular file")]
    NotRegular {
        /// What it is.
        kind: &'static str,
    },
    /// It holds more than the caller wants.
    #[error("is longer than {limit} bytes")]
    TooLong {
        /// The most bytes that are read.
        limit: u64,
    },
    /// It is JSON in another encoding than UTF-8.
    #[error("is UTF-16 text, and JSON files are UTF-8")]
    Utf16,
    /// The error of the operating system.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Error {
    /// Whether there is no such file.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io(e) if e.kind() == io::ErrorKind::NotFound)
    }
}

/// Opens a file for reading if it is a regular one; symbolic links are followed.
///
/// # Errors
/// [`Error::NotRegular`] for folders, pipes, sockets and devices, none of which is waited for;
/// [`Error::Io`].
pub fn open_regular(path: &Path) -> Result<File, Error> {
    // Asked before opening, since opening a device can have effects.
    require_regular(std::fs::metadata(path)?.file_type())?;
    let mut options = File::options();
    options.read(true);
    // Another file may have taken the name since: a pipe would be waited for.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        &mut options,
        rustix::fs::OFlags::NONBLOCK.bits().cast_signed(),
    );
    let file = options.open(path)?;
    require_regular(file.metadata()?.file_type())?;
    Ok(file)
}

/// All bytes of a regular file, if it has no more than `limit` of them.
///
/// The bytes are counted as they are read: the length that metadata tells can be outdated or zero.
///
/// # Errors
/// As [`open_regular`], and [`Error::TooLong`].
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    open_regular(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(Error::TooLong { limit });
    }
    Ok(bytes)
}

/// Whether a regular file begins with these bytes, `skip` bytes after its start.
#[must_use]
pub fn begins_with(path: &Path, skip: usize, magic: &[u8]) -> bool {
    let mut start = vec![0; skip.saturating_add(magic.len())];
    let read = open_regular(path).ok().map(|mut file| file.read_exact(&mut start));
    matches!(read, Some(Ok(()))) && &start[skip..] == magic
}

/// [`read`] for a JSON file, without the mark that [`utf8_json`] takes off.
///
/// # Errors
/// As [`read`] and [`utf8_json`].
pub fn read_utf8_json(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = read(path, limit)?;
    let mark = bytes.len() - utf8_json(&bytes)?.len();
    bytes.drain(..mark);
    Ok(bytes)
}

/// The text of a JSON file without the byte order mark that some editors put in front of it.
///
/// # Errors
/// [`Error::Utf16`]; other encodings are left to the JSON parser.
pub fn utf8_json(bytes: &[u8]) -> Result<&[u8], Error> {
    match bytes {
        [0xef, 0xbb, 0xbf, text @ ..] => Ok(text),
        // A mark of either order, or the first character with its zero byte.
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, b'{' | b'[', ..] | [b'{' | b'[', 0, ..] => {
            Err(Error::Utf16)
        }
        text => Ok(text),
    }
}

fn require_regular(file_type: FileType) -> Result<(), Error> {
    if file_type.is_file() { Ok(()) } else { Err(Error::NotRegular { kind: kind(file_type) }) }
}

fn kind(file_type: FileType) -> &'static str {
    if file_type.is_dir() {
        return "folder";
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if file_type.is_fifo() {
            return "named pipe";
        }
        if file_type.is_socket() {
            return "socket";
        }
    }
    "device"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_limit_and_no_further() {
        let desk = tempfile::tempdir().unwrap();
        let path = desk.path().join("x.json");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert_eq!(read_utf8_json(&path, 5).unwrap(), b"12345");
        assert!(matches!(read(&path, 4), Err(Error::TooLong { limit: 4 })));
        assert!(read(&desk.path().join("y"), 4).unwrap_err().is_not_found());
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_only_to_regular_files() {
        let desk = tempfile::tempdir().unwrap();
        let (file, link) = (desk.path().join("file"), desk.path().join("link"));
        std::fs::write(&file, "1").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(read(&link, 9).unwrap(), b"1");
        let zero = desk.path().join("zero");
        std::os::unix::fs::symlink("/dev/zero", &zero).unwrap();
        for (path, kind) in [(zero.as_path(), "device"), (desk.path(), "folder")] {
            let error = read(path, 9).unwrap_err();
            assert_eq!(error.to_string(), format!("is a {kind}, not a regular file"));
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_pipe_that_nobody_writes_to_is_not_waited_for() {
        let desk = tempfile::tempdir().unwrap();
        let pipe = desk.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let error = read(&pipe, 9).unwrap_err();
        assert_eq!(error.to_string(), "is a named pipe, not a regular file");
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_json_and_utf_16_is_named() {
        let desk = tempfile::tempdir().unwrap();
        std::fs::write(desk.path().join("x"), b"\xef\xbb\xbf{}").unwrap();
        assert_eq!(read_utf8_json(&desk.path().join("x"), 9).unwrap(), b"{}");
        assert_eq!(utf8_json(b"\xef\xbb\xbf{}").unwrap(), b"{}");
        assert_eq!(utf8_json(b"{}").unwrap(), b"{}");
        assert_eq!(utf8_json(b"").unwrap(), b"");
        for utf_16 in [&b"\xff\xfe{\0}\0"[..], b"\xfe\xff\0{\0}", b"{\0}\0", b"\0{\0}"] {
            assert!(matches!(utf8_json(utf_16), Err(Error::Utf16)), "{utf_16:?}");
        }
    }
}
