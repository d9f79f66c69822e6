//! The models that segment what a text, points or a box say: SegVol and R1Seg-3D-SAM.
//!
//! Port of `network/model.py` (SegVol @5768c97) and of `R1Seg3DSAM` (R1Seg-3D @2974945). Keys:
//! `image_encoder`, `prompt_encoder`, `mask_decoder`, `text_encoder`.

mod config;
mod encoded;
mod prompt;
pub mod simulate;
mod windows;
mod zoom;

use std::ops::Deref;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use r1seg_diagnostic::Purpose;
use r1seg_mask_decoder::{MaskHead, Prompts};
use r1seg_nn::{Probe, Weights, trilinear};
use r1seg_text_encoder::PromptTextEncoder;
use r1seg_tokenizer::TextTokenizer;
use r1seg_vit3d::{Vit3d, Vit3dConfig};
use r1seg_volume::Volume;

use crate::load::{Loadable, Loaded, Loader, check_vocabulary};
use crate::registry::{ConfigReader, Family};
use crate::{
    CheckpointSource, EncodeOptions, EncodedVolume, Error, LoadOptions, LoadedModel, ModelSource,
    RunContext, Stage, memory,
};

pub use config::PromptableConfig;
pub(crate) use config::{R1SEG_3D_SAM, SEGVOL, read_config};
pub(crate) use encoded::PromptableVolume;

/// A loaded SegVol or R1Seg-3D-SAM: a handle whose clones share the weights.
///
/// ```no_run
/// use r1seg::volume::{Overwrite, ReadOptions, read, write_mask};
/// use r1seg::PromptableModel;
///
/// let model = PromptableModel::load("SegVol-converted")?;
/// let ct = read("ct.nii.gz", &ReadOptions::default())?.volume;
/// let encoded = model.encode(&ct)?;
/// if let Some(liver) = encoded.segment("liver")?.mask {
///     write_mask("liver.nii.gz", &liver, Overwrite::Refuse)?;
/// }
/// # Ok::<(), r1seg::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct PromptableModel {
    inner: Arc<Loaded<PromptableConfig>>,
}

/// What the model computes with.
#[derive(Debug)]
pub(crate) struct Parts {
    image_encoder: Vit3d,
    mask_head: MaskHead,
    text_encoder: PromptTextEncoder,
}

impl Parts {
    /// Takes every tensor from the root of a checkpoint.
    fn new(config: &PromptableConfig, weights: &Weights) -> candle_core::Result<Self> {
        let width = config.vit.hidden_size;
        let text = weights.pp("text_encoder");
        Ok(Self {
            image_encoder: Vit3d::new(&config.vit, weights.pp(config.keys.encoder))?,
            mask_head: MaskHead::new(&config.mask_head, weights.clone())?,
            text_encoder: PromptTextEncoder::new(&config.text, width, text)?,
        })
    }
}

impl Loadable for PromptableConfig {
    type Tokenizer = TextTokenizer;
    type Parts = Parts;

    fn family(&self) -> Family {
        self.family
    }

    fn vit(&self) -> &Vit3dConfig {
        &self.vit
    }

    fn num_clicks(&self) -> usize {
        self.num_clicks
    }

    fn set_num_clicks(&mut self, num_clicks: usize) {
        self.num_clicks = num_clicks;
    }

    fn read_tokenizer(&self, source: &CheckpointSource) -> Result<TextTokenizer, Error> {
        source.text_tokenizer()
    }

    fn check_tokenizer(
        &self,
        tokenizer: &TextTokenizer,
        source: &CheckpointSource,
    ) -> Result<(), Error> {
        check_vocabulary(self.text.vocab_size, tokenizer.vocab_size(), source)?;
        // Any text shows which token ends one.
        let ids = tokenizer.encode("a", usize::MAX)?;
        if self.text.end_position(&ids).map(|end| end + 1) == Some(ids.len()) {
            return Ok(());
        }
        let message = format!(
            "text_config.eos_token_id is {}, but the tokenizer ends a text with {}",
            self.text.eos_token_id,
            ids.last().map_or("nothing".to_string(), u32::to_string)
        );
        Err(Error::Config { path: source.path(), message })
    }

    fn build(&self, weights: &Weights, _activation: DType) -> candle_core::Result<Parts> {
        Parts::new(self, weights)
    }

    fn needed(&self, weights: u64, _questions: usize) -> u64 {
        memory::needed_to_segment(self, weights)
    }
}

impl Deref for PromptableModel {
    type Target = LoadedModel;

    fn deref(&self) -> &LoadedModel {
        &self.inner.model
    }
}

impl PromptableModel {
    /// Loads a model with automatic device and dtype: a checkpoint folder, or the name of a
    /// downloaded model ([`ModelSource`]). SegVol is published as pickles, which
    /// [`convert`](crate::convert) turns into a folder.
    ///
    /// # Errors
    /// As [`PromptableModel::load_with`].
    pub fn load(source: impl Into<ModelSource>) -> Result<Self, Error> {
        Self::load_with(source, &LoadOptions::default())
    }

