//! Interpolation between grids, as `torch.nn.functional.interpolate` does it without anti-aliasing:
//! `mode="trilinear", align_corners=False`, where voxel centers of both grids span the same extent,
//! `mode="nearest"`, and `mode="nearest-exact"`.

use rayon::prelude::*;

use crate::Error;
use crate::crop::check_data;
use crate::error::Detail;

/// Interpolates `data` from a grid of shape `from` to one of shape `to` (both `[D, H, W]`).
///
/// All arithmetic is f32 in the order of torch's CPU kernel, along W, then H, then D.
///
/// ```
/// let doubled = r1seg_volume::resample::trilinear(&[0.0, 1.0], [1, 1, 2], [1, 1, 4])?;
/// assert_eq!(doubled, [0.0, 0.25, 0.75, 1.0]);
/// # Ok::<(), r1seg_volume::Error>(())
/// ```
///
/// # Errors
/// `R-GEO-01` if `data` has not one value a voxel; `R-GEO-06` if a shape has
/// an axis of 0.
pub fn trilinear(data: &[f32], from: [usize; 3], to: [usize; 3]) -> Result<Vec<f32>, Error> {
    check_data(data, from)?;
    interpolate(&Dense { data, shape: from }, to, |v| v)
}

/// [`trilinear`] and then `logit > 0`, without ever holding the interpolated volume: 1 where the
/// logit is above 0, else 0 (also for NaN).
///
/// # Errors
/// As [`trilinear`].
pub fn trilinear_threshold(
    logits: &[f32],
    from: [usize; 3],
    to: [usize; 3],
) -> Result<Vec<u8>, Error> {
    check_data(logits, from)?;
    interpolate(&Dense { data: logits, shape: from }, to, |v| u8::from(0.0 < v))
}

/// Along one axis, the cell of a grid of `from` cells that each of `to` cells takes its value of in
/// torch's `nearest`: `floor(n * from / to)` in f32.
pub fn nearest_sources(from: usize, to: usize) -> Vec<usize> {
    let scale = from as f32 / to as f32;
    (0..to).map(|n| ((n as f32 * scale) as usize).min(from.saturating_sub(1))).collect()
}

/// The same for torch's `nearest-exact`: `floor((n + 0.5) * from / to)`, the cell that holds the
/// center.
pub fn nearest_exact_sources(from: usize, to: usize) -> Vec<usize> {
    let scale = f64::from(from as f32 / to as f32);
    let source = |n: usize| ((n as f64 + 0.5) * scale) as f32 as usize;
    (0..to).map(|n| source(n).min(from.saturating_sub(1))).collect()
}

/// Takes each cell of a grid of shape `to` from a grid of shape `from` (both `[D, H, W]`), as torch's
/// `nearest` does.
///
/// # Errors
/// As [`trilinear`].
pub fn nearest<T: Copy>(data: &[T], from: [usize; 3], to: [usize; 3]) -> Result<Vec<T>, Error> {
    check_data(data, from)?;
    if let Some(shape) = [from, to].into_iter().find(|shape| shape.contains(&0)) {
        return Err(Detail::EmptyShape { shape }.into());
    }
    let [depth, rows, columns]: [Vec<usize>; 3] =
        std::array::from_fn(|n| nearest_sources(from[n], to[n]));
    let [_, h, w] = from;
    let mut out = Vec::with_capacity(to.iter().product());
    for z in &depth {
        for y in &rows {
            let row = &data[(z * h + y) * w..][..w];
            out.extend(columns.iter().map(|x| row[*x]));
        }
    }
    Ok(out)
}

/// A grid whose rows are made when they are needed.
pub(crate) trait Rows: Sync {
    /// `[D, H, W]`.
    fn shape(&self) -> [usize; 3];

    /// The row at slice `z` and height `y`, which may be put into `scratch`.
    fn row<'a>(&'a self, z: usize, y: usize, scratch: &'a mut Vec<f32>) -> &'a [f32];
}

struct Dense<'a> {
    data: &'a [f32],
    shape: [usize; 3],
}

impl Rows for Dense<'_> {
    fn shape(&self) -> [usize; 3] {
        self.shape
    }

    fn row<'a>(&'a self, z: usize, y: usize, _: &'a mut Vec<f32>) -> &'a [f32] {
        let [_, h, w] = self.shape;
        &self.data[(z * h + y) * w..][..w]
    }
}

/// The two source cells of a target cell along one axis, and their weights.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Tap {
    low: usize,
    high: usize,
    low_weight: f32,
    high_weight: f32,
}

fn taps(from: usize, to: usize) -> Vec<Tap> {
    let scale = from as f32 / to as f32;
    let tap = |n: usize| {
        if from == to {
            return Tap { low: n, high: n, low_weight: 1.0, high_weight: 0.0 };
        }
        let position = (scale * (n as f32 + 0.5) - 0.5).max(0.0);
        let low = (position as usize).min(from - 1);
        let high = (low + 1).min(from - 1);
        let high_weight = (position - low as f32).clamp(0.0, 1.0);
        Tap { low, high, low_weight: 1.0 - high_weight, high_weight }
    };
    (0..to).map(tap).collect()
}

