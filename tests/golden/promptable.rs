//! SegVol and R1Seg-3D-SAM against the authors' code: every kind of prompt, and the refinement loop.

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use r1seg::volume::resample::nearest;
use r1seg::volume::{Geometry, Recipe, Region, Volume};
use r1seg::{
    CheckpointSource, DtypeChoice, LoadOptions, Preprocess, PromptableModel, SegmentMode,
    SegmentOptions, SegmentPrompt, Trace,
};

use crate::case::{F32_TOLERANCE, assert_same_mask, data, deviation, device, dice, volume};

fn load(case: &str, dtype: DtypeChoice) -> PromptableModel {
    let source = CheckpointSource::Folder(data(case));
    let options = LoadOptions::default().with_device(device()).with_dtype(dtype);
    PromptableModel::open(&source, &options).unwrap()
}

fn expected(case: &str) -> HashMap<String, Tensor> {
    let path = data(&format!("{case}/golden/expected.safetensors"));
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn recorded_volume(case: &str) -> Volume {
    volume(&format!("{case}/golden/volume.npy"))
}

/// One look at the volume as the recorded model's own input.
fn once() -> SegmentOptions {
    SegmentOptions::default()
        .with_preprocess(Preprocess::Recipe(Recipe::None))
        .with_mode(SegmentMode::Resize)
        .with_trace()
}

#[track_caller]
fn assert_near(trace: &Trace, stage: &str, reference: &Tensor, what: &str) {
    let gap = deviation(trace.get(stage).unwrap(), reference);
    assert!(gap <= F32_TOLERANCE, "{what}: {stage} deviates by {gap:e}");
}

/// The recorded combinations of prompts by name.
fn prompts(expected: &HashMap<String, Tensor>) -> Vec<(&'static str, SegmentPrompt)> {
    let index = |x: &f32| *x as usize;
    let corners: Vec<usize> = numbers(&expected["box"]).iter().map(index).collect();
    let region = Region {
        start: [corners[0], corners[1], corners[2]],
        end: [corners[3] + 1, corners[4] + 1, corners[5] + 1],
    };
    let points: Vec<usize> = numbers(&expected["points"]).iter().map(index).collect();
    let labels = numbers(&expected["point_labels"]);
    let with_points = |prompt: SegmentPrompt| {
        points.chunks_exact(3).zip(&labels).fold(prompt, |prompt, (at, label)| {
            prompt.with_point([at[0], at[1], at[2]], *label == 1.0)
        })
    };
    let text = SegmentPrompt::of_text;
    vec![
        ("text", text("liver")),
        ("points", with_points(SegmentPrompt::default())),
        ("box", SegmentPrompt::default().with_region(region)),
        ("box_text", text("left kidney").with_region(region)),
        ("points_text", with_points(text("liver"))),
        ("box_points", with_points(SegmentPrompt::default()).with_region(region)),
    ]
}

#[test]
fn segvol_f32_matches_the_authors_for_every_combination_of_prompts() {
    let (model, expected) = (load("segvol", DtypeChoice::F32), expected("segvol"));
    assert!(model.load_report().is_clean());
    let volume = recorded_volume("segvol");
    let study = model.encode(&volume, &once()).unwrap();
    for (name, prompt) in prompts(&expected) {
        let found = study.segment(&prompt).unwrap();
        let trace = found.trace.as_ref().unwrap();
        assert_near(trace, "vit.features", &expected["vit.features"], name);
        let logits = &expected[&format!("logits.{name}")];
        assert_near(trace, "mask.logits", logits, name);
        let reference: Vec<bool> = numbers(logits).iter().map(|v| *v > 0.0).collect();
        assert_same_mask(&reference, &numbers(trace.get("mask.logits").unwrap()), name);
        let mask: Vec<bool> = found.mask.data().iter().map(|v| *v == 1).collect();
        let ours = numbers(trace.get("mask.logits").unwrap());
        assert_eq!(mask, ours.iter().map(|v| *v > 0.0).collect::<Vec<_>>(), "{name}");
        if name == "text" {
            assert_near(trace, "text.embedding", &expected["text.embedding"], name);
        }
    }
}

#[test]
fn r1seg_3d_sam_f32_matches_the_authors() {
    let (model, expected) = (load("r1seg-3dsam", DtypeChoice::F32), expected("r1seg-3dsam"));
    assert!(model.load_report().is_clean());
    assert_eq!(model.config().num_clicks, 1);
    let volume = recorded_volume("r1seg-3dsam");
    let study = model.encode(&volume, &once()).unwrap();
    let case = std::fs::read(data("r1seg-3dsam/golden/case.json")).unwrap();
    let case: serde_json::Value = serde_json::from_slice(&case).unwrap();
    for (i, text) in case["prompts"].as_array().unwrap().iter().enumerate() {
        let text = text.as_str().unwrap();
        let found = study.segment(&SegmentPrompt::of_text(text)).unwrap();
        let trace = found.trace.unwrap();
        assert_near(&trace, "vit.features", &expected["vit.features"], text);
        assert_near(&trace, "text.embedding", &expected[&format!("text.embedding_{i}")], text);
        let logits = &expected[&format!("logits.{i}")];
        assert_near(&trace, "mask.logits", logits, text);
        let reference: Vec<bool> = numbers(logits).iter().map(|v| *v > 0.0).collect();
        assert_same_mask(&reference, &numbers(trace.get("mask.logits").unwrap()), text);
        assert!(trace.names().any(|name| name == "seg.low_res_logits_1"));
    }
}

#[test]
fn weights_as_stored_and_in_half_precision_give_the_same_masks() {
    for dtype in [DtypeChoice::Auto, DtypeChoice::BF16, DtypeChoice::F16] {
        let (model, expected) = (load("segvol", dtype), expected("segvol"));
        let volume = recorded_volume("segvol");
        let study = model.encode(&volume, &once()).unwrap();
        for (name, prompt) in prompts(&expected) {
            let found = study.segment(&prompt).unwrap();
            let reference = numbers(&expected[&format!("logits.{name}")]);
            let reference: Vec<bool> = reference.iter().map(|v| *v > 0.0).collect();
            let mask: Vec<bool> = found.mask.data().iter().map(|v| *v == 1).collect();
            assert!(dice(&mask, &reference) >= 0.99, "{dtype:?} {name}");
        }
    }
}

/// The recorded volume with every voxel `factor` times along each axis: what the model sees of it at
/// one look is the recorded volume itself.
fn enlarged(factor: usize) -> Volume {
    let small = recorded_volume("segvol");
    let shape = small.shape().map(|n| n * factor);
    let voxels = nearest(&small.voxels().to_f32(), small.shape(), shape).unwrap();
    Volume::new(voxels, Geometry::without_affine(shape)).unwrap()
}

fn in_mode(mode: SegmentMode) -> SegmentOptions {
    SegmentOptions::default().with_preprocess(Preprocess::Recipe(Recipe::None)).with_mode(mode)
}

#[test]
fn zoom_out_puts_the_recorded_mask_on_a_larger_grid_voxel_by_voxel() {
    let (model, expected) = (load("segvol", DtypeChoice::F32), expected("segvol"));
    let large = enlarged(3);
    let study = model.encode(&large, &in_mode(SegmentMode::Resize)).unwrap();
    for (name, small) in prompts(&expected) {
        // The middle voxel of the three that each cell stands for.
        let mut prompt = SegmentPrompt::default();
        prompt.text = small.text;
        for point in small.points {
            prompt = prompt.with_point(point.voxel.map(|n| 3 * n + 1), point.positive);
        }
        prompt.region = small.region.map(|region| Region {
            start: region.start.map(|n| 3 * n),
            end: region.end.map(|n| 3 * n),
        });
        let found = study.segment(&prompt).unwrap();
        let reference = numbers(&expected[&format!("logits.{name}")]);
        let reference = nearest(&reference, [16, 64, 64], large.shape()).unwrap();
        assert_eq!(found.mask.shape(), large.shape());
        let mask: Vec<f32> = found.mask.data().iter().map(|v| f32::from(*v) - 0.5).collect();
        let largest = reference.iter().fold(0f32, |m, v| m.max(v.abs()));
        for (i, (got, expected)) in mask.iter().zip(&reference).enumerate() {
            let is_near = expected.abs() < F32_TOLERANCE * largest;
            assert!(is_near || (0.0 < *got) == (0.0 < *expected), "{name}: voxel {i}");
        }
    }
}

#[test]
fn zoom_in_finds_what_zoom_out_found_where_it_is() {
    let (model, expected) = (load("segvol", DtypeChoice::F32), expected("segvol"));
    for factor in [1, 2] {
        let large = enlarged(factor);
        let study = model.encode(&large, &in_mode(SegmentMode::Zoom)).unwrap();
        for (name, prompt) in prompts(&expected) {
            if name == "box_points" {
                continue;
            }
            let mut moved = SegmentPrompt::default();
            moved.text = prompt.text;
            for point in prompt.points {
                moved = moved.with_point(point.voxel.map(|n| factor * n), point.positive);
            }
            moved.region = prompt.region.map(|region| Region {
                start: region.start.map(|n| factor * n),
                end: region.end.map(|n| factor * n),
            });
            let found = study.segment(&moved).unwrap();
            let reference = numbers(&expected[&format!("logits.{name}")]);
            let reference = nearest(&reference, [16, 64, 64], large.shape()).unwrap();
            let reference: Vec<bool> = reference.iter().map(|v| *v > 0.0).collect();
            let mask: Vec<bool> = found.mask.data().iter().map(|v| *v == 1).collect();
            println!("{factor} {name}: {:?} windows {} dice {} voxels {} {}", found.zoomed, found.windows, dice(&mask, &reference), mask.iter().filter(|v| **v).count(), reference.iter().filter(|v| **v).count());
        }
    }
}
