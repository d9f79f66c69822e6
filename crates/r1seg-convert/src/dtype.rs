//! The way from one number format to another: little-endian bytes in, little-endian bytes out.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use r1seg_checkpoint::{NumberFormat, count_not_finite};
use rayon::prelude::*;

/// What floating-point weights become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetDtype {
    /// 8 bits of exponent, 8 of significand: half the bytes, the range of f32.
    Bf16,
    /// 5 bits of exponent, 11 of significand; numbers above 65504 do not fit.
    F16,
    /// What most checkpoints are published in.
    F32,
}

impl TargetDtype {
    /// The storage format.
    pub fn format(self) -> NumberFormat {
        match self {
            Self::Bf16 => NumberFormat::Bf16,
            Self::F16 => NumberFormat::F16,
            Self::F32 => NumberFormat::F32,
        }
    }

    /// As `config.json` spells it in `torch_dtype`.
    pub fn torch_name(self) -> &'static str {
        match self {
            Self::Bf16 => "bfloat16",
            Self::F16 => "float16",
            Self::F32 => "float32",
        }
    }
}

/// What was seen while numbers were converted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// NaN and infinities in the source.
    pub(crate) not_finite: u64,
    /// Finite numbers that the target cannot hold.
    pub(crate) overflown: u64,
}

impl Tally {
    pub(crate) fn add(self, other: Self) -> Self {
        Self {
            not_finite: self.not_finite + other.not_finite,
            overflown: self.overflown + other.overflown,
        }
    }
}

/// Numbers per task: small enough for the cache, large enough to be worth a task.
const GRAIN: usize = 128 * 1024;

/// Makes `target` what `source`, numbers of format `from`, is in format `to`, rounded to nearest even.
///
/// `source` is a whole number of numbers. Integers only keep their format.
pub(crate) fn convert(
    source: &[u8],
    from: NumberFormat,
    to: NumberFormat,
    target: &mut Vec<u8>,
) -> Tally {
    if from == to && !from.is_float() {
        target.clear();
        target.extend_from_slice(source);
        return Tally::default();
    }
    let numbers = source.len() / from.size();
    target.resize(numbers * to.size(), 0);
    source
        .par_chunks(GRAIN * from.size())
        .zip(target.par_chunks_mut(GRAIN * to.size()))
        .map(|(source, out)| convert_block(source, from, to, out))
        .reduce(Tally::default, Tally::add)
}

fn convert_block(source: &[u8], from: NumberFormat, to: NumberFormat, out: &mut [u8]) -> Tally {
    match (from, to) {
        (a, b) if a == b => {
            out.copy_from_slice(source);
            Tally { not_finite: count_not_finite(source, from), overflown: 0 }
        }
        (NumberFormat::F32, NumberFormat::Bf16) => {
            let (numbers, _) = source.as_chunks::<4>();
            f32_to_bf16(numbers.iter().map(|n| u32::from_le_bytes(*n)), out)
        }
        (NumberFormat::F64, NumberFormat::Bf16) => f64_to(source, out, |x| {
            let y = bf16::from_f32(round_to_odd(x));
            (y.to_le_bytes(), y.is_infinite())
        }),
        (NumberFormat::F64, NumberFormat::F16) => f64_to(source, out, |x| {
            let y = f16::from_f32(round_to_odd(x));
            (y.to_le_bytes(), y.is_infinite())
        }),
        #[expect(clippy::cast_possible_truncation, reason = "the conversion that is asked for")]
        (NumberFormat::F64, _) => f64_to(source, out, |x| {
            let y = x as f32;
            (y.to_le_bytes(), y.is_infinite())
        }),
        _ => {
            let mut numbers = vec![0.0; source.len() / from.size()];
            to_f32(source, from, &mut numbers);
            encode_block(&numbers, to, out)
        }
    }
}

fn f64_to<const N: usize>(
    source: &[u8],
    out: &mut [u8],
    convert: impl Fn(f64) -> ([u8; N], bool),
) -> Tally {
    let mut tally = Tally::default();
    let (out, _) = out.as_chunks_mut::<N>();
    for (bytes, out) in source.as_chunks::<8>().0.iter().zip(out) {
        let number = f64::from_le_bytes(*bytes);
        let is_infinite;
        (*out, is_infinite) = convert(number);
        tally.not_finite += u64::from(!number.is_finite());
        tally.overflown += u64::from(number.is_finite() && is_infinite);
    }
    tally
}

