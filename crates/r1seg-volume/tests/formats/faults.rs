//! Rows of the list of faults that no single format owns.

use std::fs;
use std::path::Path;

use r1seg_volume::{
    Ends, ErrorKind, LabelMap, Loaded, Mask, MaskFormat, ReadOptions, Segment, Segmentation, Step,
    prepare, read, write_labels_to, write_mask_to, write_segmentation_to,
};

use crate::builder::{Nifti, gzip, load, npy, nrrd};

#[test]
fn n16_a_constant_volume_is_read_and_becomes_zeros_with_a_warning() {
    let air = (-1024_i16).to_le_bytes().repeat(64);
    let n = Nifti { datatype: 4, bitpix: 16, ..Nifti::new([4, 4, 4]) };
    for file in [n.file(&air), npy("<i2", "False", "(4, 4, 4)", &air)] {
        let volume = load(&file).unwrap().volume;
        let steps = [
            Step::Rescale(Ends::PercentilesAboveMean([0.05, 99.95])),
            Step::CropForeground { margin: 0 },
        ];
        let prepared = prepare(&volume, &steps).unwrap();
        assert_eq!(prepared.warnings()[0].code, "W-CONST");
        assert_eq!(prepared.to_f32(), [0.0; 64]);
    }
}

#[test]
fn n17_a_volume_of_too_few_or_too_many_voxels_says_its_size() {
    for ijk in [[512, 512, 1], [1, 1, 300], [300, 1, 1], [3, 64, 64]] {
        let error = load(&Nifti::new(ijk).header()).unwrap_err();
        let [w, h, d] = ijk;
        assert_eq!(
            error.message(),
            format!("volume is {w}x{h}x{d} voxels (i,j,k); at least 4 per axis are needed")
        );
        assert_eq!((error.code(), error.kind()), ("R-IN-08", ErrorKind::BadData));
    }
    let bytes = npy("|u1", "False", "(2048, 2048, 2048)", &[]);
    assert_eq!(
        load(&bytes).unwrap_err().message(),
        "volume of 2048x2048x2048 (D,H,W) is 8589934592 voxels, 8589934592 bytes; the limits are \
         1073741824 voxels and 4294967296 bytes"
    );
    let raw = nrrd(&["sizes: 2048 2048 2048", "type: uchar", "encoding: raw"], &[]);
    assert_eq!(load(&raw).unwrap_err().code(), "R-IN-07");
}

#[cfg(unix)]
#[test]
fn n18_pipes_loops_folders_and_empty_files_are_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::os::unix::fs::symlink(at("b.nii"), at("a.nii")).unwrap();
    std::os::unix::fs::symlink(at("a.nii"), at("b.nii")).unwrap();
    fs::create_dir(at("folder.img")).unwrap();
    fs::write(at("empty.nrrd"), "").unwrap();
    // An image file whose header cannot be opened either.
    fs::write(at("x.img"), [0; 64]).unwrap();
    std::os::unix::fs::symlink(at("x.hdr"), at("x.hdr")).unwrap();
    let mut cases = vec![
        ("a.nii", "R-IN-02", ErrorKind::Missing),
        ("folder.img", "R-IN-03", ErrorKind::Missing),
        ("empty.nrrd", "R-IN-05", ErrorKind::BadData),
        ("x.img", "R-NII-13", ErrorKind::Missing),
    ];
    let made = std::process::Command::new("mkfifo").arg(at("pipe.nii")).status();
    if made.is_ok_and(|status| status.success()) {
        cases.push(("pipe.nii", "R-IN-04", ErrorKind::Missing));
    }
    for (name, code, kind) in cases {
        let error = read(at(name), &ReadOptions::default()).unwrap_err();
        assert_eq!((error.code(), error.kind()), (code, kind), "{name}");
        assert_eq!(error.path(), Some(at(name).as_path()));
    }
}

/// A text that no message and no file may repeat.
const CANARY: &str = "CANARY^PATIENT";

/// Every header field that takes free text holds the canary.
fn nrrd_of_a_patient(fields: &[&str]) -> Vec<u8> {
    let content = format!("content: {CANARY}");
    let comment = format!("# {CANARY}");
    let pair = format!("PatientName:={CANARY}");
    let sample = format!("sample units: {CANARY}");
    let unknown = format!("{CANARY}: {CANARY}");
    let text = [&*content, &*comment, &*pair, &*sample, &*unknown];
    nrrd(&[fields, &text].concat(), &(0..120).collect::<Vec<_>>())
}

fn everything_written(loaded: &Loaded) -> Vec<u8> {
    let geometry = loaded.volume.geometry();
    let mask = Mask::new(vec![1; geometry.voxels()], geometry.clone()).unwrap();
    let mut out = Vec::new();
    for format in [MaskFormat::Nifti, MaskFormat::Npy] {
        write_mask_to(&mut out, &mask, format).unwrap();
    }
    let mut labels = LabelMap::new(geometry.clone());
    labels.push(&mask).unwrap();
    for format in [MaskFormat::Nifti, MaskFormat::Npy] {
        write_labels_to(&mut out, &labels, format).unwrap();
    }
    let segments = vec![Segment::new("liver", [1, 2, 3])];
    write_segmentation_to(&mut out, &Segmentation::new(&labels, segments).unwrap()).unwrap();
    out
}

#[test]
fn n19_no_text_of_a_header_reaches_a_message_or_a_file() {
    let hidden = |text: &str| !text.contains("CANARY") && !text.contains("PATIENT");
    let good = ["type: uchar", "encoding: raw"];
    let nifti = Nifti { sform_code: 0, ..Nifti::new([4, 5, 6]) };
    for file in [nrrd_of_a_patient(&good), nifti.counting(), gzip(&nifti.counting())] {
        let loaded = load(&file).unwrap();
        assert!(hidden(&format!("{:?} {:?}", loaded.warnings, loaded.volume.geometry())));
        assert!(hidden(&String::from_utf8_lossy(&everything_written(&loaded))));
    }
    let faults = [
        format!("type: {CANARY}"),
        format!("encoding: {CANARY}"),
        format!("sizes: 4 5 {CANARY}"),
        format!("dimension: {CANARY}"),
        format!("space: {CANARY}"),
        format!("space directions: ({CANARY},0,0) (0,1,0) (0,0,1)"),
        format!("space origin: {CANARY}"),
        format!("kinds: {CANARY}"),
        format!("line skip: {CANARY}"),
        format!("byte skip: {CANARY}"),
        format!("data file: {CANARY}"),
        format!("data file: ../{CANARY}"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.nhdr");
    for fault in &faults {
        let name = |field: &str| field.split(':').next().map(str::to_owned);
        let rest = good.iter().filter(|field| name(field) != name(fault)).copied();
        fs::write(&path, nrrd_of_a_patient(&rest.chain([fault.as_str()]).collect::<Vec<_>>()))
            .unwrap();
        let error = read(&path, &ReadOptions::default()).unwrap_err();
        assert_eq!(error.path(), Some(Path::new(&path)));
        assert!(hidden(&format!("{error} {error:?} {:?}", error.remedy())), "{fault}");
    }
}
