//! A volume that the model has seen. The questions about it are in `asking`.

mod asking;
mod windows;

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use r1seg_volume::sliding::windows;
use r1seg_volume::{Geometry, GridMap, Orientation, Padding, Region, Volume, Warning};

use crate::preprocess::prepare;
use crate::vision::View;
use crate::{EncodeOptions, Error, Mode, R1SegModel, Recipe, RunContext, Trace};

pub use asking::QUESTIONS_AT_ONCE;

/// Overlap of the authors' sliding-window evaluation.
pub const SLIDING_OVERLAP: f64 = 0.5;

/// A volume that the model has seen.
///
/// The vision transformer ran once, and the language model reads the image once: further
/// questions cost only their own tokens. In sliding mode the windows' image embeddings are kept
/// (about 10 MB each at full size), but not their keys and values. It keeps its model alive, and can
/// outlive the volume that it was made of.
#[derive(Debug)]
pub struct EncodedVolume {
    model: R1SegModel,
    geometry: Geometry,
    recipe: Recipe,
    orientation: Option<Orientation>,
    mode: Mode,
    /// From the input to the prepared grid.
    map: GridMap,
    crop: Region,
    warnings: Vec<Warning>,
    views: Views,
    preprocess: Duration,
    /// Stages of the vision transformer, when they were asked for.
    trace: Option<Trace>,
}

#[derive(Debug)]
enum Views {
    Whole(Box<View>),
    Sliding {
        /// The prepared volume, zero-padded to at least one window.
        voxels: Vec<f32>,
        padding: Padding,
        windows: Vec<(Region, OnceLock<View>)>,
    },
}

impl EncodedVolume {
    pub(crate) fn new(
        model: R1SegModel,
        volume: &Volume,
        options: &EncodeOptions,
        run: &mut RunContext<'_>,
    ) -> Result<Self, Error> {
        run.check()?;
        let start = Instant::now();
        let prepared = prepare(volume, options.preprocess, options.orient, model.trained_on())?;
        let (recipe, orientation) = (prepared.recipe, prepared.orientation);
        let grid = model.input_shape();
        let mut trace = options.trace.then(Trace::default);
        let (views, preprocess) = match options.mode {
            Mode::Resize => {
                let voxels = prepared.resize(grid)?;
                let preprocess = start.elapsed();
                let view = model.see(voxels, &mut run.probe(trace.as_mut()))?;
                (Views::Whole(Box::new(view)), preprocess)
            }
            Mode::Sliding => {
                let padding = Padding::to_at_least(prepared.shape(), grid);
                let windows = windows(padding.shape, grid, SLIDING_OVERLAP)?;
                let voxels = prepared.padded(&padding)?;
                let windows = windows.into_iter().map(|w| (w, OnceLock::new())).collect();
                (Views::Sliding { voxels, padding, windows }, start.elapsed())
            }
        };
        Ok(Self {
            model,
            geometry: volume.geometry().clone(),
            recipe,
            orientation,
            mode: options.mode,
            map: prepared.map().clone(),
            crop: prepared.crop(),
            warnings: match options.mode {
                Mode::Resize => prepared.warnings(Some(grid)),
                Mode::Sliding => prepared.warnings(None),
            },
            views,
            preprocess,
            trace,
        })
    }

    /// The recipe that prepared the intensities.
    pub fn recipe(&self) -> Recipe {
        self.recipe
    }

    /// The orientation in which the model saw the volume; absent where it is not known.
    pub fn orientation(&self) -> Option<Orientation> {
        self.orientation
    }

    /// How the volume met the model's grid.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// What a person should know about how the volume was prepared.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The crop that the model saw, in voxels of the input.
    pub fn crop(&self) -> Region {
        self.crop
    }

    /// Millimeters of the body behind one voxel of the model, along D, H and W of the input:
    /// nothing smaller is seen. Absent without a known spacing.
    pub fn effective_resolution_mm(&self) -> Option<[f64; 3]> {
        let grid = match self.mode {
            Mode::Resize => self.model.input_shape(),
            Mode::Sliding => self.map.shape(),
        };
        self.map.clone().fitted(grid).ok()?.resolution_mm(&self.geometry)
    }

    /// Number of windows: one in resize mode.
    pub fn num_windows(&self) -> usize {
        match &self.views {
            Views::Whole(_) => 1,
            Views::Sliding { windows, .. } => windows.len(),
        }
    }
}
