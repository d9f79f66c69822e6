//! Cutting boxes out of `[D, H, W]` grids and putting them back.

use crate::Error;

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

    pub(crate) fn check(&self, shape: [usize; 3]) -> Result<(), Error> {
        if (0..3).all(|n| self.start[n] < self.end[n] && self.end[n] <= shape[n]) {
            return Ok(());
        }
        Err(Error::Region { start: self.start, end: self.end, shape })
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
    let expected = shape.iter().fold(1, |n: usize, size| n.saturating_mul(*size));
    if data.len() == expected {
        return Ok(());
    }
    Err(Error::DataLength { shape, expected, got: data.len() })
}

/// The smallest box around all voxels greater than `above`, as MONAI's `CropForeground` (margin 0);
/// `None` if there are none.
///
/// # Errors
/// [`Error::DataLength`] if `data` has not one value a voxel.
pub fn foreground_box(
    data: &[f32],
    shape: [usize; 3],
    above: f32,
) -> Result<Option<Region>, Error> {
    check_data(data, shape)?;
    let [_, h, w] = shape;
    let mut region = Region { start: [usize::MAX; 3], end: [0; 3] };
    if data.is_empty() {
        return Ok(None);
    }
    for (n, row) in data.chunks_exact(w).enumerate() {
        let Some(first) = row.iter().position(|v| above < *v) else { continue };
        let last = row.iter().rposition(|v| above < *v).unwrap_or(first);
        for (axis, (low, high)) in
            [(n / h, n / h), (n % h, n % h), (first, last)].iter().enumerate()
        {
            region.start[axis] = region.start[axis].min(*low);
            region.end[axis] = region.end[axis].max(high + 1);
        }
    }
    Ok((region.end != [0; 3]).then_some(region))
}

/// The voxels of `region`, out of a grid of `shape`.
///
/// # Errors
/// [`Error::DataLength`] if `data` has not one value a voxel; [`Error::Region`] if the box is empty
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
/// [`Error::DataLength`] if `part` has not one value for each voxel of the box; [`Error::Region`]
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
    /// [`Error::DataLength`] if `data` has not one value for each voxel of the original.
    pub fn pad<T: Copy + Default>(&self, data: &[T]) -> Result<Vec<T>, Error> {
        paste(data, self.inner, self.shape)
    }

    /// Cuts the original out of padded `data`.
    ///
    /// # Errors
    /// [`Error::DataLength`] if `data` has not one value for each voxel of the padded shape.
    pub fn unpad<T: Copy>(&self, data: &[T]) -> Result<Vec<T>, Error> {
        crop(data, self.shape, self.inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreground_box_is_tight_and_end_exclusive() {
        let shape = [4, 5, 6];
        let mut data = vec![0.0; 120];
        data[(5 + 2) * 6 + 3] = 0.5;
        data[(3 * 5 + 4) * 6 + 1] = 1e-30;
        let region = foreground_box(&data, shape, 0.0).unwrap().unwrap();
        assert_eq!(region, Region { start: [1, 2, 1], end: [4, 5, 4] });
        assert_eq!(region.shape(), [3, 3, 3]);
    }

    #[test]
    fn no_foreground_gives_no_box() {
        assert_eq!(foreground_box(&[0.0; 8], [2, 2, 2], 0.0).unwrap(), None);
        assert_eq!(foreground_box(&[], [0, 2, 2], 0.0).unwrap(), None);
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
