//! Boxes in the texts of answers and questions.
//!
//! The models write `<bx_start>[d0, h0, w0, d1, h1, w1]<bx_end>`, each number an index divided by
//! the volume's size and rounded to three digits, the upper corner inclusive. The reference finds
//! it with the pattern `\[n, n, n, n, n, n\]`, `n = [-+]?\d*\.\d+|[-+]?\d+`
//! (`LaMed/src/utils`, `Bench/eval/eval_pos.py` of M3D), and so does the scanner here.

use std::fmt;

/// A box as the model wrote it: fractions of the volume along `D`, `H`, `W`.
///
/// The numbers are `f64`, as Python's: [`BoxText::to_voxels`] truncates, and `0.58 * 50` is 28 in
/// double and 29 in single precision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoxText {
    /// Lower corner along D.
    pub d0: f64,
    /// Lower corner along H.
    pub h0: f64,
    /// Lower corner along W.
    pub w0: f64,
    /// Upper corner along D, inclusive.
    pub d1: f64,
    /// Upper corner along H, inclusive.
    pub h1: f64,
    /// Upper corner along W, inclusive.
    pub w1: f64,
}

/// A box in voxel indices, `[D, H, W]`, both corners inclusive.
///
/// The indices are what the reference computes, so that they can lie outside the volume; see
/// [`VoxelBox::clipped`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VoxelBox {
    /// Lower corner.
    pub min: [i64; 3],
    /// Upper corner, inclusive.
    pub max: [i64; 3],
}

impl BoxText {
    /// The lower corner, `[D, H, W]`.
    #[must_use]
    pub fn min(&self) -> [f64; 3] {
        [self.d0, self.h0, self.w0]
    }

    /// The upper corner, `[D, H, W]`.
    #[must_use]
    pub fn max(&self) -> [f64; 3] {
        [self.d1, self.h1, self.w1]
    }

    /// True if all numbers are finite and no lower corner is above its upper one.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let (min, max) = (self.min(), self.max());
        (0..3).all(|axis| min[axis].is_finite() && max[axis].is_finite() && min[axis] <= max[axis])
    }

    /// The box on a volume of `size` voxels `[D, H, W]`: Python's `int(v * size)` per number.
    #[must_use]
    pub fn to_voxels(&self, size: [usize; 3]) -> VoxelBox {
        let scale = |corner: [f64; 3]| {
            // `as` saturates and truncates towards zero, as `int` does for all finite numbers.
            std::array::from_fn(|axis| (corner[axis] * size[axis] as f64) as i64)
        };
        VoxelBox { min: scale(self.min()), max: scale(self.max()) }
    }

    /// The box of indices that the numbers were made of on a volume of `size` voxels `[D, H, W]`:
    /// what [`BoxText::of`] undoes, for all sizes up to 500. [`BoxText::to_voxels`] truncates as the
    /// reference does, and is one index lower wherever three digits rounded down.
    #[must_use]
    pub fn to_indices(&self, size: [usize; 3]) -> VoxelBox {
        let scale = |corner: [f64; 3]| {
            std::array::from_fn(|axis| (corner[axis] * size[axis] as f64).round() as i64)
        };
        VoxelBox { min: scale(self.min()), max: scale(self.max()) }
    }

    /// A box as the models were trained to read and write it: indices `[D, H, W]` over the size of
    /// the volume, rounded to three digits as Python's `round` does; both corners are inside.
    #[must_use]
    pub fn of(voxels: VoxelBox, size: [usize; 3]) -> Self {
        let fraction = |index: i64, axis: usize| {
            let exact = index as f64 / size[axis].max(1) as f64;
            // Printing rounds the exact binary number, ties to even; so does Python.
            format!("{exact:.3}").parse().unwrap_or(exact)
        };
        let [d0, h0, w0] = [0, 1, 2].map(|axis| fraction(voxels.min[axis], axis));
        let [d1, h1, w1] = [0, 1, 2].map(|axis| fraction(voxels.max[axis], axis));
        Self { d0, h0, w0, d1, h1, w1 }
    }
}

/// As Python prints a list of floats.
impl fmt::Display for BoxText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { d0, h0, w0, d1, h1, w1 } = self;
        write!(f, "[{d0:?}, {h0:?}, {w0:?}, {d1:?}, {h1:?}, {w1:?}]")
    }
}

impl VoxelBox {
    /// The part inside a volume of `size` voxels `[D, H, W]`: lower and upper corner, both
    /// inclusive. `None` if nothing of the box lies inside.
    #[must_use]
    pub fn clipped(&self, size: [usize; 3]) -> Option<([usize; 3], [usize; 3])> {
        let (mut min, mut max) = ([0; 3], [0; 3]);
        for (axis, extent) in size.into_iter().enumerate() {
            let last = i64::try_from(extent).ok()?.checked_sub(1)?;
            let (low, high) = (self.min[axis].max(0), self.max[axis].min(last));
            if low > high {
                return None;
            }
            min[axis] = usize::try_from(low).ok()?;
            max[axis] = usize::try_from(high).ok()?;
        }
        Some((min, max))
    }
}

/// Every `[n, n, n, n, n, n]` in `text`, in order. The reference uses the first.
///
/// Separators are exactly `", "`, and a box that breaks the pattern is not a box. Digits are ASCII.
#[must_use]
pub fn parse_boxes(text: &str) -> Vec<BoxText> {
    let mut boxes = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find('[') {
        rest = &rest[open + 1..];
        if let Some((found, after)) = box_body(rest) {
            boxes.push(found);
            rest = after;
        }
    }
    boxes
}

