//! Under which names tensors are kept. Keys are translated here and nowhere else; a publisher's prefix
//! is taken off when a checkpoint is converted.

mod families;
pub mod llama_cpp;

pub use families::{KeyMap, M3D_CLIP, M3D_LAMED, R1SEG_3D, R1SEG_3D_SAM, SEGVOL};
