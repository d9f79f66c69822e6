//! The authors' sliding-window evaluation.

use r1seg::{
    AskOptions, DtypeChoice, EncodeOptions, InferenceMode, Preprocess, Recipe, RunContext,
    Separator,
};

use crate::case::{
    Expected, F32_TOLERANCE, assert_same_mask, deviation, load, logits, unpack_bits, volume,
};

#[test]
fn r1seg_phi3_sliding_f32_matches_the_authors_code() {
    let expected = Expected::read("phi3/golden/sliding");
    let model = load("phi3", DtypeChoice::F32);
    let options = EncodeOptions::default()
        .with_preprocess(Preprocess::Recipe(Recipe::None))
        .with_mode(InferenceMode::Sliding)
        .with_trace();
    let volume = volume("phi3/golden/sliding.volume.npy");
    let encoded = model.encode_with(&volume, &options, &mut RunContext::default()).unwrap();
    let options = AskOptions::default().with_separator(Separator::None);
    let answer = encoded.ask_with(&expected.prompt, &options, &mut RunContext::default()).unwrap();
    assert_eq!((answer.windows, answer.window_answers.len()), (8, 8));
    assert_eq!(answer.distinct_answers(), [("Sure, it is[SEG].", 8)]);
    let trace = answer.trace.as_ref().unwrap();
    let reference = &expected.tensors["mask.logits"];
    let deviation = deviation(trace.get("mask.logits").unwrap(), reference);
    assert!(deviation <= F32_TOLERANCE, "{deviation:e}");
    let mask = unpack_bits(&expected.tensors["mask.packed"]);
    assert_same_mask(&mask, &logits(trace), "sliding");
    assert!(trace.get("window.7.output_ids").is_some());
    assert_eq!(answer.mask.unwrap().shape(), volume.shape());
}

#[test]
fn a_single_window_equals_resize_mode() {
    let model = load("phi3", DtypeChoice::F32);
    let volume = volume("phi3/golden/volume.npy");
    let prompt = Expected::read("phi3/golden/case0").prompt;
    let [resize, sliding] = [InferenceMode::Resize, InferenceMode::Sliding].map(|mode| {
        let options = EncodeOptions::default()
            .with_preprocess(Preprocess::Recipe(Recipe::None))
            .with_mode(mode);
        model
            .encode_with(&volume, &options, &mut RunContext::default())
            .unwrap()
            .ask(&prompt)
            .unwrap()
    });
    assert_eq!(resize.token_ids, sliding.token_ids);
    assert_eq!(resize.mask.unwrap().data(), sliding.mask.unwrap().data());
}

#[test]
fn windows_without_seg_veto_or_abstain() {
    let model = load("phi3", DtypeChoice::F32);
    let options = EncodeOptions::default()
        .with_preprocess(Preprocess::Recipe(Recipe::None))
        .with_mode(InferenceMode::Sliding)
        .with_trace();
    let volume = volume("phi3/golden/sliding.volume.npy");
    let encoded = model.encode_with(&volume, &options, &mut RunContext::default()).unwrap();
    let caption = Expected::read("phi3/golden/case2").prompt;
    for abstain in [false, true] {
        let options = AskOptions::default().with_separator(Separator::None).with_abstain(abstain);
        let answer = encoded.ask_with(&caption, &options, &mut RunContext::default()).unwrap();
        assert!(answer.window_answers.iter().all(|w| w.seg.is_empty()));
        assert!(answer.mask.is_none());
        let logits = logits(answer.trace.as_ref().unwrap());
        assert!(logits.iter().all(|&v| v == -1000.0));
    }
}
