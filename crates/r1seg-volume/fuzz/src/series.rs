//! DICOM: several files in one input, one behind the other.

use std::fs;
use std::path::Path;

use libfuzzer_sys::Corpus;
use r1seg_volume::{Remedy, list_series, read, read_from};

use crate::{Lot, check_alike, check_error, check_text, options, use_volume};

/// Length of what comes before the mark of a DICOM file.
const PREAMBLE: usize = 128;
const MARK: &[u8] = b"DICM";

/// Lets panics unwind: a codec that panics is contained by the reader. To be called once.
pub fn let_codecs_panic() {
    // libFuzzer's own hook ends the process; a panic that is not contained still does.
    drop(std::panic::take_hook());
}

/// Reads `bytes` as the files of a folder, as one file or as a zip archive, and uses what comes out.
pub fn read_and_use_series(bytes: &[u8]) -> Corpus {
    let lot = Lot::of(bytes);
    let files = files(bytes);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = match files.as_slice() {
        [_] => folder.path().join("0"),
        _ => folder.path().to_owned(),
    };
    for (n, file) in files.iter().enumerate() {
        fs::write(folder.path().join(n.to_string()), file).expect("a written file");
    }
    if lot.is_nth_of(1, 4) {
        check_list(&path);
    }
    let mut options = options();
    // Each fault that an option allows hides those behind it.
    for _ in 0..4 {
        let loaded = read(&path, &options);
        if files.len() == 1 && !bytes.starts_with(b"PK") && lot.is_nth_of(2, 4) {
            check_alike(&read_from(bytes, "volume", &options), &loaded);
        }
        let error = match loaded {
            Ok(loaded) => {
                use_volume(&loaded, lot);
                return Corpus::Keep;
            }
            Err(error) => error,
        };
        check_error(&error);
        options = match (error.code(), error.remedy()) {
            ("R-IN-05" | "R-IN-06", _) => return Corpus::Reject,
            (_, Some(Remedy::FillGaps)) => options.with_allow_gaps(true),
            (_, Some(Remedy::AllowModality)) => options.with_allow_modality(true),
            ("R-DCM-02", _) => options.with_series("1"),
            _ => return Corpus::Keep,
        };
    }
    Corpus::Keep
}

/// The input, cut in front of each file but the first.
fn files(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut files = Vec::new();
    while let Some(at) = second_file(bytes) {
        let (file, rest) = bytes.split_at(at);
        files.push(file);
        bytes = rest;
    }
    files.push(bytes);
    files
}

/// Where the second file begins.
fn second_file(bytes: &[u8]) -> Option<usize> {
    let start = PREAMBLE + MARK.len();
    let behind = bytes.get(start..).filter(|_| !bytes.starts_with(b"PK"))?;
    let mark = start + behind.windows(MARK.len()).position(|w| w == MARK)?;
    Some(mark - PREAMBLE).filter(|at| start <= *at)
}

fn check_list(path: &Path) {
    match list_series(path, &options().with_allow_modality(true)) {
        Ok(series) => {
            for (n, summary) in series.iter().enumerate() {
                assert_eq!(summary.number, n + 1);
                check_text(&format!("{summary} {summary:?}"));
            }
        }
        Err(error) => check_error(&error),
    }
}
