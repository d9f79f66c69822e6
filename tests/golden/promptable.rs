//! SegVol and R1Seg-3D-SAM against the authors' code: every kind of prompt, and the refinement loop.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use r1seg::volume::resample::nearest;
use r1seg::volume::{Geometry, Mask, Padding, Region, Volume, crop};
use r1seg::{
    CheckpointSource, DeviceChoice, DtypeChoice, EncodeOptions, Error, ErrorKind, InferenceMode,
    LoadOptions, Outcome, Preprocess, Prompt, PromptPoint, PromptableModel, Recipe, RunContext,
    Trace,
};

use crate::case::{F32_TOLERANCE, assert_same_mask, data, deviation, device, dice, volume};

fn load(case: &str, dtype: DtypeChoice) -> PromptableModel {
    let source = CheckpointSource::Folder(data(case));
    let options = LoadOptions::default().with_device(device()).with_dtype(dtype);
    PromptableModel::load_with(&source, &options).unwrap()
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

/// What a promptable model always gives.
fn mask(outcome: &Outcome) -> &Mask {
    outcome.mask.as_ref().unwrap()
}

/// One pass over the volume as the recorded model's own input.
fn once() -> EncodeOptions {
    EncodeOptions::default()
        .with_preprocess(Preprocess::Recipe(Recipe::None))
        .with_mode(InferenceMode::Resize)
        .with_trace()
}

#[track_caller]
fn assert_near(trace: &Trace, stage: &str, reference: &Tensor, what: &str) {
    let gap = deviation(trace.get(stage).unwrap(), reference);
    assert!(gap <= F32_TOLERANCE, "{what}: {stage} deviates by {gap:e}");
}

/// The recorded combinations of prompts by name.
fn prompts(expected: &HashMap<String, Tensor>) -> Vec<(&'static str, Prompt)> {
    let index = |x: &f32| *x as usize;
    let corners: Vec<usize> = numbers(&expected["box"]).iter().map(index).collect();
    let region = Region {
        start: [corners[0], corners[1], corners[2]],
        end: [corners[3] + 1, corners[4] + 1, corners[5] + 1],
    };
    let points: Vec<usize> = numbers(&expected["points"]).iter().map(index).collect();
    let labels = numbers(&expected["point_labels"]);
    let with_points = |prompt: Prompt| {
        points.chunks_exact(3).zip(&labels).fold(prompt, |prompt, (at, label)| {
            prompt.with_point(PromptPoint { voxel: [at[0], at[1], at[2]], positive: *label == 1.0 })
        })
    };
    let text = Prompt::of_text;
    vec![
        ("text", text("liver")),
        ("points", with_points(Prompt::default())),
        ("box", Prompt::default().with_region(region)),
        ("box_text", text("left kidney").with_region(region)),
        ("points_text", with_points(text("liver"))),
        ("box_points", with_points(Prompt::default()).with_region(region)),
    ]
}

#[test]
fn segvol_f32_matches_the_authors_for_every_combination_of_prompts() {
    let (model, expected) = (load("segvol", DtypeChoice::F32), expected("segvol"));
    assert!(model.load_report().is_clean());
    let volume = recorded_volume("segvol");
    let encoded = model.encode_with(&volume, &once(), &mut RunContext::default()).unwrap();
    for (name, prompt) in prompts(&expected) {
        let found = encoded.segment(&prompt).unwrap();
        let trace = found.trace.as_ref().unwrap();
        assert_near(trace, "vit.features", &expected["vit.features"], name);
        let logits = &expected[&format!("logits.{name}")];
        assert_near(trace, "mask.logits", logits, name);
        let reference: Vec<bool> = numbers(logits).iter().map(|v| *v > 0.0).collect();
        assert_same_mask(&reference, &numbers(trace.get("mask.logits").unwrap()), name);
        let mask: Vec<bool> = mask(&found).data().iter().map(|v| *v == 1).collect();
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
    let encoded = model.encode_with(&volume, &once(), &mut RunContext::default()).unwrap();
    let case = std::fs::read(data("r1seg-3dsam/golden/case.json")).unwrap();
    let case: serde_json::Value = serde_json::from_slice(&case).unwrap();
    for (i, text) in case["prompts"].as_array().unwrap().iter().enumerate() {
        let text = text.as_str().unwrap();
        let found = encoded.segment(Prompt::of_text(text)).unwrap();
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
        let encoded = model.encode_with(&volume, &once(), &mut RunContext::default()).unwrap();
        for (name, prompt) in prompts(&expected) {
            let found = encoded.segment(&prompt).unwrap();
            let reference = numbers(&expected[&format!("logits.{name}")]);
            let reference: Vec<bool> = reference.iter().map(|v| *v > 0.0).collect();
            let mask: Vec<bool> = mask(&found).data().iter().map(|v| *v == 1).collect();
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

fn in_mode(mode: InferenceMode) -> EncodeOptions {
    EncodeOptions::default().with_preprocess(Preprocess::Recipe(Recipe::None)).with_mode(mode)
}

#[test]
fn zoom_out_puts_the_recorded_mask_on_a_larger_grid_voxel_by_voxel() {
    let (model, expected) = (load("segvol", DtypeChoice::F32), expected("segvol"));
    let large = enlarged(3);
    let encoded = model
        .encode_with(&large, &in_mode(InferenceMode::Resize), &mut RunContext::default())
        .unwrap();
    for (name, small) in prompts(&expected) {
        // The middle voxel of the three that each cell stands for.
        let mut prompt = Prompt::default();
        prompt.text = small.text;
        for point in small.points {
            prompt =
                prompt.with_point(PromptPoint { voxel: point.voxel.map(|n| 3 * n + 1), ..point });
        }
        prompt.region = small.region.map(|region| Region {
            start: region.start.map(|n| 3 * n),
            end: region.end.map(|n| 3 * n),
        });
        let found = encoded.segment(&prompt).unwrap();
        let reference = numbers(&expected[&format!("logits.{name}")]);
        let reference = nearest(&reference, [16, 64, 64], large.shape()).unwrap();
        assert_eq!(mask(&found).shape(), large.shape());
        let mask: Vec<f32> = mask(&found).data().iter().map(|v| f32::from(*v) - 0.5).collect();
        let largest = reference.iter().fold(0f32, |m, v| m.max(v.abs()));
        for (i, (got, expected)) in mask.iter().zip(&reference).enumerate() {
            let is_near = expected.abs() < F32_TOLERANCE * largest;
            assert!(is_near || (0.0 < *got) == (0.0 < *expected), "{name}: voxel {i}");
        }
    }
}

fn mask_of(model: &PromptableModel, volume: &Volume, mode: InferenceMode) -> Outcome {
    let encoded = model.encode_with(volume, &in_mode(mode), &mut RunContext::default()).unwrap();
    encoded.segment(Prompt::of_text("liver")).unwrap()
}

#[test]
fn zoom_in_to_a_volume_of_the_models_own_grid_is_the_same_look_again() {
    let (model, expected) = (load("segvol", DtypeChoice::F32), expected("segvol"));
    let volume = recorded_volume("segvol");
    let encoded = model
        .encode_with(&volume, &in_mode(InferenceMode::Zoom), &mut RunContext::default())
        .unwrap();
    for (name, prompt) in prompts(&expected) {
        let found = encoded.segment(&prompt);
        match name {
            // As published: it is asserted to be impossible.
            "box_points" => assert_eq!(found.unwrap_err().code(), "R-PRM-05"),
            // Points come with a box of what was found, which is a new prompt.
            "points" | "points_text" => assert_eq!(found.unwrap().windows, 2),
            _ => {
                let found = found.unwrap();
                assert_eq!((found.zoomed, found.windows), (Some(Region::whole([16, 64, 64])), 2));
                let reference = numbers(&expected[&format!("logits.{name}")]);
                let mask: Vec<bool> = mask(&found).data().iter().map(|v| *v == 1).collect();
                let reference: Vec<bool> = reference.iter().map(|v| *v > 0.0).collect();
                assert!(dice(&mask, &reference) > 0.9999, "{name}");
            }
        }
    }
}

/// The recorded SegVol with one channel of its mask decoder made a constant that lowers all logits, so
/// that few voxels are left: those of which `share` of the recorded volume's are larger.
fn picky(folder: &Path, share: f64) -> PromptableModel {
    for file in ["config.json", "tokenizer.json"] {
        std::fs::copy(data("segvol").join(file), folder.join(file)).unwrap();
    }
    let path = folder.join("model.safetensors");
    let open = || {
        PromptableModel::load_with(
            CheckpointSource::Folder(folder.to_path_buf()),
            &LoadOptions::default().with_device(device()).with_dtype(DtypeChoice::F32),
        )
    };
    let source = data("segvol/model.safetensors");
    let mut tensors = candle_core::safetensors::load(source, &Device::Cpu).unwrap();
    let mut set = |name: &str, axis: usize, value: f32| {
        let tensor = tensors[name].to_dtype(DType::F32).unwrap();
        let first = tensor.narrow(axis, 0, 1).unwrap();
        let first = Tensor::full(value, first.shape(), &Device::Cpu).unwrap();
        let rest = tensor.narrow(axis, 1, tensor.dim(axis).unwrap() - 1).unwrap();
        tensors.insert(name.to_string(), Tensor::cat(&[first, rest], axis).unwrap());
        candle_core::safetensors::save(&tensors, &path).unwrap();
    };
    set("mask_decoder.output_upscaling.3.weight", 1, 0.0);
    set("mask_decoder.output_upscaling.3.bias", 0, 10.0);
    set("mask_decoder.txt_align_upscaled_embedding.weight", 0, 0.0);
    set("mask_decoder.txt_align_upscaled_embedding.bias", 0, 0.0);
    let model = open().unwrap();
    let volume = recorded_volume("segvol");
    let encoded = model.encode_with(&volume, &once(), &mut RunContext::default()).unwrap();
    let found = encoded.segment(Prompt::of_text("liver")).unwrap();
    let mut logits = numbers(found.trace.unwrap().get("mask.logits").unwrap());
    logits.sort_by(f32::total_cmp);
    let least = logits[(logits.len() as f64 * share) as usize];
    set("mask_decoder.txt_align_upscaled_embedding.bias", 0, -least / 10.0);
    open().unwrap()
}

#[test]
fn zoom_in_replaces_the_part_around_what_was_found_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let model = picky(folder.path(), 0.9999);
    let large = enlarged(4);
    let shape @ [d, h, w] = large.shape();
    let once = mask_of(&model, &large, InferenceMode::Resize);
    let twice = mask_of(&model, &large, InferenceMode::Zoom);

    // The rule of the authors, on the mask of the first look.
    let at = |n: usize| [n / (h * w), n / w % h, n % w];
    let found = (0..d * h * w).filter(|n| mask(&once).data()[*n] == 1).map(at);
    let found: Vec<[usize; 3]> = found.collect();
    assert!(!found.is_empty() && found.len() < d * h * w / 1000, "{}", found.len());
    let mut part = Region { start: [0; 3], end: [0; 3] };
    for axis in 0..3 {
        let (low, high) = (
            found.iter().map(|voxel| voxel[axis]).min().unwrap(),
            found.iter().map(|voxel| voxel[axis]).max().unwrap(),
        );
        let pad = [16, 64, 64][axis].max(high - low + 1) - (high - low + 1);
        part.start[axis] = low.max(pad / 2) - pad / 2;
        part.end[axis] = (high + pad / 2 + 1).min(shape[axis]);
    }
    assert_eq!(twice.zoomed, Some(part));
    assert!(part.shape() != shape, "{part:?}");

    // What windows of it say alone.
    let voxels = crop(&large.voxels().to_f32(), shape, part).unwrap();
    let alone = Volume::new(voxels, Geometry::without_affine(part.shape())).unwrap();
    let alone = mask_of(&model, &alone, InferenceMode::Sliding);
    assert_eq!(twice.windows, 1 + alone.windows);
    let inside = crop(mask(&twice).data(), shape, part).unwrap();
    assert_eq!(inside, mask(&alone).data());
    for (n, (now, before)) in mask(&twice).data().iter().zip(mask(&once).data()).enumerate() {
        let is_inside = (0..3).all(|a| (part.start[a]..part.end[a]).contains(&at(n)[a]));
        assert!(is_inside || now == before, "voxel {n}");
    }
}

#[test]
fn zoom_in_without_anything_found_keeps_the_first_look() {
    let folder = tempfile::tempdir().unwrap();
    let model = picky(folder.path(), 0.9999);
    let dark = Volume::new(vec![0.0_f32; 16 * 64 * 64], Geometry::without_affine([16, 64, 64]));
    let found = mask_of(&model, &dark.unwrap(), InferenceMode::Zoom);
    assert_eq!((found.zoomed, found.windows), (None, 1));
    assert_eq!(found.status(), r1seg::MaskStatus::Empty);
}

#[test]
fn windows_of_a_small_volume_are_padded_with_zeros_and_the_padding_is_cut_off_again() {
    let model = load("r1seg-3dsam", DtypeChoice::F32);
    let volume = recorded_volume("r1seg-3dsam");
    let sentence = Prompt::of_text("A computerized tomography of a liver.");
    let segment = |volume: &Volume, mode| {
        let encoded =
            model.encode_with(volume, &in_mode(mode), &mut RunContext::default()).unwrap();
        encoded.segment(&sentence).unwrap().mask.unwrap()
    };
    // One window that is the grid: the same as one look.
    let sliding = segment(&volume, InferenceMode::Sliding);
    assert_eq!(sliding.data(), segment(&volume, InferenceMode::Resize).data());

    let part = Region { start: [3, 0, 10], end: [14, 64, 50] };
    let voxels = crop(&volume.voxels().to_f32(), volume.shape(), part).unwrap();
    let small = Volume::new(voxels.clone(), Geometry::without_affine(part.shape())).unwrap();
    let padding = Padding::to_at_least(part.shape(), [16, 64, 64]);
    let padded = padding.pad(&voxels).unwrap();
    let padded = Volume::new(padded, Geometry::without_affine([16, 64, 64])).unwrap();
    let whole = segment(&padded, InferenceMode::Sliding);
    let expected = padding.unpad(whole.data()).unwrap();
    assert_eq!(segment(&small, InferenceMode::Sliding).data(), expected);
}

#[test]
fn prompts_that_a_model_cannot_use_are_refused() {
    let volume = recorded_volume("segvol");
    let refused = |case: &str, mode: InferenceMode, prompt: &Prompt| {
        let model = load(case, DtypeChoice::Auto);
        let encoded =
            model.encode_with(&volume, &in_mode(mode), &mut RunContext::default()).unwrap();
        let error = encoded.segment(prompt).unwrap_err();
        (error.code(), error.kind(), error.to_string())
    };
    let liver = Prompt::of_text("liver");
    let region = Region { start: [0; 3], end: [4; 3] };
    for (case, mode, prompt, code, kind, says) in [
        (
            "segvol",
            InferenceMode::Zoom,
            Prompt::default(),
            "R-PRM-05",
            ErrorKind::Usage,
            "nothing was asked",
        ),
        (
            "r1seg-3dsam",
            InferenceMode::Resize,
            liver.clone().with_region(region),
            "R-PRM-05",
            ErrorKind::Usage,
            "takes no ",
        ),
        (
            "r1seg-3dsam",
            InferenceMode::Resize,
            liver.clone().with_point(PromptPoint::positive([1; 3])),
            "R-PRM-05",
            ErrorKind::Usage,
            "takes no ",
        ),
        (
            "segvol",
            InferenceMode::Sliding,
            liver.clone().with_point(PromptPoint::positive([1; 3])),
            "R-PRM-05",
            ErrorKind::Usage,
            "windows",
        ),
        (
            "segvol",
            InferenceMode::Zoom,
            Prompt::default().with_point(PromptPoint::negative([1; 3])),
            "R-PRM-05",
            ErrorKind::Usage,
            "negative",
        ),
        (
            "segvol",
            InferenceMode::Zoom,
            liver.clone().with_point(PromptPoint::positive([16, 0, 0])),
            "R-PNT-01",
            ErrorKind::BadData,
            "64 x 64 x 16",
        ),
        (
            "segvol",
            InferenceMode::Zoom,
            liver.with_region(Region { start: [2; 3], end: [2, 9, 9] }),
            "R-BOX-01",
            ErrorKind::BadData,
            "reversed",
        ),
        (
            "segvol",
            InferenceMode::Zoom,
            Prompt::of_text(" "),
            "R-TOK-15",
            ErrorKind::Usage,
            "empty",
        ),
        (
            "segvol",
            InferenceMode::Zoom,
            Prompt::of_text("liver ".repeat(70)),
            "R-TOK-16",
            ErrorKind::BadData,
            "at most 77",
        ),
    ] {
        let (got_code, got_kind, text) = refused(case, mode, &prompt);
        assert_eq!((got_code, got_kind), (code, kind), "{text}");
        assert!(text.contains(says), "{says}: {text}");
    }
}

#[test]
fn r1_a_model_is_loaded_exactly_if_the_limit_allows_what_it_needs() {
    let source = CheckpointSource::Folder(data("segvol"));
    let load = |limit| {
        let options = LoadOptions::default().with_device(DeviceChoice::Cpu);
        PromptableModel::load_with(&source, &options.with_memory_limit(limit))
    };
    let Err(Error::NotEnoughMemory { needed, .. }) = load(1) else { panic!("it is not enough") };
    assert!(matches!(load(needed - 1), Err(Error::NotEnoughMemory { .. })));
    assert!(load(needed).is_ok());
}
