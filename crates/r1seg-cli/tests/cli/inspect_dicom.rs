//! What `inspect` says about a study of several series, and which of them is read.

use std::fs;

use serde_json::{Value, json};

use crate::schema::assert_keeps_to;
use crate::usage::snapshot;
use crate::{Desk, Run, data, finish};

/// An element in explicit little-endian form.
fn element(group: u16, number: u16, vr: &str, value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    if value.len() % 2 == 1 {
        value.push(if vr == "UI" { 0 } else { b' ' });
    }
    let mut bytes = [group.to_le_bytes(), number.to_le_bytes()].concat();
    bytes.extend(vr.bytes());
    if vr == "OW" {
        bytes.extend([0, 0]);
        bytes.extend(u32::try_from(value.len()).unwrap().to_le_bytes());
    } else {
        bytes.extend(u16::try_from(value.len()).unwrap().to_le_bytes());
    }
    bytes.extend(value);
    bytes
}

/// Writes one slice of 8 x 8 voxels at `z` mm.
pub(crate) fn slice(desk: &Desk, name: &str, series: &str, modality: &str, z: f64) {
    image(desk, name, series, (modality, "AXIAL"), z);
}

/// [`slice`], or the view of a localizer.
pub(crate) fn image(desk: &Desk, name: &str, series: &str, (modality, view): (&str, &str), z: f64) {
    let us = |value: u16| value.to_le_bytes().to_vec();
    let syntax = element(2, 0x10, "UI", b"1.2.840.10008.1.2.1");
    let pixels: Vec<u8> = (0..64_i16).flat_map(|n| (n * 16 - 900).to_le_bytes()).collect();
    let file = [
        vec![0; 128],
        b"DICM".to_vec(),
        element(2, 0, "UL", &u32::try_from(syntax.len()).unwrap().to_le_bytes()),
        syntax,
        element(8, 8, "CS", format!("ORIGINAL\\PRIMARY\\{view}").as_bytes()),
        element(8, 0x16, "UI", b"1.2.840.10008.5.1.4.1.1.2"),
        element(8, 0x18, "UI", format!("1.2.3.{series}.{}", z + 100.0).as_bytes()),
        element(8, 0x60, "CS", modality.as_bytes()),
        element(8, 0x103e, "LO", b"CANARY SERIES"),
        element(0x10, 0x10, "PN", b"CANARY^JOHN"),
        element(0x20, 0xe, "UI", format!("1.2.3.{series}").as_bytes()),
        element(0x20, 0x32, "DS", format!("-4\\-4\\{z}").as_bytes()),
        element(0x20, 0x37, "DS", b"1\\0\\0\\0\\1\\0"),
        element(0x28, 2, "US", &us(1)),
        element(0x28, 4, "CS", b"MONOCHROME2"),
        element(0x28, 0x10, "US", &us(8)),
        element(0x28, 0x11, "US", &us(8)),
        element(0x28, 0x30, "DS", b"0.75\\0.75"),
        element(0x28, 0x100, "US", &us(16)),
        element(0x28, 0x101, "US", &us(16)),
        element(0x28, 0x102, "US", &us(15)),
        element(0x28, 0x103, "US", &us(1)),
        element(0x28, 0x1052, "DS", b"0"),
        element(0x28, 0x1053, "DS", b"1"),
        element(0x7fe0, 0x10, "OW", &pixels),
    ];
    fs::create_dir_all(desk.path("study")).unwrap();
    fs::write(desk.path("study").join(name), file.concat()).unwrap();
}

/// Two CT series, one of them with a gap, and one of MR.
fn study() -> Desk {
    let desk = Desk::new();
    for (n, z) in [0.0, 2.5, 5.0, 7.5, 10.0].into_iter().enumerate() {
        slice(&desk, &format!("a{n}"), "1", "CT", z);
        slice(&desk, &format!("b{n}"), "2", "CT", if n == 4 { 20.0 } else { z });
        slice(&desk, &format!("c{n}"), "3", "MR", z);
    }
    desk
}

fn inspect(desk: &Desk, args: &str) -> Run {
    finish(desk.command().arg("inspect").args(args.split_whitespace()))
}

