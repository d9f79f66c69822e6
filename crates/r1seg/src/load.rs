//! Loading a model of any family: find it, read its configuration, check memory, compare what the
//! model asks for with what there is, and only then build.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Instant;

use candle_core::{DType, Device};
use r1seg_diagnostic::Purpose;
use r1seg_nn::Weights;
use r1seg_volume::Orientation;

use crate::answers::AnswerMemory;
#[cfg(feature = "cuda")]
use crate::checkpoint::Uploads;
use crate::checkpoint::keys::KeyMap;
use crate::checkpoint::{Found, LoadReport, ModelWeights, WeightFiles, dominant_format, dry_load};
use crate::config::{ConfigFile, check_num_clicks};
use crate::device::Opened;
use crate::finite::FiniteCheck;
use crate::handle::ModelHandle;
use crate::options::Dtypes;
use crate::registry::{ConfigReader, Family, ReadConfig};
use crate::source::FoundModel;
use crate::verify::verify;
use crate::{
    CancelToken, Capabilities, CheckpointSource, DtypeChoice, Error, LoadOptions, LoadedModel,
    Model, ModelName, ModelSource, Recipe, SliceInputConfig,
};

/// Loads a model of any family.
///
/// ```
/// use r1seg::{LoadOptions, Model, PromptKind};
///
/// let model = r1seg::load("demo", &LoadOptions::default())?;
/// assert!(model.capabilities().takes(PromptKind::Question));
/// if let Model::Language(model) = model {
///     println!("{} on {}", model.name().id, model.device_name());
/// }
/// # Ok::<(), r1seg::Error>(())
/// ```
///
/// # Errors
/// Where the model is not found ([`ModelSource::find`]); of kind
/// [`Model`](crate::ErrorKind::Model) when a file is broken, unknown or does not fit another
/// ([`Error::Weights`] names every tensor at fault); of kind [`Device`](crate::ErrorKind::Device)
/// when the device is not there or cannot run this build; [`Error::InvalidOption`] for refinement
/// passes that the model cannot make; [`Error::NotEnoughMemory`] beyond the limit that was set; and
/// what [`LoadOptions::verify`] finds.
pub fn load(source: impl Into<ModelSource>, options: &LoadOptions) -> Result<Model, Error> {
    let loader = Loader::new(source, options)?;
    Ok(match loader.file.entry.reader {
        ConfigReader::Language(_) => Model::Language(loader.load()?),
        ConfigReader::Promptable(_) => Model::Promptable(loader.load()?),
        ConfigReader::Automatic(_) => Model::Automatic(loader.load()?),
        ConfigReader::Retrieval(_) => Model::Retrieval(loader.load()?),
    })
}

/// The configuration of a model that can be loaded.
pub(crate) trait Loadable: Debug + Sized + Send + Sync {
    /// What such models serve for, which another one is refused for.
    const PURPOSE: Purpose;

    /// Its tokenizer.
    type Tokenizer: Debug + Send + Sync;
    /// What it computes with.
    type Parts: Debug + Send + Sync;

    /// Its own of the readers, where a row of the registry has that one.
    fn reader(reader: ConfigReader) -> Option<ReadConfig<Self>>;

    fn family(&self) -> Family;

    /// What the checkpoint takes and gives back.
    fn capabilities(&self) -> Capabilities;

