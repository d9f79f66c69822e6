use std::borrow::Cow;
use std::path::PathBuf;

/// What to do about an error or a warning.
///
/// A variant names an action and carries what it needs. It is not `#[non_exhaustive]`: whoever words
/// remedies matches all of them, and the compiler finds a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// Advice that is the same wherever it is read, such as "export the series again".
    Advice(Cow<'static, str>),

    /// The input is a pipe or a device: copy it to a file, or stream it as standard input.
    CopyToFile,
    /// Choose one of `frames` volumes of a file, counted from 0.
    ChooseFrame {
        /// How many volumes there are.
        frames: u64,
    },
    /// Choose one volume along the first axis of an array.
    ChooseAlongFirstAxis,
    /// Choose no frame: there is one volume at most.
    OmitFrame,
    /// Choose one array of an archive by its name.
    ChooseArray,
    /// State the order of an array's axes.
    StateAxes,
    /// Choose one series of a DICOM folder, by its number or its id.
    ChooseSeries,
    /// Allow an image that is not known to be a CT.
    AllowModality,
    /// Find the missing slices, or allow interpolation between those that are there.
    FillGaps,
    /// Copy the broken slice again; allowed gaps would interpolate over it.
    ReplaceSlice,
    /// The file has no geometry: give the spacing, or a volume to take the geometry from.
    GiveGeometry,
    /// The file's own geometry is unusable: give the true one instead.
    CorrectGeometry,
    /// Give a spacing or a volume to take the geometry from, and not both.
    GiveOneGeometry,
    /// Give no spacing: the file has one of its own.
    OmitSpacing,
    /// The orientation is unknown: take the geometry of another volume, or do not reorient.
    GiveOrientation,
    /// Have the volume reoriented to LPS for the model.
    OrientToLps,
    /// Write no preview picture, which may show a patient's name.
    OmitPreview,
    /// Show the shape and position of the volume, and what the model reads of it.
    InspectVolume,
    /// Let the intensities be scaled as the model's recipe does.
    UseRecipe,

    /// Let further crops follow a mask that one crop cuts off.
    GrowBeyondCrop,

    /// Ask something.
    AskQuestion,

    /// Convert a checkpoint that holds pickles, then use the converted folder.
    ConvertFirst {
        /// The checkpoint or one of its files.
        path: PathBuf,
    },
    /// The file is a language model alone: convert it together with the checkpoint it belongs to.
    ConvertWithCheckpoint {
        /// The language model, where it is to be named.
        language_model: Option<PathBuf>,
    },
    /// Name the folder of the base model that LoRA updates belong to.
    GiveBaseModel,
    /// Name the folders of the other parts that a model is published in.
    GiveParts,
    /// Convert the original checkpoint instead of one that is quantized already, or name its language
    /// model.
    ConvertOriginal,
    /// Write to another folder, or allow that this one is replaced.
    ReplaceFolder,
    /// Write to another file, or allow that this one is replaced.
    ReplaceFile,
    /// Write the results to another folder, or allow that its files are replaced.
    ReplaceResults,
    /// Choose the folder of the results, instead of the one that is named after the image.
    ChooseResultFolder,
    /// Give each result a file of its own.
    NameResultsApart,
    /// Choose another place for the results: inputs and models are never replaced.
    KeepInputs,
    /// The masks overlap: write a file for each of them.
    WriteMasksApart,
    /// Look up the supported models.
    ListModels,
    /// The model serves another purpose than it was loaded for.
    UseModelFor {
        /// The model's name.
        model: &'static str,
        /// What it serves for.
        purpose: Purpose,
    },
    /// Download a model.
    Download {
        /// Its name.
        model: String,
    },
    /// Leave offline mode and download a model, or copy the cache from another machine.
    DownloadOnline {
        /// Its name.
        model: String,
    },
    /// Copy, download or convert the checkpoint again, and check its tensors.
    CheckTensors,
    /// The model knows only synthetic phantoms: use one that was trained on volumes of people.
    UseTrainedModel,

    /// Ask in other words.
    Rephrase {
        /// Questions that are like those of the model's training.
        questions: Vec<String>,
        /// How they are meant.
        how: Rephrasing,
    },
    /// Allow a longer answer.
    AllowLongerAnswer {
        /// Or ask in other words.
        rephrase: Option<Box<Remedy>>,
    },
    /// Make a mask of a `[SEG]` that begins an answer, too.
    UseLeadingSeg,

    /// Compute on the CPU, or let the device be chosen.
    UseCpu,
    /// Compute on the CPU, or build r1seg for the GPU.
    BuildForGpu {
        /// The GPU's compute capability without a dot, such as `80`.
        capability: String,
    },
    /// Update the driver of the GPU, or compute on the CPU.
    UpdateDriver {
        /// The first driver that serves, where it is known.
        driver: Option<u32>,
    },
    /// Raise the memory limit of the process, in which mapped weights count, or of its container.
    RaiseMemoryLimit,
    /// The model does not fit into memory: free some, or use a smaller number format or a GPU.
    FreeMemory,
    /// Memory ended during a computation: use a smaller number format, model or another device.
    ReduceMemory,
    /// A computation left the range of its number format: use another one.
    ChangeFormat {
        /// The number format that it left: `f16`, `bf16` or `f32`.
        format: &'static str,
        /// Whether intensities far outside of 0 to 1 are another possible cause.
        check_intensities: bool,
    },
}

/// What questions to ask instead are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rephrasing {
    /// Examples of how the model was trained, about something else.
    Example,
    /// About the same, which was asked as the model was trained already: it may see none.
    Trained,
    /// About the same.
    Same,
}

impl Rephrasing {
    /// What to do, with the questions as the program writes them.
    #[must_use]
    pub fn words(self, questions: &[String]) -> String {
        let questions = questions.join(" or ");
        match self {
            Self::Example => format!("ask as the model was trained, for example {questions}"),
            Self::Trained => format!("try {questions}; the model may also see none"),
            Self::Same => format!("try {questions}"),
        }
    }
}

/// What a model serves for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Answering questions about a volume.
    Answer,
    /// Segmenting what a text, points or a box name.
    Segment,
    /// Comparing volumes with texts.
    Retrieve,
}

impl From<&'static str> for Remedy {
    fn from(advice: &'static str) -> Self {
        Self::Advice(Cow::Borrowed(advice))
    }
}

impl From<String> for Remedy {
    fn from(advice: String) -> Self {
        Self::Advice(Cow::Owned(advice))
    }
}
