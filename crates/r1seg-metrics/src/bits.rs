//! Masks of one bit for each voxel, in which 64 voxels of a row are compared at once.

use r1seg_volume::Region;
use rayon::prelude::*;

/// A grid of bits, `[D, H, W]`; rows begin at a word of their own, and bits behind their ends are 0.
#[derive(Debug, Clone)]
pub(crate) struct Bits {
    shape: [usize; 3],
    words: usize,
    data: Vec<u64>,
}

impl Bits {
    pub(crate) fn empty(shape: [usize; 3]) -> Self {
        let words = shape[2].div_ceil(64);
        Self { shape, words, data: vec![0; shape[0] * shape[1] * words] }
    }

    /// The voxels of `values` that are `inside`, seen in the frame `frame` of their grid of `shape`. Only
    /// those in `region`, which is a part of the frame, are looked at.
    pub(crate) fn of<T: Copy + Sync>(
        values: &[T],
        shape: [usize; 3],
        frame: Region,
        region: Region,
        inside: impl Fn(T) -> bool + Sync,
    ) -> Self {
        let mut bits = Self::empty(frame.shape());
        let (height, words) = (bits.shape[1], bits.words);
        if bits.data.is_empty() {
            return bits;
        }
        bits.data.par_chunks_mut(height * words).enumerate().for_each(|(z, slice)| {
            let z = z + frame.start[0];
            if z < region.start[0] || region.end[0] <= z {
                return;
            }
            for y in region.start[1]..region.end[1] {
                let first = (z * shape[1] + y) * shape[2];
                let row = &values[first + region.start[2]..first + region.end[2]];
                let target = &mut slice[(y - frame.start[1]) * words..][..words];
                pack(row, region.start[2] - frame.start[2], target, &inside);
            }
        });
        bits
    }

    /// `[D, H, W]`.
    pub(crate) fn shape(&self) -> [usize; 3] {
        self.shape
    }

    pub(crate) fn row(&self, z: usize, y: usize) -> &[u64] {
        &self.data[(z * self.shape[1] + y) * self.words..][..self.words]
    }

    /// The row at so many steps, which may lie outside of the grid and then has no bits.
    fn row_near(&self, place: [usize; 2], steps: [isize; 2]) -> Option<&[u64]> {
        let z = place[0].checked_add_signed(steps[0]).filter(|z| *z < self.shape[0])?;
        let y = place[1].checked_add_signed(steps[1]).filter(|y| *y < self.shape[1])?;
        Some(self.row(z, y))
    }

