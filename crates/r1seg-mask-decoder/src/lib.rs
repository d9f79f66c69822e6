//! Promptable 3D mask decoders: SegVol's and its relatives' among SAM's ports to 3D.
//!
//! [`MaskHead`] joins a [`PromptEncoder`] (text, mask, points and boxes to prompt embeddings) and a
//! [`MaskDecoder`] (two-way transformer, upscaling, hypernetwork and text similarity), and runs
//! the refinement loop. What the models differ in is a [`MaskDecoderConfig`]; that of R1Seg-3D
//! (text and mask prompts), SegVol and M3D-LaMed (text, points and boxes) is
//! [`MaskDecoderConfig::segvol`].
//!
//! [`PointHead`] is VISTA3D's, which segments the object that clicks are on, from the features of a
//! convolutional network.
//!
//! Letters of the shapes: see the legend in `r1seg_nn`; `d, h, w` is the grid of low-resolution
//! masks.

mod attention;
mod blocks;
mod config;
mod head;
mod mask_decoder;
mod point_head;
mod position;
mod prompt_encoder;
mod two_way_transformer;
mod upscaler;

pub use config::{
    AxisOrder, Bands, Hypernetworks, MaskDecoderConfig, MaskPromptConfig, PositionConfig,
    PromptConfig, TransformerConfig, Upscale, UpscaleLayer, UpscaleNorm,
};
pub use head::{MaskHead, MaskPrediction};
pub use mask_decoder::MaskDecoder;
pub use point_head::{ObjectPoints, PointHead, PointHeadConfig, PointTag};
pub use position::PositionEncoding;
pub use prompt_encoder::{PointLabel, PromptEmbeddings, PromptEncoder, Prompts};
pub use two_way_transformer::TwoWayTransformer;
