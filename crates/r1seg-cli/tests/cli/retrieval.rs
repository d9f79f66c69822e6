//! `embed` and `retrieve`, with the recorded M3D-CLIP.

use std::fs;
use std::process::Stdio;

use r1seg::volume::{Geometry, Overwrite, Volume, write_volume};
use serde_json::{Value, json};

use crate::inspect_dicom::{image, slice};
use crate::usage::snapshot;
use crate::{Desk, Run, data, finish, nifti, read_tensors};

/// `width` of the recorded model.
const WIDTH: usize = 32;

/// A desk with the recorded volumes `v0.nii.gz` to `v3.nii.gz` in the folder `scans`, and the
/// recorded texts.
fn desk() -> (Desk, Vec<String>) {
    let desk = Desk::new();
    fs::create_dir(desk.path("scans")).unwrap();
    let file = fs::read(data("m3d-clip/golden/volumes.npy")).unwrap();
    let numbers: Vec<f32> =
        file[128..].as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    for (i, voxels) in numbers.chunks(16 * 64 * 64).enumerate() {
        let geometry = Geometry::with_spacing([16, 64, 64], [5.0, 1.0, 1.0]).unwrap();
        let volume = Volume::new(voxels.to_vec(), geometry).unwrap();
        let path = desk.path(&format!("scans/v{i}.nii.gz"));
        write_volume(path, &volume, Overwrite::Refuse).unwrap();
    }
    let case: Value =
        serde_json::from_slice(&fs::read(data("m3d-clip/golden/case.json")).unwrap()).unwrap();
    let texts = case["texts"].as_array().unwrap();
    (desk, texts.iter().map(|text| text.as_str().unwrap().to_string()).collect())
}

/// A command with the recorded model, exact on any processor.
fn run(desk: &Desk, args: &[&str]) -> Run {
    run_prepared(desk, args, "none")
}

/// [`run`] with a recipe for the intensities.
fn run_prepared(desk: &Desk, args: &[&str], preprocess: &str) -> Run {
    let mut command = desk.command();
    command.arg(args[0]).arg("--model").arg(data("m3d-clip"));
    command.args(["--device", "cpu", "--dtype", "f32", "--preprocess", preprocess]);
    finish(command.args(&args[1..]))
}

/// The names in a ranking.
fn ranked(query: &Value) -> Vec<&str> {
    let results = query["results"].as_array().unwrap();
    results.iter().map(|hit| hit["name"].as_str().unwrap()).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn recorded(name: &str) -> Vec<f32> {
    floats(&read_tensors(&data("m3d-clip/golden/expected.safetensors"))[name].bytes)
}

/// The recorded similarity of a volume and a text.
fn recorded_cosines() -> impl Fn(usize, usize) -> f32 {
    let (images, words) = (recorded("image_embeddings"), recorded("text_embeddings"));
    move |v, t| (0..WIDTH).map(|i| images[v * WIDTH + i] * words[t * WIDTH + i]).sum()
}

#[track_caller]
fn assert_near(got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len());
    let largest = expected.iter().fold(0f32, |max, x| max.max(x.abs()));
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - expected).abs() <= 1e-4 * largest, "{got} {expected}");
    }
}

#[test]
fn embed_writes_the_recorded_vectors_and_names_them() {
    let (desk, texts) = desk();
    let mut args = vec!["embed", "-o", "out.safetensors", "--json"];
    for i in ["scans/v0.nii.gz", "scans/v1.nii.gz", "scans/v2.nii.gz", "scans/v3.nii.gz"] {
        args.extend(["-i", i]);
    }
    texts.iter().for_each(|text| args.extend(["-t", text]));
    let done = run(&desk, &args);
    done.succeeds().says("8 vectors of 32 numbers in out.safetensors");
    let tensor = &read_tensors(&desk.path("out.safetensors"))["embeddings"];
    assert_eq!(tensor.shape, [8, WIDTH]);
    let expected = [recorded("image_embeddings"), recorded("text_embeddings")].concat();
    assert_near(&floats(&tensor.bytes), &expected);

    let names: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(names["rows"][1]["name"], "scans/v1.nii.gz");
    assert_eq!(names["rows"][1]["recipe"], "none");
    assert_eq!(names["rows"][4], json!({"kind": "text", "name": texts[0]}));
    assert_eq!((&names["model"], &names["width"]), (&json!("m3d-clip"), &json!(WIDTH)));
    let bytes = fs::read(desk.path("out.safetensors")).unwrap();
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(metadata.metadata().as_ref().unwrap()["r1seg"], done.stdout);
}

