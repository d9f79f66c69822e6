//! 3D CT reasoning segmentation: takes a CT and a question in plain language, and returns a text
//! answer and a 3D mask on the CT's own voxel grid.
//!
//! | to | use |
//! |---|---|
//! | see what a checkpoint is, without its weights | [`CheckpointSource::summary`] |
//! | load a checkpoint | [`R1SegModel::load`], [`R1SegModel::load_with`], [`load()`] |
//! | know what a model takes and gives back | [`Capabilities`] |
//! | read a CT | [`volume::read`] |
//! | encode it once | [`R1SegModel::encode`], [`R1SegModel::encode_with`] |
//! | ask about it, many times | [`EncodedVolume::ask`], [`EncodedVolume::ask_with`] |
//! | ask several questions at once | [`EncodedVolume::ask_many`], [`EncodedVolume::ask_many_with`] |
//! | write the mask | [`volume::write_mask`] |
//! | segment by a text, points or a box | [`PromptableModel::load`], [`EncodedVolume::segment`] |
//! | segment classes by their names, several in one pass | [`AutomaticModel::load`], [`EncodedVolume::segment_each`] |
//! | click, get a mask, click again, undo | [`EncodedVolume::session`], [`ClickSession`], [`Clicks`] |
//! | run a prompt on a volume of any model | [`EncodedVolume::run`], [`Prompt`], [`Outcome`] |
//! | stop it, or watch it | [`RunContext`], [`CancelToken`] |
//! | compare volumes with texts | [`M3dClip::embed_volume`], [`M3dClip::embed_text`] |
//! | ask in the words that a model was trained with | [`phrasing::sentence`], [`terms::lookup`] |
//! | try it without a checkpoint | [`R1SegModel::demo`], [`phantom::Phantom`] |
//!
//! ```
//! use r1seg::phantom::Phantom;
//! use r1seg::volume::{Geometry, Volume};
//! use r1seg::R1SegModel;
//!
//! # fn main() -> Result<(), r1seg::Error> {
//! let model = R1SegModel::demo()?;
//! let phantom = Phantom::draw(7);
//! let volume = Volume::new(phantom.volume.clone(), Geometry::without_affine(phantom.shape))?;
//!
//! let encoded = model.encode(&volume)?;
//! let answer = encoded.ask("Can you segment the liver in this image?")?;
//! assert!(answer.text.contains("[SEG]"));
//! let mask = answer.mask.expect("the answer says [SEG]");
//! assert_eq!(mask.shape(), volume.shape());
//! # Ok(())
//! # }
//! ```
//!
//! Nothing here prints, exits or panics on input; long stages are `tracing` spans. r1seg is for
//! research: it is not a medical device.

mod answers;
mod automatic;
mod boxes;
mod capabilities;
pub mod checkpoint;
mod config;
mod device;
mod encoded;
mod error;
mod finite;
mod handle;
mod image_cache;
mod load;
mod load_options;
mod loaded;
mod m3d_clip;
mod machine;
mod memory;
mod model;
mod options;
mod outcome;
pub mod phantom;
pub mod phrasing;
mod preprocess;
mod prompt;
mod promptable;
pub mod registry;
mod run;
mod session;
mod slices;
mod source;
mod summary;
pub mod terms;
mod trace;
mod verify;
mod vision;

/// Published checkpoints into folders that load: the crate `r1seg-convert`.
pub mod convert {
    pub use r1seg_convert::{
        Compose, Contents, ConvertOptions, Converted, Error, ErrorKind, Lora, PickleError,
        PickleReading, Progress, Quant, Report, Sandbox, SandboxError, TargetDtype, TensorEntry,
        TorchIndex, check_tensors, contents, convert, prepare, read_index, sandbox_main,
    };
}

/// Strangers' files within limits, and files in the making: the crate `r1seg-files`.
pub mod files {
    pub use r1seg_files::{
        Error, HashingStream, PartFolder, begins_with, open_regular, part_file, read,
        read_utf8_json, sha256_of, sha256_of_file, sweep, utf8_json,
    };
}

