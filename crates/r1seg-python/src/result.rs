//! What prompts got, as arrays, a report, a picture and files.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict};
use r1seg::volume::{MaskFormat, Overwrite, write_labels_to};
use r1seg::{AskOptions, EncodedVolume, MaskStatus, Outcome};
use r1seg_results::report::{Origin, Run};
use r1seg_results::{Input, Layout, Measured, Obtained, Protected, Request, ResultFolder};

use crate::answer::{Answer, Warning};
use crate::error::{exception, usage};
use crate::model::Checkpoint;
use crate::running::without_lock;
use crate::volume::Volume;
use crate::words::words;

/// What results are about.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) checkpoint: Arc<Checkpoint>,
    pub(crate) volume: Py<Volume>,
    pub(crate) encoded: EncodedVolume,
}

impl About {
    pub(crate) fn model(&self) -> &r1seg::Model {
        &self.checkpoint.model
    }
}

/// What one or several prompts got: answers in words, masks, and what there is to say about them.
#[pyclass(frozen, module = "r1seg")]
pub(crate) struct Result {
    about: Arc<About>,
    obtained: Obtained,
    options: AskOptions,
    made: Instant,
    mask: PyOnceLock<Py<PyAny>>,
    report: PyOnceLock<Py<PyAny>>,
}

#[pymethods]
impl Result {
    /// What each prompt got, in their order.
    #[getter]
    fn answers(&self, py: Python<'_>) -> Vec<Answer> {
        let volume = self.about.volume.bind(py).get();
        let (axes, geometry) = (volume.axes_of_arrays(), volume.geometry());
        let findings = self.obtained.findings().prompts().iter();
        let given = self.obtained.given().iter().zip(findings);
        given.map(|(given, finding)| Answer::new(given, finding, axes, geometry)).collect()
    }

    /// The answer in words, of one prompt; ``None`` of a model that generates none.
    #[getter]
    fn text(&self, py: Python<'_>) -> PyResult<Option<String>> {
        match self.answers(py).as_slice() {
            [answer] => Ok(answer.text().map(str::to_owned)),
            answers => {
                let message = format!("there are {} answers", answers.len());
                Err(usage(py, message, "see answers"))
            }
        }
    }

    /// Whether every prompt got a mask with voxels in it.
    #[getter]
    fn found(&self) -> bool {
        let mut findings = self.obtained.findings().prompts().iter();
        findings.all(|finding| finding.status == MaskStatus::Found)
    }

    /// The masks as one array in the axes of the volume: 0 is background, and :attr:`labels` says what the
    /// other numbers are. ``None`` where no prompt got a mask. Where masks share voxels, it shows the later
    /// one; :meth:`mask_of` has each as it is.
    ///
    /// It is computed once: copy it before you change it.
    #[getter]
    fn mask(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        if self.labels_with_masks().next().is_none() {
            return Ok(None);
        }
        let mask = self.mask.get_or_try_init(py, || {
            let labels = self.obtained.findings().labels();
            let (axes, geometry) =
                (self.about.volume.bind(py).get().axes_of_arrays(), labels.geometry());
            let numbers = labels.labels();
            if labels.len() <= usize::from(u8::MAX) {
                // Numbers up to the number of labels, which was compared.
                let bytes =
                    py.detach(|| numbers.iter().map(|label| *label as u8).collect::<Vec<u8>>());
                return axes.array(py, bytes, geometry);
            }
            axes.array(py, numbers.to_vec(), geometry)
        })?;
        Ok(Some(mask.clone_ref(py)))
    }

