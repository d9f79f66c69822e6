//! A volume that was prepared for prompts, and what they find in it.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use r1seg_mask_decoder::{PointLabel, Prompts};
use r1seg_volume::sliding::{Blend, windows};
use r1seg_volume::{
    Geometry, GridMap, Mask, NearestMode, Orient, Orientation, Padding, Region, RegionRule, Volume,
    Warning,
};

use super::config::Resampling;
use super::prompt::{Places, SegmentPrompt};
use super::zoom::{box_of, corners, points_in, region_of_interest, shown_in};
use crate::preprocess::{Preparation, prepare};
use crate::{
    Error, Event, MaskStatus, Preprocess, PromptableModel, Recipe, RunContext, SLIDING_OVERLAP,
    SegmentMode, Trace,
};

/// How [`PromptableModel::encode`] prepares a volume, and how prompts are then answered.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct SegmentOptions {
    /// Intensities.
    pub preprocess: Preprocess,
    /// In which orientation the model sees the volume. Masks, boxes and points stay on the grid of the
    /// input.
    pub orient: Orient,
    /// How the model looks at the volume; absent for the way of its authors
    /// ([`PromptableConfig::mode`](crate::PromptableConfig)).
    pub mode: Option<SegmentMode>,
    /// Whether the stages' tensors are kept for [`Segmented::trace`]: of one look at the whole, which
    /// mode sliding never takes.
    pub trace: bool,
}

impl SegmentOptions {
    /// Sets the intensity recipe.
    #[must_use]
    pub fn with_preprocess(mut self, preprocess: Preprocess) -> Self {
        self.preprocess = preprocess;
        self
    }

    /// Sets the orientation in which the model sees the volume.
    #[must_use]
    pub fn with_orient(mut self, orient: Orient) -> Self {
        self.orient = orient;
        self
    }

    /// Sets how the model looks at the volume.
    #[must_use]
    pub fn with_mode(mut self, mode: SegmentMode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Keeps the tensors of every stage.
    #[must_use]
    pub fn with_trace(mut self) -> Self {
        self.trace = true;
        self
    }
}

/// How long the stages of a prompt took.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct SegmentTimings {
    /// Finding intensities and crop, once a volume.
    pub preprocess: Duration,
    /// The vision transformer; the look at the whole is in the time of the first prompt.
    pub vit: Duration,
    /// The text encoder.
    pub text: Duration,
    /// The mask decoder.
    pub mask: Duration,
    /// From logits to the mask on the input's grid.
    pub postprocess: Duration,
}

/// What a prompt found.
#[derive(Debug)]
#[non_exhaustive]
pub struct Segmented {
    /// On the grid of the input.
    pub mask: Mask,
    /// The part of the input that was looked at again, in mode zoom; absent where the first look found
    /// nothing.
    pub zoomed: Option<Region>,
    /// Windows that were looked at.
    pub windows: usize,
    /// How long it took.
    pub timings: SegmentTimings,
    /// The tensors of every stage, if they were asked for.
    pub trace: Option<Trace>,
}

impl Segmented {
    /// Whether anything was found.
    pub fn status(&self) -> MaskStatus {
        match self.mask.data().contains(&1) {
            true => MaskStatus::Found,
            false => MaskStatus::Empty,
        }
    }
}

/// A volume that was prepared for prompts.
///
/// In the modes that look at the whole volume, the vision transformer reads that once; windows are
/// read for each prompt. It keeps its model and the voxels of the volume alive.
#[derive(Debug)]
pub struct PromptedVolume {
    model: PromptableModel,
    geometry: Geometry,
    prepared: Preparation,
    warnings: Vec<Warning>,
    mode: SegmentMode,
    trace: bool,
    whole: OnceLock<Whole>,
    preprocess: Duration,
}

/// What was seen of the whole volume.
#[derive(Debug)]
struct Whole {
    /// `[1, N, E]`
    features: Tensor,
    /// If it was asked for.
    trace: Option<Trace>,
}

