//! What a prompt gets.

use std::time::Duration;

pub use r1seg_llm::FinishReason;
pub use r1seg_tokenizer::{BoxText, VoxelBox};
use r1seg_volume::{Mask, Region, Warning};

use crate::{AnswerBox, Trace};

/// What a prompt gets, whichever model runs it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Outcome {
    /// The generated text, without special tokens; in sliding mode that of most windows. Empty where the
    /// model generates none.
    pub text: String,
    /// Token ids of the text, the end token included.
    pub token_ids: Vec<u32>,
    /// Tokens of the prompt, the image's included.
    pub prompt_tokens: usize,
    /// Why the text ended; absent where the model generates none.
    pub finish_reason: Option<FinishReason>,
    /// The `[SEG]` tokens that prompted the mask.
    pub seg: Vec<SegToken>,
    /// The mask on the grid of the input volume; absent when a language model
    /// generated no `[SEG]`.
    pub mask: Option<Mask>,
    /// The publisher's number of the class that was segmented, which is its label in masks; absent for
    /// points without a class and for other models.
    pub label: Option<u16>,
    /// Boxes in the text.
    pub boxes: Vec<AnswerBox>,
    /// How often the model's grid was laid over the volume: 1, or the number of windows or crops; in mode
    /// zoom one more than those.
    pub windows: usize,
    /// The text of each window, in sliding mode.
    pub window_answers: Vec<WindowAnswer>,
    /// The part of the input that was segmented at full resolution: in mode zoom, absent where the first
    /// pass found nothing, and in modes that look at crops.
    pub zoomed: Option<Region>,
    /// What a person should know about the result.
    pub warnings: Vec<Warning>,
    /// Tokens that were guessed and checked several at a time.
    pub drafts: DraftCounts,
    /// How long each stage took.
    pub timings: Timings,
    /// Tensors of every stage, when they were asked for.
    pub trace: Option<Trace>,
}

/// What became of the mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaskStatus {
    /// The model generated no `[SEG]`.
    NotFound,
    /// A mask was decoded, but no voxel has a positive logit.
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

impl Outcome {
    /// Of a model that generates no text: a mask, computed from this many windows.
    pub(crate) fn segmented(mask: Mask, windows: usize, timings: Timings) -> Self {
        Self {
            text: String::new(),
            token_ids: Vec::new(),
            prompt_tokens: 0,
            finish_reason: None,
            seg: Vec::new(),
            mask: Some(mask),
            label: None,
            boxes: Vec::new(),
            windows,
            window_answers: Vec::new(),
            zoomed: None,
            warnings: Vec::new(),
            drafts: DraftCounts::default(),
            timings,
            trace: None,
        }
    }

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
        if self.window_answers.is_empty() {
            return vec![(&self.text, 1)];
        }
        let mut counts: Vec<(&str, usize)> = Vec::new();
        for window in &self.window_answers {
            match counts.iter_mut().find(|(text, _)| *text == window.text) {
                Some((_, n)) => *n += 1,
                None => counts.push((&window.text, 1)),
            }
        }
        counts.sort_by_key(|&(_, n)| std::cmp::Reverse(n));
        counts
    }
}

/// Guesses of what an answer says next, which one pass checks together; summed over windows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DraftCounts {
    /// Tokens that were guessed.
    pub drafted: usize,
    /// Those that the model chose as well. Each saved a pass.
    pub accepted: usize,
}

/// A `[SEG]` token of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SegToken {
    /// Index in the answer's tokens.
    pub position: usize,
    /// Natural logarithm of its probability.
    pub logprob: f32,
}

/// The text of one window.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WindowAnswer {
    /// First voxel of the window in the prepared grid, `[D, H, W]`; negative in the padding.
    pub start: [i64; 3],
    /// The text, without special tokens.
    pub text: String,
    /// Token ids of the text.
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
    /// Vision transformer. Of a promptable model, the pass over the whole volume is in the time of the
    /// first prompt.
    pub vit: Duration,
    /// The text encoder of a promptable model.
    pub text: Duration,
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
            + self.text
            + self.projector
            + self.prefill
            + self.decode
            + self.mask
            + self.postprocess
    }
}
