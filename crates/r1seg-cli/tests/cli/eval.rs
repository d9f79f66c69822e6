//! `eval`: models on data whose truth is known.

use std::fs;
use std::path::Path;

use r1seg::phantom::Phantom;
use r1seg::volume::{Geometry, LabelMap, Overwrite, Volume, write_labels, write_volume};
use serde_json::{Value, json};

use crate::{Desk, Run, data, finish};

/// A phantom and its truth, of a quarter of the size in each slice: `in/pN.nii.gz`, `in/tN.nii.gz`.
fn phantom(desk: &Desk, seed: u64) {
    let drawn = Phantom::draw(seed);
    let [d, h, w] = drawn.shape;
    let (h4, w4) = (h / 4, w / 4);
    let at = |n: usize| (n / (h4 * w4) * h + n / w4 % h4 * 4) * w + n % w4 * 4;
    let geometry = Geometry::with_spacing([d, h4, w4], [8.0, 5.2, 5.2]).unwrap();
    let voxels: Vec<f32> = (0..d * h4 * w4).map(|n| drawn.volume[at(n)]).collect();
    let volume = Volume::new(voxels, geometry.clone()).unwrap();
    fs::create_dir_all(desk.path("in")).unwrap();
    write_volume(desk.path(&format!("in/p{seed}.nii.gz")), &volume, Overwrite::Refuse).unwrap();
    let truth: Vec<i16> = (0..d * h4 * w4).map(|n| i16::from(drawn.truth[at(n)])).collect();
    let labels = LabelMap::from_volume(&Volume::new(truth, geometry).unwrap()).unwrap();
    write_labels(desk.path(&format!("in/t{seed}.nii.gz")), &labels, Overwrite::Refuse).unwrap();
}

fn lines(desk: &Desk, name: &str, rows: &[Value]) {
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    fs::write(desk.path(name), text).unwrap();
}

fn eval(desk: &Desk, args: &[&str]) -> Run {
    finish(desk.command().args(["eval", "-m", "demo", "--out", "out", "--quiet"]).args(args))
}

fn summary(desk: &Desk) -> Value {
    serde_json::from_slice(&fs::read(desk.path("out/eval.json")).unwrap()).unwrap()
}

fn organs(seed: u64) -> Value {
    json!({
        "id": format!("p{seed}"), "image": format!("in/p{seed}.nii.gz"),
        "organs": ["liver", "spleen"], "truth": format!("in/t{seed}.nii.gz"), "truth_labels": [1, 2],
        "answers": ["Sure, it is[SEG].", "something else"]
    })
}

