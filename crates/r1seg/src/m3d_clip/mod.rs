//! M3D-CLIP and HSENet-CLIP: volumes and texts as points on one sphere.
//!
//! Port of `LaMed/src/model/CLIP.py` (M3D @63e7200) and of `CLIP_stage1.py` and `CLIP_stage2.py` beside it
//! (HSENet @c7198f3), whose second stage is guided by slices.
//! Keys: `vision_encoder`, `mm_vision_proj`, `language_encoder`, `mm_language_proj`, `logit_scale`.

mod config;

use candle_core::{DType, Device, Tensor};
use r1seg_diagnostic::Purpose;
use r1seg_nn::{Linear, Weights, linear};
use r1seg_text_encoder::BertModel;
use r1seg_tokenizer::TextTokenizer;
use r1seg_vit3d::Vit3d;
use r1seg_volume::{Volume, Warning};

use crate::encoded::Setup;
use crate::finite::FiniteCheck;
use crate::handle::ModelHandle;
use crate::load::{Loadable, check_vocabulary};
use crate::registry::{ConfigReader, Family, ReadConfig};
use crate::slices::{SliceFeatures, SliceReader};
use crate::{
    Capabilities, CheckpointSource, EncodeOptions, Error, Recipe, RunContext, SliceInputConfig,
    Stage, memory,
};

pub use config::M3dClipConfig;
pub(crate) use config::{HSENET_STAGE_1, HSENET_STAGE_2, M3D_CLIP, read_config};

/// The smallest length that a vector is divided by (`torch.nn.functional.normalize`).
const NORMALIZE_EPS: f64 = 1e-12;

/// A loaded M3D-CLIP or HSENet-CLIP checkpoint: a handle whose clones share the weights.
///
/// ```no_run
/// use r1seg::volume::{ReadOptions, read};
/// use r1seg::M3dClip;
///
/// let clip = M3dClip::load("M3D-CLIP")?;
/// let ct = read("ct.nii.gz", &ReadOptions::default())?.volume;
/// let ct = clip.embed_volume(&ct)?;
/// let text = clip.embed_text("A cyst in the left kidney.")?;
/// println!("{}", M3dClip::similarity(&ct.embedding, &text.embedding));
/// # Ok::<(), r1seg::Error>(())
/// ```
pub type M3dClip = ModelHandle<M3dClipConfig>;

/// What the model computes with.
#[derive(Debug)]
pub(crate) struct Parts {
    vision_encoder: Vit3d,
    slices: Option<SliceReader>,
    mm_vision_proj: Linear,
    language_encoder: BertModel,
    mm_language_proj: Linear,
    logit_scale: f32,
}

impl Parts {
    /// Takes every tensor from the root of a checkpoint.
    fn new(config: &M3dClipConfig, weights: &Weights) -> candle_core::Result<Self> {
        let (vision, text) = (config.vit.hidden_size, config.text.hidden_size);
        let slices = match &config.slices {
            Some(slices) => Some(SliceReader::new(slices, &weights.pp("slice_encoder"))?),
            None => None,
        };
        Ok(Self {
            slices,
            vision_encoder: Vit3d::new(&config.vit, weights.pp("vision_encoder"))?,
            mm_vision_proj: linear(vision, vision, weights.pp("mm_vision_proj"))?,
            language_encoder: BertModel::new(&config.text, weights.pp("language_encoder"))?,
            mm_language_proj: linear(text, vision, weights.pp("mm_language_proj"))?,
            logit_scale: weights.get((), "logit_scale")?.to_dtype(DType::F32)?.to_scalar()?,
        })
    }
}

impl Loadable for M3dClipConfig {
    const PURPOSE: Purpose = Purpose::Retrieve;

    type Tokenizer = TextTokenizer;
    type Parts = Parts;

    fn reader(reader: ConfigReader) -> Option<ReadConfig<Self>> {
        match reader {
            ConfigReader::Retrieval(read) => Some(read),
            _ => None,
        }
    }

    fn family(&self) -> Family {
        self.family
    }

    fn capabilities(&self) -> Capabilities {
        self.family.capabilities().with_input(self.vit.image_size, self.vit.in_channels)
    }

    fn slices(&self) -> Option<&SliceInputConfig> {
        self.slices.as_ref()
    }

    fn read_tokenizer(&self, source: &CheckpointSource) -> Result<TextTokenizer, Error> {
        source.text_tokenizer()
    }

    fn check_tokenizer(
        &self,
        tokenizer: &TextTokenizer,
        source: &CheckpointSource,
    ) -> Result<(), Error> {
        check_vocabulary(self.text.vocab_size, tokenizer.vocab_size(), source)
    }

    fn build(&self, weights: &Weights, _activation: DType) -> candle_core::Result<Parts> {
        Parts::new(self, weights)
    }

    fn check_parts(parts: &Parts, finite: &FiniteCheck) -> Result<(), Error> {
        finite.numbers(Stage::Score, &[parts.logit_scale])
    }

    fn pass_bytes(&self, _questions: usize) -> u64 {
        memory::to_embed(self)
    }
}

/// A volume as a point.
#[derive(Debug, Clone)]
pub struct VolumeEmbedding {
    /// `[E]`, of length 1.
    pub embedding: Vec<f32>,
    /// What the model's encoder has made of slices of the volume, for a model that reads them.
    pub slice_features: Option<SliceFeatures>,
    /// How the intensities were prepared.
    pub recipe: Recipe,
    /// What a person should know about how the volume was prepared.
    pub warnings: Vec<Warning>,
}

