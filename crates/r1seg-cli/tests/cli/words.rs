//! Ordinary words: what an answer without a mask suggests, `prompts`, and `--organ`.

use std::fs;

use ::r1seg::registry::MODELS;
use r1seg::phantom::Phantom;
use r1seg::volume::{Geometry, Overwrite, ReadOptions, Volume, read, write_volume};
use serde_json::{Value, json};

use crate::schema::assert_keeps_to;
use crate::{Desk, Run, data, finish, prompt};

/// A phantom of the demonstration model.
fn phantom(desk: &Desk) {
    let phantom = Phantom::draw(7);
    let geometry = Geometry::with_spacing(phantom.shape, [8.0, 1.3, 1.3]).unwrap();
    let volume = Volume::new(phantom.volume, geometry).unwrap();
    write_volume(desk.path("ct.nii"), &volume, Overwrite::Refuse).unwrap();
}

/// The embedded model, asked about its phantom.
fn demo(desk: &Desk, args: &[&str]) -> Run {
    let mut command = desk.command();
    command.args(["infer", "-m", "demo", "--device", "cpu", "-i", "ct.nii", "--no-preview"]);
    finish(command.args(["-o", "out", "--force"]).args(args))
}

fn mask(desk: &Desk) -> Vec<u8> {
    let mask = read(desk.path("out/mask.nii.gz"), &ReadOptions::default()).unwrap().volume;
    mask.voxels().iter().map(|v| v as u8).collect()
}

/// The warnings of a report by their code.
fn warnings<'a>(report: &'a Value, code: &str) -> Vec<&'a Value> {
    report["warnings"].as_array().unwrap().iter().filter(|w| w["code"] == code).collect()
}

#[test]
fn an_answer_without_a_mask_suggests_words_that_get_one() {
    let desk = Desk::new();
    phantom(&desk);
    for (question, code) in [("Where is the spleen?", "W-NOANSWER"), ("spleen", "W-NOSEG")] {
        let run = demo(&desk, &["-p", question]);
        run.succeeds().says(&format!("warning[{code}]: "));
        run.says("fix: try -p \"Can you segment the spleen in this image?\"\n");
        let report = desk.report();
        assert_keeps_to("report", &report);
        let [warning] = warnings(&report, code)[..] else { panic!("{report:#}") };
        // The prompt is what was typed.
        assert_eq!((&report["prompt"], &report["organ"]), (&json!(question), &Value::Null));
        let json = demo(&desk, &["-p", question, "--json", "--require-mask"]);
        let printed: Value = serde_json::from_str(&json.code_is(3).stdout).unwrap();
        assert_eq!(warnings(&printed, code), [warning]);

        // Pasted, it gets a mask.
        let fix = warning["fix"].as_str().unwrap();
        let pasted = fix.strip_prefix("try -p \"").and_then(|fix| fix.strip_suffix('"')).unwrap();
        let run = demo(&desk, &["-p", pasted, "--require-mask"]);
        assert!(!run.succeeds().stderr.contains(code), "{run:#?}");
        assert!(mask(&desk).contains(&1));
    }
}

#[test]
fn of_several_prompts_the_one_without_a_mask_is_named() {
    let desk = Desk::new();
    phantom(&desk);
    let run = demo(
        &desk,
        &["-p", "Please segment the liver in this image.", "-p", "Segment the spleen."],
    );
    run.succeeds().says("warning[W-NOANSWER]: prompt 2: the answer is empty");
    assert_eq!(warnings(&desk.report(), "W-NOANSWER").len(), 1);
}

#[test]
fn a_caption_without_a_mask_gets_no_warning() {
    let desk = Desk::new();
    let volume = data("phi3/golden/volume.npy");
    desk.ask(&data("phi3"), &volume, &prompt("phi3/golden/case2"), "--no-preview").succeeds();
    let report = desk.report();
    assert_eq!(report["status"], "not_found");
    for code in ["W-NOANSWER", "W-NOSEG", "W-LENGTH"] {
        assert!(warnings(&report, code).is_empty(), "{report:#}");
    }
}

