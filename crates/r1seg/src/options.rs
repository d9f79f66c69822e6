//! What a caller chooses at run time.

use std::fmt;
use std::str::FromStr;

use candle_core::DType;
pub use r1seg_llm::Sampling;
pub use r1seg_tokenizer::Separator;
pub use r1seg_volume::{Orient, Orientation};

pub use crate::preprocess::Recipe;
use crate::{Error, SliceFeatures};

/// In which dtype the weights are kept.
///
/// On a CPU activations are f32, and matrix products may round them, depending on the weights and the processor (see
/// `r1seg_nn::Linear`); on CUDA they have the dtype of the weights, so that f32 weights are exact
/// there, too. Softmax, norms and position tables are f32 everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DtypeChoice {
    /// bf16 on CUDA; on a CPU the checkpoint's own dtype.
    #[default]
    Auto,
    /// 32-bit floats.
    F32,
    /// bfloat16.
    BF16,
    /// 16-bit IEEE floats.
    F16,
}

impl FromStr for DtypeChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "auto" => Ok(Self::Auto),
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::BF16),
            "f16" => Ok(Self::F16),
            _ => Err(Error::BadChoice {
                what: "dtype",
                value: text.to_string(),
                expected: "auto, f32, bf16 or f16",
            }),
        }
    }
}

impl DtypeChoice {
    /// What was chosen; `Auto` stands for `native`.
    fn or(self, native: DType) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::BF16 => DType::BF16,
            Self::F16 => DType::F16,
            Self::Auto => native,
        }
    }
}

/// What a model computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dtypes {
    /// Of weights that are converted. A CPU keeps those of [`DtypeChoice::Auto`] as they are stored.
    pub(crate) weights: DType,
    /// Of activations.
    pub(crate) activation: DType,
}

impl Dtypes {
    /// `weights` and `activation` are choices that `Auto` leaves to the device.
    pub(crate) fn new(weights: DtypeChoice, activation: DtypeChoice, is_cpu: bool) -> Self {
        let weights = weights.or(if is_cpu { DType::F32 } else { DType::BF16 });
        Self { weights, activation: activation.or(if is_cpu { DType::F32 } else { weights }) }
    }
}

/// How a volume of any size meets a model of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InferenceMode {
    /// The whole volume is resized to the model's grid: one pass.
    Resize,
    /// The model's grid slides over the volume at full resolution, with an overlap of one half, and
    /// logits are averaged: the evaluation of R1Seg-3D's authors. A language model answers in each
    /// window.
    Sliding,
    /// As `Resize`, and then in windows at full resolution over the part where that found something: the
    /// zoom-out and zoom-in of SegVol's authors.
    Zoom,
    /// One crop of the volume around what is prompted, at the model's own resolution.
    Crop,
    /// As `Crop`, and then in further crops wherever the mask touches the edge of one.
    Grow,
}

impl InferenceMode {
    /// As options and reports spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resize => "resize",
            Self::Sliding => "sliding",
            Self::Zoom => "zoom",
            Self::Crop => "crop",
            Self::Grow => "grow",
        }
    }

    /// The mode of a run with a model that has `modes`, the first of which is its default; without any
    /// there is `Resize` alone.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a mode that it does not have.
    pub(crate) fn choose(chosen: Option<Self>, model: &str, modes: &[Self]) -> Result<Self, Error> {
        let modes = if modes.is_empty() { &[Self::Resize] } else { modes };
        let mode = chosen.or(modes.first().copied()).unwrap_or(Self::Resize);
        if modes.contains(&mode) {
            return Ok(mode);
        }
        let known: Vec<&str> = modes.iter().map(|mode| mode.as_str()).collect();
        let message = format!("{model} has no mode {mode}; it has {}", known.join(" and "));
        Err(Error::InvalidOption { what: "mode", message })
    }
}

impl FromStr for InferenceMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "resize" => Ok(Self::Resize),
            "zoom" => Ok(Self::Zoom),
            "sliding" => Ok(Self::Sliding),
            "crop" => Ok(Self::Crop),
            "grow" => Ok(Self::Grow),
            _ => Err(Error::BadChoice {
                what: "mode",
                value: text.to_string(),
                expected: "zoom, resize, sliding, crop or grow",
            }),
        }
    }
}

impl fmt::Display for InferenceMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a volume is brought to the intensities that a model was trained on.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Preprocess {
    /// Chosen by the range of the intensities, and stated.
    #[default]
    Auto,
    /// A recipe by name.
    Recipe(Recipe),
}

impl FromStr for Preprocess {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => Ok(Self::Recipe(text.parse()?)),
        }
    }
}

/// How a model encodes a volume.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct EncodeOptions {
    /// Intensities.
    pub preprocess: Preprocess,
    /// In which orientation the model sees the volume; absent for that of the recipe
    /// ([`Recipe::orient`]). Masks, boxes and points stay on the grid of the input.
    pub orient: Option<Orient>,
    /// How the volume meets the model's grid; absent for the first of those that the model has
    /// ([`Capabilities::modes`](crate::Capabilities)).
    pub mode: Option<InferenceMode>,
    /// Whether the stages' tensors are kept for [`Outcome::trace`](crate::Outcome::trace): of one pass over
    /// the whole volume, which mode sliding never makes for a text.
    pub trace: bool,
    /// Whether masks of several classes keep the voxels that they share. Otherwise a voxel belongs to the
    /// class with the highest logit alone. For models that score classes together.
    pub overlaps: bool,
    /// What was made of the slices of the volume before ([`EncodedVolume::slice_features`](crate::EncodedVolume)),
    /// for a model that reads them; absent to compute it.
    pub slice_features: Option<SliceFeatures>,
}

