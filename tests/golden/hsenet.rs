//! HSENet and HSENet-CLIP against the authors' code: every stage of both encoders and packers, ids and
//! words, and what becomes of a CT.

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use r1seg::volume::{Geometry, ReadOptions, Volume, read};
use r1seg::{
    AskOptions, DtypeChoice, EncodeOptions, EncodedVolume, M3dClip, Model, Preprocess, R1SegModel,
    Recipe, RunContext, SliceFeatures, load,
};

use crate::case::{Expected, F32_TOLERANCE, data, deviation, on_device, volume};

const GOLDEN: &str = "hsenet-phi4/golden";

/// Recorded stages of the vision, and their names in a trace. Rows of those that are recorded in part are
/// `stride` apart.
const VISION: [(&str, &str, usize); 11] = [
    ("vit1.patch_embedding", "vit1.patch_embedding", 8),
    ("vit1.block_0", "vit1.block_0", 8),
    ("vit1.features", "vit1.features", 8),
    ("vit2.attended", "vit2.attended", 8),
    ("vit2.attention", "vit2.attention", 32),
    ("vit2.scores", "vit2.scores", 1),
    ("vit2.features", "vit2.features", 8),
    ("packer1.packed", "projector1.packed", 1),
    ("packer1.tokens", "projector1.features", 1),
    ("packer2.tokens", "projector2.features", 1),
    ("llm.prefill_hidden_last", "llm.prefill_hidden_last", 1),
];

fn tensors(file: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(data(file), &Device::Cpu).unwrap()
}

/// Every n-th row.
fn strided(tensor: &Tensor, stride: usize) -> Tensor {
    let rows = tensor.dim(0).unwrap().div_ceil(stride);
    let index: Vec<u32> = (0..rows).map(|row| (row * stride) as u32).collect();
    tensor.index_select(&Tensor::new(index, &Device::Cpu).unwrap(), 0).unwrap()
}

/// Cells that lie so far apart along each axis.
fn sampled(tensor: &Tensor, strides: [usize; 3]) -> Tensor {
    let mut tensor = tensor.clone();
    for (axis, stride) in strides.into_iter().enumerate() {
        tensor = strided(&tensor.transpose(0, axis).unwrap().contiguous().unwrap(), stride);
        tensor = tensor.transpose(0, axis).unwrap().contiguous().unwrap();
    }
    tensor
}

pub(crate) fn hsenet(dtype: DtypeChoice) -> R1SegModel {
    R1SegModel::load_with(data("hsenet-phi4"), &on_device().with_dtype(dtype)).unwrap()
}

/// Both inputs as they were recorded.
fn encode(model: &R1SegModel, index: usize) -> EncodedVolume {
    let features = data(&format!("{GOLDEN}/slice_features{index}.npy"));
    let options = EncodeOptions::default()
        .with_preprocess(Preprocess::Recipe(Recipe::None))
        .with_slice_features(SliceFeatures::read(features).unwrap())
        .with_trace();
    let volume = volume(&format!("{GOLDEN}/volume{index}.npy"));
    model.encode_with(&volume, &options, &mut RunContext::default()).unwrap()
}

fn question(case: &str) -> String {
    let json = std::fs::read(data(&format!("{case}.json"))).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    json["question"].as_str().unwrap().to_string()
}

#[test]
fn hsenet_f32_matches_the_authors_code() {
    let model = hsenet(DtypeChoice::F32);
    assert!(model.load_report().is_clean(), "{}", model.load_report().summary());
    assert!(model.load_report().unused.is_empty());
    check_answers(&model);
}

/// The texts that a model gives to the recorded questions.
pub(crate) fn answers(model: &R1SegModel) -> Vec<String> {
    let of = |(index, case): (usize, usize)| {
        let question = question(&format!("{GOLDEN}/case{case}"));
        encode(model, index).ask(question).unwrap().text
    };
    [(0, 0), (0, 1), (1, 2), (1, 3)].map(of).into()
}

