//! Classes over the whole volume: windows whose features are averaged, and then scored.
//!
//! The logit of a class at a voxel is the dot product of its embedding and the voxel's features, without a
//! bias, and all windows weigh the same. So the mean of the logits of several windows is the logit of the
//! mean of their features: one sum of features stands for any number of classes. A common factor changes
//! neither the sign of a logit nor which one is the largest, so the sums need not be divided.
//!
//! Windows come in the order of the longest axis. Once all that begin at one place along it are done, the
//! planes in front of the next place are final: they are scored, and make room. So only as many planes as a
//! window has are in memory.

use std::time::Instant;

use candle_core::{Device, Tensor};
use r1seg_segresnet::Branches;
use r1seg_volume::sliding::windows;
use r1seg_volume::{Padding, Region};
use rayon::prelude::*;

use super::encoded::{AutomaticVolume, PromptRun};
use crate::{Error, Event};

/// Sums of features up to this size are kept for further prompts.
const KEPT_BYTES: u64 = 1 << 30;

/// Voxels that a thread chooses the classes of at a time.
const CHUNK: usize = 4096;

/// What stitching windows over a grid takes.
pub(super) struct Bytes {
    /// Sums of features.
    sums: u64,
    /// Whether they are kept for further prompts.
    is_kept: bool,
    /// The value of each voxel, its class, and a bit for each class that is kept apart.
    voxels: u64,
}

impl Bytes {
    pub(super) fn new(features: usize, shape: [usize; 3], patch: [usize; 3], apart: usize) -> Self {
        let shape = Padding::to_at_least(shape, patch).shape;
        let voxels = shape.iter().fold(1u64, |n, side| n.saturating_mul(*side as u64));
        let axis = longest(shape);
        let whole = voxels.saturating_mul(4 * features as u64);
        let is_kept = whole <= KEPT_BYTES;
        let sums = match is_kept {
            true => whole,
            false => whole / shape[axis] as u64 * patch[axis] as u64,
        };
        let per_voxel = voxels.saturating_mul(4 + 2);
        Self { sums, is_kept, voxels: per_voxel.saturating_add(voxels / 8 * apart as u64) }
    }

    /// As long as windows come.
    pub(super) fn of_windows(&self) -> u64 {
        self.voxels.saturating_add(self.sums)
    }

    /// Once all of them were scored.
    pub(super) fn afterwards(&self) -> u64 {
        if self.is_kept { self.of_windows() } else { self.voxels }
    }
}

fn longest(shape: [usize; 3]) -> usize {
    (0..3).max_by_key(|axis| (shape[*axis], 3 - axis)).unwrap_or(0)
}

/// The features of the windows over a grid, summed: of as many planes across one axis as there is room for.
#[derive(Debug)]
pub(super) struct Sums {
    /// Which axis the planes lie across.
    axis: usize,
    /// Of the padded grid.
    shape: [usize; 3],
    /// How many planes there is room for; plane `n` is at `n % depth`.
    depth: usize,
    /// Whether they are kept for further classes, which takes all planes.
    is_kept: bool,
    /// `[F, depth, ..]`, each plane in the order of the other two axes.
    numbers: Vec<f32>,
}

impl Sums {
    fn new(features: usize, shape: [usize; 3], patch: [usize; 3]) -> Self {
        let axis = longest(shape);
        let plane = shape.iter().product::<usize>() / shape[axis];
        let kept = 4 * (features * plane * shape[axis]) as u64 <= KEPT_BYTES;
        let depth = if kept { shape[axis] } else { patch[axis] };
        Self { axis, shape, depth, is_kept: kept, numbers: vec![0.0; features * depth * plane] }
    }

    /// The axes of a plane.
    fn across(&self) -> [usize; 2] {
        match self.axis {
            0 => [1, 2],
            1 => [0, 2],
            _ => [0, 1],
        }
    }

    /// Voxels of a plane.
    fn plane(&self) -> usize {
        self.across().iter().map(|axis| self.shape[*axis]).product()
    }

