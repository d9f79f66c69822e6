//! The language model quantized while it is converted.

use candle_core::quantized::GgmlDType as C;
use candle_core::{DType, Tensor};
use r1seg_checkpoint::verify;
use r1seg_convert::{ConvertOptions, Error, ErrorKind, Quant, TargetDtype};
use safetensors::Dtype;

use crate::language_model::{Model, VISION, blocks, header, read};
use crate::{Place, convert_to, f32_bytes, safetensors, tensors_of};

const KINDS: [&str; 4] = ["lamed_phi3_cross", "lamed_llama", "lamed_Qwen2", "llava_mistral"];

fn options(place: &Place, quant: Quant) -> ConvertOptions {
    ConvertOptions { quant: Some(quant), ..ConvertOptions::new(place.path("src")) }
}

#[test]
fn quantized_bytes_are_candles_for_every_family_and_type() {
    for kind in KINDS {
        for (quant, linear, output) in [
            (Quant::Q8_0, C::Q8_0, C::Q8_0),
            (Quant::Q6K, C::Q6K, C::Q6K),
            (Quant::Q4K, C::Q4K, C::Q6K),
        ] {
            let (place, model) = (Place::new(), Model::new(kind));
            model.write(&place);
            let report = place.convert(&options(&place, quant)).unwrap();
            for (hf, gguf, shape) in model.tensors() {
                let expected = match gguf.as_str() {
                    "token_embd.weight" => C::BF16,
                    "output.weight" => output,
                    _ if shape.len() == 1 => C::F32,
                    _ => linear,
                };
                let tensor = model.permuted(&gguf, Model::numbers(&hf, &shape), &shape);
                let got = read(&place.out(), &gguf);
                assert_eq!((got.0, &got.1), (expected, &shape), "{kind} {gguf}");
                assert_eq!(got.2, blocks(&tensor, expected), "{kind} {gguf}");
            }
            let record = report.manifest.language_model.unwrap();
            assert_eq!((record.quant, record.stored_otherwise), (Some(quant.format()), vec![]));
            assert_eq!(record.types.len(), model.tensors().len());
            assert_eq!(report.manifest.tensors, model.tensors().len() + 1);
            let numbers: usize =
                model.tensors().iter().map(|t| t.2.iter().product::<usize>()).sum();
            assert_eq!(report.manifest.parameters, numbers as u64 + 3);
            let others = tensors_of(&place.out());
            assert_eq!(others.keys().map(String::as_str).collect::<Vec<_>>(), [VISION]);
            assert_eq!(verify(&place.out(), true).unwrap().tensors, report.manifest.tensors);
        }
    }
}

#[test]
fn heads_that_are_cut_by_a_chunk_move_whole() {
    // 2048 x 2048 numbers are two chunks of 8 MiB.
    let model = Model {
        hidden: 2048,
        inner: 32,
        heads: 16,
        kv_heads: 1,
        layers: 1,
        ..Model::new(KINDS[1])
    };
    let place = Place::new();
    model.write(&place);
    place.convert(&options(&place, Quant::Q8_0)).unwrap();
    for (hf, gguf) in [("q_proj", "attn_q"), ("k_proj", "attn_k")] {
        let (hf, gguf) =
            (format!("model.layers.0.self_attn.{hf}.weight"), format!("blk.0.{gguf}.weight"));
        let (_, shape, got) = read(&place.out(), &gguf);
        let tensor = model.permuted(&gguf, Model::numbers(&hf, &shape), &shape);
        assert!(got == blocks(&tensor, C::Q8_0), "{gguf}");
    }
}

