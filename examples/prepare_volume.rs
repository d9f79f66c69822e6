//! Reads a CT, prepares it as R1Seg-3D was trained, and says how long each step took.
//!
//! ```sh
//! cargo run --release --example prepare_volume -- ct.nii.gz
//! ```

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program prints")]

use std::time::Instant;

use r1seg::Recipe;
use r1seg::volume::{ReadOptions, read};

/// `[D, H, W]` of the published models.
const MODEL_GRID: [usize; 3] = [32, 256, 256];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("name a volume")?;

    let start = Instant::now();
    let loaded = read(path, &ReadOptions::default())?;
    for warning in &loaded.warnings {
        eprintln!("{warning}");
    }
    let read_s = start.elapsed().as_secs_f64();

    let start = Instant::now();
    let prepared = Recipe::M3dSeg.apply(&loaded.volume, None)?;
    let input = prepared.resize(MODEL_GRID)?;
    let prepare_s = start.elapsed().as_secs_f64();

    let sum: f64 = input.iter().map(|v| f64::from(*v)).sum();
    println!("read {read_s:.3} s, prepare {prepare_s:.3} s, mean {:.9}", sum / input.len() as f64);
    Ok(())
}
