//! What one prompt got, as Python sees it.

use pyo3::prelude::*;
use r1seg_results::{Finding, Given};

use crate::arrays::Axes;
use crate::words::words;

/// What a person should know about a volume or a result.
#[pyclass(frozen, module = "r1seg", get_all)]
#[derive(Debug, Clone)]
pub(crate) struct Warning {
    /// A stable code, such as ``W-GEOM``.
    code: String,
    /// What was found.
    text: String,
    /// What to do about it.
    fix: Option<String>,
}

impl From<&r1seg::volume::Warning> for Warning {
    fn from(warning: &r1seg::volume::Warning) -> Self {
        Self {
            code: warning.code.to_string(),
            text: warning.text.clone(),
            fix: warning.remedy.as_ref().map(words),
        }
    }
}

#[pymethods]
impl Warning {
    fn __str__(&self) -> String {
        let fix = self.fix.as_ref().map(|fix| format!(" (fix: {fix})")).unwrap_or_default();
        format!("{}: {}{fix}", self.code, self.text)
    }

    fn __repr__(&self) -> String {
        format!("<Warning {}>", self.__str__())
    }
}

/// A box in an answer.
#[pyclass(frozen, module = "r1seg", get_all)]
#[derive(Debug, Clone)]
pub(crate) struct Box {
    /// The first voxel, as indices of the mask.
    first: [usize; 3],
    /// The last voxel, which is inside.
    last: [usize; 3],
    /// The smallest and the largest corner in mm (RAS+), where they are known.
    mm: Option<[[f64; 3]; 2]>,
}

#[pymethods]
impl Box {
    fn __repr__(&self) -> String {
        format!("Box(first={:?}, last={:?})", self.first, self.last)
    }
}

/// What one prompt got.
#[pyclass(frozen, module = "r1seg", get_all)]
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// What its label is called.
    name: String,
    /// The words that the model was given.
    prompt: Option<String>,
    /// The answer in words; ``None`` of a model that generates none.
    text: Option<String>,
    /// ``"found"``; ``"empty_mask"`` for a mask without a voxel; ``"not_found"`` where the model made none.
    status: &'static str,
    /// Its number in the mask of the result.
    label: u16,
    /// Boxes in the text.
    boxes: Vec<Box>,
    /// The probability of each ``[SEG]`` in the text.
    seg_probabilities: Vec<f32>,
    /// Why the text ended: ``"stop"`` or ``"length"``.
    finish_reason: Option<&'static str>,
}

#[pymethods]
impl Answer {
    fn __repr__(&self) -> String {
        let text = self.text.as_ref().map(|text| format!(", text={text:?}")).unwrap_or_default();
        format!(
            "Answer(name={:?}, status={:?}, label={}{text})",
            self.name, self.status, self.label
        )
    }
}

impl Answer {
    pub(crate) fn new(
        given: &Given,
        finding: &Finding,
        axes: Axes,
        geometry: &r1seg::volume::Geometry,
    ) -> Self {
        let outcome = &given.outcome;
        let found = outcome.boxes.iter().filter_map(|found| found.region);
        let boxes = found.map(|region| {
            let [first, last] = axes.corners(region);
            Box { first, last, mm: geometry.region_to_mm(region) }
        });
        Self {
            name: given.asked.name.clone(),
            prompt: given.asked.prompt.text.clone(),
            text: outcome.finish_reason.map(|_| outcome.text.clone()),
            status: given.status.as_str(),
            label: finding.label,
            boxes: boxes.collect(),
            seg_probabilities: outcome.seg.iter().map(|seg| seg.logprob.exp()).collect(),
            finish_reason: outcome.finish_reason.map(|reason| reason.as_str()),
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    pub(crate) fn status(&self) -> &'static str {
        self.status
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}