#[test]
fn biases_of_rotated_rows_move_with_them() {
    let (place, model) = (Place::new(), Model::new("lamed_llama"));
    let names = ["q_proj", "k_proj", "v_proj", "o_proj"];
    let bias = |name: &str| format!("model.layers.0.self_attn.{name}.bias");
    let shape = |name: &str| [if matches!(name, "q_proj" | "o_proj") { 256 } else { 128 }];
    let one = Model { layers: 1, ..model };
    one.write(&place);
    let mut config = one.config();
    config["attention_bias"] = true.into();
    place.write("src/config.json", config.to_string().as_bytes());
    let mut tensors = tensors_of(&place.path("src"));
    for name in names {
        let bytes = f32_bytes(&Model::numbers(&bias(name), &shape(name)));
        tensors.insert(bias(name), (Dtype::F32, shape(name).to_vec(), bytes));
    }
    let list: Vec<_> =
        tensors.iter().map(|(n, (d, s, b))| (n.as_str(), *d, s.as_slice(), b.clone())).collect();
    place.write("src/model.safetensors", &safetensors(&list));
    place.convert(&options(&place, Quant::Q8_0)).unwrap();
    for (name, gguf) in names.iter().zip(["attn_q", "attn_k", "attn_v", "attn_output"]) {
        let gguf = format!("blk.0.{gguf}.bias");
        let tensor = one.permuted(&gguf, Model::numbers(&bias(name), &shape(name)), &shape(name));
        let expected = f32_bytes(&tensor.to_vec1::<f32>().unwrap());
        assert_eq!(read(&place.out(), &gguf).2, expected, "{name}");
    }
}

#[test]
fn rows_that_fit_no_block_are_stored_otherwise_and_listed() {
    let model =
        Model { hidden: 96, inner: 200, heads: 2, kv_heads: 1, layers: 1, ..Model::new(KINDS[0]) };
    for (quant, name) in [(Quant::Q4K, "q4k"), (Quant::Q6K, "q6k")] {
        let place = Place::new();
        model.write(&place);
        let report = place.convert(&options(&place, quant)).unwrap();
        let listed: Vec<String> = report
            .manifest
            .language_model
            .unwrap()
            .stored_otherwise
            .into_iter()
            .map(|t| format!("{} {}: {} for {}", t.name, t.columns, t.stored, t.wanted))
            .collect();
        let expected = [
            format!("blk.0.attn_output.weight 96: q8_0 for {name}"),
            format!("blk.0.attn_qkv.weight 96: q8_0 for {name}"),
            format!("blk.0.ffn_down.weight 200: bf16 for {name}"),
            format!("blk.0.ffn_up.weight 96: q8_0 for {name}"),
            "output.weight 96: q8_0 for q6k".to_owned(),
        ];
        assert_eq!(listed, expected);
        assert_eq!(read(&place.out(), "blk.0.ffn_up.weight").0, C::Q8_0);
        assert_eq!(read(&place.out(), "blk.0.ffn_down.weight").0, C::BF16);
    }
}

#[test]
fn a_tied_output_layer_is_stored_a_second_time_to_multiply_with() {
    let (place, model) = (Place::new(), Model { tied: true, ..Model::new(KINDS[2]) });
    model.write(&place);
    place.convert(&options(&place, Quant::Q4K)).unwrap();
    let shape = [model.vocabulary, model.hidden];
    let table = Model::numbers("model.embed_tokens.weight", &shape);
    let table = Tensor::from_vec(table, &shape, &candle_core::Device::Cpu).unwrap();
    assert_eq!(read(&place.out(), "output.weight").2, blocks(&table, C::Q6K));
    assert_eq!(read(&place.out(), "token_embd.weight").2, blocks(&table, C::BF16));
}

#[test]
fn the_rest_is_stored_as_the_dtype_says() {
    let model = Model::new(KINDS[1]);
    for (dtype, expected) in [(None, Dtype::F32), (Some(TargetDtype::Bf16), Dtype::BF16)] {
        let place = Place::new();
        model.write(&place);
        place.convert(&ConvertOptions { dtype, ..options(&place, Quant::Q8_0) }).unwrap();
        assert_eq!(tensors_of(&place.out())[VISION].0, expected);
        assert_eq!(read(&place.out(), "token_embd.weight").0, C::BF16);
    }
}

