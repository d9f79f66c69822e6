//! One encoded volume, one prompt and one outcome for all families, and what a family does not know.

use r1seg::{
    AskOptions, EncodeOptions, EncodedVolume, Error, InferenceMode, M3dClip, MaskStatus, Model,
    Preprocess, Prompt, PromptPoint, R1SegModel, Recipe, RunContext, load,
};

use crate::case::{data, on_device, volume};

const QUESTION: &str = "Can you segment the liver in this image?";

fn language_model() -> R1SegModel {
    R1SegModel::load_with(data("phi3"), &on_device()).unwrap()
}

fn as_it_is() -> EncodeOptions {
    EncodeOptions::default().with_preprocess(Preprocess::Recipe(Recipe::None))
}

/// The same volume, as either family encodes it.
fn encoded() -> [EncodedVolume; 2] {
    let volume = volume("segvol/golden/volume.npy");
    let encode =
        |model: Model| model.encode_with(&volume, &as_it_is(), &mut RunContext::default()).unwrap();
    ["phi3", "segvol"].map(|case| encode(load(data(case), &on_device()).unwrap()))
}

#[test]
fn a_model_that_takes_no_prompts_encodes_no_volume_for_them() {
    let clip = load(data("m3d-clip"), &on_device()).unwrap();
    let error = clip.encode(&volume("segvol/golden/volume.npy")).unwrap_err();
    assert_eq!(error.code(), "R-MDL-05");
    assert!(error.to_string().contains("M3D-CLIP cannot segment"), "{error}");
}

#[test]
fn a_prompt_runs_as_the_family_of_the_model_does() {
    let [language, promptable] = encoded();
    let run = |encoded: &EncodedVolume, prompt: &str| {
        encoded.run(prompt, &AskOptions::default(), &mut RunContext::default()).unwrap()
    };
    let answer = run(&language, QUESTION);
    assert_eq!(answer.token_ids, language.ask(QUESTION).unwrap().token_ids);
    assert!(answer.finish_reason.is_some() && !answer.text.is_empty());
    assert_eq!((answer.windows, answer.zoomed), (1, None));

    let found = run(&promptable, "liver");
    assert_eq!(found.mask, promptable.segment("liver").unwrap().mask);
    assert_ne!(found.status(), MaskStatus::NotFound);
    assert_eq!((found.text.as_str(), found.finish_reason), ("", None));
    assert!(!found.timings.text.is_zero() && found.timings.prefill.is_zero());
    assert!(found.timings.total() >= found.timings.vit + found.timings.text);
}

#[test]
fn what_a_family_does_not_know_is_refused_in_its_words() {
    let [language, promptable] = encoded();
    let words = |error: Error| {
        assert_eq!(error.code(), "R-PRM-05");
        error.to_string()
    };
    let text = words(promptable.ask(QUESTION).unwrap_err());
    assert!(text.contains("SegVol answers no questions"), "{text}");
    let text = words(language.segment("liver").unwrap_err());
    assert!(text.contains("segments what a question asks for"), "{text}");
    let point = Prompt::of_text(QUESTION).with_point(PromptPoint::positive([1; 3]));
    let text = words(language.ask(point).unwrap_err());
    assert!(text.contains("neither points"), "{text}");
}

#[test]
fn a_mode_that_a_family_does_not_have_is_refused() {
    let volume = volume("segvol/golden/volume.npy");
    let zoom = as_it_is().with_mode(InferenceMode::Zoom);
    let run = &mut RunContext::default();
    let error = language_model().encode_with(&volume, &zoom, run).unwrap_err();
    assert_eq!(error.code(), "R-ARG-02");
    assert!(error.to_string().contains("has no mode zoom"), "{error}");
    let clip = M3dClip::load_with(data("m3d-clip"), &on_device()).unwrap();
    let sliding = as_it_is().with_mode(InferenceMode::Sliding);
    let error = clip.embed_volume_with(&volume, &sliding, run).unwrap_err();
    assert!(error.to_string().contains("M3D-CLIP has no mode sliding; it has resize"), "{error}");
}
