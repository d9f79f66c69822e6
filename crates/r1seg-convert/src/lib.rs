//! Published checkpoints, as they are, into folders that r1seg loads.
//!
//! ```text
//! pytorch_model.bin, *.pth, shards,        ┌ model-0000N-of-0000M.safetensors, index
//! model_with_lora.bin + base,       ─────► │ config.json, tokenizer files
//! model.safetensors in f32                 │ language_model.gguf, where it is quantized
//!                                          └ manifest.json (sha256 of everything)
//! ```
//!
//! - Pickles are *parsed and never run* (`pickle`, `torch`): a machine that can only describe tensors,
//!   a list of the names that a file may ask for, and limits on everything. A program lends a child
//!   process to do it in ([`Sandbox`], [`sandbox_main`]).
//! - Weights stream through a few megabytes of memory (`stream`, `pipeline`), converted (`dtype`), with LoRA
//!   updates merged (`lora`), and are hashed on the way.
//! - Names change in one place ([`r1seg_checkpoint::keys`]).
//! - A `config.json` that was not published is made from the tensors, where a caller knows the model
//!   ([`ConvertOptions::recover`]).
//! - Parts that a model is published in become one checkpoint (`join`), with the tokenizer that it was
//!   trained with (`vocabulary`).
//! - The language model may go into a GGUF file, quantized or taken over from one (`llm`).
//! - [`convert`] makes a folder that appears whole or not at all, [`prepare`] one that can be checked
//!   before it appears; [`r1seg_checkpoint::verify`] checks it again.
//! - [`contents`] only looks.
//!
//! ```
//! use std::ops::ControlFlow;
//! use r1seg_checkpoint::verify;
//! use r1seg_convert::{ConvertOptions, TargetDtype, convert};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let source = folder.path().join("model.safetensors");
//! # let header = br#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
//! # let numbers = [1f32.to_le_bytes(), 2f32.to_le_bytes()].concat();
//! # std::fs::write(&source, [&(header.len() as u64).to_le_bytes()[..], header, &numbers].concat())?;
//! # let out = folder.path().join("out");
//! let options = ConvertOptions { dtype: Some(TargetDtype::Bf16), ..ConvertOptions::new(&source) };
//! let report = convert(&options, &out, &mut |_progress| ControlFlow::Continue(()))?;
//! assert_eq!(report.manifest.parameters, 2);
//! assert_eq!(verify(&out, true)?.tensors, 1);
//! # Ok(())
//! # }
//! ```

mod contents;
mod convert;
mod dtype;
mod error;
mod join;
mod llm;
mod lora;
mod output;
mod pickle;
mod pipeline;
mod plan;
mod sandbox;
mod sidecar;
mod source;
mod stream;
mod strided;
mod tensor;
mod torch;
mod vocabulary;

pub use contents::{Contents, check_tensors, contents};
pub use convert::{
    ConvertOptions, Converted, PickleReading, Progress, Recover, Recovered, RecoveredConfig,
    Report, Shapes, convert, prepare,
};
pub use dtype::TargetDtype;
pub use error::Error;
pub use join::{Compose, PartConfigs};
pub use llm::Quant;
pub use lora::Lora;
pub use pickle::PickleError;
pub use r1seg_diagnostic::{ErrorKind, Remedy};
pub use sandbox::{Sandbox, SandboxError, sandbox_main};
pub use tensor::TensorEntry;
pub use torch::{TorchIndex, read_index};
pub use vocabulary::NewTokens;
