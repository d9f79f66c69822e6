//! The CLIP text encoder of a small R1Seg-3D-SAM against what the authors' code made of it;
//! `tests/data/README.md` at the root of the repository says how it was recorded. BERT is held
//! against M3D-CLIP in `tests/golden` there.

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use r1seg_nn::{NoProbe, Weights};
use r1seg_text_encoder::{ClipTextConfig, PromptTextEncoder};

/// Of the largest magnitude in the recording.
const F32_TOLERANCE: f32 = 1e-4;

fn data(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/r1seg-3dsam").join(path)
}

fn load(path: &str) -> Result<HashMap<String, Tensor>> {
    candle_core::safetensors::load(data(path), &Device::Cpu)
}

#[test]
fn clip_text_of_r1seg_3dsam_in_f32_matches_the_authors() -> Result<()> {
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(data("config.json"))?).unwrap();
    let config: ClipTextConfig = serde_json::from_value(config["text_config"].clone()).unwrap();
    let weights = VarBuilder::from_tensors(load("model.safetensors")?, DType::F32, &Device::Cpu);
    let encoder = PromptTextEncoder::new(&config, 48, Weights::from(weights).pp("text_encoder"))?;
    let expected = load("golden/expected.safetensors")?;

    // "A computerized tomography of a liver." and
    // "The slices display the left kidney in anatomical detail."
    let texts: [&[u32]; 2] = [
        &[49406, 320, 11639, 704, 7690, 999, 22399, 539, 320, 12639, 269, 49407],
        &[49406, 518, 28424, 4456, 518, 1823, 14610, 530, 33759, 1110, 7657, 269, 49407],
    ];
    for (i, ids) in texts.into_iter().enumerate() {
        let expected = &expected[&format!("text.embedding_{i}")];
        let embedding = encoder.forward(ids, &mut NoProbe)?;
        assert_eq!(embedding.dims(), expected.dims());
        let max = |x: &Tensor| x.abs()?.max_all()?.to_scalar::<f32>();
        let gap = max(&(embedding - expected)?)? / max(expected)?;
        assert!(gap < F32_TOLERANCE, "text {i}: {gap:e}");
    }
    Ok(())
}
