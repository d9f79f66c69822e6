//! Cuts of a volume at the resolution of the screen.

use std::cmp::Reverse;
use std::ops::Range;

use r1seg::PromptPoint;
use r1seg::volume::{Region, Voxels};

use super::view::{ScreenAxis, View};
use super::window::{SOFT_TISSUE, Window};
use super::{BoxMark, Scene};

/// The arrays of a scene.
pub(super) struct Field<'a> {
    /// `[D, H, W]`; all 0 if it is not that of the volume.
    pub(super) shape: [usize; 3],
    pub(super) volume: &'a Voxels,
    /// None if their number is not that of the shape.
    pub(super) labels: &'a [u16],
    /// Those that lie in the volume.
    pub(super) boxes: Vec<BoxMark>,
    /// Those of the boxes that were asked about that lie in the volume.
    pub(super) asked_boxes: Vec<Region>,
    /// Those of the points that were asked about that lie in the volume.
    pub(super) points: Vec<PromptPoint>,
    /// The intensities that are black and white.
    pub(super) window: Window,
}

/// A cut, `[height, width]` pixels.
pub(super) struct Tile {
    pub(super) width: usize,
    pub(super) height: usize,
    /// In `0..=1`.
    pub(super) grey: Vec<f32>,
    pub(super) labels: Vec<u16>,
}

impl<'a> Field<'a> {
    pub(super) fn new(scene: &Scene<'a>) -> Self {
        let [d, h, w] = scene.shape;
        let voxels = d.checked_mul(h).and_then(|n| n.checked_mul(w)).unwrap_or(0);
        let has_volume = voxels > 0 && scene.volume.len() == voxels;
        let has_labels = has_volume && scene.labels.len() == voxels;
        let is_inside = |Region { start, end }: &Region| {
            has_volume && (0..3).all(|n| start[n] < end[n] && end[n] <= scene.shape[n])
        };
        let has =
            |point: &&PromptPoint| has_volume && (0..3).all(|n| point.voxel[n] < scene.shape[n]);
        Self {
            boxes: scene.boxes.iter().filter(|mark| is_inside(&mark.region)).copied().collect(),
            asked_boxes: scene.asked_boxes.iter().filter(|b| is_inside(b)).copied().collect(),
            points: scene.points.iter().filter(has).copied().collect(),
            shape: if has_volume { scene.shape } else { [0; 3] },
            volume: scene.volume,
            labels: if has_labels { scene.labels } else { &[] },
            window: SOFT_TISSUE,
        }
    }

    /// The place of voxel `[d, h, w]` in the arrays.
    pub(super) fn index(&self, [d, h, w]: [usize; 3]) -> usize {
        (d * self.shape[1] + h) * self.shape[2] + w
    }

    /// The cut of `view` at voxel `index` of the axis that it is normal to, `[width, height]`
    /// pixels large.
    pub(super) fn cut(&self, view: &View, index: usize, [width, height]: [usize; 2]) -> Tile {
        let offset = index * self.stride(view.through);
        let (across, down) = (self.line(&view.across, width), self.line(&view.down, height));
        let grey = match self.volume {
            Voxels::F32(data) => self.grey(&across, &down, |at| data[offset + at]),
            Voxels::I16 { stored, scale } => {
                self.grey(&across, &down, |at| scale.apply(stored[offset + at]))
            }
        };
        let mut labels = Vec::new();
        if !self.labels.is_empty() {
            labels.reserve_exact(width * height);
            for rows in &down.cells {
                for columns in &across.cells {
                    let rows = &down.offsets[rows.clone()];
                    labels.push(self.label(offset, rows, &across.offsets[columns.clone()]));
                }
            }
        }
        labels.resize(width * height, 0);
        Tile { width, height, grey, labels }
    }

    /// Distance in memory of two voxels that are neighbors along an array axis.
    fn stride(&self, axis: usize) -> usize {
        self.shape[axis + 1..].iter().product()
    }

