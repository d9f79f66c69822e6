//! `r1seg embed` and `r1seg retrieve`: volumes and texts as M3D-CLIP sees them.
//!
//! [`encoder`] turns them into vectors, [`vectors`] writes these, [`candidates`] finds the volumes
//! of a folder, [`ranking`] compares, and [`pairs`] reads what belongs together.

mod candidates;
mod embed;
mod encoder;
mod pairs;
mod ranking;
mod retrieve;
mod vectors;

pub(crate) use embed::run as embed;
pub(crate) use retrieve::run as retrieve;
