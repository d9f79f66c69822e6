//! Checkpoints on disk: the crate `r1seg-checkpoint`, and how models read from it.
//!
//! [`CheckpointSource`] is where a checkpoint lies, `weights` makes tensors of its bytes, and `dry`
//! compares what a model asks for with what there is.

mod dry;
#[cfg(feature = "cuda")]
mod upload;
mod weights;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

use r1seg_tokenizer::{TextTokenizer, TokenizerFiles};
use r1seg_volume::Orientation;

use r1seg_checkpoint::layout::WEIGHTS;
pub use r1seg_checkpoint::*;

pub(crate) use dry::dry_load;
#[cfg(feature = "cuda")]
pub(crate) use upload::Uploads;
pub(crate) use weights::{ModelWeights, dominant_format, weight_type};

/// The largest config file that is read.
const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// Where a checkpoint in the published layout lives.
#[derive(Debug, Clone)]
pub enum CheckpointSource {
    /// A folder with `config.json`, tokenizer files and safetensors.
    Folder(PathBuf),
    /// The same files, in the program itself.
    Embedded(&'static [(&'static str, &'static [u8])]),
}

impl CheckpointSource {
    /// The embedded demonstration model, which knows only synthetic phantoms.
    pub fn demo() -> Self {
        Self::Embedded(r1seg_phantom::checkpoint_files())
    }

    /// The orientation of a model that has seen only one: phantoms are drawn from the right, anterior and
    /// inferior corner on. Published models have seen many.
    pub(crate) fn trained_on(&self) -> Option<Orientation> {
        match self {
            Self::Embedded(files) if *files == r1seg_phantom::checkpoint_files() => {
                Some(Orientation::LPS)
            }
            _ => None,
        }
    }

    /// A path for messages.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Folder(path) => path.clone(),
            Self::Embedded(_) => PathBuf::from("demo"),
        }
    }

    /// A small file, if it exists.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Cow<'static, [u8]>>, crate::Error> {
        match self {
            Self::Embedded(files) => {
                Ok(files.iter().find(|(n, _)| *n == name).map(|(_, b)| Cow::Borrowed(*b)))
            }
            Self::Folder(folder) => {
                let path = folder.join(name);
                let is_json = name.ends_with(".json");
                let read = if is_json { r1seg_files::read_utf8_json } else { r1seg_files::read };
                match read(&path, MAX_CONFIG_BYTES) {
                    Ok(bytes) => Ok(Some(Cow::Owned(bytes))),
                    Err(error) if error.is_not_found() => Ok(None),
                    Err(error) => Err(Error::unreadable(path, error).into()),
                }
            }
        }
    }

    pub(crate) fn tokenizer_files(&self) -> Result<TokenizerFiles, crate::Error> {
        match self {
            Self::Folder(folder) => Ok(TokenizerFiles::from_dir(folder)?),
            Self::Embedded(_) => Ok(TokenizerFiles {
                tokenizer_json: self.read("tokenizer.json")?,
                tokenizer_model: self.read("tokenizer.model")?,
                vocab_txt: self.read("vocab.txt")?,
                vocab_json: self.read("vocab.json")?,
                merges_txt: self.read("merges.txt")?,
                tokenizer_config: self.read("tokenizer_config.json")?,
                added_tokens: self.read("added_tokens.json")?,
                special_tokens_map: self.read("special_tokens_map.json")?,
            }),
        }
    }

    /// What `r1seg convert` wrote about the folder, if it did: the files must have their lengths, and
    /// all but the weights their hashes.
    pub(crate) fn check_manifest(&self) -> Result<Option<Manifest>, crate::Error> {
        match self {
            Self::Folder(folder) => Ok(verify_quickly(folder)?),
            Self::Embedded(_) => Ok(None),
        }
    }

    /// The tokenizer of a text encoder.
    pub(crate) fn text_tokenizer(&self) -> Result<TextTokenizer, crate::Error> {
        Ok(TextTokenizer::new(&self.tokenizer_files()?)?)
    }

    /// Opens the weights without reading them; `mmap` is whether files are mapped rather than read
    /// into memory, and `None` leaves it to where they lie. `head_dim` is the language model's.
    pub(crate) fn open_weights(
        &self,
        mmap: Option<bool>,
        head_dim: usize,
    ) -> Result<WeightFiles, crate::Error> {
        match self {
            Self::Folder(folder) => Ok(WeightFiles::open(folder, OpenOptions { mmap, head_dim })?),
            Self::Embedded(files) => {
                let weights = files.iter().find(|(name, _)| *name == WEIGHTS);
                let (_, bytes) = weights.ok_or_else(|| self.missing(WEIGHTS))?;
                Ok(WeightFiles::embedded(bytes, &self.path())?)
            }
        }
    }

    /// Every tensor by name; `head_dim` is the language model's.
    pub(crate) fn found(&self, head_dim: usize) -> Result<BTreeMap<String, Found>, crate::Error> {
        Ok(self.open_weights(None, head_dim)?.found())
    }

    /// Reads every float of the weights and looks for NaN and infinity, which none of the published
    /// models has. Returns how many tensors there are.
    ///
    /// # Errors
    /// [`Error::DamagedWeights`] with the names of the tensors, and
    /// what opening the files meets.
    pub fn check_tensors(&self) -> Result<usize, crate::Error> {
        // The order of rows, which depends on the width of heads, changes no number.
        let files = self.open_weights(None, 0)?;
        files.require_finite()?;
        Ok(files.tensors().count())
    }

    /// A file that every checkpoint has is missing, or the folder that should hold it.
    pub(crate) fn missing(&self, file: &str) -> crate::Error {
        match self {
            Self::Folder(folder) => layout::missing(folder, file).into(),
            Self::Embedded(_) => {
                let (path, file) = (self.path(), file.to_string());
                Error::MissingFile { path, file }.into()
            }
        }
    }
}
