//! Weights that are made when they are asked for.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use candle_core::{DType, Device, Error, Result, Shape, Tensor};
use r1seg_nn::TensorSource;

/// Numbers between -1 and 1 that follow from a name (splitmix64).
pub(crate) fn numbers(name: &str, count: usize) -> Vec<f32> {
    let mut state =
        name.bytes().fold(1u64, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) >> 40
    };
    (0..count).map(|_| next() as f32 / (1 << 23) as f32 - 1.0).collect()
}

/// Random tensors by name, all of which are kept.
pub(crate) struct Named {
    made: Mutex<BTreeMap<String, Tensor>>,
    dtype: DType,
}

impl Default for Named {
    fn default() -> Self {
        Self::rounded_to(DType::F32)
    }
}

impl Named {
    pub(crate) fn rounded_to(dtype: DType) -> Self {
        Self { made: Mutex::default(), dtype }
    }

    fn made(&self) -> Result<MutexGuard<'_, BTreeMap<String, Tensor>>> {
        self.made.lock().map_err(|error| Error::msg(error.to_string()))
    }

    /// What was asked for, widened exactly.
    pub(crate) fn f64s(&self) -> Result<BTreeMap<String, Vec<f64>>> {
        let made = self.made()?;
        let wide = |tensor: &Tensor| tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1();
        made.iter().map(|(name, tensor)| Ok((name.clone(), wide(tensor)?))).collect()
    }
}

impl TensorSource for Named {
    fn tensor(&self, name: &str, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor> {
        // Matrices that keep the size of what they multiply, and factors of norms around one.
        let inputs: usize = shape.dims().iter().skip(1).product();
        let scale = if shape.rank() == 1 { 0.5 } else { (3.0 / inputs as f64).sqrt() };
        let scale = if name.contains("pos_embed") { 0.5 } else { scale };
        let around = if name.contains("norm") && name.ends_with("weight") { 1.0 } else { 0.0 };
        let numbers = Tensor::from_vec(numbers(name, shape.elem_count()), shape, device)?;
        let tensor = ((numbers * scale)? + around)?.to_dtype(self.dtype)?;
        self.made()?.insert(name.to_string(), tensor.clone());
        tensor.to_dtype(dtype)
    }

    fn contains(&self, _name: &str) -> bool {
        true
    }
}

/// A source that only notes what is asked for.
pub(crate) struct WithoutNumbers;

impl TensorSource for WithoutNumbers {
    fn tensor(&self, _: &str, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor> {
        Tensor::zeros((), dtype, device)?.broadcast_as(shape)
    }

    fn contains(&self, _: &str) -> bool {
        true
    }

    fn has_numbers(&self) -> bool {
        false
    }
}