/// Compares ids, words and every recorded stage of all cases.
pub(crate) fn check_answers(model: &R1SegModel) {
    let mut compared = 0;
    for (index, cases) in [(0, [0, 1]), (1, [2, 3])] {
        let encoded = encode(model, index);
        for case in cases.map(|n| format!("{GOLDEN}/case{n}")) {
            let expected = Expected::read(&case);
            let options = AskOptions::default().with_max_new_tokens(512);
            let answer =
                encoded.ask_with(question(&case), &options, &mut RunContext::default()).unwrap();
            assert_eq!(answer.text, expected.text, "{case}");
            assert!(answer.mask.is_none() && answer.seg.is_empty());
            let trace = answer.trace.unwrap();
            for ids in ["input_ids", "output_ids"] {
                let got = trace.get(ids).unwrap().to_vec1::<i64>().unwrap();
                assert_eq!(got, expected.ids(ids), "{case}: {ids}");
            }
            let words = ["llm.prefill_logits_last", "llm.step_logits"].map(|name| (name, name, 1));
            for (recorded, ours, stride) in VISION.into_iter().chain(words) {
                let Some(reference) = expected.tensors.get(recorded) else { continue };
                let got = strided(trace.get(ours).unwrap(), stride);
                let gap = deviation(&got, reference);
                assert!(gap <= F32_TOLERANCE, "{case}: {recorded} deviates by {gap:e}");
                compared += 1;
            }
        }
    }
    // Three stages of words in all four cases; ten of vision in the first, six in the third.
    assert_eq!(compared, 4 * 3 + 10 + 6);
}

#[test]
fn a_ct_becomes_both_inputs_as_in_the_authors_scripts() {
    let model = hsenet(DtypeChoice::F32);
    let expected = tensors(&format!("{GOLDEN}/prep.safetensors"));
    let of = |file: &str, recipe: Recipe| {
        let volume =
            read(data(&format!("{GOLDEN}/{file}")), &ReadOptions::default()).unwrap().volume;
        let options =
            EncodeOptions::default().with_preprocess(Preprocess::Recipe(recipe)).with_trace();
        let encoded = model.encode_with(&volume, &options, &mut RunContext::default()).unwrap();
        let input = recipe.apply(&volume, None).unwrap().resize([16, 64, 64]).unwrap();
        let input = Tensor::from_vec(input, (16, 64, 64), &Device::Cpu).unwrap();
        (encoded, input)
    };
    let check = |got: &Tensor, name: &str| {
        let gap = deviation(got, &expected[name]);
        assert!(gap <= F32_TOLERANCE, "{name}: {gap:e}");
    };
    let features = |encoded: &EncodedVolume| {
        let features = encoded.slice_features().unwrap();
        let [slices, width] = features.shape();
        Tensor::from_slice(features.numbers(), (slices, width), &Device::Cpu).unwrap()
    };
    let (encoded, input) = of("ct.nii.gz", Recipe::Hsenet);
    check(&sampled(&input, [2, 4, 4]), "volume3d");
    check(&features(&encoded), "slices.features");
    let short = AskOptions::default().with_max_new_tokens(1);
    let answer = encoded.ask_with("Why?", &short, &mut RunContext::default()).unwrap();
    let pixels = answer.trace.unwrap().get("slices.normalized").unwrap().get(5).unwrap();
    check(&sampled(&pixels, [1, 8, 8]), "slices.normalised_5"); // spellchecker:disable-line
    for (file, name, recipe) in [
        ("tall.nii.gz", "tall", Recipe::HsenetAsPublished),
        ("thin.nii.gz", "thin", Recipe::Hsenet),
    ] {
        let (encoded, input) = of(file, recipe);
        check(&sampled(&input, [4; 3]), &format!("{name}.volume3d"));
        check(&features(&encoded), &format!("{name}.features"));
    }
    let upright = features(&of("tall.nii.gz", Recipe::Hsenet).0);
    assert!(deviation(&upright, &expected["tall.features"]) > 100.0 * F32_TOLERANCE);
}

