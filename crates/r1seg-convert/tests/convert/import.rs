//! The language model of a GGUF file in place of the checkpoint's own.

use std::path::PathBuf;

use candle_core::quantized::{GgmlDType as C, QTensor};
use candle_core::{Device, Tensor};
use r1seg_checkpoint::NumberFormat;
use r1seg_checkpoint::gguf::{Layout, NewTensor, Value};
use r1seg_checkpoint::verify;
use r1seg_convert::{ConvertOptions, Error, ErrorKind, Quant, Remedy};
use sha2::{Digest, Sha256};

use crate::language_model::{Model, VISION, blocks, header, read};
use crate::{Place, convert_to, tensors_of};

fn import(place: &Place) -> ConvertOptions {
    ConvertOptions { llm: Some(place.path("llm.gguf")), ..ConvertOptions::new(place.path("src")) }
}

/// A GGUF file of the model as llama.cpp would write it: `change` chooses the type of each tensor, or
/// leaves it out.
fn write_gguf(
    place: &Place,
    model: &Model,
    fields: &[(&str, Value)],
    change: impl Fn(&str) -> Option<(NumberFormat, C)>,
) -> PathBuf {
    let mut list = Vec::new();
    let mut data = Vec::new();
    for (hf, gguf, shape) in model.tensors() {
        let Some((ours, theirs)) = change(&gguf) else { continue };
        let tensor = model.permuted(&gguf, Model::numbers(&hf, &shape), &shape);
        let axes = shape.iter().map(|n| *n as u64).collect();
        list.push(NewTensor::new(gguf, ours, axes));
        data.push(blocks(&tensor, theirs));
    }
    let rope = NewTensor::new("rope_freqs.weight", NumberFormat::F32, vec![32]);
    list.push(rope);
    data.push(vec![0; 128]);
    let fields: Vec<(String, Value)> =
        fields.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    let layout = Layout::new(&fields, &list).unwrap();
    let mut file = layout.header().to_vec();
    for (i, bytes) in data.iter().enumerate() {
        file.extend(bytes);
        file.resize(file.len() + layout.padding(i), 0);
    }
    place.write("llm.gguf", &file)
}

