//! Decoders with random weights, the same in every run.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a helper of tests")]

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use r1seg_llm::{
    AttentionBias, AttentionLayout, Decoder, DecoderConfig, DecoderInput, KvCache, MlpLayout,
};
use r1seg_nn::NoProbe;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

pub(crate) type Weights = HashMap<String, Tensor>;

/// The four families in every variant that has a golden checkpoint.
pub(crate) fn families() -> Vec<(&'static str, DecoderConfig)> {
    let read = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
    vec![
        ("phi3", DecoderConfig::phi3(&read(include_str!("../fixtures/phi3.json"))).unwrap()),
        (
            "phi3-longrope",
            DecoderConfig::phi3(&read(include_str!("../fixtures/phi3-longrope.json"))).unwrap(),
        ),
        ("llama3", DecoderConfig::llama(&read(include_str!("../fixtures/llama3.json"))).unwrap()),
        ("llama31", DecoderConfig::llama(&read(include_str!("../fixtures/llama31.json"))).unwrap()),
        ("qwen2", DecoderConfig::qwen2(&read(include_str!("../fixtures/qwen2.json"))).unwrap()),
        (
            "mistral",
            DecoderConfig::mistral(&read(include_str!("../fixtures/mistral.json"))).unwrap(),
        ),
    ]
}

pub(crate) fn family(name: &str) -> DecoderConfig {
    families().into_iter().find(|(n, _)| *n == name).unwrap().1
}

/// Every key that a checkpoint of this architecture has, and no other.
fn shapes(config: &DecoderConfig) -> Vec<(String, Vec<usize>)> {
    let (hidden, inner, vocabulary) =
        (config.hidden_size, config.intermediate_size, config.vocab_size);
    let q = config.num_attention_heads * config.head_dim;
    let kv = config.num_key_value_heads * config.head_dim;
    let mut shapes = vec![
        ("model.embed_tokens.weight".to_string(), vec![vocabulary, hidden]),
        ("model.norm.weight".to_string(), vec![hidden]),
    ];
    if !config.tie_word_embeddings {
        shapes.push(("lm_head.weight".to_string(), vec![vocabulary, hidden]));
    }
    for i in 0..config.num_hidden_layers {
        let mut linear = |key: &str, out: usize, width: usize, bias: bool| {
            shapes.push((format!("model.layers.{i}.{key}.weight"), vec![out, width]));
            if bias {
                shapes.push((format!("model.layers.{i}.{key}.bias"), vec![out]));
            }
        };
        let output_bias = match config.attention {
            AttentionLayout::Fused => {
                linear("self_attn.qkv_proj", q + 2 * kv, hidden, false);
                false
            }
            AttentionLayout::Split { bias } => {
                for (key, out) in [("q", q), ("k", kv), ("v", kv)] {
                    let key = format!("self_attn.{key}_proj");
                    linear(&key, out, hidden, bias != AttentionBias::None);
                }
                bias == AttentionBias::All
            }
        };
        linear("self_attn.o_proj", hidden, q, output_bias);
        let down_bias = match config.mlp {
            MlpLayout::Fused => {
                linear("mlp.gate_up_proj", 2 * inner, hidden, false);
                false
            }
            MlpLayout::Split { bias } => {
                linear("mlp.gate_proj", inner, hidden, bias);
                linear("mlp.up_proj", inner, hidden, bias);
                bias
            }
        };
        linear("mlp.down_proj", hidden, inner, down_bias);
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            shapes.push((format!("model.layers.{i}.{norm}.weight"), vec![hidden]));
        }
    }
    shapes
}

pub(crate) fn uniform(shape: &[usize], scale: f32, rng: &mut ChaCha8Rng) -> Tensor {
    let n = shape.iter().product::<usize>();
    let values: Vec<f32> = (0..n).map(|_| scale * (2.0 * rng.random::<f32>() - 1.0)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Embeddings of shape `[batch, len, hidden]` that depend on nothing but the seed.
pub(crate) fn embeddings(config: &DecoderConfig, batch: usize, len: usize, seed: u64) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    uniform(&[batch, len, config.hidden_size], 1.0, &mut rng)
}

pub(crate) fn random_weights(config: &DecoderConfig, seed: u64) -> Weights {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    shapes(config)
        .into_iter()
        .map(|(key, shape)| {
            // Wide enough for attention that looks at some keys more than at others.
            let weight = uniform(&shape, 0.3, &mut rng);
            let is_norm = key.contains("norm");
            (key, if is_norm { (weight + 1.0).unwrap() } else { weight })
        })
        .collect()
}

pub(crate) fn decoder(config: &DecoderConfig, weights: &Weights) -> Decoder {
    decoder_of(config, weights, DType::F32, DType::F32).unwrap()
}

pub(crate) fn decoder_of(
    config: &DecoderConfig,
    weights: &Weights,
    stored: DType,
    activation: DType,
) -> Result<Decoder> {
    let vb = VarBuilder::from_tensors(weights.clone(), stored, &Device::Cpu);
    Decoder::new(config, vb.into(), activation)
}

/// A pass whose sequence ends with it.
pub(crate) fn run(decoder: &Decoder, inputs_embeds: &Tensor, cache: &mut KvCache) -> Tensor {
    let sequence_length = cache.len() + inputs_embeds.dim(1).unwrap();
    let input = DecoderInput { inputs_embeds, sequence_length };
    decoder.forward(input, cache, &NoProbe).unwrap()
}

/// A pass over a whole sequence at once.
pub(crate) fn prefill(decoder: &Decoder, inputs_embeds: &Tensor) -> Tensor {
    run(decoder, inputs_embeds, &mut decoder.new_cache(0))
}

/// Largest difference, relative to the largest element of `expected`.
pub(crate) fn gap(got: &Tensor, expected: &Tensor) -> f64 {
    assert!(r1seg_nn::all_finite(got).unwrap(), "numbers");
    let [got, expected] = [got, expected].map(|t| t.to_dtype(DType::F64).unwrap());
    let max = |t: Tensor| t.abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
    max((got - &expected).unwrap()) / max(expected)
}
