//! Answers: when they end, what they report, and that the cache changes nothing.

mod common;

use std::cell::Cell;

use candle_core::{Result, Tensor};
use common::*;
use r1seg_llm::{
    Decoder, DecoderConfig, FinishReason, Generated, GenerationError, GenerationOptions, Sampling,
    Step,
};
use r1seg_nn::{Cancelled, NoProbe, Probe};

fn model(name: &str) -> (DecoderConfig, Decoder) {
    let config = family(name);
    let decoder = decoder(&config, &random_weights(&config, 40));
    (config, decoder)
}

fn options(max_new_tokens: usize) -> GenerationOptions {
    GenerationOptions { max_new_tokens, ..Default::default() }
}

fn answer(decoder: &Decoder, prompt: &Tensor, options: &GenerationOptions) -> Result<Generated> {
    Ok(decoder.generate(prompt, &mut decoder.new_cache(0), options, &NoProbe, &mut |_| ())?)
}

#[test]
fn greedy_answers_equal_an_argmax_over_uncached_passes() -> Result<()> {
    for (name, config) in families() {
        let decoder = decoder(&config, &random_weights(&config, 41));
        let prompt = embeddings(&config, 1, 14, 42);
        let options = GenerationOptions { keep_logits: true, ..options(8) };
        let got = answer(&decoder, &prompt, &options)?;
        assert_eq!((got.token_ids.len(), got.finish_reason), (8, FinishReason::Length));
        let scored = got.logits.unwrap();
        let mut sequence = prompt.clone();
        for (k, &id) in got.token_ids.iter().enumerate() {
            let last = prefill(&decoder, &sequence).narrow(1, 13 + k, 1)?;
            assert!(gap(&got.hidden_states[k], &last.flatten_all()?) < 2e-5, "{name} {k}");
            let logits = decoder.logits(&last)?.flatten_all()?;
            assert!(gap(&scored.get(k)?, &logits) < 2e-5, "{name} {k}");
            assert_eq!(logits.argmax(0)?.to_scalar::<u32>()?, id, "{name} {k}");
            let log_softmax = candle_nn::ops::log_softmax(&logits, 0)?.to_vec1::<f32>()?;
            let logprob = log_softmax[usize::try_from(id).unwrap()];
            assert!((got.logprobs[k] - logprob).abs() < 1e-4, "{name} {k}");
            sequence = Tensor::cat(&[&sequence, &decoder.embed(&[id])?], 1)?;
        }
    }
    Ok(())
}

#[test]
fn a_cached_prefix_changes_no_answer() -> Result<()> {
    let (config, decoder) = model("llama3");
    let prompt = embeddings(&config, 1, 12, 43);
    let whole = answer(&decoder, &prompt, &options(10))?;
    let mut prefix = decoder.new_cache(9);
    run(&decoder, &prompt.narrow(1, 0, 9)?, &mut prefix);
    for _ in 0..2 {
        let mut cache = prefix.fork();
        let question = prompt.narrow(1, 9, 3)?;
        let got = decoder.generate(&question, &mut cache, &options(10), &NoProbe, &mut |_| ())?;
        assert_eq!(got.token_ids, whole.token_ids);
        // Every position but the last token's has been through the layers.
        assert_eq!((prefix.len(), cache.len()), (9, 12 + 9));
    }
    Ok(())
}

#[test]
fn an_end_token_stops_the_answer_and_is_part_of_it() -> Result<()> {
    let (config, decoder) = model("phi3");
    let prompt = embeddings(&config, 1, 6, 44);
    let free = answer(&decoder, &prompt, &options(12))?;
    let end = free.token_ids[4];
    let first = free.token_ids.iter().position(|id| *id == end).unwrap();
    let stopped = GenerationOptions { eos_token_ids: vec![9999, end], ..options(12) };
    let got = answer(&decoder, &prompt, &stopped)?;
    assert_eq!(got.finish_reason, FinishReason::Stop);
    assert_eq!(got.token_ids, free.token_ids[..=first]);
    assert_eq!((got.logprobs.len(), got.hidden_states.len()), (first + 1, first + 1));
    assert!(got.logits.is_none());
    Ok(())
}

#[test]
fn no_tokens_are_generated_when_none_are_asked_for() -> Result<()> {
    let (config, decoder) = model("phi3");
    let got = answer(&decoder, &embeddings(&config, 1, 6, 45), &options(0))?;
    assert_eq!((got.token_ids.len(), got.finish_reason), (0, FinishReason::Length));
    assert!(got.logits.is_none());
    Ok(())
}

/// Ends a pass at its n-th check.
struct CancelAt(Cell<usize>);

impl Probe for CancelAt {
    fn record(&mut self, _name: &str, _tensor: &Tensor) -> Result<()> {
        Ok(())
    }

    fn check_cancelled(&self) -> Result<()> {
        match self.0.get() {
            0 => Err(Cancelled.into()),
            left => {
                self.0.set(left - 1);
                Ok(())
            }
        }
    }
}

