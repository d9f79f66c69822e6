//! `--truth`: the clicks of SAM-Med3D's evaluation, simulated from a true segmentation.

use anyhow::Result;
use r1seg::phantom::dice;
use r1seg::simulate::RandomState;
use r1seg::volume::LabelMap;
use r1seg::{InferenceMode, Prompt, PromptKind, PromptableConfig, RunContext};
use r1seg_results::Findings;
use r1seg_results::report::Prompted;

use super::Segmenting;
use crate::args::{ClickArgs, SegmentArgs};
use crate::exit::CliError;
use crate::progress::Progress;

/// Whether a model can be evaluated so. Returns the mode in which it is.
pub(super) fn check(args: &SegmentArgs, config: &PromptableConfig) -> Result<InferenceMode> {
    let known = config.family.capabilities();
    if args.clicks.clicks == 0 {
        return Err(CliError::usage("--clicks 0 asks for nothing", "give 1 or more"));
    }
    let crops = [InferenceMode::Crop, InferenceMode::Grow];
    let mode = args.mode.or(known.default_mode()).unwrap_or(InferenceMode::Resize);
    if !known.takes(PromptKind::Points) || !crops.contains(&mode) || !known.modes.contains(&mode) {
        return Err(CliError::usage(
            format!(
                "--truth simulates clicks in crops, as {} does not take them",
                config.family.name()
            ),
            "use it with SAM-Med3D or NeuroSAM3D, in mode crop or grow",
        ));
    }
    Ok(mode)
}

impl Segmenting<'_> {
    /// What each label of the truth got, and its Dice in words.
    pub(super) fn simulated(
        &self,
        truth: &LabelMap,
        args: &ClickArgs,
        findings: &mut Findings,
    ) -> Result<(Vec<Prompted>, Vec<String>)> {
        let progress = Progress::new(self.job.output.quiet);
        let mut random = RandomState::new(args.seed);
        let (mut prompted, mut scores) = (Vec::new(), Vec::new());
        let labels: Vec<u16> = (1..=u16::MAX).take(truth.len()).collect();
        if labels.is_empty() {
            let what = "the truth has no label: all of its voxels are 0";
            return Err(CliError::usage(what, "give a segmentation with something in it"));
        }
        for label in labels {
            let name = format!("label {label}");
            if truth.voxels(label) == 0 {
                // The mask keeps the numbers of the truth.
                findings.push(self.job.label(usize::from(label) - 1, &name), None, Vec::new())?;
                prompted.push(Prompted::without_mask(name, Prompt::default()));
                scores.push("not in the truth".to_string());
                continue;
            }
            progress.stage(format!("{name} of {}: simulating clicks", truth.len()));
            let own = truth.label_mask(label);
            let mut run = RunContext::from(self.cancel);
            let clicks = usize::from(args.clicks);
            let found = self.encoded.simulate_clicks(&own, clicks, &mut random, &mut run)?;
            let mask = found.outcome.mask.as_ref();
            let dice = mask.and_then(|mask| dice(mask.data(), own.data())).unwrap_or(0.0);
            let (got, mask) = Prompted::new(name, found.prompt, found.outcome);
            let name = self.job.label(usize::from(label) - 1, &got.name);
            findings.push(name, mask.as_ref(), Vec::new())?;
            prompted.push(got);
            scores.push(format!("Dice {dice:.4} after {clicks} clicks"));
        }
        progress.clear();
        Ok((prompted, scores))
    }
}
