//! A volume that was prepared for a promptable model, and what prompts find in it.

use std::sync::OnceLock;
use std::time::Instant;

use candle_core::Tensor;
use r1seg_volume::{Mask, Region, Warning};

use super::clicks::Clicked;
use super::crops::Crops;
use super::evaluation::Simulated;
use super::simulate::RandomState;
use super::whole::Whole;
use crate::encoded::{Answering, Setup};
use crate::handle::Encodes;
use crate::preprocess::Preparation;
use crate::{
    EncodeOptions, Error, Event, InferenceMode, Outcome, Prompt, PromptableConfig, PromptableModel,
    RunContext, Timings, Trace,
};

/// A volume that was prepared for prompts.
///
/// In the modes that start with the whole volume, the vision transformer encodes that once, and crops are
/// encoded once as well; windows are encoded for each prompt.
#[derive(Debug)]
pub(crate) struct PromptableVolume {
    pub(super) model: PromptableModel,
    pub(crate) setup: Setup,
    pub(super) prepared: Preparation,
    pub(super) whole: OnceLock<Whole>,
    pub(super) crops: Crops,
}

impl Encodes for PromptableConfig {
    type Volume = PromptableVolume;

    fn encode(
        model: PromptableModel,
        (setup, prepared): (Setup, Preparation),
        _options: &EncodeOptions,
        _run: &mut RunContext<'_>,
    ) -> Result<PromptableVolume, Error> {
        let (whole, crops) = (OnceLock::new(), Crops::default());
        Ok(PromptableVolume { model, setup, prepared, whole, crops })
    }
}

impl PromptableVolume {
    /// Whether it looks at crops around a target.
    pub(super) fn looks_at_crops(&self) -> bool {
        matches!(self.setup.mode, InferenceMode::Crop | InferenceMode::Grow)
    }

    /// Whether crops follow a mask beyond their edges.
    pub(super) fn is_growing(&self) -> bool {
        self.setup.mode == InferenceMode::Grow
    }
}

impl Answering for PromptableVolume {
    fn setup(&self) -> &Setup {
        &self.setup
    }

    fn encode_ahead(&self, run: &mut RunContext<'_>) -> Result<(), Error> {
        self.encode_whole(run)
    }

    fn segment_from(
        &self,
        prompt: &Prompt,
        from: Option<&Clicked>,
        context: &mut RunContext<'_>,
    ) -> Result<(Outcome, Option<Clicked>), Error> {
        context.emit(Event::Prompt { prompt: 0 });
        let mode = self.setup.mode;
        prompt.check(self.model.family(), mode)?;
        prompt.check_in(&self.setup.geometry)?;
        let mut run = PromptRun::new(self, context);
        run.encode_text(prompt.text.as_deref())?;
        let (found, clicked) = match mode {
            InferenceMode::Crop | InferenceMode::Grow => {
                let (found, clicked) = run.segment_in_crops(prompt, from)?;
                (found, Some(clicked))
            }
            InferenceMode::Resize | InferenceMode::Sliding | InferenceMode::Zoom => {
                (run.segment_on_grid(prompt, mode)?, None)
            }
        };
        Ok((run.outcome(found)?, clicked))
    }

    fn simulate_clicks(
        &self,
        truth: &Mask,
        clicks: usize,
        random: &mut RandomState,
        context: &mut RunContext<'_>,
    ) -> Result<Simulated, Error> {
        self.evaluate(truth, clicks, random, context)
    }
}

/// One prompt on its way.
pub(super) struct PromptRun<'s, 'c> {
    pub(super) volume: &'s PromptableVolume,
    pub(super) timings: Timings,
    pub(super) trace: Option<Trace>,
    /// `[1, E]`
    pub(super) text: Option<Tensor>,
    pub(super) context: &'s mut RunContext<'c>,
}

/// What a prompt found.
pub(super) struct Found {
    /// On the grid of the input.
    pub(super) mask: Vec<u8>,
    /// Passes of the encoder that it rests on.
    pub(super) windows: usize,
    pub(super) zoomed: Option<Region>,
    pub(super) warnings: Vec<Warning>,
}

impl<'s, 'c> PromptRun<'s, 'c> {
    pub(super) fn new(volume: &'s PromptableVolume, context: &'s mut RunContext<'c>) -> Self {
        let (timings, trace) = (volume.setup.timings(), volume.setup.trace());
        Self { volume, timings, trace, text: None, context }
    }

    pub(super) fn outcome(self, found: Found) -> Result<Outcome, Error> {
        let mask = Mask::new(found.mask, self.volume.setup.geometry.clone())?;
        Ok(Outcome {
            zoomed: found.zoomed,
            warnings: found.warnings,
            trace: self.trace,
            ..Outcome::segmented(mask, found.windows, self.timings)
        })
    }

    fn encode_text(&mut self, text: Option<&str>) -> Result<(), Error> {
        let Some(text) = text else { return Ok(()) };
        let start = Instant::now();
        let mut probe = self.context.probe(self.trace.as_mut());
        self.text = Some(self.volume.model.encode_text(text, &mut probe)?);
        self.timings.text = start.elapsed();
        Ok(())
    }
}
