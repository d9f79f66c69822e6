//! Results elsewhere than in the folder, and on standard output.

use std::fs;

use r1seg::volume::{ReadOptions, read, read_from};

use crate::{Desk, data, nifti, prompt};

#[test]
fn only_the_named_files_are_written_without_a_folder() {
    let desk = Desk::new();
    let image = nifti(&desk, "ct.nii.gz");
    fs::create_dir(desk.path("sub")).unwrap();
    let run = desk.run_infer(&image, "--mask m.nii --report sub/r.json --preview p.PNG");
    run.succeeds().says("r1seg: mask m.nii ").says(" | preview p.PNG | report sub/r.json | ");
    desk.is_empty_but_for(&["ct.nii.gz", "m.nii", "p.PNG", "sub"]);
    assert_eq!(desk.names("sub"), ["r.json"]);
    let report: serde_json::Value =
        serde_json::from_slice(&fs::read(desk.path("sub/r.json")).unwrap()).unwrap();
    assert_eq!(report["masks"][0]["path"], "m.nii");
    let mask = read(desk.path("m.nii"), &ReadOptions::default()).unwrap().volume;
    let voxels = mask.voxels().iter().filter(|v| *v == 1.0).count();
    assert_eq!(report["masks"][0]["voxels"], voxels);
}

#[test]
fn a_named_file_goes_elsewhere_and_the_rest_into_the_folder() {
    let desk = Desk::new();
    let image = nifti(&desk, "ct.nii.gz");
    desk.infer_volume(&image, "--report r.json --mask m.seg.nrrd").succeeds();
    assert_eq!(desk.names("out"), ["answer.txt", "labels.json", "preview.png"]);
    assert!(fs::read(desk.path("m.seg.nrrd")).unwrap().starts_with(b"NRRD0004\n"));
    desk.is_empty_but_for(&["ct.nii.gz", "m.seg.nrrd", "out", "r.json"]);
}

#[test]
fn the_ending_of_the_mask_says_its_format() {
    let desk = Desk::new();
    let image = nifti(&desk, "ct.nii.gz");
    for (name, start) in
        [("m.nii.gz", &b"\x1f\x8b"[..]), ("m.npy", b"\x93NUMPY"), ("m.nrrd", b"NRRD0004")]
    {
        desk.run_infer(&image, &format!("--mask {name}")).succeeds();
        assert!(fs::read(desk.path(name)).unwrap().starts_with(start), "{name}");
    }
    for name in ["m.png", "m", "m.gz"] {
        desk.run_infer(&image, &format!("--mask {name}")).fails(73, "R-OUT-04").says(".seg.nrrd");
    }
    desk.run_infer(&image, "--preview p.jpg").fails(73, "R-OUT-04").says(".png");
}

#[test]
fn a_mask_on_standard_output_leaves_the_answer_to_standard_error() {
    let desk = Desk::new();
    let image = nifti(&desk, "ct.nii.gz");
    let mut command = desk.bare_command(&image, "--mask -");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stdout.starts_with(b"\x1f\x8b"));
    let mask = read_from(output.stdout.as_slice(), "stdout", &ReadOptions::default()).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("\nSure, it is[SEG].\n"), "{stderr}");
    desk.is_empty_but_for(&["ct.nii.gz"]);

    desk.run_infer(&image, "--mask m.nii").succeeds();
    let written = read(desk.path("m.nii"), &ReadOptions::default()).unwrap();
    assert_eq!(mask.volume, written.volume);

    let quiet = desk.bare_command(&image, "--mask - -q").output().unwrap();
    assert_eq!((quiet.stdout, quiet.stderr), (output.stdout, Vec::new()));
}

