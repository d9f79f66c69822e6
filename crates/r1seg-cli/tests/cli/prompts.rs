//! Several questions about one volume, and where questions and volumes come from.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use r1seg::phantom::Phantom;
use r1seg::volume::{Geometry, Overwrite, ReadOptions, Volume, read, write_volume};
use serde_json::json;

use crate::{Desk, Run, data, finish, nifti, prompt};

const ANSWER: &str = "Sure, it is[SEG].";
const OTHER_ANSWER: &str = "The phantom shows the liver.";
/// Voxels of the recorded mask.
const VOXELS: usize = 4661;

/// The small model and volume, asked these questions.
fn ask(desk: &Desk, prompts: &[&str], options: &str) -> Run {
    let mut command = desk.command();
    command.args(["infer", "--separator", "none", "--out", "out", "--device", "cpu", "--model"]);
    command.arg(data("phi3")).arg("--image").arg(data("phi3/golden/volume.npy"));
    for prompt in prompts {
        command.args(["-p", prompt]);
    }
    finish(command.args(options.split_whitespace()))
}

/// A question that gets the recorded mask, and one that gets none.
fn questions() -> [String; 2] {
    [prompt("phi3/golden/case0"), prompt("phi3/golden/case2")]
}

fn voxels(path: &Path) -> Vec<f32> {
    read(path, &ReadOptions::default()).unwrap().volume.voxels().iter().collect()
}

fn count(voxels: &[f32], label: f32) -> usize {
    voxels.iter().filter(|v| **v == label).count()
}

#[test]
fn several_prompts_are_answered_in_turn_each_with_its_number() {
    let desk = Desk::new();
    let [first, second] = questions();
    let run = ask(&desk, &[&first, &second], "");
    let expected = format!("[1] {ANSWER}\n[2] {OTHER_ANSWER}\n");
    assert_eq!(run.succeeds().stdout, expected);
    assert_eq!(fs::read_to_string(desk.path("out/answer.txt")).unwrap(), expected);
    run.says("r1seg: [1] 4661 voxels (").says("r1seg: [2] no mask: the answer has no [SEG]\n");
    run.says("r1seg: mask out/mask.npy | preview out/preview.png | ");
    let labels: serde_json::Value =
        serde_json::from_slice(&fs::read(desk.path("out/labels.json")).unwrap()).unwrap();
    let label = json!({"name": first, "color": [230, 159, 0], "file": "mask.npy"});
    assert_eq!(labels, json!({"1": label}));
}

#[test]
fn answers_said_at_once_are_printed_in_the_order_of_their_prompts() {
    // The first answer is the longest, and there are more than are answered at once.
    let desk = Desk::new();
    let [short, long] = questions();
    let mut prompts = vec![long.as_str(), &short];
    prompts.extend([&*short; 6]);
    let said = |n: usize| if n == 0 { OTHER_ANSWER } else { ANSWER };
    let expected: String =
        (0..prompts.len()).map(|n| format!("[{}] {}\n", n + 1, said(n))).collect();
    assert_eq!(ask(&desk, &prompts, "").succeeds().stdout, expected);
    let report = desk.report();
    for (n, prompt) in prompts.iter().enumerate() {
        let answer = &report["answers"][n];
        assert_eq!((&answer["prompt"], &answer["answer"]), (&json!(prompt), &json!(said(n))));
        for time in ["prefill", "decode"] {
            assert!(answer["timings_ms"][time].as_f64().unwrap() > 0.0, "{n} {time}");
        }
    }
}

#[test]
fn a_prompt_gets_the_same_among_others_as_alone() {
    let [first, second] = questions();
    for options in ["", "--temperature 1 --seed 5 --max-new-tokens 8"] {
        let desk = Desk::new();
        ask(&desk, &[&first, &second], options).succeeds();
        let together = desk.report();
        for (n, prompt) in [&first, &second].into_iter().enumerate() {
            ask(&desk, &[prompt], &format!("{options} --force")).succeeds();
            let alone = desk.report();
            for name in ["answer", "tokens", "finish_reason", "status"] {
                assert_eq!(together["answers"][n][name], alone[name], "{options} {name}");
            }
            let [got, expected] = [&together["answers"][n], &alone].map(|a| &a["seg_token"]);
            assert_eq!(got["positions"], expected["positions"], "{options}");
            let [got, expected] = [got, expected].map(|seg| seg["logprobs"].as_array().unwrap());
            for (got, expected) in got.iter().zip(expected) {
                // f32 sums are taken in another order.
                let gap = got.as_f64().unwrap() - expected.as_f64().unwrap();
                assert!(gap.abs() < 1e-4, "{options} {gap}");
            }
        }
    }
}

