//! The modes whose windows cover the prepared grid: all of it at once, in windows, or first one and then
//! the other.

use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use r1seg_mask_decoder::{PointLabel, Prompts};
use r1seg_volume::resample::trilinear_threshold;
use r1seg_volume::sliding::{Blend, windows};
use r1seg_volume::{GridMap, NearestMode, Padding, Region, RegionRule};

use super::PromptableVolume;
use super::config::Resampling;
use super::encoded::{Found, PromptRun};
use super::prompt::Places;
use super::windows::Window;
use super::zoom::{box_of, corners, region_of_interest};
use crate::encoded::Setup;
use crate::{Error, Event, InferenceMode, Prompt, RunContext, SLIDING_OVERLAP, Trace};

/// What was computed of the whole volume.
#[derive(Debug)]
pub(super) struct Whole {
    /// `[1, N, E]`
    features: Tensor,
    /// If it was asked for.
    trace: Option<Trace>,
}

impl PromptableVolume {
    /// Encodes now what every prompt looks at, in the modes that begin with the whole volume.
    pub(super) fn encode_whole(&self, context: &mut RunContext<'_>) -> Result<(), Error> {
        match self.setup.mode {
            InferenceMode::Resize | InferenceMode::Zoom => self.whole(context).map(drop),
            _ => Ok(()),
        }
    }

    /// What the vision transformer makes of the whole volume, and how long that took just now.
    fn whole(&self, context: &mut RunContext<'_>) -> Result<(&Whole, Duration), Error> {
        let start = Instant::now();
        if let Some(whole) = self.whole.get() {
            return Ok((whole, Duration::ZERO));
        }
        let grid = self.setup.grid;
        let voxels = match self.model.config().resampling {
            Resampling::Trilinear => self.prepared.resize(grid)?,
            Resampling::Nearest => self.prepared.resize_nearest_exact(grid)?,
        };
        let mut trace = self.setup.trace();
        let features = self.model.encode_image(voxels, &mut context.probe(trace.as_mut()))?;
        // Another thread may have been faster, with the same numbers.
        let whole = self.whole.get_or_init(|| Whole { features, trace });
        Ok((whole, start.elapsed()))
    }
}

impl PromptRun<'_, '_> {
    /// In the modes whose windows cover the prepared grid.
    pub(super) fn segment_on_grid(
        &mut self,
        prompt: &Prompt,
        mode: InferenceMode,
    ) -> Result<Found, Error> {
        let Setup { grid, map, .. } = &self.volume.setup;
        let places = Places::new(prompt, map, *grid)?;
        let shape = map.shape();
        let (mask, zoomed, windows) = match mode {
            InferenceMode::Sliding => {
                let part = Region::whole(shape);
                let (logits, windows) = self.segment_windows(part, &places, &[])?;
                (threshold(&logits), None, windows)
            }
            InferenceMode::Zoom => {
                let mut mask = self.segment_whole(&places, shape)?;
                match box_of(&mask, shape, Region::whole(shape)) {
                    None => (mask, None, 1),
                    Some(found) => {
                        let part = region_of_interest(found, *grid, shape);
                        let (logits, windows) = self.segment_windows(part, &places, &mask)?;
                        replace(&mut mask, shape, part, &logits);
                        (mask, map.inverse().region(part, RegionRule::Touched), 1 + windows)
                    }
                }
            }
            _ => (self.segment_whole(&places, shape)?, None, 1),
        };
        let start = Instant::now();
        let mask = map.mask_to_source(&mask, NearestMode::Nearest)?;
        self.timings.postprocess += start.elapsed();
        Ok(Found { mask, windows, zoomed, warnings: Vec::new() })
    }

    /// The mask of one pass over the whole, on the prepared grid.
    fn segment_whole(&mut self, places: &Places, shape: [usize; 3]) -> Result<Vec<u8>, Error> {
        let volume = self.volume;
        let (whole, vit) = volume.whole(self.context)?;
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
        let logits = volume.model.decode(&whole.features, &prompts, &mut probe)?;
        self.timings.mask += start.elapsed();
        let grid = volume.setup.grid;
        if let Some(trace) = &mut self.trace {
            let [d, h, w] = grid;
            let tensor = Tensor::from_slice(&logits, (d, h, w), &Device::Cpu)?;
            trace.insert("mask.logits", tensor);
        }
        let start = Instant::now();
        let mask = match volume.model.config().resampling {
            Resampling::Nearest => GridMap::identity(shape)
                .fitted(grid)?
                .mask_to_source(&threshold(&logits), NearestMode::Nearest)?,
            Resampling::Trilinear => trilinear_threshold(&logits, grid, shape)?,
        };
        self.timings.postprocess += start.elapsed();
        Ok(mask)
    }

    /// The mean logits of the windows over a part of the prepared grid, at full resolution, and how
    /// many windows there were. `mask` is what the pass over the whole found, for prompts with a place.
    fn segment_windows(
        &mut self,
        part: Region,
        places: &Places,
        mask: &[u8],
    ) -> Result<(Vec<f32>, usize), Error> {
        let volume = self.volume;
        let grid = volume.setup.grid;
        let padding = Padding::to_at_least(part.shape(), grid);
        let windows = windows(padding.shape, grid, SLIDING_OVERLAP)?;
        let model = GridMap::identity(volume.prepared.shape()).fitted(grid)?;
        let mut blend = Blend::new(padding.shape);
        for (index, window) in windows.iter().enumerate() {
            self.context.check()?;
            self.context.emit(Event::Window { index, of: windows.len() });
            let start = Instant::now();
            let voxels = volume.prepared.window(part, &padding, *window)?;
            let features = volume.model.encode_image(voxels, &mut self.context.probe(None))?;
            self.timings.vit += start.elapsed();
            let place = Window { part, padding, window: *window, is_only: windows.len() == 1 };
            let own = place.prompts(places, mask, &model)?;
            let prompts = Prompts {
                text: self.text.as_ref(),
                points: &own.points,
                bounding_box: own.bounding_box,
                mask: None,
            };
            let start = Instant::now();
            let mut probe = self.context.probe(None);
            let logits = volume.model.decode(&features, &prompts, &mut probe)?;
            self.timings.mask += start.elapsed();
            blend.add(*window, &logits)?;
        }
        // Every voxel of the part is in a window, so that the value for others is never used.
        Ok((padding.unpad(&blend.finish(f32::NEG_INFINITY))?, windows.len()))
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
    use super::*;

    #[test]
    fn a_part_is_replaced_and_the_rest_stays() {
        const SHAPE: [usize; 3] = [8, 16, 16];
        let mask = |voxels: &[[usize; 3]]| {
            let mut mask = vec![0; 8 * 16 * 16];
            voxels.iter().for_each(|[z, y, x]| mask[(z * 16 + y) * 16 + x] = 1);
            mask
        };
        let mut found = mask(&[[0, 0, 0], [2, 3, 4]]);
        let part = Region { start: [2, 3, 4], end: [4, 5, 7] };
        let logits: Vec<f32> =
            (0..12).map(|n| if n == 4 || n == 11 { 1.0 } else { -1.0 }).collect();
        replace(&mut found, SHAPE, part, &logits);
        assert_eq!(found, mask(&[[0, 0, 0], [2, 4, 5], [3, 4, 6]]));
    }
}
