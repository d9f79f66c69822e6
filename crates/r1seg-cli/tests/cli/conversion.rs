//! `convert` says what it made, and whether it loads.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::checkpoints::copy;
use crate::{Desk, RawTensor, RawTensors, Run, data, finish, read_tensors, write_tensors};

/// A recorded model whose tensors are changed, in the folder `source`.
fn changed(desk: &Desk, case: &str, change: impl FnOnce(&mut RawTensors)) {
    let _ = fs::remove_dir_all(desk.path("source"));
    copy(&data(case), &desk.path("source"));
    // Of what it was before.
    let _ = fs::remove_file(desk.path("source/manifest.json"));
    let weights = desk.path("source/model.safetensors");
    let mut tensors = read_tensors(&weights);
    change(&mut tensors);
    write_tensors(&weights, &tensors);
}

fn convert(desk: &Desk, options: &str) -> Run {
    let options = options.split_whitespace();
    finish(desk.command().args(["convert", "source", "-o", "out"]).args(options))
}

fn zeros(shape: &[usize]) -> RawTensor {
    let numbers: usize = shape.iter().product();
    RawTensor { dtype: safetensors::Dtype::F32, shape: shape.to_vec(), bytes: vec![0; 4 * numbers] }
}

/// Words of the error, and what brings it about.
type Fault<'a> = (&'a str, &'a dyn Fn(&mut RawTensors));

const NORM: &str = "model.norm.weight";

#[test]
fn a_model_that_would_not_load_is_refused_by_what_is_wrong_before_its_folder_appears() {
    let desk = Desk::new();
    let faults: [Fault<'_>; 3] = [
        ("1 missing (`model.norm.weight`)", &|tensors| drop(tensors.remove(NORM))),
        ("1 unexpected (`a.b`)", &|tensors| drop(tensors.insert("a.b".into(), zeros(&[2])))),
        ("model.norm.weight: expected [64], got [65]", &|tensors| {
            drop(tensors.insert(NORM.into(), zeros(&[65])));
        }),
    ];
    for (words, change) in faults {
        changed(&desk, "phi3", change);
        convert(&desk, "").fails(78, "R-WGT-03").says(words).says("`infer` would refuse").says(
            "--> source\n  fix: take config.json and weights from the same checkpoint; \
             --no-check-model",
        );
        desk.is_empty_but_for(&["source"]);
    }
    // What was asked for is written, and still said to be unusable.
    convert(&desk, "--no-check-model").succeeds().says("warning[W-MODEL]: `infer` would refuse");
    fs::rename(desk.path("out"), desk.path("model")).unwrap();
    desk.infer_with(&desk.path("model")).fails(78, "R-WGT-03");

    // Another configuration, and a language model in a file of its own.
    changed(&desk, "phi3", |_| {});
    let config = fs::read_to_string(desk.path("source/config.json")).unwrap();
    let config = config.replace("\"mm_hidden_size\": 48", "\"mm_hidden_size\": 96");
    fs::write(desk.path("source/config.json"), config).unwrap();
    convert(&desk, "--quant q8_0 --force").fails(78, "R-WGT-03").says("misshaped");
}