fn llama() -> [(&'static str, Value); 1] {
    [("general.architecture", Value::String("llama".to_owned()))]
}

const F32: Option<(NumberFormat, C)> = Some((NumberFormat::F32, C::F32));

#[test]
fn an_import_of_what_was_quantized_is_the_same_file() {
    for kind in ["lamed_phi3_cross", "lamed_llama", "lamed_Qwen2"] {
        for quant in [Quant::Q8_0, Quant::Q4K] {
            let (place, model) = (Place::new(), Model::new(kind));
            model.write(&place);
            let direct =
                ConvertOptions { quant: Some(quant), ..ConvertOptions::new(place.path("src")) };
            place.convert(&direct).unwrap();
            let file = place.out().join("language_model.gguf");
            let imported = place.path("imported");
            let again = ConvertOptions {
                llm: Some(file.clone()),
                ..ConvertOptions::new(place.path("src"))
            };
            let report = convert_to(&again, &imported).unwrap();
            assert!(
                std::fs::read(&file).unwrap()
                    == std::fs::read(imported.join("language_model.gguf")).unwrap()
            );
            assert_eq!(tensors_of(&imported), tensors_of(&place.out()));
            let record = report.manifest.language_model.unwrap();
            assert_eq!((record.quant, record.stored_otherwise), (None, vec![]));
            let names: Vec<_> = report.manifest.sources.iter().map(|f| f.name.as_str()).collect();
            assert_eq!(names, ["model.safetensors", "language_model.gguf"]);
            // The quantized folder and its own file are a checkpoint again.
            let own = ConvertOptions { llm: Some(file), ..ConvertOptions::new(place.out()) };
            convert_to(&own, &place.path("own")).unwrap();
            verify(&place.path("own"), true).unwrap();
        }
    }
}

#[test]
fn types_that_r1seg_does_not_multiply_are_stored_otherwise_and_listed() {
    let (place, model) = (Place::new(), Model { layers: 1, ..Model::new("lamed_llama") });
    model.write(&place);
    let types = |name: &str| {
        Some(match name {
            "token_embd.weight" => (NumberFormat::Q6K, C::Q6K),
            "output.weight" => (NumberFormat::Q6K, C::Q6K),
            "blk.0.attn_norm.weight" => (NumberFormat::F16, C::F16),
            "blk.0.attn_q.weight" => (NumberFormat::Q4_0, C::Q4_0),
            "blk.0.attn_k.weight" => (NumberFormat::Q5K, C::Q5K),
            "blk.0.attn_v.weight" => (NumberFormat::Q2K, C::Q2K),
            "blk.0.ffn_down.weight" => (NumberFormat::Q3K, C::Q3K),
            "blk.0.ffn_gate.weight" => (NumberFormat::Q5_1, C::Q5_1),
            "blk.0.ffn_up.weight" => (NumberFormat::F16, C::F16),
            name if name.ends_with("_norm.weight") => (NumberFormat::F32, C::F32),
            _ => (NumberFormat::Bf16, C::BF16),
        })
    };
    write_gguf(&place, &model, &llama(), types);
    let report = place.convert(&import(&place)).unwrap();
    let listed: Vec<String> = report
        .manifest
        .language_model
        .unwrap()
        .stored_otherwise
        .into_iter()
        .map(|t| format!("{}: {} for {}", t.name, t.stored, t.wanted))
        .collect();
    assert_eq!(
        listed,
        [
            "blk.0.attn_k.weight: q8_0 for q5k",
            "blk.0.attn_norm.weight: f32 for f16",
            "blk.0.attn_q.weight: q8_0 for q4_0",
            "blk.0.attn_v.weight: q8_0 for q2k",
            "blk.0.ffn_down.weight: q8_0 for q3k",
            "blk.0.ffn_gate.weight: q8_0 for q5_1",
            "token_embd.weight: bf16 for q6k",
        ]
    );
    for (hf, gguf, shape) in model.tensors() {
        let (_, theirs) = types(&gguf).unwrap();
        let tensor = model.permuted(&gguf, Model::numbers(&hf, &shape), &shape);
        let there = QTensor::quantize(&tensor, theirs).unwrap();
        let got = read(&place.out(), &gguf);
        let expected = match (theirs, gguf.as_str()) {
            (_, "output.weight") | (C::BF16 | C::F32, _) | (_, "blk.0.ffn_up.weight") => theirs,
            (_, "token_embd.weight") => C::BF16,
            (C::F16, _) => C::F32,
            _ => C::Q8_0,
        };
        let bytes = match expected == theirs {
            true => there.data().unwrap().into_owned(),
            false => blocks(&there.dequantize(&Device::Cpu).unwrap(), expected),
        };
        assert!((got.0, got.2) == (expected, bytes), "{gguf}");
    }
}

#[test]
fn a_tied_model_takes_its_output_layer_from_the_table() {
    let (place, model) = (Place::new(), Model { tied: true, ..Model::new("lamed_llama") });
    model.write(&place);
    write_gguf(&place, &model, &llama(), |name| match name {
        "token_embd.weight" => Some((NumberFormat::Q8_0, C::Q8_0)),
        _ => F32,
    });
    place.convert(&import(&place)).unwrap();
    let table = Model::numbers("model.embed_tokens.weight", &[20, 256]);
    let table = Tensor::from_vec(table, (20, 256), &Device::Cpu).unwrap();
    assert_eq!(read(&place.out(), "output.weight").2, blocks(&table, C::Q8_0));
    assert_eq!(read(&place.out(), "token_embd.weight").0, C::BF16);
    assert!(!header(&place.out()).tensors.contains_key("rope_freqs.weight"));
}

fn refused(place: &Place) -> Error {
    let error = place.convert(&import(place)).unwrap_err();
    assert!(!place.out().exists());
    assert_eq!(error.kind(), ErrorKind::Model, "{error}");
    error
}

#[test]
fn a_file_of_another_model_is_refused() {
    let (place, model) = (Place::new(), Model::new("lamed_llama"));
    model.write(&place);
    let refused_with = |fields: &[(&str, Value)]| {
        write_gguf(&place, &model, fields, |_| F32);
        refused(&place).message()
    };
    let text = |text: &str| Value::String(text.to_owned());
    let error = refused_with(&[("general.architecture", text("qwen2"))]);
    assert_eq!(error, "it is a `qwen2`; the checkpoint needs a `llama`");
    assert_eq!(refused_with(&[]), "it has no general.architecture");
    let [llama] = llama();
    let error = refused_with(&[llama, ("llama.attention.head_count", Value::U32(8))]);
    assert_eq!(error, "its attention.head_count is 8; config.json says 4");
}

#[test]
fn a_vocabulary_without_the_added_tokens_is_refused_by_number() {
    let (place, model) = (Place::new(), Model::new("lamed_llama"));
    model.write(&place);
    write_gguf(&place, &Model { vocabulary: 16, ..model }, &llama(), |_| F32);
    let error = refused(&place).message();
    assert!(error.starts_with("its vocabulary has 16 rows, the checkpoint's 20"), "{error}");
}

#[test]
fn w4_tensors_of_a_file_that_are_missing_misshapen_or_too_many_are_named() {
    let (place, model) = (Place::new(), Model::new("lamed_llama"));
    model.write(&place);
    write_gguf(&place, &model, &llama(), |name| F32.filter(|_| !name.starts_with("blk.1.ffn_")));
    let error = refused(&place).message();
    assert!(error.starts_with("4 tensors are missing: `blk.1.ffn_norm.weight`"), "{error}");

    write_gguf(&place, &Model { inner: 544, ..model.clone() }, &llama(), |_| F32);
    let error = refused(&place).message();
    assert!(error.starts_with("6 tensors have another shape: `blk.0.ffn_gate.weight"), "{error}");

    write_gguf(&place, &Model { layers: 3, ..model.clone() }, &llama(), |_| F32);
    let error = refused(&place).message();
    assert!(error.starts_with("9 tensors are not part of this model: `blk.2.attn_k"), "{error}");

    // Not tied: the output layer is missing.
    write_gguf(&place, &model, &llama(), |name| F32.filter(|_| name != "output.weight"));
    assert_eq!(refused(&place).message(), "1 tensor is missing: `output.weight`");
}

#[test]
fn files_that_are_damaged_or_hold_no_floats_are_refused() {
    let (place, model) = (Place::new(), Model::new("lamed_llama"));
    model.write(&place);
    let path = write_gguf(&place, &model, &llama(), |_| F32);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let error = refused(&place);
    assert_eq!((error.code(), error.path()), ("R-GGUF-14", Some(path.as_path())));

    // Of the same size, and no float.
    write_gguf(&place, &model, &llama(), |name| {
        Some(if name == "blk.0.attn_q.weight" { (NumberFormat::I32, C::F32) } else { F32? })
    });
    let error = refused(&place).message();
    assert_eq!(error, "tensor `blk.0.attn_q.weight` is stored as i32, which is not supported");
}

#[test]
fn w6_scales_that_are_not_finite_are_found_on_import_and_when_verified() {
    let (place, model) = (Place::new(), Model::new("lamed_llama"));
    model.write(&place);
    write_gguf(&place, &model, &llama(), |name| match name {
        "blk.1.ffn_up.weight" => Some((NumberFormat::Q4K, C::Q4K)),
        _ => F32,
    });
    place.convert(&import(&place)).unwrap();
    verify(&place.out(), true).unwrap();

    let spoil = |path: PathBuf, start: u64| {
        let mut bytes = std::fs::read(&path).unwrap();
        // The second half of the third block, as infinity.
        let at = start as usize + 2 * 144 + 2;
        bytes[at..at + 2].copy_from_slice(&0x7c00u16.to_le_bytes());
        std::fs::write(&path, &bytes).unwrap();
        bytes
    };
    let file = place.out().join("language_model.gguf");
    let old = format!("{:x}", Sha256::digest(std::fs::read(&file).unwrap()));
    let start = header(&place.out()).tensors["blk.1.ffn_up.weight"].range.start;
    let new = format!("{:x}", Sha256::digest(spoil(file, start)));
    let error = verify(&place.out(), true).unwrap_err();
    assert!(error.message().contains("SHA-256"), "{error}");
    let manifest = std::fs::read_to_string(place.out().join("manifest.json")).unwrap();
    assert!(manifest.contains(&old));
    std::fs::write(place.out().join("manifest.json"), manifest.replace(&old, &new)).unwrap();
    assert!(verify(&place.out(), false).is_ok());
    let error = verify(&place.out(), true).unwrap_err().message();
    assert_eq!(error, "1 tensor holds NaN or infinity: `blk.1.ffn_up.weight`");

    let llm = place.path("llm.gguf");
    let gguf = r1seg_checkpoint::gguf::Gguf::open(&std::fs::File::open(&llm).unwrap()).unwrap();
    spoil(llm, gguf.tensors["blk.1.ffn_up.weight"].range.start);
    let error = convert_to(&import(&place), &place.path("bad"));
    assert!(matches!(error.unwrap_err(), Error::NotFinite { .. }));
}

#[test]
fn w7_a_gguf_file_that_the_manifest_does_not_name_is_refused() {
    let (place, model) = (Place::new(), Model::new("lamed_llama"));
    model.write(&place);
    place.convert(&ConvertOptions::new(place.path("src"))).unwrap();
    place.write("out/language_model.gguf", b"would be loaded");
    let changed = verify(&place.out(), false);
    assert!(matches!(changed, Err(r1seg_checkpoint::Error::Differs { .. })));
}

#[test]
fn both_or_updates_of_what_is_replaced_make_no_sense() {
    let (place, model) = (Place::new(), Model::new("lamed_llama"));
    model.write(&place);
    write_gguf(&place, &model, &llama(), |_| F32);
    let both = ConvertOptions { quant: Some(Quant::Q8_0), ..import(&place) };
    assert_eq!(place.convert(&both).unwrap_err().kind(), ErrorKind::Usage);

    let lora = ["A", "B"].map(|half| {
        format!("base_model.model.model.layers.0.mlp.up_proj.lora_{half}.default.weight")
    });
    let numbers = crate::f32_bytes(&vec![0.5; 512 * 4]);
    let lora = crate::safetensors(&[
        (&lora[0], safetensors::Dtype::F32, &[4, 256], numbers[..4 * 1024].to_vec()),
        (&lora[1], safetensors::Dtype::F32, &[512, 4], numbers),
    ]);
    let source = place.write("lora/model_with_lora.safetensors", &lora);
    let options = ConvertOptions {
        base: Some(place.path("src")),
        llm: Some(place.path("llm.gguf")),
        ..ConvertOptions::new(source)
    };
    let error = place.convert(&options).unwrap_err().message();
    assert!(error.contains("LoRA updates have no weights to change"), "{error}");
    assert!(tensors_of(&place.path("src")).contains_key(VISION));
}

#[test]
fn a_gguf_file_in_place_of_a_checkpoint_is_explained_with_the_option_that_takes_it() {
    let (place, model) = (Place::new(), Model::new("lamed_llama"));
    write_gguf(&place, &model, &llama(), |_| F32);
    // Whatever it is called.
    std::fs::copy(place.path("llm.gguf"), place.path("llm.bin")).unwrap();
    for name in ["llm.gguf", "llm.bin"] {
        let error = place.convert(&ConvertOptions::new(place.path(name))).unwrap_err();
        assert_eq!((error.code(), error.kind()), ("R-CNV-26", ErrorKind::Model), "{error}");
        let remedy = Remedy::ConvertWithCheckpoint { language_model: None };
        assert_eq!(error.remedy(), Some(remedy), "{error}");
    }
    assert!(!place.out().exists());
}