impl EncodeOptions {
    /// Sets the intensity recipe.
    #[must_use]
    pub fn with_preprocess(mut self, preprocess: Preprocess) -> Self {
        self.preprocess = preprocess;
        self
    }

    /// Sets the orientation in which the model sees the volume.
    #[must_use]
    pub fn with_orient(mut self, orient: Orient) -> Self {
        self.orient = Some(orient);
        self
    }

    /// Sets how the volume meets the model's grid.
    #[must_use]
    pub fn with_mode(mut self, mode: InferenceMode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Gives what was made of the slices of the volume before.
    #[must_use]
    pub fn with_slice_features(mut self, features: SliceFeatures) -> Self {
        self.slice_features = Some(features);
        self
    }

    /// Lets masks of several classes keep the voxels that they share.
    #[must_use]
    pub fn with_overlaps(mut self) -> Self {
        self.overlaps = true;
        self
    }

    /// Keeps the tensors of every stage.
    #[must_use]
    pub fn with_trace(mut self) -> Self {
        self.trace = true;
        self
    }
}

/// How a question is asked.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AskOptions {
    /// What stands between the image and the question; absent for the model's own
    /// ([`ModelConfig::separator`](crate::ModelConfig)).
    pub separator: Option<Separator>,
    /// The longest answer, in tokens.
    pub max_new_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// An answer that *begins* with `[SEG]` yields a mask too. The authors' code looks only at
    /// later tokens, although the model was trained on the position that this option uses.
    pub first_seg: bool,
    /// In sliding mode, windows without `[SEG]` abstain; in the authors' evaluation they veto.
    pub abstain: bool,
    /// Whether the next tokens are guessed and checked several at a time, where the model remembers answers
    /// ([`LoadOptions::drafts`](crate::LoadOptions)) and computes in f32 on a CPU. Greedy answers alone are; they are
    /// the same either way, and faster.
    pub drafts: bool,
    /// Generates these tokens whatever the model predicts, for benchmarks of random weights.
    #[doc(hidden)]
    pub forced_tokens: Option<Vec<u32>>,
}

impl Default for AskOptions {
    fn default() -> Self {
        Self {
            separator: None,
            max_new_tokens: 256,
            sampling: Sampling::Greedy,
            first_seg: false,
            abstain: false,
            drafts: true,
            forced_tokens: None,
        }
    }
}

impl AskOptions {
    /// Sets what stands between the image and the question.
    #[must_use]
    pub fn with_separator(mut self, separator: Separator) -> Self {
        self.separator = Some(separator);
        self
    }

    /// Sets the longest answer, in tokens.
    #[must_use]
    pub fn with_max_new_tokens(mut self, max_new_tokens: usize) -> Self {
        self.max_new_tokens = max_new_tokens;
        self
    }

    /// Sets how tokens are chosen.
    #[must_use]
    pub fn with_sampling(mut self, sampling: Sampling) -> Self {
        self.sampling = sampling;
        self
    }

    /// Lets an answer that begins with `[SEG]` yield a mask.
    #[must_use]
    pub fn with_first_seg(mut self, first_seg: bool) -> Self {
        self.first_seg = first_seg;
        self
    }

    /// Lets windows without `[SEG]` abstain.
    #[must_use]
    pub fn with_abstain(mut self, abstain: bool) -> Self {
        self.abstain = abstain;
        self
    }

    /// Sets whether the next tokens are guessed, and checked several at a time.
    #[must_use]
    pub fn with_drafts(mut self, drafts: bool) -> Self {
        self.drafts = drafts;
        self
    }

    /// Generates these tokens whatever the model predicts.
    #[doc(hidden)]
    #[must_use]
    pub fn with_forced_tokens(mut self, tokens: Vec<u32>) -> Self {
        self.forced_tokens = Some(tokens);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_that_a_model_does_not_have_is_refused_with_those_that_it_has() {
        use InferenceMode::{Resize, Sliding, Zoom};
        let choose = |chosen| InferenceMode::choose(chosen, "M3D-LaMed", &[Resize, Sliding]);
        assert_eq!(choose(None).unwrap(), Resize);
        assert_eq!(choose(Some(Sliding)).unwrap(), Sliding);
        let error = choose(Some(Zoom)).unwrap_err();
        assert_eq!(error.code(), "R-ARG-02");
        let text = error.to_string();
        assert!(text.contains("M3D-LaMed has no mode zoom; it has resize and sliding"), "{text}");
    }

    #[test]
    fn activations_on_a_gpu_have_the_dtype_of_the_weights_unless_another_is_chosen() {
        use DType::{BF16, F16, F32};
        let auto = DtypeChoice::Auto;
        let choose = |weights, activation, is_cpu| {
            let chosen = Dtypes::new(weights, activation, is_cpu);
            (chosen.weights, chosen.activation)
        };
        assert_eq!(choose(auto, auto, false), (BF16, BF16));
        assert_eq!(choose(DtypeChoice::F32, auto, false), (F32, F32));
        assert_eq!(choose(DtypeChoice::F16, auto, false), (F16, F16));
        assert_eq!(choose(DtypeChoice::F16, DtypeChoice::F32, false), (F16, F32));
        assert_eq!(choose(auto, auto, true), (F32, F32));
        assert_eq!(choose(DtypeChoice::BF16, auto, true), (BF16, F32));
        assert_eq!(choose(DtypeChoice::BF16, DtypeChoice::BF16, true), (BF16, BF16));
    }
}