    /// The whole mask of a label or of a name, also where another covers it: an array of 0 and 1.
    fn mask_of(&self, py: Python<'_>, label: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let number = match label.extract::<u16>() {
            Ok(number) => Some(number),
            Err(_) => {
                let name = label.extract::<String>()?;
                let mut findings = self.obtained.findings().prompts().iter();
                findings.find(|finding| finding.name == name).map(|finding| finding.label)
            }
        };
        let number =
            number.filter(|number| self.labels_with_masks().any(|(label, _)| label == *number));
        let Some(number) = number else {
            let message = format!("no mask is called {}", label.repr()?);
            return Err(usage(py, message, "see labels"));
        };
        let labels = self.obtained.findings().labels();
        let mask = py.detach(|| labels.label_mask(number).into_parts().0);
        self.about.volume.bind(py).get().axes_of_arrays().array(py, mask, labels.geometry())
    }

    /// The names of the numbers in :attr:`mask`.
    #[getter]
    fn labels<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let labels = PyDict::new(py);
        for (label, name) in self.labels_with_masks() {
            labels.set_item(label, name)?;
        }
        Ok(labels)
    }

    /// The volume that it is about.
    #[getter]
    fn volume(&self, py: Python<'_>) -> Py<Volume> {
        self.about.volume.clone_ref(py)
    }

    /// What a person should know about the volume, its preparation and what was found.
    #[getter]
    fn warnings(&self, py: Python<'_>) -> Vec<Warning> {
        self.all_warnings(self.input(py)).iter().map(Warning::from).collect()
    }

    /// ``report.json`` as a dictionary: measured masks (mL, mean HU, centroid), times, the model, the
    /// volume. Its axes are (i, j, k) whatever those of arrays are.
    #[getter]
    fn report(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let report = self.report.get_or_try_init(py, || {
            let (input, start) = (self.input(py), self.made);
            let json = without_lock(py, || {
                let request = Request { folder: None, preview: None, ..Request::default() };
                self.measured(input, request)?.into_json(start)
            })?;
            PyResult::Ok(py.import("json")?.call_method1("loads", (json,))?.unbind())
        })?;
        Ok(report.clone_ref(py))
    }

    /// The picture, as the bytes of a PNG: three cuts through the masks and a mosaic.
    fn preview<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let input = self.input(py);
        let png = without_lock(py, || {
            let request = Request { folder: None, preview: None, ..Request::default() };
            self.measured(input, request)?.picture()
        })?;
        Ok(PyBytes::new(py, &png))
    }

    fn _repr_png_<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.preview(py)
    }

    /// Writes what ``r1seg infer`` and ``r1seg segment`` write into a folder, which is made if it does not
    /// exist: ``mask.nii.gz``, ``mask.seg.nrrd``, ``mask.npy`` for an array, ``labels.json``,
    /// ``preview.png``, ``report.json`` and ``answer.txt``; all of it or nothing. Returns the folder.
    #[pyo3(signature = (folder, *, overwrite = false, preview = true))]
    fn save(
        &self,
        py: Python<'_>,
        folder: PathBuf,
        overwrite: bool,
        preview: bool,
    ) -> PyResult<PathBuf> {
        let (input, start) = (self.input(py), self.made);
        let mut request = Request::in_folder(&folder);
        request.folder = Some(ResultFolder::At(folder.clone()));
        request.has_answers = self.about.encoded.answers_questions();
        request.preview = request.preview.filter(|_| preview);
        request.overwrite = if overwrite { Overwrite::Replace } else { Overwrite::Refuse };
        request.protected = Protected::default()
            .volume("the volume", &input.path)
            .model(&self.about.checkpoint.source);
        without_lock(py, || self.measured(input, request)?.write(start))?;
        Ok(folder)
    }

    /// The masks as an image of nibabel, with the header that the volume's file had.
    fn to_nibabel<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let bytes = self.nifti(py)?;
        py.import("r1seg._images")?.call_method1("to_nibabel", (bytes,))
    }

    /// The masks as an image of SimpleITK.
    fn to_sitk<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let volume = self.about.volume.bind(py);
        let mask = self.mask(py)?.ok_or_else(|| no_mask(py))?;
        py.import("r1seg._images")?.call_method1("to_sitk", (mask, volume))
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let answers = self.answers(py);
        let one = |answer: &Answer| match answer.text() {
            Some(text) => format!("{text:?} ({})", answer.status()),
            None => format!("{:?} ({})", answer.name(), answer.status()),
        };
        let answers: Vec<String> = answers.iter().map(one).collect();
        format!("<Result {}>", answers.join(", "))
    }
}

impl Result {
    pub(crate) fn new(about: Arc<About>, obtained: Obtained, options: AskOptions) -> Self {
        let (mask, report) = (PyOnceLock::new(), PyOnceLock::new());
        Self { about, obtained, options, made: Instant::now(), mask, report }
    }

