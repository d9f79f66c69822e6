//! Points one after the other in a crop, each pass of the mask decoder prompted with all points so far
//! and the logits of the pass before: what SAM-Med3D was trained for.

use std::sync::Arc;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use r1seg_mask_decoder::{PointLabel, Prompts};
use r1seg_volume::resample::trilinear_threshold;
use r1seg_volume::{Mask, NearestMode, Region};

use super::PromptableVolume;
use super::crops::Crop;
use super::encoded::PromptRun;
use super::target::{Target, TargetPoint, is_inside, signed, within};
use super::zoom::{corners, overlap};
use crate::{Error, Event, Prompt};

/// A target after the points so far.
#[derive(Debug, Clone)]
pub(crate) struct Clicked {
    pub(super) crop: Arc<Crop>,
    /// `[1, 1, d, h, w]`, of the pass of the last point, which a further one goes on from.
    low_res: Tensor,
    /// The same after the passes that refine it.
    refined: Tensor,
    /// Points that it has been prompted with.
    points: usize,
}

/// Low-resolution logits of one crop, or of several.
pub(super) struct Area {
    /// `[d, h, w]` cells, C order.
    pub(super) logits: Vec<f32>,
    pub(super) cells: [usize; 3],
    /// What they span in the prepared grid: its first cell, and its shape.
    pub(super) start: [i64; 3],
    pub(super) shape: [usize; 3],
    /// Crops that were looked at.
    pub(super) crops: usize,
    /// Whether the mask goes on where no further crop was looked at.
    pub(super) is_cut: bool,
}

/// Probabilities of a cell that lies wholly inside or outside of a mask that is to be corrected: their
/// logits are about 7, as large as those of a sure model.
const SURE: [f32; 2] = [1e-3, 1.0 - 1e-3];

impl Clicked {
    /// Where its crop begins in the prepared grid.
    pub(super) fn start(&self) -> [i64; 3] {
        self.crop.start
    }

    /// The low-resolution logits, C order.
    pub(super) fn numbers(&self) -> Result<Vec<f32>, Error> {
        numbers(&self.refined)
    }

    /// The mask of its crop.
    pub(super) fn mask(&self, volume: &PromptableVolume) -> Result<Vec<u8>, Error> {
        let Area { logits, cells, shape, .. } = self.area(volume)?;
        Ok(trilinear_threshold(&logits, cells, shape)?)
    }

    /// What its crop alone says.
    pub(super) fn area(&self, volume: &PromptableVolume) -> Result<Area, Error> {
        Ok(Area {
            logits: self.numbers()?,
            cells: volume.model.config().mask_head.low_res_size(),
            start: self.start(),
            shape: volume.setup.grid,
            crops: 1,
            is_cut: false,
        })
    }
}

/// The numbers of a tensor.
pub(super) fn numbers(low_res: &Tensor) -> Result<Vec<f32>, Error> {
    Ok(low_res.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?)
}

impl PromptRun<'_, '_> {
    /// Runs the points of a prompt that `from` has not seen. Those that lie outside of the crop are left
    /// out if `elsewhere` allows it.
    pub(super) fn click(
        &mut self,
        prompt: &Prompt,
        target: &Target,
        from: Option<&Clicked>,
        elsewhere: bool,
    ) -> Result<Clicked, Error> {
        let (volume, size) = (self.volume, self.volume.setup.grid);
        let from = from.filter(|_| !prompt.points_at_once);
        let crop = match from {
            Some(clicked) => clicked.crop.clone(),
            None => self.crop(target)?,
        };
        let mut points = Vec::with_capacity(target.points.len());
        for point in &target.points {
            match in_crop(point, crop.start, size) {
                Some(point) => points.push(point),
                None if elsewhere => {}
                None => return Err(self.outside_of_crop()),
            }
        }
        let bounding_box = self.box_in(target.region, &crop)?;
        let is_in = points.iter().any(|(_, label)| *label == PointLabel::Positive);
        if !is_in && bounding_box.is_none() && prompt.mask.is_none() {
            return Err(self.outside_of_crop());
        }
        if let (Some(trace), Some(of_crop)) = (&mut self.trace, &crop.trace) {
            trace.extend(of_crop);
        }
        let (mut low_res, seen) = match (from, &prompt.mask) {
            (Some(clicked), _) => (clicked.low_res.clone(), clicked.points),
            (None, Some(mask)) => (volume.mask_logits(mask, crop.start)?, 0),
            (None, None) => (volume.model.no_logits()?, 0),
        };
        // With no points there is one pass, of the box or the mask alone.
        let passes = match (from, points.len()) {
            (None, n) if n == 0 || prompt.points_at_once => n..=n,
            (_, n) => seen + 1..=n,
        };
        // A step that is shown again had its refinement.
        let shows_again = from.filter(|_| passes.is_empty());
        for shown in passes {
            let points = &points[..shown];
            let stage = stage_name(prompt, shown, volume.model.config().pass);
            low_res = self.pass(&crop, points, bounding_box, &low_res, &stage)?;
        }
        let mut refined = shows_again.map_or(low_res.clone(), |clicked| clicked.refined.clone());
        let refinements = if shows_again.is_some() { 0 } else { volume.model.config().num_clicks };
        for pass in 1..=refinements {
            let stage = format!("refined.{pass}");
            refined = self.pass(&crop, &points, bounding_box, &refined, &stage)?;
        }
        Ok(Clicked { crop, low_res, refined, points: points.len() })
    }

