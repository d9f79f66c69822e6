//! Several sequences in one pass: each gets what it gets alone.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod common;

use candle_core::{DType, Result, Tensor};
use common::*;
use r1seg_llm::{
    Decoder, DecoderConfig, DecoderInput, FinishReason, Generated, GenerationOptions, KvCache,
    Request, Sampling,
};
use r1seg_nn::NoProbe;

/// Rounding of f32 sums taken in another order.
const F32: f64 = 1e-5;

/// Lengths of the prefixes and prompts: a few rows and many; on longrope both sides of the 12
/// positions of its short factors; and more sequences than one pass decodes.
const LENGTHS: [(usize, usize); 8] =
    [(0, 9), (5, 1), (7, 14), (0, 1), (5, 4), (20, 8), (3, 2), (2, 7)];

/// Each sequence's cache, filled with its prefix, and its prompt.
fn sequences(config: &DecoderConfig, decoder: &Decoder) -> Vec<(KvCache, Tensor)> {
    let of = |(i, (prefix, prompt)): (usize, (usize, usize))| {
        let mut cache = decoder.new_cache(0);
        if prefix > 0 {
            run(decoder, &embeddings(config, 1, prefix, 60 + i as u64), &mut cache);
        }
        (cache, embeddings(config, 1, prompt, 80 + i as u64))
    };
    LENGTHS.into_iter().enumerate().map(of).collect()
}

type Batch<'a> = Vec<(DecoderInput<'a>, &'a mut KvCache)>;

fn batch(sequences: &mut [(KvCache, Tensor)]) -> Batch<'_> {
    sequences
        .iter_mut()
        .map(|(cache, x)| {
            let sequence_length = cache.len() + x.dim(1).unwrap();
            (DecoderInput { inputs_embeds: &*x, sequence_length }, cache)
        })
        .collect()
}

fn together(decoder: &Decoder, sequences: &mut [(KvCache, Tensor)]) -> Result<Vec<Tensor>> {
    decoder.forward_many(&mut batch(sequences), &NoProbe)
}

fn answers(
    decoder: &Decoder,
    sequences: &mut [(KvCache, Tensor)],
    options: &[GenerationOptions],
) -> Vec<Generated> {
    let requests = sequences.iter_mut().zip(options);
    let requests = requests.map(|((cache, prompt), options)| Request { prompt, cache, options });
    decoder.generate_many(requests.collect(), &NoProbe, &mut |_, _| ()).unwrap()
}

/// Prompts one by one, each in a fork of its cache.
fn alone(
    decoder: &Decoder,
    sequences: &[(KvCache, Tensor)],
    options: &[GenerationOptions],
) -> Vec<Generated> {
    let one = |((cache, prompt), options): (&(KvCache, Tensor), &GenerationOptions)| {
        decoder.generate(prompt, &mut cache.fork(), options, &NoProbe, &mut |_| ()).unwrap()
    };
    sequences.iter().zip(options).map(one).collect()
}

fn assert_same(got: &[Generated], expected: &[Generated], name: &str) {
    assert_eq!(got.len(), expected.len());
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert_eq!(got.token_ids, expected.token_ids, "{name} {i}");
        assert_eq!(got.finish_reason, expected.finish_reason, "{name} {i}");
        for (a, b) in got.hidden_states.iter().zip(&expected.hidden_states) {
            assert!(gap(a, b) < F32, "{name} {i}: {}", gap(a, b));
        }
        for (a, b) in got.logprobs.iter().zip(&expected.logprobs) {
            assert!((a - b).abs() < 1e-4, "{name} {i}: {a} {b}");
        }
    }
}

fn same(n: usize, options: GenerationOptions) -> Vec<GenerationOptions> {
    vec![options; n]
}

