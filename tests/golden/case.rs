//! A recorded case: a checkpoint, a volume, a prompt, and the tensors of every stage.

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use r1seg::volume::{Mask, ReadOptions, Volume, read};
use r1seg::{
    AskOptions, DeviceChoice, DtypeChoice, EncodeOptions, EncodedVolume, LoadOptions, MaskStatus,
    Outcome, Preprocess, R1SegModel, Recipe, RunContext, Separator, Trace,
};

/// Every stage's largest deviation, in units of the reference's largest magnitude. The recorded
/// checkpoints were loaded back within 7e-7 by their makers; a correct f32 implementation in
/// another order of summation stays far below this.
pub(crate) const F32_TOLERANCE: f32 = 1e-4;

/// How far two runs of one computation may be apart whose matrix products had other heights: CPU
/// kernels sum in one order for all heights, while a GPU has other kernels for another height.
pub(crate) fn repeat_tolerance() -> f32 {
    if device() == DeviceChoice::Cpu { 0.0 } else { F32_TOLERANCE }
}

pub(crate) const R1SEG_CASES: [&str; 7] =
    ["phi3", "phi3-clicks", "phi3-longrope", "llama3", "llama31", "qwen2", "mistral"];

/// Recorded stages that are compared number by number; a case records those that it reached.
const STAGES: [&str; 13] = [
    "vit.block_0",
    "vit.features",
    "projector.features",
    "llm.prefill_hidden_last",
    "llm.prefill_logits_last",
    "llm.step_logits",
    "seg.image_embedding",
    "seg.prompt_embedding",
    "seg.dense_pe_sample",
    "seg.iou_multimask",
    "seg.low_res_logits_0",
    "seg.low_res_logits_1",
    "seg.low_res_logits_2",
];

pub(crate) const M3D_CASES: [&str; 2] = ["m3d-phi3", "m3d-llama2"];

/// A path in the repository, also where the tests run on another machine than they were built on.
pub(crate) fn repository(path: &str) -> PathBuf {
    // cargo says at run time, too, where the package is.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    package.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into()).join("../..").join(path)
}

pub(crate) fn data(path: &str) -> PathBuf {
    repository("tests/data").join(path)
}

pub(crate) fn load(case: &str, dtype: DtypeChoice) -> R1SegModel {
    R1SegModel::load_with(data(case), &on_device().with_dtype(dtype)).unwrap()
}

pub(crate) fn on_device() -> LoadOptions {
    LoadOptions::default().with_device(device())
}

/// The CPU, or the device that `R1SEG_TEST_DEVICE` names: the same cases prove CUDA.
pub(crate) fn device() -> DeviceChoice {
    match std::env::var("R1SEG_TEST_DEVICE") {
        Ok(device) => device.parse().unwrap(),
        Err(_) => DeviceChoice::Cpu,
    }
}

pub(crate) fn volume(path: &str) -> Volume {
    // Recorded volumes of the small models have fewer voxels an axis than any CT.
    read(data(path), &ReadOptions::default()).unwrap().volume
}

/// The volume as the recorded model's own input, with every stage kept.
pub(crate) fn encode(model: &R1SegModel, volume: &Volume) -> EncodedVolume {
    let options =
        EncodeOptions::default().with_preprocess(Preprocess::Recipe(Recipe::None)).with_trace();
    model.encode_with(volume, &options, &mut RunContext::default()).unwrap()
}

/// Recorded prompts follow the image tokens directly.
pub(crate) fn ask(encoded: &EncodedVolume, prompt: &str) -> Outcome {
    let options = AskOptions::default().with_separator(Separator::None);
    encoded.ask_with(prompt, &options, &mut RunContext::default()).unwrap()
}

pub(crate) struct Expected {
    pub(crate) tensors: HashMap<String, Tensor>,
    pub(crate) prompt: String,
    pub(crate) text: String,
}

impl Expected {
    pub(crate) fn read(stem: &str) -> Self {
        let tensors = data(&format!("{stem}.expected.safetensors"));
        let json = std::fs::read(data(&format!("{stem}.json"))).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let text = |key: &str| json[key].as_str().unwrap_or_default().to_string();
        Self {
            tensors: candle_core::safetensors::load(tensors, &Device::Cpu).unwrap(),
            prompt: text("prompt"),
            text: text("text"),
        }
    }

    pub(crate) fn ids(&self, name: &str) -> Vec<i64> {
        self.tensors[name].to_vec1().unwrap()
    }
}

