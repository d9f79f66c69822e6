//! Loading, encoding and embedding.

use std::path::PathBuf;
use std::sync::Arc;

use numpy::{PyArray1, PyReadonlyArray2};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use r1seg::registry::MODELS;
use r1seg::{
    CheckpointSource, EncodeOptions, LoadOptions, ModelSource, OutputKind, PromptKind, RunContext,
    SliceFeatures,
};
use r1seg_results::report;

use crate::encoded::EncodedVolume;
use crate::error::{exception, usage};
use crate::result::About;
use crate::running::{CancelToken, run};
use crate::volume::Volume;

/// A loaded model, and where it came from.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) model: r1seg::Model,
    pub(crate) source: CheckpointSource,
    /// As reports name it.
    pub(crate) named: report::Model,
}

/// A loaded model of any family. It serves any number of volumes and threads at once.
#[pyclass(frozen, module = "r1seg")]
#[derive(Debug)]
pub(crate) struct Model {
    checkpoint: Arc<Checkpoint>,
}

/// Loads a model: a folder, the name of a downloaded model such as ``"R1Seg-3D-Phi-3-4B"``, or ``"demo"``,
/// the embedded model that knows only synthetic phantoms.
///
/// ``device`` is ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``, and ``dtype`` is ``"auto"``, ``"f32"``,
/// ``"bf16"`` or ``"f16"``. A model for which there is not memory enough is refused before it is read;
/// ``memory_limit`` is in bytes, by default what the machine or the container has left. ``verify`` hashes
/// every file first. ``questions`` says how many questions are going to be asked at once.
#[pyfunction]
#[pyo3(signature = (
    source, *, device = "auto", dtype = "auto", compute = "auto", mmap = None, verify = false,
    memory_limit = None, num_clicks = None, questions = 1, cancel = None,
))]
#[expect(clippy::too_many_arguments, reason = "they are keywords of Python")]
pub(crate) fn load(
    py: Python<'_>,
    source: PathBuf,
    device: &str,
    dtype: &str,
    compute: &str,
    mmap: Option<bool>,
    verify: bool,
    memory_limit: Option<u64>,
    num_clicks: Option<usize>,
    questions: usize,
    cancel: Option<&CancelToken>,
) -> PyResult<Model> {
    let refused = |error: r1seg::Error| exception(py, &error);
    let mut options = LoadOptions::default()
        .with_device(device.parse().map_err(refused)?)
        .with_dtype(dtype.parse().map_err(refused)?)
        .with_compute(compute.parse().map_err(refused)?)
        .with_questions(questions);
    options.mmap = mmap;
    options.verify = verify;
    options.num_clicks = num_clicks;
    options.memory_limit = memory_limit.or_else(r1seg::available_memory);
    let checkpoint = run(py, cancel, |watch| {
        let found = ModelSource::from(source).find()?;
        let source = found.checkpoint.clone();
        let model = r1seg::load(found, &options.with_cancel(watch.token.clone()))?;
        let named = report::Model::of(&model, &source);
        Ok(Checkpoint { model, source, named })
    })?;
    if let Some(error) = checkpoint.model.device_fallback() {
        let text = format!("r1seg computes on the CPU: {}", error.message());
        py.import("warnings")?.call_method1("warn", (text,))?;
    }
    Ok(Model { checkpoint: Arc::new(checkpoint) })
}

