//! Cutting boxes out of `[D, H, W]` grids and putting them back.

use rayon::prelude::*;

use crate::error::Detail;
use crate::{Error, Voxels};

/// A box of voxels: `start` inclusive, `end` exclusive, both `[D, H, W]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// First voxel.
    pub start: [usize; 3],
    /// One past the last voxel.
    pub end: [usize; 3],
}

impl Region {
    /// All of a grid.
    pub fn whole(shape: [usize; 3]) -> Self {
        Self { start: [0; 3], end: shape }
    }

    /// The box of `shape` that begins at `start`.
    pub fn at(start: [usize; 3], shape: [usize; 3]) -> Self {
        Self { start, end: std::array::from_fn(|n| start[n].saturating_add(shape[n])) }
    }

    /// `[D, H, W]` of the box.
    pub fn shape(&self) -> [usize; 3] {
        std::array::from_fn(|n| self.end[n].saturating_sub(self.start[n]))
    }

    /// The smallest box that holds both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self {
            start: std::array::from_fn(|n| self.start[n].min(other.start[n])),
            end: std::array::from_fn(|n| self.end[n].max(other.end[n])),
        }
    }

    pub(crate) fn check(&self, shape: [usize; 3]) -> Result<(), Error> {
        if (0..3).all(|n| self.start[n] < self.end[n] && self.end[n] <= shape[n]) {
            return Ok(());
        }
        Err(Detail::Region { start: self.start, end: self.end, shape }.into())
    }

    /// Offset and length of each row of the box, in a grid of `shape`.
    pub(crate) fn rows(
        self,
        [_, h, w]: [usize; 3],
    ) -> impl Iterator<Item = std::ops::Range<usize>> {
        let width = self.shape()[2];
        (self.start[0]..self.end[0]).flat_map(move |z| {
            (self.start[1]..self.end[1]).map(move |y| {
                let first = (z * h + y) * w + self.start[2];
                first..first + width
            })
        })
    }
}

pub(crate) fn check_data<T>(data: &[T], shape: [usize; 3]) -> Result<(), Error> {
    check_length(data.len(), shape)
}

pub(crate) fn check_length(got: usize, shape: [usize; 3]) -> Result<(), Error> {
    let expected = shape.iter().fold(1, |n: usize, size| n.saturating_mul(*size));
    if got == expected {
        return Ok(());
    }
    Err(Detail::DataLength { shape, expected, got }.into())
}

/// The cell that a window of `shape` begins at when it has a box in its middle:
/// `floor((start + end) / 2) - floor(shape / 2)`, so that the center of an odd box, or a point, is cell
/// `shape / 2`. Negative where the window reaches out of the grid.
pub fn crop_around(region: Region, shape: [usize; 3]) -> [i64; 3] {
    let whole = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    std::array::from_fn(|n| whole(region.start[n].midpoint(region.end[n])) - whole(shape[n] / 2))
}

/// The smallest box around all voxels greater than `above`, as MONAI's `CropForeground` (margin 0);
/// `None` if there are none.
///
/// # Errors
/// `R-GEO-01` if there is not one value a voxel.
pub fn foreground_box(
    voxels: &Voxels,
    shape: [usize; 3],
    above: f32,
) -> Result<Option<Region>, Error> {
    match voxels {
        Voxels::F32(data) => box_of(data, shape, |v| above < *v),
        Voxels::I16 { stored, scale } => {
            // Intensities grow or fall with the stored number, so that one comparison of whole
            // numbers is enough.
            let numbers = || i16::MIN..=i16::MAX;
            let is_above = |v: &i16| above < scale.apply(*v);
            let Some(least) = numbers().find(is_above) else { return Ok(None) };
            if scale.slope < 0.0 {
                let most = numbers().rev().find(is_above).unwrap_or(least);
                return box_of(stored, shape, |v| *v <= most);
            }
            box_of(stored, shape, |v| least <= *v)
        }
    }
}