#[test]
fn a_pass_over_several_sequences_equals_one_over_each() -> Result<()> {
    for (name, config) in families() {
        let decoder = decoder(&config, &random_weights(&config, 50));
        let mut batch = sequences(&config, &decoder);
        let mut single: Vec<_> = batch.iter().map(|(c, x)| (c.fork(), x.clone())).collect();
        // The second pass appends behind what the first one left.
        for pass in 0..2 {
            let got = together(&decoder, &mut batch)?;
            for (i, (got, (cache, x))) in got.iter().zip(&mut single).enumerate() {
                let expected = run(&decoder, x, cache);
                assert_eq!(got.dims(), expected.dims());
                let gap = gap(got, &expected);
                assert!(gap < F32, "{name} {i} {pass}: {gap}");
            }
            for (i, ((batch, _), (single, _))) in batch.iter().zip(&single).enumerate() {
                assert_eq!(batch.len(), single.len(), "{name} {i}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_pass_that_fails_leaves_every_cache_as_it_was() -> Result<()> {
    let config = family("phi3");
    let decoder = decoder(&config, &random_weights(&config, 51));
    let mut batch = sequences(&config, &decoder);
    let expected = together(
        &decoder,
        &mut batch.iter().map(|(c, x)| (c.fork(), x.clone())).collect::<Vec<_>>(),
    )?;
    let lens: Vec<_> = batch.iter().map(|(cache, _)| cache.len()).collect();
    // Only the last sequence does not fit: its cache is another model's, in its shapes and in the
    // number of its layers.
    let narrow = DecoderConfig { head_dim: config.head_dim / 2, ..config.clone() };
    let other = common::decoder(&narrow, &random_weights(&narrow, 52));
    let mut strange = other.new_cache(9);
    run(&other, &embeddings(&narrow, 1, 3, 53), &mut strange);
    for strange in [strange, KvCache::new(1, 8)] {
        let x = embeddings(&config, 1, 2, 54);
        batch.push((strange, x));
        assert!(together(&decoder, &mut batch).is_err());
        batch.pop();
        assert_eq!(batch.iter().map(|(cache, _)| cache.len()).collect::<Vec<_>>(), lens);
    }
    for (got, expected) in together(&decoder, &mut batch)?.iter().zip(&expected) {
        assert_eq!(gap(got, expected), 0.0);
    }
    assert!(decoder.forward_many(&mut [], &NoProbe).is_err());
    Ok(())
}

#[test]
fn answers_to_several_prompts_equal_those_to_each() {
    for (name, config) in families() {
        let decoder = decoder(&config, &random_weights(&config, 55));
        let mut batch = sequences(&config, &decoder);
        let options =
            same(batch.len(), GenerationOptions { max_new_tokens: 9, ..Default::default() });
        let expected = alone(&decoder, &batch, &options);
        assert_same(&answers(&decoder, &mut batch, &options), &expected, name);
        for ((cache, _), (prefix, prompt)) in batch.iter().zip(LENGTHS) {
            assert_eq!(cache.len(), prefix + prompt + 8);
        }
    }
}

#[test]
fn half_precision_weights_round_no_prompt_that_they_do_not_round_alone() {
    for name in ["phi3", "llama3", "phi3-longrope"] {
        let config = family(name);
        let weights = random_weights(&config, 56);
        let decoder = decoder_of(&config, &weights, DType::BF16, DType::F32).unwrap();
        let mut batch = sequences(&config, &decoder);
        let options =
            same(batch.len(), GenerationOptions { max_new_tokens: 4, ..Default::default() });
        let expected = alone(&decoder, &batch, &options);
        let got = answers(&decoder, &mut batch, &options);
        // Rounding moves hidden states by some 1e-2.
        for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
            let gap = gap(&got.hidden_states[0], &expected.hidden_states[0]);
            assert!(gap < 1e-3, "{name} {i}: {gap}");
        }
    }
}

#[test]
fn a_sequence_that_ends_leaves_the_others_going() {
    let config = family("llama3");
    let decoder = decoder(&config, &random_weights(&config, 57));
    let mut batch = sequences(&config, &decoder);
    let free = GenerationOptions { max_new_tokens: 10, ..Default::default() };
    let said = alone(&decoder, &batch, &same(batch.len(), free.clone()));
    let mut options = same(batch.len(), free);
    options[1].eos_token_ids = vec![said[1].token_ids[3]];
    options[4].max_new_tokens = 1;
    options[6].max_new_tokens = 0;
    let expected = alone(&decoder, &batch, &options);
    let got = answers(&decoder, &mut batch, &options);
    assert_same(&got, &expected, "llama3");
    assert_eq!(got[1].finish_reason, FinishReason::Stop);
    assert!(got[1].token_ids.len() <= 4);
    let lens: Vec<_> = got.iter().map(|answer| answer.token_ids.len()).collect();
    assert_eq!([lens[0], lens[4], lens[6], lens[7]], [10, 1, 0, 10]);
}

#[test]
fn each_prompt_draws_from_its_own_seed_as_it_does_alone() {
    let config = family("phi3");
    let decoder = decoder(&config, &random_weights(&config, 58));
    let mut batch = sequences(&config, &decoder);
    // The same prompt twice, with two seeds.
    batch[3] = (batch[0].0.fork(), batch[0].1.clone());
    let options: Vec<_> = (0..batch.len() as u64)
        .map(|seed| GenerationOptions {
            max_new_tokens: 8,
            sampling: Sampling::Random { temperature: 5.0, top_k: 0, top_p: 1.0, seed },
            ..Default::default()
        })
        .collect();
    let expected = alone(&decoder, &batch, &options);
    let got = answers(&decoder, &mut batch, &options);
    assert_same(&got, &expected, "phi3");
    assert_ne!(got[0].token_ids, got[3].token_ids);
}

/// A prompt's other positions are not wanted, but their keys and values are.
#[test]
fn the_last_positions_are_those_of_a_whole_pass() -> Result<()> {
    for name in ["phi3", "llama31"] {
        let config = family(name);
        let decoder = decoder(&config, &random_weights(&config, 61));
        let mut whole = sequences(&config, &decoder);
        let mut last = sequences(&config, &decoder);
        let expected = together(&decoder, &mut whole)?;
        let got = decoder.forward_last(&mut batch(&mut last), &NoProbe)?;
        for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
            let (len, shape) = (expected.dim(1)?, got.dims3()?);
            assert_eq!(shape, (1, 1, config.hidden_size), "{name} {i}");
            let gap = gap(got, &expected.narrow(1, len - 1, 1)?);
            assert!(gap < F32, "{name} {i}: {gap}");
        }
        let next = embeddings(&config, 1, 1, 99);
        for (i, ((a, _), (b, _))) in whole.iter_mut().zip(&mut last).enumerate() {
            assert_eq!(a.len(), b.len());
            let gap = gap(&run(&decoder, &next, a), &run(&decoder, &next, b));
            assert!(gap < F32, "{name} {i}, the next token: {gap}");
        }
    }
    Ok(())
}

#[test]
fn steps_name_their_prompt_and_the_last_one_says_why_it_ends() {
    let config = family("qwen2");
    let decoder = decoder(&config, &random_weights(&config, 59));
    let mut batch = sequences(&config, &decoder);
    let options = GenerationOptions { max_new_tokens: 3, ..Default::default() };
    let options = same(batch.len(), options);
    let mut seen = vec![Vec::new(); batch.len()];
    let requests = batch.iter_mut().zip(&options);
    let requests = requests.map(|((cache, prompt), options)| Request { prompt, cache, options });
    let got = decoder
        .generate_many(requests.collect(), &NoProbe, &mut |prompt, step| {
            assert_eq!(step.index, seen[prompt].len());
            assert_eq!(step.finish_reason, (step.index == 2).then_some(FinishReason::Length));
            seen[prompt].push(step.id);
        })
        .unwrap();
    for (seen, answer) in seen.iter().zip(&got) {
        assert_eq!(*seen, answer.token_ids);
    }
    assert!(decoder.generate_many(Vec::new(), &NoProbe, &mut |_, _| ()).unwrap().is_empty());
}
