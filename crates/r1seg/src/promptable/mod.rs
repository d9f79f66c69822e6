//! The models that segment what a text, points or a box say: SegVol and R1Seg-3D-SAM.
//!
//! Port of `network/model.py` (SegVol @5768c97) and of `R1Seg3DSAM` (R1Seg-3D @2974945). Keys:
//! `image_encoder`, `prompt_encoder`, `mask_decoder`, `text_encoder`.

mod config;
mod prompt;
mod study;
mod zoom;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use candle_core::{DType, Device, Tensor};
use r1seg_mask_decoder::{MaskHead, Prompts};
use r1seg_nn::{Probe, Weights, trilinear};
use r1seg_text_encoder::PromptTextEncoder;
use r1seg_tokenizer::TextTokenizer;
use r1seg_vit3d::Vit3d;
use r1seg_volume::Volume;

use crate::checkpoint::{Found, LoadReport, dry_load};
use crate::load::{self, Loaded};
use crate::model::device_name;
use crate::{CheckpointSource, Error, LoadOptions, RunContext, Stage, memory};

pub use config::PromptableConfig;
pub use prompt::{PromptPoint, SegmentPrompt};
pub use study::{PromptedVolume, SegmentOptions, SegmentTimings, Segmented};

/// A loaded SegVol or R1Seg-3D-SAM: a handle whose clones share the weights.
///
/// ```no_run
/// use r1seg::volume::{Overwrite, ReadOptions, read, write_mask};
/// use r1seg::{PromptableModel, SegmentPrompt};
///
/// let model = PromptableModel::load("SegVol-converted")?;
/// let ct = read("ct.nii.gz", &ReadOptions::default())?.volume;
/// let study = model.encode(&ct)?;
/// let liver = study.segment(&SegmentPrompt::of_text("liver"))?;
/// write_mask("liver.nii.gz", &liver.mask, Overwrite::Refuse)?;
/// # Ok::<(), r1seg::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct PromptableModel {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: PromptableConfig,
    tokenizer: TextTokenizer,
    loaded: Loaded<Parts>,
}

/// What the model computes with.
#[derive(Debug)]
struct Parts {
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

impl PromptableConfig {
    /// Compares what a model of this configuration asks for with what there is.
    pub(crate) fn dry_load(
        &self,
        found: &BTreeMap<String, Found>,
        source: &CheckpointSource,
    ) -> Result<LoadReport, Error> {
        let build = |weights: &Weights| Parts::new(self, weights).map(drop);
        dry_load(&build, &|name| self.keys.never_used(name), found, source)
    }
}

impl PromptableModel {
    /// Loads a checkpoint folder with automatic device and dtype.
    ///
    /// # Errors
    /// As [`PromptableModel::open`].
    pub fn load(folder: impl AsRef<Path>) -> Result<Self, Error> {
        let source = CheckpointSource::Folder(folder.as_ref().to_path_buf());
        Self::open(&source, &LoadOptions::default())
    }

    /// Loads a checkpoint. SegVol is published as pickles, which [`r1seg_convert`] turns into a
    /// folder.
    ///
    /// # Errors
    /// Of kind [`Model`](crate::ErrorKind::Model) when a file is broken, of another model, or does
    /// not fit another ([`Error::Weights`] names every tensor at fault), of kind
    /// [`Device`](crate::ErrorKind::Device) when the device is not there,
    /// [`Error::NotEnoughMemory`] beyond the limit that was set, and [`Error::InvalidOption`] for
    /// passes that the model cannot make.
    pub fn open(source: &CheckpointSource, options: &LoadOptions) -> Result<Self, Error> {
        let _span = tracing::info_span!("load").entered();
        let mut config = PromptableConfig::read(source)?;
        if let Some(num_clicks) = options.num_clicks {
            config.set_num_clicks(num_clicks)?;
        }
        let tokenizer = source.text_tokenizer()?;
        config.check_tokenizer(&tokenizer, source)?;
        let loaded = load::load(
            source,
            options,
            &load::Plan {
                build: &|weights| Parts::new(&config, weights),
                never_used: &|name| config.keys.never_used(name),
                needed: &|weights| memory::needed_to_segment(&config.vit, weights),
            },
        )?;
        Ok(Self { inner: Arc::new(Inner { config, tokenizer, loaded }) })
    }

    /// What the checkpoint's `config.json` decided.
    pub fn config(&self) -> &PromptableConfig {
        &self.inner.config
    }

    /// What loading did with every tensor of the checkpoint.
    pub fn load_report(&self) -> &LoadReport {
        &self.inner.loaded.report
    }

    /// Time from opening the weights to a usable model.
    pub fn load_time(&self) -> Duration {
        self.inner.loaded.time
    }

    /// Where it computes, such as `cpu` or `cuda:0`.
    pub fn device_name(&self) -> String {
        device_name(&self.inner.loaded.device)
    }

