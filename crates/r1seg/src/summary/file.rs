//! What a file of weights holds by itself, without the checkpoint that it belongs to.

use std::fs::File;
use std::path::Path;

use r1seg_checkpoint::gguf::{self, Gguf, Value};
use r1seg_checkpoint::layout::is_gguf;
use r1seg_convert::Sandbox;

use super::{WeightsSummary, found_in};
use crate::Error;
use crate::registry::Family;
use crate::registry::recognize::{recognize, shapes};

/// What a file of weights is, from its header.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WeightsFileSummary {
    /// How it is stored.
    pub format: WeightFormat,
    /// Length of the file; of all shards for an index of them.
    pub bytes: u64,
    /// Its tensors, by number format.
    pub weights: WeightsSummary,
    /// The model that it holds, where its tensors tell.
    pub family: Option<Family>,
    /// What `config.json` would call that model.
    pub model_type: Option<&'static str>,
    /// What a GGUF file says about itself.
    pub gguf: Option<GgufSummary>,
}

/// How a file of weights is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WeightFormat {
    /// What models are loaded from.
    Safetensors,
    /// A Python pickle, which has to be converted.
    Pickle,
    /// A language model of llama.cpp, which joins a checkpoint when that is converted.
    Gguf,
}

impl WeightFormat {
    /// `safetensors`, `pickle` or `gguf`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Pickle => "pickle",
            Self::Gguf => "gguf",
        }
    }
}

/// What the header of a GGUF file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GgufSummary {
    /// Version of the format.
    pub version: u32,
    /// `general.architecture`, such as `phi3`.
    pub architecture: Option<String>,
    /// Layers of the decoder.
    pub num_layers: Option<u64>,
    /// Width of a token.
    pub hidden_size: Option<u64>,
    /// Positions that it was made for.
    pub max_positions: Option<u64>,
    /// Rows of the embedding table.
    pub vocab_size: Option<u64>,
}

impl WeightsFileSummary {
    /// Reads the header of a file of weights, or of all that an index names; a pickle is described by
    /// the child process that `sandbox` lends.
    ///
    /// # Errors
    /// [`Error::Convert`] and [`Error::Checkpoint`] for a file that cannot be read or is none of weights.
    pub fn read(path: &Path, sandbox: Option<&Sandbox>) -> Result<Self, Error> {
        if is_gguf(path) || path.extension().is_some_and(|extension| extension == "gguf") {
            return of_gguf(path);
        }
        let contents = r1seg_convert::contents(path, sandbox)?;
        let lengths = contents.files.iter().filter_map(|file| file.metadata().ok());
        let is_pickle = contents.has_pickles;
        let found = found_in(contents.tensors);
        let known = recognize(&shapes(&found));
        Ok(Self {
            format: if is_pickle { WeightFormat::Pickle } else { WeightFormat::Safetensors },
            bytes: lengths.map(|metadata| metadata.len()).fold(0, u64::saturating_add),
            weights: WeightsSummary::new(&found, is_pickle),
            family: known.map(|(entry, _)| entry.family),
            model_type: known.map(|(_, known)| known.name),
            gguf: None,
        })
    }
}

fn of_gguf(path: &Path) -> Result<WeightsFileSummary, Error> {
    let failed = |source: gguf::Error| r1seg_checkpoint::Error::Gguf {
        path: path.to_path_buf(),
        file: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        source: Box::new(source),
    };
    let file = File::open(path).map_err(|e| failed(e.into()))?;
    let gguf = Gguf::open(&file).map_err(failed)?;
    let tensors = gguf.tensors.values().map(|tensor| {
        let bytes = tensor.range.end - tensor.range.start;
        (tensor.format.name(), tensor.numbers(), bytes)
    });
    let architecture = gguf.text("general.architecture");
    let number = |field: &str| {
        let key = format!("{}.{field}", architecture?);
        gguf.metadata.get(&key).and_then(Value::to_u64)
    };
    let table = gguf.tensors.get("token_embd.weight");
    Ok(WeightsFileSummary {
        format: WeightFormat::Gguf,
        bytes: file.metadata().map_or(0, |metadata| metadata.len()),
        weights: WeightsSummary::of(tensors),
        family: None,
        model_type: None,
        gguf: Some(GgufSummary {
            version: gguf.version,
            architecture: architecture.map(str::to_owned),
            num_layers: number("block_count"),
            hidden_size: number("embedding_length"),
            max_positions: number("context_length"),
            vocab_size: table.and_then(|table| table.shape.first().copied()),
        }),
    })
}
