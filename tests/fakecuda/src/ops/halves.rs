//! Arithmetic of f16 and bf16, alone and in pairs.

use super::{one, three, two};
use crate::exec::Exec;
use half::{bf16, f16};

macro_rules! half_ops {
    ($name:expr, $t:ident, $nan:expr) => {
        match $name {
            "add" => two!($t, |a, b| $t::from_f32(a.to_f32() + b.to_f32())),
            "sub" => two!($t, |a, b| $t::from_f32(a.to_f32() - b.to_f32())),
            "mul" => two!($t, |a, b| $t::from_f32(a.to_f32() * b.to_f32())),
            // Exact in f64 but for far apart magnitudes.
            "fma" => three!($t, |a, b, c| $t::from_f64(a.to_f64() * b.to_f64() + c.to_f64())),
            "fma.relu" => three!($t, |a, b, c| {
                let r = a.to_f64() * b.to_f64() + c.to_f64();
                if r.is_nan() { $t::NAN } else { $t::from_f64(r.max(0.0)) }
            }),
            "neg" => one!($t => $t, |a| $t::from_bits(a.to_bits() ^ 0x8000)),
            "abs" => one!($t => $t, |a| $t::from_bits(a.to_bits() & 0x7FFF)),
            "min" if !$nan => two!($t, |a, b| $t::from_f32(a.to_f32().min(b.to_f32()))),
            "max" if !$nan => two!($t, |a, b| $t::from_f32(a.to_f32().max(b.to_f32()))),
            "min" => two!($t, |a, b| if a.is_nan() || b.is_nan() { $t::NAN } else { $t::from_f32(a.to_f32().min(b.to_f32())) }),
            "max" => two!($t, |a, b| if a.is_nan() || b.is_nan() { $t::NAN } else { $t::from_f32(a.to_f32().max(b.to_f32())) }),
            "ex2" => one!($t => $t, |a| $t::from_f32(a.to_f32().exp2())),
            "tanh" => one!($t => $t, |a| $t::from_f32(a.to_f32().tanh())),
            _ => return None,
        }
    };
}
/// Two of them in 32 bits.
macro_rules! half_pair_ops {
    ($name:expr, $t:ident, $nan:expr) => {{
        #[inline(always)]
        fn p(x: u32) -> (f32, f32) {
            ($t::from_bits(x as u16).to_f32(), $t::from_bits((x >> 16) as u16).to_f32())
        }
        #[inline(always)]
        fn u(a: f32, b: f32) -> u32 {
            u32::from($t::from_f32(a).to_bits()) | u32::from($t::from_f32(b).to_bits()) << 16
        }
        match $name {
            "add" => two!(u32, |a, b| { let (a, b) = (p(a), p(b)); u(a.0 + b.0, a.1 + b.1) }),
            "sub" => two!(u32, |a, b| { let (a, b) = (p(a), p(b)); u(a.0 - b.0, a.1 - b.1) }),
            "mul" => two!(u32, |a, b| { let (a, b) = (p(a), p(b)); u(a.0 * b.0, a.1 * b.1) }),
            "fma" => three!(u32, |a, b, c| {
                let (a, b, c) = (p(a), p(b), p(c));
                let one = |a: f32, b: f32, c: f32| {
                    u32::from($t::from_f64(f64::from(a) * f64::from(b) + f64::from(c)).to_bits())
                };
                one(a.0, b.0, c.0) | one(a.1, b.1, c.1) << 16
            }),
            "min" => two!(u32, |a, b| { let (a, b) = (p(a), p(b)); u(a.0.min(b.0), a.1.min(b.1)) }),
            "max" => two!(u32, |a, b| { let (a, b) = (p(a), p(b)); u(a.0.max(b.0), a.1.max(b.1)) }),
            "neg" => one!(u32 => u32, |a| a ^ 0x8000_8000),
            "abs" => one!(u32 => u32, |a| a & 0x7FFF_7FFF),
            "ex2" => one!(u32 => u32, |a| { let a = p(a); u(a.0.exp2(), a.1.exp2()) }),
            "tanh" => one!(u32 => u32, |a| { let a = p(a); u(a.0.tanh(), a.1.tanh()) }),
            _ => return None,
        }
    }};
}

pub fn half_op(name: &str, ty: &str, nan: bool) -> Option<Exec> {
    Some(match ty {
        "f16" => half_ops!(name, f16, nan),
        "bf16" => half_ops!(name, bf16, nan),
        "f16x2" if !nan => half_pair_ops!(name, f16, nan),
        "bf16x2" if !nan => half_pair_ops!(name, bf16, nan),
        _ => return None,
    })
}
