//! `segment`, with the recorded VISTA3D: classes by name and number, everything, and points.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use r1seg::phantom::{self, Phantom};
use r1seg::volume::{LabelMap, Overwrite, ReadOptions, read, write_volume};
use serde_json::{Value, json};

use crate::schema::assert_keeps_to;
use crate::{Desk, Run, data, finish};

fn segment(desk: &Desk, ct: &str, args: &[&str]) -> Run {
    let mut command = desk.command();
    command.arg("segment").arg("--model").arg(data("vista3d"));
    command.arg("--image").arg(golden(ct)).args(["--device", "cpu"]);
    finish(command.args(args))
}

fn golden(file: &str) -> PathBuf {
    data(&format!("vista3d/golden/{file}"))
}

/// The labels of a file; the authors' value for voxels outside of all windows counts as background here.
fn labels(path: &Path) -> Vec<u16> {
    let volume = read(path, &ReadOptions::default()).unwrap().volume;
    let labels = LabelMap::from_volume(&volume).unwrap();
    labels.labels().iter().map(|label| if *label == 255 { 0 } else { *label }).collect()
}

fn counts(labels: &[u16]) -> BTreeMap<u16, usize> {
    let mut counts = BTreeMap::new();
    for label in labels.iter().filter(|label| **label != 0) {
        *counts.entry(*label).or_default() += 1;
    }
    counts
}

#[test]
fn classes_lead_from_a_ct_to_the_labels_of_the_authors_bundle() {
    let desk = Desk::new();
    for (args, recorded) in [
        (&["--class", "1,spleen", "--class", "Right_Kidney"][..], "ct.classes"),
        (&["--class", "Liver", "--class", "kidney"], "ct.names"),
        (&["--everything"], "ct.everything"),
        (&["--point", "29,36,23"], "ct.point"),
        (
            &["--point", "60,42,23", "--point", "57,57,13:neg", "--class", "spleen"],
            "ct.class_points",
        ),
        (&["--point", "57,57,13", "--class", "200"], "ct.zero_shot"),
    ] {
        let file = format!("{recorded}.nii.gz");
        segment(&desk, "ct.nii.gz", &[args, &["--mask", &file]].concat()).succeeds();
        let expected = labels(&golden(&format!("{recorded}.final.nii.gz")));
        assert!(labels(&desk.path(&file)) == expected, "{recorded}");
    }
}

#[test]
fn a_folder_names_the_labels_by_the_numbers_of_their_classes() {
    let desk = Desk::new();
    let done = segment(&desk, "ct.nii.gz", &["--class", "spleen,lung", "--json", "-o", "out"]);
    let report: Value = serde_json::from_str(&done.succeeds().stdout).unwrap();
    assert_keeps_to("segment", &report);
    let names: Vec<_> = (0..6).map(|n| report["prompts"][n]["name"].as_str().unwrap()).collect();
    assert_eq!(names[0], "spleen");
    assert!(names[1..].iter().all(|name| name.contains("lung")), "{names:?}");
    assert_eq!(report["prompts"][0]["labels"], json!([3]));
    assert_eq!(report["prompts"][5]["labels"], json!([32]));
    assert_eq!(report["input"]["preprocess"], "vista3d");
    let listed: Value =
        serde_json::from_slice(&std::fs::read(desk.path("out/labels.json")).unwrap()).unwrap();
    assert_eq!(listed["3"]["name"], "spleen");
    assert!((28..=32).all(|id| listed[id.to_string()]["name"].is_string()), "{listed}");
    let counts = counts(&labels(&desk.path("out/mask.nii.gz")));
    assert!(counts.keys().all(|label| [3, 28, 29, 30, 31, 32].contains(label)), "{counts:?}");
    for mask in report["masks"].as_array().unwrap() {
        let label = u16::try_from(mask["label"].as_u64().unwrap()).unwrap();
        let voxels = counts.get(&label).copied().unwrap_or_default();
        assert_eq!(mask["voxels"], json!(voxels), "{label}");
    }
    let slicer = std::fs::read(desk.path("out/mask.seg.nrrd")).unwrap();
    let header = String::from_utf8_lossy(&slicer[..4000]);
    assert!(header.contains("LabelValue:=28") && !header.contains("LabelValue:=4\n"), "{header}");
}

