//! SAM-Med3D and NeuroSAM3D against the authors' code: every stage of the encoders, clicks one after the
//! other and at once, boxes, and the whole pipeline from a CT to a mask on its grid.
//!
//! `mask_only` and `*_no_mask` need logits as no caller gives them: `r1seg-mask-decoder` compares these.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use r1seg::convert::{ConvertOptions, convert};
use r1seg::simulate::RandomState;
use r1seg::volume::{Geometry, LabelMap, Mask, ReadOptions, Region, Volume, read};
use r1seg::{
    DtypeChoice, EncodeOptions, EncodedVolume, InferenceMode, Outcome, Preprocess, Prompt,
    PromptPoint, PromptableModel, Recipe, RunContext, Trace, registry,
};
use serde_json::Value;

use crate::case::{F32_TOLERANCE, data, deviation, dice, on_device};

/// Blocks and embeddings of Hiera: its recordings sum 2,232 equal keys one by one in f32, which is
/// 2.8e-5 from an f64 run for the embedding, and each order of summation is as far from another.
const HIERA_TOLERANCE: f32 = 5e-4;
/// Logits of Hiera, whose recordings are 1.2e-4 from an f64 run.
const HIERA_LOGITS: f32 = 2e-3;
/// SAM's vision transformer, whose recordings are 2e-6 from an f64 run: a GELU by tanh is 7e-5 off.
const VIT_TOLERANCE: f32 = 2e-5;

struct Case {
    model: PromptableModel,
    folder: &'static str,
    expected: HashMap<String, Tensor>,
    json: Value,
    embedding: f32,
    logits: f32,
}

impl Case {
    fn open(folder: &'static str, model: PromptableModel) -> Self {
        let (embedding, logits) = match folder {
            "neurosam3d-hiera" => (HIERA_TOLERANCE, HIERA_LOGITS),
            _ => (VIT_TOLERANCE, F32_TOLERANCE),
        };
        let expected = data(&format!("{folder}/golden/expected.safetensors"));
        let json = std::fs::read(data(&format!("{folder}/golden/case.json"))).unwrap();
        Self {
            model,
            folder,
            expected: candle_core::safetensors::load(expected, &Device::Cpu).unwrap(),
            json: serde_json::from_slice(&json).unwrap(),
            embedding,
            logits,
        }
    }

    fn roi(&self) -> Volume {
        let path = data(&format!("{}/golden/roi.nii.gz", self.folder));
        read(path, &ReadOptions::default()).unwrap().volume
    }

    /// The recorded crop, as the models' own input.
    fn encode(&self) -> EncodedVolume {
        encode(&self.model, &self.roi(), &options(Recipe::SamMed3d).with_trace())
    }

    fn points(&self) -> Vec<PromptPoint> {
        let points = self.json["points"].as_array().unwrap().iter();
        let labels = self.json["point_labels"].as_array().unwrap();
        points.zip(labels).map(|(at, label)| point(at, label == 1)).collect()
    }

    fn region(&self) -> Region {
        let [first, last] = [0, 1].map(|n| voxel(&self.json["box"][n]));
        Region { start: first, end: last.map(|n| n + 1) }
    }

    /// A prompt whose crop is the whole recorded one.
    fn prompt(&self) -> Prompt {
        Prompt::default().with_center(self.model.input_shape().map(|n| n / 2))
    }

    /// Compares the recorded tensors of a stage with those of a trace. Returns how many there are.
    fn compare(&self, trace: &Trace, stage: &str) -> usize {
        let mut compared = 0;
        for (key, reference) in &self.expected {
            let Some(name) = key.strip_prefix(stage) else { continue };
            let whole = key.strip_suffix("_sample").unwrap_or(key);
            let Some(got) = trace.get(key).or(trace.get(whole)) else { continue };
            let tolerance = match stage {
                "encoder." | "neck." | "image_embedding" => self.embedding,
                _ => self.logits,
            };
            let gap = deviation(&sampled(got, reference.dims()), reference);
            assert!(gap <= tolerance, "{}: {stage}{name} deviates by {gap:e}", self.folder);
            compared += 1;
        }
        compared
    }

