//! What is asked for, as keywords of Python.

use std::sync::Arc;

use pyo3::prelude::*;
use r1seg::volume::{LabelMap, Mask};
use r1seg::{AutomaticConfig, CheckpointSource, Prompt, PromptPoint, registry::Family};
use r1seg_results::{Asked, OrganName};

use crate::error::{exception, usage};
use crate::volume::Volume;

/// One text, or several; a class may be its number.
#[derive(Debug, FromPyObject)]
pub(crate) enum Texts {
    /// A text alone.
    One(Text),
    /// In their order.
    Several(Vec<Text>),
}

/// A text, or the number of a class.
#[derive(Debug, FromPyObject)]
pub(crate) enum Text {
    /// In words.
    Words(String),
    /// Of a class.
    Number(u16),
}

impl Texts {
    pub(crate) fn all(given: Option<Self>) -> Vec<String> {
        let text = |text: Text| match text {
            Text::Words(words) => words,
            Text::Number(number) => number.to_string(),
        };
        match given {
            None => Vec::new(),
            Some(Self::One(only)) => vec![text(only)],
            Some(Self::Several(texts)) => texts.into_iter().map(text).collect(),
        }
    }
}

/// Whether a point is inside of what is sought.
#[derive(Debug, Clone, Copy, FromPyObject)]
pub(crate) enum PointLabel {
    /// Whether it is.
    Flag(bool),
    /// 1 inside, 0 outside.
    Number(i64),
}

/// A box: two corners, both inside.
pub(crate) type Corners<T> = [[T; 3]; 2];

/// Places in the volume: indices of its arrays, or mm.
#[derive(Debug, Default)]
pub(crate) struct Places {
    pub(crate) points: Vec<[usize; 3]>,
    pub(crate) points_mm: Vec<[f64; 3]>,
    /// Of the points, then of those in mm; positive by default.
    pub(crate) labels: Option<Vec<PointLabel>>,
    pub(crate) region: Option<Corners<usize>>,
    pub(crate) region_mm: Option<Corners<f64>>,
    pub(crate) center: Option<[usize; 3]>,
    pub(crate) at_once: bool,
}

impl Places {
    /// The part of a prompt that is about places.
    pub(crate) fn prompt(self, py: Python<'_>, volume: &Volume) -> PyResult<Prompt> {
        let (axes, geometry) = (volume.axes_of_arrays(), volume.geometry());
        let refused = |error: r1seg::volume::Error| exception(py, &error);
        let mut voxels: Vec<[usize; 3]> = self.points.into_iter().map(|at| axes.swap(at)).collect();
        for mm in self.points_mm {
            voxels.push(geometry.voxel_from_mm(mm).map_err(refused)?);
        }
        let inside = |label: PointLabel| match label {
            PointLabel::Flag(inside) => Ok(inside),
            PointLabel::Number(1) => Ok(true),
            PointLabel::Number(0) => Ok(false),
            PointLabel::Number(other) => {
                let message = format!("a point has the label {other}");
                Err(usage(py, message, "give 1 for inside, 0 for outside"))
            }
        };
        let labels = match self.labels {
            Some(labels) => labels.into_iter().map(inside).collect::<PyResult<_>>()?,
            None => vec![true; voxels.len()],
        };
        if labels.len() != voxels.len() {
            let message = format!("{} points, and {} point_labels", voxels.len(), labels.len());
            return Err(usage(py, message, "give a label for each point: 1 inside, 0 outside"));
        }
        let mut prompt = Prompt::default();
        for (voxel, positive) in voxels.into_iter().zip(labels) {
            prompt = prompt.with_point(PromptPoint { voxel, positive });
        }
        prompt.region = match (self.region, self.region_mm) {
            (Some(_), Some(_)) => {
                return Err(usage(py, "both box and box_mm are given", "give one of them"));
            }
            (Some(corners), None) => Some(axes.region(corners)),
            (None, Some(corners)) => Some(geometry.region_from_mm(corners).map_err(refused)?),
            (None, None) => None,
        };
        prompt.center = self.center.map(|at| axes.swap(at));
        prompt.points_at_once = self.at_once;
        prompt.check_in(geometry).map_err(|error| exception(py, &error))?;
        Ok(prompt)
    }
}

