//! MONAI's "perceptron" patch embedding.
//! Keys: `patch_embeddings.1` (0 is the parameter-free rearrangement), `position_embeddings`.

use candle_core::{Result, Tensor, bail};
use r1seg_nn::{Linear, Weights, linear, patchify};

use crate::Vit3dConfig;

/// Flattened patches, mapped to tokens, plus a learned position each.
#[derive(Debug, Clone)]
pub struct PatchEmbedding {
    projection: Linear,
    position_embeddings: Tensor,
    patch_size: [usize; 3],
    image_size: [usize; 3],
}

impl PatchEmbedding {
    /// Loads from `weights`, the prefix `patch_embedding` of a checkpoint.
    ///
    /// # Errors
    /// When a tensor is missing or misshaped.
    pub fn new(cfg: &Vit3dConfig, weights: Weights) -> Result<Self> {
        let patch_dim = cfg.in_channels * cfg.patch_size.iter().product::<usize>();
        let position_shape = (1, cfg.num_patches(), cfg.hidden_size);
        Ok(Self {
            projection: linear(patch_dim, cfg.hidden_size, weights.pp("patch_embeddings").pp(1))?,
            position_embeddings: weights.get(position_shape, "position_embeddings")?,
            patch_size: cfg.patch_size,
            image_size: cfg.image_size,
        })
    }

    /// # Shapes
    /// - `volume`: `[B, C, D, H, W]`    - returns: `[B, N, E]`, patches depth-major
    ///
    /// # Errors
    /// When the volume has another size than the model was built for.
    pub fn forward(&self, volume: &Tensor) -> Result<Tensor> {
        let (_, _, d, h, w) = volume.dims5()?;
        if [d, h, w] != self.image_size {
            bail!("the model reads volumes of {:?} voxels, got {:?}", self.image_size, [d, h, w])
        }
        let tokens = self.projection.forward(&patchify(volume, self.patch_size)?)?;
        tokens.broadcast_add(&self.position_embeddings.to_dtype(tokens.dtype())?)
    }
}
