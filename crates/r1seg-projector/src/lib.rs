//! Projectors between the vision transformer, the language model and the mask decoder.
//!
//! - [`MmProjector`]: image embeddings to visual tokens of the language model's width;
//! - [`SegProjector`]: the hidden state that predicts `[SEG]` to a prompt embedding.
//!
//! Port of `LaMed/src/model/multimodal_projector/` (R1Seg-3D, M3D, HSENet).

mod mm_projector;
mod seg_projector;
mod visual_packer;

pub use mm_projector::{LayerType, MmProjector, MmProjectorConfig, PoolingType, ProjectorType};
pub use seg_projector::SegProjector;
