//! `inspect` of models: what they are, without their weights.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Instant;

use r1seg::volume::{ReadOptions, read};
use serde_json::{Value, json};

use crate::checkpoints::{COMMIT, cached, copy, pickled};
use crate::schema::assert_keeps_to;
use crate::{Desk, Run, data, finish};

fn inspect(desk: &Desk, model: &Path, options: &str) -> Run {
    let mut command = desk.command();
    finish(command.arg("inspect").arg(model).args(options.split_whitespace()))
}

/// What is printed as JSON, whatever the exit code.
fn json_of(run: &Run) -> Value {
    let json = serde_json::from_str(&run.stdout).unwrap();
    assert_keeps_to("inspect-model", &json);
    json
}

#[test]
fn a_model_is_described_and_usable() {
    let desk = Desk::new();
    let run = inspect(&desk, &data("phi3"), "--json");
    let found = json_of(run.succeeds());
    assert_eq!(found["model"]["name"], "R1Seg-3D");
    assert_eq!(found["language"]["family"], "Phi-3");
    assert_eq!(found["vision"]["grid"], json!([4, 4, 4]));
    assert_eq!(found["vision"]["visual_tokens"], 8);
    assert_eq!(found["weights"]["tensors"], 189);
    assert_eq!(found["weights"]["dtypes"][0]["dtype"], "f32");
    assert_eq!(found["weights"]["bytes"], 4 * found["weights"]["parameters"].as_u64().unwrap());
    for fault in ["missing", "unexpected", "misshaped"] {
        assert_eq!(found["load"][fault], json!([]));
    }
    let tokenizer = &found["tokenizer"];
    assert_eq!((&tokenizer["seg"], &tokenizer["bos"]), (&json!(618), &json!(1)));
    assert_eq!((&found["verdict"], &found["problem"]), (&json!("usable"), &Value::Null));

    let text = inspect(&desk, &data("phi3"), "").succeeds().stdout.clone();
    for part in ["R1Seg-3D (model_type lamed_phi3_cross)", "[SEG] 618", "OK: `infer` runs it"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn the_embedded_model_says_its_license_and_where_it_comes_from() {
    let desk = Desk::new();
    let text = inspect(&desk, Path::new("demo"), "").succeeds().stdout.clone();
    for part in ["license    apache-2.0", "origin     part of r1seg", "OK: `infer` runs it"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let found = json_of(&inspect(&desk, Path::new("demo"), "--json"));
    assert_eq!(found["verified_by"], "program");
}

#[test]
fn a_file_of_a_model_is_described_and_refused_as_infer_refuses_it() {
    let desk = Desk::new();
    copy(&data("phi3"), &desk.path("model"));
    fs::copy(data("llama31-bin/pytorch_model.bin"), desk.path("model/pytorch_model.bin")).unwrap();
    desk.run(["convert", "model", "--quant", "q8_0", "-o", "small", "-q"]).succeeds();
    fs::copy(desk.path("small/language_model.gguf"), desk.path("llm.gguf")).unwrap();
    let whole = json_of(&inspect(&desk, &data("phi3"), "--json"));
    for (file, format, exit, code) in [
        ("model/model.safetensors", json!("safetensors"), 66, "R-MDL-08"),
        ("model/config.json", Value::Null, 66, "R-MDL-08"),
        ("model/pytorch_model.bin", json!("pickle"), 78, "R-WGT-02"),
        ("small/language_model.gguf", json!("gguf"), 66, "R-MDL-08"),
        ("llm.gguf", json!("gguf"), 78, "R-WGT-04"),
    ] {
        let run = inspect(&desk, Path::new(file), "--json");
        let found = json_of(&run);
        assert_eq!(run.code, Some(exit), "{file}: {run:#?}");
        assert_eq!(
            (&found["problem"]["code"], &found["verdict"]),
            (&json!(code), &json!("unusable"))
        );
        assert_eq!(found["file"]["format"], if format.is_null() { Value::Null } else { format });
        if file.ends_with(".safetensors") {
            assert_eq!(found["weights"], whole["weights"]);
        }
        let refused = desk.infer_with(Path::new(file));
        refused.fails(exit, code);
        assert_eq!(refused.stderr, run.stderr, "{file}");
        let text = inspect(&desk, Path::new(file), "").stdout;
        assert!(text.contains("UNUSABLE BY ITSELF") && !text.contains("OK:"), "{text}");
    }
}

#[test]
fn a_gguf_file_is_known_for_what_it_is_and_for_what_takes_it() {
    let desk = Desk::new();
    copy(&data("phi3"), &desk.path("model"));
    desk.run(["convert", "model", "--quant", "q8_0", "-o", "small", "-q"]).succeeds();
    // By its first bytes, and far from any checkpoint.
    fs::copy(desk.path("small/language_model.gguf"), desk.path("llm")).unwrap();
    let run = inspect(&desk, Path::new("llm"), "");
    assert_eq!(run.code, Some(78), "{run:#?}");
    for part in ["GGUF version 3, architecture phi3", "q8_0: ", "`convert --llm` joins"] {
        assert!(run.stdout.contains(part), "{part}: {run:#?}");
    }
    run.says("fix: r1seg convert CHECKPOINT --llm llm -o DIR");
    let found = json_of(&inspect(&desk, Path::new("llm"), "--json"));
    assert_eq!(found["file"]["architecture"], "phi3");
    assert_eq!(found["language"]["num_layers"], 2);
    assert!(found["weights"]["tensors"].as_u64().unwrap() > 10);

    desk.run(["convert", "llm", "-o", "out"]).fails(78, "R-CNV-26").says("--llm");
    desk.infer_with(Path::new("llm")).fails(78, "R-WGT-04").says("--llm llm");
    // A damaged one is not offered to anybody.
    let bytes = fs::read(desk.path("llm")).unwrap();
    fs::write(desk.path("llm"), &bytes[..100]).unwrap();
    let run = inspect(&desk, Path::new("llm"), "");
    assert_eq!(run.code, Some(78), "{run:#?}");
    run.says("error[R-GGUF-04]");
    assert!(run.stdout.contains("it cannot be read"), "{run:#?}");
}

#[test]
fn memory_is_what_infer_asks_for() {
    let desk = Desk::new();
    let found = json_of(&inspect(&desk, &data("phi3"), "--json"));
    let need = |device: &str, dtype: &str| {
        let all = found["memory"].as_array().unwrap();
        let one = all.iter().find(|m| m["device"] == device && m["dtype"] == dtype).unwrap();
        one["bytes"].as_u64().unwrap()
    };
    let parameters = found["weights"]["parameters"].as_u64().unwrap();
    assert!(parameters * 4 < need("cpu", "f32") && parameters * 2 < need("cpu", "bf16"));
    assert!(need("cpu", "bf16") < need("cpu", "f32"));
    assert_eq!(need("cpu", "f16"), need("cpu", "bf16"));
    assert!(need("cpu", "f32") < need("cuda", "f32"), "a context takes memory, too");
}

#[test]
fn memory_of_a_run_is_stated_before_there_is_one() {
    let desk = Desk::new();
    let ct = data("vista3d/golden/ct.nii.gz");
    let with_image = |model: &str, image: &Path, args: &str| {
        let mut command = desk.command();
        command.arg("inspect").arg(data(model)).arg("--with-image").arg(image);
        finish(command.args(args.split_whitespace()))
    };
    let found = json_of(&with_image("vista3d", &ct, "--json"));
    let (run, needs) = (&found["run"], found["memory"].as_array().unwrap());
    let number = |value: &Value| value.as_u64().unwrap();
    // What the model takes by itself, in two parts.
    for need in needs {
        let parts = number(&need["weights_bytes"]) + number(&need["pass_bytes"]);
        assert_eq!(number(&need["bytes"]), parts, "{need}");
    }
    let volume = read(&ct, &ReadOptions::default()).unwrap().volume;
    assert_eq!(number(&run["volume_bytes"]), 2 * volume.voxels().len() as u64);
    assert_eq!((&run["mode"], &run["image"]), (&json!("sliding"), &json!(ct)));
    // The sums of the features of so small a volume are kept, so that nothing makes room for masks.
    let beside =
        ["volume_bytes", "stitching_bytes", "results_bytes"].map(|part| number(&run[part]));
    let beside: u64 = beside.iter().sum();
    let all = run["memory"].as_array().unwrap();
    assert_eq!(all.len(), 3);
    for (dtype, total) in all.iter().map(|of| (&of["dtype"], number(&of["bytes"]))) {
        let model = needs.iter().find(|m| m["device"] == "cpu" && m["dtype"] == *dtype).unwrap();
        assert_eq!(total, number(&model["bytes"]) + beside);
    }
    assert!(0 < number(&run["overlaps_bytes"]) && 0 < number(&run["windows"]));

    let run = with_image("vista3d", &ct, "");
    for part in ["for each window", "in mode sliding, at most", "in all", "to stitch windows"] {
        assert!(run.succeeds().stdout.contains(part), "{part}: {run:#?}");
    }
    // Any other model, too.
    let found = json_of(&with_image("segvol", &ct, "--json"));
    assert_eq!(
        (&found["run"]["windows"], &found["run"]["stitching_bytes"]),
        (&Value::Null, &json!(0))
    );
    assert!(json_of(&inspect(&desk, &data("vista3d"), "--json"))["run"].is_null());

    let none = desk.path("none.nii.gz");
    with_image("vista3d", &none, "").fails(66, "R-IN-01");
    let mut command = desk.command();
    command.arg("inspect").arg(&ct).arg("--with-image").arg(&ct);
    finish(&mut command).fails(2, "R-ARG-03").says("--with-image is for a model");
}

#[test]
fn a_model_that_does_not_fit_is_described_and_refused_as_infer_refuses_it() {
    let desk = Desk::new();
    let folder = desk.path("model");
    copy(&data("phi3"), &folder);
    let config = fs::read_to_string(folder.join("config.json")).unwrap();
    let wider = config.replace("\"intermediate_size\": 96", "\"intermediate_size\": 128");
    assert_ne!(config, wider);
    fs::write(folder.join("config.json"), wider).unwrap();
    let run = inspect(&desk, &folder, "--json");
    assert_eq!(run.code, Some(78));
    let found = json_of(&run);
    assert_eq!(found["problem"]["code"], "R-WGT-03");
    assert_eq!(found["load"]["misshaped"].as_array().unwrap().len(), 4);
    assert_eq!(found["load"]["misshaped"][0]["expected"], "[256, 64]");
    let error = run.stderr.lines().next().unwrap().to_string();
    let refused = desk.infer_with(&folder);
    refused.fails(78, "R-WGT-03").says(&error);
}

#[test]
fn models_that_are_not_run_are_told_apart() {
    let desk = Desk::new();
    for (config, name) in [
        (json!({"model_type": "segvol", "img_size": [32, 256, 256]}), "SegVol"),
        (json!({"model_type": "r1seg-3dsam", "patch_size": [4, 16, 16]}), "R1Seg-3D-SAM"),
    ] {
        let folder = desk.path(name);
        copy(&data("phi3"), &folder);
        fs::write(folder.join("config.json"), config.to_string()).unwrap();
        fs::copy(data("segvol/tokenizer.json"), folder.join("tokenizer.json")).unwrap();
        let run = inspect(&desk, &folder, "--json");
        assert_eq!(run.code, Some(78), "{run:#?}");
        // The weights are another model's.
        run.says("error[R-WGT-03]").says("image_encoder.");
        let found = json_of(&run);
        assert_eq!(found["model"]["name"], json!(name));
        assert_eq!(found["weights"]["tensors"], 189);
        assert!(found["tokenizer"]["seg"].is_null());
    }
}

#[test]
fn models_of_every_family_that_is_run_are_found_whole() {
    let desk = Desk::new();
    for (case, name) in [
        ("qwen2", "R1Seg-3D"),
        ("m3d-phi3", "M3D-LaMed"),
        ("m3d-clip", "M3D-CLIP"),
        ("segvol", "SegVol"),
        ("r1seg-3dsam", "R1Seg-3D-SAM"),
    ] {
        let run = inspect(&desk, &data(case), "--json");
        assert_eq!(run.code, Some(0), "{case}: {run:#?}");
        let found = json_of(&run);
        assert_eq!(found["model"]["name"], json!(name));
        assert_eq!(found["model"]["supported"], json!(true));
        assert_eq!(
            (&found["load"]["missing"], &found["load"]["unexpected"]),
            (&json!([]), &json!([]))
        );
        assert!(found["memory"].as_array().is_some_and(|needs| !needs.is_empty()), "{case}");
    }
}

#[test]
fn the_command_that_runs_a_model_is_named() {
    let desk = Desk::new();
    for (case, command) in [("segvol", "segment"), ("m3d-clip", "retrieve"), ("phi3", "infer")] {
        let run = inspect(&desk, &data(case), "");
        assert!(run.stdout.contains(&format!("OK: `{command}` runs it")), "{run:#?}");
    }
}

#[test]
fn a_pickle_is_described_by_the_child_and_has_to_be_converted() {
    let desk = Desk::new();
    let folder = pickled(&desk);
    let run = inspect(&desk, &folder, "--json");
    assert_eq!(run.code, Some(78));
    run.says("error[R-WGT-02]").says("fix: r1seg convert ");
    let found = json_of(&run);
    assert_eq!(
        (&found["weights"]["is_pickle"], &found["load"]["missing"]),
        (&json!(true), &json!([]))
    );

    // What the pickle wants to run is not run here either.
    let hostile = b"\x80\x02cos\nsystem\nX\x09\x00\x00\x00touch ran\x85R.";
    fs::write(folder.join("pytorch_model.bin"), hostile).unwrap();
    let found = json_of(&inspect(&desk, &folder, "--json"));
    assert_eq!((&found["weights"], &found["problem"]["code"]), (&Value::Null, &json!("R-WGT-02")));
    assert!(!desk.path("ran").exists() && !folder.join("ran").exists());
}

#[test]
fn license_origin_and_what_verifies_it_are_told() {
    let desk = Desk::new();
    let source = desk.path("source");
    copy(&data("phi3"), &source);
    desk.run(["convert", "source", "-o", "model", "-q"]).succeeds();
    let model = desk.path("model");
    fs::write(model.join("LICENSE"), "\n   Apache License\n   Version 2.0\n").unwrap();
    fs::write(model.join("README.md"), "---\nlicense: apache-2.0\n---\n").unwrap();
    let found = json_of(inspect(&desk, &model, "--json").succeeds());
    assert_eq!(
        (&found["license"]["name"], &found["license"]["file"]),
        (&json!("apache-2.0"), &json!("LICENSE"))
    );
    assert_eq!(found["provenance"]["sources"][0]["name"], "model.safetensors");
    assert_eq!(found["verified_by"], "manifest");
    let text = &inspect(&desk, &model, "").stdout;
    assert!(text.contains("apache-2.0; LICENSE (Apache License)"), "{text}");

    let snapshot = cached(&desk);
    let found = json_of(inspect(&desk, Path::new("R1Seg-3D-Phi-3-4B"), "--json").succeeds());
    assert_eq!(
        (&found["verified_by"], &found["model"]["revision"]),
        (&json!("hub"), &json!(COMMIT))
    );
    assert_eq!(found["model"]["id"], "lihao0011/R1Seg-3D-Phi-3-4B");
    assert!(snapshot.is_dir());

    // Neither the folder nor a publisher says anything, and nothing is made up.
    assert_eq!(found["license"], Value::Null);
    let rows = found["published_licenses"].as_array().unwrap();
    let parts: Vec<&Value> = rows.iter().map(|row| &row["part"]).collect();
    assert_eq!(parts, ["code", "lihao0011/R1Seg-3D-Phi-3-4B"]);
    assert!(rows.iter().all(|row| row["license"].is_null()), "{rows:?}");
    let text = inspect(&desk, Path::new("R1Seg-3D-Phi-3-4B"), "").stdout;
    assert!(text.contains("license    the folder does not say"), "{text}");
    assert!(text.contains("as published, code: not stated (github.com/lihaoqin168"), "{text}");
}

#[test]
fn what_is_no_model_stays_a_volume() {
    let desk = Desk::new();
    desk.run(["inspect", "nowhere"]).fails(66, "R-IN-01");
    desk.run(["inspect", "owner/name"]).fails(66, "R-IN-01");
    desk.run(["inspect", "SegVol"]).fails(66, "R-HUB-02").says("r1seg download");
    desk.run(["inspect", "demo", "--preview", "x.png"]).fails(2, "R-ARG-03");
    let run = inspect(&desk, &data("phi3/golden/volume.npy"), "");
    assert!(run.succeeds().stdout.contains("voxels"));
}

/// 20 GB of weights that are not there but for their header: reading them would take minutes, and
/// more memory than the process may have.
#[test]
#[cfg(unix)]
fn weights_are_not_read() {
    let desk = Desk::new();
    let folder = desk.path("model");
    copy(&data("phi3"), &folder);
    let mut header = serde_json::Map::new();
    let mut end = 0u64;
    for layer in 0..20 {
        let bytes = 1u64 << 30;
        let tensor = json!({"dtype": "BF16", "shape": [1 << 15, 1 << 14], "data_offsets": [end, end + bytes]});
        header.insert(format!("model.layers.{layer}.weight"), tensor);
        end += bytes;
    }
    let header = Value::Object(header).to_string();
    let mut file = File::create(folder.join("model.safetensors")).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.seek(SeekFrom::Current(end as i64 - 1)).unwrap();
    file.write_all(&[0]).unwrap();
    drop(file);

    let start = Instant::now();
    let run = inspect(&desk, &folder, "--json");
    assert!(start.elapsed().as_secs_f32() < 1.0, "{:?}", start.elapsed());
    assert_eq!(run.code, Some(78));
    let found = json_of(&run);
    assert_eq!(found["weights"]["bytes"], 20u64 << 30);
    assert_eq!(found["load"]["unexpected"].as_array().unwrap().len(), 20);
}