#[test]
fn an_answer_that_is_cut_before_its_mask_suggests_words_too() {
    let desk = Desk::new();
    phantom(&desk);
    demo(&desk, &["-p", "liver", "--max-new-tokens", "2"]).succeeds();
    let report = desk.report();
    let [warning] = warnings(&report, "W-LENGTH")[..] else { panic!("{report:#}") };
    assert_eq!(
        warning["fix"],
        "raise --max-new-tokens, or try -p \"Can you segment the liver in this image?\""
    );
    assert!(warnings(&report, "W-NOSEG").is_empty());
}

#[test]
fn organs_in_any_language_get_the_masks_of_the_sentence() {
    let desk = Desk::new();
    phantom(&desk);
    for (term, names) in [
        ("liver", ["hepar", "Leber", "肝脏"]),
        ("spleen", ["lien", "la rate", "비장"]),
        ("left kidney", ["kidney_left", "linke Niere", "riñón izquierdo"]),
        ("right kidney", ["kidney right", "rein droit", "右腎"]),
        ("aorta", ["Aorta", "Hauptschlagader", "主动脉"]),
        ("bladder", ["urinary bladder", "vejiga", "膀胱"]),
    ] {
        let sentence = format!("Can you segment the {term} in this image?");
        demo(&desk, &["-p", &sentence, "--require-mask"]).succeeds();
        let expected = mask(&desk);
        for name in names {
            let run = demo(&desk, &["--organ", name]);
            run.succeeds().says(&format!("r1seg: --organ {name} asks: {sentence}\n"));
            assert!(mask(&desk) == expected, "{name}");
            let report = desk.report();
            assert_keeps_to("report", &report);
            assert_eq!(report["prompt"], sentence);
            assert_eq!(report["organ"], json!({"given": name, "term": term}));
            assert_eq!(report["answers"][0]["organ"], report["organ"]);
            assert_eq!(report["masks"][0]["name"], term);
            let answer = fs::read_to_string(desk.path("out/answer.txt")).unwrap();
            assert_eq!(
                answer,
                format!("Q: {sentence}\nA: {}\n", report["answer"].as_str().unwrap())
            );
            // What is printed is the answer alone.
            assert_eq!(run.stdout, format!("{}\n", report["answer"].as_str().unwrap()));
        }
    }
}

#[test]
fn several_organs_are_labels_of_their_own_names_after_the_prompts() {
    let desk = Desk::new();
    phantom(&desk);
    let caption = "Can you provide a caption consists of findings for this medical image?";
    let run = demo(&desk, &["--organ", "Leber,Milz", "-p", caption, "--organ", "aorta", "--json"]);
    let report: Value = serde_json::from_str(&run.succeeds().stdout).unwrap();
    assert_keeps_to("report", &report);
    assert_eq!(report["answers"][0]["prompt"], caption);
    assert_eq!(report["answers"][0]["organ"], Value::Null);
    assert_eq!(report["answers"][2]["organ"], json!({"given": "Milz", "term": "spleen"}));
    let labels: Value =
        serde_json::from_slice(&fs::read(desk.path("out/labels.json")).unwrap()).unwrap();
    let names: Vec<_> = ["2", "3", "4"].map(|label| labels[label]["name"].clone()).to_vec();
    assert_eq!(names, ["liver", "spleen", "aorta"]);
    assert_eq!(labels["1"], Value::Null);
    let answers = fs::read_to_string(desk.path("out/answer.txt")).unwrap();
    assert!(
        answers.contains("\n[3] Q: Can you segment the spleen in this image?\n[3] A: "),
        "{answers}"
    );

    demo(&desk, &["--organ", "Leber,Milz", "--label", "a", "--label", "b"]).succeeds();
    assert_eq!(desk.report()["masks"][0]["name"], "a");
}