#[test]
fn what_is_no_whole_model_still_converts_and_says_what_could_not_be_checked() {
    let desk = Desk::new();
    // A text encoder or a vision transformer alone.
    changed(&desk, "segvol", |tensors| tensors.retain(|name, _| name.starts_with("image_encoder")));
    fs::copy(desk.path("source/model.safetensors"), desk.path("vit.safetensors")).unwrap();
    let run = desk.run(["convert", "vit.safetensors", "-o", "vit"]);
    run.succeeds().says("warning[W-FILES]: the source has no config.json");
    assert!(run.stderr.contains("the source has no tokenizer files"), "{run:#?}");

    // A config of some other tool.
    fs::write(desk.path("source/config.json"), r#"{"model_type": "vit"}"#).unwrap();
    convert(&desk, "").succeeds().says("warning[W-MODEL]: config.json describes no model");

    // SegVol as it is published: without the vocabulary of its text encoder.
    changed(&desk, "segvol", |_| {});
    fs::remove_file(desk.path("source/tokenizer.json")).unwrap();
    let run = convert(&desk, "--force");
    run.succeeds().says("which `segment` needs").says("openai/clip-vit-base-patch32");
    changed(&desk, "segvol", |tensors| {
        let name = tensors.keys().next().unwrap().clone();
        tensors.remove(&name);
    });
    fs::remove_file(desk.path("source/tokenizer.json")).unwrap();
    convert(&desk, "--force").fails(78, "R-WGT-03").says("1 missing");
    assert!(desk.path("out/manifest.json").is_file(), "the folder of before is gone");
}

#[test]
fn a_single_tensor_is_counted_in_the_singular() {
    let desk = Desk::new();
    write_tensors(&desk.path("a.safetensors"), &[("a".into(), zeros(&[2]))].into());
    desk.run(["convert", "a.safetensors", "-o", "out"]).succeeds().says("r1seg: 1 tensor, 2 ");
}

#[test]
fn a_lora_scale_that_was_guessed_is_said_to_be() {
    let desk = Desk::new();
    let lora = |tensors: &mut RawTensors| {
        let name = "model.layers.0.self_attn.o_proj";
        let [rows, columns] = tensors[&format!("{name}.weight")].shape[..] else { panic!() };
        tensors.insert(format!("{name}.lora_A.default.weight"), zeros(&[4, columns]));
        tensors.insert(format!("{name}.lora_B.default.weight"), zeros(&[rows, 4]));
    };
    changed(&desk, "phi3", lora);
    let run = convert(&desk, "--json");
    run.succeeds().says("rank 4, alpha 8 (guessed, 2 r)").says("warning[W-LORA]");
    run.says("--lora-alpha");
    let manifest: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(manifest["lora"]["alpha_from"], "twice_the_rank");

    let run = convert(&desk, "--force --lora-alpha 4");
    run.succeeds().says("alpha 4 (--lora-alpha)");
    assert!(!run.stderr.contains("W-LORA"), "{run:#?}");
    fs::write(desk.path("source/adapter_config.json"), r#"{"lora_alpha": 16}"#).unwrap();
    convert(&desk, "--force").succeeds().says("alpha 16 (adapter_config.json)");

    changed(&desk, "phi3", |tensors| {
        lora(tensors);
        tensors.retain(|name, _| name.contains(".lora_"));
    });
    convert(&desk, "--force")
        .fails(2, "R-CNV-16")
        .says("fix: name the folder of the base model: --base DIR");
}

#[test]
fn quantizations_of_llama_cpp_go_by_its_names() {
    let desk = Desk::new();
    changed(&desk, "phi3", |_| {});
    let quantized = |name: &str| {
        let run = convert(&desk, &format!("--force --quant {name} --json"));
        let manifest: Value = serde_json::from_str(&run.succeeds().stdout).unwrap();
        (manifest["language_model"]["quant"].clone(), run.stderr)
    };
    let (quant, said) = quantized("Q8_0");
    assert!(quant == "q8_0" && !said.contains("is stored as"), "{said}");
    let (quant, said) = quantized("Q4_K_M");
    assert!(quant == "q4k" && said.contains("r1seg: Q4_K_M is stored as q4k"), "{said}");
    let run = convert(&desk, "--force --quant Q5_K_M");
    assert_eq!(run.code, Some(2), "{run:#?}");
    run.says("q8_0, q6k (Q6_K) and q4k");
}

/// The limit on the size of files stands in for a full disk.
#[test]
#[cfg(unix)]
fn r2_a_disk_that_is_full_is_told_by_the_folder_that_was_asked_for() {
    let desk = Desk::new();
    changed(&desk, "phi3", |_| {});
    let mut command = desk.command_of("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$@\"", "sh"]);
    command.arg(env!("CARGO_BIN_EXE_r1seg")).args(["convert", "source", "-o", "out"]);
    let run = finish(&mut command);
    run.fails(74, "R-CNV-22").says(&format!("--> {}", Path::new("out").display()));
    assert!(!run.stderr.contains(".part"), "{run:#?}");
    desk.is_empty_but_for(&["source"]);
}

#[test]
fn what_lightning_saves_is_a_model_of_its_own_without_what_it_trained_with() {
    let desk = Desk::new();
    fs::copy(data("neurosam3d-vit/last.ckpt"), desk.path("last.ckpt")).unwrap();
    let run = desk.run(["inspect", "last.ckpt"]);
    assert!(run.stdout.contains("NeuroSAM3D, by its tensors"), "{run:#?}");
    let run = desk.run(["convert", "last.ckpt", "-o", "model"]);
    run.succeeds()
        .says("r1seg: 205 tensors, ")
        .says("r1seg: config.json was recovered from the tensors: NeuroSAM3D\n")
        .says("left out: 1 tensor that no model reads (`seg_loss.dice.class_weight`)\n");
    let config = |path: &Path| -> Value {
        serde_json::from_slice(&fs::read(path.join("config.json")).unwrap()).unwrap()
    };
    assert_eq!(config(&desk.path("model")), config(&data("neurosam3d-vit")));
}
