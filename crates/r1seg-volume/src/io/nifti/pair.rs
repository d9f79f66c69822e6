//! The two files of a `.hdr`/`.img` pair, either of them compressed or not.

use std::path::{Path, PathBuf};

use crate::Error;
use crate::error::Detail;
use crate::io::open_file;
use crate::io::source::Source;

/// The header that goes with an image file, if `path` is named like one and there is one.
pub(in crate::io) fn header_of(path: &Path) -> Option<PathBuf> {
    is(path, "img").then(|| other_half(path, "hdr")).into_iter().flatten().find(|p| p.is_file())
}

/// The error of an image file that no header was found for, if `path` is named like one.
pub(in crate::io) fn without_header(path: &Path) -> Option<Error> {
    is(path, "img").then(|| missing(path, "hdr"))
}

/// The image file that goes with the header `source`.
pub(super) fn image_of(source: &Source<'_>) -> Result<Source<'static>, Error> {
    let header = source.path();
    if !source.is_file() {
        return Err(Detail::NiftiPair { path: header }.into());
    }
    for path in other_half(&header, "img") {
        let (file, length) = match open_file(&path, &path) {
            Err(error) if error.is_not_found() => continue,
            opened => opened?,
        };
        return match is_gz(&path) {
            true => Source::new(file, &path, Some(length)),
            false => Ok(Source::plain(file, &path, Some(length))),
        };
    }
    Err(missing(&header, "img"))
}

fn missing(path: &Path, other: &str) -> Error {
    let [partner, _] = other_half(path, other);
    let partner = partner.file_name().unwrap_or_default().into();
    Error::from(Detail::NiftiMissingHalf { path: path.to_owned(), partner })
}

fn is_gz(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gz"))
}

/// The path without `.gz`.
fn plain(path: &Path) -> PathBuf {
    if is_gz(path) { path.with_extension("") } else { path.to_owned() }
}

fn is(path: &Path, extension: &str) -> bool {
    plain(path).extension().is_some_and(|e| e.eq_ignore_ascii_case(extension))
}

/// The names that the other half can have: as compressed as this one first, in its letter case.
fn other_half(path: &Path, extension: &str) -> [PathBuf; 2] {
    let path_plain = plain(path);
    let upper = path_plain
        .extension()
        .is_some_and(|e| e.to_string_lossy().chars().all(|c| c.is_ascii_uppercase()));
    let case = |text: &str| if upper { text.to_ascii_uppercase() } else { text.to_owned() };
    let other = path_plain.with_extension(case(extension));
    let packed = path_plain.with_extension(case(&format!("{extension}.gz")));
    if is_gz(path) { [packed, other] } else { [other, packed] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_half_has_the_name_with_the_other_extension() {
        for (path, extension, first, second) in [
            ("a/ct.1.hdr", "img", "a/ct.1.img", "a/ct.1.img.gz"),
            ("ct.hdr.gz", "img", "ct.img.gz", "ct.img"),
            ("CT.HDR", "img", "CT.IMG", "CT.IMG.GZ"),
            ("ct.img.gz", "hdr", "ct.hdr.gz", "ct.hdr"),
        ] {
            assert_eq!(other_half(Path::new(path), extension), [first, second].map(PathBuf::from));
        }
        assert!(is(Path::new("x.img.gz"), "img") && !is(Path::new("img"), "img"));
    }
}
