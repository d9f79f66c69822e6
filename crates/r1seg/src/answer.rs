//! What a question gets.

use std::time::Duration;

pub use r1seg_llm::FinishReason;
pub use r1seg_tokenizer::{BoxText, VoxelBox};
use r1seg_volume::Mask;

use crate::{AnswerBox, Trace};

/// An answer in words, with a mask where the model said `[SEG]`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Answer {
    /// The answer, without special tokens. In sliding mode: what most windows said.
    pub text: String,
    /// Token ids of the answer, the end token included.
    pub token_ids: Vec<u32>,
    /// Tokens of the prompt, the image's included.
    pub prompt_tokens: usize,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// The `[SEG]` tokens that prompted the mask.
    pub seg: Vec<SegToken>,
    /// The mask on the grid of the input volume; absent when the model said no `[SEG]`.
    pub mask: Option<Mask>,
    /// Boxes in the answer's text.
    pub boxes: Vec<AnswerBox>,
    /// Answers per window, in sliding mode.
    pub windows: Vec<WindowAnswer>,
    /// How long each stage took.
    pub timings: Timings,
    /// Tensors of every stage, when they were asked for.
    pub trace: Option<Trace>,
}

/// What became of the mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaskStatus {
    /// The model said no `[SEG]`.
    NotFound,
    /// The model said `[SEG]`, but no voxel has a positive logit.
    Empty,
    /// There is a mask with voxels in it.
    Found,
}

impl MaskStatus {
    /// As reports write it: `not_found`, `empty_mask` or `found`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Empty => "empty_mask",
            Self::Found => "found",
        }
    }
}

impl Answer {
    /// What became of the mask.
    pub fn status(&self) -> MaskStatus {
        match &self.mask {
            None => MaskStatus::NotFound,
            Some(mask) if mask.data().iter().all(|&v| v == 0) => MaskStatus::Empty,
            Some(_) => MaskStatus::Found,
        }
    }

    /// Each distinct answer of the windows with the number of windows that gave it, the most
    /// frequent first. A single entry in resize mode.
    pub fn distinct_answers(&self) -> Vec<(&str, usize)> {
        if self.windows.is_empty() {
            return vec![(&self.text, 1)];
        }
        let mut counts: Vec<(&str, usize)> = Vec::new();
        for window in &self.windows {
            match counts.iter_mut().find(|(text, _)| *text == window.text) {
                Some((_, n)) => *n += 1,
                None => counts.push((&window.text, 1)),
            }
        }
        counts.sort_by_key(|&(_, n)| std::cmp::Reverse(n));
        counts
    }
}

/// A `[SEG]` token of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SegToken {
    /// Index in the answer's tokens.
    pub position: usize,
    /// Natural logarithm of its probability.
    pub logprob: f32,
}

/// What the model said about one window.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WindowAnswer {
    /// First voxel of the window in the prepared grid, `[D, H, W]`; negative in the padding.
    pub start: [i64; 3],
    /// The answer, without special tokens.
    pub text: String,
    /// Token ids of the answer.
    pub token_ids: Vec<u32>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// The `[SEG]` tokens that prompted its mask.
    pub seg: Vec<SegToken>,
}

/// How long each stage took, summed over windows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timings {
    /// Normalizing, cropping and resizing the volume.
    pub preprocess: Duration,
    /// Vision transformer.
    pub vit: Duration,
    /// Image embeddings to visual tokens.
    pub projector: Duration,
    /// The image and the question through the language model, until the first token. The image's
    /// share is paid by the first question only.
    pub prefill: Duration,
    /// The tokens after the first.
    pub decode: Duration,
    /// Mask decoder and its refinement, and the encoder that only it reads when that runs first.
    pub mask: Duration,
    /// Logits to a mask on the input's grid.
    pub postprocess: Duration,
}

impl Timings {
    /// All stages together.
    pub fn total(&self) -> Duration {
        self.preprocess
            + self.vit
            + self.projector
            + self.prefill
            + self.decode
            + self.mask
            + self.postprocess
    }
}
