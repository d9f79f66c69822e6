//! Questions that are asked at once get what each gets alone.

use r1seg::{
    AskOptions, CancelToken, DtypeChoice, EncodeOptions, EncodedVolume, Error, Event,
    InferenceMode, MaskStatus, Outcome, Preprocess, QUESTIONS_AT_ONCE, Recipe, RunContext,
    Sampling, Separator,
};

use crate::case::{Expected, R1SEG_CASES, assert_repeated_mask, data, encode, load, volume};

/// The recorded prompts of a case, twice, so that there are more than are answered at once.
fn questions(case: &str) -> Vec<String> {
    let prompt = |n: usize| {
        let json = std::fs::read(data(&format!("{case}/golden/case{}.json", n % 5))).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        json["prompt"].as_str().unwrap().to_string()
    };
    let questions: Vec<String> = (0..10).map(prompt).collect();
    assert!(questions.len() > QUESTIONS_AT_ONCE);
    questions
}

fn options() -> AskOptions {
    AskOptions::default().with_separator(Separator::None).with_max_new_tokens(24)
}

fn assert_same(got: &Outcome, alone: &Outcome, what: &str) {
    assert_eq!(got.text, alone.text, "{what}");
    assert_eq!(got.token_ids, alone.token_ids, "{what}");
    assert_eq!(got.prompt_tokens, alone.prompt_tokens, "{what}");
    assert_eq!(got.finish_reason, alone.finish_reason, "{what}");
    assert_eq!(got.boxes.len(), alone.boxes.len(), "{what}");
    let positions = |answer: &Outcome| answer.seg.iter().map(|s| s.position).collect::<Vec<_>>();
    assert_eq!(positions(got), positions(alone), "{what}");
    for (got, alone) in got.seg.iter().zip(&alone.seg) {
        // f32 sums are taken in another order.
        assert!((got.logprob - alone.logprob).abs() < 1e-4, "{what}");
    }
    assert_repeated_mask(got.mask.as_ref(), alone.mask.as_ref(), what);
    assert_eq!(got.windows, alone.windows, "{what}");
    for (got, alone) in got.window_answers.iter().zip(&alone.window_answers) {
        assert_eq!((got.start, &got.token_ids), (alone.start, &alone.token_ids), "{what}");
    }
}

fn check(encoded: &EncodedVolume, questions: &[String], options: &AskOptions, what: &str) {
    let questions: Vec<&str> = questions.iter().map(String::as_str).collect();
    let answers = encoded.ask_many(&questions, options).unwrap();
    assert_eq!(answers.len(), questions.len());
    for (n, (question, answer)) in questions.iter().zip(&answers).enumerate() {
        let alone = encoded.ask_with(question, options, &mut RunContext::default()).unwrap();
        assert_same(answer, &alone, &format!("{what} {n}"));
    }
}

#[test]
fn questions_asked_at_once_get_what_each_gets_alone() {
    for case in R1SEG_CASES {
        let model = load(case, DtypeChoice::F32);
        let encoded = encode(&model, &volume(&format!("{case}/golden/volume.npy")));
        let questions = questions(case);
        check(&encoded, &questions, &options(), case);
        let found = encoded.ask(&Expected::read(&format!("{case}/golden/case0")).prompt).unwrap();
        assert!(found.status() != MaskStatus::NotFound, "{case}: no mask was compared");
    }
}

#[test]
fn questions_asked_at_once_draw_as_each_does_alone() {
    let model = load("phi3", DtypeChoice::F32);
    let encoded = encode(&model, &volume("phi3/golden/volume.npy"));
    for seed in [1, 2] {
        let sampling = Sampling::Random { temperature: 3.0, top_k: 0, top_p: 1.0, seed };
        let options = options().with_sampling(sampling);
        check(&encoded, &questions("phi3"), &options, &format!("seed {seed}"));
    }
}

