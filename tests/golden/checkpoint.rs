//! A checkpoint of one's own, such as a published one: every tensor accounted for, and an answer.

use r1seg::volume::{Geometry, Volume};
use r1seg::{AskOptions, R1SegModel, RunContext};

#[test]
fn the_named_checkpoint_loads_and_answers() {
    let Ok(folder) = std::env::var("R1SEG_CHECKPOINT") else {
        eprintln!("skipped: R1SEG_CHECKPOINT names no checkpoint folder");
        return;
    };
    let model = R1SegModel::load(folder).unwrap();
    assert!(model.load_report().is_clean());
    let shape = model.input_shape();
    let ramp: Vec<f32> =
        (0..shape.iter().product()).map(|i: usize| (i % 251) as f32 / 250.0).collect();
    let volume = Volume::new(ramp, Geometry::without_affine(shape)).unwrap();
    let options = AskOptions::default().with_max_new_tokens(4);
    let study = model.encode(&volume).unwrap();
    let question = "Can you segment the liver in this image?";
    let answer = study.ask_with(question, &options, &mut RunContext::default()).unwrap();
    assert!(!answer.token_ids.is_empty());
}
