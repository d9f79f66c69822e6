//! Objects larger than a crop: further crops where the mask touches the edge of one.
//!
//! Crops lie half a crop apart, so that each cell of low-resolution logits in one is a cell of its
//! neighbors as well, and cells are blended without resampling: each is the mean of the crops that show
//! it, weighted by the product of its distances from the edges along the three axes.
//!
//! A crop is prompted with those points and that part of the box that lie in it, and with the blended
//! logits as far as they are known; elsewhere with the mask to correct, or with 0, as before a first
//! pass. Where no positive point lies in it, the cell with the largest logit is one.

use std::collections::{BTreeMap, VecDeque};

use candle_core::{Device, Tensor};
use r1seg_mask_decoder::PointLabel;

use super::clicks::{Area, Clicked, faces, in_crop, numbers, shown, touches};
use super::encoded::PromptRun;
use super::target::Target;
use super::zoom::corners;
use crate::{Error, Event, Prompt};

/// The code of a crop that has no values above 0.
const NOTHING_POSITIVE: &str = "R-PRE-03";

/// The most crops of one target: a block of 5 x 5 x 5, half a crop of 96 mm apart, spans 576 mm each way.
const MAX_CROPS: usize = 128;

impl PromptRun<'_, '_> {
    /// Grows the mask of a first crop.
    pub(super) fn grow(
        &mut self,
        prompt: &Prompt,
        first: &Clicked,
        target: &Target,
    ) -> Result<Area, Error> {
        let size = self.volume.setup.grid;
        let whole = self.volume.setup.map.shape();
        let cells = self.volume.model.config().mask_head.low_res_size();
        let mut canvas = Canvas { cells, crops: BTreeMap::new() };
        let mut queue = VecDeque::from([[0; 3]]);
        queue.extend(
            target
                .points
                .iter()
                // The first crop was prompted with the points that it shows.
                .filter(|point| point.positive && in_crop(point, first.start(), size).is_none())
                .map(|point| nearest(point.cell, first.start(), size)),
        );
        let mut is_cut = false;
        while let Some(index) = queue.pop_front() {
            if canvas.crops.contains_key(&index) {
                continue;
            }
            if canvas.crops.len() >= MAX_CROPS {
                is_cut = true;
                break;
            }
            let start = start_of(index, first.start(), size);
            let logits = match index {
                [0, 0, 0] => first.numbers()?,
                _ => match self.neighbor(prompt, target, &canvas, (index, start))? {
                    Some(logits) => logits,
                    None => continue,
                },
            };
            for (axis, last) in faces(start, size, whole) {
                let on = |row: &[f32]| row.iter().any(|logit| 0.0 < *logit);
                if touches(&logits, cells, axis, last, on) {
                    let mut next = index;
                    next[axis] += if last { 1 } else { -1 };
                    queue.push_back(next);
                }
            }
            canvas.crops.insert(index, logits);
        }
        Ok(canvas.finish(first.start(), size, is_cut))
    }

    /// The low-resolution logits of a further crop; `None` where there is nothing to prompt it with.
    fn neighbor(
        &mut self,
        prompt: &Prompt,
        target: &Target,
        canvas: &Canvas,
        (index, start): ([i64; 3], [i64; 3]),
    ) -> Result<Option<Vec<f32>>, Error> {
        let size = self.volume.setup.grid;
        let (mut known, best) = canvas.known(index);
        let mut points: Vec<_> =
            target.points.iter().filter_map(|point| in_crop(point, start, size)).collect();
        if !points.iter().any(|(_, label)| *label == PointLabel::Positive) {
            let Some(cell) = best else { return Ok(None) };
            let at = |n: usize| {
                let side = size[n] as f32 / canvas.cells[n] as f32;
                ((cell[n] as f32 + 0.5) * side - 0.5).round()
            };
            points.push((std::array::from_fn(at), PointLabel::Positive));
        }
        let of = canvas.crops.len() + 1;
        self.context.check()?;
        self.context.emit(Event::Window { index: of - 1, of });
        let bounding_box = target
            .region
            .and_then(|region| shown(region, start, size))
            .map(|cells| corners(Some(cells)));
        let crop = match self.crop_at(start, false) {
            Ok(crop) => crop,
            // Nothing but air, for instance, has nothing to be normalized by.
            Err(error) if error.code() == NOTHING_POSITIVE => return Ok(None),
            Err(error) => return Err(error),
        };
        if let Some(mask) = &prompt.mask {
            let told = numbers(&self.volume.mask_logits(mask, start)?)?;
            let unknown = known.iter_mut().zip(told).filter(|(known, _)| known.is_none());
            unknown.for_each(|(known, told)| *known = Some(told));
        }
        let known = known.into_iter().map(Option::unwrap_or_default).collect::<Vec<f32>>();
        let [d, h, w] = canvas.cells;
        let known = Tensor::from_vec(known, (1, 1, d, h, w), &Device::Cpu)?;
        let known = self.volume.model.on_device(&known)?;
        let stage = format!("grown.{}", of - 1);
        let low_res = self.pass(&crop, &points, bounding_box, &known, &stage)?;
        Ok(Some(numbers(&low_res)?))
    }
}

