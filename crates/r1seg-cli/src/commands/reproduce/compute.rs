//! What a model makes of an input, in the way that the recorded run did.

use std::time::Instant;

use anyhow::Result;
use r1seg::phantom::Phantom;
use r1seg::volume::intensity::{Rescale, min_max};
use r1seg::volume::resample::{nearest, trilinear};
use r1seg::volume::{Geometry, Mask, Volume};
use r1seg::{
    AskOptions, CancelToken, EncodeOptions, InferenceMode, M3dClip, Model, Preprocess, Prompt,
    PromptKind, PromptPoint, PromptableModel, R1SegModel, Recipe, RunContext, phrasing,
};
use rayon::prelude::*;
use serde::Serialize;

use super::ledger::{Preparation, Run};

/// Tokens of the answer about the phantom: enough to show that the model computes.
const FEW_TOKENS: usize = 16;

/// An answer and its mask on the grid of the input.
pub(super) struct Output {
    /// Absent for a model without a language model.
    pub(super) text: Option<String>,
    pub(super) mask: Option<Vec<u8>>,
    pub(super) seconds: f64,
}

/// What the model made of the embedded phantom, which it need not know.
#[derive(Debug, Serialize)]
pub(super) struct SelfTest {
    pub(super) input: &'static str,
    pub(super) asked: String,
    pub(super) text: Option<String>,
    pub(super) voxels: Option<u64>,
    /// Cosine of the embeddings of the phantom and the text.
    pub(super) similarity: Option<f32>,
    pub(super) seconds: f64,
}

/// Asks every prompt about a volume, in their order.
pub(super) fn run(
    model: &Model,
    run: &Run,
    volume: &Volume,
    prompts: &[&str],
    cancel: &CancelToken,
) -> Result<Vec<Output>> {
    match model {
        Model::Language(model) => ask(model, run, volume, prompts, cancel),
        Model::Promptable(model) => segment(model, run, volume, prompts, cancel),
        // M3D-CLIP has neither answers nor masks, and of VISTA3D nothing is recorded.
        Model::Automatic(_) | Model::Retrieval(_) => Ok(Vec::new()),
    }
}

/// One answer, mask or embedding of the embedded phantom.
pub(super) fn self_test(model: &Model, cancel: &CancelToken) -> Result<SelfTest> {
    let phantom = Phantom::draw(7);
    // A model that resamples needs a spacing, which changes nothing for others.
    let geometry = Geometry::with_spacing(phantom.shape, [1.5; 3])?;
    let volume = Volume::new(phantom.volume.clone(), geometry)?;
    let as_it_is = Preprocess::Recipe(Recipe::None);
    let start = Instant::now();
    let mut context = RunContext::from(cancel);
    let mut test = SelfTest {
        input: "the embedded phantom",
        asked: String::new(),
        text: None,
        voxels: None,
        similarity: None,
        seconds: 0.0,
    };
    match model {
        Model::Language(model) => {
            test.asked = "Can you segment the liver in this image?".to_string();
            let encode = EncodeOptions::default().with_preprocess(as_it_is);
            let options = AskOptions::default().with_max_new_tokens(FEW_TOKENS);
            let encoded = model.encode_with(&volume, &encode, &mut context)?;
            let answer = encoded.ask_with(&test.asked, &options, &mut context)?;
            test.voxels = answer.mask.as_ref().map(|mask| count(mask.data()));
            test.text = Some(answer.text);
        }
        Model::Promptable(model) => {
            let (prompt, options) = if model.capabilities().takes(PromptKind::Text) {
                test.asked = phrasing::sentence(model.family(), "liver");
                let options = EncodeOptions::default().with_preprocess(as_it_is);
                (Prompt::of_text(&test.asked), options.with_mode(InferenceMode::Resize))
            } else {
                test.asked = "the voxel in the middle".to_string();
                let middle = PromptPoint::positive(phantom.shape.map(|n| n / 2));
                (Prompt::default().with_point(middle), EncodeOptions::default())
            };
            let encoded = model.encode_with(&volume, &options, &mut context)?;
            let found = encoded.segment_with(&prompt, &mut context)?;
            test.voxels = found.mask.as_ref().map(|mask| count(mask.data()));
        }
        Model::Automatic(model) => {
            test.asked = "liver".to_string();
            let encoded = model.encode_with(&volume, &EncodeOptions::default(), &mut context)?;
            let found = encoded.segment_with(&test.asked, &mut context)?;
            test.voxels = found.mask.as_ref().map(|mask| count(mask.data()));
        }
        Model::Retrieval(model) => {
            test.asked = "A cyst in the left kidney.".to_string();
            let options = EncodeOptions::default().with_preprocess(as_it_is);
            let of_volume = model.embed_volume_with(&volume, &options, &mut context)?.embedding;
            let of_text = model.embed_text_with(&test.asked, &mut context)?.embedding;
            test.similarity = Some(M3dClip::similarity(&of_volume, &of_text));
        }
    }
    test.seconds = start.elapsed().as_secs_f64();
    Ok(test)
}

