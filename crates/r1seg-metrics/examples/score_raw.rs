//! Scores two masks that lie in files as bare bytes, one for each voxel, and prints how long it took:
//! `score_raw D,H,W Z,Y,X TRUTH PREDICTED`, with the shape and the millimeters of a voxel.
//! `scripts/compare-surface-distance` runs it.
#![expect(clippy::print_stdout, reason = "the output of an example")]

use std::error::Error;
use std::time::Instant;

use r1seg_metrics::Empties;
use r1seg_metrics::surface::Pair;

fn three<T: std::str::FromStr + Copy>(text: &str) -> Result<[T; 3], Box<dyn Error>> {
    let numbers: Vec<T> = text.split(',').filter_map(|part| part.parse().ok()).collect();
    numbers.try_into().map_err(|_| format!("three numbers are needed, not `{text}`").into())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [shape, spacing, truth, predicted] = arguments.as_slice() else {
        return Err("score_raw D,H,W Z,Y,X TRUTH PREDICTED".into());
    };
    let (shape, spacing_mm) = (three(shape)?, three(spacing)?);
    let (truth, predicted) = (std::fs::read(truth)?, std::fs::read(predicted)?);

    let start = Instant::now();
    let surfels = Pair::new(&truth, &predicted, shape, spacing_mm)?.surfels();
    let scores = [
        surfels.surface_dice(1.0),
        surfels.hausdorff_mm(),
        surfels.weighted_hausdorff_mm(95.0),
        surfels.from_truth.mean_mm(),
        surfels.from_predicted.mean_mm(),
    ];
    let surfels_seconds = start.elapsed().as_secs_f64();

    let start = Instant::now();
    let all = Pair::new(&truth, &predicted, shape, spacing_mm)?.scores(1.0, Empties::Formula);
    let all_seconds = start.elapsed().as_secs_f64();
    let numbers: Vec<String> =
        scores.iter().map(|score| format!("{:?}", score.unwrap_or(f64::NAN))).collect();
    println!(
        "{{\"seconds\": {surfels_seconds}, \"all_seconds\": {all_seconds}, \"scores\": [{}], \
         \"assd_mm\": {:?}}}",
        numbers.join(", "),
        all.assd_mm.unwrap_or(f64::NAN),
    );
    Ok(())
}
