//! Surfaces of masks of 512 x 512 x 300 voxels: one mask, and 117 labels beside all of them as one.
#![expect(clippy::unwrap_used, reason = "a benchmark stops at the first error")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use r1seg_metrics::surface::Pair;
use r1seg_metrics::{Empties, LabelOptions, compare_labels, label_overlaps};
use r1seg_volume::{Geometry, LabelMap, Volume};
use rayon::prelude::*;

const SHAPE: [usize; 3] = [300, 512, 512];
const SPACING_MM: [f64; 3] = [1.25, 0.8, 0.8];
const LABELS: usize = 117;

/// A label for each cell of a lattice of 5 x 5 x 5: an ellipsoid with bumps, moved by so many voxels.
fn labels(moved: usize) -> Vec<u16> {
    let [_, h, w] = SHAPE;
    let of_voxel = |n: usize| {
        let place = [n / (h * w), n / w % h, n % w].map(|at| at.saturating_sub(moved));
        let cell: [usize; 3] = std::array::from_fn(|n| (place[n] * 5 / SHAPE[n]).min(4));
        let label = (cell[0] * 5 + cell[1]) * 5 + cell[2] + 1;
        let from_center: [f64; 3] = std::array::from_fn(|n| {
            let size = SHAPE[n] as f64 / 5.0;
            (place[n] as f64 - (cell[n] as f64 + 0.5) * size) / (0.45 * size)
        });
        let bumps = 1.0 + 0.1 * (9.0 * from_center[0]).sin() * (7.0 * from_center[1]).cos();
        let radius: f64 = from_center.iter().map(|v| v * v).sum();
        if label <= LABELS && radius < bumps * bumps { label as u16 } else { 0 }
    };
    (0..SHAPE.iter().product()).into_par_iter().map(of_voxel).collect()
}

/// A body, moved by so many voxels.
fn body(moved: usize) -> Vec<u8> {
    let [d, h, w] = SHAPE;
    let of_voxel = |n: usize| {
        let at = |n: usize, size: usize| (n.saturating_sub(moved)) as f64 / size as f64 - 0.5;
        let [z, y, x] = [at(n / (h * w), d), at(n / w % h, h), at(n % w, w)];
        let radius = 0.4 + 0.02 * (40.0 * z).sin() * (30.0 * x).cos();
        u8::from((y * 1.3).hypot(x) < radius && z.abs() < 0.48)
    };
    (0..SHAPE.iter().product()).into_par_iter().map(of_voxel).collect()
}

fn surfaces(c: &mut Criterion) {
    let mut group = c.benchmark_group("surface");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.measurement_time(Duration::from_secs(10));

    let (truth, predicted) = (body(0), body(2));
    let pair = || Pair::new(&truth, &predicted, SHAPE, SPACING_MM).unwrap();
    group.bench_function("body/surfels", |b| b.iter(|| black_box(pair().surfels())));
    group.bench_function("body/all scores", |b| {
        b.iter(|| black_box(pair().scores(1.0, Empties::Formula)));
    });

    let geometry = Geometry::with_spacing(SHAPE, SPACING_MM).unwrap();
    let map = |labels: &[u16]| {
        let stored: Vec<i16> = labels.iter().map(|label| *label as i16).collect();
        LabelMap::from_volume(&Volume::new(stored, geometry.clone()).unwrap()).unwrap()
    };
    let all = [0, 2].map(labels);
    let one = all.each_ref().map(|map| map.iter().map(|v| (*v).min(1)).collect::<Vec<u16>>());
    let options = LabelOptions { empties: Empties::Formula, tolerance_mm: Some(1.0) };
    for (name, maps) in [("117 labels", &all), ("the same as one label", &one)] {
        group.bench_function(format!("{name}/voxels"), |b| {
            b.iter(|| black_box(label_overlaps(&maps[0], &maps[1]).unwrap()));
        });
        let maps = [map(&maps[0]), map(&maps[1])];
        group.bench_function(format!("{name}/all scores"), |b| {
            b.iter(|| black_box(compare_labels(&maps[0], &maps[1], None, options).unwrap()));
        });
    }
}

criterion_group!(benches, surfaces);
criterion_main!(benches);
