//! A volume that was prepared for a model with classes, and what prompts find in it.

use std::sync::{Mutex, OnceLock};
use std::time::Instant;

use candle_core::{Device, Tensor};
use r1seg_volume::{Mask, NearestMode, Padding, Region, Warning};

use super::clicks::Looked;
use super::prompt::Resolved;
use super::stitch::{Scores, Sums, Wanted};
use super::{AutomaticConfig, AutomaticModel};
use crate::encoded::{Answering, OnOutcome, Progress, Setup};
use crate::handle::Encodes;
use crate::preprocess::Preparation;
use crate::{EncodeOptions, Error, Event, Outcome, Prompt, RunContext, Timings, Trace};

/// A volume that was prepared for classes and clicks.
///
/// The network runs when a prompt asks for it. Where the features of the whole volume take no more than a
/// gibibyte, they are kept for further classes, and those of the last windows around points for further
/// points.
#[derive(Debug)]
pub(crate) struct AutomaticVolume {
    pub(super) model: AutomaticModel,
    pub(crate) setup: Setup,
    pub(super) prepared: Preparation,
    /// Of the prepared grid to that of at least one window.
    pub(super) padding: Padding,
    overlaps: bool,
    pub(super) kept: OnceLock<Sums>,
    pub(super) looked: Mutex<Vec<Looked>>,
}

impl Encodes for AutomaticConfig {
    type Volume = AutomaticVolume;

    fn encode(
        model: AutomaticModel,
        (setup, prepared): (Setup, Preparation),
        options: &EncodeOptions,
        _run: &mut RunContext<'_>,
    ) -> Result<AutomaticVolume, Error> {
        let padding = Padding::to_at_least(prepared.shape(), model.config().patch_size);
        Ok(AutomaticVolume {
            model,
            setup,
            prepared,
            padding,
            overlaps: options.overlaps,
            kept: OnceLock::new(),
            looked: Mutex::default(),
        })
    }
}

impl AutomaticVolume {
    /// The values of a window of the padded grid; beyond the volume those of its nearest voxel.
    pub(super) fn window_values(&self, window: Region) -> Result<Vec<f32>, Error> {
        let mut values = self.zero_padded(window)?;
        replicate(&mut values, window, self.padding.inner);
        Ok(values)
    }

    /// The same with 0 beyond the volume.
    pub(super) fn zero_padded(&self, window: Region) -> Result<Vec<f32>, Error> {
        let whole = Region::whole(self.prepared.shape());
        Ok(self.prepared.window(whole, &self.padding, window)?)
    }
}

impl Answering for AutomaticVolume {
    fn setup(&self) -> &Setup {
        &self.setup
    }

    fn segment_from(
        &self,
        prompt: &Prompt,
        _from: Option<&Progress>,
        context: &mut RunContext<'_>,
    ) -> Result<(Outcome, Option<Progress>), Error> {
        let mut found = None;
        self.segment_each(std::slice::from_ref(prompt), context, &mut |_, outcome| {
            found = Some(outcome);
            Ok(())
        })?;
        // One prompt has one outcome.
        let none = || Error::from(candle_core::Error::msg("no outcome of a prompt"));
        Ok((found.ok_or_else(none)?, None))
    }

    /// All classes are scored in one pass.
    fn segment_each(
        &self,
        prompts: &[Prompt],
        context: &mut RunContext<'_>,
        on_outcome: OnOutcome<'_>,
    ) -> Result<(), Error> {
        let resolved = |prompt: &Prompt| {
            prompt.check_in(&self.setup.geometry)?;
            Resolved::new(prompt, self.model.config(), &self.setup.map)
        };
        let prompts: Vec<Resolved> = prompts.iter().map(resolved).collect::<Result<_, Error>>()?;
        let mut run = PromptRun::new(self, context);
        let found = run.find_classes(&prompts)?;
        for (index, prompt) in prompts.iter().enumerate() {
            let outcome = match &found {
                Some(found) if prompt.points.is_empty() => run.class_outcome(prompt, found)?,
                _ => {
                    run.context.emit(Event::Prompt { prompt: index });
                    run.click_outcome(prompt)?
                }
            };
            // Time that was spent for all prompts counts in the first one.
            run.timings = self.setup.timings();
            on_outcome(index, outcome)?;
        }
        Ok(())
    }
}

/// What a pass over the whole volume found.
struct Found {
    scores: Scores,
    /// The classes that were scored.
    ids: Vec<u16>,
    /// `scores.best` on the grid of the input.
    best: Vec<u16>,
}

/// Prompts on their way.
pub(super) struct PromptRun<'s, 'c> {
    pub(super) volume: &'s AutomaticVolume,
    pub(super) timings: Timings,
    pub(super) trace: Option<Trace>,
    pub(super) context: &'s mut RunContext<'c>,
}

