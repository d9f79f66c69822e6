//! Answers whose next tokens are guessed: they take fewer passes, and not a bit of them changes.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod common;

use std::cell::Cell;

use candle_core::{DType, Result, Tensor};
use common::*;
use r1seg_llm::{
    Decoder, DecoderConfig, Drafts, FinishReason, Generated, GenerationError, GenerationOptions,
    KvCache, Request, Sampling, SeenAnswers,
};
use r1seg_nn::{Cancelled, FEW_ROWS, NoProbe, Probe};

/// Tokens of the answers.
const TOKENS: usize = 9;

/// Counts the layers' checks, and ends a pass at one of them.
struct Checks {
    left: Cell<usize>,
    made: Cell<usize>,
}

impl Checks {
    fn new(left: usize) -> Self {
        Self { left: Cell::new(left), made: Cell::new(0) }
    }

    /// Each layer checks twice.
    fn passes(&self, config: &DecoderConfig) -> usize {
        self.made.get() / (2 * config.num_hidden_layers)
    }
}

impl Probe for Checks {
    fn record(&mut self, _name: &str, _tensor: &Tensor) -> Result<()> {
        Ok(())
    }

    fn check_cancelled(&self) -> Result<()> {
        if self.left.get() == 0 {
            return Err(Cancelled.into());
        }
        self.left.set(self.left.get() - 1);
        self.made.set(self.made.get() + 1);
        Ok(())
    }
}

fn plain(max_new_tokens: usize) -> GenerationOptions {
    GenerationOptions { max_new_tokens, keep_logits: true, ..Default::default() }
}

fn remembering(answers: &[&[u32]]) -> Drafts {
    let seen = SeenAnswers::default();
    answers.iter().for_each(|ids| seen.remember(ids, 1));
    Drafts { seen, ..Drafts::default() }
}

fn with(drafts: Drafts, options: &GenerationOptions) -> GenerationOptions {
    GenerationOptions { drafts: Some(drafts), ..options.clone() }
}

