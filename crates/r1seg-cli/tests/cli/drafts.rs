//! What an answer says next is guessed from earlier ones, and no answer changes by it.

use std::fs;

use serde_json::Value;

use crate::chat::{self, LIVER, json_of};
use crate::{Desk, data, finish};

/// Passes over the weights that an answer of a report took.
fn passes(answer: &Value) -> u64 {
    let tokens = answer["tokens"]["generated"].as_u64().unwrap();
    tokens - answer["drafts"]["accepted"].as_u64().unwrap()
}

/// What the embedded model says when it is asked for the liver of its phantom.
fn infer(desk: &Desk, options: &str) -> Value {
    let mut command = desk.command();
    command.env_remove("R1SEG_DRAFTS");
    command.args(["infer", "-m", "demo", "--device", "cpu", "-i", "ct.nii.gz", "--no-preview"]);
    command.args(["-p", LIVER, "-o", "out", "--force"]).args(options.split_whitespace());
    finish(&mut command).succeeds();
    desk.report()["answers"][0].take()
}

/// The names and contents of the files of answers.
fn kept(desk: &Desk) -> Vec<(String, String)> {
    let Ok(entries) = fs::read_dir(desk.path("hf/r1seg")) else { return Vec::new() };
    let entries = entries.map(|entry| entry.unwrap().path());
    let read = |path: std::path::PathBuf| {
        (path.file_name().unwrap().display().to_string(), fs::read_to_string(path).unwrap())
    };
    entries.map(read).collect()
}

#[test]
fn a_second_question_takes_fewer_passes_and_gets_the_same_answer() {
    let desk = Desk::new();
    chat::demo(&desk, &[LIVER, LIVER, "/save out"]).succeeds();
    let report = json_of(&desk.path("out/report.json"));
    let [first, second] = report["answers"].as_array().unwrap().as_slice() else {
        panic!("{report:#}")
    };
    for same in ["answer", "finish_reason", "seg_token", "status"] {
        assert_eq!(first[same], second[same], "{same}");
    }
    assert_eq!(first["tokens"]["ids"], second["tokens"]["ids"]);
    assert!(passes(second) < passes(first), "{report:#}");
    let further = first["tokens"]["generated"].as_u64().unwrap() - 1;
    assert_eq!(passes(second), 1 + further.div_ceil(6), "{report:#}");
}

#[test]
fn later_runs_guess_from_an_answer_that_was_given_twice() {
    let desk = Desk::new();
    chat::phantom_of(&desk, "ct.nii.gz", 7);
    let reports = [0; 3].map(|_| {
        let report = infer(&desk, "");
        assert_eq!(kept(&desk).len(), 1);
        (report, fs::read(desk.path("out/mask.nii.gz")).unwrap(), kept(&desk))
    });
    let [(first, mask, once), (_, _, twice), (third, same_mask, _)] = reports;
    assert_eq!(first["tokens"]["ids"], third["tokens"]["ids"]);
    assert_eq!(mask, same_mask);
    assert!(passes(&third) < passes(&first), "{third:#}");

    // Its tokens stand there the second time; words do not at all.
    let ids = first["tokens"]["ids"].to_string();
    assert!(!once[0].1.contains(&ids) && twice[0].1.contains(&ids), "{once:?} {twice:?}");
    assert!(!twice[0].1.to_lowercase().contains("liver"), "{twice:?}");

    // What is damaged is as good as nothing.
    let file = desk.path("hf/r1seg").join(&twice[0].0);
    fs::write(&file, "damaged").unwrap();
    let after = infer(&desk, "");
    assert_eq!(
        (&after["tokens"]["ids"], passes(&after)),
        (&first["tokens"]["ids"], passes(&first))
    );
}

#[test]
fn nothing_is_kept_in_memory_alone_and_nothing_is_guessed_when_drafts_are_off() {
    let desk = Desk::new();
    chat::phantom_of(&desk, "ct.nii.gz", 7);
    for options in ["--drafts memory", "--drafts off", "--temperature 0.001"] {
        let answer = infer(&desk, options);
        assert_eq!(answer["drafts"]["drafted"], 0, "{options}: {answer:#}");
    }
    assert!(kept(&desk).is_empty());
    let mut command = desk.command();
    command.args(["infer", "-m", "demo", "-i", "ct.nii.gz", "-p", LIVER, "--drafts", "some"]);
    finish(&mut command).code_is(2).says("keep, memory or off is needed");
}

#[test]
fn a_benchmark_counts_the_guesses_of_its_second_answer() {
    let desk = Desk::new();
    let model = data("phi3");
    let bench = |options: &[&str]| -> Value {
        let mut command = desk.command();
        command.args(["bench", "-o", "json", "--device", "cpu", "-m"]).arg(&model).args(options);
        serde_json::from_str(&finish(&mut command).succeeds().stdout).unwrap()
    };
    let counts = |bench: &Value| {
        ["second_drafted", "second_accepted"].map(|count| bench[count].as_u64().unwrap())
    };
    // Eight tokens: one from the prompt, six from the second pass, one from the third.
    let with = bench(&["--runs", "2"]);
    assert_eq!(counts(&with), [5, 5], "{with}");
    assert!(with["second_decode_s"].as_f64().unwrap() > 0.0, "{with}");
    assert_eq!(counts(&bench(&["--drafts", "off"])), [0, 0]);
    let mut command = desk.command();
    command.args(["bench", "--device", "cpu", "-m"]).arg(&model);
    let table = finish(&mut command).succeeds().stdout.clone();
    assert!(table.contains("| second question, further tokens, passes: 2 |"), "{table}");
    assert!(kept(&desk).is_empty());
}

#[test]
fn kept_answers_are_forgotten_by_name_or_all_at_once() {
    let desk = Desk::new();
    chat::phantom_of(&desk, "ct.nii.gz", 7);
    let forget = |model: &[&str]| {
        let command = ["cache", "forget"].iter().chain(model).copied();
        desk.run(command).succeeds().stderr.clone()
    };
    assert!(forget(&[]).contains("answers of 0 models forgotten"));
    infer(&desk, "");
    assert_eq!(kept(&desk).len(), 1);
    assert!(forget(&["another"]).contains("answers of 0 models"));
    assert_eq!(kept(&desk).len(), 1);
    assert!(forget(&["demo"]).contains("answers of 1 model forgotten"));
    assert_eq!(kept(&desk).len(), 0);
    infer(&desk, "");
    assert!(forget(&[]).contains("answers of 1 model forgotten"));
    assert_eq!(kept(&desk).len(), 0);
}