    /// Where the checkpoint keeps its parts.
    fn keys(&self) -> &'static KeyMap {
        self.family().entry().keys
    }

    /// Of the language model, which says how GGUF files order their rows.
    fn head_dim(&self) -> usize {
        0
    }

    /// Passes of the mask decoder after the first.
    fn num_clicks(&self) -> usize {
        0
    }

    /// Sets the passes of the mask decoder after the first, if it can take its own mask.
    fn set_num_clicks(&mut self, _num_clicks: usize) {}

    /// The slices that it reads beside a volume, if it does.
    fn slices(&self) -> Option<&SliceInputConfig> {
        None
    }

    /// How it wants volumes prepared; `None` where the range of the voxels says it.
    fn recipe(&self) -> Option<Recipe> {
        self.family().entry().recipes.first().copied()
    }

    /// The only orientation that it was trained on, if that was one.
    fn trained_on(&self) -> Option<Orientation> {
        None
    }

    /// Takes over what only the tensors tell.
    fn adapt(&mut self, _found: &BTreeMap<String, Found>) {}

    fn read_tokenizer(&self, source: &CheckpointSource) -> Result<Self::Tokenizer, Error>;

    /// Checks that the tokenizer is this model's.
    fn check_tokenizer(
        &self,
        tokenizer: &Self::Tokenizer,
        source: &CheckpointSource,
    ) -> Result<(), Error>;

    /// Takes every tensor from the root of a checkpoint; activations have the dtype `activation`.
    fn build(&self, weights: &Weights, activation: DType) -> candle_core::Result<Self::Parts>;

    /// Looks at numbers that were taken out of their tensors.
    fn check_parts(_parts: &Self::Parts, _finite: &FiniteCheck) -> Result<(), Error> {
        Ok(())
    }

    /// Bytes that weights of `weights` bytes take on a CPU.
    fn weight_bytes(&self, weights: u64) -> u64 {
        weights
    }

    /// Bytes for a pass of the networks in f32, with this many questions at once.
    fn pass_bytes(&self, questions: usize) -> u64;

    /// Compares what the model asks for with what there is.
    fn dry_load(
        &self,
        found: &BTreeMap<String, Found>,
        source: &CheckpointSource,
    ) -> Result<LoadReport, Error> {
        let build = |weights: &Weights| self.build(weights, DType::F32).map(drop);
        dry_load(&build, &|name| self.keys().never_used(name), found, source)
    }
}

/// A model with its configuration and tokenizer.
#[derive(Debug)]
pub(crate) struct Loaded<C: Loadable> {
    pub(crate) config: C,
    pub(crate) tokenizer: C::Tokenizer,
    pub(crate) parts: C::Parts,
    pub(crate) model: LoadedModel,
}

/// A checkpoint of a known family, about to be loaded.
pub(crate) struct Loader<'a> {
    file: ConfigFile,
    name: ModelName,
    options: &'a LoadOptions,
    start: Instant,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(
        source: impl Into<ModelSource>,
        options: &'a LoadOptions,
    ) -> Result<Self, Error> {
        let start = Instant::now();
        let FoundModel { checkpoint, name } = source.into().find()?;
        Ok(Self { file: ConfigFile::read(&checkpoint)?, name, options, start })
    }

    /// # Errors
    /// [`Error::OtherFamily`] where the configuration is of another kind.
    pub(crate) fn load<C: Loadable>(self) -> Result<ModelHandle<C>, Error> {
        let _span = tracing::info_span!("load").entered();
        let Self { file, name, options, start } = self;
        let mut config = file.read_as::<C>()?;
        let source = &file.source;
        let Opened { device, fallback } = options.device.open()?;
        if let Some(num_clicks) = options.num_clicks {
            check_refinement(config.family(), num_clicks)?;
            config.set_num_clicks(num_clicks);
        }
        if options.verify {
            verify(source, &name, &options.cancel)?;
        } else {
            source.check_manifest()?;
        }
        let tokenizer = config.read_tokenizer(source)?;
        let files = Arc::new(source.open_weights(options.mmap, config.head_dim())?);
        let found = files.found();
        config.adapt(&found);
        config.check_tokenizer(&tokenizer, source)?;

        let stored = dominant_format(&files);
        let keep = options.dtype == DtypeChoice::Auto && device.is_cpu();
        let quantized = stored.is_some_and(|stored| !stored.is_plain());
        let Dtypes { weights: dtype, activation } =
            Dtypes::new(options.dtype, options.compute, device.is_cpu());
        let (device_of, cancel) = (device.clone(), options.cancel.clone());
        let weights = Files { files, found, keep, dtype, device: device_of, cancel };
        let needed = weights.needed(&config, options.questions);
        if let Some(limit) = options.memory_limit.filter(|limit| device.is_cpu() && *limit < needed)
        {
            return Err(Error::NotEnoughMemory { path: source.path(), needed, limit });
        }
        // Before a tensor is read: what is missing is not made up, in whatever size.
        let report = config.dry_load(&weights.found, source)?;
        if !report.is_clean() {
            let (path, report) = (source.path(), Box::new(report));
            return Err(Error::Weights { path, report });
        }
        let parts = config.build(&weights.open(), activation)?;
        let dtype = match stored {
            Some(stored) if keep || quantized => stored.name(),
            _ => dtype.as_str(),
        };
        let computed = if activation == DType::F32 { dtype } else { activation.as_str() };
        let model = LoadedModel {
            answers: AnswerMemory::new(&options.drafts, &name, source),
            name,
            family: config.family(),
            model_type: file.model_type.name,
            num_clicks: config.num_clicks(),
            capabilities: config.capabilities(),
            device,
            fallback,
            activation,
            dtype,
            report,
            needed,
            time: start.elapsed(),
            finite: FiniteCheck::new(source, computed),
            recipe: config.recipe(),
            slices: config.slices().cloned(),
            trained_on: config.trained_on().or(source.trained_on()),
        };
        C::check_parts(&parts, &model.finite)?;
        Ok(ModelHandle { inner: Arc::new(Loaded { config, tokenizer, parts, model }) })
    }
}

