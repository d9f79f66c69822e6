//! Names of folders and files: after the image, and with numbers.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::Error;

/// The longest report of an earlier run that is read.
const MAX_REPORT_BYTES: u64 = 64 << 20;

/// Endings that do not belong to the name of a study.
const ENDINGS: [&str; 15] = [
    ".seg.nrrd",
    ".nii.gz",
    ".npy.gz",
    ".hdr.gz",
    ".img.gz",
    ".nii",
    ".npy",
    ".npz",
    ".nrrd",
    ".nhdr",
    ".hdr",
    ".img",
    ".dcm",
    ".zip",
    ".gz",
];

/// `mask_2.nii.gz` for `mask.nii.gz`.
pub(super) fn numbered(path: &Path, number: usize) -> PathBuf {
    let (mut name, ending) = split(path.file_name().unwrap_or_default());
    name.push(format!("_{number}{ending}"));
    path.with_file_name(name)
}

/// The numbered masks that a report of an earlier run in the same folder lists.
pub(super) fn numbered_masks(report: &Path) -> impl Iterator<Item = String> {
    let bytes = r1seg::files::read(report, MAX_REPORT_BYTES).ok();
    let report: Option<serde_json::Value> = bytes.and_then(|b| serde_json::from_slice(&b).ok());
    let masks = report.and_then(|r| r["masks"].as_array().cloned()).unwrap_or_default();
    let names = masks.into_iter().filter_map(|m| m["path"].as_str().map(str::to_string));
    names.flat_map(|name| {
        let (stem, _) = split(OsStr::new(&name));
        let number = stem.to_str().and_then(|stem| stem.strip_prefix("mask_")?.parse::<u16>().ok());
        let formats = number.map(|n| [".nii.gz", ".npy"].map(|e| format!("mask_{n}{e}")));
        formats.into_iter().flatten()
    })
}

/// A name without its ending, and the ending. A name that is nothing else has none.
fn split(name: &OsStr) -> (OsString, String) {
    let bytes = name.as_encoded_bytes();
    let lower = bytes.to_ascii_lowercase();
    let is_name = !ENDINGS.iter().any(|ending| lower == ending.as_bytes());
    let ending = ENDINGS.iter().find(|e| is_name && lower.ends_with(e.as_bytes()));
    let (stem, ending) = bytes.split_at(bytes.len() - ending.map_or(0, |e| e.len()));
    (os_string(stem), String::from_utf8_lossy(ending).into_owned())
}

/// The bytes of a name, or its start, as a name again.
fn os_string(bytes: &[u8]) -> OsString {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        OsStr::from_bytes(bytes).to_os_string()
    }
    #[cfg(not(unix))]
    String::from_utf8_lossy(bytes).into_owned().into()
}

/// A folder in the current one, named after the image: `ct_0042` for `/data/ct_0042.nii.gz`.
///
/// # Errors
/// [`Error::InsideImage`] where the image is the folder that the current one is in.
pub fn folder_for(image: &Path) -> Result<PathBuf, Error> {
    let (Ok(full), true) = (image.canonicalize(), image.is_dir()) else {
        return Ok(stem(image));
    };
    let here = std::env::current_dir().and_then(|here| here.canonicalize());
    let here = here.map_err(|e| Error::cannot_create(format!("no current folder: {e}"), image))?;
    if here.starts_with(&full) {
        return Err(Error::InsideImage { image: image.to_path_buf() });
    }
    let name = full.file_name().unwrap_or("volume".as_ref()).to_os_string();
    if here.join(&name) == full {
        let mut name = name;
        name.push("-r1seg");
        return Ok(PathBuf::from(name));
    }
    Ok(PathBuf::from(name))
}

/// The name of a study: that of its file without the ending.
pub fn study_name(file: &OsStr) -> OsString {
    split(file).0
}

/// For a file.
fn stem(image: &Path) -> PathBuf {
    let (mut stem, ending) = split(image.file_name().unwrap_or(image.as_os_str()));
    // A folder cannot have the name of the file that it stands beside.
    if ending.is_empty() {
        stem.push("-r1seg");
    }
    PathBuf::from(stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_named_after_the_image() {
        for (image, folder) in [
            ("/data/ct_0042.nii.gz", "ct_0042"),
            ("CT.NII", "CT"),
            ("a.b.npy", "a.b"),
            ("study.zip", "study"),
            ("volume", "volume-r1seg"),
            (".npy", ".npy-r1seg"),
            (".nii.gz", ".nii.gz-r1seg"),
        ] {
            assert_eq!(folder_for(Path::new(image)).unwrap(), Path::new(folder));
        }
    }

    #[cfg(unix)]
    #[test]
    fn the_folder_of_a_name_that_is_no_utf_8_has_the_same_bytes() {
        use std::os::unix::ffi::OsStrExt;
        let image = Path::new(OsStr::from_bytes(b"/data/t\xe9te.NII.gz"));
        assert_eq!(folder_for(image).unwrap().as_os_str().as_bytes(), b"t\xe9te");
    }

    #[test]
    fn results_on_a_folder_go_neither_into_it_nor_under_its_name_beside_it() {
        let desk = tempfile::tempdir().unwrap();
        let series = desk.path().join("series.v1");
        std::fs::create_dir(&series).unwrap();
        assert_eq!(folder_for(&series).unwrap(), Path::new("series.v1"));
        // The folder of this crate, where tests run, and one in it.
        let error = folder_for(Path::new(".")).unwrap_err();
        assert_eq!(error.code(), "R-OUT-06");
        assert_eq!(folder_for(Path::new("src")).unwrap(), Path::new("src-r1seg"));
        assert_eq!(folder_for(Path::new("src/report")).unwrap(), Path::new("report"));
    }

    #[test]
    fn a_number_stands_before_the_ending() {
        for (path, expected) in [
            ("out/mask.nii.gz", "out/mask_2.nii.gz"),
            ("a.b.NPY", "a.b_2.NPY"),
            ("mask.seg.nrrd", "mask_2.seg.nrrd"),
        ] {
            assert_eq!(numbered(Path::new(path), 2), Path::new(expected));
        }
    }

    #[test]
    fn only_numbered_masks_that_a_report_lists_are_stale() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        let names = |text: &str| {
            std::fs::write(&path, text).unwrap();
            numbered_masks(&path).collect::<Vec<_>>()
        };
        let report = r#"{"masks": [{"path": "mask_3.npy"}, {"path": "../mask_4.npy"},
            {"path": "mask_x.npy"}, {"path": "mask.npy"}, {"path": null}]}"#;
        assert_eq!(names(report), ["mask_3.nii.gz", "mask_3.npy"]);
        assert!(names("no report").is_empty());
    }
}