    /// Compares the logits of voxels at the size of the image.
    fn compare_logits(&self, logits: &Tensor, key: &str) {
        let flat = logits.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let index = numbers(&self.expected["mask.logit_index"]);
        let got: Vec<f32> = index.iter().map(|n| flat[*n as usize]).collect();
        let got = Tensor::new(got, &Device::Cpu).unwrap();
        let gap = deviation(&got, &self.expected[key]);
        assert!(gap <= self.logits, "{}: {key} deviates by {gap:e}", self.folder);
    }
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_dtype(DType::F32).unwrap().to_vec1().unwrap()
}

/// Every second, third.. number along each axis, as many as were recorded.
fn sampled(tensor: &Tensor, dims: &[usize]) -> Tensor {
    let mut tensor = tensor.clone();
    for (axis, count) in dims.iter().enumerate() {
        let size = tensor.dim(axis).unwrap();
        let step = size.div_ceil(*count);
        let index: Vec<u32> = (0..size as u32).step_by(step).collect();
        let index = Tensor::new(index, &Device::Cpu).unwrap();
        tensor = tensor.contiguous().unwrap().index_select(&index, axis).unwrap();
    }
    tensor
}

/// A recorded (x, y, z) as a voxel `[D, H, W]` of the file.
fn voxel(at: &Value) -> [usize; 3] {
    [2, 1, 0].map(|n| at[n].as_u64().unwrap() as usize)
}

fn point(at: &Value, positive: bool) -> PromptPoint {
    PromptPoint { voxel: voxel(at), positive }
}

fn load(folder: impl Into<PathBuf>, dtype: DtypeChoice) -> PromptableModel {
    PromptableModel::load_with(folder.into(), &on_device().with_dtype(dtype)).unwrap()
}

fn options(recipe: Recipe) -> EncodeOptions {
    EncodeOptions::default().with_preprocess(Preprocess::Recipe(recipe))
}

fn encode(model: &PromptableModel, volume: &Volume, options: &EncodeOptions) -> EncodedVolume {
    model.encode_with(volume, options, &mut RunContext::default()).unwrap()
}

/// The published kind of file, converted.
fn converted(file: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut options = ConvertOptions::new(data(file));
    options.architecture = registry::architecture;
    options.recover = registry::recover_config;
    convert(&options, &folder.path().join("model"), &mut |_| ControlFlow::Continue(())).unwrap();
    folder
}

fn sam_med3d() -> Case {
    Case::open("sam-med3d", load(data("sam-med3d"), DtypeChoice::F32))
}

#[test]
fn sam_med3d_equals_the_authors_code_stage_by_stage() {
    let case = sam_med3d();
    let mut session = case.encode().session();
    let center = case.prompt();
    let mut masks = Vec::new();
    for (k, point) in case.points().into_iter().enumerate() {
        let prompt = if k == 0 { center.clone() } else { Prompt::default() };
        let found = session.add(prompt.with_point(point), &mut RunContext::default()).unwrap();
        let trace = found.trace.as_ref().unwrap();
        if k == 0 {
            let roi = numbers(trace.get("roi").unwrap());
            let index = numbers(&case.expected["roi.index"]);
            let got: Vec<f32> = index.iter().map(|n| roi[*n as usize]).collect();
            let got = Tensor::new(got, &Device::Cpu).unwrap();
            assert!(deviation(&got, &case.expected["roi.sample"]) < 1e-6);
            assert_eq!(case.compare(trace, "encoder."), 3);
            assert_eq!(case.compare(trace, "image_embedding"), 1);
            assert_eq!(case.compare(trace, "prompt."), 1);
            case.compare_logits(trace.get("mask.logits").unwrap(), "one_click.logit_sample");
        }
        assert_eq!(case.compare(trace, &format!("clicks.{k}.")), 4);
        masks.push(found.mask.unwrap());
    }
    for (mask, recorded) in [(&masks[0], "mask_one_click"), (&masks[2], "mask_clicks")] {
        assert_same_mask(mask, &format!("sam-med3d/golden/{recorded}.nii.gz"), 20);
    }
    let trace = session.undo(&mut RunContext::default()).unwrap().unwrap();
    assert!(trace.mask.unwrap() == masks[1], "taken back, a click is as if it had not been");

    let mut at_once = center.with_points_at_once();
    at_once.points = case.points();
    let found = case.encode().segment(&at_once).unwrap();
    assert_eq!(case.compare(found.trace.as_ref().unwrap(), "points_at_once."), 3);
}

