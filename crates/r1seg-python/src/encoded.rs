//! An encoded volume in Python.

use std::sync::Arc;

use numpy::PyArray2;
use pyo3::prelude::*;
use r1seg::{AskOptions, InferenceMode};
use r1seg_results::{Asked, Obtained, obtain, run_prompts};

use crate::answer::Warning;
use crate::asking::Asking;
use crate::error::{Failure, exception, usage};
use crate::model::Checkpoint;
use crate::prompts::{
    Corners, Everything, Places, PointLabel, Texts, classes, earlier_mask, organs,
};
use crate::result::{About, Result};
use crate::running::{CancelToken, run};
use crate::volume::Volume;

/// A volume that a model has encoded, for any number of questions and prompts.
///
/// Points and boxes are indices of the array, those of masks: ``result.mask[point]``.
#[pyclass(frozen, module = "r1seg")]
pub(crate) struct EncodedVolume {
    pub(crate) about: Arc<About>,
    pub(crate) mode: Option<InferenceMode>,
}

#[pymethods]
impl EncodedVolume {
    /// The volume.
    #[getter]
    fn volume(&self, py: Python<'_>) -> Py<Volume> {
        self.about.volume.clone_ref(py)
    }

    /// The recipe that prepared the intensities.
    #[getter]
    fn recipe(&self) -> String {
        self.about.encoded.recipe().to_string()
    }