/// Where a crop begins that lies so many halves of a crop away from the first one.
fn start_of(index: [i64; 3], first: [i64; 3], size: [usize; 3]) -> [i64; 3] {
    let half = |n: usize| i64::try_from(size[n] / 2).unwrap_or(i64::MAX);
    std::array::from_fn(|n| first[n].saturating_add(index[n].saturating_mul(half(n))))
}

/// The crop whose middle is nearest to a cell.
fn nearest(cell: [i64; 3], first: [i64; 3], size: [usize; 3]) -> [i64; 3] {
    std::array::from_fn(|n| {
        let half = (size[n] / 2).max(1) as f64;
        ((cell[n] as f64 - first[n] as f64 - half) / half).round() as i64
    })
}

/// The logits of the crops so far, by how many halves of a crop they are away from the first.
struct Canvas {
    /// Of one crop.
    cells: [usize; 3],
    crops: BTreeMap<[i64; 3], Vec<f32>>,
}

impl Canvas {
    /// What is known of a crop that is to be decoded: its logits, and the cell with the largest positive
    /// one.
    fn known(&self, index: [i64; 3]) -> (Vec<Option<f32>>, Option<[usize; 3]>) {
        let (sums, weights) = self.sums(index, self.cells);
        let mut best: Option<(f32, usize)> = None;
        let mut known = vec![None; sums.len()];
        for (at, (sum, weight)) in sums.iter().zip(&weights).enumerate() {
            if *weight == 0.0 {
                continue;
            }
            let logit = sum / weight;
            known[at] = Some(logit);
            if 0.0 < logit && best.is_none_or(|(largest, _)| largest < logit) {
                best = Some((logit, at));
            }
        }
        let [_, h, w] = self.cells;
        (known, best.map(|(_, at)| [at / (h * w), at / w % h, at % w]))
    }

    /// The weighted sums of logits in a box of cells that begins where the crop `index` does, and the
    /// sums of the weights.
    fn sums(&self, index: [i64; 3], shape: [usize; 3]) -> (Vec<f32>, Vec<f32>) {
        let [depth, height, width] = shape;
        let mut sums = vec![0.0; depth * height * width];
        let mut weights = sums.clone();
        let tents: [Vec<f32>; 3] = self.cells.map(tent);
        let [_, h, w] = self.cells;
        for (other, logits) in &self.crops {
            // Cells of the other crop that lie in the box, along each axis: from where, and to where.
            let spans: [Span; 3] = std::array::from_fn(|n| {
                let half = self.cells[n] as i64 / 2;
                Span::new((other[n] - index[n]) * half, self.cells[n], shape[n])
            });
            let [zs, ys, xs] = spans;
            for z in 0..zs.length {
                for y in 0..ys.length {
                    let from = &logits[((zs.from + z) * h + ys.from + y) * w + xs.from..];
                    let to = ((zs.to + z) * height + ys.to + y) * width + xs.to;
                    let plane = tents[0][zs.from + z] * tents[1][ys.from + y];
                    for x in 0..xs.length {
                        let weight = plane * tents[2][xs.from + x];
                        sums[to + x] += weight * from[x];
                        weights[to + x] += weight;
                    }
                }
            }
        }
        (sums, weights)
    }

    fn finish(self, first: [i64; 3], size: [usize; 3], is_cut: bool) -> Area {
        let ends = |n: usize| {
            let along = self.crops.keys().map(|index| index[n]);
            let (low, high) = (along.clone().min(), along.max());
            (low.unwrap_or_default(), high.unwrap_or_default())
        };
        let index: [i64; 3] = std::array::from_fn(|n| ends(n).0);
        let steps: [usize; 3] =
            std::array::from_fn(|n| usize::try_from(ends(n).1 - ends(n).0).unwrap_or_default());
        let cells: [usize; 3] =
            std::array::from_fn(|n| self.cells[n] + steps[n] * (self.cells[n] / 2));
        let (mut logits, weights) = self.sums(index, cells);
        logits.iter_mut().zip(&weights).for_each(|(logit, weight)| *logit /= weight);
        // No crop that was looked at goes on there, so that it is as far outside as anything is.
        let least = self.crops.values().flatten().fold(0f32, |least, logit| least.min(*logit));
        for (logit, weight) in logits.iter_mut().zip(&weights) {
            if *weight == 0.0 {
                *logit = least;
            }
        }
        Area {
            logits,
            cells,
            start: start_of(index, first, size),
            shape: std::array::from_fn(|n| size[n] + steps[n] * (size[n] / 2)),
            crops: self.crops.len(),
            is_cut,
        }
    }
}