    fn line(&self, axis: &ScreenAxis, pixels: usize) -> Line {
        let (count, stride) = (axis.count, self.stride(axis.axis));
        Line {
            offsets: (0..count).map(|position| axis.mirrored(position) * stride).collect(),
            taps: (0..pixels).map(|pixel| Taps::new(pixel, pixels, count)).collect(),
            cells: (0..pixels).map(|pixel| cell(pixel, pixels, count)).collect(),
        }
    }

    /// Resamples what `intensity` says of voxels in `0..=1`; what is not a number is black.
    fn grey(&self, across: &Line, down: &Line, intensity: impl Fn(usize) -> f32) -> Vec<f32> {
        let Window { low, high, .. } = self.window;
        // A window without a width leaves black and white.
        let contrast = if low < high { 1.0 / (high - low) } else { f32::INFINITY };
        let mut pixels = Vec::with_capacity(across.taps.len() * down.taps.len());
        let mut row = vec![0.0; across.offsets.len()];
        for taps in &down.taps {
            row.fill(0.0);
            for (weight, start) in taps.weights.iter().zip(&down.offsets[taps.first..]) {
                for (sum, step) in row.iter_mut().zip(&across.offsets) {
                    let grey = (intensity(start + step) - low) * contrast;
                    *sum += weight * if grey > 0.0 { grey.min(1.0) } else { 0.0 };
                }
            }
            pixels.extend(across.taps.iter().map(|taps| taps.apply(&row)));
        }
        pixels
    }

    /// The label of a pixel that shows these voxels: the most frequent one, and background
    /// only if there is no other, so that a mask of one voxel stays visible.
    fn label(&self, offset: usize, rows: &[usize], columns: &[usize]) -> u16 {
        if let ([row], [column]) = (rows, columns) {
            return self.labels[offset + row + column];
        }
        let labels = || {
            rows.iter().flat_map(move |row| {
                columns.iter().map(move |column| self.labels[offset + row + column])
            })
        };
        let first = labels().next().unwrap_or(0);
        if labels().all(|label| label == first) {
            return first;
        }
        let mut labels: Vec<u16> = labels().filter(|label| *label != 0).collect();
        labels.sort_unstable();
        let runs = labels.chunk_by(|one, other| one == other);
        let longest = runs.max_by_key(|run| (run.len(), Reverse(run.first().copied())));
        longest.and_then(|run| run.first().copied()).unwrap_or(0)
    }
}

/// How the voxels along an axis become pixels.
struct Line {
    /// Of the voxels in memory, in the order of the screen.
    offsets: Vec<usize>,
    /// What the grey of each pixel is made of.
    taps: Vec<Taps>,
    /// The voxels that each pixel covers.
    cells: Vec<Range<usize>>,
}

/// A pixel's share of consecutive voxels.
struct Taps {
    first: usize,
    weights: Vec<f32>,
}

impl Taps {
    /// Linear interpolation; where a pixel spans more than a voxel, its triangle is that much
    /// wider, so that fine structures are averaged and not skipped.
    fn new(pixel: usize, pixels: usize, count: usize) -> Self {
        let voxels_per_pixel = count as f64 / pixels as f64;
        let center = (pixel as f64 + 0.5) * voxels_per_pixel - 0.5;
        let radius = voxels_per_pixel.max(1.0);
        // A cast from float to integer saturates.
        let first = (center - radius).ceil().max(0.0) as usize;
        let last = ((center + radius).floor() as usize).min(count - 1);
        let mut weights: Vec<f64> =
            (first..=last).map(|i| (1.0 - (i as f64 - center).abs() / radius).max(0.0)).collect();
        let sum: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= sum);
        Self { first, weights: weights.into_iter().map(|weight| weight as f32).collect() }
    }

    fn apply(&self, line: &[f32]) -> f32 {
        self.weights.iter().zip(&line[self.first..]).map(|(weight, grey)| weight * grey).sum()
    }
}

