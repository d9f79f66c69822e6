//! What single instructions compute, over 32 lanes.

use crate::exec::Exec;
use half::{bf16, f16};

mod convert;
mod float;
mod halves;

pub use convert::*;
pub use float::{f32_op, f64_approximate, f64_op, fma_directed, ftz};
pub use halves::half_op;

/// One operand of type `$t` to a result of type `$r`.
macro_rules! one {
    ($t:ty => $r:ty, |$a:ident| $e:expr) => {{
        unsafe fn f(w: &mut $crate::exec::Warp, i: &$crate::exec::Instr, m: u32) {
            unsafe {
                let x = *w.at::<$t>(i.a);
                let mut out = [<$r>::default(); 32];
                for l in 0..32 {
                    let $a = x[l];
                    out[l] = $e;
                }
                w.put(i.d, &out, m);
            }
        }
        f as $crate::exec::Exec
    }};
}
macro_rules! two {
    ($t:ty, $u:ty => $r:ty, |$a:ident, $b:ident| $e:expr) => {{
        unsafe fn f(w: &mut $crate::exec::Warp, i: &$crate::exec::Instr, m: u32) {
            unsafe {
                let (x, y) = (*w.at::<$t>(i.a), *w.at::<$u>(i.b));
                let mut out = [<$r>::default(); 32];
                for l in 0..32 {
                    let ($a, $b) = (x[l], y[l]);
                    out[l] = $e;
                }
                w.put(i.d, &out, m);
            }
        }
        f as $crate::exec::Exec
    }};
    ($t:ty, |$a:ident, $b:ident| $e:expr) => { two!($t, $t => $t, |$a, $b| $e) };
}
macro_rules! three {
    ($t:ty, $u:ty, $v:ty => $r:ty, |$a:ident, $b:ident, $c:ident| $e:expr) => {{
        unsafe fn f(w: &mut $crate::exec::Warp, i: &$crate::exec::Instr, m: u32) {
            unsafe {
                let (x, y, z) = (*w.at::<$t>(i.a), *w.at::<$u>(i.b), *w.at::<$v>(i.c));
                let mut out = [<$r>::default(); 32];
                for l in 0..32 {
                    let ($a, $b, $c) = (x[l], y[l], z[l]);
                    out[l] = $e;
                }
                w.put(i.d, &out, m);
            }
        }
        f as $crate::exec::Exec
    }};
    ($t:ty, |$a:ident, $b:ident, $c:ident| $e:expr) => {
        three!($t, $t, $t => $t, |$a, $b, $c| $e)
    };
}
/// A comparison to a predicate.
macro_rules! compare {
    ($t:ty, |$a:ident, $b:ident| $e:expr) => {{
        unsafe fn f(w: &mut $crate::exec::Warp, i: &$crate::exec::Instr, m: u32) {
            unsafe {
                let (x, y) = (*w.at::<$t>(i.a), *w.at::<$t>(i.b));
                let mut bits = 0u32;
                for l in 0..32 {
                    let ($a, $b) = (x[l], y[l]);
                    bits |= u32::from($e) << l;
                }
                let p = w.pred(i.d);
                *p = *p & !m | bits & m;
            }
        }
        f as $crate::exec::Exec
    }};
}
pub(crate) use {compare, one, three, two};

pub trait Wide: Sized {
    fn wide(self) -> f64;
}
macro_rules! int_compare {
    ($name:expr, $t:ty) => {
        match $name {
            "eq" => compare!($t, |a, b| a == b),
            "ne" => compare!($t, |a, b| a != b),
            "lt" | "lo" => compare!($t, |a, b| a < b),
            "le" | "ls" => compare!($t, |a, b| a <= b),
            "gt" | "hi" => compare!($t, |a, b| a > b),
            "ge" | "hs" => compare!($t, |a, b| a >= b),
            _ => return None,
        }
    };
}
macro_rules! float_compare {
    ($name:expr, $t:ty) => {
        match $name {
            "eq" => compare!($t, |a, b| a == b),
            "ne" => compare!($t, |a, b| a < b || a > b),
            "lt" => compare!($t, |a, b| a < b),
            "le" => compare!($t, |a, b| a <= b),
            "gt" => compare!($t, |a, b| a > b),
            "ge" => compare!($t, |a, b| a >= b),
            "equ" => compare!($t, |a, b| !(a < b || a > b)),
            "neu" => compare!($t, |a, b| a != b),
            "ltu" => compare!($t, |a, b| !(a >= b)),
            "leu" => compare!($t, |a, b| !(a > b)),
            "gtu" => compare!($t, |a, b| !(a <= b)),
            "geu" => compare!($t, |a, b| !(a < b)),
            "num" => compare!($t, |a, b| a == a && b == b),
            "nan" => compare!($t, |a, b| a != a || b != b),
            _ => return None,
        }
    };
}