#[test]
fn the_number_of_a_prompt_is_the_label_of_its_mask() {
    let desk = Desk::new();
    let [first, second] = questions();
    ask(&desk, &[&second, &first], "").succeeds();
    let mask = voxels(&desk.path("out/mask.npy"));
    assert_eq!((count(&mask, 2.0), count(&mask, 1.0)), (VOXELS, 0));
    let report = desk.report();
    assert_eq!(report["masks"][0]["label"], 2);
    assert_eq!(report["masks"][0]["name"], first);
    assert_eq!(report["answers"][0]["labels"], json!([]));
    assert_eq!(report["answers"][1]["labels"], json!([2]));
}

#[test]
fn masks_that_do_not_overlap_share_a_file() {
    let desk = Desk::new();
    let phantom = Phantom::draw(7);
    let geometry = Geometry::with_spacing(phantom.shape, [8.0, 1.3, 1.3]).unwrap();
    let volume = Volume::new(phantom.volume, geometry).unwrap();
    write_volume(desk.path("ct.nii"), &volume, Overwrite::Refuse).unwrap();
    let run = desk.run([
        "infer",
        "-m",
        "demo",
        "--device",
        "cpu",
        "-i",
        "ct.nii",
        "-o",
        "out",
        "--json",
        "-p",
        "Can you segment the liver in this image?",
        "-p",
        "Please segment the spleen in this image.",
    ]);
    let report: serde_json::Value = serde_json::from_str(&run.succeeds().stdout).unwrap();
    let names = desk.names("out");
    assert!(names.contains(&"mask.nii.gz".to_string()), "{names:?}");
    let mask = voxels(&desk.path("out/mask.nii.gz"));
    for (n, label) in [1.0, 2.0].into_iter().enumerate() {
        let voxels = count(&mask, label);
        assert!(voxels > 1000, "{label}: {voxels}");
        assert_eq!(report["masks"][n]["voxels"], voxels);
        assert_eq!(report["masks"][n]["path"], "mask.nii.gz");
    }
    let segments = fs::read(desk.path("out/mask.seg.nrrd")).unwrap();
    let header = String::from_utf8_lossy(&segments[..1500]).into_owned();
    assert!(header.starts_with("NRRD0004\n") && header.contains("\ndimension: 3\n"), "{header}");
    assert!(header.contains("Segment1_Name:=Please segment the spleen in this image."), "{header}");
}

#[test]
fn masks_that_overlap_get_a_file_each() {
    let desk = Desk::new();
    let [first, second] = questions();
    let image = nifti(&desk, "ct.nii.gz");
    let ask_twice = |options: &str| {
        let mut command = desk.infer_command(&image, options);
        finish(command.args(["-p", &second, "-p", &first]))
    };
    let run = ask_twice("--preprocess none --max-new-tokens 6");
    run.succeeds();
    let report = desk.report();
    let voxels_of = report["masks"][0]["voxels"].as_u64().unwrap() as usize;
    assert!(voxels_of > 0);
    run.says(&format!(
        "warning[W-OVERLAP]: masks of several prompts overlap in {voxels_of} voxels"
    ));
    run.says("r1seg: masks out/mask_1.nii.gz to out/mask_3.nii.gz | ");
    assert_eq!(report["masks"][1]["path"], "mask_3.nii.gz");
    assert_eq!(
        desk.names("out"),
        [
            "answer.txt",
            "labels.json",
            "mask.seg.nrrd",
            "mask_1.nii.gz",
            "mask_3.nii.gz",
            "preview.png",
            "report.json"
        ]
    );
    for (name, label) in [("out/mask_1.nii.gz", 1.0), ("out/mask_3.nii.gz", 3.0)] {
        let mask = voxels(&desk.path(name));
        assert_eq!(count(&mask, label), voxels_of);
        assert_eq!(count(&mask, 0.0), mask.len() - voxels_of);
    }
    let segments = fs::read(desk.path("out/mask.seg.nrrd")).unwrap();
    assert!(String::from_utf8_lossy(&segments[..300]).contains("\ndimension: 4\n"));

    // A later run does not leave them beside its own.
    desk.infer_volume(&image, "--preprocess none --force").succeeds();
    let names = desk.names("out");
    assert!(names.iter().all(|name| !name.starts_with("mask_")), "{names:?}");
}

#[test]
fn a_mask_is_required_of_every_prompt() {
    let desk = Desk::new();
    let [first, second] = questions();
    assert_eq!(ask(&desk, &[&first, &second], "--require-mask").code, Some(3));
    ask(&desk, &[&first], "--require-mask --force").succeeds();
}

#[test]
fn windows_of_several_prompts_are_counted_for_each() {
    let desk = Desk::new();
    let [first, second] = questions();
    let mut command =
        desk.infer_command(&data("phi3/golden/sliding.volume.npy"), "--mode sliding --no-preview");
    let run = finish(command.args(["-p", &second]));
    let lines: Vec<&str> = run.succeeds().stdout.lines().collect();
    assert_eq!(lines[0], format!("[1] {ANSWER} (8 windows)"));
    assert!(lines[1..].iter().all(|line| line.starts_with("[2] ")), "{lines:?}");
    let report = desk.report();
    assert_eq!(report["answers"][0]["prompt"], first);
    assert_eq!(report["answers"][1]["windows"].as_array().unwrap().len(), 8);
}

