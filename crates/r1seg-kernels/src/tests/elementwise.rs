use super::Random;
use crate::elementwise::{gelu_dot_on, gelu_erf_on, silu_mul_on, softmax_on};
use crate::{Isa, reference};

/// The gap in units of the last place of `exact`, those of the smallest normal number at least.
fn ulp(y: f32, exact: f64) -> f64 {
    let place = f64::from((exact.abs() as f32).max(f32::MIN_POSITIVE));
    (f64::from(y) - exact).abs() / (place.log2().floor().exp2() * f64::from(f32::EPSILON))
}

#[test]
fn gelu_is_exact_to_rounding() {
    let x: Vec<f32> = (-300_000..=300_000).map(|i| i as f32 * 1e-4).collect();
    for isa in Isa::available() {
        let y = gelu_erf_on(isa, &x);
        let (mut gap, mut places) = (0f64, 0f64);
        for (&x, &y) in x.iter().zip(&y) {
            let exact = reference::gelu_erf(f64::from(x));
            assert!(!y.is_nan(), "{isa:?}: {x}");
            gap = gap.max((f64::from(y) - exact).abs() / f64::from(x).abs().max(1.0));
            if x > -10.0 {
                places = places.max(ulp(y, exact));
            }
        }
        assert!(gap < 1.5e-7, "{isa:?}: {gap:e}");
        // Only a fused multiply-add can put back what rounding takes from x².
        let allowed = if isa == Isa::Portable { 80.0 } else { 8.0 };
        assert!(places < allowed, "{isa:?}: {places}");
    }
}

#[test]
fn silu_mul_is_exact_to_rounding() {
    let random = &mut Random::new(21);
    for (rows, f) in [(1, 1), (3, 17), (5, 31), (2, 64), (70, 1000)] {
        let gate_up: Vec<f32> = random.normals(rows * 2 * f).iter().map(|x| x * 8.0).collect();
        for isa in Isa::available() {
            let mut y = vec![f32::NAN; rows * f];
            silu_mul_on(isa, &gate_up, f, &mut y);
            for (row, y) in gate_up.chunks(2 * f).zip(y.chunks(f)) {
                for (i, &y) in y.iter().enumerate() {
                    let exact = reference::silu_mul(f64::from(row[i]), f64::from(row[f + i]));
                    assert!(ulp(y, exact) < 6.0, "{isa:?} {} {}: {y} {exact}", row[i], row[f + i]);
                }
            }
        }
    }
}

#[test]
fn special_numbers_come_out_as_limits() {
    let x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, 1e30, -1e30, 1e-40];
    for isa in Isa::available() {
        let y = gelu_erf_on(isa, &x);
        assert!(y[0].is_nan(), "{isa:?}");
        assert_eq!((y[1], y[3], y[4]), (f32::INFINITY, 0.0, 1e30), "{isa:?}");
        let mut y = [0f32; 1];
        silu_mul_on(isa, &[f32::NAN, 1.0], 1, &mut y);
        assert!(y[0].is_nan(), "{isa:?}");
        silu_mul_on(isa, &[-200.0, 1.0], 1, &mut y);
        assert!(y[0].abs() < 1e-35, "{isa:?}");
    }
}

#[test]
fn gelu_dot_is_the_product_of_gelu() {
    let random = &mut Random::new(22);
    for (rows, n) in [(1, 1), (3, 17), (70, 96), (4000, 5), (0, 4)] {
        let (x, weights) = (random.normals(rows * n), random.normals(n));
        for isa in Isa::available() {
            let y = gelu_dot_on(isa, &x, &weights);
            assert_eq!(y.len(), rows);
            for (row, y) in x.chunks(n).zip(y) {
                let products = row.iter().zip(&weights);
                let exact: f64 =
                    products.map(|(&x, &w)| reference::gelu_erf(f64::from(x)) * f64::from(w)).sum();
                assert!((f64::from(y) - exact).abs() < 1e-5, "{isa:?} {n}: {y} {exact}");
            }
        }
    }
}

#[test]
fn softmax_is_exact_to_rounding() {
    let random = &mut Random::new(23);
    for (rows, n) in [(1, 1), (3, 17), (5000, 6), (2, 40_000)] {
        let x: Vec<f32> = random.normals(rows * n).iter().map(|x| x * 20.0).collect();
        for isa in Isa::available() {
            for scale in [0.7, -0.2, 0.0] {
                let y = softmax_on(isa, &x, n, scale);
                for (x, y) in x.chunks(n).zip(y.chunks(n)) {
                    let scores = x.iter().map(|&x| f64::from(x) * f64::from(scale));
                    let largest = scores.clone().fold(f64::NEG_INFINITY, f64::max);
                    let total: f64 = scores.clone().map(|s| (s - largest).exp()).sum();
                    for (score, &y) in scores.zip(y) {
                        let exact = (score - largest).exp() / total;
                        assert!((f64::from(y) - exact).abs() < 3e-6, "{isa:?} {n}: {y} {exact}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_added_repeats() {
    let random = &mut Random::new(24);
    for (rows, n) in [(1, 1), (3, 17), (50, 1000), (2, 70_000), (0, 3)] {
        let (x, y) = (random.normals(rows * n), random.normals(n));
        let expected: Vec<f32> = x.iter().zip(y.iter().cycle()).map(|(x, y)| x + y).collect();
        assert_eq!(crate::add(&x, &y), expected);
    }
}