    /// One pass of the mask decoder.
    pub(super) fn pass(
        &mut self,
        crop: &Crop,
        points: &[([f32; 3], PointLabel)],
        bounding_box: Option<[f32; 6]>,
        low_res: &Tensor,
        stage: &str,
    ) -> Result<Tensor, Error> {
        self.context.emit(Event::Mask { prompt: 0 });
        let start = Instant::now();
        let prompts = Prompts { text: None, mask: Some(low_res), points, bounding_box };
        let mut probe = self.context.probe(self.trace.as_mut());
        let low_res = self.volume.model.predict(&crop.features, &prompts, stage, &mut probe)?;
        self.timings.mask += start.elapsed();
        Ok(low_res)
    }

    /// The crop around a target.
    fn crop(&mut self, target: &Target) -> Result<Arc<Crop>, Error> {
        let size = self.volume.setup.grid;
        match self.volume.crops.of(target, size) {
            Some(crop) => Ok(crop),
            None => self.crop_at(target.crop(size), self.volume.setup.is_traced),
        }
    }

    /// The crop that begins at a cell of the prepared grid, with the stages of its encoder if `trace` asks
    /// for them.
    pub(super) fn crop_at(&mut self, start: [i64; 3], trace: bool) -> Result<Arc<Crop>, Error> {
        let volume = self.volume;
        if let Some(crop) = volume.crops.at(start) {
            return Ok(crop);
        }
        let time = Instant::now();
        let context = (&mut *self.context, trace);
        let (prepared, recipe) = (&volume.prepared, volume.setup.recipe);
        let crop = Crop::encode(&volume.model, prepared, recipe, start, context)?;
        self.timings.vit += time.elapsed();
        Ok(volume.crops.keep(crop))
    }

    /// A box in a crop, as the prompt encoder takes it.
    fn box_in(&self, region: Option<Region>, crop: &Crop) -> Result<Option<[f32; 6]>, Error> {
        let Some(region) = region else { return Ok(None) };
        let size = self.volume.setup.grid;
        let cells = shown(region, crop.start, size);
        let is_whole = cells.is_some_and(|cells| cells.shape() == region.shape());
        if !is_whole && !self.volume.is_growing() {
            return Err(Error::Prompt {
                message: format!(
                    "the box does not fit into the {} voxels that the model sees",
                    size.map(|n| n.to_string()).join(" x ")
                ),
                fix: "use mode grow, or give a smaller box",
            });
        }
        Ok(cells.map(|cells| corners(Some(cells))))
    }

    fn outside_of_crop(&self) -> Error {
        let size = self.volume.setup.grid;
        Error::Prompt {
            message: format!(
                "a point lies outside of the {} voxels that the model looks at",
                size.map(|n| n.to_string()).join(" x ")
            ),
            fix: "use mode grow, or segment what lies there on its own",
        }
    }
}

impl PromptableVolume {
    /// A mask of the input as a mask prompt of the crop at `start`: for each cell, the logit of the
    /// share of its voxels that the mask covers.
    pub(super) fn mask_logits(&self, mask: &Mask, start: [i64; 3]) -> Result<Tensor, Error> {
        let size = self.setup.grid;
        let map = self.setup.map.clone().windowed(start, size);
        let set: Vec<f32> = map
            .gather(mask.data(), NearestMode::Nearest)?
            .into_iter()
            .map(|label| f32::from(u8::from(label != 0)))
            .collect();
        let cells = self.model.config().mask_head.low_res_size();
        // The same along all axes, as the encoders of these models are cubes.
        let per_cell = (size[0] / cells[0].max(1)).max(1);
        let [d, h, w] = size;
        let voxels = Tensor::from_vec(set, (1, 1, d, h, w), &Device::Cpu)?;
        let shares = r1seg_nn::avg_pool3d(&voxels, per_cell)?.clamp(SURE[0], SURE[1])?;
        let logits = (shares.log()? - shares.affine(-1.0, 1.0)?.log()?)?;
        Ok(self.model.on_device(&logits)?)
    }
}

/// A point in a crop that begins at `start`, as the prompt encoder takes it, if it is in it.
pub(super) fn in_crop(
    point: &TargetPoint,
    start: [i64; 3],
    size: [usize; 3],
) -> Option<([f32; 3], PointLabel)> {
    let at = within(point.cell, start);
    let label = if point.positive { PointLabel::Positive } else { PointLabel::Negative };
    is_inside(at, size, [0; 3]).then(|| (at.map(|n| n as f32), label))
}

