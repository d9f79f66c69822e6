//! A volume that was prepared for a promptable model, and what prompts find in it.

use std::sync::OnceLock;
use std::time::Instant;

use candle_core::Tensor;
use r1seg_volume::{Mask, Region, Volume, Warning};

use super::clicks::Clicked;
use super::crops::Crops;
use super::whole::Whole;
use crate::encoded::Setup;
use crate::preprocess::{Preparation, prepare};
use crate::{
    EncodeOptions, Error, InferenceMode, Outcome, Prompt, PromptableModel, RunContext, Timings,
    Trace,
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
    pub(super) trace: bool,
    pub(super) whole: OnceLock<Whole>,
    pub(super) crops: Crops,
}

impl PromptableVolume {
    pub(super) fn new(
        model: PromptableModel,
        volume: &Volume,
        options: &EncodeOptions,
    ) -> Result<Self, Error> {
        let start = Instant::now();
        let mode = model.family().mode(options.mode)?;
        let preprocess = model.family().preprocess(options.preprocess)?;
        let prepared = prepare(volume, preprocess, options.orient, None)?;
        let mut setup = Setup::new(volume, &prepared, mode, model.input_shape());
        setup.preprocess = start.elapsed();
        Ok(Self {
            model,
            setup,
            prepared,
            trace: options.trace,
            whole: OnceLock::new(),
            crops: Crops::default(),
        })
    }

    /// What messages call the model.
    pub(crate) fn model_name(&self) -> &'static str {
        self.model.family().name()
    }

    /// Whether it looks at crops around a target.
    pub(super) fn looks_at_crops(&self) -> bool {
        matches!(self.setup.mode, InferenceMode::Crop | InferenceMode::Grow)
    }

    /// Whether crops follow a mask beyond their edges.
    pub(super) fn is_growing(&self) -> bool {
        self.setup.mode == InferenceMode::Grow
    }

    /// As [`EncodedVolume::segment_with`](crate::EncodedVolume::segment_with). In modes that look at
    /// crops, `from` is what earlier points of the same target came to, and what all of them came to is
    /// returned as well.
    pub(crate) fn segment(
        &self,
        prompt: &Prompt,
        from: Option<&Clicked>,
        context: &mut RunContext<'_>,
    ) -> Result<(Outcome, Option<Clicked>), Error> {
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
        let preprocess = volume.setup.preprocess;
        Self {
            volume,
            timings: Timings { preprocess, ..Timings::default() },
            trace: volume.trace.then(Trace::default),
            text: None,
            context,
        }
    }

    pub(super) fn outcome(self, found: Found) -> Result<Outcome, Error> {
        Ok(Outcome {
            text: String::new(),
            token_ids: Vec::new(),
            prompt_tokens: 0,
            finish_reason: None,
            seg: Vec::new(),
            mask: Some(Mask::new(found.mask, self.volume.setup.geometry.clone())?),
            label: None,
            boxes: Vec::new(),
            windows: found.windows,
            window_answers: Vec::new(),
            zoomed: found.zoomed,
            warnings: found.warnings,
            timings: self.timings,
            trace: self.trace,
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