#[test]
fn features_that_were_kept_give_the_answer_that_the_ct_gives() {
    let model = hsenet(DtypeChoice::F32);
    let ct = read(data(&format!("{GOLDEN}/ct.nii.gz")), &ReadOptions::default()).unwrap().volume;
    let first = model.encode(&ct).unwrap();
    let expected = Expected::read(&format!("{GOLDEN}/case0"));
    let question = question(&format!("{GOLDEN}/case0"));
    // The recorded first volume was made of this CT.
    assert_eq!(first.ask(question.as_str()).unwrap().text, expected.text);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slices.npy");
    first.slice_features().unwrap().write(&path, r1seg::volume::Overwrite::Refuse).unwrap();
    let options = EncodeOptions::default().with_slice_features(SliceFeatures::read(&path).unwrap());
    let again = model.encode_with(&ct, &options, &mut RunContext::default()).unwrap();
    assert_eq!(again.slice_features(), first.slice_features());
    let [a, b] = [&first, &again].map(|of| of.ask(question.as_str()).unwrap());
    assert_eq!((a.text, a.token_ids), (b.text, b.token_ids));
}

#[test]
fn what_hsenet_cannot_do_is_refused_with_what_to_do_instead() {
    let model = load(data("hsenet-phi4"), &on_device()).unwrap();
    let Model::Language(hsenet) = &model else { panic!("it answers questions") };
    let volume = volume(&format!("{GOLDEN}/volume0.npy"));
    let refused = |options: EncodeOptions| {
        let error = model.encode_with(&volume, &options, &mut RunContext::default()).unwrap_err();
        assert_eq!(error.code(), "R-ARG-02", "{error}");
        error.to_string()
    };
    let as_it_is = EncodeOptions::default().with_preprocess(Preprocess::Recipe(Recipe::None));
    assert!(refused(as_it_is.clone()).contains("have to be given with recipe none"));
    let features =
        |shape: [usize; 2]| SliceFeatures::new(vec![0.0; shape[0] * shape[1]], shape).unwrap();
    let said = refused(as_it_is.clone().with_slice_features(features([32, 40])));
    assert!(said.contains("32 slices, 40 numbers each, where the model reads 32 of 48"), "{said}");
    assert!(
        refused(as_it_is.clone().with_slice_features(features([31, 48]))).contains("31 slices")
    );
    let said = refused(as_it_is.clone().with_mode(r1seg::InferenceMode::Sliding));
    assert!(said.contains("HSENet has no mode sliding"), "{said}");
    let recipe = Preprocess::Recipe(Recipe::M3dSeg);
    assert!(refused(EncodeOptions::default().with_preprocess(recipe)).contains("hsenet"));

    let encoded = encode(hsenet, 0);
    let region = r1seg::volume::Region { start: [0; 3], end: [4; 3] };
    let error = encoded.ask(r1seg::Prompt::of_text("What is in {box}?").with_region(region));
    assert_eq!(error.unwrap_err().code(), "R-PRM-05");
    let error = encoded.segment("liver").unwrap_err();
    assert!(error.to_string().contains("answers in words, and draws no masks"), "{error}");
    let options = on_device().with_num_clicks(1);
    assert_eq!(load(data("hsenet-phi4"), &options).unwrap_err().code(), "R-ARG-02");

    let other = load(data("phi3"), &on_device()).unwrap();
    let volume = crate::case::volume("phi3/golden/volume.npy");
    let options = EncodeOptions::default().with_slice_features(features([32, 48]));
    let error = other.encode_with(&volume, &options, &mut RunContext::default()).unwrap_err();
    assert!(error.to_string().contains("reads no slices"), "{error}");
}

fn clip(stage: usize, dtype: DtypeChoice) -> M3dClip {
    let folder = data(&format!("hsenet-clip/stage{stage}"));
    M3dClip::load_with(folder, &on_device().with_dtype(dtype)).unwrap()
}

