//! VISTA3D against the authors' bundle, from a CT to labels on its grid: classes, groups, everything, points,
//! and points beside a class. The network by itself is compared in `r1seg-segresnet` and
//! `r1seg-mask-decoder`.

use std::collections::HashMap;
use std::ops::ControlFlow;

use candle_core::{DType, Device, Tensor};
use r1seg::convert::{ConvertOptions, convert};
use r1seg::volume::{LabelMap, Volume};
use r1seg::{
    AutomaticModel, EncodeOptions, EncodedVolume, Error, Orient, Outcome, Prompt, PromptPoint,
    Recipe, RunContext, registry,
};
use serde_json::Value;

use crate::case::{F32_TOLERANCE, data, on_device, volume};

/// What the recordings have in place of NaN, which is where no window around a point reaches.
const UNSEEN: f32 = 1e9;
/// What the authors' masks have there; ours have 0, and a warning.
const UNSEEN_LABEL: f32 = 255.0;

fn model() -> AutomaticModel {
    AutomaticModel::load_with(data("vista3d"), &on_device()).unwrap()
}

fn encode(model: &AutomaticModel, volume: &Volume, options: &EncodeOptions) -> EncodedVolume {
    model.encode_with(volume, options, &mut RunContext::default()).unwrap()
}

/// All outcomes of prompts that are run together.
fn run(encoded: &EncodedVolume, prompts: &[Prompt]) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let mut keep = |index: usize, outcome: Outcome| {
        assert_eq!(index, outcomes.len());
        outcomes.push(outcome);
        Ok::<(), Error>(())
    };
    encoded.segment_each(prompts, &mut RunContext::default(), &mut keep).unwrap();
    outcomes
}

/// The prompts of a recorded case.
fn prompts(model: &AutomaticModel, input: &Value) -> Vec<Prompt> {
    let list = |name: &str| input[name].as_array().cloned().unwrap_or_default();
    let numbers = |value: &Value| -> Vec<usize> {
        let numbers = value.as_array().unwrap().iter();
        numbers.map(|n| usize::try_from(n.as_u64().unwrap()).unwrap()).collect()
    };
    let points: Vec<PromptPoint> = list("points")
        .iter()
        .zip(list("point_labels"))
        .map(|(at, label)| {
            // Recorded as i, j, k.
            let [i, j, k] = numbers(at)[..] else { panic!("{at}") };
            PromptPoint { voxel: [k, j, i], positive: label == 1 }
        })
        .collect();
    let at = |mut prompt: Prompt| {
        prompt.points.clone_from(&points);
        prompt
    };
    let names: Vec<String> = list("label_prompt")
        .iter()
        .map(|name| name.as_str().map_or_else(|| name.to_string(), str::to_owned))
        .collect();
    if names.is_empty() && points.is_empty() {
        let everything = model.config().everything.iter();
        return everything.map(|id| Prompt::of_text(id.to_string())).collect();
    }
    if names.is_empty() {
        return vec![at(Prompt::default())];
    }
    if !points.is_empty() {
        return names.iter().map(|name| at(Prompt::of_text(name))).collect();
    }
    let ids = names.iter().flat_map(|name| model.config().classes().find(name).unwrap());
    ids.map(|id| Prompt::of_text(id.to_string())).collect()
}

/// Compares the logits of a case where they were recorded.
fn check_logits(case: &str, got: &Tensor, expected: &HashMap<String, Tensor>) {
    let flat = |t: &Tensor| -> Vec<f32> {
        t.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    };
    let got = flat(got);
    let sample = flat(&expected["logits.sample"]);
    let index = &expected[&format!("index.{}", got.len())];
    let index: Vec<i64> =
        index.to_dtype(DType::I64).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    assert_eq!(index.len(), sample.len(), "{case}");
    let seen = |v: &f32| *v != UNSEEN;
    let largest = sample.iter().copied().filter(seen).fold(0f32, |a, b| a.max(b.abs()));
    let mut compared = 0;
    for (at, expected) in index.iter().zip(&sample) {
        let logit = got[usize::try_from(*at).unwrap()];
        if !seen(expected) {
            assert!(logit.is_nan(), "{case}: {logit} where no window is");
            continue;
        }
        let gap = (logit - expected).abs();
        assert!(gap <= F32_TOLERANCE * largest, "{case} at {at}: {logit}, not {expected}");
        compared += 1;
    }
    assert!(compared > 100, "{case}: {compared}");
}

