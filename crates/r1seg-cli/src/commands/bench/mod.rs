//! `r1seg bench`: every stage of a model, timed. A file for each kind of model.

mod clip;
mod language;
mod promptable;

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use r1seg::volume::{Geometry, ReadOptions, Volume, read};
use r1seg::{CancelToken, CheckpointSource, Error, M3dClipConfig, PromptableConfig};
use serde::Serialize;

use crate::args::{BenchArgs, BenchFormat};
use crate::exit::{CliError, Exit};
use crate::study;

pub(crate) fn run(args: &BenchArgs, cancel: CancelToken) -> Result<Exit> {
    if args.runs == 0 {
        return Err(CliError::usage("a benchmark needs at least 1 run", "use --runs 3"));
    }
    let (source, name) = study::source(&args.model)?;
    let kind = Kind::of(&source)?;
    kind.check(args)?;
    study::verify(&args.model, &cancel)?;
    match kind {
        Kind::Language => language::run(args, source, name, cancel),
        Kind::Promptable => promptable::run(args, &source, name, cancel),
        Kind::Clip => clip::run(args, &source, name, &cancel),
    }
}

/// What a model is timed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A question, an answer and its mask.
    Language,
    /// A text and its mask.
    Promptable,
    /// Embeddings of a volume and a text.
    Clip,
}

impl Kind {
    fn of(source: &CheckpointSource) -> Result<Self, Error> {
        match PromptableConfig::read(source) {
            Ok(_) => return Ok(Self::Promptable),
            Err(Error::UnsupportedModel { .. }) => {}
            Err(error) => return Err(error),
        }
        match M3dClipConfig::read(source) {
            Ok(_) => Ok(Self::Clip),
            // Loading says what is wrong with other models.
            Err(Error::UnsupportedModel { .. }) => Ok(Self::Language),
            Err(error) => Err(error),
        }
    }

    /// Flags that mean nothing for a model are refused by name.
    fn check(self, args: &BenchArgs) -> Result<()> {
        let language = ("language model", self == Self::Language);
        let masks = ("mask decoder", self != Self::Clip);
        for (flag, given, (part, there)) in [
            ("--tokens", args.tokens.is_some(), language),
            ("--seg-step", args.seg_step.is_some(), language),
            ("--prompt-tokens", args.prompt_tokens.is_some(), language),
            ("--questions", args.questions.is_some(), language),
            ("--num-clicks", args.refine.num_clicks.is_some(), masks),
        ] {
            if given && !there {
                return Err(CliError::usage(
                    format!("{flag} does not apply: the model has no {part}"),
                    format!("leave out {flag}"),
                ));
            }
        }
        Ok(())
    }
}

/// The volumes of the runs: the same file each time, or other noise.
struct Volumes<'a> {
    file: Option<&'a Path>,
    shape: [usize; 3],
    /// Seconds that reading the file took, each time.
    reads: Vec<f64>,
}

impl<'a> Volumes<'a> {
    fn new(args: &'a BenchArgs, shape: [usize; 3]) -> Self {
        Self { file: args.volume.as_deref(), shape, reads: Vec::new() }
    }

    /// A volume, and the moment at which the work on it began: reading a file is a part of it.
    fn next(&mut self, run: usize) -> Result<(Volume, Instant)> {
        let Some(path) = self.file else {
            return Ok((noise(self.shape, run as u64)?, Instant::now()));
        };
        let start = Instant::now();
        let volume = read(path, &ReadOptions::default())?.volume;
        self.reads.push(start.elapsed().as_secs_f64());
        Ok((volume, start))
    }

    /// The median; absent without a file.
    fn read_s(&self) -> Option<f64> {
        median(self.reads.clone())
    }
}

fn print(args: &BenchArgs, figures: &impl Serialize, markdown: &str) -> Result<Exit> {
    let text = match args.output {
        BenchFormat::Json => serde_json::to_string_pretty(figures)? + "\n",
        BenchFormat::Md => markdown.to_string(),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(Exit::Answered)
}

/// A table of stages and their times, under a line that says what was measured: model, device, dtype
/// and runs.
fn table(
    (model, device, dtype, runs): (&str, &str, &str, usize),
    rows: &[(String, String)],
) -> String {
    let threads = rayon::current_num_threads();
    let mut text = format!(
        "{model} on {device} ({dtype}), {threads} threads, median of {runs}\n\n| stage | time |\n|---|---|\n",
    );
    for (stage, time) in rows {
        text.push_str(&format!("| {stage} | {time} |\n"));
    }
    text
}

/// A time, in the unit that reads best.
fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 0.01 => format!("{:.2} ms", s * 1e3),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

fn median(mut of: Vec<f64>) -> Option<f64> {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied()
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
