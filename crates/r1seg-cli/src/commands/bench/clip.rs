//! M3D-CLIP, timed: the embeddings of a volume and of a text.

use std::time::Instant;

use anyhow::Result;
use r1seg::{CancelToken, CheckpointSource, EmbedOptions, M3dClip, Preprocess, Recipe, RunContext};
use r1seg_results::peak_rss_bytes;
use serde::Serialize;

use super::{Volumes, median, print, seconds, table};
use crate::args::BenchArgs;
use crate::exit::Exit;
use crate::study::{self, ModelName};

const TEXT: &str = "A cyst in the left kidney.";

#[derive(Debug, Serialize)]
struct Bench {
    model: String,
    device: String,
    dtype: &'static str,
    threads: usize,
    runs: usize,
    load_s: f64,
    weights_gb: f64,
    /// Reading the volume from a file, where one was named
    read_s: Option<f64>,
    /// From the volume in memory to its vector: preparing it, and the vision transformer
    volume_embedding_s: f64,
    text_embedding_s: f64,
    peak_rss_gib: Option<f64>,
}

pub(super) fn run(
    args: &BenchArgs,
    source: &CheckpointSource,
    name: ModelName,
    cancel: &CancelToken,
) -> Result<Exit> {
    let model =
        M3dClip::open(source, &study::load_options(&args.model, 0).with_cancel(cancel.clone()))?;
    study::announce_on(&model.device_name(), model.dtype_name(), &name.id, model.device_fallback());
    let text = args.prompt.as_deref().unwrap_or(TEXT);
    let options = EmbedOptions::default().with_preprocess(Preprocess::Recipe(Recipe::None));
    let mut context = RunContext::from(cancel);
    let (mut volume_times, mut text_times) = (Vec::new(), Vec::new());
    let mut volumes = Volumes::new(args, model.config().vit.image_size);
    for run in 0..args.runs {
        let (volume, _) = volumes.next(run)?;
        let start = Instant::now();
        model.embed_volume_with(&volume, &options, &mut context)?;
        volume_times.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        model.embed_text_with(text, &mut context)?;
        text_times.push(start.elapsed().as_secs_f64());
    }
    let bench = Bench {
        model: name.id,
        device: model.device_name(),
        dtype: model.dtype_name(),
        threads: rayon::current_num_threads(),
        runs: args.runs,
        load_s: model.load_time().as_secs_f64(),
        weights_gb: model.load_report().bytes as f64 / 1e9,
        read_s: volumes.read_s(),
        volume_embedding_s: median(volume_times).unwrap_or_default(),
        text_embedding_s: median(text_times).unwrap_or_default(),
        peak_rss_gib: peak_rss_bytes().map(|b| b as f64 / (1u64 << 30) as f64),
    };
    print(args, &bench, &markdown(&bench))
}

fn markdown(b: &Bench) -> String {
    let row = |stage: &str, time: f64| (stage.to_string(), seconds(time));
    let mut rows =
        vec![("load".to_string(), format!("{} ({:.2} GB)", seconds(b.load_s), b.weights_gb))];
    rows.extend(b.read_s.map(|time| row("read the volume", time)));
    rows.push(row("volume embedding", b.volume_embedding_s));
    rows.push(row("text embedding", b.text_embedding_s));
    rows.extend(b.peak_rss_gib.map(|gib| ("peak memory".to_string(), format!("{gib:.2} GiB"))));
    table((&b.model, &b.device, b.dtype, b.runs), &rows)
}
