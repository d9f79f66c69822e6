//! The encoders of a model, and the features that they compute of an image.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use r1seg_nn::{Probe, Weights};
use r1seg_projector::MmProjector;
use r1seg_vit3d::Vit3d;

use crate::checkpoint::keys::KeyMap;
use crate::finite::FiniteCheck;
use crate::image_cache::ImageCache;
use crate::run::{Numbered, Unrecorded};
use crate::slices::{SliceFeatures, SliceMaterial, SliceReader};
use crate::{Error, ImageBranch, ModelConfig, Stage};

/// One encoder for language and mask (R1Seg-3D), one for each (M3D-LaMed), or two for language alone
/// (HSENet), and the projectors behind the language model's.
#[derive(Debug)]
pub(crate) struct Vision {
    branches: Vec<Branch>,
    slices: Option<SliceReader>,
    /// The mask decoder's own.
    mask_encoder: Option<Vit3d>,
    /// Whether anything reads embeddings for masks.
    draws_masks: bool,
    device: Device,
}

/// An encoder that the language model reads, and its projector.
#[derive(Debug)]
struct Branch {
    encoder: Vit3d,
    /// Whether the encoder has a class token, which nothing reads.
    cls_token: bool,
    slice_guided: bool,
    mm_projector: MmProjector,
}

impl Branch {
    fn new(
        config: &ImageBranch,
        encoder: Weights,
        projector: Weights,
    ) -> candle_core::Result<Self> {
        Ok(Self {
            encoder: Vit3d::new(&config.vit, encoder)?,
            cls_token: config.vit.cls_token,
            slice_guided: config.vit.slice_guided,
            mm_projector: MmProjector::new(&config.mm_projector, projector)?,
        })
    }
}

impl Vision {
    /// # Errors
    /// When the configuration is inconsistent, or a tensor is missing or misshaped.
    pub(crate) fn new(
        config: &ModelConfig,
        keys: &KeyMap,
        weights: &Weights,
    ) -> candle_core::Result<Self> {
        let mask_vit = config.mask.as_ref().and_then(|mask| mask.vit.as_ref());
        let mask_encoder = match (mask_vit, keys.mask_encoder) {
            (Some(vit), Some(prefix)) => Some(Vit3d::new(vit, weights.pp(prefix))?),
            _ => None,
        };
        let encoders = std::iter::once(keys.encoder).chain(keys.second_encoder);
        let places = encoders.zip(["model.mm_projector", "model.mm_projector2"]);
        let branches = config.branches.iter().zip(places).map(|(branch, (encoder, projector))| {
            Branch::new(branch, weights.pp(encoder), weights.pp(projector))
        });
        let slices = match &config.slices {
            Some(slices) => Some(SliceReader::new(slices, &weights.pp("model.slice_encoder"))?),
            None => None,
        };
        Ok(Self {
            branches: branches.collect::<candle_core::Result<_>>()?,
            slices,
            mask_encoder,
            draws_masks: config.mask.is_some(),
            device: weights.device().clone(),
        })
    }

