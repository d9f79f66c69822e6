//! Compares ways to ask: one question template a row, one organ a column, the Dice in the cells.
//!
//! Draws a phantom, whose truth is known, and asks the embedded model about it: no files and no
//! network. Every argument is a template, in which `{organ}` stands for the organ's name; without
//! any, two that the model was taught are compared with two that it was not.
//!
//! ```sh
//! cargo run --release --example custom_prompt
//! cargo run --release --example custom_prompt -- "Where is the {organ}?" "Outline the {organ}."
//! ```
#![expect(clippy::print_stdout, reason = "a program prints")]

use std::error::Error;

use r1seg::phantom::{Organ, Phantom};
use r1seg::volume::{Geometry, Volume};
use r1seg::{EncodedVolume, R1SegModel};

const TEMPLATES: [&str; 4] = [
    "Can you segment the {organ} in this image?",
    "Segment the {organ} and provide the mask, please.",
    "Where is the {organ} in this image?",
    "Outline the {organ}.",
];

fn main() -> Result<(), Box<dyn Error>> {
    let mut templates: Vec<String> = std::env::args().skip(1).collect();
    if templates.is_empty() {
        templates = TEMPLATES.map(str::to_owned).to_vec();
    }

    let model = R1SegModel::demo()?;
    let phantom = Phantom::draw(7);
    let volume = Volume::new(phantom.volume.clone(), Geometry::without_affine(phantom.shape))?;
    let encoded = model.encode(&volume)?;

    let names = Organ::ALL.map(|organ| format!("{:>14}", organ.name())).concat();
    println!("{:50}{names}{:>14}", "Dice", "mean");
    for template in &templates {
        let mut sum = 0.0;
        print!("{template:50}");
        for organ in Organ::ALL {
            let dice = ask(&encoded, &phantom, organ, template)?;
            sum += dice.unwrap_or(0.0);
            match dice {
                Some(dice) => print!("{dice:14.3}"),
                None => print!("{:>14}", "no mask"),
            }
        }
        println!("{:14.3}", sum / Organ::ALL.len() as f64);
    }
    Ok(())
}

/// How well the organ's mask fits its truth; `None` where the answer has no `[SEG]`.
fn ask(
    encoded: &EncodedVolume,
    phantom: &Phantom,
    organ: Organ,
    template: &str,
) -> Result<Option<f64>, Box<dyn Error>> {
    let answer = encoded.ask(template.replace("{organ}", organ.name()))?;
    Ok(answer.mask.and_then(|mask| phantom.dice(mask.data(), organ)))
}
