//! `segment`, with the recorded SAM-Med3D: points, targets, earlier masks and simulated clicks.

use std::path::Path;

use r1seg::volume::{LabelMap, ReadOptions, read};
use serde_json::{Value, json};

use crate::schema::assert_keeps_to;
use crate::{Desk, Run, data, finish};

/// A command with the recorded model and CT, exact on any processor.
fn segment(desk: &Desk, args: &[&str]) -> Run {
    let mut command = desk.command();
    command.arg("segment").arg("--model").arg(data("sam-med3d"));
    command.arg("--image").arg(golden("ct.nii.gz")).args(["--device", "cpu", "--dtype", "f32"]);
    finish(command.args(args))
}

fn golden(file: &str) -> std::path::PathBuf {
    data(&format!("sam-med3d/golden/{file}"))
}

fn labels(path: &Path) -> Vec<u16> {
    let volume = read(path, &ReadOptions::default()).unwrap().volume;
    LabelMap::from_volume(&volume).unwrap().labels().to_vec()
}

/// Whether a mask is the recorded one, but for logits within the tolerance of 0.
#[track_caller]
fn assert_recorded(desk: &Desk, file: &str, recorded: &str) {
    let (got, expected) = (labels(&desk.path(file)), labels(&golden(recorded)));
    let apart = got.iter().zip(&expected).filter(|(a, b)| a != b).count();
    assert!(apart <= 2, "{apart} voxels");
}

const POINTS: [&str; 6] =
    ["--point", "20,174,73", "--point", "25,190,84", "--point", "31,110,60:neg"];

#[test]
fn points_lead_from_a_ct_to_the_mask_that_the_authors_code_finds() {
    let desk = Desk::new();
    let done = segment(&desk, &[&POINTS[..2], &["--mask", "one.nii.gz"]].concat());
    assert!(done.succeeds().stdout.starts_with("point: "), "{done:#?}");
    assert_recorded(&desk, "one.nii.gz", "pred_user_one.nii.gz");

    let done = segment(&desk, &[&POINTS[..], &["--mask", "three.nii.gz"]].concat());
    assert!(done.succeeds().stdout.starts_with("points: "), "{done:#?}");
    assert_recorded(&desk, "three.nii.gz", "pred_user_points.nii.gz");

    let centered = ["--preprocess", "sam-med3d-centered", "--mask", "centered.nii.gz"];
    segment(&desk, &[&POINTS[..], &centered].concat()).succeeds();
    assert_recorded(&desk, "centered.nii.gz", "pred_user_points_centered.nii.gz");

    segment(&desk, &[&POINTS[..], &["--at-once", "--mask", "at-once.nii.gz"]].concat()).succeeds();
    assert_ne!(labels(&desk.path("at-once.nii.gz")), labels(&desk.path("three.nii.gz")));
    segment(&desk, &[&POINTS[..], &["--as-stored", "--mask", "stored.nii.gz"]].concat()).succeeds();
    assert_ne!(labels(&desk.path("stored.nii.gz")), labels(&desk.path("three.nii.gz")));
}

#[test]
fn every_target_gets_a_label_of_its_name() {
    let desk = Desk::new();
    let targets =
        [&["--target", "liver"], &POINTS[..2], &["--target", "lesion"], &["--point", "33,20,20"]];
    let done = segment(&desk, &[&targets.concat()[..], &["--json", "-o", "out"]].concat());
    let report: Value = serde_json::from_str(&done.succeeds().stdout).unwrap();
    assert_keeps_to("segment", &report);
    let names = [0, 1].map(|n| report["prompts"][n]["name"].clone());
    assert_eq!(names, [json!("liver"), json!("lesion")]);
    assert_eq!(report["prompts"][1]["labels"], json!([2]));
    assert_eq!(report["input"]["mode"], "crop");
    // The volume is stored as IRP.
    assert_eq!(report["input"]["seen_orientation"], "RAS");
    assert_eq!(report["model"]["model_type"], "sam_med3d");
    assert_eq!(report["input"]["preprocess"], "sam-med3d");
    let first: usize =
        labels(&desk.path("out/mask.nii.gz")).iter().filter(|label| **label == 1).count();
    assert!(first > 1000, "{first}");
}

