//! Equalities that hold for any weights.

mod common;

use candle_core::{DType, Result, Tensor};
use common::*;
use r1seg_llm::{
    AttentionBias, AttentionLayout, Decoder, DecoderConfig, DecoderInput, KvCache, MlpLayout,
};
use r1seg_nn::NoProbe;

/// Rounding of f32 sums taken in another order.
const F32: f64 = 2e-5;

#[test]
fn cached_decode_equals_an_uncached_prefill_in_every_family() {
    for (name, config) in families() {
        let decoder = decoder(&config, &random_weights(&config, 1));
        let x = embeddings(&config, 1, 30, 2);
        // Longrope switches its frequencies by the whole length: 13 and more are one regime here.
        let expected = prefill(&decoder, &x);
        let mut cache = decoder.new_cache(4);
        let mut parts = vec![run(&decoder, &x.narrow(1, 0, 15).unwrap(), &mut cache)];
        for (first, len) in [(15, 1), (16, 1), (17, 5), (22, 1), (23, 7)] {
            parts.push(run(&decoder, &x.narrow(1, first, len).unwrap(), &mut cache));
        }
        assert_eq!(cache.len(), 30);
        let got = Tensor::cat(&parts, 1).unwrap();
        assert!(gap(&got, &expected) < F32, "{name}: {}", gap(&got, &expected));
    }
}

#[test]
fn longrope_chooses_its_frequencies_by_the_whole_sequence() {
    let config = family("phi3-longrope");
    let decoder = decoder(&config, &random_weights(&config, 1));
    let x = embeddings(&config, 1, 16, 2);
    let prefix = x.narrow(1, 0, 10).unwrap();
    let expected = prefill(&decoder, &x);
    let split = |sequence_length: usize| {
        let mut cache = decoder.new_cache(16);
        let input = DecoderInput { inputs_embeds: &prefix, sequence_length };
        decoder.forward(input, &mut cache, &NoProbe).unwrap();
        run(&decoder, &x.narrow(1, 10, 6).unwrap(), &mut cache)
    };
    let tail = expected.narrow(1, 10, 6).unwrap();
    assert!(gap(&split(16), &tail) < F32);
    // The prefix alone is within the 12 positions of the short factors: at the crossing its keys
    // stay as they are.
    assert!(gap(&split(10), &tail) > 1e-3);
}

/// Repeats each head of a k or v projection.
fn repeat_heads(weight: &Tensor, head_dim: usize, times: usize) -> Result<Tensor> {
    let heads = weight.dim(0)? / head_dim;
    let parts: Vec<Tensor> = (0..heads * times)
        .map(|h| weight.narrow(0, h / times * head_dim, head_dim))
        .collect::<Result<_>>()?;
    Tensor::cat(&parts, 0)
}

#[test]
fn grouped_heads_equal_repeated_heads() {
    let grouped = family("qwen2");
    let weights = random_weights(&grouped, 5);
    let times = grouped.num_attention_heads / grouped.num_key_value_heads;
    let full =
        DecoderConfig { num_key_value_heads: grouped.num_attention_heads, ..grouped.clone() };
    let repeated = weights
        .iter()
        .map(|(key, weight)| {
            let is_kv = key.contains("k_proj") || key.contains("v_proj");
            let weight = if is_kv {
                repeat_heads(weight, grouped.head_dim, times).unwrap()
            } else {
                weight.clone()
            };
            (key.clone(), weight)
        })
        .collect();
    let x = embeddings(&grouped, 1, 12, 6);
    let expected = prefill(&decoder(&full, &repeated), &x);
    assert!(gap(&prefill(&decoder(&grouped, &weights), &x), &expected) < F32);
}

