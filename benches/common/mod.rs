//! What the benchmarks share: the device, random weights, and how long to measure.
#![allow(dead_code, reason = "each benchmark uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a benchmark stops at the first error")]

use std::sync::Arc;
use std::time::Duration;

use candle_core::{DType, Device, Result, Shape, Tensor};
use criterion::{BenchmarkGroup, Criterion, SamplingMode, measurement::WallTime};
use r1seg::{CheckpointSource, DeviceChoice, LoadOptions, R1SegModel};
use r1seg_nn::{TensorSource, Weights};
use rayon::prelude::*;

/// The CPU, or the device that `R1SEG_BENCH_DEVICE` names: `cpu`, `cuda` or `cuda:N`.
pub(crate) fn device_choice() -> DeviceChoice {
    match std::env::var("R1SEG_BENCH_DEVICE") {
        Ok(device) => device.parse().unwrap(),
        Err(_) => DeviceChoice::Cpu,
    }
}

/// As [`device_choice`], for the parts below the facade.
pub(crate) fn device() -> Device {
    match device_choice() {
        DeviceChoice::Cpu => Device::Cpu,
        // With one stream for all threads, as the facade opens it.
        DeviceChoice::Cuda(n) => Device::new_cuda_with_stream(n).unwrap(),
        DeviceChoice::Auto => Device::new_cuda_with_stream(0).unwrap_or(Device::Cpu),
    }
}

/// A checkpoint on the chosen device.
pub(crate) fn model(source: CheckpointSource) -> R1SegModel {
    R1SegModel::load_with(source, &LoadOptions::default().with_device(device_choice())).unwrap()
}

/// Dtypes of weights that are measured.
pub(crate) const DTYPES: [DType; 2] = [DType::F32, DType::BF16];

/// The dtype of activations over such weights, as the facade chooses it.
pub(crate) fn activation_dtype(weights: DType, device: &Device) -> DType {
    if device.is_cpu() { DType::F32 } else { weights }
}

/// How long a case is measured: `R1SEG_BENCH_SECONDS`, or 2 seconds.
fn measurement_time() -> Duration {
    let seconds = std::env::var("R1SEG_BENCH_SECONDS").map(|text| text.parse().unwrap());
    Duration::from_secs_f64(seconds.unwrap_or(2.0))
}

/// A group of few samples, so that the slowest case stays within a minute.
pub(crate) fn group<'a>(c: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(name);
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(measurement_time())
        // As many runs in every sample: a linear series runs a slow case 55 times.
        .sampling_mode(SamplingMode::Flat);
    group
}

/// Random weights of whatever shape is asked for, the same for a key in every run.
pub(crate) fn weights(dtype: DType, device: &Device) -> Weights {
    Weights::new(Arc::new(RandomWeights), dtype, device.clone())
}

/// Numbers in `-scale..scale`, the same for a seed in every run.
pub(crate) fn random(shape: impl Into<Shape>, scale: f32, seed: u64) -> Tensor {
    let shape = shape.into();
    let values: Vec<f32> =
        (0..shape.elem_count()).into_par_iter().map(|i| scale * unit(seed, i)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// SplitMix64 of a counter, in `-1.0..1.0`.
fn unit(seed: u64, index: usize) -> f32 {
    let z = (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(seed);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
}

struct RandomWeights;

impl TensorSource for RandomWeights {
    fn tensor(&self, name: &str, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor> {
        let seed = name.bytes().fold(7, |seed: u64, byte| seed.wrapping_mul(31) + u64::from(byte));
        // Activations keep their size from layer to layer, so that nothing grows to infinity.
        let width = shape.dims().last().copied().unwrap_or(1).max(1);
        random(shape.clone(), (3.0 / width as f32).sqrt(), seed).to_dtype(dtype)?.to_device(device)
    }

    fn contains(&self, _: &str) -> bool {
        true
    }
}
