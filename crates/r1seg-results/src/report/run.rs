//! What a report says of a run, whatever was asked: the model, the volume, and how it was prepared.

use std::time::Duration;

use r1seg::checkpoint::{MANIFEST, MAX_MANIFEST_BYTES, Manifest};
use r1seg::files::sha256_of;
use r1seg::volume::{ChosenSeries, Geometry, IntensityRange, Orientation, Region};
use r1seg::{CheckpointSource, EncodedVolume, LoadedModel};
use serde::Serialize;

use super::{corners, ijk};
use crate::Input;

/// A run: what computed, on what.
#[derive(Debug)]
pub struct Run<'a> {
    /// The commit that the program was built from, where it is known.
    pub git: Option<&'static str>,
    /// The model.
    pub model: Model,
    /// Where it computed, such as `cpu` or `cuda:0`.
    pub device: String,
    /// The instruction set of the kernels, where that is a CPU.
    pub cpu_kernels: Option<&'static str>,
    /// How long loading the model took.
    pub load: Duration,
    /// The volume.
    pub origin: Origin<'a>,
    /// How the volume was prepared.
    pub preparation: Preparation,
}

impl<'a> Run<'a> {
    /// A volume that a model has encoded. `named` is the model as reports have it, and `git` the commit
    /// that the program was built from.
    pub fn new(
        model: &LoadedModel,
        named: &Model,
        git: Option<&'static str>,
        origin: Origin<'a>,
        encoded: &EncodedVolume,
    ) -> Self {
        Self {
            git,
            model: named.clone(),
            device: model.device_name(),
            cpu_kernels: model.cpu_kernels(),
            load: model.load_time(),
            origin,
            preparation: encoded.into(),
        }
    }
}

/// The model of a run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Model {
    /// Name of the checkpoint: of its folder or its repository.
    pub id: String,
    /// The commit of its repository, where it is known.
    pub revision: Option<String>,
    /// Of the manifest, which holds the hash of every file; `None` without one.
    pub sha256: Option<String>,
    /// As in `config.json`.
    pub model_type: String,
    /// How most of its weights are kept, such as `bf16` or `q4k`.
    pub dtype: &'static str,
    /// To what the language model was quantized; `None` if it was not.
    pub quant: Option<String>,
    /// Refinement passes of the mask decoder.
    pub num_clicks: usize,
}

impl Model {
    /// A model and the checkpoint that it was loaded from.
    pub fn of(model: &LoadedModel, source: &CheckpointSource) -> Self {
        let name = model.name();
        let named = Self {
            id: name.id.clone(),
            revision: name.revision.clone(),
            model_type: model.model_type().to_string(),
            dtype: model.dtype_name(),
            num_clicks: model.num_clicks(),
            ..Self::default()
        };
        named.with_manifest_of(source)
    }

    /// The same, with what the manifest of a converted folder says: the hash of it, and to what the
    /// language model was quantized. Without that, blocks of quantized numbers are named by
    /// [`Model::dtype`].
    #[must_use]
    pub fn with_manifest_of(mut self, source: &CheckpointSource) -> Self {
        let is_float = ["f32", "f16", "bf16"].contains(&self.dtype);
        self.quant = Some(self.dtype.to_string()).filter(|_| !is_float);
        let CheckpointSource::Folder(folder) = source else { return self };
        let Ok(bytes) = r1seg::files::read(&folder.join(MANIFEST), MAX_MANIFEST_BYTES) else {
            return self;
        };
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) else { return self };
        self.sha256 = Some(sha256_of(&bytes));
        if let Some(quant) = manifest.language_model.and_then(|model| model.quant) {
            self.quant = Some(quant.name().to_string());
        }
        self
    }
}

/// The volume of a run, and where it came from.
#[derive(Debug, Clone)]
pub struct Origin<'a> {
    /// As given.
    pub path: String,
    /// Of the bytes of the file or stream, where it is one.
    pub sha256: Option<String>,
    /// The format of the file, or `phantom`.
    pub kind: &'a str,
    /// Which DICOM series it is.
    pub series: Option<&'a ChosenSeries>,
    /// Its grid.
    pub geometry: &'a Geometry,
    /// Smallest and largest intensity.
    pub range: Option<(f32, f32)>,
    /// How long reading took.
    pub io: Duration,
}

