//! Slices that a model reads beside the voxels of a volume, and what its encoder makes of them.

mod features;

use candle_core::{Device, Tensor};
use r1seg_nn::{Probe, Weights};
use r1seg_vit3d::SliceEncoder;
use r1seg_volume::{Orient, SliceRecipe, Slices, Step, Volume, prepare, slices};

use crate::config::slices::{SliceEncoderSettings, SliceInputConfig};
use crate::finite::FiniteCheck;
use crate::{EncodeOptions, Error, Recipe, Stage};

pub use features::SliceFeatures;

/// What a volume is to a model that reads slices: pictures, or what was made of them before.
#[derive(Debug)]
pub(crate) enum SliceMaterial {
    Pictures(Slices),
    Features(SliceFeatures),
}

/// Cuts a volume into the slices that a model reads, unless their features are given. Nothing for a model
/// that reads none.
///
/// # Errors
/// [`Error::InvalidOption`] for features that the model does not read or that are not its own, or where
/// they are missing; and when the volume cannot be cut.
pub(crate) fn material(
    input: Option<&SliceInputConfig>,
    volume: &Volume,
    recipe: Recipe,
    options: &EncodeOptions,
) -> Result<Option<SliceMaterial>, Error> {
    let wrong = |message: String| Error::InvalidOption { what: "slice_features", message };
    let (input, given) = match (input, &options.slice_features) {
        (None, None) => return Ok(None),
        (None, Some(_)) => return Err(wrong("the model reads no slices".to_string())),
        (Some(input), given) => (input, given),
    };
    if let Some(features) = given {
        let (got, expected) = (features.shape(), [input.count, input.width]);
        return match got == expected {
            true => Ok(Some(SliceMaterial::Features(features.clone()))),
            false => Err(wrong(format!(
                "features of {} slices, {} numbers each, where the model reads {} of {}",
                got[0], got[1], expected[0], expected[1]
            ))),
        };
    }
    let Some(encoder) = &input.encoder else {
        return Err(wrong(
            "the checkpoint has no encoder of slices, so that their features have to be given"
                .to_string(),
        ));
    };
    if recipe == Recipe::None {
        return Err(wrong(
            "slices are cut out of a CT in HU, so that their features have to be given with recipe none"
                .to_string(),
        ));
    }
    let recipe = SliceRecipe {
        count: input.count,
        jpeg_quality: encoder.jpeg_quality,
        size: encoder.network.image_size,
        as_published: recipe == Recipe::HsenetAsPublished,
    };
    let turned = match options.orient {
        Some(Orient::To(orientation)) => {
            let prepared = prepare(volume, &[Step::Orient(orientation)])?;
            let geometry = prepared.map().geometry(volume.geometry())?;
            Some(Volume::new(prepared.to_f32(), geometry)?)
        }
        _ => None,
    };
    let pictures = slices(turned.as_ref().unwrap_or(volume), &recipe)?;
    Ok(Some(SliceMaterial::Pictures(pictures)))
}

/// The encoder of slices of a model that has one.
#[derive(Debug)]
pub(crate) struct SliceReader {
    encoder: Option<(SliceEncoder, SliceEncoderSettings)>,
}

impl SliceReader {
    /// Takes the tensors of the encoder, if there is one, from its place.
    ///
    /// # Errors
    /// When the configuration is inconsistent, or a tensor is missing or misshaped.
    pub(crate) fn new(config: &SliceInputConfig, weights: &Weights) -> candle_core::Result<Self> {
        let encoder = match &config.encoder {
            Some(settings) => {
                Some((SliceEncoder::new(&settings.network, weights)?, settings.clone()))
            }
            None => None,
        };
        Ok(Self { encoder })
    }

    /// The features of slices, `[1, S, E]`, on the device and in the dtype of `like`.
    ///
    /// # Errors
    /// [`Error::NotFinite`], [`Error::Cancelled`], or when the backend cannot run the operation.
    pub(crate) fn features(
        &self,
        material: &SliceMaterial,
        like: &Tensor,
        finite: &FiniteCheck,
        probe: &mut dyn Probe,
    ) -> Result<Tensor, Error> {
        let (device, dtype) = (like.device(), like.dtype());
        let features = match (material, &self.encoder) {
            (SliceMaterial::Features(features), _) => {
                features.tensor(&Device::Cpu)?.to_device(device)?.to_dtype(dtype)?
            }
            (SliceMaterial::Pictures(pictures), Some((encoder, settings))) => {
                let _span = tracing::info_span!("slices").entered();
                let pixels = normalized(pictures, settings)?;
                probe.record("slices.normalized", &pixels)?;
                encoder.forward(&pixels.to_device(device)?.to_dtype(dtype)?, probe)?
            }
            (SliceMaterial::Pictures(_), None) => {
                return Err(candle_core::Error::msg("there is no encoder of slices").into());
            }
        };
        finite.tensor(Stage::Encode, &features)?;
        probe.record("slices.features", &features)?;
        Ok(features.unsqueeze(0)?)
    }
}

/// # Shapes
/// - returns: `[S, 3, H, W]`, on the CPU
fn normalized(pictures: &Slices, settings: &SliceEncoderSettings) -> Result<Tensor, Error> {
    let [count, height, width] = pictures.shape();
    let size = height * width;
    let mut numbers = Vec::with_capacity(3 * count * size);
    for picture in pictures.pixels().chunks_exact(size.max(1)) {
        for (mean, deviation) in settings.mean.iter().zip(settings.deviation) {
            numbers.extend(picture.iter().map(|v| (f32::from(*v) / 255.0 - mean) / deviation));
        }
    }
    Ok(Tensor::from_vec(numbers, (count, 3, height, width), &Device::Cpu)?)
}
