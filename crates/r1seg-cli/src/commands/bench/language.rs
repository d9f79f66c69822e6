//! A model with a language model, timed: a question, a forced answer and its mask.

use std::time::Instant;

use anyhow::Result;
use r1seg::{
    AskOptions, DraftCounts, DtypeChoice, EncodedVolume, Outcome, R1SegModel, RunContext, Separator,
};
use serde::Serialize;

use super::{Bench, Common, Rows, median, row, seconds, stage};
use crate::args::BenchArgs;
use crate::bandwidth;
use crate::exit::{CliError, Exit};

/// Tokens of the answer where nobody says how many.
const TOKENS: usize = 8;
const QUESTION: &str = "Can you segment the liver in this image?";

#[derive(Debug, Serialize)]
struct Figures {
    #[serde(flatten)]
    common: Common,
    prompt_tokens: usize,
    generated_tokens: usize,
    vit_s: f64,
    projector_s: f64,
    prefill_s: f64,
    decode_per_token_s: f64,
    /// Weights that a token reads, where they are kept as the checkpoint has them
    decode_gb_per_token: Option<f64>,
    /// The rate at which all threads together read memory; only for models larger than caches
    read_gb_per_s: Option<f64>,
    /// How much of that rate the weights of a token take up
    decode_share_of_read: Option<f64>,
    /// The mask decoder's passes, and their logits on the model's grid
    mask_s: f64,
    /// Logits to a mask on the input's grid
    postprocess_s: f64,
    /// From the volume, or its file, to the mask; load excluded
    first_answer_s: f64,
    /// The same question again on the same volume
    second_answer_s: f64,
    /// Its time to the first token
    second_prefill_s: f64,
    /// The tokens after the first, which the answer before lets the model guess
    second_decode_s: f64,
    /// Tokens of it that were guessed, and those that were right, each of which saves a pass
    second_drafted: usize,
    second_accepted: usize,
    /// Several more questions on the same volume, one after the other and at once
    several: Option<Several>,
}

#[derive(Debug, Serialize)]
struct Several {
    questions: usize,
    one_by_one_s: f64,
    at_once_s: f64,
    /// Of these, what the masks took
    one_by_one_masks_s: f64,
    at_once_masks_s: f64,
}

/// How long the forced answer is, and where it says [SEG].
pub(super) struct Length {
    tokens: usize,
    seg_step: usize,
}

impl Length {
    pub(super) fn of(args: &BenchArgs) -> Result<Self> {
        let tokens = args.tokens.unwrap_or(TOKENS);
        if tokens < 2 {
            return Err(CliError::usage("an answer needs at least 2 tokens", "use --tokens 8"));
        }
        // The first token never prompts a mask, so that it cannot be [SEG].
        let seg_step = args.seg_step.unwrap_or(tokens - 1).max(2);
        if seg_step > tokens {
            return Err(CliError::usage(
                format!("--seg-step {seg_step} is beyond the {tokens} tokens of the answer"),
                "use a step from 2 to --tokens",
            ));
        }
        Ok(Self { tokens, seg_step })
    }
}

pub(super) fn run(bench: &mut Bench<'_>, model: &R1SegModel) -> Result<Exit> {
    let (args, cancel) = (bench.args, bench.cancel.clone());
    let Length { tokens, seg_step: step } = Length::of(args)?;
    let question = question(model, args)?;
    let room = room(model) - model.prompt(&question, Some(Separator::None))?.ids().len();
    if tokens > room {
        return Err(CliError::usage(
            format!("--tokens is {tokens}; the model has room for {room} after this prompt"),
            "ask for fewer tokens",
        ));
    }
    let forced = forced(model, tokens, step);
    let ask = AskOptions::default()
        .with_separator(Separator::None)
        .with_max_new_tokens(tokens)
        .with_forced_tokens(forced);
    let encode = super::as_it_is(model);

    let (mut first, mut second) = (Vec::new(), Vec::new());
    let (mut answers, mut several) = (Vec::new(), Vec::new());
    let (mut prompt_tokens, mut generated_tokens) = (0, 0);
    let mut drafts = DraftCounts::default();
    for run in 0..args.runs {
        let (volume, start) = bench.volumes.next(run)?;
        let mut context = RunContext::from(&cancel);
        let encoded = model.encode_with(&volume, &encode, &mut context)?;
        // The first answer is to find nothing to guess from.
        model.forget_answers();
        let answer = encoded.ask_with(&question, &ask, &mut context)?;
        answers.push(start.elapsed().as_secs_f64());
        prompt_tokens = answer.prompt_tokens;
        generated_tokens = answer.token_ids.len();
        first.push(answer.timings);
        let again = encoded.ask_with(&question, &ask, &mut context)?;
        drafts = again.drafts;
        second.push(again.timings);
        if let Some(n) = args.questions {
            several.push(ask_several(&encoded, &vec![question.as_str(); n], &ask, &mut context)?);
        }
    }
    // Before the memory that measuring takes.
    let common = bench.common(model);
    let decode_per_token_s = stage(&first, |t| t.decode) / (generated_tokens - 1).max(1) as f64;
    let report = model.load_report();
    let kept = args.model.load.dtype == DtypeChoice::Auto && model.device_name() == "cpu";
    let per_token = Some(report.bytes_per_token as f64 / 1e9).filter(|_| kept);
    let rate = per_token.and(bandwidth::of_reading(report.bytes_per_token));
    let share = per_token.zip(rate).map(|(gb, rate)| gb / decode_per_token_s / rate);
    let figures = Figures {
        common,
        prompt_tokens,
        generated_tokens,
        vit_s: stage(&first, |t| t.vit),
        projector_s: stage(&first, |t| t.projector),
        prefill_s: stage(&first, |t| t.prefill),
        decode_per_token_s,
        decode_gb_per_token: per_token,
        read_gb_per_s: rate,
        decode_share_of_read: share,
        mask_s: stage(&first, |t| t.mask),
        postprocess_s: stage(&first, |t| t.postprocess),
        first_answer_s: median(answers).unwrap_or_default(),
        second_answer_s: stage(&second, |t| t.prefill + t.decode + t.mask + t.postprocess),
        second_prefill_s: stage(&second, |t| t.prefill),
        second_decode_s: stage(&second, |t| t.decode),
        second_drafted: drafts.drafted,
        second_accepted: drafts.accepted,
        several: args.questions.map(|questions| {
            let figure = |f: fn(&[[f64; 2]; 2]) -> f64| {
                median(several.iter().map(f).collect()).unwrap_or_default()
            };
            Several {
                questions,
                one_by_one_s: figure(|s| s[0][0]),
                at_once_s: figure(|s| s[1][0]),
                one_by_one_masks_s: figure(|s| s[0][1]),
                at_once_masks_s: figure(|s| s[1][1]),
            }
        }),
    };
    bench.print(&figures, &figures.common, rows(&figures))
}

