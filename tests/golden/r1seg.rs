//! The seven R1Seg-3D cases in f32: same tokens, same stages, same masks.

use r1seg::volume::Region;
use r1seg::{
    AskOptions, DtypeChoice, EncodeOptions, LoadOptions, MaskStatus, Preprocess, R1SegModel,
    Recipe, RunContext, Separator,
};

use crate::case::{
    Expected, R1SEG_CASES, ask, compare, data, deviation, encode, load, on_device,
    repeat_tolerance, volume,
};

fn check(case: &str) {
    let model = load(case, DtypeChoice::F32);
    let volume = volume(&format!("{case}/golden/volume.npy"));
    let study = encode(&model, &volume);
    let mut compared = 0;
    for n in 0..5 {
        compared += compare(&study, &format!("{case}/golden/case{n}"));
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
    let used = study.ask_with(&prompt, &options, &mut RunContext::default()).unwrap();
    assert_eq!(used.seg[0].position, 0);
    assert_eq!(used.status(), MaskStatus::Found);
}

#[test]
fn a_box_in_the_answer_is_parsed() {
    let model = load("phi3", DtypeChoice::F32);
    let study = encode(&model, &volume("phi3/golden/volume.npy"));
    let answer = ask(&study, &Expected::read("phi3/golden/case3").prompt);
    assert_eq!(answer.boxes.len(), 1);
    let found = answer.boxes[0];
    let voxels = found.text.to_voxels([16, 64, 64]);
    assert_eq!((voxels.min, voxels.max), ([2, 21, 32], [14, 39, 49]));
    // The input is the model's own grid, and the box was made by rounding, not by truncating.
    assert_eq!(found.region, Some(Region { start: [2, 21, 32], end: [15, 40, 50] }));
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
            let deviation = deviation(a, b);
            assert!(deviation <= repeat_tolerance(), "{case}: {name} deviates by {deviation:e}");
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

/// Without a trace nothing is read back between threads, so that on a GPU the work of one may still
/// be running when another goes on with its results.
#[test]
fn a_volume_encoded_on_one_thread_is_answered_on_others() {
    let model = load("phi3", DtypeChoice::F32);
    let volume = volume("phi3/golden/volume.npy");
    let options = EncodeOptions::default().with_preprocess(Preprocess::Recipe(Recipe::None));
    let study = std::thread::scope(|scope| {
        scope
            .spawn(|| model.encode_with(&volume, &options, &mut RunContext::default()).unwrap())
            .join()
            .unwrap()
    });
    std::thread::scope(|scope| {
        for n in 0..4 {
            let study = &study;
            scope.spawn(move || {
                let expected = Expected::read(&format!("phi3/golden/case{n}"));
                assert_eq!(ask(study, &expected.prompt).text, expected.text);
            });
        }
    });
}

#[test]
fn w8_weights_that_are_read_answer_as_mapped_ones_do() {
    let volume = volume("qwen2/golden/volume.npy");
    let expected = Expected::read("qwen2/golden/case0");
    let answer = |mmap: bool| {
        let model = R1SegModel::load_with(data("qwen2"), &on_device().with_mmap(mmap)).unwrap();
        let answer = ask(&encode(&model, &volume), &expected.prompt);
        (answer.token_ids, answer.mask.map(|mask| mask.data().to_vec()))
    };
    assert_eq!(answer(true), answer(false));
}

#[test]
fn w8_a_file_that_was_cut_short_is_refused_before_it_is_used() {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(data("qwen2")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    let weights = folder.path().join("model.safetensors");
    let file = std::fs::File::options().write(true).open(&weights).unwrap();
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    for mmap in [true, false] {
        let options = LoadOptions::default().with_mmap(mmap);
        let error = R1SegModel::load_with(folder.path(), &options).unwrap_err();
        assert_eq!(error.code(), "R-WGT-01", "{error}");
    }
}
