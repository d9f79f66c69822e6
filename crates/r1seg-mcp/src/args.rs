//! What the tools take. Comments here are the descriptions that agents read.

use r1seg::volume::{ArrayAxes, ReadOptions};
use r1seg::{Capabilities, InferenceMode, PromptKind};
use schemars::JsonSchema;
use serde::Deserialize;

/// Arguments of `list_models`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListModels {}

/// Arguments of `inspect_volume`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InspectVolume {
    /// The volume.
    pub volume: String,
    /// How to read it, where the file does not say all or holds several volumes.
    #[serde(default)]
    pub read: Option<Read>,
}

/// Arguments of `ask_volume`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AskVolume {
    /// The volume.
    pub volume: String,
    /// Questions in plain words, asked one by one exactly as given. Whole sentences, as the model was
    /// trained with: "Can you segment the liver in this image?" gets a mask where "liver" may get nothing.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub questions: Option<Vec<String>>,
    /// Names of organs, in English, German, French, Spanish, Chinese, Japanese or Korean, each asked for
    /// in the model's own sentence.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub organs: Option<Vec<String>>,
    /// The id of a model of list_models; without it the first that answers questions.
    #[serde(default)]
    pub model: Option<String>,
    /// The part that the questions are about: its first and its last voxel, [[i, j, k], [i, j, k]]. Only
    /// for models that take boxes.
    #[serde(default)]
    pub r#box: Option<[[usize; 3]; 2]>,
    /// How the model looks at the volume; by default at all of it at once.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// The longest answer, in tokens; 256 by default.
    #[serde(default)]
    #[schemars(range(min = 1, max = 4096))]
    pub max_new_tokens: Option<usize>,
    /// Whether an answer that begins with `[SEG]` yields a mask, too; the authors' code ignores it there.
    #[serde(default)]
    pub first_seg: bool,
    /// Axis codes, such as "LPS", of the orientation in which the model sees the volume; by default as it
    /// is stored. Masks and voxels stay on the stored grid.
    #[serde(default)]
    pub orient: Option<String>,
    /// How to read the volume, where the file does not say all or holds several.
    #[serde(default)]
    pub read: Option<Read>,
}

/// Arguments of `segment_volume`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SegmentVolume {
    /// The volume.
    pub volume: String,
    /// What to segment: target K becomes label K.
    #[schemars(length(min = 1, max = 64))]
    pub targets: Vec<Target>,
    /// The id of a model of list_models; without it the first that takes these targets.
    #[serde(default)]
    pub model: Option<String>,
    /// How the model looks at the volume; by default as its authors do.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// Axis codes, such as "LPS", of the orientation in which the model sees the volume; by default as its
    /// authors do. Masks and voxels stay on the stored grid.
    #[serde(default)]
    pub orient: Option<String>,
    /// How to read the volume, where the file does not say all or holds several.
    #[serde(default)]
    pub read: Option<Read>,
}

/// Something to segment. Which of the fields a model takes, alone or together, list_models says.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// What the label is called; by default the text, the organ, or what kind of prompt it is.
    #[serde(default)]
    pub name: Option<String>,
    /// What to segment, as the model wants it: for SegVol "liver", for R1Seg-3D-SAM "A computerized
    /// tomography of a liver.".
    #[serde(default)]
    pub text: Option<String>,
    /// The name of an organ, in one of seven languages, written as the model wants it.
    #[serde(default)]
    pub organ: Option<String>,
    /// Points in what is sought, or beside it, in the order in which they were clicked.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub points: Option<Vec<Point>>,
    /// A box around it: its first and its last voxel, [[i, j, k], [i, j, k]].
    #[serde(default)]
    pub r#box: Option<[[usize; 3]; 2]>,
    /// An earlier mask of the same volume that is to be corrected.
    #[serde(default)]
    pub mask: Option<EarlierMask>,
}

/// A point.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// The voxel [i, j, k], from 0.
    pub voxel: [usize; 3],
    /// Whether it is a part of what is sought; true by default.
    #[serde(default = "yes")]
    pub positive: bool,
}

