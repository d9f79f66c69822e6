//! The seven R1Seg-3D cases in f32: same tokens, same stages, same masks.

use r1seg::{AskOptions, DtypeChoice, MaskStatus, Separator};

use crate::case::{
    Expected, F32_TOLERANCE, R1SEG_CASES, ask, assert_same_mask, data, deviation, encode, load,
    logits, unpack_bits, volume,
};

/// Recorded stages that are compared number by number; a case records those that it reached.
const STAGES: [&str; 12] = [
    "vit.block_0",
    "vit.features",
    "projector.features",
    "llm.prefill_hidden_last",
    "llm.prefill_logits_last",
    "llm.step_logits",
    "seg.prompt_embedding",
    "seg.dense_pe_sample",
    "seg.iou_multimask",
    "seg.low_res_logits_0",
    "seg.low_res_logits_1",
    "seg.low_res_logits_2",
];

fn check(case: &str) {
    let model = load(case, DtypeChoice::F32);
    let volume = volume(&format!("{case}/golden/volume.npy"));
    let study = encode(&model, &volume);
    let mut compared = 0;
    for n in 0..5 {
        let what = format!("{case} case {n}");
        let expected = Expected::read(&format!("{case}/golden/case{n}"));
        let answer = ask(&study, &expected.prompt);
        let trace = answer.trace.as_ref().unwrap();
        for ids in ["input_ids", "output_ids"] {
            let got = trace.get(ids).unwrap().to_vec1::<i64>().unwrap();
            assert_eq!(got, expected.ids(ids), "{what}: {ids}");
        }
        assert_eq!(answer.text, expected.text, "{what}");
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
        assert_same_mask(&unpack_bits(&expected.tensors["mask.packed"]), &logits, &what);
        let sample = expected.tensors["mask.logit_sample"].to_vec1::<f32>().unwrap();
        let largest = sample.iter().fold(0f32, |m, v| m.max(v.abs()));
        for (&index, reference) in expected.ids("mask.logit_index").iter().zip(&sample) {
            let got = logits[usize::try_from(index).unwrap()];
            assert!((got - reference).abs() <= F32_TOLERANCE * largest, "{what}: voxel {index}");
        }
        if let Some(mask) = &answer.mask {
            let on_input: Vec<bool> = mask.data().iter().map(|&v| v == 1).collect();
            assert_eq!(on_input, logits.iter().map(|&v| v > 0.0).collect::<Vec<_>>(), "{what}");
        }
    }
    // 6 language stages in all five cases, 4 of the mask in the two that have one; the refinement
    // case records two more passes in each of these.
    let passes = if case == "phi3-clicks" { 3 } else { 1 };
    assert_eq!(compared, 5 * 6 + 2 * (3 + passes), "{case}");
}

#[test]
fn r1seg_phi3_f32_matches_the_authors_code() {
    check("phi3");
}

#[test]
fn r1seg_phi3_with_refinement_f32_matches_the_authors_code() {
    check("phi3-clicks");
}

#[test]
fn r1seg_phi3_longrope_sharded_f32_matches_the_authors_code() {
    check("phi3-longrope");
}

#[test]
fn r1seg_llama3_f32_matches_the_authors_code() {
    check("llama3");
}

#[test]
fn r1seg_llama31_f32_matches_the_authors_code() {
    check("llama31");
}

#[test]
fn r1seg_qwen2_f32_matches_the_authors_code() {
    check("qwen2");
}

#[test]
fn r1seg_mistral_f32_matches_the_authors_code() {
    check("mistral");
}

#[test]
fn every_case_has_a_checkpoint_whose_tensors_are_all_accounted_for() {
    for case in R1SEG_CASES {
        let report = load(case, DtypeChoice::F32).load_report().clone();
        assert!(report.is_clean(), "{case}: {}", report.summary());
        // Five of the contrastive heads, six of each unused hypernetwork.
        assert_eq!(report.unused.len(), 5 + 3 * 6, "{case}");
        assert!(data(case).exists());
    }
}

#[test]
fn two_seg_tokens_share_one_mask_and_a_leading_one_is_ignored_by_default() {
    let model = load("phi3", DtypeChoice::F32);
    let study = encode(&model, &volume("phi3/golden/volume.npy"));
    let two = ask(&study, &Expected::read("phi3/golden/case1").prompt);
    assert_eq!(two.seg.len(), 2);
    assert!(two.seg.iter().all(|seg| seg.logprob <= 0.0 && seg.logprob > -1.0));

    let prompt = Expected::read("phi3/golden/case4").prompt;
    let ignored = ask(&study, &prompt);
    assert!(ignored.text.starts_with("[SEG]") && ignored.mask.is_none());
    let options = AskOptions::default().with_separator(Separator::None).with_first_seg(true);
    let used = study.ask_with(&prompt, &options, &mut |_| {}).unwrap();
    assert_eq!(used.seg[0].position, 0);
    assert_eq!(used.status(), MaskStatus::Found);
}

#[test]
fn a_box_in_the_answer_is_parsed() {
    let model = load("phi3", DtypeChoice::F32);
    let study = encode(&model, &volume("phi3/golden/volume.npy"));
    let answer = ask(&study, &Expected::read("phi3/golden/case3").prompt);
    assert_eq!(answer.boxes.len(), 1);
    let voxels = answer.boxes[0].to_voxels([16, 64, 64]);
    assert_eq!((voxels.min, voxels.max), ([2, 21, 32], [14, 39, 49]));
}

#[test]
fn a_second_question_equals_a_fresh_run() {
    for case in ["phi3", "phi3-longrope", "llama31"] {
        let model = load(case, DtypeChoice::F32);
        let volume = volume(&format!("{case}/golden/volume.npy"));
        let study = encode(&model, &volume);
        let [first, second] = [0, 2].map(|n| Expected::read(&format!("{case}/golden/case{n}")));
        ask(&study, &second.prompt);
        let again = ask(&study, &first.prompt);
        let fresh = ask(&encode(&model, &volume), &first.prompt);
        assert_eq!(again.token_ids, fresh.token_ids);
        let [again, fresh] = [&again, &fresh].map(|a| a.trace.as_ref().unwrap());
        for name in fresh.names() {
            let (a, b) = (again.get(name).unwrap(), fresh.get(name).unwrap());
            assert_eq!(deviation(a, b), 0.0, "{case}: {name}");
        }
    }
}

#[test]
fn questions_from_several_threads_get_the_answers_of_one() {
    let model = load("phi3", DtypeChoice::F32);
    let study = encode(&model, &volume("phi3/golden/volume.npy"));
    let cases = [0, 1, 2, 3].map(|n| Expected::read(&format!("phi3/golden/case{n}")));
    std::thread::scope(|scope| {
        for expected in &cases {
            let study = &study;
            scope.spawn(move || assert_eq!(ask(study, &expected.prompt).text, expected.text));
        }
    });
}
