//! The part of a report that is about a model which drew masks again.

use serde::Serialize;

use super::prompts::PromptReport;
use super::{MaskReport, Model, ijk, ms};
use crate::{Refined, Refinement};

/// What a further model did with what the model of the report found.
#[derive(Debug, Serialize)]
pub(super) struct RefinedReport {
    model: Model,
    device: String,
    cpu_kernels: Option<&'static str>,
    preprocess: String,
    mode: String,
    effective_resolution_mm: Option<[f64; 3]>,
    refinements: Vec<RefinementReport>,
    timings_ms: RefinedTimings,
}

#[derive(Debug, Serialize)]
struct RefinementReport {
    /// The label that was drawn again.
    refines: u16,
    #[serde(flatten)]
    prompt: PromptReport,
    /// Whether the mask itself was a part of the prompt.
    mask_prompt: bool,
    #[serde(skip)]
    label: u16,
}

#[derive(Debug, Serialize)]
struct RefinedTimings {
    load: f64,
    refine: f64,
}

impl RefinedReport {
    pub(super) fn new(of: &Refined) -> Self {
        let preparation = &of.preparation;
        let refinement = |of: &Refinement| RefinementReport {
            refines: of.refines,
            prompt: PromptReport::new(&of.given),
            mask_prompt: of.given.asked.prompt.mask.is_some(),
            label: of.label,
        };
        let total = of.refinements.iter().map(|of| of.given.outcome.timings.total()).sum();
        Self {
            model: of.model.clone(),
            device: of.device.clone(),
            cpu_kernels: of.cpu_kernels,
            preprocess: preparation.recipe.clone(),
            mode: preparation.mode.clone(),
            effective_resolution_mm: preparation.effective_resolution_mm.map(ijk),
            refinements: of.refinements.iter().map(refinement).collect(),
            timings_ms: RefinedTimings { load: ms(of.load), refine: ms(total) },
        }
    }

    /// Notes the label of a mask that this model drew, and returns the model's id.
    pub(super) fn add(&mut self, mask: &MaskReport) -> Option<String> {
        let own = self.refinements.iter_mut().find(|of| of.label == mask.label)?;
        own.prompt.labels.push(mask.label);
        Some(self.model.id.clone())
    }
}