pub(crate) fn interpolate<T: Copy + Default + Send>(
    source: &impl Rows,
    to: [usize; 3],
    map: impl Fn(f32) -> T + Sync,
) -> Result<Vec<T>, Error> {
    let from = source.shape();
    for shape in [from, to] {
        if shape.contains(&0) {
            return Err(Detail::EmptyShape { shape }.into());
        }
    }
    if from == to {
        return Ok(copy(source, map));
    }
    let axes: [Vec<Tap>; 3] = std::array::from_fn(|n| taps(from[n], to[n]));
    let plane = to[1] * to[2];
    let mut out = vec![T::default(); to[0] * plane];
    // Neighboring planes share their sources, hence a few long tasks instead of many short ones.
    let planes = to[0].div_ceil(rayon::current_num_threads() * 2).max(1);
    out.par_chunks_mut(planes * plane).enumerate().for_each(|(task, out)| {
        let mut sources = Planes::new(source, &axes[1], &axes[2]);
        for (tap, out) in axes[0][task * planes..].iter().zip(out.chunks_exact_mut(plane)) {
            let (low, high) = sources.get(tap.low, tap.high);
            for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
                *out = map(low * tap.low_weight + high * tap.high_weight);
            }
        }
    });
    Ok(out)
}

fn copy<T: Copy + Default + Send>(source: &impl Rows, map: impl Fn(f32) -> T + Sync) -> Vec<T> {
    let [d, h, w] = source.shape();
    let mut out = vec![T::default(); d * h * w];
    out.par_chunks_mut(h * w).enumerate().for_each(|(z, out)| {
        let mut scratch = Vec::new();
        for (y, out) in out.chunks_exact_mut(w).enumerate() {
            let row = source.row(z, y, &mut scratch);
            out.iter_mut().zip(row).for_each(|(out, v)| *out = map(*v));
        }
    });
    out
}

/// Source planes, interpolated along W and H; the last two are kept.
struct Planes<'a, R> {
    source: &'a R,
    rows: &'a [Tap],
    columns: &'a [Tap],
    kept: [(Option<usize>, Vec<f32>); 2],
    narrow: [(Option<usize>, Vec<f32>); 2],
    scratch: Vec<f32>,
}

impl<'a, R: Rows> Planes<'a, R> {
    fn new(source: &'a R, rows: &'a [Tap], columns: &'a [Tap]) -> Self {
        let none = || [(None, Vec::new()), (None, Vec::new())];
        Self { source, rows, columns, kept: none(), narrow: none(), scratch: Vec::new() }
    }

    fn get(&mut self, low: usize, high: usize) -> (&[f32], &[f32]) {
        let mut kept = std::mem::take(&mut self.kept);
        keep_two(&mut kept, low, high, |z, plane| self.fill(z, plane));
        self.kept = kept;
        (&self.kept[0].1, &self.kept[usize::from(low != high)].1)
    }

    fn fill(&mut self, z: usize, out: &mut Vec<f32>) {
        let Self { source, rows, columns, narrow, scratch, .. } = self;
        for row in narrow.iter_mut() {
            row.0 = None;
        }
        out.clear();
        for tap in *rows {
            keep_two(narrow, tap.low, tap.high, |y, narrow| {
                let row = source.row(z, y, scratch);
                let blend = |t: &Tap| row[t.low] * t.low_weight + row[t.high] * t.high_weight;
                narrow.clear();
                narrow.extend(columns.iter().map(blend));
            });
            let (low, high) = (&narrow[0].1, &narrow[usize::from(tap.low != tap.high)].1);
            let blend = |(low, high)| low * tap.low_weight + high * tap.high_weight;
            out.extend(low.iter().zip(high).map(blend));
        }
    }
}