/// The labels that outcomes have on the grid of the input.
fn labels(outcomes: &[Outcome]) -> Vec<f32> {
    let first = outcomes[0].mask.as_ref().unwrap();
    let mut labels = vec![0.0; first.data().len()];
    for outcome in outcomes {
        let label = f32::from(outcome.label.unwrap_or(1));
        for (to, inside) in labels.iter_mut().zip(outcome.mask.as_ref().unwrap().data()) {
            if *inside != 0 {
                assert_eq!(*to, 0.0, "a voxel has one label");
                *to = label;
            }
        }
    }
    labels
}

#[test]
fn vista3d_labels_a_ct_as_the_authors_bundle_does() {
    let model = model();
    let json = std::fs::read(data("vista3d/golden/bundle.json")).unwrap();
    let json: Value = serde_json::from_slice(&json).unwrap();
    let cases = json["cases"].as_object().unwrap();
    assert_eq!(cases.len(), 14);
    for (case, recorded) in cases {
        let (name, _) = case.split_once('.').unwrap();
        let ct = volume(&format!("vista3d/golden/{name}.nii.gz"));
        let encoded = encode(&model, &ct, &EncodeOptions::default().with_trace());
        let prompts = prompts(&model, &recorded["input"]);
        let outcomes = run(&encoded, &prompts);
        assert_eq!(outcomes.len(), prompts.len(), "{case}");
        let ids: Vec<Option<u64>> = outcomes.iter().map(|of| of.label.map(u64::from)).collect();
        let classes = recorded["network_classes"].as_array();
        let classes = classes.map(|ids| ids.iter().map(Value::as_u64).collect());
        assert_eq!(ids, classes.unwrap_or(vec![None]), "{case}");

        let expected = data(&format!("vista3d/golden/{case}.safetensors"));
        let expected = candle_core::safetensors::load(expected, &Device::Cpu).unwrap();
        let trace = outcomes[0].trace.as_ref().unwrap();
        let logits = trace.get("logits").unwrap();
        let shape: Vec<u64> = logits.dims().iter().map(|n| *n as u64).collect();
        assert_eq!(serde_json::json!(shape), recorded["logits_shape"], "{case}");
        check_logits(case, logits, &expected);

        let last = volume(&format!("vista3d/golden/{case}.final.nii.gz"));
        let outside = |v: f32| if v == UNSEEN_LABEL { 0.0 } else { v };
        let differ = labels(&outcomes)
            .iter()
            .zip(last.voxels().iter())
            .filter(|(got, expected)| **got != outside(*expected))
            .count();
        assert_eq!(differ, 0, "{case}: voxels that differ");
        let unseen = last.voxels().iter().any(|v| v == UNSEEN_LABEL);
        let warned = outcomes.iter().flat_map(|of| &of.warnings).any(|w| w.code == "W-UNSEEN");
        assert_eq!(warned, unseen, "{case}");
        for mask in outcomes.iter().filter_map(|of| of.mask.as_ref()) {
            assert_eq!(mask.geometry(), ct.geometry(), "{case}");
        }
    }
}

#[test]
fn what_was_encoded_answers_further_prompts_with_the_same_masks() {
    let model = model();
    let ct = volume("vista3d/golden/ct.nii.gz");
    let encoded = encode(&model, &ct, &EncodeOptions::default());
    let first = encoded.segment("liver").unwrap();
    let click = Prompt::default().with_point(PromptPoint::positive([23, 36, 29]));
    let clicked = encoded.segment(&click).unwrap();
    let again = run(&encoded, &[Prompt::of_text("1"), click.clone(), Prompt::of_text("Liver")]);
    assert!(again[0].mask == first.mask && again[2].mask == first.mask);
    assert!(again[1].mask == clicked.mask && again[1].label.is_none());
    // A class beside known points, whose window is encoded for it as well.
    let mut both = click;
    both.text = Some("28".to_string());
    let fresh = encode(&model, &ct, &EncodeOptions::default());
    assert!(encoded.segment(&both).unwrap().mask == fresh.segment(&both).unwrap().mask);
}

