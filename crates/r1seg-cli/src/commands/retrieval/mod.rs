//! `r1seg embed` and `r1seg retrieve`: volumes and texts as M3D-CLIP sees them.
//!
//! [`encoder`] turns them into vectors, [`batch`] many of them of which some may fail, [`vectors`]
//! writes these, [`crate::candidates`] finds the volumes of a folder, [`ranking`] compares, and [`pairs`]
//! reads what belongs together.

mod batch;
mod embed;
mod encoder;
mod pairs;
mod ranking;
mod retrieve;
mod vectors;

use anyhow::Result;

use crate::candidates::Candidates;
use crate::exit::CliError;

pub(crate) use embed::run as embed;
pub(crate) use retrieve::run as retrieve;

/// Refuses `--series` where it would choose among the series of several volumes.
fn check_series(series: Option<&str>, volumes: &Candidates) -> Result<()> {
    if series.is_some() && volumes.paths.len() > 1 {
        return Err(CliError::usage(
            format!(
                "--series chooses one series of one volume, and {} are given",
                volumes.paths.len()
            ),
            "leave it out: each series of a folder is a volume of its own",
        ));
    }
    Ok(())
}