impl<'s, 'c> PromptRun<'s, 'c> {
    fn new(volume: &'s AutomaticVolume, context: &'s mut RunContext<'c>) -> Self {
        let (timings, trace) = (volume.setup.timings(), volume.setup.trace());
        Self { volume, timings, trace, context }
    }

    /// Scores the classes of all prompts that ask for nothing else, each class once.
    fn find_classes(&mut self, prompts: &[Resolved]) -> Result<Option<Found>, Error> {
        let asked: Vec<(usize, &Resolved)> =
            prompts.iter().enumerate().filter(|(_, prompt)| prompt.points.is_empty()).collect();
        let mut ids: Vec<u16> = Vec::new();
        for id in asked.iter().flat_map(|(_, prompt)| &prompt.classes) {
            if !ids.contains(id) {
                ids.push(*id);
            }
        }
        if ids.is_empty() {
            return Ok(None);
        }
        // Of several, none begins before the others.
        if let [(index, _)] = asked[..] {
            self.context.emit(Event::Prompt { prompt: index });
        }
        let mut probe = self.context.probe(self.trace.as_mut());
        let wanted = Wanted {
            embeddings: self.volume.model.class_embeddings(&ids, &mut probe)?,
            overlaps: self.volume.overlaps,
        };
        let mut scores = self.score(&wanted)?;
        if let Some(trace) = &mut self.trace {
            let [d, h, w] = self.volume.prepared.shape();
            let logits = std::mem::take(&mut scores.logits);
            trace.insert("logits", Tensor::from_vec(logits, ((), d, h, w), &Device::Cpu)?);
        }
        let start = Instant::now();
        let back = self.volume.setup.map.inverse();
        let best = back.gather(&scores.best, NearestMode::NearestExact)?;
        self.timings.postprocess += start.elapsed();
        Ok(Some(Found { scores, ids, best }))
    }

    /// The outcome of a prompt for classes: the voxels of all of them.
    fn class_outcome(&mut self, prompt: &Resolved, found: &Found) -> Result<Outcome, Error> {
        let start = Instant::now();
        let Found { scores, ids, best } = found;
        let is_own: Vec<bool> = ids.iter().map(|id| prompt.classes.contains(id)).collect();
        let mask = match scores.own(&is_own) {
            Some(own) => self.volume.setup.map.mask_to_source(&own, NearestMode::NearestExact)?,
            None => {
                let of_own = |class: usize| is_own.get(class).copied().unwrap_or_default();
                let number = |best: &u16| usize::from(*best).checked_sub(1);
                best.iter().map(|best| u8::from(number(best).is_some_and(of_own))).collect()
            }
        };
        self.timings.postprocess += start.elapsed();
        self.outcome(prompt, mask, scores.windows, Vec::new())
    }

    /// # Shapes
    /// - `mask`: on the grid of the input
    pub(super) fn outcome(
        &mut self,
        prompt: &Resolved,
        mask: Vec<u8>,
        windows: usize,
        warnings: Vec<Warning>,
    ) -> Result<Outcome, Error> {
        let mask = Mask::new(mask, self.volume.setup.geometry.clone())?;
        Ok(Outcome {
            label: prompt.label,
            warnings,
            trace: self.trace.take(),
            ..Outcome::segmented(mask, windows, self.timings)
        })
    }
}

/// Fills what lies beyond the volume in a window with the values of the nearest voxels of the volume.
///
/// # Shapes
/// - `values`: of `window`    - `inner`: where the volume lies in the grid of the window
fn replicate(values: &mut [f32], window: Region, inner: Region) {
    let [d, h, w] = window.shape();
    let strides = [h * w, w, 1];
    for (axis, inside) in strides.into_iter().enumerate() {
        let length = window.shape()[axis];
        let first = inner.start[axis].saturating_sub(window.start[axis]);
        let end = inner.end[axis].saturating_sub(window.start[axis]).min(length);
        if end <= first || (first == 0 && end == length) {
            continue;
        }
        // Axis by axis, so that corners take what edges have taken before.
        let outer = d * h * w / (length * inside);
        for block in 0..outer {
            let at = block * length * inside;
            for n in (0..first).chain(end..length) {
                let from = at + n.clamp(first, end - 1) * inside;
                values.copy_within(from..from + inside, at + n * inside);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_volume_is_what_is_nearest_in_it() {
        let padding = Padding::to_at_least([1, 2, 3], [4, 4, 3]);
        let original = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let mut values = padding.pad(&original).unwrap();
        replicate(&mut values, Region::whole(padding.shape), padding.inner);
        for slice in values.chunks_exact(12) {
            let expected = [1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 4.0, 5.0, 6.0];
            assert_eq!(slice, expected);
        }
    }
}
