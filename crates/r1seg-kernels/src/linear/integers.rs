//! Activations as integers with a scale.

/// Rounds a block to integers that are at most `largest`, to nearest even, and returns what they are multiplied by. A
/// NaN or an infinity makes that NaN or infinite.
#[inline(always)]
pub(super) fn integers<const N: usize>(x: &[f32; N], largest: i16, q: &mut [i16; N]) -> f32 {
    // As bits, so that a NaN counts as the largest.
    let mut bits = 0;
    for x in x {
        bits = bits.max(x.to_bits() & 0x7fff_ffff);
    }
    let scale = f32::from_bits(bits) / f32::from(largest);
    // What is too small to divide by counts as zero, below 1e-33.
    let (scale, inverse) =
        if scale < f32::MIN_POSITIVE { (0.0, 0.0) } else { (scale, scale.recip()) };
    // Adding 1.5 * 2^23 rounds to nearest even and leaves the integer in the low bits.
    let magic = 12_582_912f32;
    for (q, x) in q.iter_mut().zip(x) {
        *q = (x * inverse + magic).to_bits() as i16;
    }
    scale
}

#[inline(always)]
pub(super) fn sum<const N: usize>(q: &[i16; N]) -> i32 {
    let mut sum = 0;
    for &q in q {
        sum += i32::from(q);
    }
    sum
}
