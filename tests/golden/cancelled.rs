//! A cancelled run ends with `Error::Cancelled` wherever it is, and what it worked on stays usable.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::Tensor;
use r1seg::{
    AskOptions, CancelToken, CheckpointSource, EncodeOptions, Error, Event, InferenceMode, M3dClip,
    Preprocess, Probe, Prompt, PromptableModel, R1SegModel, Recipe, RunContext, Separator,
};

use crate::case::{assert_repeated_mask, data, on_device, volume};

const QUESTION: &str = "Can you segment the liver in this image?";

fn source(case: &str) -> CheckpointSource {
    CheckpointSource::Folder(data(case))
}

fn language_model(case: &str) -> R1SegModel {
    R1SegModel::load_with(source(case), &on_device()).unwrap()
}

fn promptable_model(case: &str) -> PromptableModel {
    PromptableModel::load_with(source(case), &on_device()).unwrap()
}

fn as_it_is() -> EncodeOptions {
    EncodeOptions::default().with_preprocess(Preprocess::Recipe(Recipe::None))
}

fn options() -> AskOptions {
    AskOptions::default().with_separator(Separator::None).with_max_new_tokens(6)
}

/// A token that stops a run at its n-th check.
fn at_check(n: usize) -> CancelToken {
    let checks = Arc::new(AtomicUsize::new(0));
    CancelToken::when(move || checks.fetch_add(1, Ordering::Relaxed) >= n)
}

/// Stops a run at its first check, then at its second, and so on until it is through. Returns how many
/// checks that were, and what the run gave in the end.
fn at_every_check<T>(run: impl Fn(CancelToken) -> Result<T, Error>) -> (usize, T) {
    for n in 0.. {
        match run(at_check(n)) {
            Err(Error::Cancelled) => {}
            Err(error) => panic!("check {n}: {error}"),
            Ok(value) => return (n, value),
        }
    }
    unreachable!("a run has finitely many checks")
}

#[test]
fn loading_stops_before_any_tensor() {
    let (checks, model) = at_every_check(|cancel| {
        R1SegModel::load_with(source("phi3"), &on_device().with_cancel(cancel))
    });
    assert!(checks > model.config().decoder.num_hidden_layers, "{checks}");
    let (checks, _) = at_every_check(|cancel| {
        PromptableModel::load_with(source("segvol"), &on_device().with_cancel(cancel))
    });
    assert!(checks > 20, "{checks}");
}

#[test]
fn encoding_stops_before_each_block_and_within_it() {
    let model = language_model("phi3");
    let volume = volume("phi3/golden/volume.npy");
    let (checks, encoded) = at_every_check(|cancel| {
        model.encode_with(&volume, &as_it_is(), &mut RunContext::from(&cancel))
    });
    assert!(checks >= 2 * model.config().branches[0].vit.num_layers, "{checks}");
    let whole = model.encode_with(&volume, &as_it_is(), &mut RunContext::default()).unwrap();
    assert_eq!(encoded.ask(QUESTION).unwrap().text, whole.ask(QUESTION).unwrap().text);
}

#[test]
fn an_answer_stops_in_prefill_between_tokens_and_in_its_mask() {
    // One encoder, and one for each of language and mask.
    for case in ["phi3-clicks", "m3d-phi3"] {
        let model = language_model(case);
        let volume = volume(&format!("{case}/golden/volume.npy"));
        let whole = model.encode_with(&volume, &as_it_is(), &mut RunContext::default()).unwrap();
        let seg = model.tokenizer().seg_token_id();
        // Without drafts, which would check what was answered before in one pass.
        let options = options().with_forced_tokens(vec![1, 2, seg, 3, 4, 5]).with_drafts(false);
        let expected = whole.ask_with(QUESTION, &options, &mut RunContext::default()).unwrap();
        let encoded = model.encode_with(&volume, &as_it_is(), &mut RunContext::default()).unwrap();
        let (checks, answer) = at_every_check(|cancel| {
            encoded.ask_with(QUESTION, &options, &mut RunContext::from(&cancel))
        });
        // Twice in each layer of the pass over the prompt, and of those for the other five tokens.
        assert!(checks > 6 * 2 * model.config().decoder.num_hidden_layers, "{case}: {checks}");
        assert_eq!(answer.token_ids, expected.token_ids, "{case}");
        assert_repeated_mask(answer.mask.as_ref(), expected.mask.as_ref(), case);
        assert!(answer.mask.is_some(), "{case}");
    }
}

#[test]
fn questions_at_once_stop_while_the_image_is_read_for_all_of_them() {
    let model = language_model("phi3");
    let volume = volume("phi3/golden/volume.npy");
    let encoded = model.encode_with(&volume, &as_it_is(), &mut RunContext::default()).unwrap();
    let questions = [QUESTION, "The spleen?"];
    let (checks, answers) = at_every_check(|cancel| {
        encoded.ask_many_with(&questions, &options(), &mut RunContext::from(&cancel))
    });
    assert!(checks >= 2 * model.config().decoder.num_hidden_layers, "{checks}");
    let expected = encoded.ask_many(&questions, &options()).unwrap();
    for (answer, expected) in answers.iter().zip(&expected) {
        assert_eq!(answer.token_ids, expected.token_ids);
    }
}

