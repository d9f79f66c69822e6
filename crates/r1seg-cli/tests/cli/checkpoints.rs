use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;

use crate::{Desk, data, finish, prompt};

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// What the short name `R1Seg-3D-Phi-3-4B` stands for.
const REPOSITORY: &str = "hf/hub/models--lihao0011--R1Seg-3D-Phi-3-4B";

/// The recorded model as if it had been downloaded; the folder of its files.
pub(crate) fn cached(desk: &Desk) -> PathBuf {
    let snapshot = desk.path(REPOSITORY).join("snapshots").join(COMMIT);
    copy(&data("phi3"), &snapshot);
    let refs = desk.path(REPOSITORY).join("refs");
    fs::create_dir_all(&refs).unwrap();
    fs::write(refs.join("main"), COMMIT).unwrap();
    snapshot
}

/// Copies the files of a folder, not the folders in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.path().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// The recorded Llama-3.1 model with its weights as a pickle.
pub(crate) fn pickled(desk: &Desk) -> PathBuf {
    let folder = desk.path("pickled");
    copy(&data("llama31"), &folder);
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    fs::copy(data("llama31-bin/pytorch_model.bin"), folder.join("pytorch_model.bin")).unwrap();
    folder
}

/// Name to dtype, shape and bytes.
fn tensors(file: &Path) -> BTreeMap<String, (String, Vec<usize>, Vec<u8>)> {
    let bytes = fs::read(file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    tensors
        .iter()
        .map(|(name, view)| {
            let dtype = format!("{:?}", view.dtype());
            (name.to_string(), (dtype, view.shape().to_vec(), view.data().to_vec()))
        })
        .collect()
}

#[test]
fn a_pickle_converts_to_the_tensors_of_its_safetensors_twin_and_answers_the_same() {
    let desk = Desk::new();
    let source = pickled(&desk);
    let model = desk.path("converted");
    let run = finish(desk.command().arg("convert").arg(&source).arg("-o").arg(&model));
    run.succeeds().says("195 tensors");
    assert_eq!(run.stdout.trim_end(), model.display().to_string());
    assert_eq!(
        tensors(&model.join("model.safetensors")),
        tensors(&data("llama31/model.safetensors"))
    );

    let volume = data("llama31/golden/volume.npy");
    let asked = prompt("llama31/golden/case0");
    let converted = desk.ask(&model, &volume, &asked, "--out a");
    let original = desk.ask(&data("llama31"), &volume, &asked, "--out b");
    assert_eq!(converted.succeeds().stdout, original.succeeds().stdout);
    assert_eq!(fs::read(desk.path("a/mask.npy")).ok(), fs::read(desk.path("b/mask.npy")).ok());

    // Nothing is replaced without being asked, and what was written can be checked again.
    let again = ["convert", "pickled", "-o", "converted", "--dtype", "f32"];
    desk.run(again).fails(73, "R-CNV-19").says("--force");
    desk.run(["verify", "converted"]).succeeds();
    desk.run(again.into_iter().chain(["--force"])).succeeds();
    let dtypes = tensors(&model.join("model.safetensors"));
    assert!(dtypes.values().all(|(dtype, ..)| dtype == "F32"));
}

#[test]
fn w7_a_converted_file_that_changed_is_named() {
    let desk = Desk::new();
    pickled(&desk);
    desk.run(["convert", "pickled", "-o", "model", "-q"]).succeeds();
    let weights = desk.path("model/model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&weights, bytes).unwrap();
    desk.run(["verify", "model"]).fails(78, "R-VER-03").says("model.safetensors");
}

#[test]
fn w7_infer_refuses_a_converted_folder_that_changed() {
    let desk = Desk::new();
    let make = || {
        desk.run(["convert", "pickled", "-o", "model", "-q", "--force"]).succeeds();
        desk.path("model")
    };
    pickled(&desk);
    let model = make();
    let ask = |options: &str| {
        let volume = data("llama31/golden/volume.npy");
        desk.ask(&model, &volume, &prompt("llama31/golden/case0"), options)
    };
    ask("--out a --verify").succeeds();

    // Lengths of weights, and hashes of all else, are compared every time.
    for name in ["config.json", "tokenizer.json"] {
        let mut bytes = fs::read(model.join(name)).unwrap();
        bytes.push(b' ');
        fs::write(model.join(name), bytes).unwrap();
        ask("--out b").fails(78, "R-VER-03").says(name);
        make();
    }
    let weights = model.join("model.safetensors");
    let good = fs::read(&weights).unwrap();
    fs::write(&weights, &good[..good.len() - 2]).unwrap();
    ask("--out b").fails(78, "R-VER-03").says("model.safetensors").says("bytes, expected");
    fs::write(&weights, &good).unwrap();
    fs::copy(&weights, model.join("model-2.safetensors")).unwrap();
    ask("--out b").fails(78, "R-VER-03").says("model-2.safetensors");
    fs::remove_file(model.join("model-2.safetensors")).unwrap();

    // Hashes of weights, when that is asked for.
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    fs::write(&weights, bad).unwrap();
    ask("--out b --verify").fails(78, "R-VER-03").says("SHA-256");
    assert!(!desk.path("b").exists());

    // A manifest of somebody else's is none of ours.
    fs::write(&weights, good).unwrap();
    fs::write(model.join("manifest.json"), "{\"files\": 3}").unwrap();
    ask("--out c").succeeds();
    ask("--out d --verify").fails(78, "R-VER-02");
}

#[test]
fn w6_verify_finds_nan_in_a_downloaded_model() {
    let desk = Desk::new();
    let snapshot = cached(&desk);
    desk.run(["verify", "R1Seg-3D-Phi-3-4B"]).succeeds();
    let weights = snapshot.join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&weights, bytes).unwrap();
    desk.run(["verify", "R1Seg-3D-Phi-3-4B"]).fails(78, "R-CNV-13").says("1 tensor holds NaN");
}

#[test]
fn w1_a_pickle_is_refused_by_infer_which_says_how_to_convert_it() {
    let desk = Desk::new();
    let run = desk.infer_with(&pickled(&desk));
    run.fails(78, "R-WGT-02").says("fix: r1seg convert ").says("--model DIR");
}

#[test]
fn w2_what_a_pickle_wants_to_run_is_refused_by_name_and_not_run() {
    let desk = Desk::new();
    // cos.system('touch ran') as protocol 0 of the legacy layout would call it.
    let hostile = b"\x80\x02cos\nsystem\nX\x09\x00\x00\x00touch ran\x85R.";
    fs::write(desk.path("model.bin"), hostile).unwrap();
    let run = desk.run(["convert", "model.bin", "-o", "out"]);
    assert_eq!(run.code, Some(78), "{run:#?}");
    assert!(run.stderr.contains("error[R-CNV-") && !run.stderr.contains("panicked"), "{run:#?}");
    assert_eq!(desk.names("."), ["model.bin"]);
}

#[test]
fn a_downloaded_model_goes_by_its_short_name() {
    let desk = Desk::new();
    let snapshot = cached(&desk);
    let volume = data("phi3/golden/volume.npy");
    let asked = prompt("phi3/golden/case0");
    for name in ["R1Seg-3D-Phi-3-4B", "r1seg-3d-phi-3-4b", "lihao0011/R1Seg-3D-Phi-3-4B@main"] {
        desk.ask(Path::new(name), &volume, &asked, "--force").succeeds();
        let report = desk.report();
        assert_eq!(report["model"]["id"], "lihao0011/R1Seg-3D-Phi-3-4B");
        assert_eq!(report["model"]["revision"], COMMIT);
    }
    let list = desk.run(["cache", "list", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&list.succeeds().stdout).unwrap();
    assert_eq!(list[0]["model"], "lihao0011/R1Seg-3D-Phi-3-4B");
    assert_eq!(list[0]["revisions"][0]["path"], snapshot.display().to_string());
    assert!(desk.run(["cache", "list"]).stdout.contains(&format!("@{COMMIT}  ")));
    assert_eq!(
        desk.run(["cache", "path"]).stdout.trim_end(),
        desk.path("hf/hub").display().to_string()
    );

    let kept = "lihao0011-R1Seg-3D-Phi-3-4B-0123456789abcdef.json";
    fs::create_dir_all(desk.path("hf/r1seg")).unwrap();
    fs::write(desk.path("hf/r1seg").join(kept), "{}").unwrap();
    desk.run(["cache", "remove", "R1Seg-3D-Phi-3-4B"]).succeeds();
    assert!(!snapshot.exists());
    assert!(!desk.path("hf/r1seg").join(kept).exists());
    desk.run(["cache", "remove", "R1Seg-3D-Phi-3-4B"]).fails(66, "R-HUB-02");
}

#[test]
fn a_model_that_is_not_there_says_how_to_get_it() {
    let desk = Desk::new();
    let volume = data("phi3/golden/volume.npy");
    let run = desk.ask(Path::new("R1Seg-3D-Phi-3-4B"), &volume, "Hello?", "");
    run.fails(66, "R-HUB-02").says("fix: r1seg download lihao0011/R1Seg-3D-Phi-3-4B");
    desk.run(["verify", "R1Seg-3D-Phi-3-4B"]).fails(66, "R-HUB-02");
    desk.run(["download", "R1Seg-3D-Phi-4-4B"]).fails(2, "R-HUB-04").says("R1Seg-3D-Phi-3-4B");
}

#[test]
fn offline_means_offline() {
    let desk = Desk::new();
    let mut command = desk.command();
    // Whoever tried to connect here would fail otherwise, and after retries.
    command.env("HF_ENDPOINT", "http://127.0.0.1:1").env("HF_HUB_OFFLINE", "1");
    finish(command.args(["download", "R1Seg-3D-Phi-3-4B"])).fails(66, "R-HUB-01");
    let snapshot = cached(&desk);
    let run = finish(command.arg("--json"));
    let done: serde_json::Value = serde_json::from_str(&run.succeeds().stdout).unwrap();
    assert_eq!(done["path"], snapshot.display().to_string());
    assert_eq!((&done["commit"], &done["needs_convert"]), (&COMMIT.into(), &false.into()));
}

#[test]
fn verify_knows_that_the_embedded_model_has_no_files() {
    let run = Desk::new().run(["verify", "demo"]);
    assert!(run.succeeds().stdout.contains("part of r1seg itself"), "{run:#?}");
}