#[test]
fn fused_projections_equal_split_ones() {
    let split = family("llama3");
    let mut weights = random_weights(&split, 7);
    let x = embeddings(&split, 1, 12, 8);
    let expected = prefill(&decoder(&split, &weights), &x);
    for i in 0..split.num_hidden_layers {
        for (fused, parts) in [
            (
                "self_attn.qkv_proj",
                vec!["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
            ),
            ("mlp.gate_up_proj", vec!["mlp.gate_proj", "mlp.up_proj"]),
        ] {
            let key = |part: &str| format!("model.layers.{i}.{part}.weight");
            let parts: Vec<Tensor> =
                parts.iter().map(|part| weights.remove(&key(part)).unwrap()).collect();
            weights.insert(key(fused), Tensor::cat(&parts, 0).unwrap());
        }
    }
    let fused = DecoderConfig { attention: AttentionLayout::Fused, mlp: MlpLayout::Fused, ..split };
    assert_eq!(gap(&prefill(&decoder(&fused, &weights), &x), &expected), 0.0);
}

#[test]
fn llama_biases_take_part() {
    let config = DecoderConfig {
        attention: AttentionLayout::Split { bias: AttentionBias::All },
        mlp: MlpLayout::Split { bias: true },
        ..family("llama3")
    };
    let weights = random_weights(&config, 9);
    let x = embeddings(&config, 1, 5, 10);
    let expected = prefill(&decoder(&config, &weights), &x);
    for part in ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"] {
        let mut changed = weights.clone();
        let (_, bias) = changed
            .iter_mut()
            .find(|(key, _)| key.ends_with(&format!("{part}.bias")) && key.contains("layers.0"))
            .unwrap();
        *bias = (&*bias + 1.0).unwrap();
        assert!(gap(&prefill(&decoder(&config, &changed), &x), &expected) > 1e-3, "{part}");
    }
}

#[test]
fn tied_embeddings_are_the_output_layer() {
    let config = DecoderConfig { tie_word_embeddings: true, ..family("llama3") };
    let weights = random_weights(&config, 11);
    assert!(!weights.contains_key("lm_head.weight"));
    let decoder = decoder(&config, &weights);
    let hidden = embeddings(&config, 1, 2, 12);
    let expected = hidden
        .squeeze(0)
        .unwrap()
        .matmul(&weights["model.embed_tokens.weight"].t().unwrap())
        .unwrap();
    assert!(gap(&decoder.logits(&hidden).unwrap().squeeze(0).unwrap(), &expected) < F32);
}

#[test]
fn a_sliding_window_hides_older_keys_in_prefill_and_decode() {
    // One layer, so that no information travels through a chain of windows.
    let config =
        DecoderConfig { sliding_window: Some(4), num_hidden_layers: 1, ..family("mistral") };
    let decoder = decoder(&config, &random_weights(&config, 13));
    let x = embeddings(&config, 1, 12, 14);
    let expected = prefill(&decoder, &x);
    let other =
        Tensor::cat(&[embeddings(&config, 1, 8, 15), x.narrow(1, 8, 4).unwrap()], 1).unwrap();
    let changed = prefill(&decoder, &other);
    // Position 11 sees 8 to 11; position 10 sees 7, which differs.
    let at = |t: &Tensor, i: usize| t.narrow(1, i, 1).unwrap();
    assert!(gap(&at(&changed, 11), &at(&expected, 11)) < F32);
    assert!(gap(&at(&changed, 10), &at(&expected, 10)) > 1e-3);
    let mut cache = decoder.new_cache(12);
    run(&decoder, &x.narrow(1, 0, 9).unwrap(), &mut cache);
    for i in 9..12 {
        let step = run(&decoder, &at(&x, i), &mut cache);
        assert!(gap(&step, &at(&expected, i)) < F32, "{i}");
    }
}

