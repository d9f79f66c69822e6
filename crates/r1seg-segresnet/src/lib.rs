//! The convolutional network of VISTA3D: one encoder, a decoder for each of two branches, and the head
//! that scores classes.
//!
//! ```text
//! window [1, 1, D, H, W] ─► Encoder ─► maps of all levels ─┬─► Decoder (up_layers_auto) ─► ClassHead
//!                                                          └─► Decoder (up_layers)      ─► point head
//! ```
//!
//! [`SegResNet`] is the encoder with both [`Decoder`]s, of which it runs those that are asked for. Each gives
//! features at full size. [`ClassHead`] turns those of the class branch into logits, one for each voxel and
//! class; those of the point branch go to the head for clicks, which is not part of this crate.
//!
//! Windows may have any size that [`SegResNetConfig::check_window`] accepts; their axes are `[D, H, W]` of the
//! tensors, and no axis changes places.
//!
//! Letters of the shapes: see the legend in `r1seg_nn`; `F` is the width of the features.

mod block;
mod class_head;
mod config;
mod decoder;
mod encoder;
mod network;

pub use class_head::ClassHead;
pub use config::SegResNetConfig;
pub use decoder::Decoder;
pub use encoder::Encoder;
pub use network::{Branches, Features, SegResNet};
