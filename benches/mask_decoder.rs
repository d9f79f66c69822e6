//! A prompt embedding to mask logits (`mask`), and these to the model's grid (`upsample`), in voxels.
//!
//! `full` is the published geometry: width 768, 8x16x16 patches, 32x64x64 low-resolution cells,
//! 32x256x256 voxels. `refined` adds the published two passes, each prompted with the mask of the
//! one before.
#![expect(clippy::unwrap_used, reason = "a benchmark stops at the first error")]

mod common;

use candle_core::Tensor;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use r1seg_mask_decoder::{MaskDecoderConfig, MaskHead, PromptConfig, Prompts};
use r1seg_nn::{NoProbe, trilinear};

fn configs() -> [(&'static str, MaskDecoderConfig); 2] {
    let config = |embed_dim, image_size, grid| {
        MaskDecoderConfig::segvol(embed_dim, image_size, grid, PromptConfig::text_and_masks())
    };
    [
        ("tiny", config(48, [16, 64, 64], [4, 4, 4])),
        ("full", config(768, [32, 256, 256], [8, 16, 16])),
    ]
}

fn voxels(shape: [usize; 3]) -> Throughput {
    Throughput::Elements(shape.iter().product::<usize>() as u64)
}

fn mask(c: &mut Criterion) {
    let device = common::device();
    let mut group = common::group(c, "mask");
    for (name, config) in configs() {
        for dtype in common::DTYPES {
            let head = MaskHead::new(&config, common::weights(dtype, &device)).unwrap();
            let activation = common::activation_dtype(dtype, &device);
            let (patches, width) = (config.grid.iter().product::<usize>(), config.embed_dim());
            let input =
                |values: Tensor| values.to_device(&device).unwrap().to_dtype(activation).unwrap();
            let image = input(common::random((1, patches, width), 1.0, 4));
            let text = input(common::random((1, width), 1.0, 5));
            let prompts = Prompts { text: Some(&text), ..Prompts::default() };
            for (passes, num_clicks) in [("first", 0), ("refined", 2)] {
                let id = BenchmarkId::new(format!("{name}/{passes}"), dtype.as_str());
                group.throughput(voxels(config.low_res_size()));
                group.bench_function(id, |b| {
                    b.iter(|| {
                        let logits =
                            head.refine(&image, &prompts, num_clicks, &mut NoProbe).unwrap();
                        device.synchronize().unwrap();
                        logits
                    });
                });
            }
        }
    }
    group.finish();
}

fn upsample(c: &mut Criterion) {
    let device = common::device();
    let mut group = common::group(c, "upsample");
    for (name, config) in configs() {
        let [d, h, w] = config.low_res_size();
        let logits = common::random((1, 1, d, h, w), 1.0, 6).to_device(&device).unwrap();
        group.throughput(voxels(config.image_size));
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter(|| {
                let logits = trilinear(&logits, config.image_size).unwrap();
                device.synchronize().unwrap();
                logits
            });
        });
    }
    group.finish();
}

criterion_group!(benches, mask, upsample);
criterion_main!(benches);
