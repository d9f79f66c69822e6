//! Asks several questions about one volume, and shows what each answer cost.
//!
//! The vision transformer runs once, the language model reads the image once, and the tokens of all
//! answers share each read of its weights. With no arguments the embedded model is asked about a
//! phantom that is drawn for it.
//!
//! ```sh
//! cargo run --release --example ask
//! cargo run --release --example ask -- ./R1Seg-3D-Phi-3-4B ct.nii.gz \
//!     "Can you segment the liver in this image?" "What is wrong with this patient?"
//! ```
#![expect(clippy::print_stdout, reason = "a program prints")]

use std::error::Error;

use r1seg::phantom::{CAPTION_QUESTION, Organ, Phantom};
use r1seg::volume::{Geometry, ReadOptions, Volume, read};
use r1seg::{AskOptions, Event, R1SegModel, RunContext};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (model, volume, questions) = match &args[..] {
        [] => (R1SegModel::demo()?, phantom()?, phantom_questions()),
        [checkpoint, ct, questions @ ..] if !questions.is_empty() => {
            let volume = read(ct, &ReadOptions::default())?.volume;
            (R1SegModel::load(checkpoint)?, volume, questions.to_vec())
        }
        _ => return Err("usage: ask [CHECKPOINT CT QUESTION...]".into()),
    };
    println!("loaded in {:.2?} on {}", model.load_time(), model.device_name());

    let encoded = model.encode(&volume)?;
    let options = AskOptions::default().with_max_new_tokens(128);
    let questions: Vec<&str> = questions.iter().map(String::as_str).collect();
    // Answers grow at once; each is reported as soon as it is complete.
    let mut on_event = |event: Event<'_>| {
        if let Event::TextDone { prompt } = event {
            println!("answer {} is complete", prompt + 1);
        }
    };
    let mut run = RunContext::default().with_events(&mut on_event);
    let answers = encoded.ask_many_with(&questions, &options, &mut run)?;
    for (index, (question, answer)) in questions.iter().zip(&answers).enumerate() {
        println!("\n> {question}\n{}", answer.text);
        let times = answer.timings;
        if index == 0 {
            println!("  image: {:.2?} to see, once for all questions", times.vit + times.projector);
        }
        println!(
            "  {} prompt tokens, {:.2?} to read them, {} more tokens in {:.2?}",
            answer.prompt_tokens,
            times.prefill,
            answer.token_ids.len().saturating_sub(1),
            times.decode,
        );
        if answer.mask.is_some() {
            println!("  mask after another {:.2?}", times.mask + times.postprocess);
        }
    }
    Ok(())
}

fn phantom() -> Result<Volume, Box<dyn Error>> {
    let phantom = Phantom::draw(7);
    Ok(Volume::new(phantom.volume, Geometry::without_affine(phantom.shape))?)
}

fn phantom_questions() -> Vec<String> {
    let described = Organ::RightKidney.questions().swap_remove(4);
    vec![Organ::Liver.questions().swap_remove(0), described, CAPTION_QUESTION.to_owned()]
}