fn box_of<T: Sync>(
    data: &[T],
    shape: [usize; 3],
    inside: impl Fn(&T) -> bool + Sync,
) -> Result<Option<Region>, Error> {
    check_data(data, shape)?;
    let [_, h, w] = shape;
    let none = Region { start: [usize::MAX; 3], end: [0; 3] };
    if data.is_empty() {
        return Ok(None);
    }
    let of_slice = |(z, slice): (usize, &[T])| {
        let mut found = none;
        for (y, row) in slice.chunks_exact(w).enumerate() {
            let first = row.iter().position(&inside);
            if let (Some(first), Some(last)) = (first, row.iter().rposition(&inside)) {
                let row = Region { start: [z, y, first], end: [z + 1, y + 1, last + 1] };
                found = found.union(row);
            }
        }
        found
    };
    let found = data.par_chunks(h * w).enumerate().map(of_slice).reduce(|| none, Region::union);
    Ok((found.end != [0; 3]).then_some(found))
}

/// The voxels of `region`, out of a grid of `shape`.
///
/// # Errors
/// `R-GEO-01` if `data` has not one value a voxel; `R-GEO-04` if the box is empty
/// or reaches out of the grid.
pub fn crop<T: Copy>(data: &[T], shape: [usize; 3], region: Region) -> Result<Vec<T>, Error> {
    check_data(data, shape)?;
    region.check(shape)?;
    let mut out = Vec::with_capacity(region.shape().iter().product());
    for row in region.rows(shape) {
        out.extend_from_slice(&data[row]);
    }
    Ok(out)
}

/// A grid of `shape` that holds `part` at `region` and `T::default()` elsewhere: the way back from
/// [`crop`].
///
/// # Errors
/// `R-GEO-01` if `part` has not one value for each voxel of the box; `R-GEO-04`
/// if the box is empty or reaches out of the grid.
pub fn paste<T: Copy + Default>(
    part: &[T],
    region: Region,
    shape: [usize; 3],
) -> Result<Vec<T>, Error> {
    region.check(shape)?;
    check_data(part, region.shape())?;
    let mut out = vec![T::default(); shape.iter().product()];
    for (row, values) in region.rows(shape).zip(part.chunks_exact(region.shape()[2])) {
        out[row].copy_from_slice(values);
    }
    Ok(out)
}

/// Symmetric padding as MONAI's `SpatialPad`: of an odd difference, the larger half comes after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Padding {
    /// `[D, H, W]` after padding.
    pub shape: [usize; 3],
    /// Where the original lies in it.
    pub inner: Region,
}

impl Padding {
    /// The padding that makes every axis of `shape` at least as long as `least`.
    pub fn to_at_least(shape: [usize; 3], least: [usize; 3]) -> Self {
        let padded = std::array::from_fn(|n| shape[n].max(least[n]));
        let before = std::array::from_fn(|n| (padded[n] - shape[n]) / 2);
        Self { shape: padded, inner: Region::at(before, shape) }
    }

    /// Pads `data` with `T::default()`.
    ///
    /// # Errors
    /// `R-GEO-01` if `data` has not one value for each voxel of the original.
    pub fn pad<T: Copy + Default>(&self, data: &[T]) -> Result<Vec<T>, Error> {
        paste(data, self.inner, self.shape)
    }

