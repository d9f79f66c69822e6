//! Reason, then refine: what one model found becomes the prompt of another one, which draws it again at
//! its own resolution. Both masks are kept.
//!
//! [`refining_mode`] says, before anything is read, whether a model can do that, and
//! [`refining_prompt`] is the rule. [`Obtained::refinable`] are the labels where the first model found
//! something; where there are none, no second model need be loaded. [`Obtained::refine`] runs it.

mod rule;

use std::time::Duration;

use r1seg::registry::Family;
use r1seg::volume::Warning;
use r1seg::{
    CancelToken, CheckpointSource, EncodedVolume, Event, MaskStatus, Model, Prompt, RunContext,
    terms,
};

use crate::findings::{one_line, short};
use crate::report::{self, Preparation};
use crate::{Asked, Error, Findings, Given, Obtained};

pub use rule::{FoundAt, Second, refining_mode, refining_prompt};

/// A model that refines what another one found, with the volume that it has encoded.
#[derive(Debug)]
pub struct Refiner<'a> {
    /// The model.
    pub model: &'a Model,
    /// Where it was loaded from.
    pub source: &'a CheckpointSource,
    /// The same volume.
    pub encoded: &'a EncodedVolume,
}

/// What a model drew again.
#[derive(Debug, Clone)]
pub struct Refined {
    /// The model.
    pub model: report::Model,
    /// Where it computed.
    pub device: String,
    /// The instruction set of the kernels, where that is a CPU.
    pub cpu_kernels: Option<&'static str>,
    /// How long loading it took.
    pub load: Duration,
    /// How the volume was prepared for it.
    pub preparation: Preparation,
    /// Each mask that it drew.
    pub refinements: Vec<Refinement>,
    /// Names of labels that it was not asked to draw: it knows classes alone, and none was named.
    pub left_out: Vec<String>,
}

/// A label that was drawn again.
#[derive(Debug, Clone)]
pub struct Refinement {
    /// The label.
    pub refines: u16,
    /// That of the new mask.
    pub label: u16,
    /// What the model was prompted with, and what it gave.
    pub given: Given,
}

impl Obtained {
    /// The labels of prompts that got a mask with voxels, or a box in the answer.
    pub fn refinable(&self) -> Vec<u16> {
        let has_place = |finding: &crate::Finding| {
            finding.refines.is_none()
                && (finding.status == MaskStatus::Found || !finding.boxes.is_empty())
        };
        let labels = self.findings.numbered().filter(|(_, finding)| has_place(finding));
        labels.map(|(label, _)| label).collect()
    }