/// Published checkpoints, downloaded and found again: the crate `r1seg-hub`.
#[cfg(feature = "hub")]
pub mod hub {
    pub use r1seg_hub::{
        Aliases, CachedModel, CachedRevision, Cancel, Digest, DownloadOptions, Error, ErrorKind,
        Event, FileCheck, FileState, Hub, HubConfig, ModelId, Snapshot, Timeouts, Token,
    };
}

/// Volumes, masks and their files: the crate `r1seg-volume`.
pub mod volume {
    pub use r1seg_volume::*;
}

/// The configurations of the networks that models are made of.
pub mod networks {
    pub use r1seg_llm::{
        AttentionBias, AttentionLayout, DecoderConfig, Llama3Scaling, LongRopeScaling, MlpLayout,
        RopeConfig, RopeScaling,
    };
    pub use r1seg_mask_decoder::{MaskDecoderConfig, PromptConfig};
    pub use r1seg_projector::{LayerType, MmProjectorConfig, PoolingType, ProjectorType};
    pub use r1seg_segresnet::SegResNetConfig;
    pub use r1seg_text_encoder::{BertConfig, ClipTextConfig};
    pub use r1seg_vit3d::{
        HieraConfig, ImageEncoderConfig, SamVitConfig, SliceEncoderConfig, Vit3dConfig,
    };
}

pub use answers::Drafts;
pub use automatic::{AutomaticConfig, AutomaticModel, Class, ClassStatus, ClassTable, Scan};
pub use boxes::{AnswerBox, BOX_PLACEHOLDER};
pub use capabilities::{Capabilities, OutputKind, PromptKind};
pub use checkpoint::layout::{is_gguf, is_pickle};
pub use checkpoint::{CheckpointSource, LoadReport};
pub use config::{ImageBranch, MaskConfig, ModelConfig, SliceEncoderSettings, SliceInputConfig};
pub use device::DeviceChoice;
pub use encoded::{EncodedVolume, QUESTIONS_AT_ONCE, SLIDING_OVERLAP};
pub use error::Error;
pub use finite::Stage;
pub use handle::ModelHandle;
pub use load::load;
pub use load_options::LoadOptions;
pub use loaded::{LoadedModel, Model};
pub use m3d_clip::{M3dClip, M3dClipConfig, TextEmbedding, VolumeEmbedding};
pub use machine::{
    available_memory, check_cpu_kernels, cpu_features, cpu_kernels, memory_limits, tensor_threads,
    total_memory,
};
pub use model::{R1SegModel, check_question};
pub use options::{
    AskOptions, DtypeChoice, EncodeOptions, InferenceMode, Orient, Orientation, Preprocess, Recipe,
    Sampling, Separator,
};
pub use outcome::{
    BoxText, DraftCounts, FinishReason, MaskStatus, Outcome, SegToken, Timings, VoxelBox,
    WindowAnswer,
};
pub use prompt::{Prompt, PromptPoint};
pub use promptable::{PromptableConfig, PromptableModel, Simulated, simulate};
pub use r1seg_diagnostic::{Diagnostic, ErrorKind, Purpose, Remedy, Rephrasing};
pub use r1seg_tokenizer::{MAX_TEXT_BYTES, sanitize_terminal};
pub use run::{CancelToken, Event, Probe, RunContext};
pub use session::{ClickSession, Clicks};
pub use slices::SliceFeatures;
pub use source::{FoundModel, ModelName, ModelSource, downloaded, not_a_folder};
pub use summary::{
    DtypeSummary, FileSummary, GgufSummary, LanguageSummary, License, MemoryNeed, ModelSummary,
    TokenizerSummary, VisionSummary, WeightFormat, WeightsFileSummary, WeightsSummary,
};
pub use trace::Trace;

/// The README's library example compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