/// Voxels of a mask.
pub(super) fn count(mask: &[u8]) -> u64 {
    mask.iter().filter(|v| **v == 1).count() as u64
}

fn ask(
    model: &R1SegModel,
    run: &Run,
    volume: &Volume,
    prompts: &[&str],
    cancel: &CancelToken,
) -> Result<Vec<Output>> {
    let start = Instant::now();
    let mut context = RunContext::from(cancel);
    let mut options = AskOptions::default();
    if let Some(tokens) = run.max_new_tokens {
        options = options.with_max_new_tokens(tokens);
    }
    if let Some(separator) = run.separator() {
        options = options.with_separator(separator);
    }
    let encode = EncodeOptions::default();
    let encode = match run.preprocess {
        Preparation::Auto => encode,
        Preparation::MinMax | Preparation::None => {
            encode.with_preprocess(Preprocess::Recipe(Recipe::None))
        }
    };
    let resized = match run.preprocess {
        Preparation::MinMax => Some(min_max_resized(volume, model.input_shape())?),
        _ => None,
    };
    let asked = resized.as_ref().unwrap_or(volume);
    let encoded = model.encode_with(asked, &encode, &mut context)?;
    let answers = encoded.ask_many_with(prompts, &options, &mut context)?;
    let seconds = start.elapsed().as_secs_f64() / prompts.len().max(1) as f64;
    let mut outputs = Vec::with_capacity(answers.len());
    for answer in answers {
        let mask = match answer.mask.map(Mask::into_parts) {
            Some((mask, geometry)) if resized.is_some() => {
                Some(nearest(&mask, geometry.shape(), volume.shape())?)
            }
            mask => mask.map(|(mask, _)| mask),
        };
        outputs.push(Output { text: Some(answer.text), mask, seconds });
    }
    Ok(outputs)
}

/// The values from the smallest to the largest brought to 0..1, on the grid of the model. No recipe of
/// r1seg does this: all crop to what stands out.
fn min_max_resized(volume: &Volume, grid: [usize; 3]) -> Result<Volume> {
    let (low, high) = min_max(volume.voxels()).unwrap_or_default();
    let rescale = Rescale::new(low, high);
    let mut voxels = volume.voxels().to_f32().into_owned();
    voxels.par_iter_mut().for_each(|v| *v = rescale.apply(*v));
    let voxels = trilinear(&voxels, volume.shape(), grid)?;
    Ok(Volume::new(voxels, Geometry::without_affine(grid))?)
}

fn segment(
    model: &PromptableModel,
    run: &Run,
    volume: &Volume,
    prompts: &[&str],
    cancel: &CancelToken,
) -> Result<Vec<Output>> {
    let mut context = RunContext::from(cancel);
    let options = EncodeOptions::default();
    let rescaled;
    let (options, volume) = match run.preprocess {
        Preparation::Auto => (options, volume),
        Preparation::None => (options.with_preprocess(Preprocess::Recipe(Recipe::None)), volume),
        Preparation::MinMax => {
            // Same grid: this model looks at windows of it, too.
            rescaled = min_max_resized(volume, volume.shape())?;
            (options.with_preprocess(Preprocess::Recipe(Recipe::None)), &rescaled)
        }
    };
    let encoded = model.encode_with(volume, &options, &mut context)?;
    let mut outputs = Vec::with_capacity(prompts.len());
    for prompt in prompts {
        let start = Instant::now();
        let found = encoded.segment_with(Prompt::of_text(*prompt), &mut context)?;
        let mask = found.mask.map(|mask| mask.into_parts().0);
        outputs.push(Output { text: None, mask, seconds: start.elapsed().as_secs_f64() });
    }
    Ok(outputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_preprocessing_keeps_the_borders_that_recipes_crop() -> Result<()> {
        // One bright voxel in the middle of a volume of air.
        let mut voxels = vec![-1000_i16; 4 * 4 * 4];
        voxels[42] = 1000;
        voxels[0] = 0;
        let volume = Volume::new(voxels, Geometry::without_affine([4, 4, 4]))?;
        let prepared = min_max_resized(&volume, [4, 4, 4])?;
        let values = prepared.voxels().to_f32();
        assert_eq!((values[42], values[0], values[63]), (1.0, 0.5, 0.0));
        assert_eq!(min_max_resized(&volume, [2, 2, 2])?.shape(), [2, 2, 2]);
        Ok(())
    }
}