#[test]
fn embed_writes_an_array_with_its_names_beside_it() {
    let (desk, texts) = desk();
    fs::write(desk.path("texts.txt"), texts.join("\n\n")).unwrap();
    let done = run(&desk, &["embed", "-t", "@texts.txt", "-o", "out.npy", "--quiet"]);
    done.succeeds();
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""));
    let file = fs::read(desk.path("out.npy")).unwrap();
    assert_near(&floats(&file[128..]), &recorded("text_embeddings"));
    let names: Value =
        serde_json::from_slice(&fs::read(desk.path("out.npy.json")).unwrap()).unwrap();
    assert_eq!(names["rows"].as_array().unwrap().len(), 4);

    let again = ["embed", "-t", "liver", "-o", "out.npy"];
    run(&desk, &again).fails(73, "R-OUT-01").says("--force");
    run(&desk, &[&again[..], &["--force"]].concat()).succeeds();
    assert_eq!(desk.names("."), ["out.npy", "out.npy.json", "scans", "texts.txt"]);
    assert_eq!(fs::read(desk.path("out.npy")).unwrap().len(), 128 + 4 * WIDTH);
}

#[test]
fn a_volume_and_a_text_may_come_from_standard_input() {
    let (desk, _) = desk();
    let from_stdin = |args: &[&str], file: &str| {
        let mut command = desk.command();
        command.arg(args[0]).arg("--model").arg(data("m3d-clip")).args(&args[1..]);
        finish(command.stdin(Stdio::from(fs::File::open(desk.path(file)).unwrap())))
    };
    fs::write(desk.path("text.txt"), "Normal liver.\n").unwrap();
    from_stdin(&["embed", "-i", "-", "-o", "a.npy"], "scans/v0.nii.gz").succeeds();
    from_stdin(&["embed", "-t", "-", "-o", "b.npy"], "text.txt").succeeds();
    let both = ["embed", "-t", "-", "-i", "-", "-o", "c.npy"];
    from_stdin(&both, "text.txt").fails(2, "R-ARG-03").says("once only");
}

#[test]
fn retrieve_ranks_the_volumes_of_a_folder_for_a_text() {
    let (desk, texts) = desk();
    let cosine = recorded_cosines();
    let mut order = [0, 1, 2, 3];
    order.sort_by(|a, b| cosine(*b, 1).total_cmp(&cosine(*a, 1)));
    let done = run(&desk, &["retrieve", "-t", &texts[1], "scans", "--json"]);
    let found: Value = serde_json::from_str(&done.succeeds().stdout).unwrap();
    let query = &found["queries"][0];
    assert_eq!(query["query"], texts[1]);
    for (hit, v) in query["results"].as_array().unwrap().iter().zip(order) {
        assert_eq!(hit["name"], format!("scans/v{v}.nii.gz"));
        let similarity = hit["similarity"].as_f64().unwrap();
        assert!((similarity - f64::from(cosine(v, 1))).abs() < 1e-4, "{hit}");
    }
    let done = run(&desk, &["retrieve", "-t", &texts[1], "scans", "--top", "2"]);
    let lines: Vec<&str> = done.succeeds().stdout.lines().collect();
    assert_eq!(lines.len(), 2);
    let best = format!("{:7.4}  scans/v{}.nii.gz", cosine(order[0], 1), order[0]);
    assert_eq!(lines[0], best);
}

#[test]
fn retrieve_ranks_the_lines_of_a_file_for_a_volume() {
    let (desk, texts) = desk();
    fs::write(desk.path("texts.txt"), texts.join("\n")).unwrap();
    let volumes = ["-i", "scans/v2.nii.gz", "-i", "scans/v3.nii.gz"];
    let args = [&["retrieve", "--texts", "texts.txt"][..], &volumes].concat();
    let done = run(&desk, &args);
    let out = &done.succeeds().stdout;
    // A heading and four texts each, with a blank line between.
    assert_eq!(out.lines().count(), 5 + 1 + 5, "{out}");
    assert!(out.starts_with("scans/v2.nii.gz\n"), "{out}");
    assert!(texts.iter().all(|text| out.matches(text.as_str()).count() == 2), "{out}");
}

