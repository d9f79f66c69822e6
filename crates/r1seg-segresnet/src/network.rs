//! The encoder and both decoders. Keys: `encoder`, `up_layers_auto`, `up_layers`.

use candle_core::{Result, Tensor};
use r1seg_nn::{Probe, Weights};

use crate::encoder::show;
use crate::{Decoder, Encoder, SegResNetConfig};

/// Which branches a pass runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Branches {
    /// Classes alone.
    Classes,
    /// Points alone.
    Points,
    /// Both, from one pass of the encoder.
    Both,
}

/// What a pass gives, where it was asked for.
#[derive(Debug, Clone, Default)]
pub struct Features {
    /// For the class head, `[B, F, D, H, W]`.
    pub classes: Option<Tensor>,
    /// For the point head, `[B, F, D, H, W]`.
    pub points: Option<Tensor>,
}

/// The encoder of VISTA3D and its two decoders.
#[derive(Debug, Clone)]
pub struct SegResNet {
    encoder: Encoder,
    classes: Decoder,
    points: Decoder,
}

impl SegResNet {
    /// Loads from `weights`, the prefix `image_encoder` of a checkpoint.
    ///
    /// # Errors
    /// When the configuration is inconsistent, or a tensor is missing or misshaped.
    pub fn new(config: &SegResNetConfig, weights: Weights) -> Result<Self> {
        Ok(Self {
            encoder: Encoder::new(config, weights.pp("encoder"))?,
            classes: Decoder::new(config, weights.pp("up_layers_auto"))?,
            points: Decoder::new(config, weights.pp("up_layers"))?,
        })
    }

    /// The features of a window. Shows to the probe, beside the stages of the encoder: `decoder.auto` and
    /// `decoder.point` (`[F, D, H, W]`).
    ///
    /// [`SegResNetConfig::working_bytes`] says how much memory it takes.
    ///
    /// # Shapes
    /// - `volume`: `[B, in, D, H, W]`
    ///
    /// # Errors
    /// When the levels cannot halve the volume, or `probe` ends the pass.
    pub fn forward(
        &self,
        volume: &Tensor,
        branches: Branches,
        probe: &mut dyn Probe,
    ) -> Result<Features> {
        let maps = self.encoder.forward(volume, probe)?;
        let for_points = (branches != Branches::Classes).then(|| maps.clone());
        let for_classes = (branches != Branches::Points).then_some(maps);
        let mut features = Features::default();
        if let Some(maps) = for_classes {
            let decoded = self.classes.forward(maps, probe)?;
            show(probe, "decoder.auto", &decoded)?;
            features.classes = Some(decoded);
        }
        if let Some(maps) = for_points {
            let decoded = self.points.forward(maps, probe)?;
            show(probe, "decoder.point", &decoded)?;
            features.points = Some(decoded);
        }
        Ok(features)
    }
}
