//! The models that segment what a text, points, a box or a mask say.
//!
//! Port of `network/model.py` (SegVol @5768c97), of `R1Seg3DSAM` (R1Seg-3D @2974945), and of
//! `utils/infer_utils.py` (SAM-Med3D @f3de1fa) with the networks of NeuroSAM3D @a3af456. Keys:
//! `image_encoder`, `prompt_encoder`, `mask_decoder`, and `text_encoder` where texts are read.
//!
//! SegVol and R1Seg-3D-SAM look at the whole volume and at windows over it (`whole.rs`, `windows.rs`,
//! `zoom.rs`),
//! SAM-Med3D and NeuroSAM3D at crops around a target (`target.rs`, `crops.rs`, `clicks.rs`, `grow.rs`),
//! whose authors' evaluation is in `evaluation.rs` and `simulate.rs`.

mod clicks;
mod config;
mod crops;
mod encoded;
mod evaluation;
mod grow;
mod prompt;
pub mod simulate;
mod target;
mod whole;
mod windows;
mod zoom;

use candle_core::{DType, Device, Tensor};
use r1seg_diagnostic::Purpose;
use r1seg_mask_decoder::{MaskHead, Prompts};
use r1seg_nn::{Probe, Weights, trilinear};
use r1seg_text_encoder::PromptTextEncoder;
use r1seg_tokenizer::TextTokenizer;
use r1seg_vit3d::ImageEncoder;

use crate::handle::ModelHandle;
use crate::load::{Loadable, check_vocabulary};
use crate::registry::{ConfigReader, Family, ReadConfig};
use crate::{Capabilities, CheckpointSource, Error, LoadedModel, Stage, memory};

pub(crate) use clicks::Clicked;
pub use config::PromptableConfig;
pub(crate) use config::{
    NEUROSAM3D_HIERA, NEUROSAM3D_VIT, R1SEG_3D_SAM, SAM_MED3D, SEGVOL, read_config,
};
use encoded::PromptableVolume;
pub use evaluation::Simulated;

/// A loaded SegVol, R1Seg-3D-SAM, SAM-Med3D or NeuroSAM3D: a handle whose clones share the weights.
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
pub type PromptableModel = ModelHandle<PromptableConfig>;

/// What the model computes with.
#[derive(Debug)]
pub(crate) struct Parts {
    image_encoder: ImageEncoder,
    mask_head: MaskHead,
    text_encoder: Option<PromptTextEncoder>,
}

impl Parts {
    /// Takes every tensor from the root of a checkpoint.
    fn new(config: &PromptableConfig, weights: &Weights) -> candle_core::Result<Self> {
        let width = config.image_encoder.embed_dim();
        let encoder = weights.pp(config.keys.encoder);
        let text = |text| PromptTextEncoder::new(text, width, weights.pp("text_encoder"));
        Ok(Self {
            image_encoder: ImageEncoder::new(&config.image_encoder, encoder)?,
            mask_head: MaskHead::new(&config.mask_head, weights.clone())?,
            text_encoder: config.text.as_ref().map(text).transpose()?,
        })
    }
}

impl Loadable for PromptableConfig {
    const PURPOSE: Purpose = Purpose::Segment;

    /// None for a model that reads no texts.
    type Tokenizer = Option<TextTokenizer>;
    type Parts = Parts;

    fn reader(reader: ConfigReader) -> Option<ReadConfig<Self>> {
        match reader {
            ConfigReader::Promptable(read) => Some(read),
            _ => None,
        }
    }

    fn family(&self) -> Family {
        self.family
    }

    fn capabilities(&self) -> Capabilities {
        let (encoder, known) = (&self.image_encoder, self.family.capabilities());
        known.with_input(encoder.image_size(), encoder.in_channels())
    }

    fn num_clicks(&self) -> usize {
        self.num_clicks
    }

    fn set_num_clicks(&mut self, num_clicks: usize) {
        self.num_clicks = num_clicks;
    }

    fn read_tokenizer(&self, source: &CheckpointSource) -> Result<Option<TextTokenizer>, Error> {
        self.text.as_ref().map(|_| source.text_tokenizer()).transpose()
    }