#[test]
fn recall_is_measured_both_ways() {
    let (desk, texts) = desk();
    let row = |(i, text): (usize, &String)| format!("scans/v{i}.nii.gz,\"{text}\"\n");
    let rows: String = texts.iter().enumerate().map(row).collect();
    fs::write(desk.path("pairs.csv"), format!("image,text\n{rows}")).unwrap();

    let cosine = recorded_cosines();
    let first = |right: &dyn Fn(usize) -> bool| (0..4).filter(|i| right(*i)).count() as f64 / 4.0;
    let by_volume = first(&|v| (0..4).all(|t| cosine(v, v) >= cosine(v, t)));
    let by_text = first(&|t| (0..4).all(|v| cosine(t, t) >= cosine(v, t)));

    let done = run(&desk, &["retrieve", "--pairs", "pairs.csv", "--json"]);
    let found: Value = serde_json::from_str(&done.succeeds().stdout).unwrap();
    for (n, direction, recall) in [(0, "volume -> text", by_volume), (1, "text -> volume", by_text)]
    {
        let got = &found["recall"][n];
        assert_eq!((&got["direction"], &got["queries"]), (&json!(direction), &json!(4)));
        assert_eq!(got["at"][0], json!({"k": 1, "recall": recall}));
        assert_eq!(got["at"][1], json!({"k": 5, "recall": 1.0}));
        assert_eq!(got["at"][2], json!({"k": 10, "recall": 1.0}));
    }
    let done = run(&desk, &["retrieve", "--pairs", "pairs.csv"]);
    let line = format!("volume -> text (4 of 4):  recall@1 {:.1} %", 100.0 * by_volume);
    assert!(done.succeeds().stdout.starts_with(&line), "{done:?}");
}

#[test]
fn texts_that_cannot_be_embedded_are_refused_and_long_ones_cut_with_a_warning() {
    let (desk, _) = desk();
    let out = ["-o", "out.npy"];
    run(&desk, &[&["embed", "-t", " "][..], &out].concat()).fails(2, "R-TOK-15");
    let second = run(&desk, &[&["embed", "-t", "liver", "-t", ""][..], &out].concat());
    second.fails(2, "R-TOK-15").says("text 2 of 2");
    assert_eq!(desk.names("."), ["scans"]);
    let long = "liver ".repeat(600);
    let done = run(&desk, &[&["embed", "-t", &long][..], &out].concat());
    done.succeeds().says("warning[W-TEXT]").says("90 tokens too long");
}

#[test]
fn volumes_that_cannot_be_read_are_named_and_end_with_their_code_where_there_is_nothing_else() {
    let (desk, _) = desk();
    let absent = ["embed", "-i", "absent.nii", "-o", "x.npy"];
    run(&desk, &absent).fails(66, "R-IN-01").says("--> absent.nii");
    fs::write(desk.path("broken.nii.gz"), "no volume").unwrap();
    run(&desk, &["retrieve", "-t", "liver", "broken.nii.gz"])
        .fails(65, "R-IN-06")
        .says("--> broken.nii.gz");
    // Different codes: that of the data.
    run(&desk, &["retrieve", "-t", "liver", "absent.nii", "broken.nii.gz"])
        .fails(65, "R-IN-06")
        .says("error[R-IN-01]");
    fs::create_dir(desk.path("empty")).unwrap();
    run(&desk, &["retrieve", "-t", "liver", "empty"]).fails(66, "R-IN-03").says("--> empty");
    assert_eq!(desk.names("."), ["broken.nii.gz", "empty", "scans"]);
}

