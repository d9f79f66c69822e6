//! The 3D vision transformer that R1Seg-3D, M3D and SegVol share.
//!
//! [`Vit3d`] = [`PatchEmbedding`] (a linear map of flattened patches plus a learned position
//! table), pre-norm [`Block`]s and a final norm. With [`Vit3dConfig::cls_token`] a class token
//! without a position precedes the patches, as in M3D-LaMed and M3D-CLIP.
//!
//! Letters of the shapes: see the legend in `r1seg_nn`.

mod attention;
mod block;
mod config;
mod encoder;
mod patch_embedding;

pub use attention::Attention;
pub use block::Block;
pub use config::Vit3dConfig;
pub use encoder::Vit3d;
pub use patch_embedding::PatchEmbedding;