#[test]
fn a_file_for_each_class_keeps_the_voxels_that_classes_share() {
    let desk = Desk::new();
    let classes = ["--class", "liver,spleen", "-o", "out", "--one-file-per-class"];
    segment(&desk, "ct.nii.gz", &classes).succeeds();
    segment(&desk, "ct.nii.gz", &["--class", "liver", "--mask", "liver.nii.gz"]).succeeds();
    let files = ["out/mask_1.nii.gz", "out/mask_3.nii.gz"].map(|file| labels(&desk.path(file)));
    assert!(files[0] == labels(&desk.path("liver.nii.gz")));
    let shared = files[0].iter().zip(&files[1]).filter(|(a, b)| **a != 0 && **b != 0).count();
    assert!(shared > 0);
    assert!(!desk.path("out/mask.nii.gz").exists());
}

#[test]
fn a_list_of_classes_is_read_from_a_file() {
    let desk = Desk::new();
    std::fs::write(desk.path("wanted.txt"), "# organs\nliver\n\n 3\nspleen\n").unwrap();
    let listed = ["--classes-file", "wanted.txt", "--mask", "m.nii.gz", "--report", "r.json"];
    let done = segment(&desk, "ct_small.nii.gz", &listed);
    let out = done.succeeds().stdout.clone();
    assert!(out.starts_with("liver: ") && out.contains("\nspleen: "), "{out}");
    assert_eq!(out.lines().count(), 2);
}

#[test]
fn what_is_no_class_is_refused_before_the_volume_is_read() {
    let desk = Desk::new();
    std::fs::write(desk.path("none.txt"), "# nothing\n").unwrap();
    for (args, says) in [
        (&["--class", "livver"][..], "did you mean liver"),
        (&["--class", "16"], "not trained"),
        (&["--class", "999"], "not a class"),
        (&["--class", "kidney", "--point", "1,1,1"], "stands for 2 classes"),
        (&["--classes-file", "none.txt"], "names no class"),
        (&["--class", "liver", "--box", "1,1,1,4,4,4"], "takes no boxes"),
        (&["--point", "1,1,1:neg"], "negative"),
        (&["--class", "liver", "--mode", "zoom"], "no mode zoom"),
        (&["--class", "liver", "--preprocess", "m3d-seg"], "no recipe m3d-seg"),
        (&["--everything", "--class", "liver"], "cannot be used with"),
        (&["--everything=mri-body"], "no list of classes for mri-body"),
        (&["--everything=pet"], "expected ct-body, mri-body or mri-brain"),
        (&[], "nothing was asked for"),
    ] {
        let done = segment(&desk, "no-such-file.nii.gz", args);
        assert_eq!(done.code, Some(2), "{args:?}: {done:#?}");
        assert!(done.stderr.contains(says), "{args:?}: {}", done.stderr);
    }
    let mut other = desk.command();
    other.args(["segment", "--class", "liver", "--image"]).arg(golden("ct.nii.gz"));
    let done = finish(other.arg("--model").arg(data("segvol")));
    assert_eq!(done.code, Some(2));
    assert!(done.stderr.contains("--class is for models with classes"), "{}", done.stderr);
}