/// Six numbers and the closing bracket, and the text behind them.
fn box_body(text: &str) -> Option<(BoxText, &str)> {
    let mut numbers = [0.0; 6];
    let mut rest = text;
    for (index, number) in numbers.iter_mut().enumerate() {
        if index > 0 {
            rest = rest.strip_prefix(", ")?;
        }
        (*number, rest) = leading_number(rest)?;
    }
    let rest = rest.strip_prefix(']')?;
    let [d0, h0, w0, d1, h1, w1] = numbers;
    Some((BoxText { d0, h0, w0, d1, h1, w1 }, rest))
}

/// The longest prefix that the pattern's `n` matches. Taking the longest is enough: a separator
/// follows, and it begins with neither a digit nor a dot.
fn leading_number(text: &str) -> Option<(f64, &str)> {
    let digits = |from: usize| {
        text.as_bytes()[from..].iter().take_while(|byte| byte.is_ascii_digit()).count()
    };
    let sign = usize::from(text.starts_with(['-', '+']));
    let whole = digits(sign);
    let mut end = sign + whole;
    if text.as_bytes().get(end) == Some(&b'.') {
        let fraction = digits(end + 1);
        if fraction == 0 {
            return None;
        }
        end += 1 + fraction;
    } else if whole == 0 {
        return None;
    }
    let (number, rest) = text.split_at(end);
    Some((number.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(found: &BoxText) -> [f64; 6] {
        [found.d0, found.h0, found.w0, found.d1, found.h1, found.w1]
    }

    #[test]
    fn box_in_a_published_answer_is_read() {
        let text = "Coordinates are [0.594, 0.34, 0.414, 0.938, 0.914, 0.895].";
        let boxes = parse_boxes(text);
        assert_eq!(boxes.len(), 1);
        assert_eq!(numbers(&boxes[0]), [0.594, 0.34, 0.414, 0.938, 0.914, 0.895]);
        assert!(boxes[0].is_valid());
        let voxels = boxes[0].to_voxels([32, 256, 256]);
        // python3: [int(v * s) for v, s in zip(box, [32, 256, 256] * 2)]
        assert_eq!(voxels, VoxelBox { min: [19, 87, 105], max: [30, 233, 229] });
        assert_eq!(voxels.clipped([32, 256, 256]), Some(([19, 87, 105], [30, 233, 229])));
    }

    #[test]
    fn box_pattern_is_as_strict_as_the_reference() {
        for text in [
            "",
            "[",
            "[1, 2, 3, 4, 5]",
            "[1,2,3,4,5,6]",
            "[1, 2, 3, 4, 5, 6",
            "[1, 2, 3, 4, 5, 6,]",
            "[ 1, 2, 3, 4, 5, 6]",
            "[1,  2, 3, 4, 5, 6]",
            "[1., 2, 3, 4, 5, 6]",
            "[1e3, 2, 3, 4, 5, 6]",
            "[-, 2, 3, 4, 5, 6]",
            "[., 2, 3, 4, 5, 6]",
            "[é, 2, 3, 4, 5, 6]",
        ] {
            assert!(parse_boxes(text).is_empty(), "{text}");
        }
        let signed = parse_boxes("x[[-1, +2, .5, -.25, 007, 6]]");
        assert_eq!(numbers(&signed[0]), [-1.0, 2.0, 0.5, -0.25, 7.0, 6.0]);
        assert_eq!(parse_boxes("[1, 2, 3, 4, 5, 6][1, 1, 1, 2, 2, 2]").len(), 2);
    }

    #[test]
    fn box_truncates_in_double_precision() {
        let found = parse_boxes("[0.58, -0.5, 0, 1, 1, 1]")[0];
        assert_eq!(found.to_voxels([50, 9, 9]), VoxelBox { min: [28, -4, 0], max: [50, 9, 9] });
    }

    #[test]
    fn box_of_indices_is_printed_as_python_does() {
        // python3: [round(i / s, 3) for i, s in zip([0, 7, 16, 31, 255, 105], [32, 256, 256] * 2)]
        let voxels = VoxelBox { min: [0, 7, 16], max: [31, 255, 105] };
        let text = BoxText::of(voxels, [32, 256, 256]);
        assert_eq!(text.to_string(), "[0.0, 0.027, 0.062, 0.969, 0.996, 0.41]");
        assert_eq!(parse_boxes(&text.to_string()), [text]);
        // Truncated, 105 becomes 104.
        assert_eq!(text.to_indices([32, 256, 256]), voxels);
        assert_eq!(text.to_voxels([32, 256, 256]).max[2], 104);
    }

    #[test]
    fn every_index_survives_its_three_digits() {
        for size in [1, 16, 24, 32, 64, 256, 500] {
            for index in 0..size as i64 {
                let voxels = VoxelBox { min: [index; 3], max: [index; 3] };
                assert_eq!(BoxText::of(voxels, [size; 3]).to_indices([size; 3]), voxels);
            }
        }
    }

    #[test]
    fn box_outside_or_reversed_is_told_apart() {
        let reversed = parse_boxes("[0.5, 0.5, 0.5, 0.4, 0.6, 0.6]")[0];
        assert!(!reversed.is_valid());
        assert_eq!(reversed.to_voxels([10, 10, 10]).clipped([10, 10, 10]), None);
        let huge = format!("[{}, 0, 0, 1, 1, 1]", "9".repeat(400));
        let huge = parse_boxes(&huge)[0];
        assert!(!huge.is_valid());
        assert_eq!(huge.to_voxels([10, 10, 10]).min[0], i64::MAX);
        let over = parse_boxes("[-0.2, 0, 0, 1, 2, 0.5]")[0];
        assert_eq!(over.to_voxels([4, 4, 4]).clipped([4, 4, 4]), Some(([0, 0, 0], [3, 3, 2])));
        assert_eq!(over.to_voxels([0, 4, 4]).clipped([0, 4, 4]), None);
    }
}