#[test]
fn an_earlier_mask_is_corrected_and_never_replaced() {
    let desk = Desk::new();
    let mask = desk.path("earlier.nii.gz");
    std::fs::copy(golden("pred_user_one.nii.gz"), &mask).unwrap();
    let earlier = ["--mask-prompt", "earlier.nii.gz"];
    let done = segment(&desk, &[&earlier[..], &["--mask", "alone.nii.gz"]].concat());
    assert!(done.succeeds().stdout.starts_with("mask: "), "{done:#?}");
    let negative = ["--point", "31,110,60:neg", "--mask", "corrected.nii.gz"];
    segment(&desk, &[&earlier[..], &negative].concat()).succeeds();
    assert_ne!(labels(&desk.path("alone.nii.gz")), labels(&desk.path("corrected.nii.gz")));

    let onto = [&earlier[..], &["--force", "--mask", "earlier.nii.gz"]].concat();
    segment(&desk, &onto).code_is(73).says("a mask");
    let target = [&earlier[..], &["--target", "liver", "--mask", "named.nii.gz"]].concat();
    segment(&desk, &target).succeeds();
    let targets = [&target[..], &["--target", "lesion", "--point", "20,174,73"]].concat();
    let done = segment(&desk, &[&targets[..], &["--force"]].concat());
    done.code_is(2).says("no label 2, for --target lesion");
    segment(&desk, &["--target", "liver"]).code_is(2).says("neither points nor a box");
    let other = segment(&desk, &["--mask-prompt", golden("roi.nii.gz").to_str().unwrap()]);
    other.code_is(65).says("error[R-GEO-02]").says("roi.nii.gz");
    let image = segment(&desk, &["--mask-prompt", golden("ct.nii.gz").to_str().unwrap()]);
    image.code_is(65).says("error[R-GEO-16]").says("not a label");
}

#[test]
fn the_truth_replays_the_clicks_of_the_authors_evaluation() {
    let desk = Desk::new();
    let truth = golden("label.nii.gz");
    let truth = ["--truth", truth.to_str().unwrap()];
    let done = segment(&desk, &[&truth[..], &["--mask", "one.nii.gz"]].concat());
    // The recorded Dice of the authors' own masks.
    assert!(done.succeeds().stdout.contains("Dice 0.7857 after 1 click"), "{done:#?}");
    assert!(done.stdout.contains("Dice 0.6920 after 1 click"), "{done:#?}");
    assert_recorded(&desk, "one.nii.gz", "pred_clicks1.nii.gz");
    let three = [&truth[..], &["--clicks", "3", "--mask", "three.nii.gz"]].concat();
    segment(&desk, &three).succeeds();
    assert_recorded(&desk, "three.nii.gz", "pred_clicks3.nii.gz");

    let named = ["--label", "liver", "--label", "lesion", "--json", "--mask", "named.nii.gz"];
    let done = segment(&desk, &[&truth[..], &named].concat());
    let report: Value = serde_json::from_str(&done.succeeds().stdout).unwrap();
    assert_eq!(report["masks"][1]["name"], "lesion");

    segment(&desk, &[&truth[..], &POINTS[..2]].concat()).code_is(2).says("--truth");
    segment(&desk, &["--clicks", "3"]).code_is(2).says("--truth");
}

#[test]
fn what_cannot_be_clicked_says_what_can() {
    let desk = Desk::new();
    for (args, code, says) in [
        (&[][..], 2, "give a point in it, as a viewer shows it"),
        (&["--text", "liver"], 2, "SAM-Med3D reads no texts"),
        (&["--organ", "liver"], 2, "SAM-Med3D reads no texts"),
        (&["--box", "1,1,1,9,9,9"], 2, "SAM-Med3D takes no boxes"),
        (&["--point", "31,110,60:neg"], 2, "every point is negative"),
        (&["--point", "9999,1,1"], 65, "the volume has"),
        (&["--point", "1,1,1", "--mode", "zoom"], 2, "it has crop and grow"),
        (&["--point", "1,1,1", "--preprocess", "m3d-seg"], 2, "it has sam-med3d and"),
        (&["--point", "1,1,1", "--target", "late", "--point", "2,2,2"], 2, "comes before"),
        (&["--target", "a", "--point", "1,1,1", "--center", "9999,1,1"], 65, "the volume has"),
    ] {
        segment(&desk, args).code_is(code).says(says);
    }
    assert!(desk.names(".").is_empty());
}

#[test]
fn a_volume_without_a_place_in_the_world_is_refused_with_how_to_give_one() {
    let desk = Desk::new();
    let run = |more: &[&str]| {
        let mut command = desk.command();
        command.arg("segment").arg("--model").arg(data("sam-med3d"));
        command.arg("--image").arg(data("phi3/golden/volume.npy"));
        finish(
            command.args(["--point", "9,9,9", "--device", "cpu", "--mask", "m.nii.gz"]).args(more),
        )
    };
    run(&[]).code_is(2).says("error[R-GEO-11]").says("--affine-from FILE");
    run(&["--as-stored"]).code_is(2).says("error[R-GEO-14]").says("--spacing Z,Y,X");
    run(&["--as-stored", "--spacing", "5,1.5,1.5"]).succeeds();
}

#[test]
fn both_names_of_the_modes_are_understood() {
    let desk = Desk::new();
    for (flag, value) in [("--windows", "one"), ("--mode", "crop")] {
        let mask = format!("{value}.nii.gz");
        segment(&desk, &[&POINTS[..2], &[flag, value, "--mask", &mask]].concat()).succeeds();
    }
    assert_eq!(labels(&desk.path("one.nii.gz")), labels(&desk.path("crop.nii.gz")));
    segment(&desk, &[&POINTS[..2], &["--windows", "grow", "--mask", "g.nii.gz"]].concat())
        .succeeds();
}