/// Masks are the same but for so many voxels, whose recorded logits are within the tolerance of 0.
fn assert_same_mask(mask: &Mask, recorded: &str, ambiguous: usize) {
    let recorded = read(data(recorded), &ReadOptions::default()).unwrap().volume;
    let labels = LabelMap::from_volume(&recorded).unwrap();
    let pairs = mask.data().iter().zip(labels.labels());
    let other = pairs.filter(|(a, b)| (**a != 0) != (**b != 0)).count();
    assert!(other <= ambiguous, "{other} voxels differ");
    assert!(labels.voxels(1) > 1000);
}

#[test]
fn neurosam3d_equals_the_authors_code_stage_by_stage() {
    let vit = converted("neurosam3d-vit/last.ckpt");
    let vit = load(vit.path().join("model"), DtypeChoice::F32);
    let hiera = load(data("neurosam3d-hiera"), DtypeChoice::F32);
    for (case, blocks) in
        [(Case::open("neurosam3d-vit", vit), 3), (Case::open("neurosam3d-hiera", hiera), 11)]
    {
        let encoded = case.encode();
        let mut session = encoded.session();
        for (k, point) in case.points().into_iter().enumerate() {
            let prompt = if k == 0 { case.prompt() } else { Prompt::default() };
            let found = session.add(prompt.with_point(point), &mut RunContext::default()).unwrap();
            let trace = found.trace.as_ref().unwrap();
            if k == 0 {
                assert_eq!(case.compare(trace, "encoder."), blocks);
                assert_eq!(case.compare(trace, "image_embedding"), 1);
                assert_eq!(case.compare(trace, "neck."), if blocks == 3 { 0 } else { 2 });
            }
            assert_eq!(case.compare(trace, &format!("points.{k}.")), 3);
            let logits = trace.get(&format!("points.{k}.low_res_logits")).unwrap();
            case.compare_logits(logits, &format!("points.{k}.logit_sample"));
            if k == 2 {
                // 2e-3 of the largest logit leaves more voxels open than 1e-4 does.
                let mask = format!("{}/golden/mask_points.2.nii.gz", case.folder);
                assert_same_mask(&found.mask.unwrap(), &mask, if blocks == 3 { 20 } else { 400 });
            }
        }
        let boxed = case.prompt().with_region(case.region());
        let found = encoded.segment(&boxed).unwrap();
        let trace = found.trace.as_ref().unwrap();
        assert_eq!(case.compare(trace, "box."), 3);
        case.compare_logits(trace.get("box.low_res_logits").unwrap(), "box.logit_sample");
        let found = encoded.segment(boxed.with_point(case.points()[0])).unwrap();
        let trace = found.trace.as_ref().unwrap();
        assert_eq!(case.compare(trace, "box_points."), 3);
        let logits = trace.get("box_points.low_res_logits").unwrap();
        case.compare_logits(logits, "box_points.logit_sample");
    }
}

#[test]
fn a_converted_training_dump_computes_what_its_safetensors_compute() {
    let folder = converted("sam-med3d/sam_med3d_turbo.pth");
    let [dump, published] = [folder.path().join("model"), data("sam-med3d")].map(|folder| {
        let case = Case::open("sam-med3d", load(folder, DtypeChoice::F32));
        case.encode().segment(case.prompt().with_point(case.points()[0])).unwrap().mask.unwrap()
    });
    assert!(dump == published);
}

#[test]
fn bf16_weights_find_the_same_objects() {
    for folder in ["sam-med3d", "neurosam3d-hiera"] {
        let [exact, rounded] = [DtypeChoice::F32, DtypeChoice::BF16].map(|dtype| {
            let case = Case::open(folder, load(data(folder), dtype));
            let mut session = case.encode().session();
            let mut mask = None;
            for point in case.points() {
                mask = session.click(point, &mut RunContext::default()).unwrap().mask;
            }
            mask.unwrap().data().iter().map(|v| *v != 0).collect::<Vec<_>>()
        });
        let dice = dice(&exact, &rounded);
        assert!(dice >= 0.99, "{folder}: Dice {dice}");
    }
}

/// The recorded CT of odd axes and spacing.
fn ct() -> Volume {
    read(data("sam-med3d/golden/ct.nii.gz"), &ReadOptions::default()).unwrap().volume
}

fn pipeline(file: &str) -> Value {
    let json = std::fs::read(data(&format!("sam-med3d/golden/{file}"))).unwrap();
    serde_json::from_slice(&json).unwrap()
}