impl PromptedVolume {
    pub(super) fn new(
        model: PromptableModel,
        volume: &Volume,
        options: &SegmentOptions,
    ) -> Result<Self, Error> {
        let start = Instant::now();
        let prepared = prepare(volume, options.preprocess, options.orient, None)?;
        let mode = options.mode.unwrap_or(model.config().mode);
        let grid = (mode == SegmentMode::Resize).then_some(model.input_shape());
        Ok(Self {
            model,
            geometry: volume.geometry().clone(),
            warnings: prepared.warnings(grid),
            prepared,
            mode,
            trace: options.trace,
            whole: OnceLock::new(),
            preprocess: start.elapsed(),
        })
    }

    /// The recipe that prepared the intensities.
    pub fn recipe(&self) -> Recipe {
        self.prepared.recipe
    }

    /// The orientation in which the model sees the volume; absent where it is not known.
    pub fn orientation(&self) -> Option<Orientation> {
        self.prepared.orientation
    }

    /// How the model looks at the volume.
    pub fn mode(&self) -> SegmentMode {
        self.mode
    }

    /// What a person should know about how the volume was prepared.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The crop that the model saw, in voxels of the input.
    pub fn crop(&self) -> Region {
        self.prepared.crop()
    }

    /// Millimeters of the body behind one voxel of the model, along D, H and W of the input: nothing
    /// smaller is seen; in mode zoom, nothing smaller of what was found at first. Absent without a
    /// known spacing.
    pub fn effective_resolution_mm(&self) -> Option<[f64; 3]> {
        let grid = match self.mode {
            SegmentMode::Resize => self.model.input_shape(),
            SegmentMode::Zoom | SegmentMode::Sliding => self.prepared.shape(),
        };
        self.prepared.map().clone().fitted(grid).ok()?.resolution_mm(&self.geometry)
    }

    /// Segments what a prompt says.
    ///
    /// # Errors
    /// As [`PromptedVolume::segment_with`].
    pub fn segment(&self, prompt: &SegmentPrompt) -> Result<Segmented, Error> {
        self.segment_with(prompt, &mut RunContext::default())
    }

    /// Segments what a prompt says; `run` stops it, and hears of its progress.
    ///
    /// # Errors
    /// [`Error::Prompt`], `R-PNT-01`, `R-BOX-01` and [`Error::Tokenizer`] for a prompt that
    /// the model cannot use; [`Error::Cancelled`]; or when the computation fails.
    pub fn segment_with(
        &self,
        prompt: &SegmentPrompt,
        context: &mut RunContext<'_>,
    ) -> Result<Segmented, Error> {
        let config = self.model.config();
        let (grid, map) = (self.model.input_shape(), self.prepared.map());
        prompt.check(config, self.mode)?;
        prompt.check_in(&self.geometry)?;
        let places = Places::new(prompt, map, grid)?;
        let mut run = Run {
            study: self,
            timings: SegmentTimings { preprocess: self.preprocess, ..SegmentTimings::default() },
            trace: self.trace.then(Trace::default),
            text: None,
            context,
        };
        run.read(prompt.text.as_deref())?;
        let shape = map.shape();
        let (mask, zoomed, windows) = match self.mode {
            SegmentMode::Resize => (run.look_once(&places, shape)?, None, 1),
            SegmentMode::Sliding => {
                let part = Region::whole(shape);
                let (logits, windows) = run.look_closely(part, &places, &[])?;
                (threshold(&logits), None, windows)
            }
            SegmentMode::Zoom => {
                let mut mask = run.look_once(&places, shape)?;
                match box_of(&mask, shape, Region::whole(shape)) {
                    None => (mask, None, 1),
                    Some(found) => {
                        let part = region_of_interest(found, grid, shape);
                        let (logits, windows) = run.look_closely(part, &places, &mask)?;
                        replace(&mut mask, shape, part, &logits);
                        (mask, map.inverse().region(part, RegionRule::Touched), 1 + windows)
                    }
                }
            }
        };
        let start = Instant::now();
        let Run { mut timings, trace, .. } = run;
        let mask = map.mask_to_source(&mask, NearestMode::Nearest)?;
        let mask = Mask::new(mask, self.geometry.clone())?;
        timings.postprocess += start.elapsed();
        Ok(Segmented { mask, zoomed, windows, timings, trace })
    }