#[test]
fn a_bad_file_among_good_ones_is_reported_and_the_rest_is_ranked_with_a_code_of_its_own() {
    let (desk, texts) = desk();
    fs::write(desk.path("scans/a.nii.gz"), "no volume").unwrap();
    let done = run(&desk, &["retrieve", "-t", &texts[0], "scans", "-q"]);
    assert_eq!((done.code, done.stdout.lines().count()), (Some(4), 4), "{done:?}");
    done.says("error[R-IN-06]: ").says("--> scans/a.nii.gz");

    let done = run(&desk, &["retrieve", "-t", &texts[0], "scans", "absent.nii", "--json"]);
    assert_eq!(done.code, Some(4), "{done:?}");
    let found: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(ranked(&found["queries"][0]).len(), 4);
    assert_eq!(found["failed"][0]["name"], "scans/a.nii.gz");
    assert_eq!(
        (&found["failed"][1]["name"], &found["failed"][1]["code"]),
        (&json!("absent.nii"), &json!("R-IN-01"))
    );

    // The vectors that there are, and the names of those that are not.
    let done = run(&desk, &["embed", "-i", "scans", "-o", "out.npy", "-q"]);
    assert_eq!(done.code, Some(4), "{done:?}");
    assert_near(
        &floats(&fs::read(desk.path("out.npy")).unwrap()[128..]),
        &recorded("image_embeddings"),
    );
    let names: Value =
        serde_json::from_slice(&fs::read(desk.path("out.npy.json")).unwrap()).unwrap();
    assert_eq!(names["rows"].as_array().unwrap().len(), 4);
    assert_eq!(names["failed"][0]["name"], "scans/a.nii.gz");
}

#[test]
fn recall_is_measured_on_the_pairs_whose_volumes_can_be_read() {
    let (desk, texts) = desk();
    let row = |(i, text): (usize, &String)| format!("scans/v{i}.nii.gz,\"{text}\"\n");
    let rows: String = texts.iter().enumerate().map(row).collect();
    fs::write(desk.path("pairs.csv"), format!("image,text\n{rows}")).unwrap();
    fs::remove_file(desk.path("scans/v1.nii.gz")).unwrap();
    let done = run(&desk, &["retrieve", "--pairs", "pairs.csv", "--json"]);
    assert_eq!(done.code, Some(4), "{done:?}");
    done.says("scans/v1.nii.gz");
    let found: Value = serde_json::from_str(&done.stdout).unwrap();
    for (n, candidates) in [(0, 4), (1, 3)] {
        let got = &found["recall"][n];
        assert_eq!((&got["queries"], &got["candidates"]), (&json!(3), &json!(candidates)));
        assert_eq!(got["at"][2]["recall"], 1.0);
    }
    assert_eq!(found["failed"].as_array().unwrap().len(), 1);
}

#[test]
fn each_series_of_a_study_is_a_volume_of_its_own_and_so_is_a_file_beside_them() {
    let desk = Desk::new();
    for (n, z) in [0.0, 2.5, 5.0, 7.5].into_iter().enumerate() {
        slice(&desk, &format!("a{n}"), "1", "CT", z);
        slice(&desk, &format!("b{n}.dcm"), "2", "CT", z);
    }
    nifti(&desk, "study/ct.nii.gz");
    let names = ["study#1", "study#2", "study/ct.nii.gz"];
    let ask = ["retrieve", "-t", "liver", "study", "--json"];
    let done = run_prepared(&desk, &ask, "auto");
    let found: Value = serde_json::from_str(&done.succeeds().stdout).unwrap();
    let mut got = ranked(&found["queries"][0]);
    got.sort_unstable();
    assert_eq!((got, &found["failed"]), (names.to_vec(), &json!([])));

    let done = run_prepared(&desk, &["embed", "-i", "study", "-o", "x.npy", "--json"], "auto");
    let found: Value = serde_json::from_str(&done.succeeds().stdout).unwrap();
    let rows = found["rows"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| row["name"].as_str().unwrap()).collect::<Vec<_>>(), names);

    // One series of one folder is chosen; of several volumes that makes no sense.
    fs::remove_file(desk.path("study/ct.nii.gz")).unwrap();
    let chosen = run_prepared(&desk, &[&ask[..], &["--series", "2"]].concat(), "auto");
    let found: Value = serde_json::from_str(&chosen.succeeds().stdout).unwrap();
    assert_eq!(ranked(&found["queries"][0]), ["study"]);
    let two = [&ask[..], &["other.nii", "--series", "2"]].concat();
    run_prepared(&desk, &two, "auto").fails(2, "R-ARG-03").says("each series");
}