/// Largest deviation over the reference's largest magnitude.
pub(crate) fn deviation(got: &Tensor, reference: &Tensor) -> f32 {
    let flat = |t: &Tensor| t.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
    let (got, reference) = (flat(got), flat(reference));
    assert_eq!(got.dims(), reference.dims());
    let max = |t: Tensor| t.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    max((got - &reference).unwrap()) / max(reference).max(f32::MIN_POSITIVE)
}

pub(crate) fn unpack_bits(packed: &Tensor) -> Vec<bool> {
    let bytes = packed.flatten_all().unwrap().to_vec1::<u8>().unwrap();
    bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1)).collect()
}

pub(crate) fn dice(a: &[bool], b: &[bool]) -> f64 {
    let both = a.iter().zip(b).filter(|(a, b)| **a && **b).count();
    let sum = a.iter().filter(|v| **v).count() + b.iter().filter(|v| **v).count();
    if sum == 0 { 1.0 } else { 2.0 * both as f64 / sum as f64 }
}

pub(crate) fn logits(trace: &Trace) -> Vec<f32> {
    trace.get("mask.logits").unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Masks are identical except where the logit is within the tolerance of the threshold.
pub(crate) fn assert_same_mask(expected: &[bool], logits: &[f32], what: &str) {
    let largest = logits.iter().fold(0f32, |m, v| m.max(v.abs()));
    assert_eq!(expected.len(), logits.len());
    for (i, (&expected, &logit)) in expected.iter().zip(logits).enumerate() {
        // Where all are the constant of an answer without [SEG], `largest` may be infinite.
        if logit.abs() >= F32_TOLERANCE * largest {
            assert_eq!(logit > 0.0, expected, "{what}: voxel {i} has logit {logit}");
        }
    }
}

/// As [`repeat_tolerance`], for masks: where logits may differ, so may voxels at the surface.
pub(crate) fn assert_repeated_mask(got: Option<&Mask>, expected: Option<&Mask>, what: &str) {
    let voxels =
        |mask: Option<&Mask>| mask.map(|m| m.data().iter().map(|&v| v > 0).collect::<Vec<_>>());
    let (got, expected) = (voxels(got), voxels(expected));
    match (&got, &expected) {
        (Some(got), Some(expected)) if repeat_tolerance() > 0.0 => {
            assert_eq!(got.len(), expected.len(), "{what}");
            assert!(dice(got, expected) >= 0.99, "{what}: Dice {}", dice(got, expected));
        }
        _ => assert!(got == expected, "{what}: the masks differ"),
    }
}

/// Asks what a recorded case asked, and compares tokens, words, every recorded stage and the mask.
/// Returns how many stages were compared.
pub(crate) fn compare(encoded: &EncodedVolume, what: &str) -> usize {
    let expected = Expected::read(what);
    let answer = ask(encoded, &expected.prompt);
    let trace = answer.trace.as_ref().unwrap();
    for ids in ["input_ids", "output_ids"] {
        let got = trace.get(ids).unwrap().to_vec1::<i64>().unwrap();
        assert_eq!(got, expected.ids(ids), "{what}: {ids}");
    }
    assert_eq!(answer.text, expected.text, "{what}");
    let mut compared = 0;
    for stage in STAGES {
        let Some(reference) = expected.tensors.get(stage) else { continue };
        let got = trace.get(stage).unwrap_or_else(|| panic!("{what}: no {stage}"));
        let deviation = deviation(got, reference);
        assert!(deviation <= F32_TOLERANCE, "{what}: {stage} deviates by {deviation:e}");
        compared += 1;
    }
    let empty = expected.tensors["mask.empty"].to_vec1::<u8>().unwrap() == [1];
    assert_eq!(answer.mask.is_none(), empty, "{what}");
    assert_eq!(answer.status() == MaskStatus::NotFound, empty, "{what}");
    let logits = logits(trace);
    assert_same_mask(&unpack_bits(&expected.tensors["mask.packed"]), &logits, what);
    if let Some(sample) = expected.tensors.get("mask.logit_sample") {
        let sample = sample.to_vec1::<f32>().unwrap();
        let largest = sample.iter().fold(0f32, |m, v| m.max(v.abs()));
        for (&index, reference) in expected.ids("mask.logit_index").iter().zip(&sample) {
            let got = logits[usize::try_from(index).unwrap()];
            assert!((got - reference).abs() <= F32_TOLERANCE * largest, "{what}: voxel {index}");
        }
    }
    if let Some(mask) = &answer.mask {
        let on_input: Vec<bool> = mask.data().iter().map(|&v| v == 1).collect();
        assert_eq!(on_input, logits.iter().map(|&v| v > 0.0).collect::<Vec<_>>(), "{what}");
    }
    compared
}