#[test]
fn halves_are_quantized_like_the_f32_that_they_are() {
    for (dtype, candle) in [(Dtype::BF16, DType::BF16), (Dtype::F16, DType::F16)] {
        let (place, model) = (Place::new(), Model::new(KINDS[1]));
        model.write(&place);
        let target = if dtype == Dtype::BF16 { TargetDtype::Bf16 } else { TargetDtype::F16 };
        let halves =
            ConvertOptions { dtype: Some(target), ..ConvertOptions::new(place.path("src")) };
        place.convert(&halves).unwrap();
        let source = ConvertOptions { quant: Some(Quant::Q4K), ..ConvertOptions::new(place.out()) };
        let out = place.path("quantized");
        convert_to(&source, &out).unwrap();
        let name = "blk.1.ffn_down.weight";
        let numbers = Model::numbers("model.layers.1.mlp.down_proj.weight", &[256, 512]);
        let tensor = Tensor::from_vec(numbers, (256, 512), &candle_core::Device::Cpu).unwrap();
        let rounded = tensor.to_dtype(candle).unwrap().to_dtype(DType::F32).unwrap();
        assert_eq!(read(&out, name).2, blocks(&rounded, C::Q4K), "{dtype:?}");
    }
}

#[test]
fn merged_lora_updates_are_quantized_as_the_dense_merge_is() {
    let (place, model) = (Place::new(), Model { layers: 1, ..Model::new(KINDS[1]) });
    model.write(&place);
    let module = "model.layers.0.self_attn.q_proj";
    let lora = |half: &str| format!("base_model.model.{module}.lora_{half}.default.weight");
    let [a, b] = [lora("A"), lora("B")];
    place.write(
        "lora/model_with_lora.safetensors",
        &safetensors(&[
            (a.as_str(), Dtype::F32, &[4, 256], f32_bytes(&Model::numbers("a", &[4, 256]))),
            (b.as_str(), Dtype::F32, &[256, 4], f32_bytes(&Model::numbers("b", &[256, 4]))),
        ]),
    );
    let merge = ConvertOptions {
        base: Some(place.path("src")),
        ..ConvertOptions::new(place.path("lora/model_with_lora.safetensors"))
    };
    let merged = place.convert(&merge).unwrap();
    assert_eq!(merged.manifest.lora.unwrap().merged, 1);
    let dense = ConvertOptions { quant: Some(Quant::Q6K), ..ConvertOptions::new(place.out()) };
    let direct = ConvertOptions { quant: Some(Quant::Q6K), ..merge };
    convert_to(&dense, &place.path("dense")).unwrap();
    convert_to(&direct, &place.path("direct")).unwrap();
    let plain = Model::numbers(&format!("{module}.weight"), &[256, 256]);
    let plain = blocks(&model.permuted("attn_q.", plain, &[256, 256]), C::Q6K);
    for name in header(&place.path("dense")).tensors.keys() {
        assert_eq!(read(&place.path("direct"), name), read(&place.path("dense"), name), "{name}");
    }
    assert_ne!(read(&place.path("direct"), "blk.0.attn_q.weight").2, plain);
}

#[test]
fn llama_cpp_finds_the_model_in_the_header() {
    let (place, model) = (Place::new(), Model::new(KINDS[1]));
    model.write(&place);
    place.convert(&options(&place, Quant::Q4K)).unwrap();
    let gguf = header(&place.out());
    assert_eq!((gguf.version, gguf.alignment), (3, 64));
    assert_eq!(gguf.text("general.architecture"), Some("llama"));
    assert_eq!(gguf.text("tokenizer.ggml.model"), Some("no_vocab"));
    for (key, expected) in [
        ("llama.block_count", 2),
        ("llama.embedding_length", 256),
        ("llama.feed_forward_length", 512),
        ("llama.attention.head_count", 4),
        ("llama.attention.head_count_kv", 2),
        ("llama.rope.dimension_count", 64),
        ("llama.vocab_size", 20),
        ("general.file_type", 14),
    ] {
        assert_eq!(gguf.metadata[key].to_u64(), Some(expected), "{key}");
    }
    assert_eq!(gguf.metadata["llama.rope.freq_base"].to_f64(), Some(500_000.0));
    let eps = gguf.metadata["llama.attention.layer_norm_rms_epsilon"].to_f64().unwrap();
    assert!((eps - 1e-5).abs() < 1e-12);
    for info in gguf.tensors.values() {
        assert!(info.range.start.is_multiple_of(64));
    }
}