#[test]
fn masks_keep_the_voxels_that_they_share_where_that_is_asked_for() {
    let model = model();
    let ct = volume("vista3d/golden/ct.nii.gz");
    let classes = [Prompt::of_text("liver"), Prompt::of_text("spleen")];
    let alone: Vec<_> = classes
        .iter()
        .map(|class| encode(&model, &ct, &EncodeOptions::default()).segment(class).unwrap().mask)
        .collect();
    let shared = run(&encode(&model, &ct, &EncodeOptions::default().with_overlaps()), &classes);
    let split = run(&encode(&model, &ct, &EncodeOptions::default()), &classes);
    let mut map = LabelMap::new(ct.geometry().clone());
    for ((alone, shared), split) in alone.iter().zip(&shared).zip(&split) {
        assert!(shared.mask == *alone);
        map.push(shared.mask.as_ref().unwrap()).unwrap();
        let [alone, split] = [alone, &split.mask].map(|mask| mask.as_ref().unwrap().data());
        assert!(split.iter().zip(alone).all(|(split, alone)| split <= alone));
    }
    assert!(map.overlap() > 0, "the recorded classes share voxels");
}

#[test]
fn a_group_is_all_of_its_parts_under_its_own_number_and_never_empty_for_lack_of_them() {
    let model = model();
    let ct = volume("vista3d/golden/ct.nii.gz");
    let encoded = encode(&model, &ct, &EncodeOptions::default());
    for (group, id) in [("kidney", 2), ("lung", 20), ("bone", 21)] {
        let parts = model.config().classes().find(group).unwrap();
        assert!(!parts.is_empty(), "{group}");
        let prompts: Vec<Prompt> = parts.iter().map(|id| Prompt::of_text(id.to_string())).collect();
        let separate = labels(&run(&encoded, &prompts));
        let whole = encoded.segment(group).unwrap();
        assert_eq!(whole.label, Some(id));
        let whole = whole.mask.unwrap();
        let voxels = whole.data().iter().filter(|inside| **inside != 0).count();
        assert!(voxels > 0, "{group}");
        let same = whole.data().iter().zip(&separate).all(|(a, b)| (*a != 0) == (*b != 0.0));
        assert!(same, "{group}");
    }
}

#[test]
fn clicks_are_taken_back_and_correct_an_earlier_mask() {
    let model = model();
    let ct = volume("vista3d/golden/ct.nii.gz");
    let encoded = encode(&model, &ct, &EncodeOptions::default());
    let mut session = encoded.session();
    let mut run = RunContext::default();
    let first = session.click(PromptPoint::positive([23, 36, 29]), &mut run).unwrap();
    let second = session.click(PromptPoint::positive([18, 30, 33]), &mut run).unwrap();
    assert!(first.mask != second.mask);
    assert!(session.undo(&mut run).unwrap().unwrap().mask == first.mask);

    let liver = encoded.segment("liver").unwrap().mask.unwrap();
    let voxel = (0..liver.data().len()).find(|n| liver.data()[*n] != 0).unwrap();
    let [_, h, w] = liver.shape();
    let inside = [voxel / (h * w), voxel / w % h, voxel % w];
    let correct = Prompt::default()
        .with_mask(std::sync::Arc::new(liver.clone()))
        .with_point(PromptPoint::negative(inside));
    let corrected = encoded.segment(&correct).unwrap().mask.unwrap();
    let is_less = corrected.data().iter().zip(liver.data()).all(|(new, old)| new <= old);
    assert!(is_less, "a negative click only removes");
}

#[test]
fn prompts_that_no_class_answers_are_refused_with_what_may_be_meant() {
    let model = model();
    let ct = volume("vista3d/golden/ct_small.nii.gz");
    let encoded = encode(&model, &ct, &EncodeOptions::default());
    let point = || Prompt::default().with_point(PromptPoint::positive([20, 18, 14]));
    let with = |text: &str| {
        let mut prompt = point();
        prompt.text = Some(text.to_string());
        prompt
    };
    for (prompt, says) in [
        (Prompt::of_text("livver"), "did you mean liver"),
        (Prompt::of_text("0"), "not a class"),
        (Prompt::of_text("16"), "not trained"),
        (Prompt::of_text("200"), "points are on"),
        (with("kidney"), "stands for 2 classes"),
        (Prompt::default(), "nothing was asked for"),
        (Prompt::default().with_point(PromptPoint::negative([20, 18, 14])), "negative"),
        (point().with_center([1; 3]), "a window around each point"),
        (point().with_region(r1seg::volume::Region::at([1; 3], [4; 3])), "no boxes"),
    ] {
        let error = encoded.segment(&prompt).unwrap_err();
        assert_eq!((error.code(), error.to_string().contains(says)), ("R-PRM-05", true), "{error}");
    }
    let outside = Prompt::default().with_point(PromptPoint::positive([30, 18, 14]));
    assert_eq!(encoded.segment(&outside).unwrap_err().code(), "R-PNT-01");
}