    fn input<'a>(&'a self, py: Python<'a>) -> &'a Input {
        &self.about.volume.bind(py).get().input
    }

    /// Numbers and names of the labels that have masks.
    fn labels_with_masks(&self) -> impl Iterator<Item = (u16, &str)> {
        let findings = self.obtained.findings().prompts().iter();
        let with_masks = findings.filter(|finding| finding.status != MaskStatus::NotFound);
        with_masks.map(|finding| (finding.label, finding.name.as_str()))
    }

    fn all_warnings(&self, input: &Input) -> Vec<r1seg::volume::Warning> {
        let Checkpoint { model, source, .. } = self.about.checkpoint.as_ref();
        self.obtained.warnings(source, model.family(), input, &self.about.encoded)
    }

    fn measured<'a>(
        &self,
        input: &'a Input,
        request: Request,
    ) -> std::result::Result<Measured<'a>, r1seg_results::Error> {
        let About { checkpoint, encoded, .. } = self.about.as_ref();
        let layout = Layout::open(request, input, self.obtained.given().len())?;
        let run =
            Run::new(&checkpoint.model, &checkpoint.named, None, Origin::from(input), encoded);
        let report = self.obtained.report(run, &checkpoint.model, &self.options);
        let results = self.obtained.clone().into_results(layout, input, words);
        results.measure(report, self.all_warnings(input))
    }

    /// The masks as a NIfTI file in memory.
    fn nifti<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let labels = self.obtained.findings().labels();
        if self.labels_with_masks().next().is_none() {
            return Err(no_mask(py));
        }
        if labels.geometry().affine().is_none() {
            let message =
                "the volume has no affine, so that an image of the mask would lie anywhere";
            return Err(usage(py, message, "give the volume its affine= or spacing="));
        }
        let written = py.detach(|| {
            let mut bytes = Vec::new();
            write_labels_to(&mut bytes, labels, MaskFormat::Nifti).map(|()| bytes)
        });
        Ok(PyBytes::new(py, &written?))
    }
}

/// One result of several about the same volume by the same model, such as those of ``ask_many``: the prompt
/// of the K-th becomes label K, unless the model has numbers of its own. ``names`` are those of all labels.
#[pyfunction]
#[pyo3(signature = (results, *, names = None))]
pub(crate) fn join(
    py: Python<'_>,
    results: Vec<Py<Result>>,
    names: Option<Vec<String>>,
) -> PyResult<Result> {
    let count = results.iter().map(|result| result.get().obtained.given().len()).sum::<usize>();
    if let Some(names) = names.as_ref().filter(|names| names.len() != count) {
        let message = format!("{} names, and the number of prompts is {count}", names.len());
        return Err(usage(
            py,
            message,
            "name the label of every prompt, in their order, or of none",
        ));
    }
    let mut names = names.into_iter().flatten();
    let Some(first) = results.first().map(Py::get) else {
        return Err(usage(py, "there is no result to join", "give at least one"));
    };
    let refused = |error: r1seg_results::Error| exception(py, &error);
    let mut joined = Obtained::new(first.obtained.findings().labels().geometry());
    for result in results.iter().map(Py::get) {
        if !Arc::ptr_eq(&result.about, &first.about) {
            let message = "the results are not of the same encoded volume";
            return Err(usage(py, message, "join those of one encode(..)"));
        }
        let labels = result.obtained.findings().labels();
        let findings = result.obtained.findings().prompts().iter();
        for (given, finding) in result.obtained.given().iter().zip(findings) {
            let mut outcome: Outcome = given.outcome.clone();
            let has_mask = finding.status != MaskStatus::NotFound;
            outcome.mask = has_mask.then(|| labels.label_mask(finding.label));
            let mut asked = given.asked.clone();
            asked.name = names.next().unwrap_or(asked.name);
            joined.push(asked, outcome).map_err(refused)?;
        }
    }
    Ok(Result::new(first.about.clone(), joined, first.options.clone()))
}

fn no_mask(py: Python<'_>) -> PyErr {
    usage(py, "there is no mask", "look at the status of the answers first")
}