    /// Runs the language model's encoders and the projectors.
    ///
    /// # Shapes
    /// - `volume`: `[1, 1, D, H, W]`, intensities in `0..=1`
    ///
    /// # Errors
    /// [`Error::NotFinite`], or when the backend cannot run the operation.
    pub(crate) fn encode(
        &self,
        volume: Tensor,
        slices: Option<&SliceMaterial>,
        finite: &FiniteCheck,
        probe: &mut dyn Probe,
    ) -> Result<ImageFeatures, Error> {
        let (mut vit, mut projector) = (Duration::ZERO, Duration::ZERO);
        let slices = match (&self.slices, slices) {
            (Some(reader), Some(material)) => {
                let start = Instant::now();
                let features = reader.features(material, &volume, finite, probe)?;
                self.device.synchronize()?;
                vit += start.elapsed();
                Some(features)
            }
            _ => None,
        };
        let (mut first, mut tokens) = (None, Vec::with_capacity(self.branches.len()));
        for (index, branch) in self.branches.iter().enumerate() {
            // Stages of several encoders are numbered.
            let number = (self.branches.len() > 1).then_some(index + 1);
            let mut probe = Numbered { probe: &mut *probe, number };
            let span = tracing::info_span!("vit").entered();
            let start = Instant::now();
            let guide = slices.as_ref().filter(|_| branch.slice_guided);
            let mut features = branch.encoder.forward(&volume, guide, &mut probe)?;
            if branch.cls_token {
                features = features.narrow(1, 1, features.dim(1)? - 1)?.contiguous()?;
            }
            self.device.synchronize()?;
            vit += start.elapsed();
            drop(span);
            finite.tensor(Stage::Encode, &features)?;
            probe.record("vit.features", &features)?;
            let span = tracing::info_span!("projector").entered();
            let start = Instant::now();
            let visual_tokens = branch.mm_projector.forward(&features, &mut probe)?;
            self.device.synchronize()?;
            projector += start.elapsed();
            drop(span);
            finite.tensor(Stage::Project, &visual_tokens)?;
            probe.record("projector.features", &visual_tokens)?;
            tokens.push(visual_tokens);
            first.get_or_insert(features);
        }
        let visual_tokens = match &tokens[..] {
            [one] => one.clone(),
            all => Tensor::cat(all, 1)?,
        };
        let (mask_features, volume) = match (first, &self.mask_encoder) {
            (Some(features), None) if self.draws_masks => (features.into(), None),
            (_, Some(_)) => (OnceLock::new(), Some(volume)),
            _ => (OnceLock::new(), None),
        };
        let slice_features = slices.as_ref().map(SliceFeatures::of).transpose()?;
        let cache = ImageCache::new(&visual_tokens)?;
        let image = ImageFeatures {
            volume,
            mask_features,
            slice_features,
            visual_tokens,
            cache,
            vit,
            projector,
        };
        if self.mask_encoder.is_some() && probe.is_listening() {
            let features = self.mask_features(&image, finite, probe)?;
            probe.record("seg.image_embedding", &features)?;
        }
        Ok(image)
    }

    /// What the mask decoder reads, `[1, N, E]`. An encoder of its own runs when the first mask is
    /// asked for: captions never pay for it.
    ///
    /// # Errors
    /// [`Error::NotFinite`], [`Error::Cancelled`], or when the backend cannot run the operation.
    pub(crate) fn mask_features(
        &self,
        image: &ImageFeatures,
        finite: &FiniteCheck,
        probe: &dyn Probe,
    ) -> Result<Tensor, Error> {
        if let Some(features) = image.mask_features.get() {
            return Ok(features.clone());
        }
        let (Some(encoder), Some(volume)) = (&self.mask_encoder, &image.volume) else {
            return Err(candle_core::Error::msg("the volume was not encoded for masks").into());
        };
        let _span = tracing::info_span!("mask_vit").entered();
        // Its stages would be taken for those of the language model's encoder.
        let features = encoder.forward(volume, None, &mut Unrecorded(probe))?;
        finite.tensor(Stage::Encode, &features)?;
        // Another thread may have been faster, with the same numbers.
        Ok(image.mask_features.get_or_init(|| features).clone())
    }
}

/// What the encoders computed of a volume, or of one window of it.
#[derive(Debug)]
pub(crate) struct ImageFeatures {
    /// `[1, 1, D, H, W]`, where the mask decoder's encoder may have to read it.
    volume: Option<Tensor>,
    /// `[1, N, E]`, once there.
    mask_features: OnceLock<Tensor>,
    /// Of the slices, where an encoder was guided by them.
    pub(crate) slice_features: Option<SliceFeatures>,
    /// `[1, n, hidden]`
    pub(crate) visual_tokens: Tensor,
    /// The keys and values of the image, once a question was asked.
    pub(crate) cache: ImageCache,
    pub(crate) vit: Duration,
    pub(crate) projector: Duration,
}
