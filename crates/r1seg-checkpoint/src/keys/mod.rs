//! Under which names tensors are kept. Keys are translated here and nowhere else.

mod families;
pub mod llama_cpp;
mod publishers;

pub use families::{KeyMap, M3D_CLIP, M3D_LAMED, R1SEG_3D, R1SEG_3D_SAM, SEGVOL};
pub use publishers::{Renamed, normalize};
