//! What a JPEG of gray pixels leaves of them, without making one: only its rounding loses anything.
//!
//! The transforms are those of libjpeg's `jfdctint.c` and `jidctint.c` (accurate integer method, after
//! Loeffler, Ligtenberg and Moschytz), which Pillow uses. All numbers are integers, so that the result is
//! the same to the last bit.

/// Pixels along an edge of a block.
const BLOCK: usize = 8;

/// The table of annex K.1 of ITU-T T.81, row by row.
const LUMINANCE: [i32; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, //
    12, 12, 14, 19, 26, 58, 60, 55, //
    14, 13, 16, 24, 40, 57, 69, 56, //
    14, 17, 22, 29, 51, 87, 80, 62, //
    18, 22, 37, 56, 68, 109, 103, 77, //
    24, 35, 55, 64, 81, 104, 113, 92, //
    49, 64, 78, 87, 103, 121, 120, 101, //
    72, 92, 95, 98, 112, 100, 103, 99,
];

/// Fractional bits of the constants.
const BITS: u32 = 13;
/// Fractional bits between the two passes.
const BETWEEN: u32 = 2;

/// The pixels of an image that was encoded as an 8-bit gray JPEG of a quality from 1 to 100, and decoded.
///
/// # Shapes
/// - `pixels`: `[H, W]`    - returns: the same
pub(super) fn round_trip(pixels: &[u8], [height, width]: [usize; 2], quality: u8) -> Vec<u8> {
    let table = table(quality);
    let mut out = vec![0; pixels.len()];
    for (top, left) in blocks(height).flat_map(|y| blocks(width).map(move |x| (y, x))) {
        // The last row and column fill up what is missing of a block.
        let at = |n: usize| {
            let (y, x) = ((top + n / BLOCK).min(height - 1), (left + n % BLOCK).min(width - 1));
            i32::from(pixels[y * width + x]) - 128
        };
        let mut block: [i32; 64] = std::array::from_fn(at);
        (0..BLOCK).for_each(|row| forward(&mut block, row * BLOCK, 1, Pass::Rows));
        (0..BLOCK).for_each(|column| forward(&mut block, column, BLOCK, Pass::Columns));
        block.iter_mut().zip(&table).for_each(|(c, step)| *c = quantized(*c, *step) * step);
        (0..BLOCK).for_each(|column| inverse(&mut block, column, BLOCK, BITS - BETWEEN));
        (0..BLOCK).for_each(|row| inverse(&mut block, row * BLOCK, 1, BITS + BETWEEN + 3));
        for (y, row) in block.chunks_exact(BLOCK).enumerate().take(height - top) {
            for (x, value) in row.iter().enumerate().take(width - left) {
                // Between 0 and 255, so that nothing is cut off.
                out[(top + y) * width + left + x] = (value + 128).clamp(0, 255) as u8;
            }
        }
    }
    out
}

fn blocks(size: usize) -> std::iter::StepBy<std::ops::Range<usize>> {
    (0..size).step_by(BLOCK)
}

/// The steps of each coefficient, as `jpeg_quality_scaling` scales them.
fn table(quality: u8) -> [i32; 64] {
    let quality = i32::from(quality.clamp(1, 100));
    let percent = if quality < 50 { 5000 / quality } else { 200 - 2 * quality };
    LUMINANCE.map(|step| ((step * percent + 50) / 100).clamp(1, 255))
}

/// The coefficient, of which the forward transform gives eight times, in whole steps.
fn quantized(coefficient: i32, step: i32) -> i32 {
    let steps = (coefficient.abs() + 4 * step) / (8 * step);
    steps * coefficient.signum()
}

/// `x / 2ⁿ`, rounded.
fn descale(x: i32, n: u32) -> i32 {
    (x + (1 << (n - 1))) >> n
}

/// The cosines' products with 2¹³, which both directions share.
mod constants {
    pub(super) const C0_298: i32 = 2446;
    pub(super) const C0_390: i32 = 3196;
    pub(super) const C0_541: i32 = 4433;
    pub(super) const C0_765: i32 = 6270;
    pub(super) const C0_899: i32 = 7373;
    pub(super) const C1_175: i32 = 9633;
    pub(super) const C1_501: i32 = 12299;
    pub(super) const C1_847: i32 = 15137;
    pub(super) const C1_961: i32 = 16069;
    pub(super) const C2_053: i32 = 16819;
    pub(super) const C2_562: i32 = 20995;
    pub(super) const C3_072: i32 = 25172;
}
use constants::*;

