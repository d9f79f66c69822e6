//! VISTA3D, timed: everything in a window, further classes, and a click.

use std::time::Instant;

use anyhow::Result;
use r1seg::{AutomaticModel, EncodeOptions, Outcome, Prompt, PromptKind, PromptPoint, RunContext};
use serde::Serialize;

use super::clicks::placed;
use super::{Bench, Common, median, row, stage};
use crate::exit::Exit;

#[derive(Debug, Serialize)]
struct Figures {
    #[serde(flatten)]
    common: Common,
    /// Classes that are scored together
    classes: usize,
    /// Windows over the volume
    windows: usize,
    /// Resampling the volume to the model's spacing
    prepare_s: f64,
    /// The encoder, a decoder and the convolutions of the class head, over all windows
    vit_s: f64,
    /// Scoring all classes
    mask_s: f64,
    /// Labels to the input's grid
    postprocess_s: f64,
    /// From the volume, or its file, to all masks; load excluded
    everything_s: f64,
    /// A further class, whose features are known where these are kept
    class_s: f64,
    /// A first click, with its window
    click_s: Option<f64>,
    /// A further click into the same window
    second_click_s: Option<f64>,
}

pub(super) fn run(bench: &mut Bench<'_>, model: &AutomaticModel) -> Result<Exit> {
    let cancel = bench.cancel.clone();
    let everything: Vec<Prompt> =
        model.config().everything.iter().map(|id| Prompt::of_text(id.to_string())).collect();
    let (mut stages, mut all) = (Vec::new(), Vec::new());
    let (mut class, mut click, mut second) = (Vec::new(), Vec::new(), Vec::new());
    let mut windows = 0;
    for run in 0..bench.args.runs {
        let (volume, start) = bench.volumes.next(run)?;
        let volume = placed(volume)?;
        let mut context = RunContext::from(&cancel);
        let encoded = model.encode_with(&volume, &EncodeOptions::default(), &mut context)?;
        let mut on_outcome = |index: usize, outcome: Outcome| {
            if index == 0 {
                windows = outcome.windows;
                stages.push(outcome.timings);
            }
            Ok::<(), r1seg::Error>(())
        };
        encoded.segment_each(&everything, &mut context, &mut on_outcome)?;
        all.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        encoded.segment_with("liver", &mut context)?;
        class.push(start.elapsed().as_secs_f64());
        let mut session = encoded.session();
        let middle = volume.shape().map(|n| n / 2);
        // Some were trained for classes alone.
        let takes_points = model.capabilities().takes(PromptKind::Points);
        for times in [&mut click, &mut second].into_iter().filter(|_| takes_points) {
            let start = Instant::now();
            session.click(PromptPoint::positive(middle), &mut context)?;
            times.push(start.elapsed().as_secs_f64());
        }
    }
    let figures = Figures {
        common: bench.common(model),
        classes: everything.len(),
        windows,
        prepare_s: stage(&stages, |t| t.preprocess),
        vit_s: stage(&stages, |t| t.vit),
        mask_s: stage(&stages, |t| t.mask),
        postprocess_s: stage(&stages, |t| t.postprocess),
        everything_s: median(all).unwrap_or_default(),
        class_s: median(class).unwrap_or_default(),
        click_s: median(click),
        second_click_s: median(second),
    };
    let clicks = [("a click", figures.click_s), ("the same click again", figures.second_click_s)];
    let clicks = clicks.into_iter().filter_map(|(name, time)| Some(row(name, time?)));
    let mut rows = vec![
        row("prepare the volume", figures.prepare_s),
        row(&format!("features of {windows} windows"), figures.vit_s),
        row(&format!("scores of {} classes", figures.classes), figures.mask_s),
        row("labels on the input's grid", figures.postprocess_s),
        row("everything", figures.everything_s),
        row("a further class", figures.class_s),
    ];
    rows.extend(clicks);
    bench.print(&figures, &figures.common, rows)
}