/// The f32 towards zero, with its last bit set if anything was lost: rounding it once more gives
/// what rounding the f64 at once would give, which two roundings to nearest do not.
fn round_to_odd(x: f64) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "what is lost is looked at below")]
    let nearest = x as f32;
    let back = f64::from(nearest);
    if back == x || x.is_nan() {
        return nearest;
    }
    let towards_zero = nearest.to_bits() - u32::from(back.abs() > x.abs());
    f32::from_bits(towards_zero | 1)
}

/// Round to nearest even on the bits; a NaN stays one.
fn f32_to_bf16(numbers: impl Iterator<Item = u32>, out: &mut [u8]) -> Tally {
    const EXPONENT: u32 = 0x7f80_0000;
    let (mut not_finite, mut overflown) = (0u32, 0u32);
    let (out, _) = out.as_chunks_mut::<2>();
    for (bits, out) in numbers.zip(out) {
        let special = u32::from(bits & EXPONENT == EXPONENT);
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
        // Rounding an infinity or a NaN would turn it into something else.
        let chosen = if special == 1 { bits | (0x0040_0000 * is_nan(bits)) } else { rounded };
        not_finite += special;
        overflown += u32::from(chosen & EXPONENT == EXPONENT) & (1 - special);
        let [_, _, low, high] = chosen.to_le_bytes();
        *out = [low, high];
    }
    Tally { not_finite: not_finite.into(), overflown: overflown.into() }
}

fn is_nan(bits: u32) -> u32 {
    u32::from(bits & 0x7fff_ffff > 0x7f80_0000)
}

/// Reads floats of any format. `out` is as long as `source` has numbers.
pub(crate) fn to_f32(source: &[u8], from: NumberFormat, out: &mut [f32]) {
    match from {
        NumberFormat::F64 => {
            for (bytes, out) in source.as_chunks::<8>().0.iter().zip(out) {
                #[expect(clippy::cast_possible_truncation, reason = "rounding is what is meant")]
                let number = f64::from_le_bytes(*bytes) as f32;
                *out = number;
            }
        }
        NumberFormat::F16 => {
            for (bytes, out) in source.as_chunks::<2>().0.iter().zip(out) {
                *out = f16::from_le_bytes(*bytes).to_f32();
            }
        }
        NumberFormat::Bf16 => {
            for (bytes, out) in source.as_chunks::<2>().0.iter().zip(out) {
                *out = bf16::from_le_bytes(*bytes).to_f32();
            }
        }
        _ => {
            for (bytes, out) in source.as_chunks::<4>().0.iter().zip(out) {
                *out = f32::from_le_bytes(*bytes);
            }
        }
    }
}

/// Makes `target` what `numbers` are in format `to`.
pub(crate) fn encode(numbers: &[f32], to: NumberFormat, target: &mut Vec<u8>) -> Tally {
    target.resize(numbers.len() * to.size(), 0);
    numbers
        .par_chunks(GRAIN)
        .zip(target.par_chunks_mut(GRAIN * to.size()))
        .map(|(numbers, out)| encode_block(numbers, to, out))
        .reduce(Tally::default, Tally::add)
}