#[test]
fn a_series_that_cannot_be_read_is_named_and_a_localizer_is_left_out() {
    let desk = Desk::new();
    for (n, z) in [0.0, 2.5, 5.0, 7.5].into_iter().enumerate() {
        slice(&desk, &format!("a{n}"), "1", "CT", z);
        slice(&desk, &format!("b{n}"), "2", "MR", z);
    }
    image(&desk, "scout", "3", ("CT", "LOCALIZER"), 0.0);
    let done = run_prepared(&desk, &["retrieve", "-t", "liver", "study", "--json"], "auto");
    assert_eq!(done.code, Some(4), "{done:?}");
    let found: Value = serde_json::from_str(&done.stdout).unwrap();
    let (good, bad) = (ranked(&found["queries"][0]), &found["failed"][0]["name"]);
    assert_eq!(found["warnings"][0]["code"], "W-SERIES");
    let left_out = found["warnings"][0]["text"].as_str().unwrap().split(' ').next().unwrap();
    let mut all = [good[0], bad.as_str().unwrap(), left_out];
    all.sort_unstable();
    assert_eq!((good.len(), all), (1, ["study#1", "study#2", "study#3"]));
    assert_eq!(found["failed"].as_array().unwrap().len(), 1);
}

#[test]
fn another_model_is_refused_by_its_type() {
    let desk = Desk::new();
    nifti(&desk, "ct.nii.gz");
    for (model, words) in [(data("phi3"), "lamed_phi3_cross"), ("demo".into(), "M3D-CLIP")] {
        let mut command = desk.command();
        command.args(["embed", "-i", "ct.nii.gz", "-o", "out.npy", "-m"]).arg(&model);
        finish(&mut command).fails(78, "R-MDL-05").says(words);
    }
    desk.is_empty_but_for(&["ct.nii.gz"]);
}

#[test]
fn a_checkpoint_without_a_tensor_is_refused_by_name() {
    let desk = Desk::new();
    fs::create_dir(desk.path("model")).unwrap();
    for file in ["config.json", "tokenizer.json"] {
        fs::copy(data("m3d-clip").join(file), desk.path("model").join(file)).unwrap();
    }
    let mut tensors = read_tensors(&data("m3d-clip/model.safetensors"));
    tensors.remove("mm_language_proj.bias").unwrap();
    crate::write_tensors(&desk.path("model/model.safetensors"), &tensors);
    desk.run(["embed", "-m", "model", "-t", "liver", "-o", "out.npy"])
        .fails(78, "R-WGT-03")
        .says("mm_language_proj.bias");
}

#[test]
fn arguments_of_retrieval_that_make_no_sense_are_refused() {
    let desk = Desk::new();
    run(&desk, &["embed", "-o", "out.npy"]).fails(2, "R-ARG-03").says("nothing to embed");
    run(&desk, &["embed", "-t", "liver", "-o", "out.txt"]).fails(73, "R-OUT-04").says(".npy");
    run(&desk, &["embed", "-t", "liver", "-o", "no/out.npy"]).fails(73, "R-OUT-02");
    run(&desk, &["retrieve"]).fails(2, "R-ARG-03").says("--pairs");
    for args in [
        &["retrieve", "-t", "liver"][..],
        &["retrieve", "-i", "a.nii"],
        &["retrieve", "a.nii"],
        &["retrieve", "-t", "liver", "a.nii", "--top", "0"],
        &["retrieve", "--pairs", "p.csv", "--top", "3"],
        &["retrieve", "--pairs", "p.csv", "a.nii"],
    ] {
        let done = run(&desk, args);
        assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""), "{args:?}: {done:?}");
    }
    run(&desk, &["retrieve", "--pairs", "absent.csv"]).fails(66, "R-RET-02").says("absent.csv");
    fs::write(desk.path("p.csv"), "image,report\na,b\n").unwrap();
    run(&desk, &["retrieve", "--pairs", "p.csv"]).fails(65, "R-RET-02").says("`text`");
    fs::write(desk.path("p.csv"), "image,text\nabsent.nii,liver\n").unwrap();
    run(&desk, &["retrieve", "--pairs", "p.csv"]).fails(66, "R-IN-01").says("absent.nii");
}

#[test]
fn the_help_of_retrieval_is_as_documented() {
    let desk = Desk::new();
    snapshot(&desk, "help_embed", &desk.run(["embed", "--help"]).succeeds().stdout);
    snapshot(&desk, "help_retrieve", &desk.run(["retrieve", "--help"]).succeeds().stdout);
}
