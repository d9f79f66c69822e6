//! Recorded results, measured again with a small checkpoint whose results the authors' code recorded.

use std::fs;

use r1seg::volume::{Geometry, Overwrite, Volume, write_volume};
use serde_json::{Value, json};

use crate::schema::assert_keeps_to;
use crate::{Desk, Run, data, finish};

/// The recorded case of M3D-LaMed, as others would publish theirs.
fn ledger() -> Value {
    let case = |n: usize| -> Value {
        let file = data(&format!("m3d-phi3/golden/case{n}.json"));
        serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
    };
    let prompts: Vec<Value> = (0..3)
        .map(|n| {
            let case = case(n);
            let result = json!({
                "input": "volume", "text": case["text"], "voxels": case["mask_voxels"], "dice": null,
            });
            json!({"id": format!("case{n}"), "prompt": case["prompt"], "label": null, "results": [result]})
        })
        .collect();
    json!({
        "schema_version": 1,
        "note": "Recorded from the authors' code.",
        "runs": [{
            "id": "twin",
            "repository": "somebody/twin",
            "model_type": "lamed_phi3",
            "source": {"repository": "somebody/results", "commit": null, "file": null},
            "stack": "torch",
            "dtype": "f32",
            "decoding": "greedy",
            "max_new_tokens": 64,
            "separator": "none",
            "preprocess": "none",
            "method": "as it is",
            "band": {"voxels": 0.02, "dice": 0.01},
            "inputs": [{
                "name": "volume", "file": "volume.npy", "sha256": null, "from": "tests/data",
                "license": null, "truth": null,
            }],
            "prompts": prompts,
            "not_compared": ["a run that drew its tokens"],
        }],
    })
}

fn reproduce(desk: &Desk, ledger: &Value, options: &[&str]) -> Run {
    fs::write(desk.path("ledger.json"), ledger.to_string()).unwrap();
    let mut command = desk.command();
    command.arg("reproduce").arg(data("m3d-phi3")).args(["--device", "cpu", "--ledger"]);
    finish(command.arg("ledger.json").args(options))
}

fn with_data(desk: &Desk, ledger: &Value, options: &[&str]) -> (Run, Value) {
    let folder = data("m3d-phi3/golden");
    let mut all = vec!["--json", "--data", folder.to_str().unwrap()];
    all.extend(options);
    let run = reproduce(desk, ledger, &all);
    let report: Value = serde_json::from_str(&run.stdout).unwrap_or(Value::Null);
    assert_keeps_to("ledger", ledger);
    assert_keeps_to("reproduce", &report);
    (run, report)
}

#[test]
fn results_of_the_authors_code_are_reproduced_within_their_bands() {
    let desk = Desk::new();
    let (run, report) = with_data(&desk, &ledger(), &[]);
    run.succeeds().says("does not say which repository it is from").says("somebody/twin");
    assert_eq!(report["summary"], json!({"within": 3, "outside": 0, "no_record": 0, "not_run": 0}));
    assert_eq!(report["rows"][0]["measured"]["voxels"], 2594, "{report:#}");
    // The hash of the weights is that of the file.
    let files = report["model"]["files"].as_array().unwrap();
    let weights = files.iter().find(|file| file["name"] == "model.safetensors").unwrap();
    let bytes = fs::metadata(data("m3d-phi3/model.safetensors")).unwrap().len();
    assert_eq!((&weights["bytes"], weights["sha256"].as_str().unwrap().len()), (&json!(bytes), 64));
    assert!(report["model"]["tensors"].as_u64() > Some(100), "{report:#}");
    assert_eq!(report["inputs"][0]["file"], "volume.npy");
    desk.is_empty_but_for(&["ledger.json"]);
}

#[test]
fn a_result_outside_of_its_band_is_named_and_ends_with_its_own_code() {
    let desk = Desk::new();
    let mut ledger = ledger();
    let prompts = &mut ledger["runs"][0]["prompts"];
    prompts[0]["results"][0]["voxels"] = json!(2700);
    prompts[1]["results"][0]["text"] = json!("Nothing.");
    prompts[2]["results"][0] =
        json!({"input": "volume", "text": null, "voxels": null, "dice": null});
    let (run, report) = with_data(&desk, &ledger, &[]);
    run.code_is(5);
    assert_eq!(report["rows"][0]["why"], "-3.9 % voxels");
    assert_eq!(report["rows"][1]["why"], "the answer differs");
    assert_eq!(report["summary"], json!({"within": 0, "outside": 2, "no_record": 1, "not_run": 0}));

    let (run, report) = with_data(&desk, &ledger, &["--only", "case2"]);
    run.succeeds();
    assert_eq!(report["rows"].as_array().unwrap().len(), 1);
    reproduce(&desk, &ledger, &["--record", "ledger.json"]).fails(73, "R-OUT-06");
    fs::write(desk.path("taken.json"), "mine").unwrap();
    let record = ["--record", "taken.json", "--only", "case2"];
    reproduce(&desk, &ledger, &record).fails(73, "R-OUT-01").says("--force");
    reproduce(&desk, &ledger, &[&record[..], &["--force"]].concat()).succeeds();
    assert_ne!(fs::read_to_string(desk.path("taken.json")).unwrap(), "mine");
}