/// The voxels whose centers lie in a pixel, or else the nearest one.
fn cell(pixel: usize, pixels: usize, count: usize) -> Range<usize> {
    let per_pixel = count as f64 / pixels as f64;
    // The center of voxel `i` is at `i + 0.5`. A cast from float to integer saturates.
    let voxel_from = |edge: usize| (edge as f64 * per_pixel - 0.5).ceil().max(0.0) as usize;
    let (first, end) = (voxel_from(pixel).min(count - 1), voxel_from(pixel + 1).min(count));
    if first < end {
        return first..end;
    }
    let nearest = (((pixel as f64 + 0.5) * per_pixel) as usize).min(count - 1);
    nearest..nearest + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preview::view::{Anatomy, Plane};

    fn cut(volume: &[f32], labels: &[u16], shape: [usize; 3], size: [usize; 2]) -> Tile {
        let volume = &Voxels::from(volume.to_vec());
        let mut field = Field::new(&Scene { labels, ..Scene::new(volume, shape) });
        field.window = Window { low: 0.0, high: 10.0, name: None };
        field.cut(&Anatomy::new(None).view(Plane::Axial, shape), 0, size)
    }

    #[test]
    fn grey_between_voxels_is_interpolated_and_held_at_the_edges() {
        let tile = cut(&[0.0, 10.0], &[0, 0], [1, 1, 2], [8, 1]);
        let expected = [0.0, 0.0, 0.125, 0.375, 0.625, 0.875, 1.0, 1.0];
        assert_eq!(tile.grey, expected);
    }

    #[test]
    fn grey_of_shrunk_voxels_is_their_mean() {
        let checkers: Vec<f32> = (0..64).map(|i| ((i / 8 + i) % 2) as f32 * 10.0).collect();
        let tile = cut(&checkers, &[0; 64], [1, 8, 8], [2, 2]);
        assert!(tile.grey.iter().all(|grey| (grey - 0.5).abs() < 0.01), "{:?}", tile.grey);
    }

    #[test]
    fn grey_of_voxels_that_are_no_numbers_stays_within_the_window() {
        let voxels = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 5.0];
        let tile = cut(&voxels, &[0; 4], [1, 1, 4], [4, 1]);
        assert_eq!(tile.grey, [0.0, 1.0, 0.0, 0.5]);
    }

    #[test]
    fn window_without_a_width_leaves_black_and_white() {
        let (volume, shape) = (&Voxels::from(vec![4.0_f32, 5.0, 6.0]), [1, 1, 3]);
        let scene = Scene::new(volume, shape);
        for high in [5.0, f32::NAN, 1.0] {
            let mut field = Field::new(&scene);
            field.window = Window { low: 5.0, high, name: None };
            let view = Anatomy::new(None).view(Plane::Axial, shape);
            assert_eq!(field.cut(&view, 0, [3, 1]).grey, [0.0, 0.0, 1.0]);
        }
    }

    #[test]
    fn label_of_a_single_voxel_survives_any_shrinking() {
        for at in 0..1000 {
            let mut labels = [0; 1000];
            labels[at] = 3;
            let tile = cut(&[0.0; 1000], &labels, [1, 1, 1000], [37, 1]);
            assert_eq!(tile.labels.iter().filter(|label| **label == 3).count(), 1, "voxel {at}");
        }
    }

    #[test]
    fn label_of_a_pixel_is_the_most_frequent_one_but_background() {
        let tile = cut(&[0.0; 8], &[0, 0, 0, 7, 2, 2, 7, 0], [1, 1, 8], [2, 1]);
        assert_eq!(tile.labels, [7, 2]);
    }

    #[test]
    fn labels_are_not_interpolated_when_enlarged() {
        let tile = cut(&[0.0; 2], &[0, 5], [1, 1, 2], [6, 1]);
        assert_eq!(tile.labels, [0, 0, 0, 5, 5, 5]);
    }

    #[test]
    fn cells_part_the_voxels_among_the_pixels() {
        for (pixels, count) in [(1, 9), (7, 9), (9, 9), (37, 1000), (3, 512)] {
            let covered: Vec<usize> = (0..pixels).flat_map(|p| cell(p, pixels, count)).collect();
            assert_eq!(covered, (0..count).collect::<Vec<_>>(), "{count} on {pixels}");
        }
    }
}