    #[cfg(test)]
    pub(crate) fn count(&self) -> u64 {
        self.data.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    #[cfg(test)]
    pub(crate) fn has(&self, [z, y, x]: [usize; 3]) -> bool {
        self.row(z, y)[x / 64] >> (x % 64) & 1 == 1
    }

    /// Those voxels that are in this and not in `other`, which has the same shape.
    pub(crate) fn without(&self, other: &Self) -> Self {
        let words = self.data.iter().zip(&other.data);
        Self { data: words.map(|(own, other)| own & !other).collect(), ..*self }
    }

    /// The voxels of which one of the six neighbors is not in the mask; nothing beyond the grid is.
    pub(crate) fn border(&self) -> Self {
        self.each_row(self.shape, |place, out| {
            let own = self.row(place[0], place[1]);
            if own.iter().all(|word| *word == 0) {
                return;
            }
            let near: [Option<&[u64]>; 4] =
                [[-1, 0], [1, 0], [0, -1], [0, 1]].map(|steps| self.row_near(place, steps));
            for (n, out) in out.iter_mut().enumerate() {
                let around = near.iter().fold(u64::MAX, |all, row| all & row.map_or(0, |r| r[n]));
                let left = own[n] << 1 | n.checked_sub(1).map_or(0, |m| own[m] >> 63);
                let right = own[n] >> 1 | own.get(n + 1).map_or(0, |word| word << 63);
                *out = own[n] & !(around & left & right);
            }
        })
    }

    /// The corners of voxels, one more along each axis, at which not all eight voxels are alike; corner
    /// `[z, y, x]` is the first corner of the voxel `[z, y, x]`. Nothing beyond the grid is in the mask.
    pub(crate) fn corners(&self) -> Self {
        self.each_row(self.shape.map(|size| size + 1), |place, out| {
            let near = self.rows_at(place);
            if near.iter().all(|row| row.is_none_or(|row| row.iter().all(|word| *word == 0))) {
                return;
            }
            let word = |row: &Option<&[u64]>, n: usize| {
                row.and_then(|row| row.get(n)).copied().unwrap_or(0)
            };
            let (mut any_before, mut all_before) = (0, 0);
            for (n, out) in out.iter_mut().enumerate() {
                let any = near.iter().fold(0, |any, row| any | word(row, n));
                let all = near.iter().fold(u64::MAX, |all, row| all & word(row, n));
                let any_left = any << 1 | any_before >> 63;
                let all_left = all << 1 | all_before >> 63;
                *out = (any | any_left) & !(all & all_left);
                (any_before, all_before) = (any, all);
            }
        })
    }

    /// The rows of voxels around the corners of a row, in the order of the bits of [`Bits::code`].
    fn rows_at(&self, corner: [usize; 2]) -> [Option<&[u64]>; 4] {
        [[-1, -1], [-1, 0], [0, -1], [0, 0]].map(|steps| self.row_near(corner, steps))
    }

    /// Calls `found` with each corner of a row at which not all eight voxels are alike, and which of them
    /// are in the mask: bit 7 is the voxel before the corner along all three axes, bit 0 the one behind it,
    /// and W runs fastest, then H.
    pub(crate) fn codes(
        &self,
        corners: &Self,
        place: [usize; 2],
        mut found: impl FnMut(usize, u8),
    ) {
        let near = self.rows_at(place);
        corners.each_in_row(place, |x| {
            let has = |row: Option<&[u64]>, x: Option<usize>| {
                let word = x.and_then(|x| row.and_then(|row| row.get(x / 64).copied()));
                word.zip(x).is_some_and(|(word, x)| word >> (x % 64) & 1 == 1)
            };
            let code = near.iter().fold(0_u8, |code, row| {
                let [before, behind] = [x.checked_sub(1), Some(x)].map(|x| u8::from(has(*row, x)));
                code << 2 | before << 1 | behind
            });
            found(x, code);
        });
    }

    /// Calls `found` with each set bit of a row.
    pub(crate) fn each_in_row(&self, [z, y]: [usize; 2], mut found: impl FnMut(usize)) {
        for (n, word) in self.row(z, y).iter().enumerate() {
            let mut word = *word;
            while word != 0 {
                found(n * 64 + word.trailing_zeros() as usize);
                word &= word - 1;
            }
        }
    }

    fn each_row(&self, shape: [usize; 3], row: impl Fn([usize; 2], &mut [u64]) + Sync) -> Self {
        let mut out = Self::empty(shape);
        let (height, words) = (shape[1], out.words);
        if out.data.is_empty() {
            return out;
        }
        out.data.par_chunks_mut(height * words).enumerate().for_each(|(z, slice)| {
            slice.chunks_exact_mut(words).enumerate().for_each(|(y, out)| row([z, y], out));
        });
        out
    }
}

/// Sets the bits of those values of a row that are inside, from bit `first` on.
fn pack<T: Copy>(row: &[T], first: usize, words: &mut [u64], inside: &impl Fn(T) -> bool) {
    // Gathers the lowest bits of eight bytes in the highest byte.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let mut set = |at: usize, bits: u64| {
        words[at / 64] |= bits << (at % 64);
        if 64 < at % 64 + 8 && bits >> (64 - at % 64) != 0 {
            words[at / 64 + 1] |= bits >> (64 - at % 64);
        }
    };
    let (eights, rest) = row.as_chunks::<8>();
    for (n, eight) in eights.iter().enumerate() {
        let bytes = eight.map(|value| u8::from(inside(value)));
        let word = u64::from_le_bytes(bytes);
        if word != 0 {
            set(first + 8 * n, word.wrapping_mul(GATHER) >> 56);
        }
    }
    for (n, value) in rest.iter().enumerate() {
        set(first + 8 * eights.len() + n, u64::from(inside(*value)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: [usize; 3] = [3, 5, 70];

    fn values() -> Vec<u8> {
        let mut state = 9_u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            u8::from(state >> 30 != 0)
        };
        (0..SHAPE.iter().product()).map(|_| random()).collect()
    }

    fn bits(values: &[u8]) -> Bits {
        Bits::of(values, SHAPE, Region::whole(SHAPE), Region::whole(SHAPE), |v| v != 0)
    }

    fn at(values: &[u8], [z, y, x]: [isize; 3]) -> u8 {
        let [d, h, w] = SHAPE.map(|n| n as isize);
        let inside = (0..d).contains(&z) && (0..h).contains(&y) && (0..w).contains(&x);
        if inside { values[((z * h + y) * w + x) as usize] } else { 0 }
    }

    #[test]
    fn bits_of_a_part_lie_at_their_places_in_the_frame() {
        let values = values();
        let frame = Region { start: [1, 1, 3], end: [3, 5, 70] };
        let region = Region { start: [1, 2, 5], end: [2, 4, 69] };
        let part = Bits::of(&values, SHAPE, frame, region, |v| v != 0);
        let mut count = 0;
        for (z, y, x) in
            (1..3).flat_map(|z| (1..5).flat_map(move |y| (3..70).map(move |x| (z, y, x))))
        {
            let inside = z < 2 && (2..4).contains(&y) && (5..69).contains(&x);
            let expected = inside && at(&values, [z, y, x].map(|n: usize| n as isize)) != 0;
            assert_eq!(part.has([z - 1, y - 1, x - 3]), expected, "{z} {y} {x}");
            count += u64::from(expected);
        }
        assert_eq!(part.count(), count);
    }

    #[test]
    fn borders_and_corners_are_those_of_the_definition() {
        let values = values();
        let bits = bits(&values);
        let (border, corners) = (bits.border(), bits.corners());
        let steps = [[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]];
        let mut codes = std::collections::HashMap::new();
        for (z, y) in (0..4).flat_map(|z| (0..6).map(move |y| (z, y))) {
            bits.codes(&corners, [z, y], |x, code| {
                codes.insert([z, y, x], code);
            });
        }
        for (z, y, x) in
            (0..4).flat_map(|z| (0..6).flat_map(move |y| (0..71).map(move |x| (z, y, x))))
        {
            let here = [z, y, x].map(|n: usize| n as isize);
            let near = |step: [isize; 3]| at(&values, std::array::from_fn(|n| here[n] + step[n]));
            if z < 3 && y < 5 && x < 70 {
                let expected = near([0; 3]) != 0 && steps.iter().any(|step| near(*step) == 0);
                assert_eq!(border.has([z, y, x]), expected, "{here:?}");
            }
            let mut code = 0;
            for step in (0..8).rev().map(|bit| [-(bit >> 2 & 1), -(bit >> 1 & 1), -(bit & 1)]) {
                code = code << 1 | near(step);
            }
            let expected = (code != 0 && code != 255).then_some(code);
            assert_eq!(codes.get(&[z, y, x]).copied(), expected, "{here:?}");
        }
    }

    #[test]
    fn what_one_mask_has_and_another_has_not_is_left() {
        let values = values();
        let half: Vec<u8> =
            values.iter().enumerate().map(|(n, v)| if n % 2 == 0 { *v } else { 0 }).collect();
        let left = bits(&values).without(&bits(&half));
        let expected = values.iter().zip(&half).filter(|(all, half)| **all != 0 && **half == 0);
        assert_eq!(left.count(), expected.count() as u64);
    }
}
