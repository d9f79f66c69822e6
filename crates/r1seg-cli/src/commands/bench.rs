//! `r1seg bench`: every stage of a model, timed.

use std::io::Write;
use std::time::Duration;

use anyhow::Result;
use r1seg::volume::{Geometry, Volume};
use r1seg::{
    AskOptions, CancelToken, EncodeOptions, Preprocess, R1SegModel, Recipe, Separator, Timings,
};
use serde::Serialize;

use crate::args::{BenchArgs, BenchFormat};
use crate::exit::{CliError, Exit};
use crate::study;

#[derive(Debug, Serialize)]
struct Bench {
    model: String,
    device: String,
    dtype: &'static str,
    threads: usize,
    prompt_tokens: usize,
    generated_tokens: usize,
    runs: usize,
    load_s: f64,
    weights_gb: f64,
    vit_s: f64,
    projector_s: f64,
    prefill_s: f64,
    decode_per_token_s: f64,
    mask_s: f64,
    /// From the volume's voxels to the mask, load excluded
    first_answer_s: f64,
    /// The same question again on the same volume
    second_answer_s: f64,
    /// Its time to the first token
    second_prefill_s: f64,
    peak_rss_gib: Option<f64>,
}

pub(crate) fn run(args: &BenchArgs, cancel: CancelToken) -> Result<Exit> {
    if args.tokens < 2 || args.runs == 0 {
        return Err(CliError::usage(
            "a benchmark needs at least 2 tokens and 1 run",
            "use --tokens 8 --runs 3",
        ));
    }
    // The first token never prompts a mask, so that it cannot be [SEG].
    let step = args.seg_step.unwrap_or(args.tokens - 1).max(2);
    if step > args.tokens {
        return Err(CliError::usage(
            format!("--seg-step {step} is beyond the {} tokens of the answer", args.tokens),
            "use a step from 2 to --tokens",
        ));
    }
    let (source, name) = study::source(&args.model)?;
    let model = study::load(source, &args.model, &args.refine, 0)?;
    study::announce(&model, &name.id, args.model.device);

    let question = question(&model, args)?;
    let room = room(&model) - model.prompt(&question, Separator::None)?.ids().len();
    if args.tokens > room {
        return Err(CliError::usage(
            format!("--tokens is {}; the model has room for {room} after this prompt", args.tokens),
            "ask for fewer tokens",
        ));
    }
    let seg = model.tokenizer().seg_token_id();
    let mut forced = vec![0u32; args.tokens];
    forced[step - 1] = seg;
    let ask = AskOptions::default()
        .with_separator(Separator::None)
        .with_max_new_tokens(args.tokens)
        .with_forced_tokens(forced)
        .with_cancel(cancel);
    let encode = EncodeOptions::default().with_preprocess(Preprocess::Recipe(Recipe::None));

    let mut first = Vec::new();
    let mut second = Vec::new();
    let (mut prompt_tokens, mut generated_tokens) = (0, 0);
    for run in 0..args.runs {
        let volume = noise(model.config().vit.image_size, run as u64)?;
        let study = model.encode_with(&volume, &encode)?;
        let answer = study.ask_with(&question, &ask, &mut |_| {})?;
        prompt_tokens = answer.prompt_tokens;
        generated_tokens = answer.token_ids.len();
        first.push(answer.timings);
        second.push(study.ask_with(&question, &ask, &mut |_| {})?.timings);
    }
    let median = |of: &[Timings], f: fn(&Timings) -> Duration| {
        let mut times: Vec<f64> = of.iter().map(|t| f(t).as_secs_f64()).collect();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let bench = Bench {
        model: name.id,
        device: model.device_name(),
        dtype: model.dtype_name(),
        threads: rayon::current_num_threads(),
        prompt_tokens,
        generated_tokens,
        runs: args.runs,
        load_s: model.load_time().as_secs_f64(),
        weights_gb: model.load_report().bytes as f64 / 1e9,
        vit_s: median(&first, |t| t.vit),
        projector_s: median(&first, |t| t.projector),
        prefill_s: median(&first, |t| t.prefill),
        decode_per_token_s: median(&first, |t| t.decode) / (generated_tokens - 1).max(1) as f64,
        mask_s: median(&first, |t| t.mask),
        first_answer_s: median(&first, Timings::total),
        second_answer_s: median(&second, |t| t.prefill + t.decode + t.mask + t.postprocess),
        second_prefill_s: median(&second, |t| t.prefill),
        peak_rss_gib: peak_rss_bytes().map(|b| b as f64 / (1u64 << 30) as f64),
    };
    let text = match args.output {
        BenchFormat::Json => serde_json::to_string_pretty(&bench)? + "\n",
        BenchFormat::Md => markdown(&bench),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(Exit::Answered)
}

fn markdown(b: &Bench) -> String {
    let s = |seconds: f64| match seconds {
        s if s < 0.01 => format!("{:.2} ms", s * 1e3),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s => format!("{s:.2} s"),
    };
    let mut rows = vec![
        ("load".to_string(), format!("{} ({:.2} GB)", s(b.load_s), b.weights_gb)),
        ("vision transformer".to_string(), s(b.vit_s)),
        ("projector".to_string(), s(b.projector_s)),
        (format!("prefill, {} tokens", b.prompt_tokens), s(b.prefill_s)),
        ("decode, per token".to_string(), s(b.decode_per_token_s)),
        ("mask".to_string(), s(b.mask_s)),
        (format!("answer of {} tokens and mask", b.generated_tokens), s(b.first_answer_s)),
        ("second question, first token".to_string(), s(b.second_prefill_s)),
        ("second question, whole answer".to_string(), s(b.second_answer_s)),
    ];
    if let Some(gib) = b.peak_rss_gib {
        rows.push(("peak memory".to_string(), format!("{gib:.2} GiB")));
    }
    let mut text = format!(
        "{} on {} ({}), {} threads, median of {}\n\n| stage | time |\n|---|---|\n",
        b.model, b.device, b.dtype, b.threads, b.runs
    );
    for (stage, time) in rows {
        text.push_str(&format!("| {stage} | {time} |\n"));
    }
    text
}

/// Tokens that the model takes, prompt and answer together.
fn room(model: &R1SegModel) -> usize {
    model.config().decoder.max_position_embeddings
}

/// The question, cut or repeated until the prompt has the asked number of tokens.
fn question(model: &R1SegModel, args: &BenchArgs) -> Result<String> {
    let Some(wanted) = args.prompt_tokens else { return Ok(args.prompt.clone()) };
    if wanted >= room(model) {
        return Err(CliError::usage(
            format!("--prompt-tokens is {wanted}; the model reads fewer than {}", room(model)),
            "ask for a shorter prompt",
        ));
    }
    let len =
        |text: &str| -> Result<usize> { Ok(model.prompt(text, Separator::None)?.ids().len()) };
    let words = args.prompt.repeat(wanted / args.prompt.len().max(1) + 1);
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

/// Voxels in 0..1 without a pattern.
fn noise(shape: [usize; 3], seed: u64) -> Result<Volume> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let voxels: Vec<f32> = (0..shape.iter().product::<usize>())
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 24) as f32
        })
        .collect();
    Ok(Volume::new(voxels, Geometry::without_affine(shape))?)
}

/// The most memory that this process ever had, mapped files included.
pub(crate) fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_spread_over_the_unit_range() -> Result<()> {
        let volume = noise([4, 16, 16], 3)?;
        let mean = volume.voxels().iter().sum::<f32>() / volume.voxels().len() as f32;
        assert!((mean - 0.5).abs() < 0.05, "{mean}");
        assert!(volume.voxels().iter().all(|v| (0.0..1.0).contains(&v)));
        Ok(())
    }
}