#[test]
fn windows_read_by_several_questions_give_what_each_gets_alone() {
    let model = load("phi3", DtypeChoice::F32);
    let encode = EncodeOptions::default()
        .with_preprocess(Preprocess::Recipe(Recipe::None))
        .with_mode(InferenceMode::Sliding);
    let encoded = model
        .encode_with(&volume("phi3/golden/sliding.volume.npy"), &encode, &mut RunContext::default())
        .unwrap();
    let questions = [0, 2, 1].map(|n| Expected::read(&format!("phi3/golden/case{n}")).prompt);
    check(&encoded, &questions, &options(), "sliding");
    let sampling = Sampling::Random { temperature: 3.0, top_k: 0, top_p: 1.0, seed: 5 };
    check(&encoded, &questions, &options().with_sampling(sampling), "sampled");
}

#[test]
fn what_is_told_names_its_question() {
    let model = load("phi3", DtypeChoice::F32);
    let encoded = encode(&model, &volume("phi3/golden/volume.npy"));
    let questions = questions("phi3");
    let questions: Vec<&str> = questions.iter().map(String::as_str).collect();
    let mut texts = vec![String::new(); questions.len()];
    let mut said = vec![0; questions.len()];
    let mut masks = vec![0; questions.len()];
    let mut on_event = |event: Event<'_>| match event {
        Event::Text { prompt, text } => {
            assert_eq!(said[prompt], 0, "text behind the end");
            texts[prompt].push_str(text);
        }
        Event::TextDone { prompt } => said[prompt] += 1,
        Event::Mask { prompt } => masks[prompt] += 1,
        _ => {}
    };
    let answers = encoded
        .ask_many_with(
            &questions,
            &options(),
            &mut RunContext::default().with_events(&mut on_event),
        )
        .unwrap();
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!((&texts[n], said[n]), (&answer.text, 1), "{n}");
        assert_eq!(masks[n], usize::from(answer.mask.is_some()), "{n}");
    }
}

#[test]
fn a_question_that_cannot_be_asked_costs_nothing_and_a_cancelled_one_ends_all() {
    let model = load("phi3", DtypeChoice::F32);
    let encoded = encode(&model, &volume("phi3/golden/volume.npy"));
    assert!(encoded.ask_many::<&str>(&[], &options()).unwrap().is_empty());
    let mut events = 0;
    let mut on_event = |_: Event<'_>| events += 1;
    let mut run = RunContext::default().with_events(&mut on_event);
    let refused = encoded.ask_many_with(&["The liver?", " "], &options(), &mut run);
    assert!(matches!(refused, Err(Error::Tokenizer(_))), "{refused:?}");
    assert_eq!(events, 0);
    let cancel = CancelToken::default();
    let mut on_event = |event: Event<'_>| {
        if matches!(event, Event::Token { index: 1, .. }) {
            cancel.cancel();
        }
    };
    let mut run = RunContext::from(&cancel).with_events(&mut on_event);
    let ended = encoded.ask_many_with(&["The liver?", "The spleen?"], &options(), &mut run);
    assert!(matches!(ended, Err(Error::Cancelled)), "{ended:?}");
}

#[test]
fn times_of_answers_add_up_to_the_time_that_was_spent() {
    let model = load("phi3", DtypeChoice::F32);
    let encoded = encode(&model, &volume("phi3/golden/volume.npy"));
    let questions = questions("phi3");
    let questions: Vec<&str> = questions.iter().map(String::as_str).collect();
    let start = std::time::Instant::now();
    let answers = encoded.ask_many(&questions, &options()).unwrap();
    let spent = start.elapsed();
    let sum: std::time::Duration = answers
        .iter()
        .map(|answer| &answer.timings)
        .map(|t| t.prefill + t.decode + t.mask + t.postprocess)
        .sum();
    assert!(sum <= spent, "{sum:?} of {spent:?}");
    assert!(answers.iter().all(|answer| !answer.timings.prefill.is_zero()));
}
