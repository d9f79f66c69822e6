//! Which of several series is read, and what is said of files that are missing in it.

use std::fs;
use std::path::Path;

use r1seg_volume::{
    Error, ErrorKind, Loaded, ReadOptions, Remedy, SeriesSummary, list_series, read,
};

use crate::builder::{Dcm, Value, codes, error, load, load_with, series, write};

const STUDY: (u16, u16) = (0x20, 0xd);

/// Files of a series with the given attributes, with instances of their own, `up` mm higher.
fn slices(count: u16, texts: &[((u16, u16), &'static str, &str)], up: f64) -> Vec<Dcm> {
    let mut files = series(count);
    for (k, file) in files.iter_mut().enumerate() {
        file.position([-20.0, -30.0, 40.0 + up + 2.5 * k as f64]);
        file.instance(&format!("1.9.{k}.{up}"));
        for (tag, vr, text) in texts {
            file.text(*tag, vr, text);
        }
    }
    files
}

fn listed(files: &[Dcm]) -> Vec<SeriesSummary> {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), files);
    list_series(folder.path(), &ReadOptions::default()).unwrap()
}

fn chosen(files: &[Dcm], name: &str) -> Result<Loaded, Error> {
    load_with(files, &ReadOptions::default().with_series(name))
}

#[test]
fn d12_a_number_is_a_number_and_an_id_needs_four_characters() {
    let mut other = series(5);
    other.iter_mut().for_each(|file| _ = file.series("1.2.3.4.5"));
    let files = [series(7), other].concat();
    let list = listed(&files);
    let id = &list[1].id;
    for (name, reason) in [
        ("0", "there is no series 0"),
        ("3", "there is no series 3"),
        ("9", "there is no series 9"),
        ("4723", "there is no series 4723"),
        ("99999999999999999999999", "there is no series 99999999999999999999999"),
        ("", "at least 4 characters of an id are needed"),
        (&id[..1], "at least 4 characters of an id are needed"),
        (&id[..3], "at least 4 characters of an id are needed"),
        ("1.2.3.4.5", "no series has an id that begins so"),
        ("xyzw", "no series has an id that begins so"),
    ] {
        // A short start of an id may be all digits, and then it is a number.
        let is_number = !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit());
        let error = chosen(&files, name).unwrap_err();
        assert_eq!((error.code(), error.kind()), ("R-DCM-03", ErrorKind::Usage), "{name}");
        let text = error.message();
        assert!(text.starts_with(reason) || is_number, "{name}: {text}");
        assert!(list.iter().all(|series| text.contains(&series.to_string())), "{text}");
    }
    for (number, series) in list.iter().enumerate() {
        let number = number + 1;
        for name in [number.to_string(), series.id.clone(), series.id.to_uppercase()] {
            let loaded = chosen(&files, &name).unwrap();
            let found = loaded.series.unwrap();
            assert_eq!((found.number, found.of, &found.id), (number, 2, &series.id));
            assert_eq!(loaded.volume.shape()[0], series.slices);
        }
    }
}

#[test]
fn the_only_series_is_named_too_and_other_formats_have_none() {
    let loaded = load(&series(5));
    let found = loaded.series.unwrap();
    assert_eq!((found.number, found.of, found.id.len()), (1, 1, 12));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ct.nii");
    let volume = loaded.volume;
    r1seg_volume::write_volume(&path, &volume, r1seg_volume::Overwrite::Refuse).unwrap();
    assert_eq!(read(&path, &ReadOptions::default()).unwrap().series, None);
}

#[test]
fn d13_series_without_a_uid_of_their_own_are_listed_apart_by_anything_that_differs() {
    const NO_UID: ((u16, u16), &str, &str) = ((0x20, 0xe), "UI", "");
    const SAME_UID: ((u16, u16), &str, &str) = ((0x20, 0xe), "UI", "1.2.3.4");
    for (uid, tag, vr, [a, b]) in [
        (NO_UID, STUDY, "UI", ["1.5.1", "1.5.2"]),
        (SAME_UID, STUDY, "UI", ["1.5.1", "1.5.2"]),
        (NO_UID, (0x20, 0x52), "UI", ["1.6.1", "1.6.2"]),
        (NO_UID, (0x20, 0x11), "IS", ["3", "4"]),
        (NO_UID, (0x10, 0x20), "LO", ["ANON1", "ANON2"]),
        (NO_UID, (0x28, 0x30), "DS", ["0.8\\0.7", "0.9\\0.7"]),
        (NO_UID, (0x20, 0x37), "DS", ["1\\0\\0\\0\\1\\0", "0\\1\\0\\1\\0\\0"]),
    ] {
        // The second one continues the first, so that together they would be a volume.
        let first = slices(6, &[uid, (tag, vr, a)], 0.0);
        let second = slices(5, &[uid, (tag, vr, b)], 15.0);
        let files = [first, second].concat();
        let list = listed(&files);
        assert_eq!(list.len(), 2, "{tag:x?}: {list:?}");
        assert_ne!(list[0].id, list[1].id, "{tag:x?}");
        let mut counts = [list[0].slices, list[1].slices];
        counts.sort_unstable();
        assert_eq!(counts, [5, 6], "{tag:x?}");
        assert_eq!(error(&files).code(), "R-DCM-02", "{tag:x?}");
        for series in &list {
            let volume = chosen(&files, &series.id).unwrap().volume;
            assert_eq!(volume.shape()[0], series.slices, "{tag:x?}");
        }
    }
    // Nothing tells them apart: one volume.
    let files = [slices(6, &[NO_UID], 0.0), slices(5, &[NO_UID], 15.0)].concat();
    assert_eq!(load(&files).volume.shape()[0], 11);
    let mut files = slices(5, &[], 0.0);
    files.iter_mut().for_each(|file| _ = file.remove((0x20, 0xe)));
    assert_eq!(load(&files).volume.shape()[0], 5);
}

