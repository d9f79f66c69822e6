use std::fs;

use r1seg_volume::{ErrorKind, ReadOptions, Remedy, SeriesSummary, list_series, read};

use crate::builder::{
    Dcm, Items, PATIENT, Value, codes, error, expected_hu, load, load_with, series, write, zip,
};

const STORED: zip::CompressionMethod = zip::CompressionMethod::Stored;
const DEFLATED: zip::CompressionMethod = zip::CompressionMethod::Deflated;

/// A second CT series of 5 slices, 100 HU up.
fn other_series() -> Vec<Dcm> {
    let mut files = series(5);
    for file in &mut files {
        file.series("1.2.3.4.5").text((0x28, 0x1052), "DS", "-924");
    }
    files
}

fn localizer() -> Dcm {
    let mut file = Dcm::slice(0);
    file.series("1.2.3.4.6").text((8, 8), "CS", "ORIGINAL\\PRIMARY\\LOCALIZER");
    file
}

#[test]
fn d1_two_series_are_listed_and_one_can_be_chosen() {
    let files = [series(7), other_series()].concat();
    let error = error(&files);
    assert_eq!((error.code(), error.kind()), ("R-DCM-02", ErrorKind::BadData));
    let list = error.series().unwrap();
    let of = |slices| list.iter().find(|s| s.slices == slices).unwrap();
    let (ours, theirs) = (of(7), of(5));
    assert_eq!(ours.spacing_mm.unwrap()[1..], [0.8, 0.7]);
    let (a, b) = (&list[0], &list[1]);
    let line = |s: &SeriesSummary| {
        format!("{}: {} CT, {} slices, 6x4x{} voxels (i,j,k)", s.number, s.id, s.slices, s.slices)
    };
    let expected = format!("2 series; one must be chosen: {}; {}", line(a), line(b));
    assert_eq!(error.message(), expected);
    assert!(a.id < b.id && (a.number, b.number) == (1, 2));
    assert_eq!(error.remedy(), Some(Remedy::ChooseSeries));

    let chosen = |name: &str| load_with(&files, &ReadOptions::default().with_series(name));
    for name in [ours.number.to_string(), ours.id.clone(), ours.id[..5].to_uppercase()] {
        assert_eq!(chosen(&name).unwrap().volume.shape(), [7, 4, 6]);
    }
    let volume = chosen(&theirs.id).unwrap().volume;
    assert_eq!(volume.voxels().get(0), Some(76.0));
}

#[test]
fn d1_localizer_is_not_passed_over_silently() {
    let files = [series(7), vec![localizer()]].concat();
    let error = error(&files);
    assert_eq!(error.code(), "R-DCM-02");
    assert!(error.message().contains("CT, 1 slice, not a volume, localizer"), "{error}");
    // Scanners may put it into the series itself.
    let mut inside = localizer();
    inside.series("1.2.3.4.987654321");
    let files = [series(7), vec![inside]].concat();
    let error = load_with(&files, &ReadOptions::default()).unwrap_err();
    let series = error.series().unwrap();
    let of = |s: &SeriesSummary| (s.number, s.is_localizer, s.slices, s.verdict.is_none());
    let found: Vec<_> = series.iter().map(of).collect();
    assert_eq!(found, [(1, false, 7, true), (2, true, 1, false)]);
}

#[test]
fn d1_objects_that_are_no_images_are_passed_over() {
    let mut structures = Dcm::slice(0);
    structures.series("1.9").text((8, 0x60), "CS", "RTSTRUCT").remove((0x7fe0, 0x10));
    let mut report = Dcm::slice(0);
    report.series("1.8").text((8, 0x60), "CS", "SR").remove((0x7fe0, 0x10));
    let mut labels = Dcm::slice(0);
    labels.series("1.7").text((8, 0x60), "CS", "SEG");
    let files = [series(5), vec![structures, report, labels]].concat();
    assert_eq!(load(&files).volume.shape(), [5, 4, 6]);
}

