//! The gated MLP: `down(silu(gate(x)) * up(x))`. Keys: `gate_up_proj` or `gate_proj`, `up_proj`;
//! `down_proj`.

use candle_core::{Result, Tensor};
use r1seg_nn::{Linear, Weights, silu_mul, stacked};

use crate::config::{DecoderConfig, MlpLayout};

#[derive(Debug, Clone)]
pub(crate) struct Mlp {
    gate_up_proj: Linear,
    down_proj: Linear,
}

impl Mlp {
    pub(crate) fn new(config: &DecoderConfig, weights: &Weights) -> Result<Self> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let (gate_up_proj, bias) = match config.mlp {
            MlpLayout::Fused => {
                (stacked(hidden, &[(weights.pp("gate_up_proj"), 2 * inner)], false)?, false)
            }
            MlpLayout::Split { bias } => {
                let parts = ["gate_proj", "up_proj"].map(|key| (weights.pp(key), inner));
                (stacked(hidden, &parts, bias)?, bias)
            }
        };
        Ok(Self {
            gate_up_proj,
            down_proj: stacked(inner, &[(weights.pp("down_proj"), hidden)], bias)?,
        })
    }

    /// # Shapes
    /// - `x`: `[1, R, hidden]`    - returns: the same
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.down_proj.forward(&silu_mul(&self.gate_up_proj.forward(x)?)?)
    }
}