    /// Loads a model with chosen device, dtype and limits.
    ///
    /// # Errors
    /// As [`load`](crate::load()), and [`Error::OtherFamily`] for other models than SegVol and
    /// R1Seg-3D-SAM.
    pub fn load_with(source: impl Into<ModelSource>, options: &LoadOptions) -> Result<Self, Error> {
        let loader = Loader::new(source, options)?;
        match loader.file.entry.reader {
            ConfigReader::Promptable(read) => Ok(Self::new(loader.load(read)?)),
            _ => Err(loader.file.other_family(Purpose::Segment)),
        }
    }

    pub(crate) fn new(loaded: Loaded<PromptableConfig>) -> Self {
        Self { inner: Arc::new(loaded) }
    }

    /// What the checkpoint's `config.json` decided.
    pub fn config(&self) -> &PromptableConfig {
        &self.inner.config
    }

    /// Prepares a volume for any number of prompts.
    ///
    /// # Errors
    /// As [`PromptableModel::encode_with`].
    pub fn encode(&self, volume: &Volume) -> Result<EncodedVolume, Error> {
        self.encode_with(volume, &EncodeOptions::default(), &mut RunContext::default())
    }

    /// Prepares a volume for any number of prompts, with options.
    ///
    /// # Errors
    /// When the volume cannot be prepared ([`Error::Volume`]); [`Error::Cancelled`].
    pub fn encode_with(
        &self,
        volume: &Volume,
        options: &EncodeOptions,
        run: &mut RunContext<'_>,
    ) -> Result<EncodedVolume, Error> {
        run.check()?;
        Ok(PromptableVolume::new(self.clone(), volume, options)?.into())
    }

    /// Whether a text can be encoded, which can be checked before a volume is read.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] for an empty text and for one of more tokens than the encoder reads, 77 in
    /// the published models.
    pub fn check_text(&self, text: &str) -> Result<(), Error> {
        self.token_ids(text).map(drop)
    }

    /// The ids of a text in the sentence that the model was trained with.
    fn token_ids(&self, text: &str) -> Result<Vec<u32>, Error> {
        let limit = self.inner.config.text.max_position_embeddings;
        if text.chars().all(|c| c.is_whitespace() || c == '\0') {
            // Its sentence would not be empty.
            return Ok(self.inner.tokenizer.encode(text, limit)?);
        }
        let [before, after] = self.inner.config.sentence;
        Ok(self.inner.tokenizer.encode(&format!("{before}{text}{after}"), limit)?)
    }

    /// The prompt embedding of a text, `[1, E]`.
    fn encode_text(&self, text: &str, probe: &mut dyn Probe) -> Result<Tensor, Error> {
        let embedding = self.inner.parts.text_encoder.forward(&self.token_ids(text)?, probe)?;
        let embedding = embedding.to_dtype(self.inner.model.activation)?;
        self.inner.model.finite.tensor(Stage::EmbedText, &embedding)?;
        if probe.is_listening() {
            probe.record("text.embedding", &embedding)?;
        }
        Ok(embedding)
    }

    /// The image embeddings of voxels on the model's grid.
    ///
    /// # Shapes
    /// - `voxels`: `D * H * W`, in `0..=1`    - returns: `[1, N, E]`
    fn encode_image(&self, voxels: Vec<f32>, probe: &mut dyn Probe) -> Result<Tensor, Error> {
        let _span = tracing::info_span!("vit").entered();
        let [d, h, w] = self.input_shape();
        let volume = Tensor::from_vec(voxels, (1, 1, d, h, w), &Device::Cpu)?;
        let volume =
            volume.to_device(&self.inner.model.device)?.to_dtype(self.inner.model.activation)?;
        let features = self.inner.parts.image_encoder.forward(&volume, probe)?;
        self.inner.model.device.synchronize()?;
        self.inner.model.finite.tensor(Stage::Encode, &features)?;
        probe.record("vit.features", &features)?;
        Ok(features)
    }

    /// The mask logits of encoded voxels, on the model's grid.
    ///
    /// # Shapes
    /// - `features`: `[1, N, E]`    - returns: `D * H * W` logits
    fn decode(
        &self,
        features: &Tensor,
        prompts: &Prompts<'_>,
        probe: &mut dyn Probe,
    ) -> Result<Vec<f32>, Error> {
        let _span = tracing::info_span!("mask").entered();
        let (head, passes) = (&self.inner.parts.mask_head, self.inner.config.num_clicks);
        let low_res = head.refine(features, prompts, passes, probe)?;
        self.inner.model.finite.tensor(Stage::Mask, &low_res)?;
        let logits = trilinear(&low_res, self.input_shape())?;
        Ok(logits.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?)
    }
}