    /// What the vision transformer makes of the whole volume, and how long that took just now.
    fn whole(&self, context: &mut RunContext<'_>) -> Result<(&Whole, Duration), Error> {
        let start = Instant::now();
        if let Some(whole) = self.whole.get() {
            return Ok((whole, Duration::ZERO));
        }
        let grid = self.model.input_shape();
        let voxels = match self.model.config().resampling {
            Resampling::Trilinear => self.prepared.resize(grid)?,
            Resampling::Nearest => self.prepared.resize_nearest_exact(grid)?,
        };
        let mut trace = self.trace.then(Trace::default);
        let features = self.model.see(voxels, &mut context.probe(trace.as_mut()))?;
        // Another thread may have been faster, with the same numbers.
        let whole = self.whole.get_or_init(|| Whole { features, trace });
        Ok((whole, start.elapsed()))
    }
}

/// One prompt on its way.
struct Run<'s, 'c> {
    study: &'s PromptedVolume,
    timings: SegmentTimings,
    trace: Option<Trace>,
    /// `[1, E]`
    text: Option<Tensor>,
    context: &'s mut RunContext<'c>,
}

impl Run<'_, '_> {
    fn read(&mut self, text: Option<&str>) -> Result<(), Error> {
        let Some(text) = text else { return Ok(()) };
        let start = Instant::now();
        let mut probe = self.context.probe(self.trace.as_mut());
        self.text = Some(self.study.model.read(text, &mut probe)?);
        self.timings.text = start.elapsed();
        Ok(())
    }

    /// The mask of one look at the whole, on the prepared grid.
    fn look_once(&mut self, places: &Places, shape: [usize; 3]) -> Result<Vec<u8>, Error> {
        let study = self.study;
        let (whole, vit) = study.whole(self.context)?;
        self.timings.vit += vit;
        self.context.emit(Event::Mask { prompt: 0 });
        let points: Vec<_> = places
            .points
            .iter()
            .map(|place| {
                let label =
                    if place.positive { PointLabel::Positive } else { PointLabel::Negative };
                (place.cell.map(|n| n as f32), label)
            })
            .collect();
        let prompts = Prompts {
            text: self.text.as_ref(),
            points: &points,
            bounding_box: places.region.map(|cells| corners(Some(cells))),
            mask: None,
        };
        let start = Instant::now();
        if let (Some(trace), Some(of_whole)) = (&mut self.trace, &whole.trace) {
            trace.extend(of_whole);
        }
        let mut probe = self.context.probe(self.trace.as_mut());
        let logits = study.model.decode(&whole.features, &prompts, &mut probe)?;
        self.timings.mask += start.elapsed();
        let grid = study.model.input_shape();
        if let Some(trace) = &mut self.trace {
            let [d, h, w] = grid;
            let tensor = Tensor::from_slice(&logits, (d, h, w), &Device::Cpu)?;
            trace.insert("mask.logits", tensor);
        }
        let start = Instant::now();
        let mask = match study.model.config().resampling {
            Resampling::Nearest => GridMap::identity(shape)
                .fitted(grid)?
                .mask_to_source(&threshold(&logits), NearestMode::Nearest)?,
            Resampling::Trilinear => {
                r1seg_volume::resample::trilinear_threshold(&logits, grid, shape)?
            }
        };
        self.timings.postprocess += start.elapsed();
        Ok(mask)
    }