#[test]
fn forks_answer_as_fresh_runs_and_leave_the_prefix_alone() {
    let config = family("llama31");
    let decoder = decoder(&config, &random_weights(&config, 16));
    let prefix = embeddings(&config, 1, 9, 17);
    let mut cache = decoder.new_cache(9);
    run(&decoder, &prefix, &mut cache);
    let check = |cache: &mut KvCache, question: &Tensor| {
        let whole = Tensor::cat(&[&prefix, question], 1).unwrap();
        let fresh = prefill(&decoder, &whole).narrow(1, 9, question.dim(1).unwrap()).unwrap();
        assert!(gap(&run(&decoder, question, cache), &fresh) < F32);
    };
    for seed in 0..3 {
        let mut fork = cache.fork();
        check(&mut fork, &embeddings(&config, 1, 4, 100 + seed));
        assert_eq!((cache.len(), fork.len()), (9, 13));
    }
    let question = embeddings(&config, 1, 5, 200);
    check(&mut cache, &question);
    cache.truncate(9);
    check(&mut cache, &question);
}

#[test]
fn one_decoder_serves_two_threads_from_one_prefix() {
    let config = family("qwen2");
    let decoder = decoder(&config, &random_weights(&config, 18));
    let prefix = embeddings(&config, 1, 6, 19);
    let mut cache = decoder.new_cache(32);
    run(&decoder, &prefix, &mut cache);
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (decoder, config, prefix, mut fork) = (&decoder, &config, &prefix, cache.fork());
            scope.spawn(move || {
                let x = embeddings(config, 1, 8, 300 + seed);
                let whole = Tensor::cat(&[prefix, &x], 1).unwrap();
                let expected = prefill(decoder, &whole).narrow(1, 13, 1).unwrap();
                let mut last = None;
                for i in 0..8 {
                    last = Some(run(decoder, &x.narrow(1, i, 1).unwrap(), &mut fork));
                }
                assert!(gap(&last.unwrap(), &expected) < F32);
            });
        }
    });
}

#[test]
fn half_precision_weights_under_f32_activations_equal_their_widened_copies() {
    for (name, config) in families() {
        for dtype in [DType::BF16, DType::F16] {
            let weights = random_weights(&config, 20);
            let rounded = weights
                .iter()
                .map(|(key, w)| {
                    let w = w.to_dtype(dtype).unwrap().to_dtype(DType::F32).unwrap();
                    (key.clone(), w)
                })
                .collect();
            let x = embeddings(&config, 1, 20, 21);
            let half = decoder_of(&config, &weights, dtype, DType::F32).unwrap();
            let wide = decoder(&config, &rounded);

            // One position at a time nothing but the weights is rounded.
            let steps = |decoder: &Decoder| {
                let mut cache = decoder.new_cache(20);
                let rows = (0..20).map(|i| run(decoder, &x.narrow(1, i, 1).unwrap(), &mut cache));
                Tensor::cat(&rows.collect::<Vec<_>>(), 1).unwrap()
            };
            let got = steps(&half);
            assert_eq!(got.dtype(), DType::F32);
            assert!(gap(&got, &steps(&wide)) < F32, "{name} {dtype:?}");

            // All at once, products with bf16 weights may round their activations to 8 bits.
            let at_once = gap(&prefill(&half, &x), &prefill(&wide, &x));
            assert!(at_once < if dtype == DType::BF16 { 5e-2 } else { F32 }, "{name}: {at_once}");

            let ids = [0, 5, 618];
            assert_eq!(gap(&half.embed(&ids).unwrap(), &wide.embed(&ids).unwrap()), 0.0);
            let last = got.narrow(1, 19, 1).unwrap();
            assert!(gap(&half.logits(&last).unwrap(), &wide.logits(&last).unwrap()) < F32);
        }
    }
}