#[allow(clippy::neg_cmp_op_on_partial_ord, clippy::eq_op)]
pub fn set_predicate(name: &str, ty: &str) -> Option<Exec> {
    Some(match ty {
        "u16" | "b16" => int_compare!(name, u16),
        "u32" | "b32" => int_compare!(name, u32),
        "u64" | "b64" => int_compare!(name, u64),
        "s16" => int_compare!(name, i16),
        "s32" => int_compare!(name, i32),
        "s64" => int_compare!(name, i64),
        "f16" => float_compare!(name, f16),
        "bf16" => float_compare!(name, bf16),
        "f32" => float_compare!(name, f32),
        "f64" => float_compare!(name, f64),
        _ => return None,
    })
}

macro_rules! int_ops {
    ($name:expr, $t:ty, $wide:ty, $wrap:ident) => {
        match $name {
            "add" => two!($t, |a, b| a.wrapping_add(b)),
            "sub" => two!($t, |a, b| a.wrapping_sub(b)),
            "mul.lo" => two!($t, |a, b| a.wrapping_mul(b)),
            "mul.hi" => two!($t, |a, b| ((a as $wide * b as $wide) >> <$t>::BITS) as $t),
            "mad.lo" => three!($t, |a, b, c| a.wrapping_mul(b).wrapping_add(c)),
            "mad.hi" => three!($t, |a, b, c| (((a as $wide * b as $wide) >> <$t>::BITS) as $t)
                .wrapping_add(c)),
            "div" => two!($t, |a, b| if b == 0 { !0 } else { a.wrapping_div(b) }),
            "rem" => two!($t, |a, b| if b == 0 { a } else { a.wrapping_rem(b) }),
            "min" => two!($t, |a, b| a.min(b)),
            "max" => two!($t, |a, b| a.max(b)),
            "and" => two!($t, |a, b| a & b),
            "or" => two!($t, |a, b| a | b),
            "xor" => two!($t, |a, b| a ^ b),
            "not" => one!($t => $t, |a| !a),
            "cnot" => one!($t => $t, |a| (a == 0) as $t),
            "neg" => one!($t => $t, |a| (a as $wrap).wrapping_neg() as $t),
            "abs" => one!($t => $t, |a| (a as $wrap).wrapping_abs() as $t),
            "shl" => two!($t, u32 => $t, |a, b| a.checked_shl(b).unwrap_or(0)),
            "shr" => two!($t, u32 => $t, |a, b| a.checked_shr(b).unwrap_or(if (a as $wrap) < 0 && <$t>::MIN != 0 { !0 } else { 0 })),
            "popc" => one!($t => u32, |a| a.count_ones()),
            "clz" => one!($t => u32, |a| a.leading_zeros()),
            "brev" => one!($t => $t, |a| a.reverse_bits()),
            "bfind" => one!($t => u32, |a| {
                let a = if <$t>::MIN != 0 && (a as $wrap) < 0 { !a } else { a };
                if a == 0 { u32::MAX } else { <$t>::BITS - 1 - a.leading_zeros() }
            }),
            "bfind.shiftamt" => one!($t => u32, |a| {
                let a = if <$t>::MIN != 0 && (a as $wrap) < 0 { !a } else { a };
                if a == 0 { u32::MAX } else { a.leading_zeros() }
            }),
            "sad" => three!($t, |a, b, c| c.wrapping_add(if a < b { b.wrapping_sub(a) } else { a.wrapping_sub(b) })),
            _ => return None,
        }
    };
}

pub fn integer(name: &str, ty: &str) -> Option<Exec> {
    Some(match ty {
        "u16" | "b16" => int_ops!(name, u16, u32, i16),
        "s16" => int_ops!(name, i16, i32, i16),
        "u32" | "b32" => int_ops!(name, u32, u64, i32),
        "s32" => int_ops!(name, i32, i64, i32),
        "u64" | "b64" => int_ops!(name, u64, u128, i64),
        "s64" => int_ops!(name, i64, i128, i64),
        _ => return None,
    })
}

pub fn wide(name: &str, ty: &str) -> Option<Exec> {
    Some(match (name, ty) {
        ("mul", "u16") => two!(u16, u16 => u32, |a, b| a as u32 * b as u32),
        ("mul", "s16") => two!(i16, i16 => i32, |a, b| a as i32 * b as i32),
        ("mul", "u32") => two!(u32, u32 => u64, |a, b| a as u64 * b as u64),
        ("mul", "s32") => two!(i32, i32 => i64, |a, b| a as i64 * b as i64),
        ("mad", "u16") => {
            three!(u16, u16, u32 => u32, |a, b, c| (a as u32 * b as u32).wrapping_add(c))
        }
        ("mad", "s16") => {
            three!(i16, i16, i32 => i32, |a, b, c| (a as i32 * b as i32).wrapping_add(c))
        }
        ("mad", "u32") => {
            three!(u32, u32, u64 => u64, |a, b, c| (a as u64 * b as u64).wrapping_add(c))
        }
        ("mad", "s32") => {
            three!(i32, i32, i64 => i64, |a, b, c| (a as i64 * b as i64).wrapping_add(c))
        }
        _ => return None,
    })
}