    /// The mean logits of the windows over a part of the prepared grid, at full resolution, and how
    /// many windows there were. `mask` is what the look at the whole found, for prompts with a place.
    fn look_closely(
        &mut self,
        part: Region,
        places: &Places,
        mask: &[u8],
    ) -> Result<(Vec<f32>, usize), Error> {
        let study = self.study;
        let grid = study.model.input_shape();
        let padding = Padding::to_at_least(part.shape(), grid);
        let windows = windows(padding.shape, grid, SLIDING_OVERLAP)?;
        let model = GridMap::identity(study.prepared.shape()).fitted(grid)?;
        let mut blend = Blend::new(padding.shape);
        for (index, window) in windows.iter().enumerate() {
            self.context.check()?;
            self.context.emit(Event::Window { index, of: windows.len() });
            let start = Instant::now();
            let voxels = study.prepared.window(part, &padding, *window)?;
            let features = study.model.see(voxels, &mut self.context.probe(None))?;
            self.timings.vit += start.elapsed();
            let seen = Seen { part, padding, window: *window, is_only: windows.len() == 1 };
            let told = seen.told(places, mask, &model)?;
            let prompts = Prompts {
                text: self.text.as_ref(),
                points: &told.points,
                bounding_box: told.bounding_box,
                mask: None,
            };
            let start = Instant::now();
            let mut probe = self.context.probe(None);
            let logits = study.model.decode(&features, &prompts, &mut probe)?;
            self.timings.mask += start.elapsed();
            blend.add(*window, &logits)?;
        }
        // Every voxel of the part is in a window, so that the value for others is never used.
        Ok((padding.unpad(&blend.finish(f32::NEG_INFINITY))?, windows.len()))
    }
}

/// A window over a part of the prepared grid.
struct Seen {
    part: Region,
    padding: Padding,
    /// Of the padded part.
    window: Region,
    is_only: bool,
}

/// What a window is told, in its own voxels.
#[derive(Debug, Default, PartialEq)]
struct Told {
    points: Vec<([f32; 3], PointLabel)>,
    bounding_box: Option<[f32; 6]>,
}

impl Seen {
    /// `mask` is on the prepared grid, from which `model` leads to the model's.
    fn told(&self, places: &Places, mask: &[u8], model: &GridMap) -> Result<Told, Error> {
        // SegVol's authors pad the volume and what was found in it, but not the maps of points and
        // boxes, of which they cut the same window.
        let unpadded = Region {
            start: std::array::from_fn(|n| self.part.start[n] + self.window.start[n]),
            end: std::array::from_fn(|n| {
                (self.part.start[n] + self.window.end[n]).min(self.part.end[n])
            }),
        };
        if !places.points.is_empty() {
            return Ok(Told {
                points: points_in(unpadded, &places.points, model),
                bounding_box: Some(corners(self.found(mask, model.source_shape())?)),
            });
        }
        let Some(cells) = places.region else { return Ok(Told::default()) };
        let region = match self.is_only {
            true => shown_in(unpadded, cells, model),
            false => self.found(mask, model.source_shape())?,
        };
        Ok(Told { points: Vec::new(), bounding_box: Some(corners(region)) })
    }

    /// The box around what the first look found, as far as it is in the window, in the window's voxels.
    fn found(&self, mask: &[u8], shape: [usize; 3]) -> Result<Option<Region>, Error> {
        let map = GridMap::identity(shape)
            .cropped(self.part)?
            .padded(&self.padding)?
            .cropped(self.window)?;
        let found = map.footprint().and_then(|seen| box_of(mask, shape, seen));
        Ok(found.and_then(|found| map.region(found, RegionRule::Touched)))
    }
}

fn threshold(logits: &[f32]) -> Vec<u8> {
    logits.iter().map(|logit| u8::from(0.0 < *logit)).collect()
}

