//! `--truth`: the clicks of SAM-Med3D's evaluation, simulated from a true segmentation.

use anyhow::Result;
use r1seg::phantom::dice;
use r1seg::registry::Family;
use r1seg::simulate::RandomState;
use r1seg::volume::{LabelMap, Mask};
use r1seg::{InferenceMode, PromptKind, RunContext};
use r1seg_results::{Asked, Obtained};

use super::Segmenting;
use crate::args::{ClickArgs, SegmentArgs};
use crate::exit::CliError;
use crate::progress::Progress;

/// Whether a model can be evaluated so. Returns the mode in which it is.
pub(super) fn check(args: &SegmentArgs, family: Family) -> Result<InferenceMode> {
    let known = family.capabilities();
    if args.clicks.clicks == 0 {
        return Err(CliError::usage("--clicks 0 asks for nothing", "give 1 or more"));
    }
    let mode = family.mode(args.mode)?;
    family.preprocess(args.prepare.preprocess)?;
    let looks_at_crops = matches!(mode, InferenceMode::Crop | InferenceMode::Grow);
    if !known.takes(PromptKind::Points) || !looks_at_crops {
        return Err(CliError::usage(
            format!("--truth simulates clicks in crops, which {} does not take", family.name()),
            "use it with SAM-Med3D or NeuroSAM3D, in mode crop or grow",
        ));
    }
    Ok(mode)
}

/// The labels that a truth has, in ascending order.
pub(super) fn labels(truth: &LabelMap) -> Result<Vec<u16>> {
    let labels = (1..=u16::MAX).take(truth.len()).filter(|label| truth.voxels(*label) > 0);
    let labels: Vec<u16> = labels.collect();
    if labels.is_empty() {
        let what = "the truth has no label: all of its voxels are 0";
        return Err(CliError::usage(what, "give a segmentation with something in it"));
    }
    Ok(labels)
}

impl Segmenting<'_> {
    /// What each label of the truth got, and its Dice in words. Label K of the masks is the K-th of the
    /// truth.
    pub(super) fn simulated(
        &self,
        truth: &LabelMap,
        args: &ClickArgs,
    ) -> Result<(Obtained, Vec<String>)> {
        let progress = Progress::new(self.job.output.quiet);
        let mut random = RandomState::new(args.seed);
        let (mut simulated, mut scores) = (Vec::new(), Vec::new());
        let mut found = LabelMap::new(truth.geometry().clone());
        let labels = labels(truth)?;
        for (index, label) in labels.iter().enumerate() {
            let name = format!("label {label}");
            progress.stage(format!("{name}, {} of {}: simulating clicks", index + 1, labels.len()));
            let own = truth.label_mask(*label);
            let mut run = RunContext::from(self.cancel);
            let clicks = usize::from(args.clicks);
            let of = self.encoded.simulate_clicks(&own, clicks, &mut random, &mut run)?;
            let mut outcome = of.outcome;
            match outcome.mask.take() {
                Some(mask) => found.push(&mask)?,
                None => found.push_empty()?,
            };
            simulated.push((Asked::new(self.job.label(index, &name), of.prompt), outcome));
        }
        progress.clear();
        let mut obtained = Obtained::new(truth.geometry());
        for (index, (label, (asked, mut outcome))) in labels.iter().zip(simulated).enumerate() {
            // As in the authors' file, a voxel that several labels claim is the last one's.
            let is_own = |shown: &u16| u8::from(usize::from(*shown) == index + 1);
            let shown: Vec<u8> = found.labels().iter().map(is_own).collect();
            let mask = Mask::new(shown, truth.geometry().clone())?;
            let score = dice(mask.data(), truth.label_mask(*label).data()).unwrap_or(0.0);
            outcome.mask = Some(mask);
            obtained.push(asked, outcome)?;
            let clicks = match args.clicks {
                1 => "1 click".to_string(),
                clicks => format!("{clicks} clicks"),
            };
            scores.push(format!("Dice {score:.4} after {clicks}"));
        }
        Ok((obtained, scores))
    }
}
