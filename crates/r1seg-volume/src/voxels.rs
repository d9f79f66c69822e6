//! Intensities as they are kept in memory.

use std::borrow::Cow;
use std::ops::Range;

use crate::crop::check_length;
use crate::orientation::Row;
use crate::{AxisMap, Error, Region};

/// The intensities of a volume (HU for most CT), in `[D, H, W]` C order.
///
/// Scanners store 16-bit whole numbers. They are kept as they are, which takes half of the memory
/// and of the time of f32, and are converted where they are used.
#[derive(Debug, Clone)]
pub enum Voxels {
    /// Stored whole numbers and what they stand for.
    I16 {
        /// As stored.
        stored: Vec<i16>,
        /// From stored numbers to intensities.
        scale: Scale,
    },
    /// Intensities themselves.
    F32(Vec<f32>),
}

/// `stored * slope + inter`, computed in f64 as nibabel does, then rounded to f32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// Factor.
    pub slope: f64,
    /// Intensity of a stored 0.
    pub inter: f64,
}

impl Scale {
    /// Stored numbers are intensities.
    pub const IDENTITY: Self = Self { slope: 1.0, inter: 0.0 };

    /// The intensity of a stored number.
    pub fn apply(&self, stored: i16) -> f32 {
        (f64::from(stored) * self.slope + self.inter) as f32
    }
}

impl Voxels {
    /// Number of voxels.
    pub fn len(&self) -> usize {
        match self {
            Self::I16 { stored, .. } => stored.len(),
            Self::F32(data) => data.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that they take in memory.
    pub fn bytes(&self) -> u64 {
        let size = match self {
            Self::I16 { .. } => size_of::<i16>(),
            Self::F32(_) => size_of::<f32>(),
        };
        (self.len() * size) as u64
    }

    /// The intensity of one voxel; `None` behind the last one.
    pub fn get(&self, index: usize) -> Option<f32> {
        match self {
            Self::I16 { stored, scale } => stored.get(index).map(|v| scale.apply(*v)),
            Self::F32(data) => data.get(index).copied(),
        }
    }

    /// All intensities one after the other.
    pub fn iter(&self) -> impl Iterator<Item = f32> + '_ {
        let (stored, scale, data): (&[i16], _, &[f32]) = match self {
            Self::I16 { stored, scale } => (stored, *scale, &[]),
            Self::F32(data) => (&[], Scale::IDENTITY, data),
        };
        stored.iter().map(move |v| scale.apply(*v)).chain(data.iter().copied())
    }

    /// Appends the intensities of `range` to `out`.
    ///
    /// # Panics
    /// If the range reaches behind the last voxel, as slices do.
    pub fn append_to(&self, range: Range<usize>, out: &mut Vec<f32>) {
        match self {
            Self::I16 { stored, scale: Scale::IDENTITY } => {
                out.extend(stored[range].iter().map(|v| f32::from(*v)));
            }
            Self::I16 { stored, scale } => {
                out.extend(stored[range].iter().map(|v| scale.apply(*v)));
            }
            Self::F32(data) => out.extend_from_slice(&data[range]),
        }
    }

    /// Appends `count` intensities that are equally far apart to `out`.
    pub(crate) fn append_row_to(&self, row: Row, count: usize, out: &mut Vec<f32>) {
        match self {
            _ if row.step == 1 => self.append_to(row.first..row.first + count, out),
            Self::I16 { stored, scale } => {
                out.extend((0..count).map(|n| scale.apply(stored[row.at(n)])));
            }
            Self::F32(data) => out.extend((0..count).map(|n| data[row.at(n)])),
        }
    }

    /// The intensities of some slices of the target of `map`, whose source has the shape `source`.
    ///
    /// # Errors
    /// `R-GEO-01` if there is not one value for each voxel of the source.
    pub fn turned(
        &self,
        map: AxisMap,
        source: [usize; 3],
        slices: Range<usize>,
    ) -> Result<Vec<f32>, Error> {
        check_length(self.len(), source)?;
        let [depth, height, width] = map.shape(source);
        let slices = slices.start..slices.end.min(depth);
        let mut out = Vec::with_capacity(slices.len() * height * width);
        for (z, y) in slices.flat_map(|z| (0..height).map(move |y| (z, y))) {
            let row = map.row_in(Region::whole(source), [source[1], source[2]], [z, y]);
            self.append_row_to(row, width, &mut out);
        }
        Ok(out)
    }

    /// All intensities in one slice; a copy unless they are kept as f32.
    pub fn to_f32(&self) -> Cow<'_, [f32]> {
        match self {
            Self::F32(data) => Cow::Borrowed(data),
            Self::I16 { .. } => {
                let mut out = Vec::with_capacity(self.len());
                self.append_to(0..self.len(), &mut out);
                Cow::Owned(out)
            }
        }
    }
}

/// Equal intensities are equal, however they are kept.
impl PartialEq for Voxels {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl From<Vec<f32>> for Voxels {
    fn from(data: Vec<f32>) -> Self {
        Self::F32(data)
    }
}

/// Whole numbers that are intensities.
impl From<Vec<i16>> for Voxels {
    fn from(stored: Vec<i16>) -> Self {
        Self::I16 { stored, scale: Scale::IDENTITY }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_numbers_stand_for_scaled_intensities() {
        let scale = Scale { slope: 0.5, inter: -1024.0 };
        let voxels = Voxels::I16 { stored: vec![0, 3, -2], scale };
        assert_eq!(voxels.to_f32().as_ref(), [-1024.0, -1022.5, -1025.0]);
        assert_eq!((voxels.get(1), voxels.get(3)), (Some(-1022.5), None));
        assert_eq!(voxels, Voxels::from(vec![-1024.0_f32, -1022.5, -1025.0]));
        let mut out = vec![7.0];
        voxels.append_to(1..3, &mut out);
        assert_eq!(out, [7.0, -1022.5, -1025.0]);
    }

    #[test]
    fn slices_of_a_turned_grid_are_those_of_its_turned_data() {
        let source = [3, 4, 5];
        let stored: Vec<i16> = (0..60).collect();
        let (lps, ail) = ("LPS".parse().unwrap(), "AIL".parse().unwrap());
        let map = AxisMap::between(ail, lps);
        let [depth, ..] = map.shape(source);
        let expected = map.data(&stored, source).unwrap();
        let voxels = Voxels::from(stored);
        let slices = |part| voxels.turned(map, source, part).unwrap();
        let all = [slices(0..2), slices(2..depth + 7)].concat();
        assert_eq!(all, expected.into_iter().map(f32::from).collect::<Vec<_>>());
        assert_eq!(voxels.turned(map, [3, 4, 6], 0..1).unwrap_err().code(), "R-GEO-01");
    }
}
