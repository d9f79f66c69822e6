//! M3D-CLIP and HSENet-CLIP, timed: the embeddings of a volume and of a text.

use std::time::Instant;

use anyhow::Result;
use r1seg::{M3dClip, RunContext};
use serde::Serialize;

use super::{Bench, Common, median, row};
use crate::exit::Exit;

const TEXT: &str = "A cyst in the left kidney.";

#[derive(Debug, Serialize)]
struct Figures {
    #[serde(flatten)]
    common: Common,
    /// From the volume in memory to its vector: preparing it, and the vision transformer
    volume_embedding_s: f64,
    text_embedding_s: f64,
}

pub(super) fn run(bench: &mut Bench<'_>, model: &M3dClip) -> Result<Exit> {
    let text = bench.args.prompt.as_deref().unwrap_or(TEXT);
    let options = super::as_it_is(model);
    let cancel = bench.cancel.clone();
    let mut context = RunContext::from(&cancel);
    let (mut volume_times, mut text_times) = (Vec::new(), Vec::new());
    for run in 0..bench.args.runs {
        let (volume, _) = bench.volumes.next(run)?;
        let start = Instant::now();
        model.embed_volume_with(&volume, &options, &mut context)?;
        volume_times.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        model.embed_text_with(text, &mut context)?;
        text_times.push(start.elapsed().as_secs_f64());
    }
    let figures = Figures {
        common: bench.common(model),
        volume_embedding_s: median(volume_times).unwrap_or_default(),
        text_embedding_s: median(text_times).unwrap_or_default(),
    };
    let rows = vec![
        row("volume embedding", figures.volume_embedding_s),
        row("text embedding", figures.text_embedding_s),
    ];
    bench.print(&figures, &figures.common, rows)
}