fn recorded_volumes() -> Vec<(Volume, SliceFeatures)> {
    let npy =
        |name: &str| Tensor::read_npy(data(&format!("hsenet-clip/golden/{name}.npy"))).unwrap();
    let (volumes, slices) = (npy("volumes"), npy("slice_features"));
    let numbers = |t: Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let one = |n| {
        let (_, _, d, h, w) = volumes.dims5().unwrap();
        let voxels = numbers(volumes.get(n).unwrap());
        let (_, count, width) = slices.dims3().unwrap();
        let features = SliceFeatures::new(numbers(slices.get(n).unwrap()), [count, width]);
        let volume = Volume::new(voxels, Geometry::without_affine([d, h, w]));
        (volume.unwrap(), features.unwrap())
    };
    (0..volumes.dim(0).unwrap()).map(one).collect()
}

#[test]
fn both_stages_of_hsenet_clip_match_the_authors_code() {
    let expected = tensors("hsenet-clip/golden/expected.safetensors");
    let json = std::fs::read(data("hsenet-clip/golden/case.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let texts: Vec<&str> =
        json["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    for stage in [1, 2] {
        let clip = clip(stage, DtypeChoice::F32);
        assert!(clip.load_report().is_clean(), "{}", clip.load_report().summary());
        let images: Vec<Vec<f32>> = recorded_volumes()
            .into_iter()
            .map(|(volume, features)| {
                let options =
                    EncodeOptions::default().with_preprocess(Preprocess::Recipe(Recipe::None));
                let options = match stage {
                    1 => options,
                    _ => options.with_slice_features(features),
                };
                let mut run = RunContext::default();
                clip.embed_volume_with(&volume, &options, &mut run).unwrap().embedding
            })
            .collect();
        let texts: Vec<Vec<f32>> =
            texts.iter().map(|text| clip.embed_text(text).unwrap().embedding).collect();
        let table = |rows: &[Vec<f32>], columns: &[Vec<f32>], scale: f32| -> Vec<Vec<f32>> {
            let similar = |a: &Vec<f32>, b: &Vec<f32>| scale * M3dClip::similarity(a, b);
            rows.iter().map(|a| columns.iter().map(|b| similar(a, b)).collect()).collect()
        };
        for (name, got) in [
            ("similarity", table(&images, &texts, 1.0)),
            ("logits_per_image", table(&images, &texts, clip.logit_scale())),
            ("image_similarity", table(&images, &images, 1.0)),
            ("image_embeddings", images),
            ("text_embeddings", texts),
        ] {
            let got = Tensor::new(got, &Device::Cpu).unwrap();
            let gap = deviation(&got, &expected[&format!("stage{stage}.{name}")]);
            assert!(gap <= F32_TOLERANCE, "stage {stage}, {name}: {gap:e}");
        }
    }
}

#[test]
fn the_second_stage_as_it_is_published_says_that_its_slices_are_missing() {
    let clip = clip(2, DtypeChoice::Auto);
    let ct = read(data(&format!("{GOLDEN}/ct.nii.gz")), &ReadOptions::default()).unwrap().volume;
    let error = clip.embed_volume(&ct).unwrap_err();
    assert!(error.to_string().contains("no encoder of slices"), "{error}");
    // The first one reads none.
    let first = self::clip(1, DtypeChoice::Auto).embed_volume(&ct).unwrap();
    assert!(first.slice_features.is_none() && first.recipe == Recipe::Hsenet);
}

#[test]
fn weights_as_they_are_stored_give_the_same_words() {
    let model = hsenet(DtypeChoice::Auto);
    for (index, case) in [(0, 0), (1, 2)] {
        let case = format!("{GOLDEN}/case{case}");
        let answer = encode(&model, index).ask(question(&case)).unwrap();
        assert_eq!(answer.text, Expected::read(&case).text);
    }
}
