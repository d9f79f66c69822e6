//! Arithmetic of f32 and f64, with the directed roundings.

use super::{one, three, two};
use crate::exec::Exec;

/// Subnormals to zero, the sign kept.
#[inline(always)]
pub fn ftz(x: f32) -> f32 {
    if x.abs() < f32::MIN_POSITIVE { 0.0f32.copysign(x) } else { x }
}

#[inline(always)]
pub(super) fn sat(x: f32) -> f32 {
    if x > 0.0 { x.min(1.0) } else { 0.0 }
}
#[inline(always)]
pub(super) fn sat64(x: f64) -> f64 {
    if x > 0.0 { x.min(1.0) } else { 0.0 }
}

/// The f32 next to `near` in the direction of rounding, where `exact + rest` lies on that side.
pub(super) fn directed(near: f32, exact: f64, rest: f64, mode: char) -> f32 {
    let gap = (exact - f64::from(near)) + rest;
    match mode {
        'm' if gap < 0.0 => near.next_down(),
        'p' if gap > 0.0 => near.next_up(),
        'z' if near > 0.0 && gap < 0.0 => near.next_down(),
        'z' if near < 0.0 && gap > 0.0 => near.next_up(),
        _ => near,
    }
}

fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let s = a + b;
    let bb = s - a;
    (s, (a - (s - bb)) + (b - bb))
}

pub fn fma_directed(a: f32, b: f32, c: f32, mode: char) -> f32 {
    let (s, rest) = two_sum(f64::from(a) * f64::from(b), f64::from(c));
    if !s.is_finite() {
        return s as f32;
    }
    directed(s as f32, s, rest, mode)
}

fn div_directed(a: f32, b: f32, mode: char) -> f32 {
    let q = a / b;
    if !q.is_finite() {
        return q;
    }
    // a - q b is exact in f64; its sign over b's says on which side the true quotient lies.
    let rest = f64::from(a) - f64::from(q) * f64::from(b);
    let gap = if rest == 0.0 {
        0.0
    } else if (rest < 0.0) == (b < 0.0) {
        1.0
    } else {
        -1.0
    };
    directed(q, f64::from(q), gap, mode)
}

fn add64_z(a: f64, b: f64) -> f64 {
    let (s, rest) = two_sum(a, b);
    if s.is_finite() && s > 0.0 && rest < 0.0 {
        s.next_down()
    } else if s.is_finite() && s < 0.0 && rest > 0.0 {
        s.next_up()
    } else {
        s
    }
}

/// `name` with what matters of its modifiers: rounding, `ftz`, `sat`, `NaN`, `approx`.
pub fn f32_op(name: &str, round: char, flush: bool, saturate: bool, nan: bool) -> Option<Exec> {
    if saturate && !flush {
        return Some(match name {
            "add" => two!(f32, |a, b| sat(a + b)),
            "sub" => two!(f32, |a, b| sat(a - b)),
            "mul" => two!(f32, |a, b| sat(a * b)),
            "fma" | "mad" => three!(f32, |a, b, c| sat(a.mul_add(b, c))),
            _ => return None,
        });
    }
    if saturate {
        return Some(match name {
            "add" => two!(f32, |a, b| sat(ftz(a) + ftz(b))),
            "sub" => two!(f32, |a, b| sat(ftz(a) - ftz(b))),
            "mul" => two!(f32, |a, b| sat(ftz(a) * ftz(b))),
            "fma" | "mad" => three!(f32, |a, b, c| sat(ftz(a).mul_add(ftz(b), ftz(c)))),
            _ => return None,
        });
    }
    if matches!(round, 'z' | 'm' | 'p') {
        return Some(match (name, round) {
            ("add", 'z') => two!(f32, |a, b| fma_directed(a, 1.0, b, 'z')),
            ("add", 'm') => two!(f32, |a, b| fma_directed(a, 1.0, b, 'm')),
            ("add", _) => two!(f32, |a, b| fma_directed(a, 1.0, b, 'p')),
            ("sub", 'z') => two!(f32, |a, b| fma_directed(a, 1.0, -b, 'z')),
            ("sub", 'm') => two!(f32, |a, b| fma_directed(a, 1.0, -b, 'm')),
            ("sub", _) => two!(f32, |a, b| fma_directed(a, 1.0, -b, 'p')),
            ("mul", 'z') => two!(f32, |a, b| fma_directed(a, b, 0.0, 'z')),
            ("mul", 'm') => two!(f32, |a, b| fma_directed(a, b, 0.0, 'm')),
            ("mul", _) => two!(f32, |a, b| fma_directed(a, b, 0.0, 'p')),
            ("fma" | "mad", 'z') => three!(f32, |a, b, c| fma_directed(a, b, c, 'z')),
            ("fma" | "mad", 'm') => three!(f32, |a, b, c| fma_directed(a, b, c, 'm')),
            ("fma" | "mad", _) => three!(f32, |a, b, c| fma_directed(a, b, c, 'p')),
            ("div", 'z') => two!(f32, |a, b| div_directed(a, b, 'z')),
            ("div", 'm') => two!(f32, |a, b| div_directed(a, b, 'm')),
            ("div", _) => two!(f32, |a, b| div_directed(a, b, 'p')),
            _ => return None,
        });
    }
    Some(match (name, flush) {
        ("add", false) => two!(f32, |a, b| a + b),
        ("add", true) => two!(f32, |a, b| ftz(ftz(a) + ftz(b))),
        ("sub", false) => two!(f32, |a, b| a - b),
        ("sub", true) => two!(f32, |a, b| ftz(ftz(a) - ftz(b))),
        ("mul", false) => two!(f32, |a, b| a * b),
        ("mul", true) => two!(f32, |a, b| ftz(ftz(a) * ftz(b))),
        ("fma" | "mad", false) => three!(f32, |a, b, c| a.mul_add(b, c)),
        ("fma" | "mad", true) => three!(f32, |a, b, c| ftz(ftz(a).mul_add(ftz(b), ftz(c)))),
        ("div", false) => two!(f32, |a, b| a / b),
        ("div", true) => two!(f32, |a, b| ftz(ftz(a) / ftz(b))),
        ("neg", _) => one!(f32 => f32, |a| -a),
        ("abs", _) => one!(f32 => f32, |a| a.abs()),
        ("rcp", false) => one!(f32 => f32, |a| 1.0 / a),
        ("rcp", true) => one!(f32 => f32, |a| ftz(1.0 / ftz(a))),
        ("sqrt", false) => one!(f32 => f32, |a| a.sqrt()),
        ("sqrt", true) => one!(f32 => f32, |a| ftz(ftz(a).sqrt())),
        ("rsqrt", false) => one!(f32 => f32, |a| (1.0 / f64::from(a).sqrt()) as f32),
        ("rsqrt", true) => one!(f32 => f32, |a| ftz((1.0 / f64::from(ftz(a)).sqrt()) as f32)),
        ("ex2", false) => one!(f32 => f32, |a| a.exp2()),
        ("ex2", true) => one!(f32 => f32, |a| ftz(ftz(a).exp2())),
        ("lg2", false) => one!(f32 => f32, |a| a.log2()),
        ("lg2", true) => one!(f32 => f32, |a| ftz(ftz(a).log2())),
        ("sin", _) => one!(f32 => f32, |a| a.sin()),
        ("cos", _) => one!(f32 => f32, |a| a.cos()),
        ("tanh", _) => one!(f32 => f32, |a| a.tanh()),
        ("min", false) if !nan => two!(f32, |a, b| a.min(b)),
        ("max", false) if !nan => two!(f32, |a, b| a.max(b)),
        ("min", true) if !nan => two!(f32, |a, b| ftz(a).min(ftz(b))),
        ("max", true) if !nan => two!(f32, |a, b| ftz(a).max(ftz(b))),
        ("min", _) => two!(f32, |a, b| if a.is_nan() || b.is_nan() { f32::NAN } else { a.min(b) }),
        ("max", _) => two!(f32, |a, b| if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) }),
        // The sign of `a`, the rest of `b`.
        ("copysign", _) => two!(f32, |a, b| b.copysign(a)),
        _ => return None,
    })
}