#[test]
fn organs_that_are_unknown_or_asked_for_twice_are_refused_before_anything_is_read() {
    let desk = Desk::new();
    let run = demo(&desk, &["--organ", "pancras"]);
    run.fails(2, "R-PRM-07")
        .says("--organ pancras")
        .says("did you mean pancreas?")
        .says("Can you segment the ..");
    demo(&desk, &["--organ", "xylophone"]).fails(2, "R-PRM-07").says("fix: Any term");
    demo(&desk, &["--organ", ""]).fails(2, "R-PRM-07");
    demo(&desk, &["--organ", "liver", "--organ", "Leber"])
        .fails(2, "R-ARG-03")
        .says("both the liver");
    demo(&desk, &["--organ", "liver", "--box", "1,1,1,9,9,9"]).code_is(2);
    demo(&desk, &[]).code_is(2).says("--prompt");
    let many = "liver?\n".repeat(255);
    fs::write(desk.path("q.txt"), many).unwrap();
    demo(&desk, &["-p", "@q.txt", "--organ", "liver"]).fails(2, "R-ARG-03").says("256 prompts");
    desk.is_empty_but_for(&["q.txt"]);
}

#[test]
fn organs_for_segment_are_texts_as_the_model_was_trained() {
    for (case, sentence) in
        [("segvol", "liver"), ("r1seg-3dsam", "A computerized tomography of a liver.")]
    {
        let desk = Desk::new();
        let segment = |args: &[&str]| {
            let mut command = desk.command();
            command.arg("segment").arg("--model").arg(data(case)).arg("--image");
            command.arg(data(&format!("{case}/golden/volume.npy")));
            command.args([
                "--device",
                "cpu",
                "--preprocess",
                "none",
                "--mode",
                "resize",
                "-o",
                "out",
            ]);
            finish(command.args(["--no-preview", "--force"]).args(args))
        };
        let voxels = || fs::read(desk.path("out/mask.npy")).unwrap();
        segment(&["--text", sentence]).succeeds();
        let expected = voxels();
        let run = segment(&["--organ", "Leber"]);
        run.succeeds().says(&format!("r1seg: --organ Leber is the text: {sentence}\n"));
        assert!(run.stdout.starts_with("liver: "), "{run:#?}");
        assert!(voxels() == expected, "{case}");
        let report = desk.report();
        assert_keeps_to("segment", &report);
        let prompt = &report["prompts"][0];
        assert_eq!((&prompt["name"], &prompt["text"]), (&json!("liver"), &json!(sentence)));
        segment(&["--organ", "leverr"]).fails(2, "R-PRM-07").says("--text");
    }
}

#[test]
fn every_model_says_how_to_ask_it() {
    let desk = Desk::new();
    let all = desk.run(["prompts"]);
    crate::usage::snapshot(&desk, "prompts", &all.succeeds().stdout);
    let json: Value =
        serde_json::from_str(&desk.run(["prompts", "--json"]).succeeds().stdout).unwrap();
    let models: Vec<_> =
        json.as_array().unwrap().iter().map(|model| model["name"].clone()).collect();
    let known: Vec<&str> = MODELS.iter().map(|entry| entry.name).collect();
    assert_eq!(models, known);
    assert_eq!(
        json[1]["prompts"][0],
        json!({
            "task": "segment",
            "text": "Can you segment the {organ} in this image?",
            "used_in": "training and evaluation",
        })
    );

    let folder = data("m3d-phi3");
    for (name, found) in [
        ("m3d-lamed", "M3D-LaMed (r1seg infer --prompt)\n"),
        ("M3D-LaMed-Phi-3-4B@main", "M3D-LaMed (r1seg infer --prompt)\n"),
        ("BAAI/SegVol", "SegVol (r1seg segment --text)\n"),
        (folder.to_str().unwrap(), "M3D-LaMed (r1seg infer --prompt)\n"),
        ("demo", "R1Seg-3D (r1seg infer --prompt)\n"),
    ] {
        let run = desk.run(["prompts", name]);
        assert!(run.succeeds().stdout.starts_with(found), "{name} {run:#?}");
        assert!(!run.stdout.contains("\n\n"), "{name} {run:#?}");
    }
    desk.run(["prompts", "SegVoll"]).fails(2, "R-MDL-02").says("did you mean SegVol");
    desk.run(["prompts", "./nothing"]).fails(66, "R-MDL-01");
    fs::create_dir(desk.path("empty")).unwrap();
    assert_ne!(desk.run(["prompts", "empty"]).code, Some(0));
}
