//! Under which names tensors are kept. Keys are translated here and nowhere else.

mod families;
pub mod llama_cpp;
mod parts;
mod publishers;

pub use families::{
    HSENET, HSENET_CLIP, KeyMap, M3D_CLIP, M3D_LAMED, NEUROSAM3D, R1SEG_3D, R1SEG_3D_SAM,
    SAM_MED3D, SEGVOL, VISTA3D,
};
pub use parts::{Part, Whole};
pub use publishers::{Renamed, normalize, strip_wrappers};