    fn check_tokenizer(
        &self,
        tokenizer: &Option<TextTokenizer>,
        source: &CheckpointSource,
    ) -> Result<(), Error> {
        let (Some(text), Some(tokenizer)) = (&self.text, tokenizer) else { return Ok(()) };
        check_vocabulary(text.vocab_size, tokenizer.vocab_size(), source)?;
        // Any text shows which token ends one.
        let ids = tokenizer.encode("a", usize::MAX)?;
        if text.end_position(&ids).map(|end| end + 1) == Some(ids.len()) {
            return Ok(());
        }
        let message = format!(
            "text_config.eos_token_id is {}, but the tokenizer ends a text with {}",
            text.eos_token_id,
            ids.last().map_or("nothing".to_string(), u32::to_string)
        );
        Err(Error::Config { path: source.path(), message })
    }

    fn build(&self, weights: &Weights, _activation: DType) -> candle_core::Result<Parts> {
        Parts::new(self, weights)
    }

    fn pass_bytes(&self, _questions: usize) -> u64 {
        memory::to_segment(self)
    }
}

impl PromptableModel {
    /// Whether a text can be encoded, which can be checked before a volume is read.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] for an empty text and for one of more tokens than the encoder reads, 77 in
    /// the published models; [`Error::Prompt`] for a model that reads no texts.
    pub fn check_text(&self, text: &str) -> Result<(), Error> {
        self.token_ids(text).map(drop)
    }

    /// The ids of a text in the sentence that the model was trained with.
    fn token_ids(&self, text: &str) -> Result<Vec<u32>, Error> {
        let (Some(config), Some(tokenizer)) = (&self.inner.config.text, &self.inner.tokenizer)
        else {
            return Err(prompt::reads_no_texts(self.family));
        };
        let limit = config.max_position_embeddings;
        if text.chars().all(|c| c.is_whitespace() || c == '\0') {
            // Its sentence would not be empty.
            return Ok(tokenizer.encode(text, limit)?);
        }
        let [before, after] = self.inner.config.sentence;
        Ok(tokenizer.encode(&format!("{before}{text}{after}"), limit)?)
    }

    /// The prompt embedding of a text, `[1, E]`.
    fn encode_text(&self, text: &str, probe: &mut dyn Probe) -> Result<Tensor, Error> {
        let ids = self.token_ids(text)?;
        let Some(encoder) = &self.inner.parts.text_encoder else {
            return Err(prompt::reads_no_texts(self.family));
        };
        let embedding = encoder.forward(&ids, probe)?;
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
    /// - `voxels`: `D * H * W`, prepared    - returns: `[1, N, E]`
    fn encode_image(&self, voxels: Vec<f32>, probe: &mut dyn Probe) -> Result<Tensor, Error> {
        let _span = tracing::info_span!("vit").entered();
        let [d, h, w] = self.input_shape();
        let volume = Tensor::from_vec(voxels, (1, 1, d, h, w), &Device::Cpu)?;
        let volume = self.on_device(&volume)?;
        let features = self.inner.parts.image_encoder.forward(&volume, probe)?;
        self.inner.model.device.synchronize()?;
        self.inner.model.finite.tensor(Stage::Encode, &features)?;
        Ok(features)
    }

    /// A tensor where the model computes, in its dtype.
    fn on_device(&self, tensor: &Tensor) -> candle_core::Result<Tensor> {
        tensor.to_device(&self.inner.model.device)?.to_dtype(self.inner.model.activation)
    }

    /// The mask prompt of a first pass, which SAM-Med3D's authors always give: logits of 0.
    ///
    /// # Shapes
    /// - returns: `[1, 1, d, h, w]`
    fn no_logits(&self) -> Result<Tensor, Error> {
        let [d, h, w] = self.inner.config.mask_head.low_res_size();
        let LoadedModel { activation, device, .. } = &self.inner.model;
        Ok(Tensor::zeros((1, 1, d, h, w), *activation, device)?)
    }

    /// One pass of the mask decoder, whose tensors the probe is shown as those of `stage`.
    ///
    /// # Shapes
    /// - `features`: `[1, N, E]`    - returns: `[1, 1, d, h, w]`
    fn predict(
        &self,
        features: &Tensor,
        prompts: &Prompts<'_>,
        stage: &str,
        probe: &mut dyn Probe,
    ) -> Result<Tensor, Error> {
        let _span = tracing::info_span!("mask").entered();
        let low_res = self.inner.parts.mask_head.pass(features, prompts, stage, probe)?;
        self.inner.model.finite.tensor(Stage::Mask, &low_res)?;
        Ok(low_res)
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