    /// Adds the features of a window.
    ///
    /// # Shapes
    /// - `features`: `[F, ..window]`
    fn add(&mut self, window: Region, features: &[f32]) {
        let ([down, along], plane) = (self.across(), self.plane());
        let (axis, depth, width) = (self.axis, self.depth, self.shape[along]);
        let size @ [_, h, w] = window.shape();
        let strides = [h * w, w, 1];
        let of_channel = |(sums, features): (&mut [f32], &[f32])| {
            for row in 0..size[down] {
                let first = (window.start[down] + row) * width + window.start[along];
                for n in 0..size[axis] {
                    let at = (window.start[axis] + n) % depth * plane + first;
                    let to = &mut sums[at..][..size[along]];
                    let from = &features[row * strides[down] + n * strides[axis]..];
                    let from = from.iter().step_by(strides[along]);
                    to.iter_mut().zip(from).for_each(|(sum, feature)| *sum += feature);
                }
            }
        };
        let channels = self.numbers.par_chunks_exact_mut(depth * plane);
        channels.zip(features.par_chunks_exact(size.iter().product())).for_each(of_channel);
    }

    /// The sums of one plane.
    ///
    /// # Shapes
    /// - returns: `[F, voxels of a plane]`
    fn of_plane(&self, n: usize) -> Vec<f32> {
        let plane = self.plane();
        let channels = self.numbers.chunks_exact(self.depth * plane);
        let at = n % self.depth * plane;
        channels.flat_map(|channel| &channel[at..at + plane]).copied().collect()
    }

    /// Makes room for further planes.
    fn clear(&mut self, planes: std::ops::Range<usize>) {
        let (plane, depth) = (self.plane(), self.depth);
        self.numbers.par_chunks_exact_mut(depth * plane).for_each(|channel| {
            for n in planes.clone() {
                channel[n % depth * plane..][..plane].fill(0.0);
            }
        });
    }
}

/// The classes that are scored together.
pub(super) struct Wanted {
    /// `[classes, F]`
    pub(super) embeddings: Tensor,
    /// Whether a voxel may belong to several.
    pub(super) overlaps: bool,
}

/// Which voxels of the prepared grid belong to which class.
pub(super) struct Scores {
    /// The class with the largest logit above 0, counted from 1; of equal ones the first.
    pub(super) best: Vec<u16>,
    /// Of each class, a bit for each voxel with a logit above 0, where these are kept apart.
    own: Vec<Vec<u64>>,
    /// Mean logits, `[classes, voxels]`, where they are recorded.
    pub(super) logits: Vec<f32>,
    /// How many windows there are.
    pub(super) windows: usize,
}

impl Scores {
    /// The voxels of some classes on the prepared grid, where these are kept apart.
    pub(super) fn own(&self, wanted: &[bool]) -> Option<Vec<u8>> {
        if self.own.is_empty() {
            return None;
        }
        let mut mask = vec![0u8; self.best.len()];
        for (bits, _) in self.own.iter().zip(wanted).filter(|(_, wanted)| **wanted) {
            for (n, voxel) in mask.iter_mut().enumerate() {
                *voxel |= (bits[n / 64] >> (n % 64) & 1) as u8;
            }
        }
        Some(mask)
    }
}

/// How many windows that start at these places along an axis hold a voxel.
fn cover(starts: &[usize], length: usize, at: usize) -> usize {
    starts.iter().filter(|start| (**start..**start + length).contains(&at)).count()
}

impl AutomaticVolume {
    /// The windows over the padded grid, those that begin first along the longest axis first.
    fn class_windows(&self) -> Result<Vec<Region>, Error> {
        let config = self.model.config();
        let shape = self.padding.shape;
        let mut all = windows(shape, config.patch_size, config.overlap)?;
        let axis = longest(shape);
        all.sort_by_key(|window| window.start[axis]);
        Ok(all)
    }
}