    /// How the volume meets the model's grid: ``"resize"``, ``"sliding"``, ``"zoom"``, ``"crop"`` or
    /// ``"grow"``.
    #[getter]
    fn mode(&self) -> &'static str {
        self.about.encoded.mode().as_str()
    }

    /// Millimeters of the body behind one voxel of the model, along the axes of the array: nothing smaller
    /// is seen. ``None`` where they are not known.
    #[getter]
    fn effective_resolution_mm(&self, py: Python<'_>) -> Option<[f64; 3]> {
        let axes = self.about.volume.bind(py).get().axes_of_arrays();
        self.about.encoded.effective_resolution_mm().map(|mm| axes.swap(mm))
    }

    /// What the model's encoder has made of slices of the volume, ``[S, E]``, for models that read slices:
    /// given to another ``encode``, it need not be computed again.
    #[getter]
    fn slice_features<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyArray2<f32>>>> {
        let Some(features) = self.about.encoded.slice_features() else { return Ok(None) };
        let [_, width] = features.shape();
        let rows: Vec<Vec<f32>> =
            features.numbers().chunks(width.max(1)).map(<[f32]>::to_vec).collect();
        Ok(Some(PyArray2::from_vec2(py, &rows)?))
    }

    /// What a person should know about how the volume was prepared.
    #[getter]
    fn warnings(&self) -> Vec<Warning> {
        self.about.encoded.warnings().iter().map(Warning::from).collect()
    }

    /// Asks a question, or for an organ in the words of the model's training.
    ///
    /// ``on_text`` is called with each piece of the answer as it is generated, and ``on_event`` with every
    /// :class:`Event`. Ctrl-C and ``cancel`` stop it. ``box`` is what the question is about: the first and
    /// the last voxel, both inside; it stands at ``{box}`` or at the question's end. ``drafts=False`` guesses
    /// nothing of what an answer says next: the answer is the same, and takes longer.
    #[pyo3(signature = (
        question = None, *, organ = None, r#box = None, box_mm = None, name = None,
        max_new_tokens = None, temperature = 0.0, top_k = None, top_p = None, seed = None,
        separator = None, first_seg = false, abstain = false, drafts = true, on_text = None,
        on_event = None, cancel = None,
    ))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords of Python")]
    fn ask(
        &self,
        py: Python<'_>,
        question: Option<String>,
        organ: Option<String>,
        r#box: Option<Corners<usize>>,
        box_mm: Option<Corners<f64>>,
        name: Option<String>,
        max_new_tokens: Option<usize>,
        temperature: f64,
        top_k: Option<usize>,
        top_p: Option<f64>,
        seed: Option<u64>,
        separator: Option<&str>,
        first_seg: bool,
        abstain: bool,
        drafts: bool,
        on_text: Option<Py<PyAny>>,
        on_event: Option<Py<PyAny>>,
        cancel: Option<&CancelToken>,
    ) -> PyResult<Result> {
        let asking = Asking {
            max_new_tokens,
            temperature,
            top_k,
            top_p,
            seed,
            separator,
            first_seg,
            abstain,
            drafts,
        };
        let mut asked = match (question, organ) {
            (Some(question), None) => Asked::of_text(question),
            (None, Some(organ)) => {
                let mut asked = organs(py, vec![organ], self.about.model().family())?;
                asked.pop().ok_or_else(|| usage(py, "no organ", "name one"))?
            }
            _ => return Err(usage(py, "there is not one question", "give a question, or organ=")),
        };
        let places = Places { region: r#box, region_mm: box_mm, ..Places::default() };
        asked.prompt = asked.prompt.and(places.prompt(py, self.about.volume.bind(py).get())?);
        if let Some(name) = name {
            asked = asked.with_name(name);
        }
        let on_event = match (on_text, on_event) {
            (Some(on_text), on_event) => {
                let pieces =
                    py.import("r1seg._events")?.call_method1("pieces", (on_text, on_event))?;
                Some(pieces.unbind())
            }
            (None, on_event) => on_event,
        };
        self.answers_questions(py)?;
        self.obtain(py, vec![asked], asking.options(py)?, (on_event, cancel))
    }

    /// Asks several questions, up to six at once, which takes less time than one after the other. Returns a
    /// result for each, in their order; :func:`join` makes one of them. ``names`` are those of their labels.
    #[pyo3(signature = (
        questions, *, r#box = None, box_mm = None, names = None, max_new_tokens = None, temperature = 0.0,
        top_k = None, top_p = None, seed = None, separator = None, first_seg = false, abstain = false,
        drafts = true, on_event = None, cancel = None,
    ))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords of Python")]
    fn ask_many(
        &self,
        py: Python<'_>,
        questions: Vec<String>,
        r#box: Option<Corners<usize>>,
        box_mm: Option<Corners<f64>>,
        names: Option<Texts>,
        max_new_tokens: Option<usize>,
        temperature: f64,
        top_k: Option<usize>,
        top_p: Option<f64>,
        seed: Option<u64>,
        separator: Option<&str>,
        first_seg: bool,
        abstain: bool,
        drafts: bool,
        on_event: Option<Py<PyAny>>,
        cancel: Option<&CancelToken>,
    ) -> PyResult<Vec<Result>> {
        let asking = Asking {
            max_new_tokens,
            temperature,
            top_k,
            top_p,
            seed,
            separator,
            first_seg,
            abstain,
            drafts,
        };
        let places = Places { region: r#box, region_mm: box_mm, ..Places::default() };
        let places = places.prompt(py, self.about.volume.bind(py).get())?;
        let with_places = |question| {
            let mut asked = Asked::of_text(question);
            asked.prompt = asked.prompt.and(places.clone());
            asked
        };
        let mut asked: Vec<Asked> = questions.into_iter().map(with_places).collect();
        name_all(py, &mut asked, names)?;
        self.answers_questions(py)?;
        let options = asking.options(py)?;
        self.check(py, &asked, &options)?;
        let (encoded, geometry) = (&self.about.encoded, self.about.encoded.geometry());
        let obtained = run(py, cancel, |watch| {
            let prompts: Vec<r1seg::Prompt> = asked.iter().map(|of| of.prompt.clone()).collect();
            let (mut asked, mut all) = (asked.into_iter(), Vec::new());
            let mut on_outcome = |_: usize, outcome: r1seg::Outcome| {
                let Some(asked) = asked.next() else { return Ok(()) };
                let mut obtained = Obtained::new(geometry);
                obtained.push(asked, outcome)?;
                all.push(obtained);
                Ok(())
            };
            let mut events = watch.events(on_event.as_ref());
            run_prompts(encoded, &prompts, &options, &watch.token, &mut events, &mut on_outcome)?;
            Ok(all)
        })?;
        let result = |obtained| Result::new(self.about.clone(), obtained, options.clone());
        Ok(obtained.into_iter().map(result).collect())
    }

    /// Segments what texts, organs, classes, points, a box or an earlier mask say.
    ///
    /// ``point_labels`` says of each point whether it is inside (1) or outside (0); all are inside if it is
    /// not given. A box is its first and its last voxel, both inside. ``everything`` is ``True`` or a kind
    /// of scan, such as ``"ct-body"``, for models with classes. Several texts, organs or classes become
    /// labels of one result, which ``names`` calls otherwise than they were asked for.
    #[pyo3(signature = (
        text = None, *, organs = None, classes = None,
        everything = None, points = Vec::new(), points_mm = Vec::new(), point_labels = None,
        r#box = None, box_mm = None, mask = None, center = None, points_at_once = false, names = None,
        on_event = None, cancel = None,
    ))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords of Python")]
    fn segment(
        &self,
        py: Python<'_>,
        text: Option<Texts>,
        organs: Option<Texts>,
        classes: Option<Texts>,
        everything: Option<Everything>,
        points: Vec<[usize; 3]>,
        points_mm: Vec<[f64; 3]>,
        point_labels: Option<Vec<PointLabel>>,
        r#box: Option<Corners<usize>>,
        box_mm: Option<Corners<f64>>,
        mask: Option<&Bound<'_, PyAny>>,
        center: Option<[usize; 3]>,
        points_at_once: bool,
        names: Option<Texts>,
        on_event: Option<Py<PyAny>>,
        cancel: Option<&CancelToken>,
    ) -> PyResult<Result> {
        let volume = self.about.volume.bind(py).get();
        let is_clicked = !(points.is_empty() && points_mm.is_empty());
        let places = Places {
            points,
            points_mm,
            labels: point_labels,
            region: r#box,
            region_mm: box_mm,
            center,
            at_once: points_at_once,
        };
        let mut places = places.prompt(py, volume)?;
        places.mask = mask.map(|mask| earlier_mask(py, mask, volume)).transpose()?;
        let Checkpoint { model, source, .. } = self.about.checkpoint.as_ref();
        let mut asked: Vec<Asked> = Texts::all(text).into_iter().map(Asked::of_text).collect();
        asked.extend(self::organs(py, Texts::all(organs), model.family())?);
        let classes = (Texts::all(classes), everything);
        asked.extend(self::classes(py, source, classes, is_clicked)?);
        let has_places = places != r1seg::Prompt::default();
        match asked.as_mut_slice() {
            [] if has_places => asked.push(Asked::of_places(places)),
            [] => {
                let fix = "give text, organs, classes, points, a box or a mask";
                return Err(usage(py, "there is nothing to segment", fix));
            }
            [only] => only.prompt = std::mem::take(&mut only.prompt).and(places),
            _ if has_places => {
                let message = "several texts, and places that can belong to one only";
                return Err(usage(py, message, "segment one at a time"));
            }
            _ => (),
        }
        name_all(py, &mut asked, names)?;
        self.obtain(py, asked, AskOptions::default(), (on_event, cancel))
    }

    fn __repr__(&self) -> String {
        let (model, encoded) = (self.about.model(), &self.about.encoded);
        format!("EncodedVolume(model={:?}, mode={:?})", model.name().id, encoded.mode().as_str())
    }
}