#[derive(Clone, Copy, PartialEq)]
enum Pass {
    Rows,
    Columns,
}

/// One pass of the forward transform, over eight numbers `step` apart.
fn forward(block: &mut [i32; 64], first: usize, step: usize, pass: Pass) {
    let at = |n: usize| block[first + n * step];
    let sum: [i32; 4] = std::array::from_fn(|n| at(n) + at(7 - n));
    let [t7, t6, t5, t4]: [i32; 4] = std::array::from_fn(|n| at(n) - at(7 - n));
    let (e0, e3) = (sum[0] + sum[3], sum[0] - sum[3]);
    let (e1, e2) = (sum[1] + sum[2], sum[1] - sum[2]);
    let (even, bits) = match pass {
        Pass::Rows => ([(e0 + e1) << BETWEEN, (e0 - e1) << BETWEEN], BITS - BETWEEN),
        Pass::Columns => ([descale(e0 + e1, BETWEEN), descale(e0 - e1, BETWEEN)], BITS + BETWEEN),
    };
    let w = (e2 + e3) * C0_541;
    let odd = odd_part([t4, t5, t6, t7]);
    let all = [
        even[0],
        descale(odd[3], bits),
        descale(w + e3 * C0_765, bits),
        descale(odd[2], bits),
        even[1],
        descale(odd[1], bits),
        descale(w - e2 * C1_847, bits),
        descale(odd[0], bits),
    ];
    all.into_iter().enumerate().for_each(|(n, value)| block[first + n * step] = value);
}

/// The rotations of the odd half, which are the same in both directions.
fn odd_part([t0, t1, t2, t3]: [i32; 4]) -> [i32; 4] {
    let z5 = (t0 + t2 + t1 + t3) * C1_175;
    let (z1, z2) = ((t0 + t3) * -C0_899, (t1 + t2) * -C2_562);
    let (z3, z4) = ((t0 + t2) * -C1_961 + z5, (t1 + t3) * -C0_390 + z5);
    [t0 * C0_298 + z1 + z3, t1 * C2_053 + z2 + z4, t2 * C3_072 + z2 + z3, t3 * C1_501 + z1 + z4]
}

/// One pass of the inverse transform, which takes `bits` off again.
fn inverse(block: &mut [i32; 64], first: usize, step: usize, bits: u32) {
    let [d0, d1, d2, d3, d4, d5, d6, d7]: [i32; 8] =
        std::array::from_fn(|n| block[first + n * step]);
    let w = (d2 + d6) * C0_541;
    let (f2, f3) = (w - d6 * C1_847, w + d2 * C0_765);
    let (f0, f1) = ((d0 + d4) << BITS, (d0 - d4) << BITS);
    let even = [f0 + f3, f1 + f2, f1 - f2, f0 - f3];
    let [t0, t1, t2, t3] = odd_part([d7, d5, d3, d1]);
    for (n, odd) in [t3, t2, t1, t0].into_iter().enumerate() {
        block[first + n * step] = descale(even[n] + odd, bits);
        block[first + (7 - n) * step] = descale(even[n] - odd, bits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_quality_95_is_a_tenth_of_that_of_the_standard() {
        let table = table(95);
        assert_eq!(table[..8], [2, 1, 1, 2, 2, 4, 5, 6]);
        assert_eq!(table[63], 10);
        assert_eq!(super::table(50), LUMINANCE);
        assert!(super::table(100).iter().all(|step| *step == 1));
        assert_eq!(super::table(1)[0], 255);
    }

    #[test]
    fn flat_images_survive_and_the_best_quality_changes_little() {
        for value in [0, 1, 127, 128, 254, 255] {
            assert!(round_trip(&[value; 35], [5, 7], 95).iter().all(|v| v.abs_diff(value) <= 1));
        }
        let noise: Vec<u8> = (0..19 * 23).map(|n| (n * 7919 % 251) as u8).collect();
        let most = |quality| {
            let got = round_trip(&noise, [19, 23], quality);
            got.iter().zip(&noise).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
        };
        assert!(most(100) <= 2 && most(95) > 2, "{} {}", most(100), most(95));
    }
}