/// Recipes, and how recordings with them are called.
const GRIDS: [(Recipe, &str); 2] =
    [(Recipe::SamMed3d, ""), (Recipe::SamMed3dCentered, "_centered")];

#[test]
fn given_points_lead_from_the_ct_to_the_authors_mask_on_its_grid() {
    let model = load(data("sam-med3d"), DtypeChoice::F32);
    let volume = ct();
    for (recipe, suffix) in GRIDS {
        let json = pipeline(&format!("pipeline{suffix}.json"));
        let encoded = encode(&model, &volume, &options(recipe));
        for run in ["user_one", "user_points"] {
            let (of, mut prompt) = (&json["runs"][run], Prompt::default());
            let labels = of["labels"].as_array().unwrap();
            for (at, label) in of["voxels"].as_array().unwrap().iter().zip(labels) {
                prompt = prompt.with_point(point(at, label == 1));
            }
            let mask = encoded.segment(&prompt).unwrap().mask.unwrap();
            let voxels = mask.data().iter().filter(|v| **v != 0).count();
            let recorded = of["output_voxels"].as_u64().unwrap() as usize;
            assert!(voxels.abs_diff(recorded) <= 2, "{run}{suffix}: {voxels}, not {recorded}");
            let file = of["output"].as_str().unwrap();
            assert_same_mask(&mask, &format!("sam-med3d/golden/{file}"), 2);
        }
    }
}

#[test]
fn simulated_clicks_are_those_of_the_authors_evaluation_and_so_are_their_masks() {
    let model = load(data("sam-med3d"), DtypeChoice::F32);
    let volume = ct();
    let truth = read(data("sam-med3d/golden/label.nii.gz"), &ReadOptions::default()).unwrap();
    let truth = LabelMap::from_volume(&truth.volume).unwrap();
    for (recipe, suffix) in GRIDS {
        let json = pipeline(&format!("pipeline{suffix}.json"));
        let encoded = encode(&model, &volume, &options(recipe));
        for (run, clicks) in [("clicks1", 1), ("clicks3", 3)] {
            let mut random = RandomState::new(233);
            let mut found = LabelMap::new(volume.geometry().clone());
            for label in 1..=2 {
                let recorded = &json["runs"][run]["labels"][label.to_string()]["clicks"];
                let mask = truth.label_mask(label);
                let of = encoded
                    .simulate_clicks(&mask, clicks, &mut random, &mut RunContext::default())
                    .unwrap();
                for (click, recorded) in of.clicks.iter().zip(recorded.as_array().unwrap()) {
                    let at = [0, 1, 2].map(|n| recorded["point"][n].as_u64().unwrap() as usize);
                    let positive = recorded["label"] == 1;
                    assert_eq!((click.cell, click.positive), (at, positive), "{run} {label}");
                }
                assert_eq!(of.clicks.len(), clicks);
                found.push(of.outcome.mask.as_ref().unwrap()).unwrap();
            }
            let file = format!("sam-med3d/golden/pred_{run}{suffix}.nii.gz");
            let recorded = read(data(&file), &ReadOptions::default()).unwrap().volume;
            let recorded = LabelMap::from_volume(&recorded).unwrap();
            let pairs = found.labels().iter().zip(recorded.labels());
            let other = pairs.filter(|(a, b)| a != b).count();
            assert!(other <= 2, "{run}{suffix}: {other} voxels differ");
        }
    }
}

#[test]
fn a_mask_of_another_model_is_corrected() {
    // The recorded SAM-Med3D finds next to nothing by a mask alone, also by its own logits.
    let hiera = load(data("neurosam3d-hiera"), DtypeChoice::F32);
    let case = Case::open("neurosam3d-hiera", hiera);
    let encoded = case.encode();
    let first = encoded.segment(case.prompt().with_point(case.points()[0])).unwrap();
    let mask = Arc::new(first.mask.unwrap());
    let alone = Prompt::default().with_mask(mask.clone());
    let found = encoded.segment(&alone).unwrap();
    let trace = found.trace.as_ref().unwrap();
    assert!(trace.get("mask_only.sparse").is_none(), "there is no point to encode");
    let voxels = |mask: &Mask| mask.data().iter().map(|v| *v != 0).collect::<Vec<_>>();
    let kept = dice(&voxels(&mask), &voxels(found.mask.as_ref().unwrap()));
    assert!(kept > 0.6, "a mask prompt is a hint: Dice {kept}");
    let empty = Mask::new(vec![0; mask.data().len()], mask.geometry().clone()).unwrap();
    let error = encoded.segment(Prompt::default().with_mask(Arc::new(empty))).unwrap_err();
    assert!(error.to_string().contains("empty"), "{error}");
    let other = Geometry::without_affine([8; 3]);
    let other = Mask::new(vec![1; 512], other).unwrap();
    let error = encoded.segment(Prompt::default().with_mask(Arc::new(other))).unwrap_err();
    assert_eq!(error.code(), "R-GEO-02");
}

