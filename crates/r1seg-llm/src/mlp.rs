//! The gated MLP: `down(silu(gate(x)) * up(x))`. Keys: `gate_up_proj` or `gate_proj`, `up_proj`;
//! `down_proj`.

use candle_core::{Result, Tensor};
use r1seg_nn::{Activation, Linear, Weights, stacked};

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
    /// - `x`, `residual`: `[1, R, hidden]`    - returns: the residual and the MLP of `x`
    pub(crate) fn forward_add(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        let inner = self.gate_up_proj.forward_activated(x, Activation::SiluGate)?;
        self.down_proj.forward_add(&inner, residual)
    }
}