/// A text as a point.
#[derive(Debug, Clone, PartialEq)]
pub struct TextEmbedding {
    /// `[E]`, of length 1.
    pub embedding: Vec<f32>,
    /// Tokens at the end of the text that the encoder has no room for, and that were left out.
    pub dropped_tokens: usize,
}

impl M3dClip {
    /// Numbers of an embedding, `E`.
    pub fn width(&self) -> usize {
        self.inner.config.vit.hidden_size
    }

    /// The checkpoint's `logit_scale`, with which the authors' code multiplies a
    /// [`similarity`](Self::similarity) as it is: it is never exponentiated.
    pub fn logit_scale(&self) -> f32 {
        self.inner.parts.logit_scale
    }

    /// Embeds a volume, prepared and resized to the model's grid.
    ///
    /// # Errors
    /// As [`M3dClip::embed_volume_with`].
    pub fn embed_volume(&self, volume: &Volume) -> Result<VolumeEmbedding, Error> {
        self.embed_volume_with(volume, &EncodeOptions::default(), &mut RunContext::default())
    }

    /// Embeds a volume, prepared as `options` say and resized to the model's grid.
    ///
    /// # Errors
    /// When the volume cannot be prepared ([`Error::Volume`]) or the computation fails;
    /// [`Error::InvalidOption`] for another mode than resize, or a recipe of other models;
    /// [`Error::Cancelled`].
    pub fn embed_volume_with(
        &self,
        volume: &Volume,
        options: &EncodeOptions,
        run: &mut RunContext<'_>,
    ) -> Result<VolumeEmbedding, Error> {
        run.check()?;
        let _span = tracing::info_span!("embed_volume").entered();
        let (setup, prepared) = Setup::prepare(self, volume, options)?;
        let [d, h, w] = setup.grid;
        let voxels = prepared.resize(setup.grid)?;
        let input = Tensor::from_vec(voxels, (1, 1, d, h, w), &Device::Cpu)?;
        let input =
            input.to_device(&self.inner.model.device)?.to_dtype(self.inner.model.activation)?;
        let (parts, finite) = (&self.inner.parts, &self.inner.model.finite);
        let slices = match (&parts.slices, &prepared.slices) {
            (Some(reader), Some(slices)) => {
                Some(reader.features(slices, &input, finite, &mut run.probe(None))?)
            }
            _ => None,
        };
        let tokens = parts.vision_encoder.forward(&input, slices.as_ref(), &mut run.probe(None))?;
        let first = first_token(&tokens)?;
        self.inner.model.finite.tensor(Stage::Encode, &first)?;
        let embedding =
            self.embedding(&first, &self.inner.parts.mm_vision_proj, Stage::EmbedVolume)?;
        Ok(VolumeEmbedding {
            embedding,
            slice_features: slices.as_ref().map(SliceFeatures::of).transpose()?,
            recipe: setup.recipe,
            warnings: setup.warnings,
        })
    }

    /// Embeds a text: a finding, or a whole report. What the encoder has no room for at its end
    /// (512 tokens in the published model) is left out, as in the authors' code, and counted.
    ///
    /// # Errors
    /// As [`M3dClip::embed_text_with`].
    pub fn embed_text(&self, text: &str) -> Result<TextEmbedding, Error> {
        self.embed_text_with(text, &mut RunContext::default())
    }

    /// [`embed_text`](Self::embed_text), which `run` can stop.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] for an empty text, or when the computation fails; [`Error::Cancelled`].
    pub fn embed_text_with(
        &self,
        text: &str,
        run: &mut RunContext<'_>,
    ) -> Result<TextEmbedding, Error> {
        let _span = tracing::info_span!("embed_text").entered();
        let limit = self.inner.config.text.max_position_embeddings;
        let text = text.replace(self.inner.config.dropped, "");
        let (ids, dropped_tokens) = self.inner.tokenizer.encode_truncated(&text, limit)?;
        let states = self.inner.parts.language_encoder.forward(&ids, &mut run.probe(None))?;
        let first = first_token(&states)?;
        let embedding =
            self.embedding(&first, &self.inner.parts.mm_language_proj, Stage::EmbedText)?;
        Ok(TextEmbedding { embedding, dropped_tokens })
    }

    /// The state of the first token, projected and brought to length 1.
    ///
    /// # Shapes
    /// - `first`: `[1, 1, E]`    - returns: `[E]`
    fn embedding(
        &self,
        first: &Tensor,
        projection: &Linear,
        stage: Stage,
    ) -> Result<Vec<f32>, Error> {
        let projected = projection.forward(first)?;
        let mut numbers: Vec<f32> = projected.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        self.inner.model.finite.numbers(stage, &numbers)?;
        let length = numbers.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let length = length.max(NORMALIZE_EPS);
        numbers.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
        Ok(numbers)
    }

    /// The cosine between two embeddings, in -1..1. The authors' logit is this times
    /// [`logit_scale`](Self::logit_scale), which ranks alike where the scale is positive.
    pub fn similarity(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
    }
}

/// The first token's state: `[CLS]` of a text, the class token of a volume. The authors project and
/// normalize every token, and then read the first alone.
///
/// # Shapes
/// - `states`: `[1, L, E]`    - returns: `[1, 1, E]`
fn first_token(states: &Tensor) -> candle_core::Result<Tensor> {
    states.narrow(1, 0, 1)
}
