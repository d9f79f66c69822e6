//! The two layers of a block. CLIP and BERT differ in the activation between them.

use candle_core::{Result, Tensor};
use r1seg_nn::{Linear, Weights, linear};

/// `outer(activation(inner(x)))`
#[derive(Debug, Clone)]
pub(crate) struct Mlp {
    inner: Linear,
    outer: Linear,
    activation: fn(&Tensor) -> Result<Tensor>,
}

impl Mlp {
    pub(crate) fn new(
        (width, inner_width): (usize, usize),
        activation: fn(&Tensor) -> Result<Tensor>,
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
    /// - `x`: `[B, L, E]`    - returns: the same
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.outer.forward(&(self.activation)(&self.inner.forward(x)?)?)
    }
}