impl<'a> From<&'a Input> for Origin<'a> {
    /// Waits for the hash of the file.
    fn from(input: &'a Input) -> Self {
        Self {
            path: input.path.display().to_string(),
            sha256: input.sha256(),
            kind: input.kind.as_str(),
            series: input.series.as_ref(),
            geometry: input.volume.geometry(),
            range: input.range,
            io: input.io,
        }
    }
}

/// How a volume was brought to the model.
#[derive(Debug, Clone)]
pub struct Preparation {
    /// The recipe of its intensities.
    pub recipe: String,
    /// How it met the model's grid.
    pub mode: String,
    /// The orientation in which the model had it.
    pub orientation: Option<Orientation>,
    /// The part of it that the model had.
    pub crop: Region,
    /// Millimeters behind one voxel of the model, `[D, H, W]`.
    pub effective_resolution_mm: Option<[f64; 3]>,
}

impl From<&EncodedVolume> for Preparation {
    fn from(encoded: &EncodedVolume) -> Self {
        Self {
            recipe: encoded.recipe().to_string(),
            mode: encoded.mode().to_string(),
            orientation: encoded.orientation(),
            crop: encoded.crop(),
            effective_resolution_mm: encoded.effective_resolution_mm(),
        }
    }
}

/// All three axes are in the order of the file, (i, j, k).
#[derive(Debug, Serialize)]
pub(super) struct InputReport {
    path: String,
    sha256: Option<String>,
    kind: String,
    series: Option<SeriesReport>,
    shape: [usize; 3],
    spacing_mm: Option<[f64; 3]>,
    orientation: Option<String>,
    seen_orientation: Option<String>,
    affine: Option<[[f64; 4]; 4]>,
    affine_source: &'static str,
    intensity_range: Option<[f32; 2]>,
    intensity_verdict: Option<&'static str>,
    hu_range: Option<[f32; 2]>,
    preprocess: String,
    mode: String,
    crop: [[usize; 3]; 2],
    effective_resolution_mm: Option<[f64; 3]>,
}

/// Which series of a DICOM folder or archive.
#[derive(Debug, Serialize)]
pub struct SeriesReport {
    /// Its number in the list of all, from 1.
    pub number: usize,
    /// How many there are.
    pub of: usize,
    /// What it is called in that list.
    pub id: String,
}

/// `2 of 3, id 43f9c1d2a0b7`.
impl std::fmt::Display for SeriesReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}, id {}", self.number, self.of, self.id)
    }
}

impl From<&ChosenSeries> for SeriesReport {
    fn from(series: &ChosenSeries) -> Self {
        Self { number: series.number, of: series.of, id: series.id.clone() }
    }
}

impl InputReport {
    pub(super) fn new(origin: &Origin<'_>, preparation: Preparation) -> Self {
        let ends = origin.range.map(|(low, high)| [low, high]);
        Self {
            path: origin.path.clone(),
            sha256: origin.sha256.clone(),
            kind: origin.kind.to_string(),
            series: origin.series.map(SeriesReport::from),
            shape: ijk(origin.geometry.shape()),
            spacing_mm: origin.geometry.spacing_mm().map(ijk),
            orientation: origin.geometry.orientation().map(|o| o.to_string()),
            seen_orientation: preparation.orientation.map(|o| o.to_string()),
            affine: origin.geometry.affine().copied(),
            affine_source: origin.geometry.affine_source().as_str(),
            intensity_range: ends,
            intensity_verdict: origin.range.map(|(l, h)| IntensityRange::of(l, h).as_str()),
            hu_range: ends.filter(|_| is_hu(origin.range)),
            preprocess: preparation.recipe,
            mode: preparation.mode,
            crop: corners(preparation.crop),
            effective_resolution_mm: preparation.effective_resolution_mm.map(ijk),
        }
    }
}

/// Whether intensities of this range are in Hounsfield units.
pub fn is_hu(range: Option<(f32, f32)>) -> bool {
    range.is_some_and(|(low, high)| IntensityRange::of(low, high) == IntensityRange::Hu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_manifest_the_weights_say_whether_they_are_quantized() {
        let nowhere = CheckpointSource::Folder("nowhere".into());
        for (dtype, quant) in [("q4k", Some("q4k")), ("bf16", None), ("f32", None)] {
            let model = Model { dtype, ..Model::default() }.with_manifest_of(&nowhere);
            assert_eq!((model.quant.as_deref(), model.sha256), (quant, None));
        }
    }
}
