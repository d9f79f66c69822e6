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
use crate::run::Unrecorded;
use crate::{Error, ModelConfig, Stage};

/// One encoder for language and mask (R1Seg-3D), or one for each (M3D-LaMed), and the projector
/// behind the language model's.
#[derive(Debug)]
pub(crate) struct Vision {
    encoder: Vit3d,
    /// Whether the language model's encoder has a class token, which nothing reads.
    cls_token: bool,
    /// The mask decoder's own.
    mask_encoder: Option<Vit3d>,
    mm_projector: MmProjector,
    device: Device,
}

impl Vision {
    /// # Errors
    /// When the configuration is inconsistent, or a tensor is missing or misshaped.
    pub(crate) fn new(
        config: &ModelConfig,
        keys: &KeyMap,
        weights: &Weights,
    ) -> candle_core::Result<Self> {
        let mask_encoder = match (&config.mask_vit, keys.mask_encoder) {
            (Some(vit), Some(prefix)) => Some(Vit3d::new(vit, weights.pp(prefix))?),
            _ => None,
        };
        Ok(Self {
            encoder: Vit3d::new(&config.vit, weights.pp(keys.encoder))?,
            cls_token: config.vit.cls_token,
            mask_encoder,
            mm_projector: MmProjector::new(&config.mm_projector, weights.pp("model.mm_projector"))?,
            device: weights.device().clone(),
        })
    }

    /// Runs the language model's encoder and the projector.
    ///
    /// # Shapes
    /// - `volume`: `[1, 1, D, H, W]`, intensities in `0..=1`
    ///
    /// # Errors
    /// [`Error::NotFinite`], or when the backend cannot run the operation.
    pub(crate) fn encode(
        &self,
        volume: Tensor,
        finite: &FiniteCheck,
        probe: &mut dyn Probe,
    ) -> Result<ImageFeatures, Error> {
        let span = tracing::info_span!("vit").entered();
        let start = Instant::now();
        let mut features = self.encoder.forward(&volume, probe)?;
        if self.cls_token {
            features = features.narrow(1, 1, features.dim(1)? - 1)?.contiguous()?;
        }
        self.device.synchronize()?;
        let vit = start.elapsed();
        drop(span);
        finite.tensor(Stage::Encode, &features)?;
        probe.record("vit.features", &features)?;
        let span = tracing::info_span!("projector").entered();
        let start = Instant::now();
        let visual_tokens = self.mm_projector.forward(&features)?;
        self.device.synchronize()?;
        let projector = start.elapsed();
        drop(span);
        finite.tensor(Stage::Project, &visual_tokens)?;
        probe.record("projector.features", &visual_tokens)?;
        let (mask_features, volume) = match self.mask_encoder {
            None => (features.into(), None),
            Some(_) => (OnceLock::new(), Some(volume)),
        };
        let cache = ImageCache::new(&visual_tokens)?;
        let image = ImageFeatures { volume, mask_features, visual_tokens, cache, vit, projector };
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
        let features = encoder.forward(volume, &mut Unrecorded(probe))?;
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
    /// `[1, n, hidden]`
    pub(crate) visual_tokens: Tensor,
    /// The keys and values of the image, once a question was asked.
    pub(crate) cache: ImageCache,
    pub(crate) vit: Duration,
    pub(crate) projector: Duration,
}
