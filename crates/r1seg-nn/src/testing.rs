//! What the tests of several layers share.

use candle_core::{DType, Device, Result, Shape, Tensor};

/// Where tests compute: on a CPU, or what `R1SEG_TEST_DEVICE` names.
pub(crate) fn device() -> Result<Device> {
    #[cfg(feature = "cuda")]
    if std::env::var_os("R1SEG_TEST_DEVICE").is_some_and(|name| name == "cuda") {
        // One device, so one stream, for all tests of a process.
        static DEVICE: std::sync::OnceLock<Option<Device>> = std::sync::OnceLock::new();
        let device = DEVICE.get_or_init(|| Device::new_cuda_with_stream(0).ok());
        return device.clone().ok_or_else(|| candle_core::Error::msg("there is no CUDA device"));
    }
    Ok(Device::Cpu)
}

/// Random numbers, the same on every device.
pub(crate) fn random(mean: f32, deviation: f32, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::randn(mean, deviation, shape, &Device::Cpu)?.to_device(&device()?)
}

/// `sin(step * i)` of the elements in order, computed in f64: numbers that PyTorch can make too.
pub(crate) fn wave(shape: &[usize], step: f64) -> Result<Tensor> {
    let n: usize = shape.iter().product();
    let numbers: Vec<f32> = (0..n).map(|i| (i as f64 * step).sin() as f32).collect();
    Tensor::from_vec(numbers, shape, &device()?)
}

/// The largest difference; NaN where there is one, which `max_all` would pass over.
pub(crate) fn gap(a: &Tensor, b: &Tensor) -> Result<f64> {
    let gaps = (on_cpu(a)? - on_cpu(b)?)?.abs()?.flatten_all()?.to_vec1::<f64>()?;
    let larger = |most: f64, gap: f64| if most.is_nan() || gap <= most { most } else { gap };
    Ok(gaps.into_iter().fold(0.0, larger))
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

/// In f64, where every operation is.
pub(crate) fn on_cpu(x: &Tensor) -> Result<Tensor> {
    x.to_device(&Device::Cpu)?.to_dtype(DType::F64)
}
