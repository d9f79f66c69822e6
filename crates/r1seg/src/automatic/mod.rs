//! VISTA3D (NV-Segment-CT): classes by their names, clicks, or both, in windows at 1.5 mm.
//!
//! Port of `monai.networks.nets.vista3d`, `monai.apps.vista3d.inferer` (MONAI 1.4.0) and of the bundle's
//! transforms (NVIDIA-Medtech/NV-Segment-CTMR @c46f994). Keys: `image_encoder`, `class_head`, `point_head`.
//!
//! `stitch.rs` scores classes in windows over the whole volume, whose features are averaged before they
//! are scored; `clicks.rs` looks at a window around each point; `rules/` has what both do with logits
//! alone, and `classes/` the names.

pub(crate) mod classes;
mod clicks;
mod config;
mod encoded;
mod network;
mod prompt;
mod rules;
mod stitch;

use std::ops::Deref;
use std::sync::Arc;

use candle_core::DType;
use r1seg_diagnostic::Purpose;
use r1seg_mask_decoder::PointHeadConfig;
use r1seg_nn::Weights;
use r1seg_volume::sliding::windows;
use r1seg_volume::{Geometry, Padding, Volume};

use crate::load::{Loadable, Loaded, Loader};
use crate::registry::{ConfigReader, Family};
use crate::{
    Capabilities, CheckpointSource, EncodeOptions, EncodedVolume, Error, LoadOptions, LoadedModel,
    ModelSource, Prompt, PromptKind, RunContext,
};

pub use classes::{Class, ClassStatus, ClassTable, Scan};
pub use config::AutomaticConfig;
pub(crate) use config::{VISTA3D, VISTA3D_CTMR, read_config};
pub(crate) use encoded::AutomaticVolume;
use network::Parts;
pub(crate) use prompt::check_kinds;

/// A loaded VISTA3D: a handle whose clones share the weights.
///
/// ```no_run
/// use r1seg::volume::{Overwrite, ReadOptions, read, write_mask};
/// use r1seg::AutomaticModel;
///
/// let model = AutomaticModel::load("NV-Segment-CT-converted")?;
/// let ct = read("ct.nii.gz", &ReadOptions::default())?.volume;
/// let encoded = model.encode(&ct)?;
/// if let Some(liver) = encoded.segment("liver")?.mask {
///     write_mask("liver.nii.gz", &liver, Overwrite::Refuse)?;
/// }
/// # Ok::<(), r1seg::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct AutomaticModel {
    inner: Arc<Loaded<AutomaticConfig>>,
}

impl Loadable for AutomaticConfig {
    /// It reads names of classes, and no text.
    type Tokenizer = ();
    type Parts = Parts;

    fn family(&self) -> Family {
        self.family
    }

    fn capabilities(&self) -> Capabilities {
        let known = self.family.capabilities().with_input(self.patch_size, 1);
        let prompts = if self.takes_points { known.prompts } else { &[PromptKind::Text] };
        Capabilities { classes: Some(self.classes), prompts, ..known }
    }

    fn read_tokenizer(&self, _source: &CheckpointSource) -> Result<(), Error> {
        Ok(())
    }

    fn check_tokenizer(&self, _tokenizer: &(), _source: &CheckpointSource) -> Result<(), Error> {
        Ok(())
    }

    fn build(&self, weights: &Weights, _activation: DType) -> candle_core::Result<Parts> {
        Parts::new(self, weights)
    }

    fn needed(&self, weights: u64, _questions: usize) -> u64 {
        // A CPU keeps kernels in f32; on a GPU weights are reckoned apart.
        let weights = if weights == 0 { 0 } else { weights.max(self.network.kernel_bytes()) };
        let points = self.network.feature_bytes(self.patch_size).saturating_mul(2);
        let head = self.point_head().working_bytes(self.patch_size, 1);
        let points = if self.takes_points { points.saturating_add(head) } else { 0 };
        let pass = self.network.working_bytes(self.patch_size).max(points);
        weights.saturating_add(pass)
    }
}

impl AutomaticConfig {
    fn point_head(&self) -> PointHeadConfig {
        PointHeadConfig {
            feature_size: self.network.feature_size,
            last_supported: usize::from(self.last_supported),
        }
    }

    /// Bytes for what windows over a volume are stitched in, beside the model and what a window needs: the
    /// features of as many planes as a window has, over the whole cross-section, and a class for each
    /// voxel.
    ///
    /// So many classes keep the voxels that they share, in a bit for each.
    pub fn stitching_bytes(&self, geometry: &Geometry, apart: usize) -> u64 {
        // Which axis is the longest depends on how the volume is turned.
        let patch = [self.patch_size.into_iter().fold(0, usize::max); 3];
        stitch::bytes(self.network.feature_size, self.uncropped(geometry), patch, apart)
    }

    /// The windows over a volume of which nothing is cropped away.
    pub fn most_windows(&self, geometry: &Geometry) -> usize {
        let shape = Padding::to_at_least(self.uncropped(geometry), self.patch_size).shape;
        windows(shape, self.patch_size, self.overlap).map_or(0, |windows| windows.len())
    }

    /// A volume in voxels of 1.5 mm, its axes as the model sees them in a volume that is stored as most are.
    fn uncropped(&self, geometry: &Geometry) -> [usize; 3] {
        let (stored, mm) = (geometry.shape(), geometry.spacing_mm().unwrap_or([1.5; 3]));
        // The model's axes are x, y, z, and stored ones z, y, x.
        std::array::from_fn(|n| (stored[2 - n] as f64 * mm[2 - n] / 1.5).ceil().max(1.0) as usize)
    }
}

impl Deref for AutomaticModel {
    type Target = LoadedModel;

    fn deref(&self) -> &LoadedModel {
        &self.inner.model
    }
}

impl AutomaticModel {
    /// Loads a model with automatic device and dtype: a checkpoint folder, or the name of a
    /// downloaded model ([`ModelSource`]).
    ///
    /// # Errors
    /// As [`AutomaticModel::load_with`].
    pub fn load(source: impl Into<ModelSource>) -> Result<Self, Error> {
        Self::load_with(source, &LoadOptions::default())
    }

    /// Loads a model with chosen device, dtype and limits.
    ///
    /// # Errors
    /// As [`load`](crate::load()), and [`Error::OtherFamily`] for models without classes.
    pub fn load_with(source: impl Into<ModelSource>, options: &LoadOptions) -> Result<Self, Error> {
        let loader = Loader::new(source, options)?;
        match loader.file.entry.reader {
            ConfigReader::Automatic(read) => Ok(Self::new(loader.load(read)?)),
            _ => Err(loader.file.other_family(Purpose::Segment)),
        }
    }

    pub(crate) fn new(loaded: Loaded<AutomaticConfig>) -> Self {
        Self { inner: Arc::new(loaded) }
    }

    /// What the checkpoint's `config.json` decided.
    pub fn config(&self) -> &AutomaticConfig {
        &self.inner.config
    }

    /// Whether a prompt is of a kind that the model takes, and its text the name of a class, which can be
    /// checked before a volume is read.
    ///
    /// # Errors
    /// [`Error::Prompt`], with the classes that may be meant.
    pub fn check(&self, prompt: &Prompt) -> Result<(), Error> {
        prompt::check(prompt, &self.inner.config)
    }

    /// Prepares a volume for any number of prompts.
    ///
    /// # Errors
    /// As [`AutomaticModel::encode_with`].
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
        Ok(AutomaticVolume::new(self.clone(), volume, options)?.into())
    }
}