/// The models that r1seg knows: a list of dictionaries with the names, the published checkpoints, prompts
/// and results of each.
#[pyfunction]
pub(crate) fn models(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyDict>>> {
    let describe = |entry: &&r1seg::registry::ModelEntry| {
        let model = PyDict::new(py);
        model.set_item("name", entry.name)?;
        let published = entry.published.iter().map(|of| of.alias).collect::<Vec<_>>();
        model.set_item("published", published)?;
        model.set_item("repositories", entry.repositories().collect::<Vec<_>>())?;
        model.set_item("prompts", prompts(&entry.capabilities))?;
        model.set_item("outputs", outputs(&entry.capabilities))?;
        Ok(model)
    };
    MODELS.iter().map(describe).collect()
}

#[pymethods]
impl Model {
    /// What the model is called: ``OWNER/NAME``, the name of its folder, or ``demo``.
    #[getter]
    fn name(&self) -> &str {
        &self.checkpoint.model.name().id
    }

    /// Which of the models of :func:`models` it is.
    #[getter]
    fn family(&self) -> &'static str {
        self.checkpoint.model.family().name()
    }

    /// Where it computes, such as ``"cpu"`` or ``"cuda:0"``.
    #[getter]
    fn device(&self) -> String {
        self.checkpoint.model.device_name()
    }

    /// The number format in which its weights are kept, such as ``"bf16"`` or ``"q4k"``.
    #[getter]
    fn dtype(&self) -> &'static str {
        self.checkpoint.model.dtype_name()
    }

    /// Voxels of one pass of its encoder, (z, y, x).
    #[getter]
    fn input_shape(&self) -> [usize; 3] {
        self.checkpoint.model.input_shape()
    }

    /// What it takes: ``"question"``, ``"text"``, ``"points"``, ``"box"``, ``"mask"``.
    #[getter]
    fn prompts(&self) -> Vec<&'static str> {
        prompts(self.checkpoint.model.capabilities())
    }

    /// What it gives back: ``"text"``, ``"mask"``, ``"boxes"``, ``"embedding"``.
    #[getter]
    fn outputs(&self) -> Vec<&'static str> {
        outputs(self.checkpoint.model.capabilities())
    }

    /// How it can be run on a volume of any size; the first is the default.
    #[getter]
    fn modes(&self) -> Vec<&'static str> {
        self.checkpoint.model.capabilities().modes.iter().map(|mode| mode.as_str()).collect()
    }

    /// The names of its classes by their numbers; empty for a model without classes.
    #[getter]
    fn classes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let classes = PyDict::new(py);
        for class in self.checkpoint.model.capabilities().classes.iter().flat_map(|of| of.classes())
        {
            classes.set_item(class.id, class.name)?;
        }
        Ok(classes)
    }

    /// Bytes of main memory that it takes on a CPU, as estimated before it was read.
    #[getter]
    fn memory_bytes(&self) -> u64 {
        self.checkpoint.model.memory_bytes()
    }

    /// Encodes a volume once, for any number of questions and prompts.
    ///
    /// ``volume`` is a :class:`Volume` or anything that one is made of: a path, an array, an image of
    /// nibabel or SimpleITK; further keywords are those of :class:`Volume`. ``orient`` is the orientation
    /// in which the model sees it, ``mode`` one of :attr:`modes`, ``preprocess`` the recipe for
    /// intensities. ``overlaps`` lets masks of several classes share voxels. ``slice_features`` are those of
    /// an earlier :attr:`EncodedVolume.slice_features`, or of a file, for models that read slices.
    #[pyo3(signature = (
        volume, *, orient = None, mode = None, preprocess = "auto", overlaps = false, slice_features = None,
        on_event = None, cancel = None, **reading,
    ))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords of Python")]
    fn encode(
        &self,
        py: Python<'_>,
        volume: &Bound<'_, PyAny>,
        orient: Option<&str>,
        mode: Option<&str>,
        preprocess: &str,
        overlaps: bool,
        slice_features: Option<&Bound<'_, PyAny>>,
        on_event: Option<Py<PyAny>>,
        cancel: Option<&CancelToken>,
        reading: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<EncodedVolume> {
        let volume = as_volume(py, volume, reading)?;
        let mut options = encode_options(py, orient, preprocess, slice_features)?;
        options.mode = mode
            .map(|mode| mode.parse().map_err(|error: r1seg::Error| exception(py, &error)))
            .transpose()?;
        options.overlaps = overlaps;
        let (model, read) = (&self.checkpoint.model, &volume.get().input.volume);
        let encoded = run(py, cancel, |watch| {
            let mut events = watch.events(on_event.as_ref());
            let mut run = RunContext::from(&watch.token).with_events(&mut events);
            let encoded = model.encode_with(read, &options, &mut run)?;
            encoded.encode_ahead(&mut run)?;
            Ok(encoded)
        })?;
        let about =
            About { checkpoint: self.checkpoint.clone(), volume: volume.clone().unbind(), encoded };
        Ok(EncodedVolume { about: Arc::new(about), mode: options.mode })
    }

    /// Turns a volume or a text into a vector of length 1, to compare by dot products: for models that give
    /// an ``"embedding"``. Further keywords are those of :class:`Volume`.
    #[pyo3(signature = (
        volume = None, *, text = None, orient = None, preprocess = "auto", slice_features = None,
        cancel = None, **reading,
    ))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords of Python")]
    fn embed<'py>(
        &self,
        py: Python<'py>,
        volume: Option<&Bound<'py, PyAny>>,
        text: Option<String>,
        orient: Option<&str>,
        preprocess: &str,
        slice_features: Option<&Bound<'py, PyAny>>,
        cancel: Option<&CancelToken>,
        reading: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyArray1<f32>>> {
        let r1seg::Model::Retrieval(clip) = &self.checkpoint.model else {
            let message = format!("{} gives no embeddings", self.family());
            return Err(usage(py, message, "load a model that does, such as M3D-CLIP"));
        };
        let numbers = match (volume, text) {
            (Some(volume), None) => {
                let volume = as_volume(py, volume, reading)?;
                let options = encode_options(py, orient, preprocess, slice_features)?;
                let read = &volume.get().input.volume;
                run(py, cancel, |watch| {
                    let mut context = RunContext::from(&watch.token);
                    Ok(clip.embed_volume_with(read, &options, &mut context)?.embedding)
                })?
            }
            (None, Some(text)) => run(py, cancel, |watch| {
                let mut context = RunContext::from(&watch.token);
                Ok(clip.embed_text_with(&text, &mut context)?.embedding)
            })?,
            _ => {
                return Err(usage(
                    py,
                    "there is not one thing to embed",
                    "give a volume, or text=",
                ));
            }
        };
        Ok(PyArray1::from_vec(py, numbers))
    }

    fn __repr__(&self) -> String {
        let (name, family) = (self.name(), self.family());
        format!(
            "Model({name:?}, family={family:?}, device={:?}, dtype={:?})",
            self.device(),
            self.dtype()
        )
    }
}

