//! The models with a language model: R1Seg-3D, with one vision transformer for language and mask,
//! M3D-LaMed, with one for each, and HSENet, with two for language and no mask.
//!
//! Port of `LaMed/src/model/lamed_arch_cross.py` (R1Seg-3D @2974945), of `LaMed/src/model/lamed_arch.py`
//! (M3D @63e7200) and of the same file of HSENet (@c7198f3). Keys: `r1seg_checkpoint::keys`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};
use r1seg_diagnostic::Purpose;
use r1seg_llm::{Decoder, Generated, GenerationOptions, Request, Sampling, Step};
use r1seg_mask_decoder::{MaskHead, Prompts};
use r1seg_nn::{Probe, Weights, trilinear};
use r1seg_projector::SegProjector;
use r1seg_tokenizer::{BoxText, Prompt as PromptIds, PromptPart, PromptTokenizer};
use r1seg_volume::Region;

use crate::checkpoint::Found;
use crate::handle::ModelHandle;
use crate::load::Loadable;
use crate::registry::{ConfigReader, Family, ReadConfig};
use crate::run::UntilCancelled;
use crate::slices::SliceMaterial;
use crate::vision::{ImageFeatures, Vision};
use crate::{
    AskOptions, CancelToken, Capabilities, CheckpointSource, Error, ModelConfig, Separator,
    SliceInputConfig, Stage, boxes, memory,
};

/// A loaded checkpoint with a language model: R1Seg-3D, M3D-LaMed or HSENet.
///
/// ```no_run
/// let model = r1seg::R1SegModel::load("R1Seg-3D-Phi-3-4B")?;
/// let volume = r1seg::volume::read("ct.nii.gz", &Default::default())?.volume;
/// let answer = model.encode(&volume)?.ask("Can you segment the liver in this image?")?;
/// println!("{}", answer.text);
/// # Ok::<(), r1seg::Error>(())
/// ```
pub type R1SegModel = ModelHandle<ModelConfig>;

/// What a model computes with.
#[derive(Debug)]
pub(crate) struct Parts {
    vision: Vision,
    mask: Option<MaskParts>,
    decoder: Decoder,
}

/// What draws the mask of an answer.
#[derive(Debug)]
struct MaskParts {
    seg_projector: SegProjector,
    head: MaskHead,
    /// Passes after the first.
    num_clicks: usize,
}

impl Parts {
    /// Takes every tensor from the root of a checkpoint; activations have the dtype `activation`.
    pub(crate) fn new(
        config: &ModelConfig,
        weights: &Weights,
        activation: DType,
    ) -> candle_core::Result<Self> {
        let keys = config.keys;
        let mask = match &config.mask {
            Some(mask) => {
                let (hidden, embed) = (config.decoder.hidden_size, mask.head.transformer.dim);
                let projector = weights.pp("model.seg_projector");
                Some(MaskParts {
                    seg_projector: SegProjector::new(hidden, embed, projector)?,
                    head: MaskHead::new(&mask.head, weights.pp(keys.mask_head))?,
                    num_clicks: mask.num_clicks,
                })
            }
            None => None,
        };
        Ok(Self {
            vision: Vision::new(config, keys, weights)?,
            mask,
            decoder: Decoder::new(&config.decoder, weights.clone(), activation)?,
        })
    }
}

impl Loadable for ModelConfig {
    const PURPOSE: Purpose = Purpose::Answer;

    type Tokenizer = PromptTokenizer;
    type Parts = Parts;

    fn reader(reader: ConfigReader) -> Option<ReadConfig<Self>> {
        match reader {
            ConfigReader::Language(read) => Some(read),
            _ => None,
        }
    }

    fn family(&self) -> Family {
        self.family
    }

    fn capabilities(&self) -> Capabilities {
        let channels = self.branches.first().map_or(1, |branch| branch.vit.in_channels);
        self.family.capabilities().with_input(self.image_size(), channels)
    }

