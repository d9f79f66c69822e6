//! The language model: reading a prompt (`prefill`) and saying tokens (`decode`), in tokens.
//!
//! `phi3-2l` has the widths and the vocabulary of Phi-3-mini, but 2 of its 32 layers: a whole model
//! takes 16 times as long but for the output layer, which `decode` pays at each token and `prefill`
//! does not. On a CPU activations are f32 over either dtype of weights.
#![expect(clippy::unwrap_used, reason = "a benchmark stops at the first error")]

mod common;

use candle_core::{Device, Tensor};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use r1seg_llm::{
    AttentionLayout, Decoder, DecoderConfig, DecoderInput, GenerationOptions, KvCache, MlpLayout,
    RopeConfig, RopeScaling,
};
use r1seg_nn::NoProbe;

/// 256 visual tokens, one in front of them, and a question.
const PROMPT: usize = 296;
/// Tokens of an answer.
const ANSWER: usize = 8;

fn configs() -> [(&'static str, DecoderConfig); 2] {
    let phi3 = DecoderConfig {
        hidden_size: 3072,
        intermediate_size: 8192,
        num_hidden_layers: 2,
        num_attention_heads: 32,
        num_key_value_heads: 32,
        head_dim: 96,
        vocab_size: 32064,
        rms_norm_eps: 1e-5,
        max_position_embeddings: 4096,
        sliding_window: Some(2047),
        tie_word_embeddings: false,
        attention: AttentionLayout::Fused,
        mlp: MlpLayout::Fused,
        rope: RopeConfig { theta: 10000.0, partial_rotary_factor: 1.0, scaling: RopeScaling::None },
    };
    let tiny = DecoderConfig {
        hidden_size: 64,
        intermediate_size: 96,
        num_attention_heads: 4,
        num_key_value_heads: 4,
        head_dim: 16,
        vocab_size: 619,
        ..phi3.clone()
    };
    [("tiny", tiny), ("phi3-2l", phi3)]
}

/// Calls `bench` with each architecture in each dtype of the weights; one decoder lives at a time.
fn for_each_decoder(mut bench: impl FnMut(BenchmarkId, &Decoder)) {
    let device = common::device();
    for (name, config) in configs() {
        for dtype in common::DTYPES {
            let activation = common::activation_dtype(dtype, &device);
            let weights = common::weights(dtype, &device);
            let decoder = Decoder::new(&config, weights, activation).unwrap();
            bench(BenchmarkId::new(name, dtype.as_str()), &decoder);
        }
    }
}

fn embeddings(decoder: &Decoder, len: usize) -> Tensor {
    let values = common::random((1, len, decoder.config().hidden_size), 1.0, 3);
    values.to_device(decoder.device()).unwrap().to_dtype(decoder.activation_dtype()).unwrap()
}

fn read(decoder: &Decoder, prompt: &Tensor, device: &Device) -> KvCache {
    let mut cache = decoder.new_cache(PROMPT);
    let input = DecoderInput { inputs_embeds: prompt, sequence_length: PROMPT };
    decoder.forward(input, &mut cache, &NoProbe).unwrap();
    device.synchronize().unwrap();
    cache
}

fn prefill(c: &mut Criterion) {
    let mut group = common::group(c, "prefill");
    group.throughput(Throughput::Elements(PROMPT as u64));
    for_each_decoder(|id, decoder| {
        let prompt = embeddings(decoder, PROMPT);
        group.bench_function(id, |b| b.iter(|| read(decoder, &prompt, decoder.device())));
    });
    group.finish();
}

fn decode(c: &mut Criterion) {
    let mut group = common::group(c, "decode");
    group.throughput(Throughput::Elements(ANSWER as u64));
    for_each_decoder(|id, decoder| {
        let cache = read(decoder, &embeddings(decoder, PROMPT), decoder.device());
        let last = embeddings(decoder, 1);
        // No token ends the answer: it has one pass over one position a token.
        let options = GenerationOptions { max_new_tokens: ANSWER, ..Default::default() };
        group.bench_function(id, |b| {
            let answer = |mut cache: KvCache| {
                decoder.generate(&last, &mut cache, &options, &NoProbe, &mut |_| {}).unwrap()
            };
            b.iter_batched(|| cache.fork(), answer, BatchSize::PerIteration);
        });
    });
    group.finish();
}

criterion_group!(benches, prefill, decode);
criterion_main!(benches);
