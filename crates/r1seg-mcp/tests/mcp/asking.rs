use std::fs;
use std::path::Path;

use r1seg::volume::{ReadOptions, read};
use serde_json::{Value, json};

use crate::{Desk, LIVER, ask_liver, text};

#[tokio::test]
async fn a_question_gets_an_answer_a_measured_mask_and_files() {
    let desk = Desk::demo().await;
    let outcome = desk.get("ask_volume", ask_liver()).await;
    assert_eq!(outcome["model"], "demo");
    let answer = &outcome["answers"][0];
    assert_eq!(answer["prompt"], LIVER);
    assert!(answer["text"].as_str().unwrap().contains("[SEG]"), "{outcome:#}");
    assert_eq!((&answer["status"], &answer["labels"]), (&json!("found"), &json!([1])));
    let mask = &outcome["masks"][0];
    assert!(mask["volume_ml"].as_f64().unwrap() > 100.0, "{outcome:#}");
    assert_eq!(mask["file"], "mask.nii.gz");

    // What the files hold is what was said.
    let files: Vec<_> = outcome["files"].as_array().unwrap().iter().collect();
    let names: Vec<_> = files.iter().map(|file| file["name"].as_str().unwrap()).collect();
    let expected =
        ["answer.txt", "labels.json", "mask.nii.gz", "mask.seg.nrrd", "preview.png", "report.json"];
    assert_eq!(names, expected);
    let folder = outcome["results"].as_str().unwrap();
    for file in files {
        let path = Path::new(file["location"].as_str().unwrap());
        assert!(path.is_absolute() && path.starts_with(folder) && path.is_file(), "{file}");
    }
    let written = read(Path::new(folder).join("mask.nii.gz"), &ReadOptions::default()).unwrap();
    let voxels = written.volume.voxels().to_f32().iter().filter(|v| **v > 0.0).count();
    assert_eq!(mask["voxels"], json!(voxels));
    let report = fs::read(Path::new(folder).join("report.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["masks"][0]["volume_ml"], mask["volume_ml"]);
    assert_eq!(report["answer"], answer["text"]);

    let codes: Vec<_> =
        outcome["warnings"].as_array().unwrap().iter().map(|w| &w["code"]).collect();
    assert!(codes.contains(&&json!("W-DEMO")), "{outcome:#}");
    // Words for an agent name its arguments, and no option of a program.
    assert!(!outcome["warnings"].to_string().contains(" --"), "{outcome:#}");
}

#[tokio::test]
async fn several_questions_and_organs_become_labels_in_their_order() {
    let desk = Desk::demo().await;
    let args = json!({
        "volume": "ct.nii.gz",
        "questions": [LIVER],
        "organs": ["Milz", "kidney_left"],
        "model": "demo",
    });
    let result = desk.call("ask_volume", args).await;
    let outcome = result.structured_content.clone().unwrap();
    let names: Vec<_> = outcome["masks"].as_array().unwrap().iter().map(|m| &m["name"]).collect();
    assert_eq!(names, [LIVER, "spleen", "left kidney"]);
    let labels: Vec<_> =
        outcome["answers"].as_array().unwrap().iter().map(|a| &a["labels"]).collect();
    assert_eq!(labels, [&json!([1]), &json!([2]), &json!([3])]);
    assert!(outcome["answers"][1]["prompt"].as_str().unwrap().contains("spleen"));
    // The text says the same.
    let text = text(&result);
    for words in ["label 2, spleen: ", " mL, ", "warning[W-DEMO]", "mask.seg.nrrd"] {
        assert!(text.contains(words), "{text}");
    }
}

#[tokio::test]
async fn a_second_call_gets_a_folder_of_its_own_and_the_same_answer() {
    let desk = Desk::demo().await;
    let first = desk.get("ask_volume", ask_liver()).await;
    // Another file of the same content is the same volume to the model.
    fs::copy(desk.scan("ct.nii.gz"), desk.scan("copy.nii.gz")).unwrap();
    let args = json!({ "volume": "copy.nii.gz", "questions": [LIVER] });
    let copy = desk.get("ask_volume", args).await;
    let again = desk.get("ask_volume", ask_liver()).await;
    assert_eq!(desk.written(), ["copy", "ct", "ct-2"]);
    for other in [&copy, &again] {
        assert_eq!(other["answers"], first["answers"]);
        assert_eq!(other["masks"], first["masks"]);
    }
    assert!(again["results"].as_str().unwrap().ends_with("ct-2"));
    let list = desk.get("list_models", json!({})).await;
    assert_eq!(list["models"][0]["loaded"], true);
}

#[tokio::test]
async fn a_question_that_gets_no_mask_is_answered_with_what_to_ask_instead() {
    let desk = Desk::demo().await;
    let args = json!({ "volume": "ct.nii.gz", "questions": ["Can you segment the liver in this image?"], "max_new_tokens": 1 });
    let outcome = desk.get("ask_volume", args).await;
    assert_eq!(outcome["masks"], json!([]));
    assert_eq!(outcome["answers"][0]["status"], "not_found");
    let warnings = outcome["warnings"].as_array().unwrap();
    let cut = warnings.iter().find(|w| w["code"] == "W-LENGTH").unwrap();
    assert!(cut["fix"].as_str().unwrap().starts_with("raise `max_new_tokens`"), "{cut}");
}
