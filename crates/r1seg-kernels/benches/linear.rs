//! Products with weights where they lie: a few rows (in bytes of weights) and more (in operations).
//!
//! All go through 24 different matrices in turn, so that weights come from memory as they do in a
//! model; `read` is a plain read of the same bytes.
#![expect(clippy::unwrap_used, reason = "a benchmark stops at the first error")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{
    BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use r1seg_kernels::{FEW_ROWS, Matrix, WeightType};
use rayon::prelude::*;

const TYPES: [WeightType; 6] = [
    WeightType::F32,
    WeightType::F16,
    WeightType::Bf16,
    WeightType::Q8_0,
    WeightType::Q4K,
    WeightType::Q6K,
];

/// Matrices that rows go through.
const MATRICES: usize = 24;

/// Bytes that are ordinary numbers in any type.
fn weights(len: usize) -> Vec<u8> {
    (0..len)
        .into_par_iter()
        .map(|i| 0x30 | (i.wrapping_mul(0x9e37_79b9) >> 20) as u8 & 15)
        .collect()
}

fn activations(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i as f32).sin()).collect()
}

fn few_rows(c: &mut Criterion) {
    let (k, n) = (3072, 8192);
    let bytes = weights(MATRICES * n * WeightType::Bf16.row_bytes(k).unwrap());
    let mut group = c.benchmark_group("few-rows");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(2))
        .sampling_mode(SamplingMode::Flat)
        .throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("read", |b| {
        let part = bytes.len().div_ceil(rayon::current_num_threads()).next_multiple_of(8);
        b.iter(|| -> u64 {
            let word = |word: &[u8; 8]| u64::from_le_bytes(*word);
            let sum = |part: &[u8]| -> u64 {
                part.as_chunks().0.iter().map(word).fold(0, u64::wrapping_add)
            };
            black_box(bytes.par_chunks(part).map(sum).reduce(|| 0, u64::wrapping_add))
        });
    });
    let (x, mut y) = (activations(FEW_ROWS * k), vec![0f32; FEW_ROWS * n]);
    for weight_type in TYPES {
        let one = n * weight_type.row_bytes(k).unwrap();
        let matrices: Vec<Matrix<'_>> = (bytes.chunks_exact(one).take(MATRICES))
            .map(|bytes| Matrix::new(bytes, weight_type, n, k).unwrap())
            .collect();
        group.throughput(Throughput::Bytes((one * matrices.len()) as u64));
        for m in [1, 2, FEW_ROWS] {
            group.bench_function(BenchmarkId::new(format!("{weight_type:?}"), m), |b| {
                b.iter(|| {
                    for matrix in &matrices {
                        matrix.forward(&x[..m * k], m, None, &mut y[..m * n]);
                    }
                });
            });
        }
    }
    group.finish();
}

fn many_rows(c: &mut Criterion) {
    let mut group = c.benchmark_group("many-rows");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(2))
        .sampling_mode(SamplingMode::Flat);
    let shapes = [
        (8, 3072, 8192),
        (40, 3072, 8192),
        (296, 3072, 8192),
        (296, 8192, 3072),
        (2048, 768, 3072),
    ];
    for (m, k, n) in shapes {
        let bytes = weights(MATRICES * n * WeightType::Bf16.row_bytes(k).unwrap());
        let (x, mut y) = (activations(m * k), vec![0f32; m * n]);
        group.throughput(Throughput::Elements(2 * (m * n * k) as u64));
        for weight_type in TYPES {
            let mut matrices = (bytes.chunks_exact(n * weight_type.row_bytes(k).unwrap()))
                .map(|bytes| Matrix::new(bytes, weight_type, n, k).unwrap())
                .collect::<Vec<_>>()
                .into_iter()
                .cycle();
            let id = BenchmarkId::new(format!("{weight_type:?}"), format!("{m}x{k}x{n}"));
            group.bench_function(id, |b| {
                b.iter(|| matrices.next().unwrap().forward(&x, m, None, &mut y));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, few_rows, many_rows);
criterion_main!(benches);