/// What `encode` and `embed` have in common.
fn encode_options(
    py: Python<'_>,
    orient: Option<&str>,
    preprocess: &str,
    slice_features: Option<&Bound<'_, PyAny>>,
) -> PyResult<EncodeOptions> {
    let mut options = EncodeOptions::default();
    options.preprocess = preprocess.parse().map_err(|error: r1seg::Error| exception(py, &error))?;
    options.orient = match orient {
        Some(orient) => Some(orient.parse().map_err(|error| exception(py, &error))?),
        None => None,
    };
    options.slice_features = slice_features.map(|given| features(py, given)).transpose()?;
    Ok(options)
}

/// Features of slices, from a file or an array `[S, E]`.
fn features(py: Python<'_>, given: &Bound<'_, PyAny>) -> PyResult<SliceFeatures> {
    let read = match given.extract::<PathBuf>() {
        Ok(path) => SliceFeatures::read(path),
        Err(_) => {
            let given: PyReadonlyArray2<'_, f32> = given.extract()?;
            let array = given.as_array();
            let (slices, width) = array.dim();
            SliceFeatures::new(array.iter().copied().collect(), [slices, width])
        }
    };
    read.map_err(|error| exception(py, &error))
}

fn as_volume<'py>(
    py: Python<'py>,
    given: &Bound<'py, PyAny>,
    reading: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, Volume>> {
    match given.cast::<Volume>() {
        Ok(volume) if reading.is_none_or(|keywords| keywords.is_empty()) => Ok(volume.clone()),
        Ok(_) => {
            Err(usage(py, "a Volume has been read already", "give these keywords to Volume(..)"))
        }
        Err(_) => Ok(py.get_type::<Volume>().call((given,), reading)?.cast_into()?),
    }
}

fn prompts(capabilities: &r1seg::Capabilities) -> Vec<&'static str> {
    let name = |kind: &PromptKind| match kind {
        PromptKind::Question => Some("question"),
        PromptKind::Text => Some("text"),
        PromptKind::Points => Some("points"),
        PromptKind::Box => Some("box"),
        PromptKind::Mask => Some("mask"),
        _ => None,
    };
    capabilities.prompts.iter().filter_map(name).collect()
}

fn outputs(capabilities: &r1seg::Capabilities) -> Vec<&'static str> {
    let name = |kind: &OutputKind| match kind {
        OutputKind::Text => Some("text"),
        OutputKind::Mask => Some("mask"),
        OutputKind::Boxes => Some("boxes"),
        OutputKind::Embedding => Some("embedding"),
        _ => None,
    };
    capabilities.outputs.iter().filter_map(name).collect()
}