#[test]
fn the_probe_of_a_run_can_cancel_it() {
    struct CancelAfter<'a>(&'a str, CancelToken, Vec<String>);
    impl Probe for CancelAfter<'_> {
        fn record(&mut self, name: &str, _tensor: &Tensor) -> candle_core::Result<()> {
            self.2.push(name.to_string());
            if name == self.0 {
                self.1.cancel();
            }
            Ok(())
        }
    }
    let model = language_model("phi3");
    let volume = volume("phi3/golden/volume.npy");
    let cancel = CancelToken::default();
    let mut probe = CancelAfter("vit.block_0", cancel.clone(), Vec::new());
    let mut run = RunContext::from(&cancel).with_probe(&mut probe);
    let ended = model.encode_with(&volume, &as_it_is(), &mut run);
    assert!(matches!(ended, Err(Error::Cancelled)), "{ended:?}");
    assert_eq!(probe.2, ["vit.patch_embedding", "vit.block_0"]);
}

#[test]
fn the_events_of_a_run_can_cancel_its_mask_and_its_windows() {
    let model = language_model("phi3-clicks");
    let of_model = volume("phi3-clicks/golden/volume.npy");
    let encoded = model.encode_with(&of_model, &as_it_is(), &mut RunContext::default()).unwrap();
    let seg = model.tokenizer().seg_token_id();
    let forced = options().with_forced_tokens(vec![1, seg]).with_max_new_tokens(2);
    let cancel = CancelToken::default();
    let mut on_event = |event: Event<'_>| {
        if matches!(event, Event::Mask { .. }) {
            cancel.cancel();
        }
    };
    let mut run = RunContext::from(&cancel).with_events(&mut on_event);
    let ended = encoded.ask_with(QUESTION, &forced, &mut run);
    assert!(matches!(ended, Err(Error::Cancelled)), "{ended:?}");

    let large = volume("phi3/golden/sliding.volume.npy");
    let model = language_model("phi3");
    let sliding = as_it_is().with_mode(InferenceMode::Sliding);
    let encoded = model.encode_with(&large, &sliding, &mut RunContext::default()).unwrap();
    let (cancel, mut windows) = (CancelToken::default(), 0);
    let mut on_event = |event: Event<'_>| {
        if let Event::Window { of, .. } = event {
            assert!(of > 1);
            windows += 1;
            cancel.cancel();
        }
    };
    let mut run = RunContext::from(&cancel).with_events(&mut on_event);
    let ended = encoded.ask_with(QUESTION, &options(), &mut run);
    assert!(matches!(ended, Err(Error::Cancelled)), "{ended:?}");
    assert_eq!(windows, 1);
}

#[test]
fn a_prompt_stops_in_its_text_its_image_its_masks_and_its_windows() {
    for (case, mode) in [("segvol", InferenceMode::Zoom), ("r1seg-3dsam", InferenceMode::Resize)] {
        let model = promptable_model(case);
        let volume = volume(&format!("{case}/golden/volume.npy"));
        let options = EncodeOptions::default()
            .with_preprocess(Preprocess::Recipe(Recipe::None))
            .with_mode(mode);
        let prompt = Prompt::of_text("liver");
        let expected = model
            .encode_with(&volume, &options, &mut RunContext::default())
            .unwrap()
            .segment(&prompt)
            .unwrap();
        let encoded = model.encode_with(&volume, &options, &mut RunContext::default()).unwrap();
        let (checks, found) =
            at_every_check(|cancel| encoded.segment_with(&prompt, &mut RunContext::from(&cancel)));
        let config = model.config();
        // What was encoded before a later check stays; the layers of the text are read again.
        let text = config.text.as_ref().unwrap().num_hidden_layers;
        assert!(checks > text + config.num_clicks, "{case}: {checks}");
        assert_eq!(found.mask, expected.mask, "{case}");
        let (checks, _) = at_every_check(|cancel| {
            let encoded = model.encode_with(&volume, &options, &mut RunContext::default())?;
            encoded.segment_with(&prompt, &mut RunContext::from(&cancel))
        });
        let blocks = 2 * config.image_encoder.num_layers() * found.windows;
        assert!(checks > blocks + text, "{case}: {checks}");
    }
}

#[test]
fn an_embedding_stops_within_its_encoders() {
    let clip = M3dClip::load_with(source("m3d-clip"), &on_device()).unwrap();
    let (checks, _) =
        at_every_check(|cancel| clip.embed_text_with("A cyst.", &mut RunContext::from(&cancel)));
    assert!(checks >= clip.config().text.num_hidden_layers, "{checks}");
    let volume = volume("phi3/golden/volume.npy");
    let (checks, _) = at_every_check(|cancel| {
        let mut run = RunContext::from(&cancel);
        clip.embed_volume_with(&volume, &EncodeOptions::default(), &mut run)
    });
    assert!(checks >= 2 * clip.config().vit.num_layers, "{checks}");
}