/// The cells of a box that a crop shows, in its own cells.
pub(super) fn shown(region: Region, start: [i64; 3], size: [usize; 3]) -> Option<Region> {
    let clipped = |cell: [usize; 3]| {
        let at = within(signed(cell), start);
        std::array::from_fn(|n| usize::try_from(at[n]).unwrap_or(0).min(size[n]))
    };
    let seen = Region { start: clipped(region.start), end: clipped(region.end) };
    overlap(seen, Region::whole(size))
}

/// What recorded cases call a pass.
fn stage_name(prompt: &Prompt, shown: usize, pass: &str) -> String {
    match (prompt.region.is_some(), shown) {
        (true, 0) => "box".to_string(),
        (true, 1) => "box_points".to_string(),
        (true, n) => format!("box_points.{}", n - 1),
        (false, 0) => "mask_only".to_string(),
        (false, _) if prompt.points_at_once => "points_at_once".to_string(),
        (false, n) => format!("{pass}.{}", n - 1),
    }
}

/// Whether a mask of a crop touches one of its faces that the volume of shape `whole` goes on behind.
///
/// # Shapes
/// - `mask`: `size`, C order
pub(super) fn is_cut(mask: &[u8], start: [i64; 3], size: [usize; 3], whole: [usize; 3]) -> bool {
    let on = |set: &[u8]| set.iter().any(|v| *v != 0);
    faces(start, size, whole).any(|(axis, last)| touches(mask, size, axis, last, on))
}

/// The faces of a crop that the volume goes on behind: their axes, and whether it is the last.
pub(super) fn faces(
    start: [i64; 3],
    size: [usize; 3],
    whole: [usize; 3],
) -> impl Iterator<Item = (usize, bool)> {
    let signed = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    (0..3).flat_map(move |axis| {
        let first = (0 < start[axis]).then_some((axis, false));
        let last = start[axis].saturating_add(signed(size[axis])) < signed(whole[axis]);
        first.into_iter().chain(last.then_some((axis, true)))
    })
}

/// Whether `on` holds for a part of a row on a face of a grid.
pub(super) fn touches<T>(
    values: &[T],
    [d, h, w]: [usize; 3],
    axis: usize,
    last: bool,
    on: impl Fn(&[T]) -> bool,
) -> bool {
    let at = |size: usize| if last { size.saturating_sub(1) } else { 0 };
    let row = |z: usize, y: usize| &values[(z * h + y) * w..][..w];
    match axis {
        0 => (0..h).any(|y| on(row(at(d), y))),
        1 => (0..d).any(|z| on(row(z, at(h)))),
        _ => (0..d).any(|z| (0..h).any(|y| on(&row(z, y)[at(w)..][..1]))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_is_told_as_far_as_the_crop_shows_it() {
        let region = Region { start: [2, 10, 20], end: [6, 14, 40] };
        let shown = |start| shown(region, start, [8; 3]);
        assert_eq!(shown([0, 10, 24]), Some(Region { start: [2, 0, 0], end: [6, 4, 8] }));
        assert_eq!(shown([-4, 8, 18]), Some(Region { start: [6, 2, 2], end: [8, 6, 8] }));
        assert_eq!(shown([6, 10, 24]), None);
    }

    #[test]
    fn a_mask_is_cut_only_where_the_volume_goes_on() {
        let size = [3, 4, 5];
        let mask = |at: [usize; 3]| {
            let mut mask = vec![0; 60];
            mask[(at[0] * 4 + at[1]) * 5 + at[2]] = 1;
            mask
        };
        // The volume goes on behind the first face along H and the last one along W.
        let (start, whole) = ([0, 2, -1], [3, 6, 9]);
        for (at, cut) in [
            ([1, 0, 2], true),
            ([1, 3, 2], false),
            ([1, 1, 4], true),
            ([1, 1, 0], false),
            ([0, 1, 1], false),
            ([2, 1, 1], false),
            ([1, 1, 1], false),
        ] {
            assert_eq!(is_cut(&mask(at), start, size, whole), cut, "{at:?}");
        }
        // And in a larger one, behind all of them.
        for at in [[0, 1, 1], [2, 1, 1], [1, 3, 2], [1, 1, 0]] {
            assert!(is_cut(&mask(at), [1; 3], size, [20; 3]), "{at:?}");
        }
    }

    #[test]
    fn passes_have_the_names_of_the_recorded_cases() {
        let points = Prompt::default();
        let region = Prompt::default().with_region(Region::whole([2; 3]));
        let at_once = Prompt::default().with_points_at_once();
        let names = [(&points, 0), (&points, 1), (&points, 3), (&region, 0), (&region, 1)]
            .map(|(prompt, shown)| stage_name(prompt, shown, "clicks"));
        assert_eq!(names, ["mask_only", "clicks.0", "clicks.2", "box", "box_points"]);
        assert_eq!(stage_name(&at_once, 3, "clicks"), "points_at_once");
    }
}