pub fn f64_op(name: &str, round: char, nan: bool) -> Option<Exec> {
    if round == 'z' {
        return Some(match name {
            "add" => two!(f64, |a, b| add64_z(a, b)),
            "sub" => two!(f64, |a, b| add64_z(a, -b)),
            _ => return None,
        });
    }
    if round != 'n' {
        return None;
    }
    Some(match name {
        "add" => two!(f64, |a, b| a + b),
        "sub" => two!(f64, |a, b| a - b),
        "mul" => two!(f64, |a, b| a * b),
        "fma" | "mad" => three!(f64, |a, b, c| a.mul_add(b, c)),
        "div" => two!(f64, |a, b| a / b),
        "neg" => one!(f64 => f64, |a| -a),
        "abs" => one!(f64 => f64, |a| a.abs()),
        "rcp" => one!(f64 => f64, |a| 1.0 / a),
        "sqrt" => one!(f64 => f64, |a| a.sqrt()),
        "rsqrt" => one!(f64 => f64, |a| 1.0 / a.sqrt()),
        "min" if !nan => two!(f64, |a, b| a.min(b)),
        "max" if !nan => two!(f64, |a, b| a.max(b)),
        "copysign" => two!(f64, |a, b| b.copysign(a)),
        _ => return None,
    })
}

/// The high words only, as the instruction gives.
pub fn f64_approximate(name: &str) -> Option<Exec> {
    fn high(x: f64) -> f64 {
        f64::from_bits(x.to_bits() & 0xFFFF_FFFF_0000_0000)
    }
    Some(match name {
        "rcp" => one!(f64 => f64, |a| high(1.0 / a)),
        "rsqrt" => one!(f64 => f64, |a| high(1.0 / a.sqrt())),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directed_rounding_is_on_the_right_side() {
        assert_eq!(fma_directed(1.0, 1.0, 1e-9, 'm'), 1.0);
        assert_eq!(fma_directed(1.0, 1.0, -1e-9, 'm'), 1f32.next_down());
        assert_eq!(fma_directed(1.0, 1.0, -1e-9, 'z'), 1f32.next_down());
        assert_eq!(fma_directed(-1.0, 1.0, 1e-9, 'z'), (-1f32).next_up());
        assert_eq!(fma_directed(-1.0, 1.0, -1e-9, 'z'), -1.0);
        assert_eq!(
            div_directed(1.0, 3.0, 'z'),
            (1.0f64 / 3.0) as f32
                - if ((1.0f64 / 3.0) as f32 as f64) > 1.0 / 3.0 { f32::EPSILON / 4.0 } else { 0.0 }
        );
    }
}
