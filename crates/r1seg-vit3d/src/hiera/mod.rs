//! The 3D Hiera encoder of NeuroSAM3D: stages of windowed blocks, each on half the grid of the one
//! before and twice as wide, and a neck that joins the maps of the last stages.

mod attention;
mod block;
mod config;
mod encoder;
mod neck;

pub use config::HieraConfig;
pub use encoder::Hiera;