#[test]
fn targets_in_the_middle_of_one_crop_share_it() {
    let model = load(data("sam-med3d"), DtypeChoice::F32);
    let encoded = encode(&model, &ct(), &EncodeOptions::default());
    let time = |voxel| {
        let found = encoded.segment(Prompt::default().with_point(PromptPoint::positive(voxel)));
        found.unwrap().timings.vit
    };
    assert!(!time([73, 174, 20]).is_zero());
    assert!(time([73, 174, 20]).is_zero(), "the crop of the same point");
    assert!(time([78, 180, 22]).is_zero(), "a point near it");
    assert!(!time([30, 60, 10]).is_zero(), "a point far from it");
}

#[test]
fn what_a_model_does_not_take_is_refused_with_what_it_does() {
    let case = sam_med3d();
    let encoded = case.encode();
    let says = |prompt: Prompt| encoded.segment(prompt).unwrap_err().to_string();
    assert!(says(Prompt::of_text("liver")).contains("SAM-Med3D reads no texts"));
    assert!(says(Prompt::default()).contains("nothing was asked for"));
    let region = Region { start: [1; 3], end: [9; 3] };
    assert!(says(Prompt::default().with_region(region)).contains("takes no boxes"));
    let negative = Prompt::default().with_point(PromptPoint::negative([64; 3]));
    assert!(says(negative).contains("every point is negative"));
    let far = case.prompt().with_point(PromptPoint::positive([1, 1, 1])).with_center([127; 3]);
    assert!(says(far).contains("a point lies outside of the 128 x 128 x 128 voxels"));
    let zoom = EncodeOptions::default().with_mode(InferenceMode::Zoom);
    let error = case.model.encode_with(&case.roi(), &zoom, &mut RunContext::default());
    assert!(error.unwrap_err().to_string().contains("it has crop and grow"));
    let recipe = options(Recipe::M3dSeg);
    let error = case.model.encode_with(&case.roi(), &recipe, &mut RunContext::default());
    assert!(error.unwrap_err().to_string().contains("it has sam-med3d and sam-med3d-centered"));
}

/// The outcome must be of a mask, which these models always give.
fn voxels(outcome: &Outcome) -> usize {
    outcome.mask.as_ref().unwrap().data().iter().filter(|v| **v != 0).count()
}

#[test]
fn a_session_says_what_it_was_asked_and_keeps_it_when_a_click_fails() {
    let case = sam_med3d();
    let mut session = case.encode().session();
    let mut run = RunContext::default();
    assert!(session.undo(&mut run).unwrap().is_none());
    let first = session.click(PromptPoint::positive([64, 60, 70]), &mut run).unwrap();
    assert!(voxels(&first) > 0);
    let outside = session.click(PromptPoint::positive([0, 0, 0]), &mut run);
    assert!(outside.is_err());
    assert_eq!((session.steps(), session.prompt().points.len()), (1, 1));
    let again = session.clone().undo(&mut run).unwrap();
    assert!(again.is_none(), "the first click taken back leaves nothing");
    assert_eq!(session.steps(), 1);
}

#[test]
fn clicks_without_their_volume_go_on_when_it_is_encoded_again() {
    let case = sam_med3d();
    let mut session = case.encode().session();
    let mut run = RunContext::default();
    session.click(PromptPoint::positive([64, 60, 70]), &mut run).unwrap();
    let clicks = session.clone().into_clicks();
    assert_eq!((clicks.steps(), clicks.prompt()), (1, session.prompt()));
    let mut resumed = case.encode().resume(clicks);
    let more = PromptPoint::negative([64, 80, 70]);
    let (known, resumed) = (session.click(more, &mut run), resumed.click(more, &mut run));
    assert!(known.unwrap().mask == resumed.unwrap().mask);
}