#[test]
fn bf16_activations_stay_close_to_f32_far_into_the_sequence() {
    for (name, mut config) in families() {
        // Longrope's attention factor, 2.2 in this file, makes the scores, and with them what
        // rounding does to the softmax, 4.7 times as large: without it all families compare.
        if name == "phi3-longrope" {
            config.max_position_embeddings = 12;
        }
        let weights = random_weights(&config, 22);
        let x = embeddings(&config, 1, 600, 23);
        let half = decoder_of(&config, &weights, DType::BF16, DType::BF16).unwrap();
        let got = prefill(&half, &x);
        assert_eq!(got.dtype(), DType::BF16);
        assert_eq!(half.logits(&got.narrow(1, 599, 1).unwrap()).unwrap().dtype(), DType::F32);
        let wide = decoder_of(&config, &weights, DType::BF16, DType::F32).unwrap();
        let expected = prefill(&wide, &x);
        // The mean, not the maximum: a score that rounds to a neighbor can tip a softmax.
        let mean_square = |t: Tensor| t.sqr()?.mean_all()?.to_scalar::<f32>();
        let difference = (got.to_dtype(DType::F32).unwrap() - &expected).unwrap();
        let rms = (mean_square(difference).unwrap() / mean_square(expected).unwrap()).sqrt();
        assert!(rms < 0.03, "{name}: {rms}");
    }
}

#[test]
fn positions_beyond_the_longest_trained_are_computed() {
    let config = DecoderConfig { max_position_embeddings: 8, ..family("llama3") };
    let decoder = decoder(&config, &random_weights(&config, 24));
    let hidden = prefill(&decoder, &embeddings(&config, 1, 20, 25));
    assert!(hidden.sum_all().unwrap().to_scalar::<f32>().unwrap().is_finite());
}

#[test]
fn inputs_that_do_not_fit_are_refused_and_leave_the_cache_as_it_was() {
    let config = family("phi3");
    let decoder = decoder(&config, &random_weights(&config, 26));
    let x = embeddings(&config, 1, 3, 27);
    let mut cache = decoder.new_cache(8);
    run(&decoder, &x, &mut cache);
    let mut refuse = |inputs_embeds: &Tensor, sequence_length: usize| {
        let input = DecoderInput { inputs_embeds, sequence_length };
        assert!(decoder.forward(input, &mut cache, &NoProbe).is_err());
        assert_eq!(cache.len(), 3);
    };
    refuse(&x, 5);
    refuse(&x.narrow(2, 0, 63).unwrap(), 6);
    refuse(&x.squeeze(0).unwrap(), 6);
    refuse(&embeddings(&config, 2, 3, 28), 6);
    refuse(&x.narrow(1, 0, 0).unwrap(), 6);
    let input = DecoderInput { inputs_embeds: &x, sequence_length: 3 };
    assert!(decoder.forward(input, &mut KvCache::new(3, 8), &NoProbe).is_err());
    assert!(decoder.embed(&[]).is_err());
    let error = decoder.embed(&[618, 619]).unwrap_err().to_string();
    assert!(error.contains("619"), "{error}");
    // What was refused left nothing behind.
    let next = embeddings(&config, 1, 2, 29);
    let whole = Tensor::cat(&[&x, &next], 1).unwrap();
    let expected = prefill(&decoder, &whole).narrow(1, 3, 2).unwrap();
    assert!(gap(&run(&decoder, &next, &mut cache), &expected) < F32);
}

#[test]
fn checkpoints_that_do_not_fit_are_refused_by_key() {
    let config = family("phi3");
    let mut weights = random_weights(&config, 30);
    let key = "model.layers.1.mlp.gate_up_proj.weight";
    let weight = weights.remove(key).unwrap();
    let error = decoder_of(&config, &weights, DType::F32, DType::F32).unwrap_err().to_string();
    assert!(error.contains(key), "{error}");
    weights.insert(key.to_string(), weight.narrow(0, 0, 5).unwrap());
    let error = decoder_of(&config, &weights, DType::F32, DType::F32).unwrap_err().to_string();
    assert!(error.contains(key), "{error}");
    let bad = DecoderConfig { num_hidden_layers: 1_000_000_000, ..config };
    let error = decoder_of(&bad, &weights, DType::F32, DType::F32).unwrap_err().to_string();
    assert!(error.contains("num_hidden_layers"), "{error}");
}

#[test]
fn decoder_and_cache_cross_threads() {
    fn check<T: Send + Sync>() {}
    check::<Decoder>();
    check::<KvCache>();
}
