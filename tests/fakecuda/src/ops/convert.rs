//! Conversions.

use super::float::{directed, ftz, sat, sat64};
use super::{one, two};
use crate::exec::Exec;
use half::{bf16, f16};

/// From a register of `from` bits that holds the integer type `ty`, to 64 bits.
pub fn widen(ty: &str, from: u32) -> Option<Exec> {
    Some(match (ty, from) {
        ("u8" | "b8", 16) => one!(u16 => u64, |a| a as u8 as u64),
        ("u8" | "b8", 32) => one!(u32 => u64, |a| a as u8 as u64),
        ("u8" | "b8", 64) => one!(u64 => u64, |a| a as u8 as u64),
        ("s8", 16) => one!(u16 => u64, |a| a as i8 as i64 as u64),
        ("s8", 32) => one!(u32 => u64, |a| a as i8 as i64 as u64),
        ("s8", 64) => one!(u64 => u64, |a| a as i8 as i64 as u64),
        ("u16" | "b16", 16) => one!(u16 => u64, |a| a as u64),
        ("u16" | "b16", 32) => one!(u32 => u64, |a| a as u16 as u64),
        ("u16" | "b16", 64) => one!(u64 => u64, |a| a as u16 as u64),
        ("s16", 16) => one!(i16 => i64, |a| a as i64),
        ("s16", 32) => one!(u32 => i64, |a| a as i16 as i64),
        ("s16", 64) => one!(u64 => i64, |a| a as i16 as i64),
        ("u32" | "b32", 32) => one!(u32 => u64, |a| a as u64),
        ("u32" | "b32", 64) => one!(u64 => u64, |a| a as u32 as u64),
        ("s32", 32) => one!(i32 => i64, |a| a as i64),
        ("s32", 64) => one!(u64 => i64, |a| a as i32 as i64),
        ("u64" | "b64" | "s64", 64) => one!(u64 => u64, |a| a),
        _ => return None,
    })
}

/// From 64 bits to the integer type `ty` in a register of `to` bits.
pub fn narrow(ty: &str, to: u32) -> Option<Exec> {
    Some(match (ty, to) {
        ("u8" | "b8", 16) => one!(u64 => u16, |a| a as u8 as u16),
        ("u8" | "b8", 32) => one!(u64 => u32, |a| a as u8 as u32),
        ("u8" | "b8", 64) => one!(u64 => u64, |a| a as u8 as u64),
        ("s8", 16) => one!(u64 => i16, |a| a as i8 as i16),
        ("s8", 32) => one!(u64 => i32, |a| a as i8 as i32),
        ("s8", 64) => one!(u64 => i64, |a| a as i8 as i64),
        ("u16" | "b16" | "s16", 16) => one!(u64 => u16, |a| a as u16),
        ("u16" | "b16", 32) => one!(u64 => u32, |a| a as u16 as u32),
        ("s16", 32) => one!(u64 => i32, |a| a as i16 as i32),
        ("u16" | "b16", 64) => one!(u64 => u64, |a| a as u16 as u64),
        ("s16", 64) => one!(u64 => i64, |a| a as i16 as i64),
        ("u32" | "b32" | "s32", 32) => one!(u64 => u32, |a| a as u32),
        ("u32" | "b32", 64) => one!(u64 => u64, |a| a as u32 as u64),
        ("s32", 64) => one!(u64 => i64, |a| a as i32 as i64),
        ("u64" | "b64" | "s64", 64) => one!(u64 => u64, |a| a),
        _ => return None,
    })
}

/// Saturates an integer of 64 bits, signed or not, to the range of `ty`.
pub fn saturate(signed: bool, ty: &str) -> Option<Exec> {
    macro_rules! clamp {
        ($t:ty) => {
            if signed {
                one!(i64 => i64, |a| (a as i128).clamp(<$t>::MIN as i128, <$t>::MAX as i128) as i64)
            } else {
                one!(u64 => u64, |a| (a as i128).clamp(<$t>::MIN as i128, <$t>::MAX as i128) as u64)
            }
        };
    }
    Some(match ty {
        "u8" => clamp!(u8),
        "s8" => clamp!(i8),
        "u16" => clamp!(u16),
        "s16" => clamp!(i16),
        "u32" => clamp!(u32),
        "s32" => clamp!(i32),
        "u64" => clamp!(u64),
        "s64" => clamp!(i64),
        _ => return None,
    })
}

