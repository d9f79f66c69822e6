//! The two layers of a block. CLIP and BERT differ in the activation between them.

use candle_core::{Result, Tensor};
use r1seg_nn::{Activation, Linear, Weights, linear};

/// `outer(activation(inner(x)))`
#[derive(Debug, Clone)]
pub(crate) struct Mlp {
    inner: Linear,
    outer: Linear,
    activation: Activation,
}

impl Mlp {
    pub(crate) fn new(
        (width, inner_width): (usize, usize),
        activation: Activation,
        inner: Weights,
        outer: Weights,
    ) -> Result<Self> {
        Ok(Self {
            inner: linear(width, inner_width, inner)?,
            outer: linear(inner_width, width, outer)?,
            activation,
        })
    }

    /// # Shapes
    /// - `x`, `residual`: `[B, L, E]`    - returns: the residual and the layers' result for `x`
    pub(crate) fn forward_add(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        self.outer.forward_add(&self.inner.forward_activated(x, self.activation)?, residual)
    }
}
