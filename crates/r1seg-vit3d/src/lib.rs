//! The vision transformers: of R1Seg-3D, M3D, SegVol and HSENet, of SAM-Med3D, and of NeuroSAM3D.
//!
//! [`Vit3d`], which R1Seg-3D, M3D, SegVol and HSENet share, = [`PatchEmbedding`] (a linear map of flattened
//! patches plus a learned position table), pre-norm [`Block`]s and a final norm. With
//! [`Vit3dConfig::cls_token`] a class token without a position precedes the patches, as in M3D-LaMed
//! and M3D-CLIP; with [`Vit3dConfig::slice_guided`] a [`SliceGuide`] scales the patches by what slices
//! of the volume make of them, as in HSENet's second encoder.
//!
//! [`SliceEncoder`] is the 2D vision transformer that describes these slices, of the same blocks.
//!
//! [`Hiera`] is NeuroSAM3D's: stages that each halve the grid of the one before, whose blocks attend
//! within windows, and a neck that joins the last two maps.
//!
//! [`SamVit`] is the encoder of SAM-Med3D: blocks that attend within windows or to the whole grid,
//! with relative positions, and convolutions behind the last one.
//!
//! [`ImageEncoder`] is any of them, as a promptable model has it.
//!
//! Letters of the shapes: see the legend in `r1seg_nn`.

mod attention;
mod block;
mod config;
mod encoder;
mod hiera;
mod image_encoder;
mod mlp;
mod patch_embedding;
mod sam;
mod slice_encoder;
mod slice_guide;
#[cfg(test)]
mod testing;

pub use attention::Attention;
pub use block::{Block, BlockConfig};
pub use config::Vit3dConfig;
pub use encoder::Vit3d;
pub use hiera::{Hiera, HieraConfig};
pub use image_encoder::{ImageEncoder, ImageEncoderConfig};
pub use patch_embedding::PatchEmbedding;
pub use sam::{SamVit, SamVitConfig};
pub use slice_encoder::{SliceEncoder, SliceEncoderConfig};
pub use slice_guide::SliceGuide;