#[test]
fn folder_is_searched_and_other_files_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("a/b");
    fs::create_dir_all(&inner).unwrap();
    write(&inner, &series(5));
    fs::write(folder.path().join("readme.txt"), "text").unwrap();
    fs::write(folder.path().join("empty"), "").unwrap();
    fs::write(folder.path().join(".hidden"), Dcm::slice(9).file()).unwrap();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(folder.path(), inner.join("loop")).unwrap();
        std::os::unix::fs::symlink("nowhere", inner.join("broken")).unwrap();
        std::os::unix::net::UnixListener::bind(inner.join("socket")).unwrap();
        let pipe = std::process::Command::new("mkfifo").arg(inner.join("pipe")).status();
        assert!(pipe.unwrap().success());
    }
    let volume = read(folder.path(), &ReadOptions::default()).unwrap().volume;
    assert_eq!(volume.shape(), [5, 4, 6]);
    let list = list_series(folder.path(), &ReadOptions::default()).unwrap();
    assert_eq!((list.len(), list[0].slices, list[0].verdict.clone()), (1, 5, None));
    assert_eq!(list[0].shape, Some([5, 4, 6]));
}

#[test]
fn folder_without_dicom_says_how_many_files_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.nii.gz", "b.txt"] {
        fs::write(folder.path().join(name), "text").unwrap();
    }
    let error = read(folder.path(), &ReadOptions::default()).unwrap_err();
    let named = format!("`{}`: ", folder.path().display());
    assert_eq!(error.to_string(), named + "the folder contains no DICOM image (2 files)");
    assert_eq!((error.code(), error.path()), ("R-IN-03", Some(folder.path())));
}

#[test]
fn one_slice_is_no_volume() {
    let error = error(&series(1));
    assert_eq!(error.message(), "volume is 6x4x1 voxels (i,j,k); at least 4 per axis are needed");
    let one = load_with(&series(1), &ReadOptions::default().with_min_axis(1)).unwrap();
    assert_eq!(one.volume.geometry().spacing_mm(), Some([2.5, 0.8, 0.7]));
}

/// One file of `count` frames; those of odd number are 1 HU up.
fn multi_frame(count: u16) -> Dcm {
    let item = |tag, items: &[(u16, u16, &str)]| {
        let of = |(group, element, text): &(u16, u16, &str)| {
            ((*group, *element), ("DS", Value::Text((*text).to_owned())))
        };
        let inner: Items = items.iter().map(of).collect();
        (tag, ("SQ", Value::Sequence(vec![inner])))
    };
    let shared: Items = [
        item((0x28, 0x9110), &[(0x28, 0x30, "0.8\\0.7"), (0x18, 0x50, "2.5")]),
        item((0x20, 0x9116), &[(0x20, 0x37, "1\\0\\0\\0\\1\\0")]),
    ]
    .into();
    let frame = |n: u16| {
        // Frames are stored from the top down.
        let k = count - 1 - n;
        let position = format!("-20\\-30\\{}", 40.0 + 2.5 * f64::from(k));
        let inter = (i32::from(k % 2) - 1024).to_string();
        Items::from([
            item((0x20, 0x9113), &[(0x20, 0x32, &position)]),
            item((0x28, 0x9145), &[(0x28, 0x1052, &inter), (0x28, 0x1053, "1")]),
        ])
    };
    let mut file = Dcm::slice(0);
    for tag in [(0x20, 0x32), (0x20, 0x37), (0x28, 0x30), (0x28, 0x1052), (0x28, 0x1053)] {
        file.remove(tag);
    }
    let pixels: Vec<u16> = (0..count)
        .rev()
        .flat_map(|k| (0..24).map(move |n| 1000 + 100 * k + n / 6 * 10 + n % 6))
        .collect();
    file.text((0x28, 8), "IS", &count.to_string())
        .set((0x5200, 0x9229), "SQ", Value::Sequence(vec![shared]))
        .set((0x5200, 0x9230), "SQ", Value::Sequence((0..count).map(frame).collect()))
        .pixels(&pixels);
    file
}