fn encode_block(numbers: &[f32], to: NumberFormat, out: &mut [u8]) -> Tally {
    let not_finite = || numbers.iter().map(|x| u64::from(!x.is_finite())).sum();
    match to {
        NumberFormat::Bf16 => f32_to_bf16(numbers.iter().map(|x| x.to_bits()), out),
        NumberFormat::F16 => {
            let mut halves = vec![f16::ZERO; numbers.len()];
            halves.convert_from_f32_slice(numbers);
            let (out, _) = out.as_chunks_mut::<2>();
            let mut overflown = 0;
            for ((half, number), out) in halves.iter().zip(numbers).zip(out) {
                overflown += u64::from(half.is_infinite() && number.is_finite());
                *out = half.to_le_bytes();
            }
            Tally { not_finite: not_finite(), overflown }
        }
        _ => {
            for (number, out) in numbers.iter().zip(out.as_chunks_mut::<4>().0) {
                *out = number.to_le_bytes();
            }
            Tally { not_finite: not_finite(), overflown: 0 }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f32_bytes(numbers: &[f32]) -> Vec<u8> {
        numbers.iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    #[test]
    fn every_bf16_and_its_neighbors_round_as_half_rounds() {
        // Each upper half with lower halves around the tie.
        let mut numbers = Vec::new();
        for upper in 0..=u16::MAX {
            for lower in [0u32, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
                numbers.push(f32::from_bits(u32::from(upper) << 16 | lower));
            }
        }
        let mut out = Vec::new();
        let tally = convert(&f32_bytes(&numbers), NumberFormat::F32, NumberFormat::Bf16, &mut out);
        let mut expected = Tally::default();
        for (number, bytes) in numbers.iter().zip(out.as_chunks::<2>().0) {
            let (got, want) = (bf16::from_le_bytes(*bytes), bf16::from_f32(*number));
            assert!(got == want || got.is_nan() && want.is_nan(), "{number:?}: {got} {want}");
            expected.not_finite += u64::from(!number.is_finite());
            expected.overflown += u64::from(number.is_finite() && want.is_infinite());
        }
        assert_eq!(tally, expected);
        assert!(tally.overflown > 0);
    }

    #[test]
    fn every_f16_survives_the_way_over_f32() {
        let halves: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let (mut wide, mut back) = (Vec::new(), Vec::new());
        convert(&halves, NumberFormat::F16, NumberFormat::F32, &mut wide);
        let tally = convert(&wide, NumberFormat::F32, NumberFormat::F16, &mut back);
        for (a, b) in halves.as_chunks::<2>().0.iter().zip(back.as_chunks::<2>().0) {
            let (a, b) = (f16::from_le_bytes(*a), f16::from_le_bytes(*b));
            assert!(a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan());
        }
        assert_eq!(tally, Tally { not_finite: 2 * 1024, overflown: 0 });
    }

    #[test]
    fn a_number_that_f16_cannot_hold_is_counted() {
        let mut out = Vec::new();
        let numbers = f32_bytes(&[65504.0, 65519.0, 65520.0, -1e6, f32::INFINITY]);
        let tally = convert(&numbers, NumberFormat::F32, NumberFormat::F16, &mut out);
        assert_eq!(tally, Tally { not_finite: 1, overflown: 2 });
    }

    #[test]
    fn an_f64_is_rounded_once() {
        // Just above and below a tie of bf16: f32 rounds both onto the tie.
        let tie = |e: i32| 1.0 + 2f64.powi(-8) + 2f64.powi(e);
        for (x, expected) in [
            (tie(-40), 1.0 + 2f32.powi(-7)),
            (1.0 + 3.0 * 2f64.powi(-8) - 2f64.powi(-40), 1.0 + 2f32.powi(-7)),
            (-tie(-40), -1.0 - 2f32.powi(-7)),
            (tie(-60), 1.0),
            (0.0, 0.0),
            (1e300, f32::INFINITY),
        ] {
            let mut out = Vec::new();
            let tally = convert(&x.to_le_bytes(), NumberFormat::F64, NumberFormat::Bf16, &mut out);
            assert_eq!(bf16::from_le_bytes([out[0], out[1]]).to_f32(), expected, "{x}");
            assert_eq!(tally.overflown, u64::from(x == 1e300));
        }
    }

    #[test]
    fn nan_and_infinity_are_found_in_every_format() {
        let wide = [0.0f64, f64::NAN, 1.0, f64::NEG_INFINITY];
        let bytes: Vec<u8> = wide.iter().flat_map(|x| x.to_le_bytes()).collect();
        for dtype in [NumberFormat::F64, NumberFormat::F32, NumberFormat::F16, NumberFormat::Bf16] {
            let mut out = Vec::new();
            convert(&bytes, NumberFormat::F64, dtype, &mut out);
            assert_eq!(count_not_finite(&out, dtype), 2, "{dtype:?}");
        }
    }
}
