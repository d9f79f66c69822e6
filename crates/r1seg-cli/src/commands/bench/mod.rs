//! `r1seg bench`: every stage of a model, timed. A file for each kind of model.

mod automatic;
mod clicks;
mod clip;
mod language;
mod promptable;

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use r1seg::volume::{Geometry, ReadOptions, Volume, read};
use r1seg::{
    CancelToken, Capabilities, EncodeOptions, LoadedModel, Model, OutputKind, Preprocess,
    PromptKind, Recipe,
};
use r1seg_results::peak_rss_bytes;
use serde::Serialize;

use crate::args::{BenchArgs, BenchFormat};
use crate::exit::{CliError, Exit};
use crate::model;

pub(crate) fn run(args: &BenchArgs, cancel: CancelToken) -> Result<Exit> {
    if args.runs == 0 {
        return Err(CliError::usage("a benchmark needs at least 1 run", "use --runs 3"));
    }
    let (source, name) = model::source(&args.model)?;
    check(args, source.family()?.capabilities())?;
    model::verify(&args.model, &cancel)?;
    let options = model::refined(model::load_options(&args.model.load, 0), &args.refine);
    let options = model::drafting(options, args.drafts);
    let options = options.with_questions(args.questions.unwrap_or(1)).with_cancel(cancel.clone());
    let model = r1seg::load(source, &options)?;
    model::announce(&model, &name.id);
    let mut bench =
        Bench { args, cancel, model: name.id, volumes: Volumes::new(args, model.input_shape()) };
    match &model {
        Model::Language(model) => language::run(&mut bench, model),
        Model::Promptable(model) if !model.capabilities().takes(PromptKind::Text) => {
            clicks::run(&mut bench, model)
        }
        Model::Promptable(model) => promptable::run(&mut bench, model),
        Model::Automatic(model) => automatic::run(&mut bench, model),
        Model::Retrieval(model) => clip::run(&mut bench, model),
    }
}

/// Flags that mean nothing for a model are refused by name, before it is loaded.
fn check(args: &BenchArgs, capabilities: &Capabilities) -> Result<()> {
    let answers = capabilities.takes(PromptKind::Question);
    let language = ("language model", answers);
    let masks = ("mask decoder", capabilities.gives(OutputKind::Mask));
    for (flag, given, (part, there)) in [
        ("--tokens", args.tokens.is_some(), language),
        ("--seg-step", args.seg_step.is_some(), if answers { masks } else { language }),
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
    if answers { language::Length::of(args).map(drop) } else { Ok(()) }
}

/// A benchmark of a loaded model.
struct Bench<'a> {
    args: &'a BenchArgs,
    cancel: CancelToken,
    model: String,
    volumes: Volumes<'a>,
}

/// What is measured of every model.
#[derive(Debug, Serialize)]
struct Common {
    model: String,
    device: String,
    /// The instruction set of the kernels, on a CPU
    cpu_kernels: Option<&'static str>,
    dtype: &'static str,
    threads: usize,
    runs: usize,
    load_s: f64,
    weights_gb: f64,
    /// Reading the volume from a file, where one was named
    read_s: Option<f64>,
    peak_rss_gib: Option<f64>,
}

impl Bench<'_> {
    /// To be called before measuring takes memory of its own.
    fn common(&self, model: &LoadedModel) -> Common {
        Common {
            model: self.model.clone(),
            device: model.device_name(),
            cpu_kernels: model.cpu_kernels(),
            dtype: model.dtype_name(),
            threads: rayon::current_num_threads(),
            runs: self.args.runs,
            load_s: model.load_time().as_secs_f64(),
            weights_gb: model.load_report().bytes as f64 / 1e9,
            read_s: self.volumes.read_s(),
            peak_rss_gib: peak_rss_bytes().map(|b| b as f64 / (1u64 << 30) as f64),
        }
    }

    /// Prints `figures`, or the stages of their table.
    fn print(&self, figures: &impl Serialize, common: &Common, stages: Rows) -> Result<Exit> {
        let text = match self.args.output {
            BenchFormat::Json => serde_json::to_string_pretty(figures)? + "\n",
            BenchFormat::Md => common.table(stages),
        };
        std::io::stdout().write_all(text.as_bytes())?;
        Ok(Exit::Answered)
    }
}

/// Stages and their times.
type Rows = Vec<(String, String)>;

fn row(stage: &str, time: f64) -> (String, String) {
    (stage.to_string(), seconds(time))
}

impl Common {
    /// The stages, between those that every model has, under a line that says what was measured.
    fn table(&self, stages: Rows) -> String {
        let Self { model, device, dtype, threads, runs, .. } = self;
        let kernels = self.cpu_kernels.map(|isa| format!(", {isa} kernels")).unwrap_or_default();
        let mut text = format!(
            "{model} on {device} ({dtype}{kernels}), {threads} threads, median of {runs}\n\n| stage | time |\n|---|---|\n",
        );
        let load = format!("{} ({:.2} GB)", seconds(self.load_s), self.weights_gb);
        let read = self.read_s.map(|time| row("read the volume", time));
        let peak =
            self.peak_rss_gib.map(|gib| ("peak memory".to_string(), format!("{gib:.2} GiB")));
        let before = [("load".to_string(), load)].into_iter().chain(read);
        for (stage, time) in before.chain(stages).chain(peak) {
            text.push_str(&format!("| {stage} | {time} |\n"));
        }
        text
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

/// A time, in the unit that reads best.
fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 0.01 => format!("{:.2} ms", s * 1e3),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

/// The median in seconds of a stage of several runs.
fn stage<T>(of: &[T], time: fn(&T) -> Duration) -> f64 {
    median(of.iter().map(|t| time(t).as_secs_f64()).collect()).unwrap_or_default()
}

fn median(mut of: Vec<f64>) -> Option<f64> {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied()
}

/// How a volume of noise is given: as it is, or where slices are cut out of it as the model wants it.
fn as_it_is(model: &LoadedModel) -> EncodeOptions {
    match model.slices() {
        Some(_) => EncodeOptions::default(),
        None => EncodeOptions::default().with_preprocess(Preprocess::Recipe(Recipe::None)),
    }
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
    // Voxels of the size that HSENet resamples to.
    Ok(Volume::new(voxels, Geometry::with_spacing(shape, [1.5, 0.75, 0.75])?)?)
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
