//! 3D convolutions of the sizes of a segmentation network, in operations of the direct convolution:
//! fewer are done where that is possible, so that more than the processor's peak can be reached.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a benchmark stops at the first error"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{
    BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use r1seg_kernels::{ConvFusion, ConvGeometry, ConvNorm, ConvWeights, RowNorm};
use rayon::prelude::*;

/// One convolution.
struct Case {
    name: &'static str,
    channels: [usize; 2],
    input: [usize; 3],
    kernel: [usize; 3],
    stride: usize,
    padding: usize,
    /// With the norm and the residual of a block.
    fused: bool,
}

const fn same(name: &'static str, channels: usize, side: usize) -> Case {
    let (channels, input) = ([channels; 2], [side; 3]);
    Case { name, channels, input, kernel: [3; 3], stride: 1, padding: 1, fused: false }
}

const fn halving(name: &'static str, channels: usize, side: usize) -> Case {
    let (channels, input) = ([2 * channels, channels], [side; 3]);
    Case { name, channels, input, kernel: [3; 3], stride: 2, padding: 1, fused: false }
}

/// A part of a transposed convolution.
const fn part(name: &'static str, channels: usize, side: usize, kernel: [usize; 3]) -> Case {
    let (channels, input) = ([channels / 2, channels], [side; 3]);
    Case { name, channels, input, kernel, stride: 1, padding: 0, fused: false }
}

const CASES: [Case; 18] = [
    same("same", 48, 128),
    Case { fused: true, ..same("fused", 48, 128) },
    same("same", 48, 64),
    same("same", 96, 64),
    same("same", 96, 32),
    same("same", 192, 32),
    Case { fused: true, ..same("fused", 192, 32) },
    same("same", 384, 16),
    same("same", 768, 8),
    Case {
        name: "first",
        channels: [48, 1],
        input: [64; 3],
        kernel: [3; 3],
        stride: 1,
        padding: 1,
        fused: false,
    },
    halving("halving", 48, 64),
    halving("halving", 192, 32),
    part("part", 96, 64, [1; 3]),
    part("part", 96, 64, [1, 1, 2]),
    part("part", 96, 64, [2, 2, 1]),
    part("part", 96, 64, [2; 3]),
    part("part", 384, 16, [1; 3]),
    part("part", 384, 16, [2; 3]),
];

fn numbers(len: usize) -> Vec<f32> {
    (0..len).into_par_iter().map(|i| (i as f32 * 0.37).sin()).collect()
}

fn convolutions(c: &mut Criterion) {
    let peak = peak();
    eprintln!("peak: {:.1} GFLOP/s on {} threads", peak / 1e9, rayon::current_num_threads());
    let mut group = c.benchmark_group("conv");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .sampling_mode(SamplingMode::Flat);
    for case in CASES {
        let Case { name, channels: [out, inner], input, kernel, stride, padding, fused } = case;
        let output = input.map(|side| side.div_ceil(stride));
        let geometry = ConvGeometry { input, output, stride: [stride; 3], padding: [padding; 3] };
        let taps: usize = kernel.iter().product();
        let weights = ConvWeights::for_geometry(
            &numbers(out * inner * taps),
            [out, inner],
            kernel,
            [stride; 3],
            [padding; 3],
        )
        .unwrap();
        let x = numbers(inner * input.iter().product::<usize>());
        let voxels: usize = output.iter().product();
        let channels = vec![RowNorm { mean: 0.1, scale: 0.9, bias: -0.1 }; inner];
        let norm = fused.then_some(ConvNorm { channels: &channels, slope: 0.0 });
        let residual = fused.then(|| numbers(out * voxels));
        let fusion = ConvFusion { norm, residual: residual.as_deref(), bias: None };
        let operations = 2 * taps * out * inner * voxels;
        group.throughput(Throughput::Elements(operations as u64));
        let id = BenchmarkId::new(name, format!("{inner}->{out} {kernel:?} at {}^3", input[0]));
        let mut best = f64::INFINITY;
        group.bench_function(id, |b| {
            b.iter(|| {
                let start = Instant::now();
                let y = weights.forward(black_box(&x), geometry, fusion);
                best = best.min(start.elapsed().as_secs_f64());
                y
            });
        });
        let rate = operations as f64 / best;
        eprintln!("best: {:.1} GFLOP/s, {:.2} of the peak", rate / 1e9, rate / peak);
    }
    group.finish();
}

/// The most f32 operations per second that all threads do together, counting a fused
/// multiply-add as two.
fn peak() -> f64 {
    const STEPS: usize = 4 << 20;
    let once = || {
        let start = Instant::now();
        let done: usize = rayon::broadcast(|_| operations(STEPS)).into_iter().sum();
        done as f64 / start.elapsed().as_secs_f64()
    };
    (0..20).map(|_| once()).fold(0.0, f64::max)
}

/// Does sums of products for so many steps, and returns how many operations that were.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "the compiler does not know what instructions the machine has")]
fn operations(steps: usize) -> usize {
    use std::arch::x86_64::*;

    const SUMS: usize = 12;

    #[target_feature(enable = "avx512f")]
    fn avx512(steps: usize) {
        let [a, b] = black_box([0.5, 0.25]).map(|x| _mm512_set1_ps(x));
        let mut sums = [a; SUMS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, a, b);
            }
        }
        black_box(sums);
    }
    #[target_feature(enable = "avx2,fma")]
    fn avx2(steps: usize) {
        let [a, b] = black_box([0.5, 0.25]).map(|x| _mm256_set1_ps(x));
        let mut sums = [a; SUMS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, a, b);
            }
        }
        black_box(sums);
    }
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the machine has the instructions.
        unsafe { avx512(steps) };
        2 * 16 * SUMS * steps
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the machine has the instructions.
        unsafe { avx2(steps) };
        2 * 8 * SUMS * steps
    } else {
        plain(steps)
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn operations(steps: usize) -> usize {
    plain(steps)
}

fn plain(steps: usize) -> usize {
    let [a, b] = black_box([0.5f32, 0.25]);
    let mut sums = [a; 48];
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = *sum * a + b;
        }
    }
    black_box(sums);
    2 * 48 * steps
}

criterion_group!(benches, convolutions);
criterion_main!(benches);