    /// Prompts another model with what some labels hold, by the rule of [`refining_prompt`], and adds what
    /// it draws as further labels, such as `liver (refined by SAM-Med3D)`. Labels without a place to
    /// refine are skipped, as are those that name no class when the model takes only classes. `on_event`
    /// receives progress, with the index of the label among `labels`.
    ///
    /// An empty mask and a label without a class are warnings (`W-REFINE`) in [`Obtained::warnings`], as is
    /// everything else that the model reports.
    ///
    /// # Errors
    /// As [`EncodedVolume::segment_with`]; what was refined before the error stays.
    pub fn refine(
        &mut self,
        labels: &[u16],
        with: &Refiner<'_>,
        cancel: &CancelToken,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Error> {
        let at = self.begin_refining(with);
        for (index, label) in labels.iter().enumerate() {
            let Some((name, prompt)) = self.refining(*label, with) else { continue };
            let Some(prompt) = prompt else {
                self.refined[at].left_out.push(name);
                continue;
            };
            let asked = Asked::new(refined_name(&name, with.model.family()), prompt);
            let mut shifted = |event: Event<'_>| on_event(event.with_prompts_from(index));
            let mut run = RunContext::from(cancel).with_events(&mut shifted);
            let outcome = with.encoded.segment_with(&asked.prompt, &mut run)?;
            let (given, mask) = Given::new(asked, outcome);
            let name = given.asked.name.clone();
            let new = self.findings.push_refined(name, mask.as_ref(), *label)?;
            self.refined[at].refinements.push(Refinement { refines: *label, label: new, given });
        }
        Ok(())
    }

    /// What further models drew.
    pub fn refined(&self) -> &[Refined] {
        &self.refined
    }

    /// What a person should know about masks that were refined.
    pub fn refining_warnings(&self) -> Vec<Warning> {
        self.refined.iter().flat_map(warnings).collect()
    }

    /// The place among all that refined, of a model in one preparation.
    fn begin_refining(&mut self, with: &Refiner<'_>) -> usize {
        let (model, preparation) =
            (report::Model::of(with.model, with.source), Preparation::from(with.encoded));
        let is_same = |of: &Refined| {
            of.model.id == model.id
                && of.model.sha256 == model.sha256
                && of.preparation.mode == preparation.mode
        };
        self.refined.iter().position(is_same).unwrap_or_else(|| {
            self.refined.push(Refined {
                model,
                device: with.model.device_name(),
                cpu_kernels: with.model.cpu_kernels(),
                load: with.model.load_time(),
                preparation,
                refinements: Vec::new(),
                left_out: Vec::new(),
            });
            self.refined.len() - 1
        })
    }

    /// The name of a label that has a place, and what a model is prompted with to draw it again.
    fn refining(&self, label: u16, with: &Refiner<'_>) -> Option<(String, Option<Prompt>)> {
        let place = self.findings.place(label)?;
        // Labels of refined masks lead to the prompt that the first one was of.
        let finding = self.findings.of(label)?;
        let asked = self.asked_of(finding.refines.unwrap_or(label));
        let (family, takes) = (with.model.family(), with.model.capabilities());
        let is_known = |term: &&str| takes.classes.is_none_or(|table| table.find(term).is_ok());
        let term = asked.and_then(named_organ).filter(is_known);
        let second = Second { family, takes, mode: with.encoded.mode() };
        let geometry = self.findings.labels().geometry();
        Some((finding.name.clone(), refining_prompt(&place, geometry, &second, term)))
    }

    /// The prompt that a label is of.
    fn asked_of(&self, label: u16) -> Option<&Asked> {
        let before = self.findings.prompts().iter().take_while(|of| of.label != label);
        let index = before.filter(|finding| finding.refines.is_none()).count();
        self.given().get(index).map(|given| &given.asked)
    }
}

impl Findings {
    /// Where something was found: the mask of a label if it has voxels, else a box of its answer.
    fn place(&self, label: u16) -> Option<FoundAt> {
        let finding = self.of(label)?;
        let mask = (self.labels().voxels(label) > 0).then(|| self.labels().label_mask(label));
        FoundAt::of(mask, &finding.boxes)
    }
}

/// The organ that a prompt was written for, or that its words name.
fn named_organ(asked: &Asked) -> Option<&'static str> {
    let organ = asked.organ.as_ref().map(|organ| organ.term);
    organ.or_else(|| terms::find_in(asked.text()).map(|term| term.english))
}

fn refined_name(name: &str, family: Family) -> String {
    format!("{} (refined by {})", short(name), family.name())
}

fn warnings(refined: &Refined) -> Vec<Warning> {
    let left_out = |name: &String| {
        let (name, model) = (one_line(name), &refined.model.id);
        let text = format!(
            "{name}: no class of {model} was named, and it takes no points; the mask stays as it is"
        );
        Warning::new("W-REFINE", text)
    };
    let mut warnings: Vec<Warning> = refined.left_out.iter().map(left_out).collect();
    for Refinement { refines, given, .. } in &refined.refinements {
        let name = one_line(&given.asked.name);
        if given.status != MaskStatus::Found {
            let text =
                format!("{name}: nothing was drawn; the mask of label {refines} stays as it is");
            warnings.push(Warning::new("W-REFINE", text));
        }
        warnings.extend(given.outcome.warnings.iter().cloned().map(|mut warning| {
            warning.text.insert_str(0, &format!("{name}: "));
            warning
        }));
    }
    warnings
}
