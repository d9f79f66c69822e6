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

use candle_core::DType;
use r1seg_diagnostic::Purpose;
use r1seg_mask_decoder::PointHeadConfig;
use r1seg_nn::Weights;
use r1seg_volume::sliding::windows;
use r1seg_volume::{Geometry, Orientation, Padding};

use crate::handle::ModelHandle;
use crate::load::Loadable;
use crate::registry::{ConfigReader, Family, ReadConfig};
use crate::{Capabilities, CheckpointSource, Error, Prompt, PromptKind, Recipe};

pub use classes::{Class, ClassStatus, ClassTable, Scan};
pub use config::AutomaticConfig;
pub(crate) use config::{VISTA3D, VISTA3D_CTMR, read_config};
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
pub type AutomaticModel = ModelHandle<AutomaticConfig>;

impl Loadable for AutomaticConfig {
    const PURPOSE: Purpose = Purpose::Segment;

    /// It reads names of classes, and no text.
    type Tokenizer = ();
    type Parts = Parts;

    fn reader(reader: ConfigReader) -> Option<ReadConfig<Self>> {
        match reader {
            ConfigReader::Automatic(read) => Some(read),
            _ => None,
        }
    }

    fn family(&self) -> Family {
        self.family
    }

    fn capabilities(&self) -> Capabilities {
        let known = self.family.capabilities().with_input(self.patch_size, 1);
        let prompts = if self.takes_points { known.prompts } else { &[PromptKind::Text] };
        Capabilities { classes: Some(self.classes), prompts, ..known }
    }

    fn recipe(&self) -> Option<Recipe> {
        Some(self.recipe)
    }

    fn trained_on(&self) -> Option<Orientation> {
        Some(Orientation::RAS)
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

    /// A CPU keeps kernels in f32, whatever they are stored as.
    fn weight_bytes(&self, weights: u64) -> u64 {
        weights.max(self.network.kernel_bytes())
    }

    fn pass_bytes(&self, _questions: usize) -> u64 {
        let points = self.network.feature_bytes(self.patch_size).saturating_mul(2);
        let head = self.point_head().working_bytes(self.patch_size, 1);
        let points = if self.takes_points { points.saturating_add(head) } else { 0 };
        self.network.working_bytes(self.patch_size).max(points)
    }
}

impl AutomaticConfig {
    fn point_head(&self) -> PointHeadConfig {
        PointHeadConfig {
            feature_size: self.network.feature_size,
            last_supported: usize::from(self.last_supported),
        }
    }

    /// Bytes for stitching windows over a volume, beside the model and what a window needs: sums of features
    /// of as many planes as a window has, over the whole cross-section, and the value and the class of each
    /// voxel. Each of `apart` classes that keep the voxels that they share takes a bit per voxel.
    pub fn stitching_bytes(&self, geometry: &Geometry, apart: usize) -> u64 {
        self.stitching(geometry, apart).of_windows()
    }

    /// Bytes that are left of [`stitching_bytes`](Self::stitching_bytes) while masks are made: without the
    /// sums of features, unless the volume is small enough to keep them for further classes.
    pub fn stitched_bytes(&self, geometry: &Geometry, apart: usize) -> u64 {
        self.stitching(geometry, apart).afterwards()
    }

    fn stitching(&self, geometry: &Geometry, apart: usize) -> stitch::Bytes {
        // Which axis is the longest depends on how the volume is turned.
        let patch = [self.patch_size.into_iter().fold(0, usize::max); 3];
        stitch::Bytes::new(self.network.feature_size, self.uncropped(geometry), patch, apart)
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

impl AutomaticModel {
    /// Whether a prompt is of a kind that the model takes, and its text the name of a class, which can be
    /// checked before a volume is read.
    ///
    /// # Errors
    /// [`Error::Prompt`], with the classes that may be meant.
    pub fn check(&self, prompt: &Prompt) -> Result<(), Error> {
        prompt::check(prompt, &self.inner.config)
    }
}
