use candle_core::{Result, Tensor};
use r1seg_nn::{Linear, Weights, gelu_erf, linear};

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
    /// - `x`: `[.., E]`    - returns: the same
    ///
    /// # Errors
    /// When the backend cannot run the operation.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.narrow.forward(&gelu_erf(&self.widen.forward(x)?)?)
    }
}