impl PromptRun<'_, '_> {
    /// Scores classes over the whole volume.
    pub(super) fn score(&mut self, wanted: &Wanted) -> Result<Scores, Error> {
        let volume = self.volume;
        let windows = volume.class_windows()?;
        let inner = volume.padding.inner;
        let voxels: usize = inner.shape().iter().product();
        let classes = wanted.embeddings.dim(0)?;
        let own = if wanted.overlaps { classes } else { 0 };
        let mut scores = Scores {
            best: vec![0; voxels],
            own: vec![vec![0; voxels.div_ceil(64)]; own],
            logits: vec![0.0; if self.trace.is_some() { classes * voxels } else { 0 }],
            windows: windows.len(),
        };
        if let Some(kept) = volume.kept.get() {
            for plane in 0..kept.shape[kept.axis] {
                self.score_plane(kept, plane, wanted, &windows, &mut scores)?;
            }
            return Ok(scores);
        }
        let config = volume.model.config();
        let mut sums =
            Sums::new(config.network.feature_size, volume.padding.shape, config.patch_size);
        let axis = sums.axis;
        for (index, window) in windows.iter().enumerate() {
            self.context.emit(Event::Window { index, of: windows.len() });
            let start = Instant::now();
            let values = volume.window_values(*window)?;
            let mut probe = self.context.probe(self.trace.as_mut());
            let size = config.patch_size;
            let decoded = volume.model.features(values, size, Branches::Classes, &mut probe)?;
            if let Some(features) = decoded.classes {
                let features = volume.model.class_features(features, &mut probe)?;
                sums.add(*window, &features.flatten_all()?.to_vec1::<f32>()?);
            }
            self.timings.vit += start.elapsed();
            let next = windows.get(index + 1).map(|next| next.start[axis]);
            let end = next.unwrap_or(sums.shape[axis]);
            if end == window.start[axis] || sums.is_kept {
                continue;
            }
            for plane in window.start[axis]..end {
                self.score_plane(&sums, plane, wanted, &windows, &mut scores)?;
            }
            sums.clear(window.start[axis]..end);
        }
        if sums.is_kept {
            // Another thread may have been faster, with the same numbers.
            let sums = volume.kept.get_or_init(|| sums);
            for plane in 0..sums.shape[axis] {
                self.score_plane(sums, plane, wanted, &windows, &mut scores)?;
            }
        }
        Ok(scores)
    }

    fn score_plane(
        &mut self,
        sums: &Sums,
        plane: usize,
        wanted: &Wanted,
        windows: &[Region],
        scores: &mut Scores,
    ) -> Result<(), Error> {
        let inner = self.volume.padding.inner;
        if !(inner.start[sums.axis]..inner.end[sums.axis]).contains(&plane) {
            return Ok(());
        }
        self.context.check()?;
        let start = Instant::now();
        let (features, voxels) = (sums.of_plane(plane), sums.plane());
        let features = Tensor::from_vec(features, ((), voxels), &Device::Cpu)?;
        let logits = self.volume.model.class_logits(&features, &wanted.embeddings)?;
        let mut best = vec![0u16; voxels];
        best.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, best)| {
            let mut top = [0f32; CHUNK];
            for (number, logits) in (1u16..).zip(logits.chunks_exact(voxels)) {
                let logits = &logits[chunk * CHUNK..][..best.len()];
                for ((best, top), logit) in best.iter_mut().zip(&mut top).zip(logits) {
                    if *top < *logit {
                        (*top, *best) = (*logit, number);
                    }
                }
            }
        });
        let grid = Plane { sums, plane, inner };
        for (from, to) in grid.voxels() {
            scores.best[to] = best[from];
        }
        for (logits, own) in logits.chunks_exact(voxels).zip(&mut scores.own) {
            for (_, to) in grid.voxels().filter(|(from, _)| 0.0 < logits[*from]) {
                own[to / 64] |= 1 << (to % 64);
            }
        }
        if !scores.logits.is_empty() {
            let counts = grid.counts(windows, self.volume.model.config().patch_size);
            let all = scores.best.len();
            for (class, logits) in logits.chunks_exact(voxels).enumerate() {
                for (from, to) in grid.voxels() {
                    scores.logits[class * all + to] = logits[from] / counts[from];
                }
            }
        }
        self.timings.mask += start.elapsed();
        Ok(())
    }
}

/// A plane of the padded grid, as far as it is one of the prepared grid.
struct Plane<'a> {
    sums: &'a Sums,
    plane: usize,
    inner: Region,
}