#[test]
fn standard_output_holds_one_thing_only() {
    let desk = Desk::new();
    let image = desk.path("nope.nii.gz");
    desk.run_infer(&image, "--mask - --json").fails(2, "R-ARG-03").says("--report FILE");
    desk.run_infer(&image, "--report -").fails(2, "R-ARG-03").says("--report -");
    desk.run_infer(&image, "--preview -").fails(2, "R-ARG-03").says("--preview -");
    let image = nifti(&desk, "ct.nii");
    let question = prompt("phi3/golden/case0");
    let mut command = desk.bare_command(&image, "--mask - --preprocess none");
    // Twice the same question.
    let run = crate::finish(command.args(["-p", &question]));
    assert_eq!(run.code, Some(73), "{run:?}");
    assert_eq!(run.stdout, "");
    run.says("error[R-OUT-07]: masks of several prompts overlap in ");
}

#[test]
fn r7_named_files_are_never_replaced_unless_asked() {
    let desk = Desk::new();
    let image = nifti(&desk, "ct.nii.gz");
    fs::write(desk.path("m.nii"), "mine").unwrap();
    let run = desk.run_infer(&image, "--mask m.nii --report r.json");
    run.fails(73, "R-OUT-01").says("choose another name, or --force");
    assert!(!run.stderr.contains("research use"), "{}", run.stderr);
    assert_eq!(fs::read_to_string(desk.path("m.nii")).unwrap(), "mine");
    desk.is_empty_but_for(&["ct.nii.gz", "m.nii"]);
    desk.run_infer(&image, "--mask m.nii --report r.json --force").succeeds();
    assert!(fs::read(desk.path("m.nii")).unwrap().len() > 60000);
    // The question has no mask: the old one is not left beside the new report.
    let question = prompt("phi3/golden/case2");
    let mut command = desk.command();
    command.args(["infer", "--mask", "m.nii", "--report", "r.json", "--force", "-p", &question]);
    command.args(["--separator", "none", "-m"]).arg(data("phi3")).arg("-i");
    crate::finish(command.arg(data("phi3/golden/volume.npy"))).succeeds();
    desk.is_empty_but_for(&["ct.nii.gz", "r.json"]);
}

#[test]
fn r7_inputs_are_never_replaced() {
    let desk = Desk::new();
    let image = nifti(&desk, "ct.nii.gz");
    let before = fs::read(&image).unwrap();
    desk.run_infer(&image, "--mask ct.nii.gz --force").fails(73, "R-OUT-06");
    desk.run_infer(&image, "--report ./ct.nii.gz --force").fails(73, "R-OUT-06");
    fs::write(desk.path("q.txt"), prompt("phi3/golden/case0")).unwrap();
    desk.run_infer(&image, "-p @q.txt --report q.txt --force").fails(73, "R-OUT-06");
    let other = nifti(&desk, "other.nii");
    desk.run_infer(&image, "--affine-from other.nii --mask other.nii --force")
        .fails(73, "R-OUT-06");
    assert_eq!(fs::read(&image).unwrap(), before);
    assert!(fs::read(other).unwrap().len() > 60000);
}

#[test]
fn r7_two_results_never_share_a_file() {
    let desk = Desk::new();
    let image = nifti(&desk, "ct.nii.gz");
    for options in [
        "--report x --trace x",
        "--report x --trace ./x",
        "--preview x.png --report x.png",
        "--out . --report answer.txt",
    ] {
        let run = desk.run_infer(&image, options);
        run.fails(2, "R-ARG-03").says("two results");
    }
    desk.is_empty_but_for(&["ct.nii.gz"]);
}

#[test]
fn a_named_file_in_a_folder_that_is_missing_is_refused_before_anything_is_computed() {
    let desk = Desk::new();
    let image = nifti(&desk, "ct.nii.gz");
    let run = desk.run_infer(&image, "--mask m.nii --report no/r.json");
    run.fails(73, "R-OUT-02").says("no/r.json").says("create the folder first");
    fs::create_dir(desk.path("dir.nii")).unwrap();
    desk.run_infer(&image, "--mask dir.nii --force").fails(73, "R-OUT-03");
    desk.is_empty_but_for(&["ct.nii.gz", "dir.nii"]);
}
