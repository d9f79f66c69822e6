//! HSENet as its authors publish it, in parts, converted into one folder that gives the recorded answers.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use r1seg::convert::{ConvertOptions, Error, Quant, Report, TargetDtype, convert};
use r1seg::registry::{architecture, compose_config};
use r1seg::volume::{ReadOptions, read};
use r1seg::{M3dClip, R1SegModel};
use serde_json::Value;

use crate::case::{F32_TOLERANCE, data, deviation, on_device};
use crate::hsenet::{answers, check_answers};

fn published() -> ConvertOptions {
    let folder = data("hsenet-phi4/published");
    ConvertOptions {
        base: Some(folder.join("llm")),
        parts: vec![folder.join("biomedclip"), data("hsenet-clip/stage2")],
        architecture,
        compose: compose_config,
        ..ConvertOptions::new(folder.join("vlm/pytorch_model.bin"))
    }
}

fn converted(options: &ConvertOptions, out: &Path) -> Result<Report, Error> {
    convert(options, out, &mut |_| ControlFlow::Continue(()))
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn the_parts_that_are_published_give_the_recorded_answers() {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("hsenet");
    let options = ConvertOptions { dtype: Some(TargetDtype::F32), ..published() };
    let report = converted(&options, &out).unwrap();
    let lora = report.lora().unwrap();
    assert_eq!((lora.merged, lora.ranks.as_slice(), lora.alpha), (3 * 4, &[16][..], 32.0));

    // Every tensor of the merged folder, with its values.
    let recorded =
        candle_core::safetensors::load(data("hsenet-phi4/model.safetensors"), &Device::Cpu);
    let got = candle_core::safetensors::load(out.join("model.safetensors"), &Device::Cpu).unwrap();
    let recorded = recorded.unwrap();
    let mut names: Vec<_> =
        [&recorded, &got].map(|of| of.keys().cloned().collect::<Vec<_>>()).into();
    names.iter_mut().for_each(|names| names.sort());
    assert_eq!(names[0], names[1]);
    for (name, expected) in &recorded {
        let expected = expected.to_dtype(DType::F32).unwrap();
        let gap = deviation(&got[name], &expected);
        assert!(gap <= 1e-6, "{name}: {gap:e}");
    }
    let weights = candle_core::safetensors::load(
        data("hsenet-phi4/golden/weights.safetensors"),
        &Device::Cpu,
    );
    let weights = weights.unwrap();
    let table = &got["model.embed_tokens.weight"];
    let first = weights["embed.first_rows"].dim(0).unwrap();
    for (name, tensor) in [
        ("embed.new_rows", table.narrow(0, 673, 4).unwrap()),
        ("embed.first_rows", table.narrow(0, 0, first).unwrap()),
        ("qkv_0.merged", got["model.layers.0.self_attn.qkv_proj.weight"].clone()),
        ("down_last.merged", got["model.layers.2.mlp.down_proj.weight"].clone()),
    ] {
        let gap = deviation(&tensor, &weights[name].to_dtype(DType::F32).unwrap());
        assert!(gap <= 1e-6, "{name}: {gap:e}");
    }

    // What decides how it is read, beside what transformers alone asks for.
    let [mut config, mut expected] =
        [&out.join("config.json"), &data("hsenet-phi4/config.json")].map(|path| json(path));
    for of in [&mut config, &mut expected] {
        of["lora"]["alpha"] = of["lora"]["alpha"].as_f64().into();
    }
    assert_eq!(config, expected);

    let model = R1SegModel::load_with(&out, &on_device()).unwrap();
    assert!(model.load_report().is_clean() && model.load_report().unused.is_empty());
    let tokenizer = json(&data("hsenet-phi4/golden/tokenizer.json"));
    for encoding in tokenizer["encodings"].as_array().unwrap() {
        let text = encoding["text"].as_str().unwrap();
        let ids: Vec<u64> =
            model.tokenizer().encode_raw(text).unwrap().into_iter().map(u64::from).collect();
        assert_eq!(Value::from(ids), encoding["ids"], "{text}");
    }
    for (token, id) in tokenizer["added"].as_object().unwrap() {
        let found = model.tokenizer().added_token_id(token).map(u64::from);
        assert_eq!(found, id.as_u64(), "{token}");
    }
    check_answers(&model);
}

#[test]
fn each_as_it_is_stored_and_eight_bits_give_the_recorded_words() {
    let recorded = answers(&crate::hsenet::hsenet(r1seg::DtypeChoice::F32));
    for quant in [None, Some(Quant::Q8_0)] {
        let place = tempfile::tempdir().unwrap();
        let out = place.path().join("hsenet");
        converted(&ConvertOptions { quant, ..published() }, &out).unwrap();
        assert_eq!(out.join("language_model.gguf").exists(), quant.is_some());
        let model = R1SegModel::load_with(&out, &on_device()).unwrap();
        assert_eq!(answers(&model), recorded, "{quant:?}");
    }
}

#[test]
fn the_second_stage_of_hsenet_clip_gets_its_encoder_of_slices() {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("clip");
    let options = ConvertOptions {
        base: None,
        parts: vec![data("hsenet-phi4/published/biomedclip")],
        source: data("hsenet-clip/stage2"),
        ..published()
    };
    let report = converted(&options, &out).unwrap();
    assert!(report.dropped.iter().any(|name| name.starts_with("stage1_pretrained_CLIP.")));
    let clip = M3dClip::load_with(&out, &on_device().with_dtype(r1seg::DtypeChoice::F32)).unwrap();
    let ct = read(data("hsenet-phi4/golden/ct.nii.gz"), &ReadOptions::default()).unwrap().volume;
    let embedded = clip.embed_volume(&ct).unwrap();
    let prep = data("hsenet-phi4/golden/prep.safetensors");
    let expected = candle_core::safetensors::load(prep, &Device::Cpu).unwrap();
    let features = embedded.slice_features.unwrap();
    let [slices, width] = features.shape();
    let features = Tensor::from_slice(features.numbers(), (slices, width), &Device::Cpu).unwrap();
    let gap = deviation(&features, &expected["slices.features"]);
    assert!(gap <= F32_TOLERANCE, "{gap:e}");
}

#[test]
fn parts_that_make_no_whole_are_refused_by_what_is_missing() {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("out");
    let refused = |options: &ConvertOptions| {
        let error = converted(options, &out).unwrap_err();
        assert!(!out.exists());
        (error.code(), error.to_string())
    };
    let all = published();
    let without = |n: usize| {
        let mut options = all.clone();
        options.parts.remove(n);
        refused(&options)
    };
    let (code, said) = without(0);
    assert_eq!(code, "R-CNV-28");
    assert!(said.ends_with("missing: the encoder of slices (the folder of BiomedCLIP)"), "{said}");
    assert!(without(1).1.contains("the vision transformers (the folder of HSENet-CLIP, stage 2)"));
    let (code, said) = refused(&ConvertOptions { base: None, ..all.clone() });
    assert_eq!(code, "R-CNV-28");
    assert!(said.contains("the language model (Phi-4-mini-instruct)"), "{said}");

    // Another language model, a model with vision parts, one of other widths, and a part twice.
    let base = |case: &str| refused(&ConvertOptions { base: Some(data(case)), ..all.clone() });
    assert!(base("phi3").1.contains("the tensors are of no part of HSENet"));
    let mut twice = all.clone();
    twice.parts.push(data("hsenet-clip/stage2"));
    assert!(refused(&twice).1.contains("given twice"));
    let mut first_stage = all.clone();
    first_stage.parts[1] = data("hsenet-clip/stage1");
    assert!(refused(&first_stage).1.contains("the tensors are of no part of HSENet"));
    let other = ConvertOptions { source: data("phi3"), base: None, ..all.clone() };
    assert!(refused(&other).1.contains("does not belong to a model that is published in parts"));

    let small = place.path().join("small");
    fs::create_dir(&small).unwrap();
    let llm = data("hsenet-phi4/published/llm");
    for file in fs::read_dir(&llm).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), small.join(file.file_name())).unwrap();
    }
    let weights = candle_core::safetensors::load(llm.join("model.safetensors"), &Device::Cpu);
    let narrow: std::collections::HashMap<String, Tensor> = weights
        .unwrap()
        .into_iter()
        .map(|(name, tensor)| {
            let last = tensor.rank() - 1;
            let width = tensor.dim(last).unwrap() / 2;
            (name, tensor.narrow(last, 0, width).unwrap().contiguous().unwrap())
        })
        .collect();
    candle_core::safetensors::save(&narrow, small.join("model.safetensors")).unwrap();
    let (code, said) = refused(&ConvertOptions { base: Some(small.clone()), ..all.clone() });
    assert_eq!(code, "R-CNV-17");
    assert!(said.contains("its update of rank 16 is"), "{said}");
    fs::remove_file(small.join("vocab.json")).unwrap();
    fs::remove_file(small.join("tokenizer.json")).unwrap();
    let (code, said) = refused(&ConvertOptions { base: Some(small), ..all });
    assert_eq!(code, "R-CNV-10");
    assert!(said.contains("neither vocab.json"), "{said}");
}