/// The weights of a checkpoint, and how they are kept.
struct Files {
    files: Arc<WeightFiles>,
    found: BTreeMap<String, Found>,
    /// Whether a CPU uses the weights in the dtypes in which they are stored.
    keep: bool,
    /// What they are converted to otherwise.
    dtype: DType,
    device: Device,
    /// Stops between two tensors.
    cancel: CancelToken,
}

impl Files {
    /// Bytes of main memory that the model takes on a CPU.
    fn needed(&self, config: &impl Loadable, questions: usize) -> u64 {
        let kept = |tensor: &Found| match self.keep {
            true => tensor.bytes,
            false => tensor.bytes_as(self.dtype.size_in_bytes() as u64),
        };
        let used = self.found.iter().filter(|(name, _)| !config.keys().never_used(name));
        let weights = used.map(|(_, tensor)| kept(tensor)).fold(0, u64::saturating_add);
        config.weight_bytes(weights).saturating_add(config.pass_bytes(questions))
    }

    fn open(&self) -> Weights {
        let weights = ModelWeights {
            files: self.files.clone(),
            keep: self.keep,
            cancel: self.cancel.clone(),
            #[cfg(feature = "cuda")]
            uploads: Uploads::default(),
        };
        Weights::new(Arc::new(weights), self.dtype, self.device.clone())
    }
}

/// # Errors
/// [`Error::InvalidOption`] for more passes than any model has use for, and for any where the mask
/// decoder cannot take its own mask.
fn check_refinement(family: Family, num_clicks: usize) -> Result<(), Error> {
    let wrong = |message: String| Error::InvalidOption { what: "num_clicks", message };
    check_num_clicks(num_clicks).map_err(wrong)?;
    if num_clicks > 0 && !family.capabilities().refines_masks {
        let name = family.name();
        return Err(wrong(format!("{name} has nothing to refine masks with, expected 0")));
    }
    Ok(())
}

/// `text_config` has a row for every token of the tokenizer.
///
/// # Errors
/// [`Error::Config`] with both numbers.
pub(crate) fn check_vocabulary(
    rows: usize,
    tokens: usize,
    source: &CheckpointSource,
) -> Result<(), Error> {
    if tokens <= rows {
        return Ok(());
    }
    let message =
        format!("text_config.vocab_size is {rows}, but the tokenizer has {tokens} tokens");
    Err(Error::Config { path: source.path(), message })
}