/// Weights of the cells along an axis: their distances from the nearer edge.
fn tent(cells: usize) -> Vec<f32> {
    (0..cells).map(|n| n.min(cells - 1 - n) as f32 + 0.5).collect()
}

/// Cells that two boxes share along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    from: usize,
    to: usize,
    length: usize,
}

impl Span {
    /// Of a box of `from` cells that begins `offset` cells behind the start of one of `to` cells.
    fn new(offset: i64, from: usize, to: usize) -> Self {
        let ahead = usize::try_from(-offset).unwrap_or(0).min(from);
        let behind = usize::try_from(offset).unwrap_or(0).min(to);
        let length = (from - ahead).min(to - behind);
        Self { from: ahead, to: behind, length }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canvas(crops: &[([i64; 3], f32)]) -> Canvas {
        let crops = crops.iter().map(|(index, logit)| (*index, vec![*logit; 4 * 4 * 4]));
        Canvas { cells: [4; 3], crops: crops.collect() }
    }

    #[test]
    fn a_single_crop_stays_as_it_is() {
        let grown = canvas(&[([0; 3], 2.5)]).finish([7, -3, 0], [16; 3], false);
        assert_eq!((grown.start, grown.shape, grown.cells), ([7, -3, 0], [16; 3], [4; 3]));
        assert!(grown.logits.iter().all(|logit| (logit - 2.5).abs() < 1e-6));
        assert_eq!(grown.crops, 1);
    }

    #[test]
    fn where_crops_overlap_their_logits_are_weighted_by_the_distance_from_the_edge() {
        let grown = canvas(&[([0; 3], 1.0), ([0, 0, 1], 3.0)]).finish([0; 3], [16; 3], false);
        assert_eq!((grown.start, grown.shape, grown.cells), ([0; 3], [16, 16, 24], [4, 4, 6]));
        // Weights along the last axis: 0.5 1.5 1.5 0.5, and the same from cell 2 on.
        let expected = [1.0, 1.0, 1.5, 2.5, 3.0, 3.0];
        for row in grown.logits.chunks_exact(6) {
            for (logit, expected) in row.iter().zip(expected) {
                assert!((logit - expected).abs() < 1e-6, "{row:?}");
            }
        }
    }

    #[test]
    fn what_no_crop_shows_is_as_far_outside_as_anything() {
        let grown = canvas(&[([0; 3], -4.0), ([1, 1, 0], 2.0)]).finish([0; 3], [16; 3], true);
        assert_eq!(grown.cells, [6, 6, 4]);
        assert!(grown.is_cut);
        assert_eq!(grown.logits[5 * 4], -4.0);
        assert!(grown.logits.iter().all(|logit| logit.is_finite()));
    }

    #[test]
    fn a_crop_knows_what_its_neighbors_say_and_where_they_are_sure() {
        let mut canvas = canvas(&[([0; 3], -1.0)]);
        if let Some(logits) = canvas.crops.get_mut(&[0; 3]) {
            logits[(3 * 4 + 1) * 4 + 2] = 5.0;
        }
        let (known, best) = canvas.known([1, 0, 0]);
        assert_eq!(best, Some([1, 1, 2]));
        assert!(known[(4 + 1) * 4 + 2].is_some_and(|logit| (logit - 5.0).abs() < 1e-6));
        assert!(known[..32].iter().all(Option::is_some) && known[32..].iter().all(Option::is_none));
        assert_eq!(canvas.known([2, 0, 0]).1, None);
    }

    #[test]
    fn points_elsewhere_begin_a_crop_near_them() {
        assert_eq!(nearest([20, 20, 20], [12; 3], [16; 3]), [0; 3]);
        assert_eq!(nearest([37, 20, 2], [12; 3], [16; 3]), [2, 0, -2]);
        assert_eq!(start_of([2, 0, -2], [12; 3], [16; 3]), [28, 12, -4]);
    }
}