impl Plane<'_> {
    /// Voxels by where they are in the plane, and in the prepared grid.
    fn voxels(&self) -> impl Iterator<Item = (usize, usize)> {
        let [down, along] = self.sums.across();
        let (axis, inner) = (self.sums.axis, self.inner);
        let [_, h, w] = inner.shape();
        let strides = [h * w, w, 1];
        let width = self.sums.shape[along];
        let first = (self.plane - inner.start[axis]) * strides[axis];
        (0..inner.shape()[down]).flat_map(move |row| {
            let from = (inner.start[down] + row) * width + inner.start[along];
            let to = first + row * strides[down];
            (0..inner.shape()[along]).map(move |n| (from + n, to + n * strides[along]))
        })
    }

    /// How many windows hold each voxel of the plane.
    fn counts(&self, windows: &[Region], patch: [usize; 3]) -> Vec<f32> {
        let starts: [Vec<usize>; 3] = std::array::from_fn(|axis| {
            let mut starts: Vec<usize> = windows.iter().map(|window| window.start[axis]).collect();
            starts.sort_unstable();
            starts.dedup();
            starts
        });
        let [down, along] = self.sums.across();
        let of = |axis: usize, at: usize| cover(&starts[axis], patch[axis], at);
        let here = of(self.sums.axis, self.plane);
        let rows = (0..self.sums.shape[down]).flat_map(|row| {
            let of_row = here * of(down, row);
            (0..self.sums.shape[along]).map(move |n| (of_row, n))
        });
        rows.map(|(of_row, n)| (of_row * of(along, n)) as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_any_longest_axis_are_those_of_their_windows() {
        for shape in [[9, 4, 5], [4, 9, 5], [5, 4, 9]] {
            let patch = [4, 4, 4];
            let mut sums = Sums::new(2, shape, patch);
            assert!(sums.is_kept);
            let all = windows(shape, patch, 0.25).unwrap();
            let mut exact = vec![0f32; 2 * shape.iter().product::<usize>()];
            for (n, window) in all.iter().enumerate() {
                let features: Vec<f32> = (0..128).map(|i| (i * (n + 3) % 17) as f32).collect();
                sums.add(*window, &features);
                for (i, feature) in features.iter().enumerate() {
                    let at = [i / 16 % 4, i / 4 % 4, i % 4];
                    let at: [usize; 3] = std::array::from_fn(|a| window.start[a] + at[a]);
                    let voxel = (at[0] * shape[1] + at[1]) * shape[2] + at[2];
                    exact[i / 64 * shape.iter().product::<usize>() + voxel] += feature;
                }
            }
            let inner = Region::whole(shape);
            for plane in 0..shape[sums.axis] {
                let values = sums.of_plane(plane);
                let grid = Plane { sums: &sums, plane, inner };
                for (from, to) in grid.voxels() {
                    for channel in 0..2 {
                        let of_channel = channel * shape.iter().product::<usize>();
                        let got = values[channel * sums.plane() + from];
                        assert_eq!(got, exact[of_channel + to], "{shape:?} {plane}");
                    }
                }
                let counts = grid.counts(&all, patch);
                for (from, to) in grid.voxels() {
                    let [_, h, w] = shape;
                    let at = [to / (h * w), to / w % h, to % w];
                    let holds = |window: &&Region| {
                        (0..3).all(|a| (window.start[a]..window.end[a]).contains(&at[a]))
                    };
                    assert_eq!(counts[from] as usize, all.iter().filter(holds).count());
                }
            }
        }
    }

    #[test]
    fn planes_make_room_for_those_that_follow() {
        let mut sums =
            Sums { axis: 0, shape: [8, 2, 2], depth: 4, is_kept: false, numbers: vec![0.0; 16] };
        sums.add(Region::at([0; 3], [4, 2, 2]), &[1.0; 16]);
        assert_eq!(sums.of_plane(1), [1.0; 4]);
        sums.clear(0..3);
        sums.add(Region::at([3, 0, 0], [4, 2, 2]), &[2.0; 16]);
        assert_eq!((sums.of_plane(3), sums.of_plane(4)), (vec![3.0; 4], vec![2.0; 4]));
    }

    #[test]
    fn memory_is_that_of_a_window_of_planes() {
        // 333 x 333 x 603 voxels, of which 128 planes across the longest axis are kept.
        let large = |apart| Bytes::new(48, [333, 333, 603], [128; 3], apart);
        let voxels: u64 = 333 * 333 * 603;
        assert_eq!(large(0).of_windows(), 4 * 48 * 128 * 333 * 333 + 6 * voxels);
        assert_eq!(large(0).afterwards(), 6 * voxels);
        assert_eq!(large(117).of_windows() - large(0).of_windows(), voxels / 8 * 117);
        let small = Bytes::new(8, [20, 60, 60], [48; 3], 0);
        assert_eq!(small.of_windows(), (4 * 8 + 6) * 48 * 60 * 60);
        assert_eq!(small.afterwards(), small.of_windows());
    }
}