#[test]
fn both_dialects_of_published_weights_give_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("converted");
    let mut options = ConvertOptions::new(data("vista3d/published/model_monai1.3.pt"));
    options.architecture = registry::architecture;
    options.recover = registry::recover_config;
    convert(&options, &out, &mut |_| ControlFlow::Continue(())).unwrap();
    // The tensors cannot tell that the windows of the recorded model are small.
    std::fs::copy(data("vista3d/config.json"), out.join("config.json")).unwrap();
    std::fs::remove_file(out.join("manifest.json")).unwrap();
    let converted = AutomaticModel::load_with(out, &on_device()).unwrap();
    let ct = volume("vista3d/golden/ct_small.nii.gz");
    let masks = [&model(), &converted]
        .map(|model| encode(model, &ct, &EncodeOptions::default()).segment("liver").unwrap().mask);
    assert!(masks[0] == masks[1]);
}

#[test]
fn a_ct_is_prepared_as_the_authors_bundles_do_it() {
    for name in ["ct", "ct_small"] {
        let ct = volume(&format!("vista3d/golden/{name}.nii.gz"));
        let recorded = data(&format!("vista3d/golden/{name}.pre.safetensors"));
        let recorded = candle_core::safetensors::load(recorded, &Device::Cpu).unwrap();
        let check = |recipe: Recipe, sample: &str, tolerance: f32| {
            let prepared = recipe.apply(&ct, None).unwrap();
            // CTMR's values were recorded before the axes are turned.
            let values = match recipe {
                Recipe::Vista3d => prepared.to_f32(),
                _ => recipe.apply(&ct, Some(Orient::Stored)).unwrap().to_f32(),
            };
            let expected: Vec<f32> = recorded[sample].flatten_all().unwrap().to_vec1().unwrap();
            let index = &recorded[&format!("index.{}", values.len())];
            let index: Vec<i64> =
                index.to_dtype(DType::I64).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            for (at, expected) in index.iter().zip(&expected) {
                let got = values[usize::try_from(*at).unwrap()];
                assert!((got - expected).abs() <= tolerance, "{name} {sample}: {got} {expected}");
            }
            assert!(index.len() == expected.len() && index.len() > 100);
        };
        check(Recipe::Vista3d, "8.CastToTyped.sample", 1e-5);
        check(Recipe::Vista3dCtmr, "ctmr.scaled.sample", 1e-5);
    }
}

#[test]
fn the_other_published_model_has_further_classes_and_takes_no_points() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["model.safetensors", "config.json"] {
        std::fs::copy(data("vista3d").join(file), folder.path().join(file)).unwrap();
    }
    let config = folder.path().join("config.json");
    let mut fields: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    fields["model_type"] = "vista3d_ctmr".into();
    fields["last_supported"] = Value::Null;
    std::fs::write(&config, fields.to_string()).unwrap();
    let model = AutomaticModel::load_with(folder.path().to_path_buf(), &on_device()).unwrap();
    let ct = volume("vista3d/golden/ct_small.nii.gz");
    let encoded = encode(&model, &ct, &EncodeOptions::default());
    let found = encoded.segment("214").unwrap();
    assert_eq!(found.label, Some(214));
    let trunk = run(&encoded, &[Prompt::of_text("liver"), Prompt::of_text("214")]);
    assert!(trunk.iter().all(|of| of.mask.is_some()));
    let point = Prompt::default().with_point(PromptPoint::positive([20, 18, 14]));
    let error = encoded.segment(&point).unwrap_err();
    assert!(error.to_string().contains("takes no points"), "{error}");
}

#[test]
fn a_part_and_its_group_both_get_their_voxels() {
    let model = model();
    let ct = volume("vista3d/golden/ct.nii.gz");
    let encoded = encode(&model, &ct, &EncodeOptions::default());
    let both = run(&encoded, &[Prompt::of_text("kidney"), Prompt::of_text("left kidney")]);
    let [group, part] = [&both[0], &both[1]].map(|of| of.mask.as_ref().unwrap().data());
    assert!(part.iter().any(|inside| *inside != 0));
    assert!(part.iter().zip(group).all(|(part, group)| part <= group));
}
