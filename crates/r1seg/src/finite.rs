//! NaN and infinity end a computation with the stage that they came up in: of a mask or an embedding
//! they would look like an answer. What is looked at is small, and the weights are read only after
//! something was found.

use std::fmt;
use std::path::PathBuf;

use candle_core::Tensor;
use r1seg_llm::GenerationError;
use r1seg_nn::all_finite;

use crate::{CheckpointSource, Error};

/// A stage of a model's computation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// The vision transformer: voxels to image embeddings.
    Encode,
    /// The projector: image embeddings to visual tokens.
    Project,
    /// The language model until the first token of an answer.
    Prefill,
    /// The language model after the first token, hidden states included.
    Generate,
    /// The state that predicted `[SEG]` to the prompt of the mask decoder.
    MaskPrompt,
    /// The mask decoder.
    Mask,
    /// The text encoder: a text to its embedding.
    EmbedText,
    /// The projection of M3D-CLIP: image embeddings to the embedding of a volume.
    EmbedVolume,
    /// The comparison of two embeddings.
    Score,
}

impl Stage {
    /// As messages spell it, such as `encode`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Encode => "encode",
            Self::Project => "project",
            Self::Prefill => "prefill",
            Self::Generate => "generate",
            Self::MaskPrompt => "mask prompt",
            Self::Mask => "mask",
            Self::EmbedText => "text embedding",
            Self::EmbedVolume => "volume embedding",
            Self::Score => "score",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Finds NaN and infinity in the results of a model's stages, and their cause.
#[derive(Debug)]
pub(crate) struct FiniteCheck {
    source: CheckpointSource,
    /// The narrowest number format that the model computes with.
    dtype: &'static str,
}

impl FiniteCheck {
    pub(crate) fn new(source: &CheckpointSource, dtype: &'static str) -> Self {
        Self { source: source.clone(), dtype }
    }

    /// Where the weights came from.
    pub(crate) fn path(&self) -> PathBuf {
        self.source.path()
    }

    /// # Errors
    /// [`Error::NotFinite`].
    pub(crate) fn tensor(&self, stage: Stage, result: &Tensor) -> Result<(), Error> {
        match all_finite(result)? {
            true => Ok(()),
            false => Err(self.error(stage)),
        }
    }

    /// # Errors
    /// [`Error::NotFinite`].
    pub(crate) fn numbers(&self, stage: Stage, result: &[f32]) -> Result<(), Error> {
        match result.iter().all(|x| x.is_finite()) {
            true => Ok(()),
            false => Err(self.error(stage)),
        }
    }

    /// Why a language model gave no answer.
    pub(crate) fn generation(&self, error: GenerationError) -> Error {
        match error {
            GenerationError::NotFinite { index: 0 } => self.error(Stage::Prefill),
            GenerationError::NotFinite { .. } => self.error(Stage::Generate),
            other => candle_core::Error::from(other).into(),
        }
    }

    /// Reads all weights for the cause.
    pub(crate) fn error(&self, stage: Stage) -> Error {
        let _span = tracing::info_span!("check_tensors").entered();
        // The order of rows, which depends on the width of heads, changes no number.
        match self.source.open_weights(None, 0).map(|files| files.damaged()) {
            Ok(damaged) => {
                let (path, dtype) = (self.source.path(), self.dtype);
                Error::NotFinite { path, stage, dtype, damaged }
            }
            // The files were there when the model was loaded.
            Err(error) => error,
        }
    }
}

/// What happened, in the words of [`Error::NotFinite`].
pub(crate) fn message(stage: Stage, dtype: &str, damaged: &[String]) -> String {
    match damaged {
        [] => format!(
            "the stage `{stage}` computed NaN or infinity (in {dtype}), although all weights of the \
             model are finite"
        ),
        damaged => format!(
            "the stage `{stage}` computed NaN or infinity; the weights are damaged: {}",
            r1seg_checkpoint::damage(damaged)
        ),
    }
}