pub fn int_to_float(signed: bool, to: &str, round: char) -> Option<Exec> {
    if round != 'n' {
        return Some(match (signed, to, round) {
            (true, "f32", 'z') => one!(i64 => f32, |a| round64(a as i128, 'z')),
            (true, "f32", 'm') => one!(i64 => f32, |a| round64(a as i128, 'm')),
            (true, "f32", 'p') => one!(i64 => f32, |a| round64(a as i128, 'p')),
            (false, "f32", 'z' | 'm') => one!(u64 => f32, |a| round64(a as i128, 'z')),
            (false, "f32", 'p') => one!(u64 => f32, |a| round64(a as i128, 'p')),
            _ => return None,
        });
    }
    Some(match (signed, to) {
        (true, "f32") => one!(i64 => f32, |a| a as f32),
        (false, "f32") => one!(u64 => f32, |a| a as f32),
        (true, "f64") => one!(i64 => f64, |a| a as f64),
        (false, "f64") => one!(u64 => f64, |a| a as f64),
        (true, "f16") => one!(i64 => f16, |a| f16::from_f64(a as f64)),
        (false, "f16") => one!(u64 => f16, |a| f16::from_f64(a as f64)),
        (true, "bf16") => one!(i64 => bf16, |a| bf16::from_f64(a as f64)),
        (false, "bf16") => one!(u64 => bf16, |a| bf16::from_f64(a as f64)),
        _ => return None,
    })
}

fn round64(a: i128, mode: char) -> f32 {
    let near = a as f32;
    let back = near as i128;
    match mode {
        'm' | 'z' if mode == 'm' || a > 0 => {
            if back > a {
                near.next_down()
            } else {
                near
            }
        }
        _ => {
            if back < a {
                near.next_up()
            } else {
                near
            }
        }
    }
}

/// f64 to the integer type, saturating, with the result in 64 bits.
pub fn float_to_int(ty: &str, mode: &str, from64: bool) -> Option<Exec> {
    macro_rules! all {
        ($t:ty, $nan:expr) => {
            match mode {
                "rni" => one!(f64 => u64, |a| if a.is_nan() { $nan } else { a.round_ties_even() as $t as i64 as u64 }),
                "rzi" => one!(f64 => u64, |a| if a.is_nan() { $nan } else { a.trunc() as $t as i64 as u64 }),
                "rmi" => one!(f64 => u64, |a| if a.is_nan() { $nan } else { a.floor() as $t as i64 as u64 }),
                "rpi" => one!(f64 => u64, |a| if a.is_nan() { $nan } else { a.ceil() as $t as i64 as u64 }),
                _ => return None,
            }
        };
    }
    Some(match (ty, from64) {
        ("s8", false) => all!(i8, 0),
        ("u8", false) => all!(u8, 0),
        ("s16", false) => all!(i16, 0),
        ("u16", false) => all!(u16, 0),
        ("s32", false) => all!(i32, 0),
        ("u32", false) => all!(u32, 0),
        ("s64", _) => all!(i64, 1 << 63),
        ("u64", _) => all!(u64, 1 << 63),
        ("s8", true) => all!(i8, 1 << 7),
        ("u8", true) => all!(u8, 1 << 7),
        ("s16", true) => all!(i16, 1 << 15),
        ("u16", true) => all!(u16, 1 << 15),
        ("s32", true) => all!(i32, 1 << 31),
        ("u32", true) => all!(u32, 1 << 31),
        _ => return None,
    })
}

pub fn float_to_f64(ty: &str) -> Option<Exec> {
    Some(match ty {
        "f16" => one!(f16 => f64, |a| a.to_f64()),
        "bf16" => one!(bf16 => f64, |a| a.to_f64()),
        "f32" => one!(f32 => f64, |a| f64::from(a)),
        "f64" => one!(f64 => f64, |a| a),
        _ => return None,
    })
}