#[test]
fn cancellation_ends_an_answer_within_a_layer_and_leaves_the_cache_usable() -> Result<()> {
    let (config, decoder) = model("mistral");
    let prompt = embeddings(&config, 1, 6, 46);
    let free = answer(&decoder, &prompt, &options(3))?;
    // Twice in each layer of the passes that choose the three tokens.
    let checks = 3 * 2 * config.num_hidden_layers;
    for n in 0..checks {
        let mut cache = decoder.new_cache(0);
        let mut said = Vec::new();
        let probe = CancelAt(Cell::new(n));
        let ended = decoder.generate(&prompt, &mut cache, &options(3), &probe, &mut |step| {
            said.push(step.id);
        });
        let GenerationError::Compute(error) = ended.unwrap_err() else { panic!("check {n}") };
        assert!(Cancelled::is_in(&error), "check {n}: {error}");
        let passes = n / (2 * config.num_hidden_layers);
        assert_eq!(said, free.token_ids[..passes], "check {n}");
        assert_eq!(cache.len(), if passes == 0 { 0 } else { 6 + passes - 1 }, "check {n}");
        // The whole answer can be had from the same cache.
        cache.truncate(0);
        let again = decoder.generate(&prompt, &mut cache, &options(3), &NoProbe, &mut |_| ())?;
        assert_eq!(again.token_ids, free.token_ids, "check {n}");
    }
    let probe = CancelAt(Cell::new(checks));
    let mut cache = decoder.new_cache(0);
    let whole = decoder.generate(&prompt, &mut cache, &options(3), &probe, &mut |_| ())?;
    assert_eq!(whole.token_ids, free.token_ids);
    Ok(())
}

#[test]
fn forced_tokens_replace_the_first_ones_and_are_scored() -> Result<()> {
    let (config, decoder) = model("qwen2");
    let prompt = embeddings(&config, 1, 6, 47);
    let forced = GenerationOptions { forced: vec![5, 618, 7], ..options(5) };
    let got = answer(&decoder, &prompt, &forced)?;
    assert_eq!(got.token_ids[..3], [5, 618, 7]);
    assert_eq!(got.token_ids.len(), 5);
    // Saying the same by embedding it gives the same continuation.
    let spoken = Tensor::cat(&[&prompt, &decoder.embed(&[5, 618, 7])?], 1)?;
    let rest = answer(&decoder, &spoken, &options(2))?;
    assert_eq!(got.token_ids[3..], rest.token_ids);
    let first = answer(&decoder, &prompt, &options(1))?;
    assert!(got.logprobs[0] < first.logprobs[0]);
    let outside = GenerationOptions { forced: vec![619], ..options(1) };
    assert!(answer(&decoder, &prompt, &outside).is_err());
    let ended = GenerationOptions { forced: vec![5, 2, 7], eos_token_ids: vec![2], ..options(5) };
    assert_eq!(answer(&decoder, &prompt, &ended)?.token_ids, [5, 2]);
    Ok(())
}

#[test]
fn tokens_are_shown_as_they_come() -> Result<()> {
    let (config, decoder) = model("llama31");
    let prompt = embeddings(&config, 1, 6, 48);
    let mut seen = Vec::new();
    let options = GenerationOptions { keep_logits: true, ..options(4) };
    let mut on_token = |step: Step<'_>| {
        assert_eq!(step.logits.unwrap().dims(), [619]);
        seen.push((step.index, step.id, step.logprob));
    };
    let got =
        decoder.generate(&prompt, &mut decoder.new_cache(0), &options, &NoProbe, &mut on_token)?;
    let expected: Vec<_> = (0..4).map(|k| (k, got.token_ids[k], got.logprobs[k])).collect();
    assert_eq!(seen, expected);
    assert_eq!(got.logits.unwrap().dims(), [4, 619]);
    Ok(())
}

#[test]
fn sampled_answers_follow_their_seed() -> Result<()> {
    let (config, decoder) = model("phi3");
    let prompt = embeddings(&config, 1, 6, 49);
    let sampled = |seed: u64| {
        let sampling = Sampling::Random { temperature: 5.0, top_k: 0, top_p: 1.0, seed };
        let options = GenerationOptions { sampling, ..options(12) };
        answer(&decoder, &prompt, &options).map(|a| a.token_ids)
    };
    assert_eq!(sampled(1)?, sampled(1)?);
    assert_ne!(sampled(1)?, sampled(2)?);
    let one = Sampling::Random { temperature: 5.0, top_k: 1, top_p: 1.0, seed: 1 };
    let narrow = GenerationOptions { sampling: one, ..options(12) };
    let greedy = answer(&decoder, &prompt, &options(12))?;
    assert_eq!(answer(&decoder, &prompt, &narrow)?.token_ids, greedy.token_ids);
    Ok(())
}

#[test]
fn prompts_and_options_that_make_no_sense_are_refused() {
    let (config, decoder) = model("phi3");
    assert!(answer(&decoder, &embeddings(&config, 2, 6, 50), &options(1)).is_err());
    let sampling = Sampling::Random { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 };
    let cold = GenerationOptions { sampling, ..options(1) };
    let error = answer(&decoder, &embeddings(&config, 1, 6, 50), &cold).unwrap_err();
    assert!(error.to_string().contains("temperature"), "{error}");
    let nan = (embeddings(&config, 1, 6, 50) * f64::NAN).unwrap();
    let error = answer(&decoder, &nan, &options(1)).unwrap_err();
    assert!(error.to_string().contains("NaN"), "{error}");
}
