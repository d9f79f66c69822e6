//! Projections that a checkpoint stores in one matrix or in several.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use r1seg_nn::Linear;

/// One [`Linear`] whose outputs are those of `parts`, one after the other: a single product for
/// what the checkpoint splits. Each part is a key and a number of outputs.
///
/// The rows are joined in the dtype of the `VarBuilder`, so loading needs the memory of one such
/// matrix beside the weights.
pub(crate) fn stacked(
    in_dim: usize,
    parts: &[(&str, usize)],
    bias: bool,
    vb: &VarBuilder,
) -> Result<Linear> {
    let weights = parts
        .iter()
        .map(|&(key, out_dim)| vb.pp(key).get((out_dim, in_dim), "weight"))
        .collect::<Result<Vec<_>>>()?;
    let weight = Tensor::cat(&weights, 0)?;
    let bias = if bias {
        let biases = parts
            .iter()
            .map(|&(key, out_dim)| vb.pp(key).get(out_dim, "bias"))
            .collect::<Result<Vec<_>>>()?;
        Some(Tensor::cat(&biases, 0)?)
    } else {
        None
    };
    Linear::new(weight, bias)
}