impl EncodedVolume {
    fn answers_questions(&self, py: Python<'_>) -> PyResult<()> {
        let family = self.about.model().family();
        match self.about.encoded.answers_questions() {
            true => Ok(()),
            false => {
                let message = format!("{} answers no questions", family.name());
                Err(usage(py, message, "name what to segment: segment(..)"))
            }
        }
    }

    fn check(&self, py: Python<'_>, asked: &[Asked], options: &AskOptions) -> PyResult<()> {
        let check = |asked: &Asked| asked.check(self.about.model(), options, self.mode);
        asked.iter().try_for_each(check).map_err(|error| exception(py, &error))
    }

    fn obtain(
        &self,
        py: Python<'_>,
        asked: Vec<Asked>,
        options: AskOptions,
        (on_event, cancel): (Option<Py<PyAny>>, Option<&CancelToken>),
    ) -> PyResult<Result> {
        let encoded = &self.about.encoded;
        self.check(py, &asked, &options)?;
        let obtained = run(py, cancel, |watch| {
            let mut events = watch.events(on_event.as_ref());
            obtain(encoded, asked, &options, &watch.token, &mut events).map_err(Failure::from)
        })?;
        Ok(Result::new(self.about.clone(), obtained, options))
    }
}

/// Gives labels other names than those of their prompts: each one, or none.
fn name_all(py: Python<'_>, asked: &mut [Asked], names: Option<Texts>) -> PyResult<()> {
    let names = Texts::all(names);
    if !names.is_empty() && names.len() != asked.len() {
        let message =
            format!("{} names, and the number of prompts is {}", names.len(), asked.len());
        return Err(usage(
            py,
            message,
            "name the label of every prompt, in their order, or of none",
        ));
    }
    for (asked, name) in asked.iter_mut().zip(names) {
        asked.name = name;
    }
    Ok(())
}