/// An answer, how many positions its cache has then, and the passes that it took.
fn answer(
    decoder: &Decoder,
    prompt: &Tensor,
    options: &GenerationOptions,
) -> (Generated, usize, usize) {
    let mut cache = decoder.new_cache(0);
    let (probe, mut said) = (Checks::new(usize::MAX), Vec::new());
    let answer = decoder
        .generate(prompt, &mut cache, options, &probe, &mut |step| {
            assert_eq!(step.index, said.len());
            said.push(step.id);
        })
        .unwrap();
    assert_eq!(said, answer.token_ids);
    (answer, cache.len(), probe.passes(decoder.config()))
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

fn assert_same(got: &Generated, expected: &Generated, name: &str) {
    assert_eq!(got.token_ids, expected.token_ids, "{name}");
    assert_eq!(got.finish_reason, expected.finish_reason, "{name}");
    let of = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(of(&got.logprobs), of(&expected.logprobs), "{name}");
    assert_eq!(got.hidden_states.len(), expected.hidden_states.len(), "{name}");
    for (i, (got, expected)) in got.hidden_states.iter().zip(&expected.hidden_states).enumerate() {
        assert!(bits(got) == bits(expected), "{name}, the state of token {i}");
    }
    let [got, expected] = [got, expected].map(|answer| bits(answer.logits.as_ref().unwrap()));
    assert!(got == expected, "{name}, logits");
}

/// A token that is none of an answer's.
fn wrong(answer: &[u32]) -> u32 {
    (3..).find(|id| !answer.contains(id)).unwrap()
}

/// The answer itself, its beginning only, one token of it, and nothing of it.
fn stores(answer: &[u32]) -> Vec<(&'static str, Drafts)> {
    let wrong = wrong(answer);
    let spoiled = |right: usize| -> Vec<u32> {
        answer.iter().enumerate().map(|(i, id)| if i < right { *id } else { wrong }).collect()
    };
    vec![
        ("right", remembering(&[answer])),
        ("half right", remembering(&[&spoiled(4)])),
        ("one right", remembering(&[&spoiled(2), &answer[4..]])),
        ("wrong", remembering(&[&spoiled(1)])),
        ("nothing known", remembering(&[])),
    ]
}

#[test]
fn drafts_of_any_quality_change_no_bit_of_an_answer() {
    for (name, config) in families() {
        let weights = random_weights(&config, 70);
        for stored in [DType::F32, DType::BF16, DType::F16] {
            let decoder = decoder_of(&config, &weights, stored, DType::F32).unwrap();
            // On longrope the answer begins on either side of the limit of 12 positions.
            for len in [2, 5, 9, 14] {
                let prompt = embeddings(&config, 1, len, 71);
                let (expected, positions, passes) = answer(&decoder, &prompt, &plain(TOKENS));
                assert_eq!(passes, TOKENS);
                for (quality, drafts) in stores(&expected.token_ids) {
                    let name = format!("{name} {stored:?} {len} {quality}");
                    let options = with(drafts, &plain(TOKENS));
                    let (got, its_positions, passes) = answer(&decoder, &prompt, &options);
                    assert_same(&got, &expected, &name);
                    assert_eq!(its_positions, positions, "{name}");
                    assert_eq!(passes, TOKENS - got.accepted, "{name}");
                    assert!(got.accepted <= got.drafted, "{name}");
                }
            }
        }
    }
}

#[test]
fn an_answer_of_eight_tokens_that_was_given_before_takes_two_passes_after_its_prompt() {
    let config = family("llama3");
    let decoder = decoder(&config, &random_weights(&config, 72));
    let prompt = embeddings(&config, 1, 9, 73);
    let options = with(remembering(&[]), &plain(8));
    let (first, _, passes) = answer(&decoder, &prompt, &options);
    assert_eq!((passes, first.accepted), (8, 0));
    // The answer before is remembered by itself.
    let (second, _, passes) = answer(&decoder, &prompt, &options);
    assert_same(&second, &first, "again");
    assert_eq!((passes, second.drafted, second.accepted), (3, 5, 5));
}

#[test]
fn answers_at_once_share_the_rows_that_are_left_and_stay_the_same() {
    for (name, config) in families() {
        let decoder = decoder(&config, &random_weights(&config, 74));
        let prompts: Vec<_> =
            [9, 14, 3, 1].map(|len| embeddings(&config, 1, len, len as u64)).into();
        let answers = |options: &[GenerationOptions]| -> Vec<(Generated, usize)> {
            let mut caches: Vec<KvCache> = prompts.iter().map(|_| decoder.new_cache(0)).collect();
            let requests = prompts.iter().zip(&mut caches).zip(options);
            let requests = requests
                .map(|((prompt, cache), options)| Request { prompt, cache, options })
                .collect();
            let answers = decoder.generate_many(requests, &NoProbe, &mut |_, _| ()).unwrap();
            answers.into_iter().zip(caches.iter().map(KvCache::len)).collect()
        };
        let lengths = [TOKENS, 4, TOKENS + 3, TOKENS];
        let options: Vec<_> = lengths.map(plain).into();
        let expected = answers(&options);
        for quality in 0..5 {
            let of = |((answer, _), options): (&(Generated, usize), &GenerationOptions)| {
                with(stores(&answer.token_ids).swap_remove(quality).1, options)
            };
            let drafting: Vec<_> = expected.iter().zip(&options).map(of).collect();
            for (i, (got, expected)) in answers(&drafting).iter().zip(&expected).enumerate() {
                assert_same(&got.0, &expected.0, &format!("{name} {quality} {i}"));
                assert_eq!(got.1, expected.1, "{name} {quality} {i}");
                assert!(quality > 0 || i == 1 || got.0.accepted > 0, "{name} {i}");
            }
        }
    }
}

#[test]
fn an_end_token_within_a_draft_ends_the_answer() {
    let config = family("phi3");
    let decoder = decoder(&config, &random_weights(&config, 75));
    let prompt = embeddings(&config, 1, 9, 76);
    let free = answer(&decoder, &prompt, &plain(TOKENS)).0.token_ids;
    for end in &free {
        let options = GenerationOptions { eos_token_ids: vec![*end], ..plain(TOKENS) };
        let (expected, positions, _) = answer(&decoder, &prompt, &options);
        assert_eq!(expected.finish_reason, FinishReason::Stop);
        let (got, its_positions, passes) =
            answer(&decoder, &prompt, &with(remembering(&[&free]), &options));
        assert_same(&got, &expected, "ended");
        assert_eq!(its_positions, positions);
        assert_eq!(passes, got.token_ids.len() - got.accepted);
    }
}

#[test]
fn the_longest_answer_is_as_long_as_without_drafts() {
    let config = family("qwen2");
    let decoder = decoder(&config, &random_weights(&config, 77));
    let prompt = embeddings(&config, 1, 9, 78);
    let free = answer(&decoder, &prompt, &plain(TOKENS + 5)).0.token_ids;
    for tokens in 1..TOKENS {
        let (expected, positions, _) = answer(&decoder, &prompt, &plain(tokens));
        let options = with(remembering(&[&free]), &plain(tokens));
        let (got, its_positions, passes) = answer(&decoder, &prompt, &options);
        assert_same(&got, &expected, "cut");
        assert_eq!((its_positions, got.finish_reason), (positions, FinishReason::Length));
        // No row is read for what comes after the last token.
        assert_eq!(got.drafted, got.accepted);
        assert_eq!(passes, 1 + (tokens - 1).div_ceil(FEW_ROWS));
    }
}

#[test]
fn a_guess_of_a_forced_token_is_right() {
    let config = family("llama31");
    let decoder = decoder(&config, &random_weights(&config, 79));
    let prompt = embeddings(&config, 1, 9, 80);
    let options = GenerationOptions { forced: (10..18).collect(), ..plain(8) };
    let (expected, ..) = answer(&decoder, &prompt, &options);
    let forced: Vec<u32> = (10..18).collect();
    let (got, _, passes) = answer(&decoder, &prompt, &with(remembering(&[&forced]), &options));
    assert_same(&got, &expected, "forced");
    assert_eq!((passes, got.accepted), (3, 5));
    let half = GenerationOptions { forced: (10..14).collect(), ..plain(8) };
    let (expected, ..) = answer(&decoder, &prompt, &half);
    let (got, ..) = answer(&decoder, &prompt, &with(remembering(&[&forced]), &half));
    assert_same(&got, &expected, "forced at first");
}

#[test]
fn two_drafts_without_a_right_token_are_the_last() {
    let config = family("llama3");
    let decoder = decoder(&config, &random_weights(&config, 81));
    let prompt = embeddings(&config, 1, 9, 82);
    let said = answer(&decoder, &prompt, &plain(TOKENS)).0.token_ids;
    let other = wrong(&said);
    // Each beginning is known, with another end, and the shorter ones are more common: three wrong drafts, which go on
    // with the token that they repeat.
    let seen = SeenAnswers::default();
    for (n, count) in [(1, 10), (2, 3), (3, 1)] {
        seen.remember(&[&said[..n], &[other; 3]].concat(), count);
    }
    let drafts = Drafts { seen, ..Drafts::default() };
    let (got, _, passes) = answer(&decoder, &prompt, &with(drafts, &plain(TOKENS)));
    assert_eq!(got.token_ids, said);
    assert_eq!((got.drafted, got.accepted, passes), (2 * (FEW_ROWS - 1), 0, TOKENS));
}

#[test]
fn nothing_is_guessed_for_draws_and_in_half_precision() {
    let config = family("phi3");
    let weights = random_weights(&config, 83);
    let prompt = embeddings(&config, 1, 9, 84);
    let decoder = decoder(&config, &weights);
    assert!(decoder.checks_drafts());
    let sampling = Sampling::Random { temperature: 1e-6, top_k: 0, top_p: 1.0, seed: 1 };
    let draws = GenerationOptions { sampling, ..plain(TOKENS) };
    let (expected, ..) = answer(&decoder, &prompt, &draws);
    let store = remembering(&[&expected.token_ids]);
    let (got, ..) = answer(&decoder, &prompt, &with(store, &draws));
    assert_same(&got, &expected, "draws");
    assert_eq!(got.drafted, 0);

    let half = decoder_of(&config, &weights, DType::BF16, DType::BF16).unwrap();
    assert!(!half.checks_drafts());
    let options = GenerationOptions { keep_logits: false, ..plain(TOKENS) };
    let said = answer(&half, &prompt, &options).0.token_ids;
    let (got, ..) = answer(&half, &prompt, &with(remembering(&[&said]), &options));
    assert_eq!((got.token_ids, got.drafted), (said, 0));
}

#[test]
fn guesses_that_are_not_in_the_vocabulary_are_left_out() {
    let config = family("llama3");
    let decoder = decoder(&config, &random_weights(&config, 85));
    let prompt = embeddings(&config, 1, 9, 86);
    let (expected, ..) = answer(&decoder, &prompt, &plain(4));
    let foreign = remembering(&[&[expected.token_ids[0], u32::MAX, 3]]);
    let (got, ..) = answer(&decoder, &prompt, &with(foreign, &plain(4)));
    assert_same(&got, &expected, "foreign");
    assert_eq!(got.drafted, 0);
}

#[test]
fn a_pass_that_is_cancelled_leaves_the_cache_as_it_was_before_its_draft() {
    let config = family("mistral");
    let decoder = decoder(&config, &random_weights(&config, 87));
    let prompt = embeddings(&config, 1, 6, 88);
    let (free, ..) = answer(&decoder, &prompt, &plain(8));
    // Passes end behind the prompt with 1, 7 and 8 tokens.
    for n in 0..3 * 2 * config.num_hidden_layers {
        let options = with(remembering(&[&free.token_ids]), &plain(8));
        let (probe, mut cache) = (Checks::new(n), decoder.new_cache(0));
        let mut said = Vec::new();
        let ended = decoder.generate(&prompt, &mut cache, &options, &probe, &mut |step| {
            said.push(step.id);
        });
        assert!(matches!(ended, Err(GenerationError::Compute(_))), "check {n}");
        let (tokens, positions) = [(0, 0), (1, 6), (7, 12)][n / (2 * config.num_hidden_layers)];
        assert_eq!((said.len(), cache.len()), (tokens, positions), "check {n}");
        assert_eq!(said, free.token_ids[..tokens], "check {n}");
    }
}

#[test]
fn a_fork_of_the_cache_never_sees_a_draft() {
    let config = family("llama3");
    let decoder = decoder(&config, &random_weights(&config, 89));
    let prompt = embeddings(&config, 1, 12, 90);
    let mut prefix = decoder.new_cache(0);
    run(&decoder, &prompt.narrow(1, 0, 9).unwrap(), &mut prefix);
    let question = prompt.narrow(1, 9, 3).unwrap();
    let ask = |options: &GenerationOptions| {
        let mut cache = prefix.fork();
        decoder.generate(&question, &mut cache, options, &NoProbe, &mut |_| ()).unwrap()
    };
    let expected = ask(&plain(TOKENS));
    for (quality, drafts) in stores(&expected.token_ids) {
        assert_same(&ask(&with(drafts, &plain(TOKENS))), &expected, quality);
        assert_same(&ask(&plain(TOKENS)), &expected, quality);
    }
    assert_eq!(prefix.len(), 9);
}
