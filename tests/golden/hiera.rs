//! NeuroSAM3D's Hiera encoder.

use candle_core::{DType, Device, Tensor};
use r1seg_nn::{Recording, Weights};
use r1seg_vit3d::{Hiera, HieraConfig};

use crate::case::{data, deviation, volume};

/// Up to the first window beyond its grid: sums in another order.
const TOLERANCE: f32 = 2e-6;

/// From there on: the recording sums some two thousand equal keys of each such window in f32, one by
/// one, which costs up to 5e-5 in a block.
const FILLED_UP_TOLERANCE: f32 = 5e-4;

/// Recorded before a window reaches beyond its grid.
const BEFORE: [&str; 7] = [
    "encoder.patch_embed",
    "encoder.tokens",
    "encoder.block_0",
    "encoder.block_1",
    "encoder.block_2",
    "encoder.block_3",
    "encoder.block_4",
];

/// The recorded region of interest, normalized, with the network's order of axes.
fn recorded_input() -> Tensor {
    let case = std::fs::read(data("neurosam3d-hiera/golden/case.json")).unwrap();
    let case: serde_json::Value = serde_json::from_slice(&case).unwrap();
    let number = |key: &str| case[key].as_f64().unwrap() as f32;
    let (mean, std) = (number("roi_mean"), number("roi_std"));
    let roi = volume("neurosam3d-hiera/golden/roi.nii.gz");
    let voxels = roi.voxels().to_f32().iter().map(|v| (v - mean) / std).collect();
    let stored = Tensor::from_vec(voxels, &roi.shape()[..], &Device::Cpu).unwrap();
    // The network reads i, j, k, and a file of k, j, i in this library's order.
    stored
        .permute((2, 1, 0))
        .unwrap()
        .contiguous()
        .unwrap()
        .unsqueeze(0)
        .unwrap()
        .unsqueeze(0)
        .unwrap()
}

/// Every `step`-th cell along the axes from `first` on.
fn every(step: usize, first: usize, x: &Tensor) -> Tensor {
    let mut x = x.clone();
    for axis in first..first + 3 {
        let cells: Vec<u32> = (0..x.dim(axis).unwrap() as u32).step_by(step).collect();
        x = x
            .contiguous()
            .unwrap()
            .index_select(&Tensor::new(cells, x.device()).unwrap(), axis)
            .unwrap();
    }
    x
}

#[test]
fn every_stage_of_hiera_is_what_the_authors_code_made() {
    let cfg = HieraConfig {
        image_size: 128,
        hidden_size: 8,
        num_heads: 1,
        stages: vec![1, 2, 4, 2],
        window_spec: vec![8, 4, 14, 7],
        global_blocks: vec![4, 6],
        q_pool: 3,
        top_down_levels: vec![2, 3],
        scalp: 1,
        out_channels: 48,
    };
    let tensors = data("neurosam3d-hiera/model.safetensors");
    let tensors = candle_core::safetensors::load(tensors, &Device::Cpu).unwrap();
    let weights: Weights =
        candle_nn::VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu).into();
    let model = Hiera::new(&cfg, weights.pp("image_encoder")).unwrap();
    let mut probe = Recording::default();
    let map = model.forward(&recorded_input(), &mut probe).unwrap();
    assert_eq!(map.dims(), [1, 512, 48]);
    let expected = data("neurosam3d-hiera/golden/expected.safetensors");
    let expected = candle_core::safetensors::load(expected, &Device::Cpu).unwrap();
    let mut compared = 0;
    for (name, tensor) in &probe.tensors {
        let (reference, got) = match expected.get(name) {
            Some(reference) => (reference, tensor.clone()),
            None => {
                let reference = &expected[&format!("{name}_sample")];
                let first = usize::from(name.starts_with("neck"));
                let step = tensor.dim(first).unwrap() / reference.dim(first).unwrap();
                (reference, every(step, first, tensor))
            }
        };
        assert_eq!(got.dims(), reference.dims(), "{name}");
        let deviation = deviation(&got, reference);
        let tolerance =
            if BEFORE.contains(&name.as_str()) { TOLERANCE } else { FILLED_UP_TOLERANCE };
        assert!(deviation <= tolerance, "{name} deviates by {deviation:e}");
        compared += 1;
    }
    assert_eq!(compared, 14);
}