#[test]
fn the_id_of_a_series_does_not_depend_on_the_study_unless_it_must() {
    let alone = listed(&series(5))[0].id.clone();
    assert_eq!(listed(&slices(5, &[(STUDY, "UI", "1.5.1")], 0.0))[0].id, alone);
}

/// A series of 12 slices of which one is what `change` makes of its bytes, in a file of a name.
fn with_broken(folder: &Path, name: &str, change: impl Fn(&[u8]) -> Vec<u8>) -> Error {
    for (k, file) in series(12).iter().enumerate() {
        if k != 5 {
            fs::write(folder.join(format!("{k:04}.dcm")), file.file()).unwrap();
        }
    }
    let whole = Dcm::slice(5).file();
    fs::write(folder.join(name), change(&whole)).unwrap();
    read(folder, &ReadOptions::default()).unwrap_err()
}

#[test]
fn d14_a_truncated_slice_is_named_before_any_gap_wherever_it_is_cut() {
    let whole = Dcm::slice(5).file();
    // Past the place of the pixels the file is known to be of the series, before it may not be.
    for bytes in (0..whole.len()).step_by(23).chain([131, 132, whole.len() - 1]) {
        let folder = tempfile::tempdir().unwrap();
        let error = with_broken(folder.path(), "0005.dcm", |whole| whole[..bytes].to_vec());
        assert_eq!(
            (error.code(), error.kind()),
            ("R-DCM-07", ErrorKind::BadData),
            "{bytes}: {error}"
        );
        assert_eq!(error.path(), Some(folder.path().join("0005.dcm").as_path()), "{bytes}");
        let text = error.message();
        assert!(text.contains("truncated") || text.contains("cut short"), "{bytes}: {text}");
        let remedies = [Remedy::ReplaceSlice, "export or copy the series again".into()];
        assert!(remedies.contains(&error.remedy().unwrap()), "{bytes}");
    }
}

#[test]
fn d14_a_slice_that_ends_between_two_elements_is_truncated_and_not_another_object() {
    for last in [(8, 0x16), (8, 0x60), (0x18, 0x50), (0x20, 0xe), (0x28, 0x11), (0x28, 0x1053)] {
        let folder = tempfile::tempdir().unwrap();
        let mut file = Dcm::slice(5);
        file.elements.retain(|tag, _| *tag <= last);
        let cut = file.file();
        let error = with_broken(folder.path(), "0005.dcm", |_| cut.clone());
        assert_eq!(error.code(), "R-DCM-07", "{last:x?}: {error}");
        assert!(error.message().contains("truncated"), "{last:x?}: {error}");
    }
}

#[test]
fn d14_the_gap_is_told_with_the_files_that_were_skipped() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("0020.dcm"), &Dcm::slice(1).file()[..200]).unwrap();
    let error = with_broken(folder.path(), "0005.dcm", |whole| whole[..200].to_vec());
    let text = error.message();
    let gap = "without this file and 0020.dcm there is a gap of 5.000 mm between slices 5 and 6";
    assert!(text.contains(gap), "{text}");
    assert_eq!((error.code(), error.remedy()), ("R-DCM-07", Some(Remedy::ReplaceSlice)));

    // A list of series says it, too.
    let verdict = list_series(folder.path(), &ReadOptions::default()).unwrap()[0].verdict.clone();
    assert_eq!(verdict, Some(error.message()));

    // Read nevertheless, they are named as well.
    let options = ReadOptions::default().with_allow_gaps(true);
    let loaded = read(folder.path(), &options).unwrap();
    assert_eq!(codes(&loaded), ["W-SKIPPED", "W-GAPS"]);
    assert!(loaded.warnings[0].text.contains("0005.dcm, 0020.dcm"), "{}", loaded.warnings[0].text);
}

#[test]
fn a_gap_without_broken_files_stays_a_gap() {
    let mut files = series(9);
    files.remove(4);
    // Objects without pixels are no slices.
    let mut plan = Dcm::slice(4);
    plan.text((8, 0x60), "CS", "RTPLAN").remove((0x7fe0, 0x10));
    plan.set((8, 0x16), "UI", Value::Text("1.2.840.10008.5.1.4.1.1.481.5".to_owned()));
    files.push(plan);
    assert_eq!(error(&files).code(), "R-DCM-13");
}
