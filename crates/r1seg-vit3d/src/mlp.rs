use candle_core::{Result, Tensor};
use r1seg_nn::{Activation, Linear, Weights, linear};

/// The two layers of a block behind its attention, under names that differ between publishers.
#[derive(Debug, Clone)]
pub(crate) struct Mlp {
    widen: Linear,
    narrow: Linear,
}

impl Mlp {
    /// From width `e` to `mlp_dim` and back.
    ///
    /// # Errors
    /// When a tensor is missing or misshaped.
    pub(crate) fn new(
        (e, mlp_dim): (usize, usize),
        weights: &Weights,
        [widen, narrow]: [&str; 2],
    ) -> Result<Self> {
        Ok(Self {
            widen: linear(e, mlp_dim, weights.pp(widen))?,
            narrow: linear(mlp_dim, e, weights.pp(narrow))?,
        })
    }

    /// # Shapes
    /// - `x`, `residual`: `[.., E]`    - returns: the residual and the layers' result for `x`
    ///
    /// # Errors
    /// When the backend cannot run the operation.
    pub(crate) fn forward_add(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        let inner = self.widen.forward_activated(x, Activation::GeluErf)?;
        self.narrow.forward_add(&inner, residual)
    }
}