    fn head_dim(&self) -> usize {
        self.decoder.head_dim
    }

    fn num_clicks(&self) -> usize {
        self.mask.as_ref().map_or(0, |mask| mask.num_clicks)
    }

    fn set_num_clicks(&mut self, num_clicks: usize) {
        if let Some(mask) = &mut self.mask {
            mask.num_clicks = num_clicks;
        }
    }

    fn slices(&self) -> Option<&SliceInputConfig> {
        self.slices.as_ref()
    }

    /// Training resizes the embedding table to the tokenizer; the weights know, config.json may
    /// not.
    fn adapt(&mut self, found: &BTreeMap<String, Found>) {
        if let Some(Found { shape, .. }) = found.get("model.embed_tokens.weight")
            && let [rows, _] = shape[..]
        {
            self.decoder.vocab_size = rows;
        }
    }

    fn read_tokenizer(&self, source: &CheckpointSource) -> Result<PromptTokenizer, Error> {
        let tokenizer = PromptTokenizer::new(&source.tokenizer_files()?)?;
        match self.is_plain_text {
            true => Ok(tokenizer.with_leading_bos()?),
            false => Ok(tokenizer),
        }
    }

    fn check_tokenizer(
        &self,
        tokenizer: &PromptTokenizer,
        source: &CheckpointSource,
    ) -> Result<(), Error> {
        tokenizer.check_embedding_rows(self.decoder.vocab_size)?;
        let seg = tokenizer.seg_token_id();
        match self.seg_token_id.filter(|&id| id != seg) {
            None => Ok(()),
            Some(id) => Err(Error::Config {
                path: source.path(),
                message: format!("seg_token_id is {id}, but the tokenizer's [SEG] is {seg}"),
            }),
        }
    }

    fn build(&self, weights: &Weights, activation: DType) -> candle_core::Result<Parts> {
        Parts::new(self, weights, activation)
    }

    fn pass_bytes(&self, questions: usize) -> u64 {
        memory::to_answer(self, questions)
    }
}

impl R1SegModel {
    /// The embedded demonstration model, which knows only synthetic phantoms.
    ///
    /// # Errors
    /// As [`load_with`](Self::load_with).
    pub fn demo() -> Result<Self, Error> {
        Self::load(CheckpointSource::demo())
    }

    /// The checkpoint's tokenizer.
    pub fn tokenizer(&self) -> &PromptTokenizer {
        &self.inner.tokenizer
    }

    /// What stands between the image and a question that is asked with these options, about a box where
    /// there is one.
    pub fn separator(&self, options: &AskOptions, region: Option<Region>) -> Separator {
        options.separator.unwrap_or(match region {
            // All models that know boxes were trained with questions about them behind a space.
            Some(_) => Separator::Space,
            None => self.inner.config.separator,
        })
    }

    /// The token ids of a question, as the model reads them. Without a separator, the model's own
    /// ([`ModelConfig::separator`]) stands between the image and the question.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] for an empty question, or [`Error::PromptTooLong`] with the numbers.
    pub fn prompt(&self, question: &str, separator: Option<Separator>) -> Result<PromptIds, Error> {
        let separator = separator.unwrap_or(self.inner.config.separator);
        self.prompt_parts(&[PromptPart::Text(question)], separator)
    }

    /// [`prompt`](Self::prompt) for a question about a box, which stands at
    /// [`BOX_PLACEHOLDER`](crate::BOX_PLACEHOLDER) or at its end. Without a separator, a space stands
    /// in front.
    ///
    /// # Errors
    /// As [`prompt`](Self::prompt), and [`Error::NoBoxTokens`].
    pub fn prompt_about(
        &self,
        question: &str,
        about: &BoxText,
        separator: Option<Separator>,
    ) -> Result<PromptIds, Error> {
        check_question(question)?;
        if self.inner.tokenizer.appended_tokens().iter().any(|token| token.starts_with("<bx_")) {
            return Err(Error::NoBoxTokens);
        }
        let text = about.to_string();
        let separator = separator.unwrap_or(Separator::Space);
        self.prompt_parts(&boxes::with_box(question, &text), separator)
    }