    /// Cuts the original out of padded `data`.
    ///
    /// # Errors
    /// `R-GEO-01` if `data` has not one value for each voxel of the padded shape.
    pub fn unpad<T: Copy>(&self, data: &[T]) -> Result<Vec<T>, Error> {
        crop(data, self.shape, self.inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scale;

    #[test]
    fn foreground_box_is_tight_and_end_exclusive() {
        let shape = [4, 5, 6];
        let mut data = vec![0.0_f32; 120];
        data[(5 + 2) * 6 + 3] = 0.5;
        data[(3 * 5 + 4) * 6 + 1] = 1e-30;
        let region = foreground_box(&data.into(), shape, 0.0).unwrap().unwrap();
        assert_eq!(region, Region { start: [1, 2, 1], end: [4, 5, 4] });
        assert_eq!(region.shape(), [3, 3, 3]);
    }

    #[test]
    fn no_foreground_gives_no_box() {
        let dark = |voxels: usize| Voxels::from(vec![0.0_f32; voxels]);
        assert_eq!(foreground_box(&dark(8), [2, 2, 2], 0.0).unwrap(), None);
        assert_eq!(foreground_box(&dark(0), [0, 2, 2], 0.0).unwrap(), None);
        let constant = Voxels::from(vec![-1024_i16; 8]);
        assert_eq!(foreground_box(&constant, [2, 2, 2], 40_000.0).unwrap(), None);
    }

    #[test]
    fn the_box_of_whole_numbers_is_that_of_their_intensities() {
        let shape = [5, 9, 11];
        for seed in 1..40_usize {
            let far = |n: usize| (n * 7919 * seed + seed) % 97 < 2;
            let stored: Vec<i16> = (0..495).map(|n| if far(n) { 300 } else { -7 }).collect();
            for (slope, inter) in [(1.0, 0.0), (-1.0, 0.0), (0.25, -3.0), (0.0, 1.0)] {
                let kept = Voxels::I16 { stored: stored.clone(), scale: Scale { slope, inter } };
                let values = kept.to_f32().into_owned();
                for above in [-50.0, 0.0, 5.0] {
                    let naive = values.iter().enumerate().filter(|(_, v)| above < **v).fold(
                        None,
                        |found: Option<Region>, (n, _)| {
                            let one = Region::at([n / 99, n / 11 % 9, n % 11], [1; 3]);
                            Some(found.map_or(one, |f| f.union(one)))
                        },
                    );
                    assert_eq!(foreground_box(&kept, shape, above).unwrap(), naive);
                    let values = values.clone().into();
                    assert_eq!(foreground_box(&values, shape, above).unwrap(), naive);
                }
            }
        }
    }

    #[test]
    fn paste_is_the_way_back_from_crop() {
        let shape = [3, 4, 5];
        let data: Vec<u8> = (0..60).collect();
        let region = Region { start: [1, 0, 2], end: [3, 2, 5] };
        let part = crop(&data, shape, region).unwrap();
        assert_eq!(part, [22, 23, 24, 27, 28, 29, 42, 43, 44, 47, 48, 49]);
        let back = paste(&part, region, shape).unwrap();
        for (n, v) in back.iter().enumerate() {
            assert_eq!(*v, if part.contains(&data[n]) { data[n] } else { 0 });
        }
    }

    #[test]
    fn a_window_has_its_box_in_the_middle() {
        let region = Region { start: [10, 3, 200], end: [15, 7, 201] };
        // 10..15 has its center in cell 12, 3..7 between cells 4 and 5.
        assert_eq!(crop_around(region, [8, 8, 9]), [12 - 4, 5 - 4, 200 - 4]);
        assert_eq!(crop_around(region, [128; 3]), [-52, -59, 136]);
    }

    #[test]
    fn boxes_that_do_not_fit_are_refused() {
        let region = Region { start: [0, 0, 1], end: [2, 2, 3] };
        let error = crop(&[0_u8; 8], [2, 2, 2], region).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the box [0, 0, 1]..[2, 2, 3] is empty or not inside the shape 2x2x2"
        );
        let empty = Region { start: [1; 3], end: [1; 3] };
        assert_eq!(paste(&[0_u8; 0], empty, [2; 3]).unwrap_err().code(), "R-GEO-04");
    }

    #[test]
    fn padding_puts_the_smaller_half_before() {
        let padding = Padding::to_at_least([2, 3, 8], [5, 4, 4]);
        assert_eq!(padding.shape, [5, 4, 8]);
        assert_eq!(padding.inner.start, [1, 0, 0]);
        let data: Vec<u8> = (1..=48).collect();
        let padded = padding.pad(&data).unwrap();
        assert_eq!(padded.iter().filter(|v| **v == 0).count(), 5 * 4 * 8 - 48);
        assert_eq!(padding.unpad(&padded).unwrap(), data);
    }
}
