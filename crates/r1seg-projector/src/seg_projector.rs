//! Keys: `seg_projector.{0,2}` (nn.Sequential: 0 Linear, 1 ReLU, 2 Linear, 3 Dropout).

use candle_core::{Result, Tensor};
use r1seg_nn::{Activation, Linear, Weights, linear};

/// Maps the hidden state that predicts `[SEG]` to a prompt of the mask decoder.
#[derive(Debug, Clone)]
pub struct SegProjector {
    fc1: Linear,
    fc2: Linear,
}

impl SegProjector {
    /// Loads from `weights`, the prefix `model.seg_projector`.
    ///
    /// # Errors
    /// When a tensor is missing or misshaped.
    pub fn new(hidden_size: usize, embed_dim: usize, weights: Weights) -> Result<Self> {
        Ok(Self {
            fc1: linear(hidden_size, hidden_size, weights.pp(0))?,
            fc2: linear(hidden_size, embed_dim, weights.pp(2))?,
        })
    }

    /// # Shapes
    /// - `hidden`: `[B, hidden]`    - returns: `[B, E]`
    ///
    /// # Errors
    /// When the width differs from the checkpoint's.
    pub fn forward(&self, hidden: &Tensor) -> Result<Tensor> {
        self.fc2.forward(&self.fc1.forward_activated(hidden, Activation::Relu)?)
    }
}