#[test]
fn without_data_the_model_still_computes_and_what_is_missing_is_named() {
    let desk = Desk::new();
    let run = reproduce(&desk, &ledger(), &[]);
    for text in [
        "- file: model.safetensors, ",
        "none NaN or infinite",
        "- it computes: the embedded phantom, ",
        "| volume | case0 | ",
        " not run: missing: volume.npy |",
        "Missing: volume.npy; from tests/data",
        "Not compared: a run that drew its tokens",
        "0 within, 0 outside, 0 without a record, 3 not run",
    ] {
        assert!(run.succeeds().stdout.contains(text), "{text}\n{}", run.stdout);
    }
    // Another file of the same name is not measured.
    let mut ledger = ledger();
    ledger["runs"][0]["inputs"][0]["sha256"] = json!("0".repeat(64));
    let (run, report) = with_data(&desk, &ledger, &[]);
    run.succeeds();
    let why = report["rows"][0]["why"].as_str().unwrap();
    assert!(why.starts_with("another file: volume.npy has sha256 "), "{why}");
    assert_eq!(report["missing"][0]["sha256"], json!("0".repeat(64)));
}

#[test]
fn a_recorded_ledger_is_reproduced_with_the_dice_against_a_truth() {
    let desk = Desk::new();
    // Larger than the model's grid, with a truth, in the layout of an unpacked archive.
    let geometry = Geometry::with_spacing([20, 80, 72], [5.0, 1.0, 1.0]).unwrap();
    let voxels: Vec<i16> =
        (0..geometry.voxels()).map(|n| (n / 72 % 80 * 20) as i16 - 1000).collect();
    let labels: Vec<i16> = voxels.iter().map(|v| i16::from(*v > 0) * 2).collect();
    let truth = labels.iter().filter(|label| **label == 2).count();
    for (file, voxels) in [("images/a.nii.gz", voxels), ("labels/a.nii.gz", labels)] {
        let path = desk.path("archive/Task").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let volume = Volume::new(voxels, geometry.clone()).unwrap();
        write_volume(path, &volume, Overwrite::Refuse).unwrap();
    }
    let mut ledger = ledger();
    let run = &mut ledger["runs"][0];
    run["preprocess"] = json!("min-max");
    run["inputs"][0]["file"] = json!("images/a.nii.gz");
    run["inputs"][0]["truth"] =
        json!({"file": "labels/a.nii.gz", "sha256": null, "voxels": {"2": truth}});
    for prompt in run["prompts"].as_array_mut().unwrap() {
        prompt["label"] = json!(2);
        prompt["results"][0]["text"] = Value::Null;
        prompt["results"][0]["voxels"] = Value::Null;
    }
    let options = ["--data", "archive", "--record", "recorded.json"];
    let run = reproduce(&desk, &ledger, &options);
    assert!(run.succeeds().stdout.contains("0 within, 0 outside, 3 without a record"), "{run:#?}");
    let recorded: Value =
        serde_json::from_slice(&fs::read(desk.path("recorded.json")).unwrap()).unwrap();
    assert_keeps_to("ledger", &recorded);
    let result = &recorded["runs"][0]["prompts"][0]["results"][0];
    assert!(result["text"].is_string() && result["dice"].is_f64(), "{result}");

    // Not even --force replaces the data.
    let image =
        ["--data", "archive/Task/images", "--record", "archive/Task/images/a.nii.gz", "--force"];
    reproduce(&desk, &ledger, &image).fails(73, "R-OUT-06").says("the data");

    let again = reproduce(&desk, &recorded, &["--data", "archive"]);
    assert!(again.succeeds().stdout.contains("3 within, 0 outside"), "{again:#?}");
    assert!(again.stdout.contains("- input: labels/a.nii.gz"), "{again:#?}");
    // A truth with other voxels is reported, and so is a Dice that differs.
    let mut changed = recorded;
    changed["runs"][0]["inputs"][0]["truth"]["voxels"]["2"] = json!(truth + 1);
    changed["runs"][0]["prompts"][0]["results"][0]["dice"] = json!(0.99);
    let run = reproduce(&desk, &changed, &["--data", "archive"]);
    assert!(run.code_is(5).stdout.contains(" Dice; the truth has "), "{run:#?}");
}

#[test]
fn segvol_and_m3d_clip_are_examined_and_their_missing_data_named() {
    let desk = Desk::new();
    let run = desk.run(["reproduce", data("segvol").to_str().unwrap(), "--device", "cpu"]);
    for text in [
        "\"liver\": ",
        "Missing: Case_image_00001_0000.nii.gz; from the model's own",
        "Missing: Case_label_00001.nii.gz; ",
    ] {
        assert!(run.succeeds().stdout.contains(text), "{run:#?}");
    }
    let run = desk.run(["reproduce", data("m3d-clip").to_str().unwrap(), "--device", "cpu"]);
    for text in [": similarity ", "No recorded results of this model are known."] {
        assert!(run.succeeds().stdout.contains(text), "{run:#?}");
    }
}

#[test]
fn files_are_listed_without_a_model_and_bad_ledgers_are_refused() {
    let desk = Desk::new();
    let run = desk.run(["reproduce", "--list", "--only", "B1", "--only", "liver"]);
    let lines: Vec<&str> = run.succeeds().stdout.lines().collect();
    assert_eq!(lines.len(), 12, "{run:#?}");
    assert!(lines[0].starts_with("imagesTr/pancreas_001.nii.gz\t-\tGoodBaiBai88/"), "{run:#?}");

    desk.run(["reproduce", "--list", "--only", "x"]).fails(2, "R-ARG-03");
    desk.run(["reproduce"]).fails(2, "R-ARG-03");
    desk.run(["reproduce", "--list", "--ledger", "x.json"]).fails(66, "R-LED-01");
    let mut ledger = ledger();
    ledger["runs"][0]["inputs"][0]["file"] = json!("../volume.npy");
    reproduce(&desk, &ledger, &[]).fails(65, "R-LED-01").says("leads out of the data folder");
    ledger["runs"][0]["band"]["sigma"] = json!(1);
    reproduce(&desk, &ledger, &["--json"]).fails(65, "R-LED-01").says("sigma");
}
