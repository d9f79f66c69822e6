//! What the tests of several layers share.

use candle_core::{DType, Device, Result, Tensor};

/// `sin(step * i)` of the elements in order, computed in f64: numbers that PyTorch can make too.
pub(crate) fn wave(shape: &[usize], step: f64) -> Result<Tensor> {
    let n: usize = shape.iter().product();
    let numbers: Vec<f32> = (0..n).map(|i| (i as f64 * step).sin() as f32).collect();
    Tensor::from_vec(numbers, shape, &Device::Cpu)
}

/// The largest difference.
pub(crate) fn gap(a: &Tensor, b: &Tensor) -> Result<f64> {
    (a.to_dtype(DType::F64)? - b.to_dtype(DType::F64)?)?.abs()?.max_all()?.to_scalar::<f64>()
}

/// Compares all elements in order.
pub(crate) fn assert_close(got: &Tensor, expected: &[f32], tolerance: f32) -> Result<()> {
    let got = got.flatten_all()?.to_vec1::<f32>()?;
    assert_eq!(got.len(), expected.len());
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!((got - expected).abs() < tolerance, "element {i}: {got}, expected {expected}");
    }
    Ok(())
}
