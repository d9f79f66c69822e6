//! A text as a prompt of the mask decoder. Keys: `clip_text_model.text_model`, `dim_align`.

use candle_core::{Result, Tensor};
use r1seg_nn::{Linear, Probe, Weights, linear};

use crate::{ClipTextConfig, ClipTextModel};

/// `TextEncoder` of SegVol and R1Seg-3D-SAM.
#[derive(Debug, Clone)]
pub struct PromptTextEncoder {
    clip_text_model: ClipTextModel,
    dim_align: Linear,
}

impl PromptTextEncoder {
    /// Loads from `weights`, the prefix `text_encoder` of a checkpoint, for a mask decoder of
    /// width `embed_dim`.
    ///
    /// # Errors
    /// When the configuration is inconsistent, or a tensor is missing or misshaped.
    pub fn new(cfg: &ClipTextConfig, embed_dim: usize, weights: Weights) -> Result<Self> {
        let text_model = weights.pp("clip_text_model").pp("text_model");
        Ok(Self {
            clip_text_model: ClipTextModel::new(cfg, text_model)?,
            dim_align: linear(cfg.hidden_size, embed_dim, weights.pp("dim_align"))?,
        })
    }

    /// The prompt embedding of one text. Shows `text.block_0` to the probe.
    ///
    /// # Shapes
    /// - `ids`: `L` of them, with the start and end tokens
    /// - returns: `[1, E]`, of the mask decoder's width
    ///
    /// # Errors
    /// As [`ClipTextModel::forward`].
    pub fn forward(&self, ids: &[u32], probe: &mut dyn Probe) -> Result<Tensor> {
        self.dim_align.forward(&self.clip_text_model.forward(ids, probe)?.pooled)
    }
}
