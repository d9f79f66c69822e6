//! The encoder of SAM-Med3D with recorded weights.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use r1seg_nn::{Recording, Weights};
use r1seg_vit3d::{SamVit, SamVitConfig};

use crate::case::{data, deviation, volume};

/// In units of the reference's largest magnitude. The recorded numbers are 2e-6 from a run in f64.
const TOLERANCE: f32 = 2e-5;

#[test]
fn the_encoder_of_sam_med3d_reaches_the_recorded_stages() {
    let json = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(data(name)).unwrap()).unwrap()
    };
    let (config, case) = (json("sam-med3d/config.json"), json("sam-med3d/golden/case.json"));
    let whole = |value: &serde_json::Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    let size = |key: &str| whole(&config[key]);
    let config = SamVitConfig {
        image_size: size("image_size"),
        patch_size: size("patch_size"),
        hidden_size: size("encoder_embed_dim"),
        mlp_dim: size("encoder_embed_dim") * size("encoder_mlp_ratio"),
        num_layers: size("encoder_depth"),
        num_heads: size("encoder_num_heads"),
        window_size: size("window_size"),
        global_blocks: config["encoder_global_attn_indexes"]
            .as_array()
            .unwrap()
            .iter()
            .map(whole)
            .collect(),
        out_channels: size("prompt_embed_dim"),
    };
    let weights = std::fs::read(data("sam-med3d/model.safetensors")).unwrap();
    let weights = VarBuilder::from_buffered_safetensors(weights, DType::F32, &Device::Cpu).unwrap();
    let model = SamVit::new(&config, Weights::from(weights).pp("image_encoder")).unwrap();

    let number = |key: &str| case[key].as_f64().unwrap() as f32;
    let (mean, spread) = (number("roi_mean"), number("roi_std"));
    let roi = volume("sam-med3d/golden/roi.nii.gz");
    let roi: Vec<f32> = roi.voxels().iter().map(|v| (v - mean) / spread).collect();
    // The network's axes are those of the file, fastest last.
    let roi = Tensor::from_vec(roi, (1, 1, 128, 128, 128), &Device::Cpu).unwrap();
    let roi = roi.permute((0, 1, 4, 3, 2)).unwrap();
    let mut probe = Recording::default();
    model.forward(&roi, &mut probe).unwrap();

    let expected = data("sam-med3d/golden/expected.safetensors");
    let expected = candle_core::safetensors::load(expected, &Device::Cpu).unwrap();
    for stage in ["encoder.tokens", "encoder.block_0", "encoder.block_1", "image_embedding"] {
        let (_, got) = probe.tensors.iter().find(|(name, _)| name == stage).unwrap();
        assert_eq!(got.dims(), expected[stage].dims(), "{stage}");
        let deviation = deviation(got, &expected[stage]);
        assert!(deviation < TOLERANCE, "{stage}: {deviation}");
    }
}
