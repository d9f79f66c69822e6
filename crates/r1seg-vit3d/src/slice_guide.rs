//! HSENet's guidance by slices. Port of `2E3_ViT` (`LaMed/src/model/CLIP_stage2.py`, HSENet @c7198f3).
//! Keys: `slice_guided_attention`, `patch_score_proj`.

use candle_core::{Result, Tensor};
use r1seg_nn::{CrossAttention, Linear, Probe, Weights, linear};

/// Scores each patch by what slices of the volume make of it, from 0 to 1, and scales it.
#[derive(Debug, Clone)]
pub struct SliceGuide {
    attention: CrossAttention,
    score: Linear,
}

impl SliceGuide {
    /// Loads from `weights`, the prefix of an encoder of width `hidden_size`.
    ///
    /// # Errors
    /// When a tensor is missing or misshaped.
    pub fn new(hidden_size: usize, weights: &Weights) -> Result<Self> {
        Ok(Self {
            attention: CrossAttention::new(hidden_size, &weights.pp("slice_guided_attention"))?,
            score: linear(hidden_size, 1, weights.pp("patch_score_proj"))?,
        })
    }

    /// Shows `vit.attention` (`[B, N, S]`), `vit.attended` (`[B, N, E]`) and `vit.scores` (`[B, N]`) to the
    /// probe.
    ///
    /// # Shapes
    /// - `patches`: `[B, N, E]`, with their positions    - `slices`: `[B, S, E]`
    /// - returns: `[B, N, E]`
    ///
    /// # Errors
    /// When the slices have another width than the patches.
    pub fn forward(
        &self,
        patches: &Tensor,
        slices: &Tensor,
        probe: &mut dyn Probe,
    ) -> Result<Tensor> {
        if probe.is_listening() {
            probe.record("vit.attention", &self.attention.weights(patches, slices)?)?;
        }
        let attended = self.attention.forward(patches, slices)?;
        probe.record("vit.attended", &attended)?;
        let scores = sigmoid(&self.score.forward(&attended)?)?;
        probe.record("vit.scores", &scores.squeeze(2)?)?;
        patches.broadcast_mul(&scores)
    }
}

/// `1 / (1 + exp(-x))`.
fn sigmoid(x: &Tensor) -> Result<Tensor> {
    (x.neg()?.exp()? + 1.0)?.recip()
}