/// The organs of these names, in the words of the model's training.
pub(crate) fn organs(py: Python<'_>, names: Vec<String>, family: Family) -> PyResult<Vec<Asked>> {
    let asked = |name: String| match OrganName::find(name) {
        Ok(organ) => Ok(Asked::of_organ(organ, family)),
        Err(unknown) => {
            let meant = unknown.suggestion().map(|meant| meant + " ").unwrap_or_default();
            let fix = format!("{meant}Any term may be asked for in words");
            Err(usage(py, format!("{}: unknown organ", unknown.given), &fix))
        }
    };
    names.into_iter().map(asked).collect()
}

/// What is segmented without naming it.
#[derive(Debug, FromPyObject)]
pub(crate) enum Everything {
    /// Whether everything is.
    Flag(bool),
    /// Everything in a kind of scan.
    Scan(String),
}

/// The classes of these names or numbers, of a model that has classes.
pub(crate) fn classes(
    py: Python<'_>,
    source: &CheckpointSource,
    (names, everything): (Vec<String>, Option<Everything>),
    is_clicked: bool,
) -> PyResult<Vec<Asked>> {
    let everything = everything.filter(|of| !matches!(of, Everything::Flag(false)));
    if names.is_empty() && everything.is_none() {
        return Ok(Vec::new());
    }
    let refused = |error: r1seg::Error| exception(py, &error);
    let family = source.family().map_err(refused)?;
    if !family.has_classes() {
        let message = format!("{} has no classes", family.name());
        return Err(usage(py, message, "name what to segment with text or organs"));
    }
    let config = AutomaticConfig::read(source).map_err(refused)?;
    let mut ids = match everything {
        None => Vec::new(),
        Some(Everything::Flag(_)) => config.everything_in(None).map_err(refused)?.to_vec(),
        Some(Everything::Scan(name)) => {
            let scan = name.parse().map_err(refused)?;
            config.everything_in(Some(scan)).map_err(refused)?.to_vec()
        }
    };
    let table = config.classes();
    let named = table.find_all(names.iter().map(String::as_str), is_clicked).map_err(refused)?;
    ids.extend(named.into_iter().filter(|id| !ids.contains(id)).collect::<Vec<_>>());
    Ok(ids.into_iter().map(|id| Asked::of_text(table.text(id))).collect())
}

/// An earlier mask on the grid of the volume, of which every label is one.
pub(crate) fn earlier_mask(
    py: Python<'_>,
    given: &Bound<'_, PyAny>,
    volume: &Volume,
) -> PyResult<Arc<Mask>> {
    let images = py.import("r1seg._images")?;
    let earlier: Bound<'_, PyAny> = if images.call_method1("is_array", (given,))?.extract()? {
        // An array says nothing of its place: it lies as those about the volume do.
        let array = images.call_method1("as_labels", (given,))?;
        let named = pyo3::types::PyDict::new(py);
        named.set_item("axes", volume.axes_of_arrays().name())?;
        py.get_type::<Volume>().call((array,), Some(&named))?
    } else {
        match given.cast::<Volume>() {
            Ok(volume) => volume.clone().into_any(),
            Err(_) => py.get_type::<Volume>().call1((given,))?,
        }
    };
    let earlier = earlier.cast::<Volume>()?.get();
    let refused = |error: r1seg::volume::Error| exception(py, &error);
    volume.geometry().check_same_grid(earlier.geometry()).map_err(refused)?;
    let labels = LabelMap::from_volume(&earlier.input.volume).map_err(refused)?;
    let mask = labels.any_label();
    if mask.data().iter().all(|voxel| *voxel == 0) {
        return Err(usage(py, "the earlier mask has no voxel", "segment without a mask"));
    }
    Ok(Arc::new(mask))
}
