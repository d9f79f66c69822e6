//! The M3D-LaMed cases in f32: same tokens, same stages, same masks; and where it differs from
//! R1Seg-3D.

use r1seg::registry::Family;
use r1seg::volume::Region;
use r1seg::{
    AskOptions, BoxText, DtypeChoice, EncodeOptions, FinishReason, InferenceMode, Preprocess,
    Prompt, R1SegModel, Recipe, RunContext, Separator,
};

use crate::case::{Expected, M3D_CASES, compare, data, encode, load, logits, on_device, volume};

fn check(case: &str) {
    let model = load(case, DtypeChoice::F32);
    let encoded = encode(&model, &volume(&format!("{case}/golden/volume.npy")));
    let compared: usize =
        (0..3).map(|n| compare(&encoded, &format!("{case}/golden/case{n}"))).sum();
    // 5 stages in all three cases, and the prompt of the mask in the two that have one.
    assert_eq!(compared, 3 * 5 + 2, "{case}");
}

#[test]
fn m3d_phi3_f32_matches_the_authors_code() {
    check("m3d-phi3");
}

#[test]
fn m3d_llama2_f32_matches_the_authors_code() {
    check("m3d-llama2");
}

#[test]
fn every_m3d_checkpoint_has_all_its_tensors_accounted_for() {
    for case in M3D_CASES {
        let model = load(case, DtypeChoice::F32);
        assert_eq!(model.config().family, Family::M3dLamed);
        let report = model.load_report();
        assert!(report.is_clean(), "{case}: {}", report.summary());
        // Ten of the 2D layers left of SAM, six of each unused hypernetwork.
        assert_eq!(report.unused.len(), 10 + 3 * 6, "{case}: {:?}", report.unused);
    }
}

#[test]
fn without_a_separator_of_ones_own_m3d_takes_none() {
    let prompt = Expected::read("m3d-llama2/golden/case0").prompt;
    let model = load("m3d-llama2", DtypeChoice::F32);
    let own = model.prompt(&prompt, None).unwrap();
    assert_eq!(own, model.prompt(&prompt, Some(Separator::None)).unwrap());
    assert_ne!(own, model.prompt(&prompt, Some(Separator::Space)).unwrap());
    let r1seg = load("llama3", DtypeChoice::F32);
    let own = r1seg.prompt(&prompt, None).unwrap();
    assert_eq!(own, r1seg.prompt(&prompt, Some(Separator::Space)).unwrap());
}

#[test]
fn prompts_are_not_trimmed() {
    let model = load("m3d-llama2", DtypeChoice::F32);
    let ids = |text: &str| model.prompt(text, None).unwrap().ids().len();
    assert!(ids("  Please segment the liver.  ") > ids("Please segment the liver."));
}

#[test]
fn an_answer_of_one_token_has_no_mask() {
    // The authors' code fails on it.
    let case = "m3d-phi3";
    let model = load(case, DtypeChoice::F32);
    let encoded = encode(&model, &volume(&format!("{case}/golden/volume.npy")));
    let seg = model.tokenizer().seg_token_id();
    let options = AskOptions::default().with_forced_tokens(vec![seg]).with_max_new_tokens(1);
    let answer = encoded
        .ask_with("Please segment the liver.", &options, &mut RunContext::default())
        .unwrap();
    assert_eq!(
        (answer.token_ids.as_slice(), answer.finish_reason),
        (&[seg][..], Some(FinishReason::Length))
    );
    assert!(answer.mask.is_none());
    assert!(logits(answer.trace.as_ref().unwrap()).iter().all(|&v| v == f32::NEG_INFINITY));
}

#[test]
fn windows_without_seg_veto_with_minus_infinity() {
    let case = "m3d-phi3";
    let model = load(case, DtypeChoice::F32);
    let options = EncodeOptions::default()
        .with_preprocess(Preprocess::Recipe(Recipe::None))
        .with_mode(InferenceMode::Sliding)
        .with_trace();
    let encoded = model
        .encode_with(
            &volume("phi3/golden/sliding.volume.npy"),
            &options,
            &mut RunContext::default(),
        )
        .unwrap();
    let caption = Expected::read("m3d-phi3/golden/case1").prompt;
    for abstain in [false, true] {
        let options = AskOptions::default().with_abstain(abstain);
        let answer = encoded.ask_with(&caption, &options, &mut RunContext::default()).unwrap();
        assert!(answer.mask.is_none());
        let logits = logits(answer.trace.as_ref().unwrap());
        assert!(logits.iter().all(|&v| v == f32::NEG_INFINITY));
    }
}

#[test]
fn refinement_is_refused_by_a_decoder_that_takes_no_masks() {
    let options = on_device().with_num_clicks(1);
    let error = R1SegModel::load_with(data("m3d-phi3"), &options).unwrap_err();
    assert_eq!(error.code(), "R-ARG-02");
    assert!(error.to_string().contains("M3D-LaMed"), "{error}");
}

#[test]
fn a_question_about_a_box_has_the_ids_of_the_authors_text() {
    for case in M3D_CASES {
        let model = load(case, DtypeChoice::F32);
        let about = BoxText { d0: 0.0, h0: 0.34, w0: 0.062, d1: 0.938, h1: 0.5, w1: 0.984 };
        for (question, text) in [
            (
                "What is in {box}?",
                "What is in <bx_start>[0.0, 0.34, 0.062, 0.938, 0.5, 0.984]<bx_end>?",
            ),
            (
                "Is this liver?",
                "Is this liver? <bx_start>[0.0, 0.34, 0.062, 0.938, 0.5, 0.984]<bx_end>",
            ),
        ] {
            let images = "<im_patch>".repeat(model.config().visual_tokens());
            let authors = model.tokenizer().encode_raw(&format!("{images} {text}")).unwrap();
            let ours = model.prompt_about(question, &about, None).unwrap();
            assert_eq!(ours.ids(), authors, "{case}");
        }
    }
}

#[test]
fn a_region_of_the_input_is_asked_about_as_its_box() {
    let model = load("m3d-phi3", DtypeChoice::F32);
    let encoded = encode(&model, &volume("m3d-phi3/golden/volume.npy"));
    let region = Region { start: [2, 21, 32], end: [15, 40, 50] };
    let question = Prompt::of_text("What is in {box}?");
    let answer = encoded.ask(question.clone().with_region(region)).unwrap();
    let about = BoxText { d0: 0.125, h0: 0.328, w0: 0.5, d1: 0.875, h1: 0.609, w1: 0.766 };
    let ids = answer.trace.unwrap().get("input_ids").unwrap().to_vec1::<i64>().unwrap();
    let expected = model.prompt_about("What is in {box}?", &about, None).unwrap();
    assert_eq!(ids, expected.ids().iter().map(|&id| i64::from(id)).collect::<Vec<_>>());

    let outside = question.with_region(Region { start: [0; 3], end: [17, 64, 64] });
    let error = encoded.ask(outside).unwrap_err();
    assert_eq!(error.code(), "R-BOX-01");
}