    fn prompt_parts(
        &self,
        question: &[PromptPart<'_>],
        separator: Separator,
    ) -> Result<PromptIds, Error> {
        let images = self.inner.config.visual_tokens();
        let prompt = self.inner.tokenizer.encode_prompt_parts(question, images, separator)?;
        let limit = self.inner.config.decoder.max_position_embeddings;
        if prompt.ids().len() >= limit {
            let prompt = prompt.ids().len();
            return Err(Error::PromptTooLong { prompt, images, limit });
        }
        Ok(prompt)
    }

    /// Whether answers can have a mask.
    pub(crate) fn draws_masks(&self) -> bool {
        self.inner.parts.mask.is_some()
    }

    /// The logit of all voxels when an answer has no `[SEG]`; of a model that draws masks.
    pub(crate) fn no_seg_logit(&self) -> f32 {
        self.inner.config.mask.as_ref().map_or(f32::NEG_INFINITY, |mask| mask.no_seg_logit)
    }

    /// Runs the vision transformers that the language model reads, and the projectors.
    ///
    /// # Shapes
    /// - `voxels`: `D * H * W` of the model's grid, in `0..=1`
    pub(crate) fn encode_image(
        &self,
        voxels: Vec<f32>,
        slices: Option<&SliceMaterial>,
        probe: &mut dyn Probe,
    ) -> Result<ImageFeatures, Error> {
        let [d, h, w] = self.input_shape();
        let volume = Tensor::from_vec(voxels, (1, 1, d, h, w), &Device::Cpu)?;
        let volume = volume
            .to_device(&self.inner.model.device)?
            .to_dtype(self.inner.parts.decoder.activation_dtype())?;
        self.inner.parts.vision.encode(volume, slices, &self.inner.model.finite, probe)
    }

    pub(crate) fn decoder(&self) -> &Decoder {
        &self.inner.parts.decoder
    }

    pub(crate) fn device(&self) -> &Device {
        &self.inner.model.device
    }

    /// Generates the answers to prompts about one image, all at once, each with the time that reading the
    /// image took for it.
    pub(crate) fn generate(
        &self,
        image: &ImageFeatures,
        prompts: &[PromptIds],
        options: &AskOptions,
        keep_logits: bool,
        cancel: &CancelToken,
        on_token: &mut dyn FnMut(usize, Step<'_>),
    ) -> Result<Vec<(Generated, Duration)>, Error> {
        let _span = tracing::info_span!("answer", prompts = prompts.len()).entered();
        let limit = self.inner.config.decoder.max_position_embeddings;
        let mut begun = Vec::with_capacity(prompts.len());
        let mut prefixes = Vec::with_capacity(prompts.len());
        let mut shared = None;
        for prompt in prompts {
            let start = Instant::now();
            let (rest, cache) = match prompts {
                [_] => self.begin(image, prompt)?,
                _ => self.begin_beside(image, prompt, &mut shared, &UntilCancelled(cancel))?,
            };
            prefixes.push(start.elapsed());
            let options = GenerationOptions {
                max_new_tokens: options.max_new_tokens.min(limit - prompt.ids().len()),
                eos_token_ids: match options.forced_tokens {
                    // A benchmark's tokens are generated to the last.
                    Some(_) => Vec::new(),
                    None => self.inner.config.eos_token_ids.clone(),
                },
                sampling: options.sampling.clone(),
                forced: options.forced_tokens.clone().unwrap_or_default(),
                keep_logits,
                drafts: self.drafts(prompt, options),
            };
            begun.push((rest, cache, options));
        }
        let requests = begun
            .iter_mut()
            .map(|(prompt, cache, options)| Request { prompt, cache, options })
            .collect();
        let answers =
            self.inner.parts.decoder.generate_many(requests, &UntilCancelled(cancel), on_token);
        if let ([prompt], Some((_, cache, _))) = (prompts, begun.pop()) {
            image.cache.give(self.cache_key(prompt), cache);
        }
        if let Some((key, cache)) = shared {
            image.cache.give(key, cache);
        }
        let answers = answers.map_err(|error| self.inner.model.finite.generation(error))?;
        Ok(answers.into_iter().zip(prefixes).collect())
    }

    /// The mask logits of an answer, on the model's grid.
    ///
    /// # Shapes
    /// - `hidden_states`: `[hidden]` each, of the positions that predicted `[SEG]`
    /// - returns: `D * H * W` logits
    pub(crate) fn decode_mask(
        &self,
        image: &ImageFeatures,
        hidden_states: &[&Tensor],
        probe: &mut dyn Probe,
    ) -> Result<Vec<f32>, Error> {
        let Some(mask) = &self.inner.parts.mask else {
            return Err(candle_core::Error::msg("the model draws no masks").into());
        };
        let _span = tracing::info_span!("mask", seg_tokens = hidden_states.len()).entered();
        // Several [SEG] share one mask: the authors average before they project.
        let hidden = match hidden_states {
            [one] => one.unsqueeze(0)?,
            all => Tensor::stack(all, 0)?.to_dtype(DType::F32)?.mean_keepdim(0)?,
        };
        self.inner.model.finite.tensor(Stage::Generate, &hidden)?;
        let hidden = hidden.to_dtype(self.inner.parts.decoder.activation_dtype())?;
        let text = mask.seg_projector.forward(&hidden)?;
        self.inner.model.finite.tensor(Stage::MaskPrompt, &text)?;
        probe.record("seg.prompt_embedding", &text)?;
        let prompts = Prompts { text: Some(&text), ..Prompts::default() };
        let features =
            self.inner.parts.vision.mask_features(image, &self.inner.model.finite, probe)?;
        let low_res = mask.head.refine(&features, &prompts, mask.num_clicks, probe)?;
        self.inner.model.finite.tensor(Stage::Mask, &low_res)?;
        let logits = trilinear(&low_res, self.input_shape())?;
        Ok(logits.flatten_all()?.to_vec1::<f32>()?)
    }
}

/// Whether a question has words in it, which can be asked before a model is loaded.
///
/// # Errors
/// [`Error::Tokenizer`] for an empty or blank one.
pub fn check_question(question: &str) -> Result<(), Error> {
    Ok(r1seg_tokenizer::check_question(question)?)
}

/// Which of an answer's tokens prompt the mask.
pub(crate) fn seg_positions(token_ids: &[u32], seg: u32, first_seg: bool) -> Vec<usize> {
    // The authors' `generate` compares tokens 1.. with [SEG], so that one in front is ignored.
    let first = usize::from(!first_seg);
    (first..token_ids.len()).filter(|&k| token_ids[k] == seg).collect()
}

/// The window's seed, so that windows draw independently and reproducibly.
pub(crate) fn seeded(sampling: &Sampling, window: u64) -> Sampling {
    match sampling.clone() {
        Sampling::Random { temperature, top_k, top_p, seed } => {
            let seed = seed.wrapping_add(window);
            Sampling::Random { temperature, top_k, top_p, seed }
        }
        greedy => greedy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leading_seg_counts_only_on_request() {
        assert_eq!(seg_positions(&[7, 1, 7, 7], 7, false), [2, 3]);
        assert_eq!(seg_positions(&[7, 1, 7, 7], 7, true), [0, 2, 3]);
        assert!(seg_positions(&[7], 7, false).is_empty());
        assert!(seg_positions(&[], 7, false).is_empty());
    }

    #[test]
    fn a_model_can_be_shared_between_threads() {
        fn shared<T: Send + Sync + 'static>() {}
        shared::<R1SegModel>();
        shared::<crate::EncodedVolume>();
    }
}
