//! A volume to visual tokens: the vision transformer (`vit`) and the projector (`projector`); and a
//! volume to an image embedding: the encoder of SAM-Med3D (`sam`).
//!
//! `full` is the published geometry: 32x256x256 voxels and ViT-B, for `sam` 128x128x128. The unit is one multiplication or
//! addition, so that `Gelem/s` are GFLOP/s.
#![expect(clippy::unwrap_used, reason = "a benchmark stops at the first error")]

mod common;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use r1seg_nn::NoProbe;
use r1seg_projector::{LayerType, MmProjector, MmProjectorConfig, PoolingType, ProjectorType};
use r1seg_vit3d::{SamVit, SamVitConfig, Vit3d, Vit3dConfig};

/// The name of a case, its vision transformer, and the width of its language model.
fn cases() -> [(&'static str, Vit3dConfig, usize); 2] {
    let full = Vit3dConfig {
        image_size: [32, 256, 256],
        patch_size: [4, 16, 16],
        in_channels: 1,
        hidden_size: 768,
        mlp_dim: 3072,
        num_layers: 12,
        num_heads: 12,
        cls_token: false,
        slice_guided: false,
    };
    let tiny = Vit3dConfig {
        image_size: [16, 64, 64],
        hidden_size: 48,
        mlp_dim: 64,
        num_layers: 2,
        num_heads: 4,
        ..full.clone()
    };
    [("tiny", tiny, 64), ("full", full, 3072)]
}

/// Multiplications and additions of the matrix products in one forward pass.
fn vit_flop(config: &Vit3dConfig) -> u64 {
    let (n, e) = (config.num_patches(), config.hidden_size);
    let voxels = config.patch_size.iter().product::<usize>() * config.in_channels;
    let linear = 2 * n * e * (4 * e + 2 * config.mlp_dim);
    let attention = 4 * n * n * e;
    (2 * n * voxels * e + config.num_layers * (linear + attention)) as u64
}

fn vit(c: &mut Criterion) {
    let device = common::device();
    let mut group = common::group(c, "vit");
    for (name, config, _) in cases() {
        for dtype in common::DTYPES {
            let model = Vit3d::new(&config, common::weights(dtype, &device)).unwrap();
            let [d, h, w] = config.image_size;
            let volume = common::random((1, 1, d, h, w), 1.0, 1).to_device(&device).unwrap();
            let volume = volume.to_dtype(common::activation_dtype(dtype, &device)).unwrap();
            group.throughput(Throughput::Elements(vit_flop(&config)));
            group.bench_function(BenchmarkId::new(name, dtype.as_str()), |b| {
                b.iter(|| {
                    let features = model.forward(&volume, None, &mut NoProbe).unwrap();
                    device.synchronize().unwrap();
                    features
                });
            });
        }
    }
    group.finish();
}

/// As [`vit_flop`], where a window with its filling is as many keys as it has cells of the grid.
fn sam_flop(config: &SamVitConfig) -> u64 {
    let (n, e, c) = (config.num_patches(), config.hidden_size, config.out_channels);
    let linear = 2 * n * e * (4 * e + 2 * config.mlp_dim);
    let attention = 4 * n * n * e;
    let neck = 2 * n * c * (e + 27 * c);
    (2 * n * config.patch_size.pow(3) * e + config.num_layers * (linear + attention) + neck) as u64
}

fn sam(c: &mut Criterion) {
    let device = common::device();
    let mut group = common::group(c, "sam");
    let config = SamVitConfig {
        image_size: 128,
        patch_size: 16,
        hidden_size: 768,
        mlp_dim: 3072,
        num_layers: 12,
        num_heads: 12,
        window_size: 14,
        global_blocks: vec![2, 5, 8, 11],
        out_channels: 384,
    };
    for dtype in common::DTYPES {
        let model = SamVit::new(&config, common::weights(dtype, &device)).unwrap();
        let volume = common::random((1, 1, 128, 128, 128), 1.0, 1).to_device(&device).unwrap();
        let volume = volume.to_dtype(common::activation_dtype(dtype, &device)).unwrap();
        group.throughput(Throughput::Elements(sam_flop(&config)));
        group.bench_function(BenchmarkId::new("full", dtype.as_str()), |b| {
            b.iter(|| {
                let embedding = model.forward(&volume, &mut NoProbe).unwrap();
                device.synchronize().unwrap();
                embedding
            });
        });
    }
    group.finish();
}

fn projector(c: &mut Criterion) {
    let device = common::device();
    let mut group = common::group(c, "projector");
    for (name, vit, out_dim) in cases() {
        let config = MmProjectorConfig {
            projector_type: ProjectorType::SpatialPooling,
            layer_type: LayerType::Mlp,
            layer_num: 2,
            pooling_type: PoolingType::Spatial,
            pooling_size: 2,
            grid: vit.grid(),
            in_dim: vit.hidden_size,
            out_dim,
        };
        let flop = 2 * config.num_tokens() * out_dim * (vit.hidden_size + out_dim);
        for dtype in common::DTYPES {
            let model = MmProjector::new(&config, common::weights(dtype, &device)).unwrap();
            let features = common::random((1, vit.num_patches(), vit.hidden_size), 1.0, 2);
            let features = features.to_device(&device).unwrap();
            let features = features.to_dtype(common::activation_dtype(dtype, &device)).unwrap();
            group.throughput(Throughput::Elements(flop as u64));
            group.bench_function(BenchmarkId::new(name, dtype.as_str()), |b| {
                b.iter(|| {
                    let tokens = model.forward(&features, &mut NoProbe).unwrap();
                    device.synchronize().unwrap();
                    tokens
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, vit, sam, projector);
criterion_main!(benches);
