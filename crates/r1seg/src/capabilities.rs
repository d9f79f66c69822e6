//! What a model takes, what it gives back, and the input that it computes on.

use r1seg_diagnostic::Purpose;

use crate::{ClassTable, InferenceMode};

/// A kind of prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PromptKind {
    /// A question in words, to which the model generates an answer.
    Question,
    /// A text that names or describes what to segment or to compare with.
    Text,
    /// Points inside or outside of what to segment.
    Points,
    /// A box: around what to segment, or the region that a question is about.
    Box,
    /// An earlier mask that is to be corrected.
    Mask,
}

/// A kind of result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OutputKind {
    /// An answer in words.
    Text,
    /// A mask on the grid of the input.
    Mask,
    /// Boxes on the grid of the input.
    Boxes,
    /// A vector to compare with others.
    Embedding,
}

/// What a model takes and gives back. The row of a family in
/// [`MODELS`](crate::registry::MODELS) has those of the published checkpoints,
/// [`LoadedModel::capabilities`](crate::LoadedModel::capabilities) those of the one that was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// The prompts that it takes.
    pub prompts: &'static [PromptKind],
    /// What it can give back.
    pub outputs: &'static [OutputKind],
    /// How it can be run on a volume of any size; the first is the default. Empty where there is one
    /// way only.
    pub modes: &'static [InferenceMode],
    /// Whether the mask decoder can take its own mask as a prompt for another pass.
    pub refines_masks: bool,
    /// Voxels of one pass of the vision encoder, `[D, H, W]`.
    pub input_shape: [usize; 3],
    /// Channels of the input volume.
    pub channels: usize,
    /// The classes that texts can name, for a model that takes no other texts.
    pub classes: Option<&'static ClassTable>,
}

impl Capabilities {
    /// Whether it takes prompts of a kind.
    pub fn takes(&self, kind: PromptKind) -> bool {
        self.prompts.contains(&kind)
    }

    /// Whether it can give back results of a kind.
    pub fn gives(&self, kind: OutputKind) -> bool {
        self.outputs.contains(&kind)
    }

    /// The mode that is used where none is chosen, if there are several.
    pub fn default_mode(&self) -> Option<InferenceMode> {
        self.modes.first().copied()
    }

    /// What such models serve for, first of all.
    pub fn purpose(&self) -> Purpose {
        if self.takes(PromptKind::Question) {
            Purpose::Answer
        } else if self.gives(OutputKind::Mask) {
            Purpose::Segment
        } else {
            Purpose::Retrieve
        }
    }

    /// The same with the input of a checkpoint's encoder.
    pub(crate) fn with_input(self, input_shape: [usize; 3], channels: usize) -> Self {
        Self { input_shape, channels, ..self }
    }
}