fn f64_to_f32(a: f64, mode: char) -> f32 {
    directed(a as f32, a, 0.0, mode)
}

/// To zero, or half's own rounding to nearest.
fn bf16_of(a: f32, mode: char) -> bf16 {
    if mode == 'z' && !a.is_nan() {
        bf16::from_bits((a.to_bits() >> 16) as u16)
    } else {
        bf16::from_f32(a)
    }
}
fn f16_of(a: f32, mode: char) -> f16 {
    let near = f16::from_f32(a);
    if mode == 'z' && near.to_f32().abs() > a.abs() {
        f16::from_bits(near.to_bits() - 1)
    } else {
        near
    }
}

pub fn float_to_float(
    from: &str,
    to: &str,
    mode: &str,
    flush: bool,
    saturated: bool,
) -> Option<Exec> {
    Some(match (from, to, mode, saturated) {
        ("f32", "f16", "rn" | "", false) => one!(f32 => f16, |a| f16::from_f32(a)),
        ("f32", "f16", "rz", false) => one!(f32 => f16, |a| f16_of(a, 'z')),
        ("f32", "bf16", "rn" | "", false) => one!(f32 => bf16, |a| bf16::from_f32(a)),
        ("f32", "bf16", "rz", false) => one!(f32 => bf16, |a| bf16_of(a, 'z')),
        ("f64", "f16", "rn" | "", false) => one!(f64 => f16, |a| f16::from_f64(a)),
        ("f64", "bf16", "rn" | "", false) => one!(f64 => bf16, |a| bf16::from_f64(a)),
        ("f16", "f32", _, false) => one!(f16 => f32, |a| a.to_f32()),
        ("bf16", "f32", _, false) => one!(bf16 => f32, |a| a.to_f32()),
        ("f16", "f64", _, false) => one!(f16 => f64, |a| a.to_f64()),
        ("bf16", "f64", _, false) => one!(bf16 => f64, |a| a.to_f64()),
        ("f16", "bf16", _, false) => one!(f16 => bf16, |a| bf16::from_f32(a.to_f32())),
        ("bf16", "f16", _, false) => one!(bf16 => f16, |a| f16::from_f32(a.to_f32())),
        ("f32", "f64", _, false) => one!(f32 => f64, |a| f64::from(a)),
        ("f64", "f32", "rn" | "", false) => one!(f64 => f32, |a| a as f32),
        ("f64", "f32", "rz", false) => one!(f64 => f32, |a| f64_to_f32(a, 'z')),
        ("f64", "f32", "rm", false) => one!(f64 => f32, |a| f64_to_f32(a, 'm')),
        ("f64", "f32", "rp", false) => one!(f64 => f32, |a| f64_to_f32(a, 'p')),
        ("f32", "f32", "rni", false) if !flush => one!(f32 => f32, |a| a.round_ties_even()),
        ("f32", "f32", "rzi", false) if !flush => one!(f32 => f32, |a| a.trunc()),
        ("f32", "f32", "rmi", false) if !flush => one!(f32 => f32, |a| a.floor()),
        ("f32", "f32", "rpi", false) if !flush => one!(f32 => f32, |a| a.ceil()),
        ("f32", "f32", "rni", false) => one!(f32 => f32, |a| ftz(a).round_ties_even()),
        ("f32", "f32", "rzi", false) => one!(f32 => f32, |a| ftz(a).trunc()),
        ("f32", "f32", "rmi", false) => one!(f32 => f32, |a| ftz(a).floor()),
        ("f32", "f32", "rpi", false) => one!(f32 => f32, |a| ftz(a).ceil()),
        ("f32", "f32", "", true) => one!(f32 => f32, |a| sat(a)),
        ("f32", "f32", "", false) if flush => one!(f32 => f32, |a| ftz(a)),
        ("f32", "f32", "", false) => one!(f32 => f32, |a| a),
        ("f64", "f64", "rni", false) => one!(f64 => f64, |a| a.round_ties_even()),
        ("f64", "f64", "rzi", false) => one!(f64 => f64, |a| a.trunc()),
        ("f64", "f64", "rmi", false) => one!(f64 => f64, |a| a.floor()),
        ("f64", "f64", "rpi", false) => one!(f64 => f64, |a| a.ceil()),
        ("f64", "f64", "", true) => one!(f64 => f64, |a| sat64(a)),
        ("f64", "f64", "", false) => one!(f64 => f64, |a| a),
        ("f16", "f16", "rni", false) => {
            one!(f16 => f16, |a| f16::from_f32(a.to_f32().round_ties_even()))
        }
        ("f16", "f16", "rzi", false) => one!(f16 => f16, |a| f16::from_f32(a.to_f32().trunc())),
        ("f16", "f16", "rmi", false) => one!(f16 => f16, |a| f16::from_f32(a.to_f32().floor())),
        ("f16", "f16", "rpi", false) => one!(f16 => f16, |a| f16::from_f32(a.to_f32().ceil())),
        ("bf16", "bf16", "rni", false) => {
            one!(bf16 => bf16, |a| bf16::from_f32(a.to_f32().round_ties_even()))
        }
        ("bf16", "bf16", "rzi", false) => {
            one!(bf16 => bf16, |a| bf16::from_f32(a.to_f32().trunc()))
        }
        ("bf16", "bf16", "rmi", false) => {
            one!(bf16 => bf16, |a| bf16::from_f32(a.to_f32().floor()))
        }
        ("bf16", "bf16", "rpi", false) => one!(bf16 => bf16, |a| bf16::from_f32(a.to_f32().ceil())),
        _ => return None,
    })
}

