//! SAM-Med3D and NeuroSAM3D, timed: a crop is encoded, and clicked in.

use std::time::Instant;

use anyhow::Result;
use r1seg::volume::{Geometry, Volume};
use r1seg::{EncodeOptions, Preprocess, PromptPoint, PromptableModel, RunContext};
use serde::Serialize;

use super::{Bench, Common, median, row, stage};
use crate::exit::Exit;

/// Clicks behind the first one, a median of which is shown.
const FURTHER: usize = 4;

#[derive(Debug, Serialize)]
struct Figures {
    #[serde(flatten)]
    common: Common,
    /// Resampling the volume to the model's spacing, where it has one
    prepare_s: f64,
    /// The encoder, once over a crop
    vit_s: f64,
    /// A pass of the mask decoder
    mask_s: f64,
    /// Logits to a mask on the input's grid
    postprocess_s: f64,
    /// From the volume, or its file, to the mask of a first click; load excluded
    first_mask_s: f64,
    /// A further click, from the point to the mask
    click_s: f64,
}

pub(super) fn run(bench: &mut Bench<'_>, model: &PromptableModel) -> Result<Exit> {
    let cancel = bench.cancel.clone();
    let (mut stages, mut first, mut further) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..bench.args.runs {
        let (volume, start) = bench.volumes.next(run)?;
        let volume = placed(volume)?;
        let mut context = RunContext::from(&cancel);
        let options = EncodeOptions::default().with_preprocess(Preprocess::Auto);
        let encoded = model.encode_with(&volume, &options, &mut context)?;
        let mut session = encoded.session();
        let middle = volume.shape().map(|n| n / 2);
        stages.push(session.click(PromptPoint::positive(middle), &mut context)?.timings);
        first.push(start.elapsed().as_secs_f64());
        for n in 1..=FURTHER {
            let start = Instant::now();
            let point =
                PromptPoint { voxel: middle.map(|at| at - n.min(at)), positive: n % 2 == 0 };
            session.click(point, &mut context)?;
            further.push(start.elapsed().as_secs_f64());
        }
    }
    let figures = Figures {
        common: bench.common(model),
        prepare_s: stage(&stages, |t| t.preprocess),
        vit_s: stage(&stages, |t| t.vit),
        mask_s: stage(&stages, |t| t.mask),
        postprocess_s: stage(&stages, |t| t.postprocess),
        first_mask_s: median(first).unwrap_or_default(),
        click_s: median(further).unwrap_or_default(),
    };
    let rows = vec![
        row("resampling", figures.prepare_s),
        row("encoder", figures.vit_s),
        row("mask", figures.mask_s),
        row("mask on the input's grid", figures.postprocess_s),
        row("first click", figures.first_mask_s),
        row("further click", figures.click_s),
    ];
    bench.print(&figures, &figures.common, rows)
}

/// Voxels of 1.5 mm, where the volume has no size of its own: the models need one.
pub(super) fn placed(volume: Volume) -> Result<Volume> {
    if volume.geometry().spacing_mm().is_some() {
        return Ok(volume);
    }
    let geometry = Geometry::with_spacing(volume.shape(), [1.5; 3])?;
    Ok(Volume::new(volume.voxels().to_f32().into_owned(), geometry)?)
}