/// An earlier mask.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EarlierMask {
    /// Where it is.
    pub file: String,
    /// Which label of it; by default all as one.
    #[serde(default)]
    pub label: Option<u16>,
}

/// How to read a volume.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Read {
    /// Which DICOM series of a folder: its number, or at least 4 characters from the start of its id, as
    /// inspect_volume lists them.
    #[serde(default)]
    pub series: Option<SeriesChoice>,
    /// Which 3D volume of a 4D file, from 0.
    #[serde(default)]
    pub frame: Option<usize>,
    /// Which array of an .npz file.
    #[serde(default)]
    pub key: Option<String>,
    /// The order of the axes of a numpy array.
    #[serde(default)]
    pub axes: Option<Axes>,
    /// Distances of voxels in mm along i, j and k, for a file that does not say them.
    #[serde(default)]
    pub spacing_mm: Option<[f64; 3]>,
    /// Reads a DICOM series with missing or uneven slices, resampled to even distances.
    #[serde(default)]
    pub allow_gaps: bool,
    /// Reads DICOM that is not CT.
    #[serde(default)]
    pub allow_modality: bool,
}

/// A series by its number or its id.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SeriesChoice {
    /// The number.
    Number(u32),
    /// The start of the id.
    Id(String),
}

/// The order of the axes of a numpy array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Axes {
    /// Slices first, as SimpleITK gives it.
    Zyx,
    /// Slices last, as nibabel gives it.
    Xyz,
}

/// How a model looks at a volume. Which of these it knows, list_models says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// All of it at once, in the model's own size.
    Resize,
    /// In windows at full resolution.
    Sliding,
    /// All of it at once, then in windows where that found something.
    Zoom,
    /// The part around what is prompted.
    Crop,
    /// That part, and further ones wherever the mask touches its edge.
    Grow,
}

fn yes() -> bool {
    true
}

impl From<Mode> for InferenceMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Resize => Self::Resize,
            Mode::Sliding => Self::Sliding,
            Mode::Zoom => Self::Zoom,
            Mode::Crop => Self::Crop,
            Mode::Grow => Self::Grow,
        }
    }
}

impl Read {
    /// The same options with what was chosen here.
    pub fn options(&self, mut options: ReadOptions) -> ReadOptions {
        if let Some(series) = &self.series {
            options = options.with_series(match series {
                SeriesChoice::Number(number) => number.to_string(),
                SeriesChoice::Id(id) => id.clone(),
            });
        }
        if let Some(frame) = self.frame {
            options = options.with_frame(frame);
        }
        if let Some(key) = &self.key {
            options = options.with_key(key);
        }
        if let Some(axes) = self.axes {
            options = options.with_axes(match axes {
                Axes::Zyx => ArrayAxes::Zyx,
                Axes::Xyz => ArrayAxes::Xyz,
            });
        }
        if let Some([i, j, k]) = self.spacing_mm {
            options = options.with_spacing_mm([k, j, i]);
        }
        let (gaps, modality) = (options.allow_gaps, options.allow_modality);
        options
            .with_allow_gaps(gaps || self.allow_gaps)
            .with_allow_modality(modality || self.allow_modality)
    }
}

impl SegmentVolume {
    /// Whether a model takes all of the targets.
    pub fn is_taken_by(&self, capabilities: &Capabilities) -> bool {
        let reads_words =
            capabilities.takes(PromptKind::Text) || capabilities.takes(PromptKind::Question);
        self.targets.iter().all(|target| {
            target.kinds().all(|kind| capabilities.takes(kind))
                && (target.organ.is_none() || reads_words)
        })
    }
}

impl Target {
    /// The kinds of prompts that it has, except an organ, which any model that reads words can take.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = PromptKind> + use<> {
        let given = [
            (self.text.is_some(), PromptKind::Text),
            (self.points.as_ref().is_some_and(|points| !points.is_empty()), PromptKind::Points),
            (self.r#box.is_some(), PromptKind::Box),
            (self.mask.is_some(), PromptKind::Mask),
        ];
        given.into_iter().filter(|(is_given, _)| *is_given).map(|(_, kind)| kind)
    }
}