#[test]
fn d1_a_study_of_several_series_is_listed() {
    let desk = study();
    let run = inspect(&desk, "study");
    assert_eq!(run.stderr, "");
    snapshot(&desk, "inspect_series", &run.succeeds().stdout);

    let listed = inspect(&desk, "study --json");
    let listed: Value = serde_json::from_str(&listed.succeeds().stdout).unwrap();
    assert_eq!(listed["verdict"], "choose");
    let series = listed["series"].as_array().unwrap();
    let usable: Vec<_> = series.iter().filter(|s| s["fault"].is_null()).collect();
    let [usable] = usable.as_slice() else { panic!("{listed}") };
    assert_eq!(usable["shape"], json!([8, 8, 5]));
    assert_eq!(usable["spacing_mm"], json!([0.75, 0.75, 2.5]));

    // As listed, by number or by id.
    for name in [usable["number"].to_string(), usable["id"].as_str().unwrap().to_string()] {
        let run = inspect(&desk, &format!("study --series {name} --json"));
        let found: Value = serde_json::from_str(&run.succeeds().stdout).unwrap();
        assert_eq!(found["input"]["shape"], usable["shape"]);
        assert_eq!((&found["input"]["kind"], &found["verdict"]), (&json!("dicom"), &json!("ok")));
        let expected = json!({"number": usable["number"], "of": 3, "id": usable["id"]});
        assert_eq!(found["input"]["series"], expected);
        assert_keeps_to("inspect", &found);
    }
}

#[test]
fn d1_a_series_that_is_not_there_and_a_picture_of_none_are_errors() {
    let desk = study();
    for wanted in ["9", "abc", "0000"] {
        let run = inspect(&desk, &format!("study --series {wanted}"));
        run.fails(2, "R-DCM-03").says("1: ").says("2: ").says("3: ").says("--series N");
    }
    inspect(&desk, "study --series 9").says("there is no series 9");
    inspect(&desk, "study --preview p.png").fails(65, "R-DCM-02").says("--series");
    desk.is_empty_but_for(&["study"]);
}

#[test]
fn d12_the_series_that_was_read_is_in_the_report_and_on_stderr() {
    let desk = study();
    let listed = inspect(&desk, "study --json");
    let listed: Value = serde_json::from_str(&listed.succeeds().stdout).unwrap();
    let series = listed["series"].as_array().unwrap();
    let usable = series.iter().find(|s| s["fault"].is_null()).unwrap();
    let (number, id) = (&usable["number"], usable["id"].as_str().unwrap());

    let run = desk.infer_volume(&desk.path("study"), &format!("--series {}", &id[..5]));
    run.succeeds().says(&format!("r1seg: DICOM series {number} of 3, id {id}\n"));
    let report = desk.report();
    assert_keeps_to("report", &report);
    assert_eq!(report["input"]["series"], json!({"number": number, "of": 3, "id": id}));

    let run = desk.infer_volume(&desk.path("study"), "--series 9 --out other");
    run.fails(2, "R-DCM-03").says("there is no series 9").says(id);
    let run = desk.infer_volume(&data("phi3/golden/volume.npy"), "--force");
    assert!(!run.succeeds().stderr.contains("series"), "{run:#?}");
    assert_eq!(desk.report()["input"]["series"], Value::Null);
}

#[test]
fn d14_a_truncated_slice_is_named_with_its_size() {
    let desk = Desk::new();
    for n in 0..9 {
        slice(&desk, &format!("{n}.dcm"), "1", "CT", f64::from(n) * 2.5);
    }
    let path = desk.path("study/4.dcm");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..200]).unwrap();
    let run = inspect(&desk, "study");
    run.fails(65, "R-DCM-07").says("4.dcm").says("truncated").says("bytes").says("gap of 5.000 mm");
}

#[test]
fn no_name_of_a_patient_is_shown() {
    let desk = study();
    for args in
        ["study", "study --json", "study --series 1", "study --series 2", "study --series 9"]
    {
        let run = inspect(&desk, args);
        assert!(!format!("{run:?}").contains("CANARY"), "{run:?}");
    }
}