/// Puts what `logits` find in a part of a mask of `shape` in place of what is there.
fn replace(mask: &mut [u8], [_, h, w]: [usize; 3], part: Region, logits: &[f32]) {
    let [_, height, width] = part.shape();
    for (n, row) in logits.chunks_exact(width).enumerate() {
        let (z, y) = (part.start[0] + n / height, part.start[1] + n % height);
        let voxels = &mut mask[(z * h + y) * w + part.start[2]..][..width];
        for (voxel, logit) in voxels.iter_mut().zip(row) {
            *voxel = u8::from(0.0 < *logit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::prompt::Place;
    use super::*;

    fn region(start: [usize; 3], end: [usize; 3]) -> Region {
        Region { start, end }
    }

    const GRID: [usize; 3] = [4, 8, 8];
    const SHAPE: [usize; 3] = [8, 16, 16];

    /// A mask of [`SHAPE`] with these voxels.
    fn mask(voxels: &[[usize; 3]]) -> Vec<u8> {
        let mut mask = vec![0; 8 * 16 * 16];
        voxels.iter().for_each(|[z, y, x]| mask[(z * 16 + y) * 16 + x] = 1);
        mask
    }

    /// The only window over a part that is three slices and two rows too small for it.
    fn small() -> Seen {
        let part = region([2, 1, 3], [3, 7, 11]);
        let padding = Padding::to_at_least(part.shape(), GRID);
        assert_eq!(padding.inner, region([1, 1, 0], [2, 7, 8]));
        Seen { part, padding, window: Region::whole(GRID), is_only: true }
    }

    fn told(seen: &Seen, places: &Places, mask: &[u8]) -> Told {
        seen.told(places, mask, &GridMap::identity(SHAPE).fitted(GRID).unwrap()).unwrap()
    }

    #[test]
    fn quirk_16_the_box_of_the_only_window_ignores_the_padding() {
        // Cells 1..2, 1..3 and 2..5 are voxels 2..4, 2..6 and 4..10 of the grid.
        let places = Places { region: Some(region([1, 1, 2], [2, 3, 5])), ..Places::default() };
        let told = told(&small(), &places, &mask(&[]));
        assert_eq!(told.bounding_box, Some([0.0, 1.0, 1.0, 0.0, 4.0, 6.0]));
        assert!(told.points.is_empty());
    }

    #[test]
    fn the_box_of_one_window_of_several_is_what_was_found_in_it() {
        let places = Places { region: Some(region([0; 3], [4, 8, 8])), ..Places::default() };
        let part = region([0, 2, 0], [6, 16, 16]);
        let padding = Padding::to_at_least(part.shape(), GRID);
        let seen = |start| Seen { part, padding, window: Region::at(start, GRID), is_only: false };
        let found = mask(&[[3, 9, 5], [5, 10, 9], [3, 1, 5]]);
        let told_at = |start| told(&seen(start), &places, &found).bounding_box;
        assert_eq!(told_at([2, 4, 4]), Some([1.0, 3.0, 1.0, 3.0, 4.0, 5.0]));
        assert_eq!(told_at([0, 4, 4]), Some([3.0, 3.0, 1.0, 3.0, 3.0, 1.0]));
        assert_eq!(told_at([0, 0, 8]), Some([-1.0; 6]));
    }

    #[test]
    fn quirk_16_points_ignore_the_padding_and_their_box_does_not() {
        let place = Place { voxel: [2, 3, 6], cell: [1, 1, 3], positive: true };
        let places = Places { points: vec![place], region: None };
        let told = told(&small(), &places, &mask(&[[2, 3, 6], [2, 4, 7]]));
        assert_eq!(told.points[0], ([0.0, 2.0, 3.0], PointLabel::Positive));
        assert_eq!(told.bounding_box, Some([1.0, 3.0, 3.0, 1.0, 4.0, 4.0]));
    }

    #[test]
    fn a_text_alone_tells_a_window_nothing_more() {
        assert_eq!(told(&small(), &Places::default(), &mask(&[[2, 3, 6]])), Told::default());
    }

    #[test]
    fn a_part_is_replaced_and_the_rest_stays() {
        let mut found = mask(&[[0, 0, 0], [2, 3, 4]]);
        let part = region([2, 3, 4], [4, 5, 7]);
        let logits: Vec<f32> =
            (0..12).map(|n| if n == 4 || n == 11 { 1.0 } else { -1.0 }).collect();
        replace(&mut found, SHAPE, part, &logits);
        assert_eq!(found, mask(&[[0, 0, 0], [2, 4, 5], [3, 4, 6]]));
    }
}
