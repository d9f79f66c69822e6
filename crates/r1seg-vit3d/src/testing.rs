//! What the tests of several encoders share.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Shape, Tensor};
use r1seg_nn::{TensorSource, Weights};

/// Random numbers under any name.
struct Random;

impl TensorSource for Random {
    fn tensor(&self, _name: &str, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor> {
        Tensor::randn(0f32, 0.5, shape, device)?.to_dtype(dtype)
    }

    fn contains(&self, _name: &str) -> bool {
        true
    }
}

pub(crate) fn random_weights() -> Weights {
    Weights::new(Arc::new(Random), DType::F32, Device::Cpu)
}
