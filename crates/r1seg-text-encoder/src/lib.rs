//! The text encoders beside the 3D vision transformer, after transformers 4.46.3.
//!
//! - [`PromptTextEncoder`]: [`ClipTextModel`] and the layer that brings its pooled state to the
//!   width of the mask decoder, as SegVol and R1Seg-3D-SAM are prompted;
//! - [`BertModel`]: the language encoder of M3D-CLIP.
//!
//! Both read one text at a time, without padding: what an attention mask hides changes no other
//! position, so that leaving it out gives the same states.
//!
//! candle-transformers has both models too, but its layers copy their weights out of a `VarBuilder`
//! of their own, where ours read them in any dtype and where they lie ([`r1seg_nn::Weights`]). The
//! tests compare the states of every token with its.
//!
//! Letters of the shapes: see the legend in `r1seg_nn`.

mod attention;
mod bert;
mod clip;
mod config;
mod mlp;
mod prompt;
#[cfg(test)]
mod testing;

pub use bert::BertModel;
pub use clip::{ClipText, ClipTextModel};
pub use config::{BertConfig, ClipTextConfig};
pub use prompt::PromptTextEncoder;
