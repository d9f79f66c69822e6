//! A volume to visual tokens: the vision transformer and the projector, in f32.
//!
//! `full` is the published geometry, 32x256x256 voxels and ViT-B. The unit is patches for `vit`,
//! visual tokens for `projector`.
#![expect(clippy::unwrap_used, reason = "a benchmark stops at the first error")]

mod common;

use candle_core::DType;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use r1seg_nn::NoProbe;
use r1seg_projector::{LayerType, MmProjector, MmProjectorConfig, PoolingType, ProjectorType};
use r1seg_vit3d::{Vit3d, Vit3dConfig};

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

fn vit(c: &mut Criterion) {
    let device = common::device();
    let mut group = common::group(c, "vit");
    for (name, config, _) in cases() {
        let model = Vit3d::new(&config, common::weights(DType::F32, &device)).unwrap();
        let [d, h, w] = config.image_size;
        let volume = common::random((1, 1, d, h, w), 1.0, 1).to_device(&device).unwrap();
        group.throughput(Throughput::Elements(config.num_patches() as u64));
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter(|| {
                let features = model.forward(&volume, &mut NoProbe).unwrap();
                device.synchronize().unwrap();
                features
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
        let model = MmProjector::new(&config, common::weights(DType::F32, &device)).unwrap();
        let features = common::random((1, vit.num_patches(), vit.hidden_size), 1.0, 2);
        let features = features.to_device(&device).unwrap();
        group.throughput(Throughput::Elements(config.num_tokens() as u64));
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter(|| {
                let tokens = model.forward(&features).unwrap();
                device.synchronize().unwrap();
                tokens
            });
        });
    }
    group.finish();
}

criterion_group!(benches, vit, projector);
criterion_main!(benches);
