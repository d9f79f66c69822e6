//! Segments what a question asks for in a CT, and writes a mask that lies on it.
//!
//! Shows: read a volume, load a checkpoint folder, encode, ask, measure and write the mask.
//! The model `demo` is the embedded one, which knows only synthetic phantoms.
//!
//! ```sh
//! cargo run --release --example segment_nifti -- \
//!     ct.nii.gz "Can you segment the liver in this image?" ./R1Seg-3D-Phi-3-4B mask.nii.gz
//! ```
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program prints")]

use std::error::Error;

use r1seg::R1SegModel;
use r1seg::volume::{Overwrite, ReadOptions, mask_stats, read, write_mask};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (ct, question, checkpoint, out) = match &args[..] {
        [ct, question, checkpoint] => (ct, question, checkpoint, "mask.nii.gz"),
        [ct, question, checkpoint, out] => (ct, question, checkpoint, out.as_str()),
        _ => return Err("usage: segment_nifti CT QUESTION CHECKPOINT [MASK]".into()),
    };

    let loaded = read(ct, &ReadOptions::default())?;
    let model = match checkpoint.as_str() {
        "demo" => R1SegModel::demo()?,
        folder => R1SegModel::load(folder)?,
    };
    let encoded = model.encode(&loaded.volume)?;
    for warning in loaded.warnings.iter().chain(encoded.warnings()) {
        eprintln!("{warning}");
    }

    let answer = encoded.ask(question)?;
    println!("{}", answer.text);
    let Some(mask) = &answer.mask else {
        println!("no mask: the answer has no [SEG]");
        return Ok(());
    };
    let stats = mask_stats(mask, 1, &loaded.volume)?;
    write_mask(out, mask, Overwrite::Refuse)?;
    match stats.volume_ml {
        Some(ml) => println!("{out}: {} voxels, {ml:.1} mL", stats.voxels),
        None => println!("{out}: {} voxels", stats.voxels),
    }
    Ok(())
}