/// Two floats to a pair in one register, the first in the upper half.
pub fn pack(to: &str) -> Option<Exec> {
    Some(match to {
        "f16x2" => {
            two!(f32, f32 => u32, |a, b| u32::from(f16::from_f32(a).to_bits()) << 16 | u32::from(f16::from_f32(b).to_bits()))
        }
        "bf16x2" => {
            two!(f32, f32 => u32, |a, b| u32::from(bf16::from_f32(a).to_bits()) << 16 | u32::from(bf16::from_f32(b).to_bits()))
        }
        "e4m3x2" => {
            two!(f32, f32 => u16, |a, b| u16::from(to_e4m3(a)) << 8 | u16::from(to_e4m3(b)))
        }
        _ => return None,
    })
}

pub fn unpack_fp8() -> Exec {
    one!(u16 => u32, |a| {
        let low = u32::from(f16::from_f32(from_e4m3(a as u8)).to_bits());
        u32::from(f16::from_f32(from_e4m3((a >> 8) as u8)).to_bits()) << 16 | low
    })
}

/// To nearest even, finite values saturated to 448.
fn to_e4m3(x: f32) -> u8 {
    let sign = if x.is_sign_negative() { 0x80 } else { 0 };
    if x.is_nan() {
        return sign | 0x7F;
    }
    let a = f64::from(x.abs());
    if a >= 448.0 {
        return sign | 0x7E;
    }
    let exponent = if a < 2f64.powi(-6) { -6 } else { a.log2().floor() as i32 };
    let step = 2f64.powi(exponent - 3);
    let units = (a / step).round_ties_even() as u32;
    // Eight units are the implied one; sixteen carry into the exponent, as adding does.
    let bits = ((exponent + 6) as u32) * 8 + units;
    sign | bits.min(0x7E) as u8
}

fn from_e4m3(x: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(x >> 3 & 15), f32::from(x & 7));
    let value = if x & 0x7F == 0x7F {
        f32::NAN
    } else if exponent == 0 {
        mantissa / 8.0 * 2f32.powi(-6)
    } else {
        (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7)
    };
    if x & 0x80 != 0 { -value } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e4m3_survives_the_way_back() {
        for bits in 0..=255u8 {
            let value = from_e4m3(bits);
            if !value.is_nan() {
                assert_eq!(to_e4m3(value), bits);
            }
        }
        assert_eq!(to_e4m3(1e9), 0x7E);
        assert_eq!(from_e4m3(to_e4m3(0.3)), 0.3125);
    }
}