/// Makes `low` the first of two kept lines and `high`, if it is another, the second; `fill` makes
/// those that are not there yet.
pub(crate) fn keep_two<T>(
    kept: &mut [(Option<usize>, Vec<T>); 2],
    low: usize,
    high: usize,
    mut fill: impl FnMut(usize, &mut Vec<T>),
) {
    // What was `high` for the line before is often `low` for this one.
    if kept[1].0 == Some(low) {
        kept.swap(0, 1);
    }
    for (n, wanted) in [low, high].into_iter().enumerate().take(1 + usize::from(low != high)) {
        if kept[n].0 != Some(wanted) {
            fill(wanted, &mut kept[n].1);
            kept[n].0 = Some(wanted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `((n * 7919) % 101) / 101 - 0.3` for each voxel n.
    fn pattern(shape: [usize; 3]) -> Vec<f32> {
        let voxels: usize = shape.iter().product();
        (0..voxels).map(|n| ((n * 7919) % 101) as f32 / 101.0 - 0.3).collect()
    }

    #[test]
    fn the_same_shape_is_the_same_data() {
        let data = pattern([3, 4, 5]);
        assert_eq!(trilinear(&data, [3, 4, 5], [3, 4, 5]).unwrap(), data);
    }

    #[test]
    fn a_linear_ramp_stays_linear_and_clamps_at_its_ends() {
        let ramp: Vec<f32> = (0..8).map(|n| n as f32).collect();
        let out = trilinear(&ramp, [8, 1, 1], [4, 1, 1]).unwrap();
        assert_eq!(out, [0.5, 2.5, 4.5, 6.5]);
        let out = trilinear(&ramp, [1, 8, 1], [1, 16, 1]).unwrap();
        assert_eq!(&out[..3], [0.0, 0.25, 0.75]);
        assert_eq!(&out[14..], [6.75, 7.0]);
    }

    #[test]
    fn interpolation_is_that_of_torch() {
        // n = numpy.arange(210); a = ((n * 7919 % 101) / f4(101) - f4(0.3)).reshape(5, 6, 7)
        // o = F.interpolate(torch.tensor(a)[None, None], size=to, mode="trilinear").ravel()
        let data = pattern([5, 6, 7]);
        for (to, sum, samples) in [
            (
                [9, 13, 8],
                179.845_562,
                [(0, -0.3), (187, 0.068_224_82), (374, 0.220_669_36), (748, 0.173_359_36)],
            ),
            (
                [3, 4, 20],
                44.460_930_1,
                [(0, -0.073_102_33), (47, 0.064_273_91), (143, 0.340_841_6), (239, 0.398_019_8)],
            ),
        ] {
            let out = trilinear(&data, [5, 6, 7], to).unwrap();
            assert!((out.iter().map(|v| f64::from(*v)).sum::<f64>() - sum).abs() < 1e-5);
            for (n, expected) in samples {
                assert!((out[n] - expected).abs() < 1e-6, "{to:?} {n}: {}", out[n]);
            }
        }
    }

    #[test]
    fn the_nearest_cell_is_that_of_torch() {
        // floor(n * 5 / 8) and floor((n + 0.5) * 5 / 8).
        assert_eq!(nearest_sources(5, 8), [0, 0, 1, 1, 2, 3, 3, 4]);
        assert_eq!(nearest_exact_sources(5, 8), [0, 0, 1, 2, 2, 3, 4, 4]);
        assert_eq!(nearest_sources(8, 5), [0, 1, 3, 4, 6]);
        assert_eq!(nearest_exact_sources(8, 5), [0, 2, 4, 5, 7]);
        for n in [1, 7, 300] {
            let all: Vec<usize> = (0..n).collect();
            assert_eq!((nearest_sources(n, n), nearest_exact_sources(n, n)), (all.clone(), all));
        }
    }

    #[test]
    fn the_nearest_cells_of_three_axes_are_those_of_each() {
        let data: Vec<u32> = (0..24).collect();
        let out = nearest(&data, [2, 3, 4], [4, 3, 2]).unwrap();
        assert_eq!(out[..6], [0, 2, 4, 6, 8, 10]);
        assert_eq!(out[..6], out[6..12]);
        assert_eq!(out[12..18], [12, 14, 16, 18, 20, 22]);
        assert_eq!(nearest(&data, [2, 3, 4], [0, 1, 1]).unwrap_err().code(), "R-GEO-06");
        assert_eq!(nearest(&data, [2, 3, 3], [1, 1, 1]).unwrap_err().code(), "R-GEO-01");
    }

    #[test]
    fn one_cell_fills_any_grid() {
        assert_eq!(trilinear(&[2.5], [1, 1, 1], [2, 3, 2]).unwrap(), vec![2.5; 12]);
    }

    #[test]
    fn the_threshold_is_that_of_the_interpolated_logits() {
        let data = pattern([5, 6, 7]);
        for to in [[9, 13, 8], [3, 4, 20], [31, 2, 7]] {
            let logits = trilinear(&data, [5, 6, 7], to).unwrap();
            let mask = trilinear_threshold(&data, [5, 6, 7], to).unwrap();
            assert!(logits.iter().zip(&mask).all(|(l, m)| (0.0 < *l) == (*m == 1)));
        }
        assert_eq!(trilinear_threshold(&[0.0, f32::NAN], [1, 1, 2], [1, 1, 2]).unwrap(), [0, 0]);
    }

    #[test]
    fn empty_shapes_and_wrong_lengths_are_refused() {
        assert_eq!(trilinear(&[], [0, 1, 1], [1, 1, 1]).unwrap_err().code(), "R-GEO-06");
        assert_eq!(trilinear(&[1.0], [1, 1, 1], [1, 0, 1]).unwrap_err().code(), "R-GEO-06");
        assert_eq!(trilinear(&[1.0], [1, 1, 2], [1, 1, 1]).unwrap_err().code(), "R-GEO-01");
    }
}