/// The tokens of the answer, none of them twice: an answer that repeats itself could be guessed from its own
/// beginning.
fn forced(model: &R1SegModel, tokens: usize, seg_step: usize) -> Vec<u32> {
    let seg = model.tokenizer().seg_token_id();
    let known = u32::try_from(model.config().decoder.vocab_size).unwrap_or(u32::MAX);
    let mut ids: Vec<u32> = (0..known).filter(|id| *id != seg).cycle().take(tokens).collect();
    ids[seg_step - 1] = seg;
    ids
}

/// Seconds that questions take one after the other, and at once; and those of their masks alone.
fn ask_several(
    encoded: &EncodedVolume,
    questions: &[&str],
    ask: &AskOptions,
    context: &mut RunContext<'_>,
) -> Result<[[f64; 2]; 2]> {
    let masks = |answers: &[Outcome]| {
        answers.iter().map(|a| (a.timings.mask + a.timings.postprocess).as_secs_f64()).sum()
    };
    let start = Instant::now();
    let answers = questions
        .iter()
        .map(|question| encoded.ask_with(*question, ask, context))
        .collect::<Result<Vec<_>, _>>()?;
    let one_by_one = [start.elapsed().as_secs_f64(), masks(&answers)];
    drop(answers);
    let start = Instant::now();
    let answers = encoded.ask_many_with(questions, ask, context)?;
    Ok([one_by_one, [start.elapsed().as_secs_f64(), masks(&answers)]])
}

fn rows(figures: &Figures) -> Rows {
    let share = match (figures.decode_share_of_read, figures.read_gb_per_s) {
        (Some(share), Some(rate)) => {
            format!(" ({:.0} % of the {rate:.1} GB/s that memory reads)", share * 100.0)
        }
        _ => String::new(),
    };
    let answer = format!("answer of {} tokens and mask", figures.generated_tokens);
    let passes = figures.generated_tokens - 1 - figures.second_accepted;
    let further = format!("second question, further tokens, passes: {passes}");
    let mut rows = vec![
        row("vision transformer", figures.vit_s),
        row("projector", figures.projector_s),
        row(&format!("prefill, {} tokens", figures.prompt_tokens), figures.prefill_s),
        ("decode, per token".to_string(), seconds(figures.decode_per_token_s) + &share),
        row("mask", figures.mask_s),
        row("mask on the input's grid", figures.postprocess_s),
        row(&answer, figures.first_answer_s),
        row("second question, first token", figures.second_prefill_s),
        row(&further, figures.second_decode_s),
        row("second question, whole answer", figures.second_answer_s),
    ];
    if let Some(Several { questions: n, one_by_one_s, at_once_s, .. }) = &figures.several {
        rows.push(row(&format!("{n} more questions, one by one"), *one_by_one_s));
        rows.push(row(&format!("{n} more questions, at once"), *at_once_s));
    }
    rows
}

/// Tokens that the model takes, prompt and answer together.
fn room(model: &R1SegModel) -> usize {
    model.config().decoder.max_position_embeddings
}

/// The question, cut or repeated until the prompt has the asked number of tokens.
fn question(model: &R1SegModel, args: &BenchArgs) -> Result<String> {
    let prompt = args.prompt.as_deref().unwrap_or(QUESTION);
    let Some(wanted) = args.prompt_tokens else { return Ok(prompt.to_string()) };
    if wanted >= room(model) {
        return Err(CliError::usage(
            format!("--prompt-tokens is {wanted}; the model reads fewer than {}", room(model)),
            "ask for a shorter prompt",
        ));
    }
    let len = |text: &str| -> Result<usize> {
        Ok(model.prompt(text, Some(Separator::None))?.ids().len())
    };
    let words = prompt.repeat(wanted / prompt.len().max(1) + 1);
    for end in words.char_indices().map(|(i, c)| i + c.len_utf8()) {
        if len(&words[..end]).is_ok_and(|n| n >= wanted) {
            return Ok(words[..end].to_string());
        }
    }
    Err(CliError::usage(
        format!("no question makes a prompt of {wanted} tokens"),
        "another --prompt may be cut into such tokens; or leave --prompt-tokens out",
    ))
}
