//! Weights for tests of what does not depend on their values.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Shape, Tensor};
use r1seg_nn::{TensorSource, Weights};

/// A checkpoint that has every tensor, with random numbers in it: zeros would hide a missing term.
struct RandomTensors;

impl TensorSource for RandomTensors {
    fn tensor(&self, _: &str, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor> {
        Tensor::randn(0f32, 0.5, shape.clone(), device)?.to_dtype(dtype)
    }

    fn contains(&self, _: &str) -> bool {
        true
    }
}

pub(crate) fn random_weights() -> Weights {
    Weights::new(Arc::new(RandomTensors), DType::F32, Device::Cpu)
}
