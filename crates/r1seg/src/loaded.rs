//! What all loaded models have in common.

use std::ops::Deref;
use std::time::Duration;

use candle_core::{DType, Device};
use r1seg_diagnostic::Purpose;
use r1seg_volume::{Orientation, Volume};

use crate::answers::AnswerMemory;
use crate::device::device_name;
use crate::finite::FiniteCheck;
use crate::registry::Family;
use crate::{
    AutomaticModel, Capabilities, EncodeOptions, EncodedVolume, Error, LoadReport, M3dClip,
    ModelName, PromptableModel, R1SegModel, Recipe, RunContext, SliceInputConfig,
};

/// A loaded model of any family: a handle whose clones share the weights.
#[derive(Debug, Clone)]
pub enum Model {
    /// R1Seg-3D, M3D-LaMed and HSENet, which answer questions.
    Language(R1SegModel),
    /// SegVol, R1Seg-3D-SAM, SAM-Med3D and NeuroSAM3D, which segment what a text, points, a box or an
    /// earlier mask say.
    Promptable(PromptableModel),
    /// VISTA3D, which segments classes by their names, and what is pointed at.
    Automatic(AutomaticModel),
    /// M3D-CLIP and HSENet-CLIP, which compare volumes with texts.
    Retrieval(M3dClip),
}

impl Deref for Model {
    type Target = LoadedModel;

    fn deref(&self) -> &LoadedModel {
        match self {
            Self::Language(model) => model,
            Self::Promptable(model) => model,
            Self::Automatic(model) => model,
            Self::Retrieval(model) => model,
        }
    }
}

impl Model {
    /// Encodes a volume once, for any number of prompts.
    ///
    /// # Errors
    /// As [`Model::encode_with`].
    pub fn encode(&self, volume: &Volume) -> Result<EncodedVolume, Error> {
        self.encode_with(volume, &EncodeOptions::default(), &mut RunContext::default())
    }

    /// Encodes a volume once, for any number of prompts, with options.
    ///
    /// # Errors
    /// When the volume cannot be prepared ([`Error::Volume`]) or the computation fails;
    /// [`Error::Cancelled`]; [`Error::OtherFamily`] for a model that takes no prompts.
    pub fn encode_with(
        &self,
        volume: &Volume,
        options: &EncodeOptions,
        run: &mut RunContext<'_>,
    ) -> Result<EncodedVolume, Error> {
        match self {
            Self::Language(model) => model.encode_with(volume, options, run),
            Self::Promptable(model) => model.encode_with(volume, options, run),
            Self::Automatic(model) => model.encode_with(volume, options, run),
            Self::Retrieval(_) => Err(self.takes_no_prompts()),
        }
    }
}

/// What all loaded models have in common; every handle dereferences to it.
#[derive(Debug)]
pub struct LoadedModel {
    pub(crate) name: ModelName,
    pub(crate) family: Family,
    pub(crate) model_type: &'static str,
    pub(crate) num_clicks: usize,
    pub(crate) capabilities: Capabilities,
    pub(crate) device: Device,
    pub(crate) fallback: Option<Error>,
    /// Of activations.
    pub(crate) activation: DType,
    pub(crate) dtype: &'static str,
    pub(crate) report: LoadReport,
    pub(crate) needed: u64,
    pub(crate) time: Duration,
    pub(crate) finite: FiniteCheck,
    pub(crate) answers: AnswerMemory,
    /// Its own; absent where the range of the voxels says it.
    pub(crate) recipe: Option<Recipe>,
    /// What it reads beside the voxels.
    pub(crate) slices: Option<SliceInputConfig>,
    /// The only orientation of its training, if that was one.
    pub(crate) trained_on: Option<Orientation>,
}

impl LoadedModel {
    /// That a model compares volumes with texts, and takes no prompts.
    pub fn takes_no_prompts(&self) -> Error {
        Error::OtherFamily {
            path: self.finite.path(),
            model_type: self.model_type,
            family: self.family,
            purpose: Purpose::Segment,
        }
    }

    /// What the model is called.
    pub fn name(&self) -> &ModelName {
        &self.name
    }

    /// Which of the models it is.
    pub fn family(&self) -> Family {
        self.family
    }

    /// `model_type` of its config.json.
    pub fn model_type(&self) -> &'static str {
        self.model_type
    }

    /// Passes of the mask decoder after the first.
    pub fn num_clicks(&self) -> usize {
        self.num_clicks
    }

    /// What it takes and gives back.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The slices that it reads beside the voxels, if it does.
    pub fn slices(&self) -> Option<&SliceInputConfig> {
        self.slices.as_ref()
    }

    /// Voxels of one pass of the vision encoder, `[D, H, W]`.
    pub fn input_shape(&self) -> [usize; 3] {
        self.capabilities.input_shape
    }

    /// What loading did with every tensor of the checkpoint.
    pub fn load_report(&self) -> &LoadReport {
        &self.report
    }

    /// Bytes of main memory that the model takes on a CPU, its weights and the largest pass of its networks,
    /// as estimated before the weights were read.
    pub fn memory_bytes(&self) -> u64 {
        self.needed
    }

    /// Time from opening the checkpoint to a usable model.
    pub fn load_time(&self) -> Duration {
        self.time
    }

    /// Where it computes, such as `cpu` or `cuda:0`.
    pub fn device_name(&self) -> String {
        device_name(&self.device)
    }

    /// The instruction set that the kernels of the CPU use, as [`cpu_kernels`](crate::cpu_kernels) names it, which
    /// times and the last bits of results depend on. `None` on a GPU.
    pub fn cpu_kernels(&self) -> Option<&'static str> {
        self.device.is_cpu().then(crate::cpu_kernels)
    }

    /// Why it computes on the CPU, where [`DeviceChoice::Auto`](crate::DeviceChoice::Auto) found no
    /// GPU that it can use; never in a build without CUDA.
    pub fn device_fallback(&self) -> Option<&Error> {
        self.fallback.as_ref()
    }

    /// The dtype in which the weights are kept, such as `bf16`.
    pub fn dtype_name(&self) -> &'static str {
        self.dtype
    }
}
