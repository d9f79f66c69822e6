//! Crops of the prepared grid: the part around a target that a model looks at, encoded once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use candle_core::{Device, Tensor};
use r1seg_diagnostic::Remedy;
use r1seg_volume::resample::{trilinear, trilinear_threshold};
use r1seg_volume::{Mask, NearestMode, Prepared, Step, Warning};

use super::clicks::{Area, Clicked, is_cut};
use super::encoded::{Found, PromptRun};
use super::target::Target;
use crate::encoded::Setup;
use crate::{Error, Prompt, PromptableModel, Recipe, RunContext, Trace};

/// The most crops whose embeddings are kept, of about 1 MB each at full size.
const MAX_KEPT: usize = 160;

/// A part of the prepared grid, and what the encoder makes of it.
#[derive(Debug)]
pub(super) struct Crop {
    /// Its first cell in the prepared grid; negative in the padding.
    pub(super) start: [i64; 3],
    /// `[1, N, E]`
    pub(super) features: Tensor,
    /// The stages of the encoder, if they were asked for.
    pub(super) trace: Option<Trace>,
}

/// The crops that have been encoded so far, which targets share.
#[derive(Debug, Default)]
pub(super) struct Crops {
    encoded: Mutex<Vec<Arc<Crop>>>,
}

impl Crops {
    /// A crop that shows `target`, if one has been encoded: the one that is its own, or one that it can
    /// share.
    pub(super) fn of(&self, target: &Target, shape: [usize; 3]) -> Option<Arc<Crop>> {
        let own = target.crop(shape);
        self.find(|crop| crop.start == own)
            .or_else(|| self.find(|crop| target.can_share(crop.start, shape)))
    }

    /// The crop that begins there, if it has been encoded.
    pub(super) fn at(&self, start: [i64; 3]) -> Option<Arc<Crop>> {
        self.find(|crop| crop.start == start)
    }

    fn find(&self, is_meant: impl Fn(&Crop) -> bool) -> Option<Arc<Crop>> {
        let encoded = self.encoded.lock().unwrap_or_else(PoisonError::into_inner);
        encoded.iter().find(|crop| is_meant(crop)).cloned()
    }

    pub(super) fn keep(&self, crop: Crop) -> Arc<Crop> {
        let crop = Arc::new(crop);
        let mut encoded = self.encoded.lock().unwrap_or_else(PoisonError::into_inner);
        if encoded.len() >= MAX_KEPT {
            encoded.remove(0);
        }
        encoded.push(crop.clone());
        crop
    }
}

impl Crop {
    /// Cuts the crop at `start` out of the prepared grid, prepares its values as the recipe says, and
    /// encodes it.
    pub(super) fn encode(
        model: &PromptableModel,
        prepared: &Prepared,
        recipe: Recipe,
        start: [i64; 3],
        (context, trace): (&mut RunContext<'_>, bool),
    ) -> Result<Self, Error> {
        let shape = model.input_shape();
        let mut steps = vec![Step::Window { start, shape }];
        steps.extend(recipe.crop_steps());
        let voxels = prepared.then(&steps)?.to_f32();
        let mut trace = trace.then(Trace::default);
        if let Some(trace) = &mut trace {
            trace.insert("roi", Tensor::from_slice(&voxels, shape.to_vec(), &Device::Cpu)?);
        }
        let features = model.encode_image(voxels, &mut context.probe(trace.as_mut()))?;
        Ok(Self { start, features, trace })
    }
}

impl PromptRun<'_, '_> {
    /// In a crop around the target, and in those that a mask leads to from there.
    pub(super) fn segment_in_crops(
        &mut self,
        prompt: &Prompt,
        from: Option<&Clicked>,
    ) -> Result<(Found, Clicked), Error> {
        let volume = self.volume;
        let map = &volume.setup.map;
        let seen = |mask: &Mask| map.gather(mask.data(), NearestMode::Nearest);
        // A mask says where to look only where nothing else does.
        let is_somewhere = prompt.center.is_some()
            || prompt.region.is_some()
            || prompt.points.iter().any(|point| point.positive);
        let mask = prompt.mask.as_deref().filter(|_| from.is_none() && !is_somewhere);
        let mask = mask.map(seen).transpose()?;
        let target = Target::new(prompt, map, mask.as_deref())?;
        let clicked = self.click(prompt, &target, from, volume.is_growing())?;
        Ok((self.found(prompt, &clicked, &target)?, clicked))
    }

    /// The mask of a target after its last point.
    pub(super) fn found(
        &mut self,
        prompt: &Prompt,
        clicked: &Clicked,
        target: &Target,
    ) -> Result<Found, Error> {
        let volume = self.volume;
        let Setup { grid, map, .. } = &volume.setup;
        let area = match volume.is_growing() {
            true => self.grow(prompt, clicked, target)?,
            false => clicked.area(volume)?,
        };
        let time = Instant::now();
        let Area { logits, cells, start, shape, crops, .. } = &area;
        if let Some(trace) = &mut self.trace {
            let full = trilinear(logits, *cells, *shape)?;
            trace.insert("mask.logits", Tensor::from_vec(full, shape.to_vec(), &Device::Cpu)?);
        }
        let mask = trilinear_threshold(logits, *cells, *shape)?;
        let is_cut = match volume.is_growing() {
            true => area.is_cut,
            false => is_cut(&mask, *start, *shape, map.shape()),
        };
        let warnings = is_cut.then(|| cut(*grid, *crops)).into_iter().collect();
        let part = map.clone().windowed(*start, *shape);
        let mask = part.mask_to_source(&mask, NearestMode::Nearest)?;
        self.timings.postprocess += time.elapsed();
        Ok(Found { mask, windows: *crops, zoomed: part.footprint(), warnings })
    }
}

/// That a mask goes on where the model did not look.
fn cut(size: [usize; 3], crops: usize) -> Warning {
    let size = size.map(|n| n.to_string()).join(" x ");
    match crops {
        1 => Warning::new(
            "W-EDGE",
            format!("the mask touches the edge of the {size} voxels that the model saw: what lies beyond is cut"),
        )
        .with_remedy(Remedy::GrowBeyondCrop),
        _ => Warning::new(
            "W-EDGE",
            format!("the mask went on after {crops} crops of {size} voxels: what lies beyond is cut"),
        )
        .with_remedy("give negative points where it leaves the object"),
    }
}