#[test]
fn questions_come_from_lines_of_files_from_standard_input_and_from_arguments() {
    let desk = Desk::new();
    let [first, second] = questions();
    fs::write(desk.path("q.txt"), format!("{first}\r\n\n  {second}  \n")).unwrap();
    fs::write(desk.path("stdin.txt"), format!("{second}\n")).unwrap();
    let mut command = desk.infer_command(&data("phi3/golden/volume.npy"), "-p @q.txt -p -");
    command.stdin(Stdio::from(fs::File::open(desk.path("stdin.txt")).unwrap()));
    finish(&mut command).succeeds();
    let report = desk.report();
    let prompts: Vec<_> =
        report["answers"].as_array().unwrap().iter().map(|a| a["prompt"].clone()).collect();
    assert_eq!(prompts, [&first, &first, &second, &second].map(|p| json!(p)));
}

#[test]
fn a_question_on_standard_input_may_have_several_lines() {
    let desk = Desk::new();
    fs::write(desk.path("stdin.txt"), "The liver.\nPlease segment it.\n\n").unwrap();
    let mut command = desk.command();
    command.args(["infer", "-o", "out", "-p", "-", "-m"]).arg(data("phi3")).arg("-i");
    command.arg(data("phi3/golden/volume.npy")).args(["--max-new-tokens", "2"]);
    command.stdin(Stdio::from(fs::File::open(desk.path("stdin.txt")).unwrap()));
    finish(&mut command).succeeds();
    assert_eq!(desk.report()["prompt"], "The liver.\nPlease segment it.");
}

#[test]
fn q1_a_bad_prompt_among_several_is_named_before_anything_is_read() {
    let desk = Desk::new();
    let image = desk.path("nope.nii.gz");
    let with = |more: &[&str]| finish(desk.infer_command(&image, "").args(more));
    with(&["-p", " "]).fails(2, "R-TOK-12").says("prompt 2 of 2: the question is empty");
    fs::write(desk.path("q.txt"), " \n\n").unwrap();
    with(&["-p", "@q.txt"]).fails(2, "R-PRM-04").says("q.txt").says("write one per line");
    with(&["-p", "-", "-p", "-"]).fails(2, "R-ARG-03").says("twice");
    with(&["-p", "x", "--trace", "t"]).fails(2, "R-ARG-03").says("2 prompts");
    fs::write(desk.path("q.txt"), "liver?\n".repeat(255)).unwrap();
    with(&["-p", "@q.txt"]).fails(2, "R-ARG-03").says("256 prompts");
    desk.is_empty_but_for(&["q.txt"]);
}

#[test]
fn q3_a_prompt_beyond_the_context_is_named_among_several() {
    let desk = Desk::new();
    let long = "liver ".repeat(9000);
    let mut command = desk.infer_command(&data("phi3/golden/volume.npy"), "");
    let run = finish(command.args(["-p", &long]));
    run.fails(65, "R-PRM-01").says("prompt 2 of 2: the prompt is 9010 tokens");
    desk.is_empty_but_for(&[]);
}

#[test]
fn a_volume_from_standard_input_is_the_one_of_the_file() {
    for name in ["ct.nii.gz", "ct.nii", "ct.npy"] {
        let desk = Desk::new();
        let image = nifti(&desk, name);
        let options = "--preprocess none --no-preview";
        desk.infer_volume(&image, options).succeeds();
        let expected = desk.report();
        assert_eq!(expected["input"]["sha256"].as_str().unwrap().len(), 64);
        let mut command = desk.infer_command(Path::new("-"), options);
        command.arg("--force").stdin(Stdio::from(fs::File::open(&image).unwrap()));
        finish(&mut command).succeeds();
        let report = desk.report();
        assert_eq!(report["input"]["path"], "-");
        for field in ["sha256", "kind", "shape", "affine"] {
            assert_eq!(report["input"][field], expected["input"][field], "{name} {field}");
        }
        assert_eq!(report["masks"], expected["masks"], "{name}");
    }
}

#[test]
fn standard_input_that_is_no_volume_is_refused_by_its_name() {
    let desk = Desk::new();
    let mut command = desk.infer_command(Path::new("-"), "");
    finish(&mut command).fails(65, "R-IN-05").says("--> standard input");
    let run = desk.run(["infer", "-m", "demo", "-i", "-", "-p", "-"]);
    run.fails(2, "R-ARG-03").says("both read standard input");
    desk.is_empty_but_for(&[]);
}