    /// Why it computes on the CPU, as [`R1SegModel::device_fallback`](crate::R1SegModel::device_fallback).
    pub fn device_fallback(&self) -> Option<&Error> {
        self.inner.loaded.fallback.as_ref()
    }

    /// The dtype in which the weights are kept, such as `bf16`.
    pub fn dtype_name(&self) -> &'static str {
        self.inner.loaded.dtype
    }

    /// Prepares a volume for any number of prompts.
    ///
    /// # Errors
    /// As [`PromptableModel::encode_with`].
    pub fn encode(&self, volume: &Volume) -> Result<PromptedVolume, Error> {
        self.encode_with(volume, &SegmentOptions::default(), &mut RunContext::default())
    }

    /// Prepares a volume for any number of prompts, with options.
    ///
    /// # Errors
    /// When the volume cannot be prepared ([`Error::Volume`]); [`Error::Cancelled`].
    pub fn encode_with(
        &self,
        volume: &Volume,
        options: &SegmentOptions,
        run: &mut RunContext<'_>,
    ) -> Result<PromptedVolume, Error> {
        run.check()?;
        PromptedVolume::new(self.clone(), volume, options)
    }

    /// Whether a text can be read, which can be asked before a volume is.
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
    fn read(&self, text: &str, probe: &mut dyn Probe) -> Result<Tensor, Error> {
        let embedding =
            self.inner.loaded.parts.text_encoder.forward(&self.token_ids(text)?, probe)?;
        let embedding = embedding.to_dtype(self.inner.loaded.activation)?;
        self.inner.loaded.finite.tensor(Stage::EmbedText, &embedding)?;
        if probe.is_listening() {
            probe.record("text.embedding", &embedding)?;
        }
        Ok(embedding)
    }

    /// The image embeddings of voxels on the model's grid.
    ///
    /// # Shapes
    /// - `voxels`: `D * H * W`, in `0..=1`    - returns: `[1, N, E]`
    fn see(&self, voxels: Vec<f32>, probe: &mut dyn Probe) -> Result<Tensor, Error> {
        let _span = tracing::info_span!("vit").entered();
        let [d, h, w] = self.inner.config.vit.image_size;
        let volume = Tensor::from_vec(voxels, (1, 1, d, h, w), &Device::Cpu)?;
        let volume =
            volume.to_device(&self.inner.loaded.device)?.to_dtype(self.inner.loaded.activation)?;
        let features = self.inner.loaded.parts.image_encoder.forward(&volume, probe)?;
        self.inner.loaded.device.synchronize()?;
        self.inner.loaded.finite.tensor(Stage::Encode, &features)?;
        probe.record("vit.features", &features)?;
        Ok(features)
    }

    /// The mask logits of what was seen, on the model's grid.
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
        let (head, passes) = (&self.inner.loaded.parts.mask_head, self.inner.config.num_clicks);
        let low_res = head.refine(features, prompts, passes, probe)?;
        self.inner.loaded.finite.tensor(Stage::Mask, &low_res)?;
        let logits = trilinear(&low_res, self.inner.config.vit.image_size)?;
        Ok(logits.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?)
    }
}

impl PromptableConfig {
    /// Sets the passes of the mask decoder after the first.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for more than any model has use for, and for SegVol, which cannot
    /// refine.
    fn set_num_clicks(&mut self, num_clicks: usize) -> Result<(), Error> {
        let wrong = |message: String| Error::InvalidOption { what: "num_clicks", message };
        crate::config::check_num_clicks(num_clicks).map_err(wrong)?;
        if num_clicks > 0 && self.knows_points_and_boxes() {
            let name = self.family.name();
            return Err(wrong(format!("{name} has nothing to refine masks with, expected 0")));
        }
        self.num_clicks = num_clicks;
        Ok(())
    }

    /// Checks that the tokenizer is this model's.
    pub(crate) fn check_tokenizer(
        &self,
        tokenizer: &TextTokenizer,
        source: &CheckpointSource,
    ) -> Result<(), Error> {
        let wrong = |message: String| Err(Error::Config { path: source.path(), message });
        if tokenizer.vocab_size() > self.text.vocab_size {
            return wrong(format!(
                "text_config.vocab_size is {}, but the tokenizer has {} tokens",
                self.text.vocab_size,
                tokenizer.vocab_size()
            ));
        }
        // Any text shows which token ends one.
        let ids = tokenizer.encode("a", usize::MAX)?;
        if self.text.end_position(&ids).map(|end| end + 1) != Some(ids.len()) {
            return wrong(format!(
                "text_config.eos_token_id is {}, but the tokenizer ends a text with {}",
                self.text.eos_token_id,
                ids.last().map_or("nothing".to_string(), u32::to_string)
            ));
        }
        Ok(())
    }
}
