//! `chat`, with lines from a pipe: the demo model on a phantom, and the recorded SAM-Med3D and SegVol.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use r1seg::phantom::{self, Phantom};
use r1seg::volume::{LabelMap, Overwrite, ReadOptions, read, write_volume};
use serde_json::{Value, json};

use crate::schema::assert_keeps_to;
use crate::{Desk, Run, data};

pub(crate) const LIVER: &str = "Can you segment the liver in this image?";

/// A conversation about a volume, all of whose lines come from a pipe.
fn chat(desk: &Desk, model: &Path, image: &Path, options: &str, lines: &[&str]) -> Run {
    let mut command = desk.command();
    command.arg("chat").arg("--model").arg(model).arg(image).args(["--device", "cpu"]);
    command.args(options.split_whitespace()).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    // A program that has refused its arguments reads none of it.
    let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
    let output = child.wait_with_output().unwrap();
    Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A phantom that lies as a CT does.
pub(crate) fn phantom_of(desk: &Desk, name: &str, seed: u64) -> PathBuf {
    let volume = phantom::volume(&Phantom::draw(seed)).unwrap();
    write_volume(desk.path(name), &volume, Overwrite::Refuse).unwrap();
    desk.path(name)
}

/// A conversation about phantom 7 with the model that knows it.
pub(crate) fn demo(desk: &Desk, lines: &[&str]) -> Run {
    let image = phantom_of(desk, "ct.nii.gz", 7);
    chat(desk, Path::new("demo"), &image, "", lines)
}

/// A conversation with the recorded SAM-Med3D, exact on any processor.
fn clicks(desk: &Desk, lines: &[&str]) -> Run {
    let image = data("sam-med3d/golden/ct.nii.gz");
    chat(desk, &data("sam-med3d"), &image, "--dtype f32", lines)
}

fn labels(path: &Path) -> Vec<u16> {
    let volume = read(path, &ReadOptions::default()).unwrap().volume;
    LabelMap::from_volume(&volume).unwrap().labels().to_vec()
}

pub(crate) fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Whether a mask is the recorded one, but for logits within the tolerance of 0.
#[track_caller]
fn assert_recorded(desk: &Desk, file: &str, recorded: &str) {
    let expected = labels(&data(&format!("sam-med3d/golden/{recorded}")));
    let got = labels(&desk.path(file));
    let apart = got.iter().zip(&expected).filter(|(a, b)| a != b).count();
    assert!(apart <= 2, "{apart} voxels");
}

#[test]
fn questions_are_answered_in_turn_and_saved_as_infer_saves_them() {
    let desk = Desk::new();
    let lines = [LIVER, "/organ Milz", "", "/mask", "/save out", "/quit", "Never asked."];
    let run = demo(&desk, &lines);
    run.succeeds();
    let lines: Vec<&str> = run.stdout.lines().collect();
    let [liver, spleen, first, second, saved] = lines.as_slice() else { panic!("{run:#?}") };
    assert!(liver.contains("[SEG]") && spleen.contains("[SEG]"), "{run:#?}");
    assert!(first.starts_with(&format!("[1] {LIVER}: ")) && first.contains(" mL ("), "{first}");
    assert!(second.starts_with("[2] spleen: ") && second.ends_with(", not saved"), "{second}");
    assert_eq!(*saved, "out: 2 masks");
    // Nothing but answers and lists on standard output, and no prompt anywhere.
    assert!(!run.stdout.contains("r1seg>") && !run.stderr.contains("r1seg>"), "{run:#?}");
    assert!(!run.stderr.contains("not saved, and gone"), "{run:#?}");
    run.says("mask 1: ").says("Milz is asked for with: ");

    let report = desk.report();
    assert_keeps_to("report", &report);
    assert_eq!(report["answers"][1]["organ"], json!({"given": "Milz", "term": "spleen"}));
    assert_eq!(report["masks"].as_array().unwrap().len(), 2);
    let infer = desk.run(
        ["infer", "-m", "demo", "ct.nii.gz", "-p", LIVER, "--organ", "Milz", "-o", "single"]
            .into_iter()
            .chain(["--device", "cpu"]),
    );
    infer.succeeds();
    assert_eq!(labels(&desk.path("out/mask.nii.gz")), labels(&desk.path("single/mask.nii.gz")));
    assert_eq!(desk.names("out"), desk.names("single"));
    let answers = |folder: &str| fs::read_to_string(desk.path(folder).join("answer.txt")).unwrap();
    assert_eq!(answers("out"), answers("single"));
}

#[test]
fn a_line_that_fails_ends_nothing_and_the_worst_one_is_the_exit_code() {
    let desk = Desk::new();
    let lines = ["/undo", "/prev", "/save nowhere", "/mask 3", "/image gone.nii.gz", LIVER];
    let run = demo(&desk, &lines);
    run.code_is(66).says("error[R-ARG-03]: ").says("did you mean").says("-->").says("gone.nii.gz");
    assert!(run.stdout.contains("[SEG]"), "{run:#?}");
    run.says("1 mask is not saved, and gone");
    desk.is_empty_but_for(&["ct.nii.gz"]);
}

#[test]
fn an_answer_without_a_mask_shows_what_to_type_instead() {
    let desk = Desk::new();
    let run = demo(&desk, &["Segment the gallbladder stone"]);
    run.succeeds();
    // In the words of a conversation: a flag could not be typed here.
    let fixes = run.stderr.lines().filter(|line| line.starts_with("  fix: "));
    for fix in fixes {
        assert!(!fix.contains(" -p "), "{run:#?}");
    }
}

#[test]
fn clicks_lead_to_the_mask_that_the_authors_code_finds_and_can_be_taken_back() {
    let desk = Desk::new();
    let lines = [
        "/points 20,174,73",
        "/mask 1 one.nii.gz",
        "/points 25,190,84 31,110,60:neg",
        "/mask three.nii.gz",
        "/undo",
        "/mask 1 again.nii.gz",
        "/undo",
        "/mask",
        "/undo",
    ];
    let run = clicks(&desk, &lines);
    run.code_is(2).says("nothing is left of object 1").says("nothing was clicked");
    assert_recorded(&desk, "one.nii.gz", "pred_user_one.nii.gz");
    assert_recorded(&desk, "three.nii.gz", "pred_user_points.nii.gz");
    assert_eq!(labels(&desk.path("one.nii.gz")), labels(&desk.path("again.nii.gz")));
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert!(
        lines[0].starts_with("[1] point: ") && lines[2].starts_with("[1] points: "),
        "{run:#?}"
    );
    assert_eq!(lines.last(), Some(&"no mask yet"));
}

#[test]
fn every_object_is_a_label_of_its_own_after_reset() {
    let desk = Desk::new();
    let lines = [
        "/points 20,174,73",
        "/points 31,110,60:neg",
        "/reset",
        "/points 33,20,20",
        "/info",
        "/save out",
        "/points 30,20,20",
        "/save",
    ];
    let run = clicks(&desk, &lines);
    run.succeeds().says("mask 1 is kept: points");
    assert!(run.stdout.contains("takes points, masks"), "{run:#?}");
    let report = desk.report();
    assert_keeps_to("segment", &report);
    let points = |n: usize| report["prompts"][n]["points"].as_array().unwrap().len();
    assert_eq!((points(0), points(1)), (2, 2));
    // The second time, the same folder was written again.
    assert_eq!(run.stdout.matches("out: 2 masks").count(), 2, "{run:#?}");
}

#[test]
fn a_line_is_a_text_for_a_model_that_reads_texts_and_points_correct_it() {
    let desk = Desk::new();
    let image = data("segvol/golden/volume.npy");
    let options = "--dtype f32 --preprocess none --mode resize";
    let lines = ["liver", "/points 20,30,5", "/undo", "left kidney", "/mask", "/save out"];
    let run = chat(&desk, &data("segvol"), &image, options, &lines);
    run.succeeds();
    let sizes: Vec<&str> = run.stdout.lines().collect();
    assert!(sizes[0].starts_with("[1] liver: ") && sizes[1].starts_with("[1] liver: "), "{run:#?}");
    assert_eq!(sizes[2], sizes[0]);
    assert!(sizes[3].starts_with("[2] left kidney: "), "{run:#?}");
    let report = desk.report();
    assert_keeps_to("segment", &report);
    assert_eq!(report["prompts"][0]["points"], json!([]));
    assert_eq!(report["prompts"][1]["text"], "left kidney");
}

#[test]
fn questions_are_about_a_box_until_reset() {
    let desk = Desk::new();
    let image = data("m3d-phi3/golden/volume.npy");
    let lines = ["/box 1,2,3,9,8,7", "What is in {box}?", "/info", "/reset", "Any?", "/save out"];
    let run = chat(&desk, &data("m3d-phi3"), &image, "", &lines);
    run.succeeds().says("questions are about box 1,2,3,9,8,7 (voxels i,j,k); /reset makes");
    assert!(run.stdout.contains("box 1,2,3,9,8,7"), "{run:#?}");
    let report = desk.report();
    assert_keeps_to("report", &report);
    assert_eq!(report["asked_box"], Value::Null);
    let boxes = [0, 1].map(|n| report["answers"][n].get("asked_box").cloned());
    assert_eq!(boxes, [Some(json!([[1, 2, 3], [9, 8, 7]])), None]);
}

#[test]
fn what_a_model_does_not_take_is_refused_and_changes_nothing() {
    let desk = Desk::new();
    let run = clicks(&desk, &["liver", "/points 20,174,73", "/box 1,1,1,9,9,9", "/points 999,1,1"]);
    run.says("error[R-PNT-01]").says("reads no texts").says("takes no boxes");
    assert_ne!(run.code, Some(0));
    run.says("1 mask is not saved, and gone");
    let run = demo(&Desk::new(), &["/points 1,2,3", "/box 1,1,1,9,9,9", "What is in {box}?"]);
    run.code_is(2).says("takes no points").says("takes no boxes").says("no box was given");
}

#[test]
fn another_volume_and_another_model_wait_until_masks_are_saved_or_forgotten() {
    let desk = Desk::new();
    phantom_of(&desk, "other.nii.gz", 8);
    let lines =
        [LIVER, "/image other.nii.gz", "/forget", "/image other.nii.gz", LIVER, "/save two"];
    let run = demo(&desk, &lines);
    run.code_is(2).says("1 mask is not saved, and /image would forget them");
    run.says("1 mask forgotten without being saved").says("other.nii.gz: 256 x 256 x 32 voxels");
    assert_eq!(json_of(&desk.path("two/report.json"))["input"]["path"], "other.nii.gz");

    let sam = data("sam-med3d");
    let model = format!("/model {}", sam.display());
    let lines = ["What do you see?", &model, "/points 128,128,16", "/mask", "/model nothing"];
    let run = chat(&desk, Path::new("demo"), &desk.path("ct.nii.gz"), "", &lines);
    assert!(run.stdout.contains("[1] point: "), "{run:#?}");
    run.says("model sam-med3d");
    assert_ne!(run.code, Some(0));
}

#[test]
fn nothing_is_replaced_that_the_conversation_did_not_write() {
    let desk = Desk::new();
    fs::create_dir(desk.path("mine")).unwrap();
    fs::write(desk.path("mine/report.json"), "my own").unwrap();
    fs::write(desk.path("mine/liver.nii.gz"), "my own").unwrap();
    let lines = [
        LIVER,
        "/save mine",
        "/mask 1 mine/liver.nii.gz",
        "/mask 1 ct.nii.gz",
        "/preview ct.png",
        "/preview ct.png",
        "/preview ct.jpg",
        "/mask 1 liver.seg.nrrd",
    ];
    let before = phantom_of(&desk, "before.nii.gz", 7);
    let run = demo(&desk, &lines);
    run.code_is(73).says("error[R-OUT-01]").says("error[R-OUT-04]").says("error[R-OUT-06]");
    assert!(!run.stderr.contains("--force"), "{run:#?}");
    assert_eq!(fs::read_to_string(desk.path("mine/report.json")).unwrap(), "my own");
    assert_eq!(fs::read_to_string(desk.path("mine/liver.nii.gz")).unwrap(), "my own");
    assert_eq!(fs::read(desk.path("ct.nii.gz")).unwrap(), fs::read(before).unwrap());
    assert!(desk.path("ct.png").is_file() && desk.path("liver.seg.nrrd").is_file());
    // Saved to a file of its own, it is no longer named as lost.
    assert!(!run.stderr.contains("and gone"), "{run:#?}");
}

#[test]
fn control_characters_of_a_line_do_not_reach_the_terminal() {
    let desk = Desk::new();
    let image = data("segvol/golden/volume.npy");
    let run = chat(
        &desk,
        &data("segvol"),
        &image,
        "--preprocess none --mode resize",
        &["liver\u{1b}[31m", "/\u{1b}[2Jx", "/mask"],
    );
    assert!(!run.stdout.contains('\u{1b}') && !run.stderr.contains('\u{1b}'), "{run:#?}");
}

#[test]
fn a_found_mask_is_refined_by_a_second_model_in_the_conversation() {
    let desk = Desk::new();
    let refine = format!("/refine 1 {}", data("sam-med3d").display());
    let lines = ["/organ liver", &refine, "/organ spleen", "/mask", "/save out", "/refine 2 x"];
    let run = demo(&desk, &lines);
    let listed: Vec<&str> = run.stdout.lines().filter(|line| line.starts_with('[')).collect();
    let names = [
        "[2] liver (refined by SAM-Med3D): ",
        "[1] liver: ",
        "[2] liver (refined by SAM-Med3D): ",
        "[3] spleen: ",
    ];
    for (line, name) in listed.iter().zip(names) {
        assert!(line.starts_with(name), "{run:#?}");
    }
    // A mask that was refined is not refined once more.
    run.code_is(2).says("2 is not a mask or box of a prompt");
    let report = desk.report();
    assert_keeps_to("report", &report);
    let labels: Vec<_> = report["masks"].as_array().unwrap().iter().map(|m| &m["label"]).collect();
    assert_eq!(labels, [&json!(1), &json!(2), &json!(3)]);
    assert_eq!(report["masks"][1]["refines"], 1);
    assert_eq!(report["answers"][1]["labels"], json!([3]));
    assert_eq!(report["refined_with"][0]["refinements"][0]["labels"], json!([2]));
}

#[test]
fn what_cannot_begin_says_why() {
    let desk = Desk::new();
    let image = phantom_of(&desk, "ct.nii.gz", 7);
    chat(&desk, Path::new("demo"), Path::new("-"), "", &[]).fails(2, "R-ARG-03").says("as a file");
    let none = chat(&desk, &data("m3d-clip"), &image, "", &["liver"]);
    assert_eq!(none.code, Some(78), "{none:#?}");
    chat(&desk, Path::new("demo"), &image, "--mode zoom", &[]).says("has no mode zoom");
    fs::write(desk.path("diary"), "dear diary").unwrap();
    let run = chat(&desk, Path::new("demo"), &image, "--history diary", &[]);
    run.fails(2, "R-ARG-03");
    assert_eq!(fs::read_to_string(desk.path("diary")).unwrap(), "dear diary");
}
