//! The encoders of all models behind one door.

use candle_core::{Result, Tensor};
use r1seg_nn::{Probe, Weights};

use crate::{Hiera, HieraConfig, SamVit, SamVitConfig, Vit3d, Vit3dConfig};

/// Which encoder a model has, and its sizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageEncoderConfig {
    /// That of R1Seg-3D, M3D and SegVol.
    Monai(Vit3dConfig),
    /// SAM-Med3D's.
    Sam(SamVitConfig),
    /// The Hiera of NeuroSAM3D.
    Hiera(HieraConfig),
}

impl From<Vit3dConfig> for ImageEncoderConfig {
    fn from(config: Vit3dConfig) -> Self {
        Self::Monai(config)
    }
}

impl ImageEncoderConfig {
    /// Size of the input volume in voxels, `[D, H, W]`.
    pub fn image_size(&self) -> [usize; 3] {
        match self {
            Self::Monai(config) => config.image_size,
            Self::Sam(config) => [config.image_size; 3],
            Self::Hiera(config) => [config.image_size; 3],
        }
    }

    /// Channels of the input volume.
    pub fn in_channels(&self) -> usize {
        match self {
            Self::Monai(config) => config.in_channels,
            Self::Sam(_) | Self::Hiera(_) => 1,
        }
    }

    /// Cells of the embedding per axis, `[D, H, W]`.
    pub fn grid(&self) -> [usize; 3] {
        match self {
            Self::Monai(config) => config.grid(),
            Self::Sam(config) => config.grid(),
            Self::Hiera(config) => config.grid(),
        }
    }

    /// Width of the image embeddings.
    pub fn embed_dim(&self) -> usize {
        match self {
            Self::Monai(config) => config.hidden_size,
            Self::Sam(config) => config.out_channels,
            Self::Hiera(config) => config.out_channels,
        }
    }

    /// Number of blocks.
    pub fn num_layers(&self) -> usize {
        match self {
            Self::Monai(config) => config.num_layers,
            Self::Sam(config) => config.num_layers,
            Self::Hiera(config) => config.stages.iter().sum(),
        }
    }

    /// Bytes of the largest activations of a pass, in f32. Attention scores are never materialized.
    pub fn working_bytes(&self) -> u64 {
        match self {
            Self::Monai(config) => config.working_bytes(),
            Self::Sam(config) => config.working_bytes(),
            Self::Hiera(config) => config.working_bytes(),
        }
    }
}

/// The encoder of a model that prompts segment with.
#[derive(Debug, Clone)]
pub enum ImageEncoder {
    /// That of R1Seg-3D, M3D and SegVol.
    Monai(Box<Vit3d>),
    /// SAM-Med3D's.
    Sam(Box<SamVit>),
    /// The Hiera of NeuroSAM3D.
    Hiera(Hiera),
}

impl ImageEncoder {
    /// Loads from `weights`, the prefix of the encoder.
    ///
    /// # Errors
    /// When the configuration is inconsistent, or a tensor is missing or misshaped.
    pub fn new(config: &ImageEncoderConfig, weights: Weights) -> Result<Self> {
        Ok(match config {
            ImageEncoderConfig::Monai(config) => {
                Self::Monai(Box::new(Vit3d::new(config, weights)?))
            }
            ImageEncoderConfig::Sam(config) => Self::Sam(Box::new(SamVit::new(config, weights)?)),
            ImageEncoderConfig::Hiera(config) => Self::Hiera(Hiera::new(config, weights)?),
        })
    }

    /// The image embeddings. Shows its stages to the probe, under the names of the recorded cases.
    ///
    /// # Shapes
    /// - `volume`: `[B, C, D, H, W]`    - returns: `[B, N, E]`, cells depth-major
    ///
    /// # Errors
    /// When the volume has another size than the model was built for, or `probe` ends the pass.
    pub fn forward(&self, volume: &Tensor, probe: &mut dyn Probe) -> Result<Tensor> {
        match self {
            Self::Monai(encoder) => {
                let features = encoder.forward(volume, None, probe)?;
                probe.record("vit.features", &features)?;
                Ok(features)
            }
            Self::Sam(encoder) => encoder.forward(volume, probe),
            Self::Hiera(encoder) => encoder.forward(volume, probe),
        }
    }
}