#[test]
fn d7_enhanced_multi_frame_ct_is_a_volume() {
    let hu = |n: usize| (n / 24 % 2) as f32;
    let expected: Vec<f32> = expected_hu(6).iter().enumerate().map(|(n, v)| v + hu(n)).collect();
    for syntax in [crate::builder::EXPLICIT, crate::builder::IMPLICIT, crate::builder::BIG_ENDIAN] {
        for undefined_lengths in [false, true] {
            let mut file = multi_frame(6);
            (file.syntax, file.undefined_lengths) = (syntax, undefined_lengths);
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("ct.dcm");
            fs::write(&path, file.file()).unwrap();
            let volume = read(&path, &ReadOptions::default()).unwrap().volume;
            assert_eq!(volume.voxels().to_f32().as_ref(), expected);
            assert_eq!(volume.geometry().affine(), load(&series(6)).volume.geometry().affine());
            let stream = r1seg_volume::read_from(&*file.file(), "-", &ReadOptions::default());
            assert_eq!(stream.unwrap().volume, volume);
        }
    }
}

#[test]
fn d7_frames_without_a_place_are_named() {
    let mut file = multi_frame(6);
    file.remove((0x5200, 0x9230));
    let text = "PerFrameFunctionalGroupsSequence of every frame is missing or not readable";
    assert_eq!(error(&[file]).message(), text);
    let mut file = multi_frame(6);
    file.text((0x28, 8), "IS", "1000000000");
    assert_eq!(error(&[file]).message(), "NumberOfFrames is missing or not readable");
}

#[test]
fn d7_modality_must_be_ct_unless_others_are_allowed() {
    let mut files = series(5);
    files.iter_mut().for_each(|f| _ = f.text((8, 0x60), "CS", "MR"));
    let message = error(&files);
    assert_eq!(message.message(), "modality is MR, not CT");
    assert_eq!(message.remedy(), Some(Remedy::AllowModality));
    let options = ReadOptions::default().with_allow_modality(true);
    assert_eq!(load_with(&files, &options).unwrap().volume.shape(), [5, 4, 6]);

    files.iter_mut().for_each(|f| _ = f.remove((8, 0x60)));
    assert_eq!(error(&files).message(), "the file does not say its modality; CT is needed");
    assert!(load_with(&files, &options).is_ok());
    files.iter_mut().for_each(|f| _ = f.text((8, 0x60), "CS", PATIENT));
    assert_eq!(error(&files).message(), "modality is OTHER, not CT");
}

#[test]
fn d9_burned_in_text_is_warned_of() {
    let mut files = series(5);
    files[3].text((0x28, 0x301), "CS", "YES");
    let loaded = load(&files);
    assert_eq!(codes(&loaded), ["W-PHI"]);
    assert_eq!(loaded.warnings[0].remedy, Some(Remedy::OmitPreview));
}

#[test]
fn d10_zip_archive_is_read_like_a_folder() {
    let files: Vec<Vec<u8>> = series(6).iter().map(Dcm::file).collect();
    let mut members: Vec<(&str, &[u8])> =
        files.iter().map(|f| ("../../etc/x", f.as_slice())).collect();
    let names = ["/abs", "..\\..\\x", "a/../../b", "C:\\x", "ct/1", "ct/2"];
    members.iter_mut().zip(names).for_each(|(m, name)| m.0 = name);
    members.extend([("README", b"text".as_slice()), ("ct/.DS_Store", &files[0])]);
    members.push(("__MACOSX/ct/1", &files[0]));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scan.zip");
    for method in [STORED, DEFLATED] {
        fs::write(&path, zip(&members, method)).unwrap();
        let loaded = read(&path, &ReadOptions::default()).unwrap();
        assert_eq!(loaded.volume, load(&series(6)).volume);
        assert_eq!(list_series(&path, &ReadOptions::default()).unwrap()[0].slices, 6);
    }
    // Nothing was put beside it.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let stream = r1seg_volume::read_from(&*fs::read(&path).unwrap(), "-", &ReadOptions::default());
    let text = "format not recognized: it is a zip archive without a .npy array, in a stream; ";
    assert!(stream.unwrap_err().message().starts_with(text));
}
