//! Segments what a question asks for in a DICOM series: a folder, a zip archive or one file.
//!
//! Shows: list the series, choose one, and write a segmentation that 3D Slicer opens on it.
//! The model `demo` is the embedded one, which knows only synthetic phantoms.
//!
//! ```sh
//! cargo run --release --example segment_dicom -- \
//!     study/ "Can you segment the liver in this image?" ./R1Seg-3D-Phi-3-4B [SERIES]
//! ```
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program prints")]

use std::error::Error;

use r1seg::R1SegModel;
use r1seg::volume::{
    LabelMap, Overwrite, ReadOptions, Segment, Segmentation, list_series, mask_stats, read,
    write_segmentation,
};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (folder, question, checkpoint, chosen) = match &args[..] {
        [folder, question, checkpoint] => (folder, question, checkpoint, None),
        [folder, question, checkpoint, series] => (folder, question, checkpoint, Some(series)),
        _ => return Err("usage: segment_dicom FOLDER|ZIP|FILE QUESTION CHECKPOINT [SERIES]".into()),
    };

    let mut options = ReadOptions::default();
    for series in list_series(folder, &options)? {
        eprintln!("{series}");
    }
    if let Some(series) = chosen {
        options = options.with_series(series);
    }
    let loaded = read(folder, &options)?;
    for warning in &loaded.warnings {
        eprintln!("{warning}");
    }

    let model = match checkpoint.as_str() {
        "demo" => R1SegModel::demo()?,
        folder => R1SegModel::load(folder)?,
    };
    let answer = model.encode(&loaded.volume)?.ask(question)?;
    println!("{}", answer.text);
    let Some(mask) = answer.mask else { return Ok(()) };
    let stats = mask_stats(&mask, 1, &loaded.volume)?;
    println!("{:.1} mL", stats.volume_ml.unwrap_or_default());

    let mut labels = LabelMap::new(mask.geometry().clone());
    labels.push(&mask)?;
    let segment = Segment::new(question.as_str(), [221, 130, 101]);
    let segmentation = Segmentation::new(&labels, vec![segment])?;
    write_segmentation("mask.seg.nrrd", &segmentation, Overwrite::Refuse)?;
    Ok(())
}
