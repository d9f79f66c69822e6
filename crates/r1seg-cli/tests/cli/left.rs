//! What a run leaves: a folder of its own, and masks where nothing was found.

use std::fs;
use std::path::Path;

use r1seg::volume::{ReadOptions, read, read_from};
use serde_json::Value;

use crate::schema::assert_keeps_to;
use crate::{Desk, Run, data, finish, nifti, prompt};

/// `infer` with the question that gets no mask, and without a folder.
fn nothing_found(desk: &Desk, image: &Path, options: &str) -> std::process::Command {
    let mut command = desk.command();
    command.args(["infer", "--device", "cpu", "--separator", "none", "-m"]).arg(data("phi3"));
    command.args(["-p", &prompt("phi3/golden/case2"), "-i"]).arg(image);
    command.args(options.split_whitespace());
    command
}

fn values(path: &Path) -> Vec<f32> {
    read(path, &ReadOptions::default()).unwrap().volume.voxels().to_f32().into_owned()
}

#[test]
fn r14_each_question_about_a_ct_gets_a_folder_of_its_own() {
    let desk = Desk::new();
    let image = nifti(&desk, "ct.nii.gz");
    let first = desk.run_infer(&image, "");
    first.succeeds().says("mask ct/mask.nii.gz ");
    assert!(!first.stderr.contains("exists already"), "{}", first.stderr);
    let mask = fs::read(desk.path("ct/mask.nii.gz")).unwrap();

    let second = desk.run_infer(&image, "--json");
    second.succeeds().says("mask ct-2/mask.nii.gz ").says("preview ct-2/preview.png");
    second.says("results are in ct-2, since ct exists already");
    let report: Value = serde_json::from_str(&second.stdout).unwrap();
    assert_keeps_to("report", &report);
    assert_eq!(report["output_folder"], "ct-2");
    assert_eq!(report["masks"][0]["path"], "mask.nii.gz");
    assert_eq!(desk.names("ct"), desk.names("ct-2"));

    // Whatever it is that has the name.
    fs::write(desk.path("ct-3"), "a file").unwrap();
    desk.run_infer(&image, "--no-preview").succeeds().says("results are in ct-4");
    assert_eq!(fs::read(desk.path("ct/mask.nii.gz")).unwrap(), mask);
    desk.is_empty_but_for(&["ct", "ct-2", "ct-3", "ct-4", "ct.nii.gz"]);

    // What is named is not numbered, and --force replaces the first.
    desk.run_infer(&image, "--out ct").fails(73, "R-OUT-01");
    desk.run_infer(&image, "--force --no-preview").succeeds().says("mask ct/mask.nii.gz ");
    assert!(!desk.path("ct/preview.png").exists());
    desk.is_empty_but_for(&["ct", "ct-2", "ct-3", "ct-4", "ct.nii.gz"]);
}

#[test]
fn r14_the_folder_of_a_run_that_was_killed_is_taken_by_the_next_one() {
    let desk = Desk::new();
    let image = nifti(&desk, "ct.nii.gz");
    fs::create_dir_all(desk.path("ct/.r1seg-dead01.part")).unwrap();
    fs::write(desk.path("ct/.r1seg-dead01.part/mask.npy"), "half").unwrap();
    // Empty, it may be the folder of a run that has not begun to write.
    fs::create_dir(desk.path("ct-2")).unwrap();
    desk.run_infer(&image, "--no-preview").succeeds();
    assert!(desk.path("ct/report.json").exists());
    desk.run_infer(&image, "--no-preview").succeeds();
    assert!(desk.path("ct-3/report.json").exists());
    assert!(desk.names("ct-2").is_empty());
}

#[test]
fn r14_segment_numbers_its_folders_too() {
    let desk = Desk::new();
    let image = nifti(&desk, "ct.nii");
    let run = || {
        let mut command = desk.command();
        command.args(["segment", "--device", "cpu", "--mode", "resize", "-t", "liver", "-m"]);
        finish(command.arg(data("segvol")).arg("-i").arg(&image))
    };
    run().succeeds();
    run().succeeds().says("results are in ct-2, since ct exists already");
    let report: Value =
        serde_json::from_slice(&fs::read(desk.path("ct-2/report.json")).unwrap()).unwrap();
    assert_keeps_to("segment", &report);
    assert_eq!(report["output_folder"], "ct-2");
}

#[test]
fn r14_a_run_that_fails_leaves_no_numbered_folder() {
    let desk = Desk::new();
    let image = nifti(&desk, "ct.nii");
    fs::create_dir(desk.path("ct")).unwrap();
    desk.run_infer(&image, "--box 0,0,0,99,9,9").fails(65, "R-BOX-01");
    desk.is_empty_but_for(&["ct", "ct.nii"]);
}

#[cfg(unix)]
#[test]
fn r8_a_name_that_is_no_utf_8_gives_a_folder_of_the_same_bytes() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let desk = Desk::new();
    let image = nifti(&desk, "ct.nii");
    let named = desk.folder.path().join(OsStr::from_bytes(b"t\xe9te.nii"));
    if fs::rename(&image, &named).is_err() {
        eprintln!("skipped: this file system has names in UTF-8 only");
        return;
    }
    desk.run_infer(&named, "").succeeds();
    assert!(desk.folder.path().join(OsStr::from_bytes(b"t\xe9te/mask.nii.gz")).is_file());
}