#[test]
fn bad_rows_and_volumes_cost_themselves_and_the_rest_is_scored() {
    let desk = Desk::new();
    (0..2).for_each(|seed| phantom(&desk, seed));
    let mut other = organs(0);
    other["id"] = json!("grid");
    other["truth"] = json!("other.nii.gz");
    let grid = Geometry::with_spacing([8, 8, 8], [1.0; 3]).unwrap();
    write_labels(desk.path("other.nii.gz"), &LabelMap::new(grid), Overwrite::Refuse).unwrap();
    let mut label = organs(0);
    label["id"] = json!("label");
    label["truth_labels"] = json!(["liver", "spleen"]);
    lines(
        &desk,
        "cases.jsonl",
        &[
            organs(0),
            organs(1),
            organs(0),
            json!({"image": "in/p0.nii.gz", "organ": "liver"}),
            json!({"id": "gone", "image": "in/absent.nii.gz", "organ": "liver", "truth": "in/t0.nii.gz"}),
            other,
            label,
        ],
    );
    let run = eval(&desk, &["--data", "cases.jsonl"]);
    run.code_is(4);
    assert!(run.stdout.starts_with("group") && run.stdout.contains("spleen"), "{run:#?}");

    let summary = summary(&desk);
    let counts = &summary["counts"];
    assert_eq!((&counts["cases"], &counts["prompts"]), (&json!(5), &json!(9)), "{counts}");
    assert_eq!((&counts["scored"], &counts["failed"]), (&json!(4), &json!(5)), "{counts}");
    let refused: Vec<&str> =
        summary["refused"].as_array().unwrap().iter().filter_map(|r| r["why"].as_str()).collect();
    assert!(refused[0].contains("that of an earlier row") && refused[1].contains("no truth"));
    let dice = summary["groups"][0]["scores"]["dice"]["mean"].as_f64().unwrap();
    assert!((0.8..1.0).contains(&dice), "{summary}");
    assert_eq!(summary["groups"][0]["scores"]["same_text"]["mean"], json!(1.0));
    assert_eq!(summary["groups"][1]["scores"]["same_text"]["mean"], json!(0.0));
    assert_eq!(summary["calibration"].as_array().unwrap().len(), 1);

    // The same as `compare` says of the same masks.
    let results: Vec<Value> = fs::read_to_string(desk.path("out/results.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let folder = results[0]["folder"].as_str().unwrap();
    let mask = format!("out/{folder}/mask.nii.gz");
    let compared = desk.run(["compare", "in/t0.nii.gz", &mask, "--label", "1", "--json"]);
    let compared: Value = serde_json::from_str(&compared.succeeds().stdout).unwrap();
    let table = fs::read_to_string(desk.path("out/eval.csv")).unwrap();
    let mut rows = table.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = rows.next().unwrap();
    let column = |name: &str| header.iter().position(|of| *of == name).unwrap();
    let first = table.lines().nth(1).unwrap();
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(first.as_bytes());
    let first = reader.records().next().unwrap().unwrap();
    for name in ["dice", "surface_dice", "hausdorff_mm"] {
        let own: f64 = first[column(name)].parse().unwrap();
        let of_compare = find(&compared, name).unwrap();
        assert!((own - of_compare).abs() < 1e-12, "{name}: {own} and {of_compare}");
    }
    let page = fs::read_to_string(desk.path("out/report.html")).unwrap();
    assert!(page.contains("data:image/png;base64,") && page.contains("class=\"box\""));
    assert!(!page.contains("http"), "a page that needs nothing else");
}

/// The first number of this name in an object.
fn find(value: &Value, name: &str) -> Option<f64> {
    match value {
        Value::Object(fields) => fields
            .get(name)
            .and_then(Value::as_f64)
            .or_else(|| fields.values().find_map(|value| find(value, name))),
        Value::Array(values) => values.iter().find_map(|value| find(value, name)),
        _ => None,
    }
}

#[test]
fn a_run_is_resumed_divided_and_scored_again() {
    let desk = Desk::new();
    (0..4).for_each(|seed| phantom(&desk, seed));
    lines(&desk, "cases.jsonl", &(0..4).map(organs).collect::<Vec<_>>());
    let whole = eval(&desk, &["--data", "cases.jsonl", "--no-preview", "--json"]);
    let whole: Value = serde_json::from_str(&whole.succeeds().stdout).unwrap();
    fs::rename(desk.path("out"), desk.path("whole")).unwrap();

    for part in ["0/2", "1/2"] {
        let args = ["--data", "cases.jsonl", "--no-preview", "--resume", "--shard", part];
        // A part has done all of its own, whatever the others have.
        eval(&desk, &args).code_is(0);
    }
    let again = eval(&desk, &["--data", "cases.jsonl", "--score-only", "--json"]);
    let again: Value = serde_json::from_str(&again.succeeds().stdout).unwrap();
    assert_eq!(again["overall"], whole["overall"]);

    // Without surfaces, and by another policy.
    let args = [
        "--data",
        "cases.jsonl",
        "--score-only",
        "--no-surface",
        "--empty",
        "formula",
        "--limit",
        "2",
    ];
    eval(&desk, &args).succeeds();
    let limited = summary(&desk);
    assert_eq!(limited["counts"]["prompts"], 4);
    assert!(limited["overall"]["surface_dice"].is_null() && limited["overall"]["dice"].is_object());
}

#[test]
fn tables_and_published_layouts_become_the_same_questions() {
    let desk = Desk::new();
    phantom(&desk, 0);
    fs::write(
        desk.path("cases.csv"),
        "id,image,organs,truth,truth_labels\np0,in/p0.nii.gz,liver|spleen,in/t0.nii.gz,1|2\n",
    )
    .unwrap();
    eval(&desk, &["--data", "cases.csv", "--no-preview"]).succeeds();
    assert_eq!(summary(&desk)["counts"]["scored"], 2);

    fs::create_dir_all(desk.path("M3D/0003/7")).unwrap();
    fs::copy(desk.path("in/p0.nii.gz"), desk.path("M3D/0003/7/image.nii.gz")).unwrap();
    let truth = r1seg::volume::read_labels(desk.path("in/t0.nii.gz"), &Default::default()).unwrap();
    let mask = truth.labels.label_mask(1);
    r1seg::volume::write_mask(desk.path("M3D/0003/7/mask_0.nii.gz"), &mask, Overwrite::Refuse)
        .unwrap();
    fs::rename(desk.path("M3D/0003/7/mask_0.nii.gz"), desk.path("M3D/0003/7/mask_0.npy")).unwrap();
    let data = json!({"test": [
        {"image": "0003/7/image.nii.gz", "label": "0003/7/mask_0.npy"},
        {"image": "0003/7/image.nii.gz", "label": "0003/7/mask_9.npy"},
    ]});
    fs::write(desk.path("0003.json"), data.to_string()).unwrap();
    fs::write(desk.path("names.json"), json!({"0003": {"0": "liver"}}).to_string()).unwrap();
    let args = [
        "--layout",
        "m3d-seg",
        "--data",
        "0003.json",
        "--root",
        "M3D",
        "--class-names",
        "names.json",
        "--no-preview",
        "--force",
    ];
    eval(&desk, &args).code_is(4);
    let seg = summary(&desk);
    assert_eq!(
        (&seg["counts"]["scored"], &seg["counts"]["refused"]),
        (&json!(1), &json!(1)),
        "{seg}"
    );
    assert!(seg["overall"]["dice"]["mean"].as_f64().unwrap() > 0.8, "{seg}");
    let cases = fs::read_to_string(desk.path("out/cases.jsonl")).unwrap();
    assert!(cases.contains("Can you segment the liver in this image?"), "{cases}");

    fs::write(
        desk.path("vqa.csv"),
        "Image Path,Question Type,Question,Choice A,Choice B,Choice C,Choice D,Answer,Answer Choice\n\
         in/p0.nii.gz,3,Which organ?,liver,spleen,kidney,heart,liver,A\n",
    )
    .unwrap();
    for (layout, score) in [("m3d-vqa-closed", "accuracy"), ("m3d-vqa-open", "bleu_1")] {
        let args = ["--layout", layout, "--data", "vqa.csv", "--no-preview", "--force"];
        eval(&desk, &args).succeeds();
        assert!(summary(&desk)["overall"][score].is_object(), "{layout}");
    }
    let cap = json!({"test": [{"image": "in/p0.nii.gz", "text": "The liver is large."}]});
    fs::write(desk.path("cap.json"), cap.to_string()).unwrap();
    let args = ["--layout", "m3d-cap", "--data", "cap.json", "--no-preview", "--force"];
    eval(&desk, &args).succeeds();
    assert!(summary(&desk)["overall"]["rouge_l"].is_object());
}

#[test]
fn clicks_are_simulated_for_each_label() {
    let desk = Desk::new();
    let golden = |file: &str| data(&format!("sam-med3d/golden/{file}")).display().to_string();
    let row = json!({"id": "ct", "image": golden("ct.nii.gz"), "points": [[1, 1, 1]], "truth": golden("label.nii.gz")});
    lines(&desk, "cases.jsonl", &[row]);
    let run = |more: &[&str]| {
        let mut command = desk.command();
        command.args(["eval", "--out", "out", "--data", "cases.jsonl", "--clicks", "3", "--quiet"]);
        finish(command.arg("-m").arg(data("sam-med3d")).args(["--dtype", "f32"]).args(more))
    };
    run(&[]).succeeds();
    let first = summary(&desk);
    let curve = first["clicks"].as_array().unwrap();
    assert_eq!(curve.len(), 3);
    let last = curve[2].as_f64().unwrap();
    assert!((first["overall"]["dice"]["mean"].as_f64().unwrap() - last).abs() < 1e-9, "{first}");
    let page = fs::read_to_string(desk.path("out/report.html")).unwrap();
    assert!(page.contains("Dice by clicks"));
    let written = fs::metadata(desk.path("out/clicks.jsonl")).unwrap().len();
    run(&["--resume"]).succeeds();
    assert_eq!(fs::metadata(desk.path("out/clicks.jsonl")).unwrap().len(), written);
    assert_eq!(summary(&desk)["overall"], first["overall"]);
    run(&["--score-only"]).succeeds();
    // Other options would be other scores.
    run(&["--score-only", "--tolerance-mm", "3"]).fails(2, "R-ARG-03").says("--score-only");
    run(&[]).fails(73, "R-BAT-05").says("--resume");

    let row = json!({"id": "ct", "image": golden("ct.nii.gz"), "points": [[1, 1, 1]],
        "truth": golden("label.nii.gz"), "truth_label": 999});
    lines(&desk, "cases.jsonl", &[row]);
    run(&["--force"]).code_is(4);
    let problem = fs::read_to_string(desk.path("out/eval.csv")).unwrap();
    assert!(problem.contains("no voxel of what is asked for"), "{problem}");
}

#[test]
fn what_cannot_be_evaluated_is_refused_before_anything_is_run() {
    let desk = Desk::new();
    let refused = |args: &[&str], code: i32, error: &str, says: &str| {
        eval(&desk, args).fails(code, error).says(says);
        assert!(!desk.path("out").exists(), "{args:?}");
    };
    refused(&["--data", "absent.jsonl"], 66, "R-BAT-02", "absent.jsonl");
    fs::write(desk.path("none.jsonl"), "{\"image\": \"a\"}\n").unwrap();
    refused(&["--data", "none.jsonl"], 65, "R-BAT-01", "row 1");
    fs::write(
        desk.path("cases.jsonl"),
        "{\"image\": \"a\", \"organ\": \"liver\", \"truth\": \"t\"}\n",
    )
    .unwrap();
    refused(&["--data", "cases.jsonl", "--clicks", "3"], 2, "R-ARG-03", "SAM-Med3D");
    refused(&["--data", "cases.jsonl", "--layout", "m3d-seg"], 65, "R-BAT-01", "no list `test`");
    fs::write(desk.path("templates.json"), "{\"segmnt\": []}").unwrap();
    let args = ["--data", "cases.jsonl", "--layout", "m3d-cap", "--templates", "templates.json"];
    refused(&args, 65, "R-BAT-01", "unknown task `segmnt`");
    eval(&desk, &["--data", "cases.jsonl", "--tolerance-mm=-1"]).code_is(2).says("millimeters");
    let clip = data("m3d-clip");
    let mut command = desk.command();
    command.args(["eval", "--data", "cases.jsonl", "-o", "out", "-m"]).arg(clip);
    finish(&mut command).fails(2, "R-ARG-03").says("retrieve --pairs");
    command.args(["--layout", "m3d-cap", "--resume"]);
    finish(&mut command).fails(2, "R-ARG-03").says("--resume");
    fs::write(desk.path("ragged.csv"), "image,prompt,truth\na,what, please,t\n").unwrap();
    refused(&["--data", "ragged.csv"], 65, "R-BAT-01", "row 2");
    assert!(Path::new(&desk.path("cases.jsonl")).exists());
}

#[test]
fn what_is_read_and_earlier_results_are_not_replaced() {
    let desk = Desk::new();
    phantom(&desk, 0);
    lines(&desk, "cases.jsonl", &[organs(0)]);
    let given = fs::read(desk.path("cases.jsonl")).unwrap();
    let mut command = desk.command();
    command.args(["eval", "-m", "demo", "--data", "cases.jsonl", "-o", ".", "--force"]);
    finish(&mut command).fails(73, "R-OUT-06").says("the data");
    assert_eq!(fs::read(desk.path("cases.jsonl")).unwrap(), given);
    assert!(!desk.path("list.jsonl").exists());

    eval(&desk, &["--data", "cases.jsonl", "--no-preview"]).succeeds();
    let before = fs::read(desk.path("out/cases.jsonl")).unwrap();
    let mut other = organs(0);
    other["id"] = json!("other");
    lines(&desk, "other.jsonl", &[other]);
    eval(&desk, &["--data", "other.jsonl", "--no-preview"]).fails(73, "R-BAT-05").says("--resume");
    assert_eq!(fs::read(desk.path("out/cases.jsonl")).unwrap(), before);
}

#[test]
fn prompts_are_scored_with_their_own_answers_whatever_their_groups_are() {
    let desk = Desk::new();
    phantom(&desk, 0);
    let mut row = organs(0);
    row["groups"] = json!(["liver", "liver"]);
    lines(&desk, "cases.jsonl", &[row]);
    eval(&desk, &["--data", "cases.jsonl", "--no-preview"]).succeeds();
    let summary = summary(&desk);
    let group = &summary["groups"][0];
    assert_eq!((&group["name"], &group["prompts"]), (&json!("liver"), &json!(2)));
    assert!(group["scores"]["dice"]["mean"].as_f64().unwrap() > 0.8, "{summary}");
}

#[test]
fn retrieval_is_measured_on_reports() {
    let desk = Desk::new();
    phantom(&desk, 0);
    phantom(&desk, 1);
    let cap = json!({"test": [
        {"image": "in/p0.nii.gz", "text": "A cyst."},
        {"image": "in/p1.nii.gz", "text": "A nodule."},
        {"image": "in/p1.nii.gz"},
    ]});
    fs::write(desk.path("cap.json"), cap.to_string()).unwrap();
    let mut command = desk.command();
    command.args(["eval", "--layout", "m3d-cap", "--data", "cap.json", "-o", "out", "--json"]);
    let run = finish(command.arg("-m").arg(data("m3d-clip")));
    run.code_is(4).says("row 3 is left out");
    let recall: Value = serde_json::from_str(&run.stdout).unwrap();
    assert!(recall["recall"].is_array(), "{recall}");
}