fn refused(place: &Place, quant: Quant) -> Error {
    let error = place.convert(&options(place, quant)).unwrap_err();
    assert!(!place.out().exists());
    error
}

#[test]
fn w4_tensors_that_are_missing_misshapen_or_too_many_are_named() {
    let model = Model::new(KINDS[1]);
    let place = Place::new();
    model.write_with(&place, |name, _| !name.contains("layers.1.mlp"));
    let error = refused(&place, Quant::Q8_0);
    assert_eq!((error.code(), error.kind()), ("R-CNV-24", ErrorKind::Model));
    assert!(error.message().contains("3 tensors of the language model are missing"), "{error}");
    assert!(error.message().contains("`model.layers.1.mlp.down_proj.weight`"), "{error}");

    let change = |field: &str, value: serde_json::Value| {
        let place = Place::new();
        model.write(&place);
        let mut config = model.config();
        config[field] = value;
        place.write("src/config.json", config.to_string().as_bytes());
        refused(&place, Quant::Q8_0).to_string()
    };
    assert!(change("intermediate_size", 544.into()).contains("config.json asks for [256, 544]"));
    assert!(
        change("num_hidden_layers", 1.into()).contains("9 tensors have no place in config.json")
    );
    assert!(change("vocab_size", 19.into()).contains("[20, 256]; config.json asks for [19, 256]"));
    assert!(
        change("model_type", "segvol".into()).contains("`segvol`, which has no language model")
    );
    assert!(change("hidden_size", 0.into()).contains("hidden_size"));
    assert!(change("num_attention_heads", (1u64 << 60).into()).contains("num_attention_heads"));
    assert!(change("head_dim", 63.into()).contains("odd"));

    let place = Place::new();
    model.write(&place);
    std::fs::remove_file(place.path("src/config.json")).unwrap();
    assert!(refused(&place, Quant::Q8_0).to_string().contains("there is no config.json"));
}

#[test]
fn w6_what_is_not_finite_is_not_quantized_though_nobody_checks() {
    let (place, model) = (Place::new(), Model::new(KINDS[1]));
    model.write_with(&place, |name, numbers| {
        if name.ends_with("layers.1.mlp.up_proj.weight") {
            numbers[70_000] = f32::NAN;
        }
        true
    });
    for quant in [Quant::Q8_0, Quant::Q4K, Quant::Q6K] {
        let unchecked = ConvertOptions { check_tensors: false, ..options(&place, quant) };
        let error = place.convert(&unchecked).unwrap_err();
        assert!(error.message().contains("`model.layers.1.mlp.up_proj.weight`"), "{error}");
    }
}

#[test]
fn numbers_beyond_f16_are_refused_and_not_flattened() {
    // candle makes zeros of a q6k block with 1e30 in it, and does not tell.
    let all =
        [Quant::Q8_0, Quant::Q4K, Quant::Q6K].map(|quant| [1e30, -65_600.0].map(|n| (quant, n)));
    for (quant, number) in all.into_iter().flatten() {
        let (place, model) = (Place::new(), Model::new(KINDS[1]));
        model.write_with(&place, |name, numbers| {
            if name.ends_with("layers.0.mlp.up_proj.weight") {
                numbers[3] = number;
            }
            true
        });
        let error = refused(&place, quant);
        assert!(matches!(error, Error::Overflow { .. }), "{quant:?} {error}");
    }
}

#[test]
fn a_quantized_folder_is_no_source() {
    let (place, model) = (Place::new(), Model::new(KINDS[1]));
    model.write(&place);
    place.convert(&options(&place, Quant::Q8_0)).unwrap();
    let again = ConvertOptions::new(place.out());
    let error = convert_to(&again, &place.path("again"));
    assert!(matches!(error.unwrap_err(), Error::QuantizedSource { .. }));
}