#[test]
fn r13_a_named_mask_that_was_not_written_is_said() {
    let desk = Desk::new();
    let image = nifti(&desk, "ct.nii");
    let run = finish(&mut nothing_found(&desk, &image, "--mask m.nii.gz"));
    run.succeeds().says("m.nii.gz was not written, since there is no mask; --empty-mask writes");
    desk.is_empty_but_for(&["ct.nii"]);
}

#[test]
fn r13_an_empty_mask_is_written_on_request_in_every_format() {
    let desk = Desk::new();
    let image = nifti(&desk, "ct.nii");
    for name in ["m.nii.gz", "m.nii", "m.npy"] {
        let options = format!("--empty-mask --mask {name}");
        let run = finish(&mut nothing_found(&desk, &image, &options));
        run.succeeds().says(&format!("mask {name} of zeros, no mask: "));
        assert_eq!(values(&desk.path(name)), vec![0.0; 16 * 64 * 64], "{name}");
    }
    finish(&mut nothing_found(&desk, &image, "--empty-mask --mask m.seg.nrrd")).succeeds();
    assert!(fs::read(desk.path("m.seg.nrrd")).unwrap().starts_with(b"NRRD0004\n"));

    let run = finish(&mut nothing_found(&desk, &image, "--empty-mask --json --require-mask"));
    assert_eq!(run.code, Some(3), "{run:#?}");
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_keeps_to("report", &report);
    assert_eq!(
        (&report["status"], &report["masks"][0]["voxels"]),
        (&"not_found".into(), &0.into())
    );
    assert_eq!(report["masks"][0]["path"], "mask.nii.gz");
    let names =
        ["answer.txt", "labels.json", "mask.nii.gz", "mask.seg.nrrd", "preview.png", "report.json"];
    assert_eq!(desk.names("ct"), names);
}

#[test]
fn r13_of_several_prompts_each_has_a_mask_then() {
    let desk = Desk::new();
    let image = nifti(&desk, "ct.nii");
    let question = prompt("phi3/golden/case0");
    // The same question twice overlaps, so that each prompt has a file.
    let mut command = nothing_found(&desk, &image, "--empty-mask --mask m.nii --no-preview");
    finish(command.args(["-p", &question, "-p", &question])).succeeds();
    desk.is_empty_but_for(&["ct.nii", "m_1.nii", "m_2.nii", "m_3.nii"]);
    assert_eq!(values(&desk.path("m_1.nii")), vec![0.0; 16 * 64 * 64]);
    assert!(values(&desk.path("m_2.nii")).contains(&2.0));
}

#[test]
fn r13_a_mask_on_standard_output_is_never_an_empty_file_and_a_success() {
    let desk = Desk::new();
    let image = nifti(&desk, "ct.nii");
    for options in ["--mask -", "--mask - -q"] {
        let run: Run = finish(&mut nothing_found(&desk, &image, options));
        run.fails(3, "R-OUT-08").says("--empty-mask");
    }
    let output = nothing_found(&desk, &image, "--mask - --empty-mask").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let mask = read_from(output.stdout.as_slice(), "stdout", &ReadOptions::default()).unwrap();
    assert!(mask.volume.voxels().iter().all(|v| v == 0.0));
    assert_eq!(mask.volume.shape(), [16, 64, 64]);
    desk.is_empty_but_for(&["ct.nii"]);
}

#[test]
fn a_window_is_for_a_picture() {
    let desk = Desk::new();
    let image = nifti(&desk, "ct.nii");
    let picture = |options: &str| {
        desk.run_infer(&image, &format!("--preview p.png --force {options}")).succeeds();
        fs::read(desk.path("p.png")).unwrap()
    };
    let [auto, lung, same] = ["", "--window lung", "--window -600,1500"].map(picture);
    assert!(auto != lung && lung != same);
    desk.run_infer(&image, "--mask m.nii --window lung").fails(2, "R-ARG-03").says("--preview");
    for options in ["--window lungs", "--window 40,0", "--window lung --no-preview"] {
        assert_eq!(desk.run_infer(&image, options).code, Some(2), "{options}");
    }
    let inspect = |options: &str| {
        let line = format!("inspect ct.nii --force --preview p.png {options}");
        finish(desk.command().args(line.split_whitespace())).succeeds();
        fs::read(desk.path("p.png")).unwrap()
    };
    assert!(inspect("") != inspect("--window 0.5,0.1"));
}

#[test]
fn a_label_may_have_a_short_name() {
    let desk = Desk::new();
    let image = nifti(&desk, "ct.nii");
    desk.run_infer(&image, "--label liver --no-preview").succeeds();
    let read = |name: &str| fs::read(desk.path(&format!("ct/{name}"))).unwrap();
    let labels: Value = serde_json::from_slice(&read("labels.json")).unwrap();
    assert_eq!(labels["1"]["name"], "liver");
    let report: Value = serde_json::from_slice(&read("report.json")).unwrap();
    assert_eq!(report["masks"][0]["name"], "liver");
    assert_eq!(report["prompt"], prompt("phi3/golden/case0"));
    let segmentation = read("mask.seg.nrrd");
    let header = String::from_utf8_lossy(&segmentation);
    assert!(header.contains("Segment0_Name:=liver\n"), "{header}");
    for (labels, says) in [("--label a --label b", "2 times"), ("--label=", "is empty")] {
        desk.run_infer(&image, labels).fails(2, "R-ARG-03").says(says);
    }
}