/// The recorded model as one of NV-Segment-CTMR, in a folder of this desk.
fn as_ctmr(desk: &Desk) -> PathBuf {
    let folder = desk.path("ctmr");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(data("vista3d/model.safetensors"), folder.join("model.safetensors")).unwrap();
    let json = std::fs::read(data("vista3d/config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&json).unwrap();
    config["model_type"] = "vista3d_ctmr".into();
    for of_the_other in ["everything_labels", "intensity_range", "last_supported"] {
        config[of_the_other] = Value::Null;
    }
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    folder
}

#[test]
fn everything_of_a_model_for_mri_too_is_what_the_scan_is_said_to_show() {
    let desk = Desk::new();
    let model = as_ctmr(&desk);
    let run = |args: &[&str]| {
        let mut command = desk.command();
        command.args(["segment", "--device", "cpu", "--image"]).arg(golden("ct_small.nii.gz"));
        finish(command.arg("--model").arg(&model).args(args))
    };
    run(&["--everything"]).fails(2, "R-PRM-05").says("ct-body, mri-body or mri-brain");
    run(&["--everything=mri-brain", "--json", "-o", "out"]).succeeds();
    let listed: Value =
        serde_json::from_slice(&std::fs::read(desk.path("out/labels.json")).unwrap()).unwrap();
    let listed = listed.as_object().unwrap();
    assert_eq!(listed.len(), 132);
    assert!(listed.keys().all(|id| (214..=345).contains(&id.parse().unwrap())), "{listed:?}");
}

#[test]
fn a_batch_prepares_volumes_by_the_recipe_of_the_checkpoint() {
    let desk = Desk::new();
    let mut command = desk.command();
    command.arg("batch").arg(golden("ct_small.nii.gz")).arg("-m").arg(as_ctmr(&desk));
    finish(command.args(["--text", "liver", "-o", "out", "--device", "cpu"])).succeeds();
    let line = std::fs::read(desk.path("out/results.jsonl")).unwrap();
    let line: Value = serde_json::from_slice(&line).unwrap();
    let folder = desk.path("out").join(line["folder"].as_str().unwrap());
    let report = std::fs::read(folder.join("report.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["input"]["preprocess"], "vista3d-ctmr");
}

#[test]
fn the_classes_of_a_model_are_listed() {
    let desk = Desk::new();
    for model in ["NV-Segment-CT", data("vista3d").to_str().unwrap()] {
        let done = finish(desk.command().args(["prompts", model]));
        let out = done.succeeds().stdout.clone();
        for name in ["liver", "kidney", "hepatic tumor", "left lung upper lobe"] {
            assert!(out.contains(name), "{model}: {out}");
        }
    }
    let done = finish(desk.command().args(["prompts", "nvidia/NV-Segment-CTMR"]));
    assert!(done.succeeds().stdout.lines().count() > 300);
}

#[test]
fn an_answer_is_drawn_again_as_the_class_that_it_is_about() {
    let desk = Desk::new();
    let volume = phantom::volume(&Phantom::draw(7)).unwrap();
    write_volume(desk.path("ct.nii.gz"), &volume, Overwrite::Refuse).unwrap();
    let mut command = desk.command();
    command.args(["infer", "--model", "demo", "--image", "ct.nii.gz", "--json", "-o", "out"]);
    command.args(["-p", "Can you segment the liver in this image?", "--device", "cpu"]);
    let done = finish(command.arg("--refine-with").arg(data("vista3d")));
    let report: Value = serde_json::from_str(&done.succeeds().stdout).unwrap();
    assert_keeps_to("report", &report);
    assert_eq!(report["refined_with"][0]["model"]["model_type"], "vista3d");
    let masks = report["masks"].as_array().unwrap();
    assert_eq!(masks[0]["label"], 1);
    assert_eq!(masks[1]["refines"], 1);
    assert_eq!(report["refined_with"][0]["refinements"][0]["text"], "liver");
}

#[test]
fn a_checkpoint_that_takes_no_points_draws_again_what_names_a_class_and_says_what_does_not() {
    let desk = Desk::new();
    let volume = phantom::volume(&Phantom::draw(7)).unwrap();
    write_volume(desk.path("ct.nii.gz"), &volume, Overwrite::Refuse).unwrap();
    let model = as_ctmr(&desk);
    let mut command = desk.command();
    command.args(["infer", "--model", "demo", "--image", "ct.nii.gz", "--json", "-o", "out"]);
    command.args(["-p", "Can you segment the liver in this image?", "--device", "cpu"]);
    // What makes bile is not the name of a class.
    command.args(["-p", "Which organ makes bile? Please answer and segment."]);
    let done = finish(command.arg("--refine-with").arg(&model));
    let report: Value = serde_json::from_str(&done.succeeds().stdout).unwrap();
    assert_keeps_to("report", &report);
    let refinements = report["refined_with"][0]["refinements"].as_array().unwrap();
    assert_eq!((refinements.len(), &refinements[0]["text"]), (1, &json!("liver")));
    done.says("warning[W-REFINE]").says("no class of ctmr was named, and it takes no points");
}
