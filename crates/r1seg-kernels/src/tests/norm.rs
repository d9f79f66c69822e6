use super::Random;
use crate::{AfterNorm, InstanceNorm, Norm};

const EPS: f64 = 1e-5;

fn exact(x: &[f64], weight: &[f32], bias: Option<&[f32]>) -> Vec<f64> {
    let n = x.len() as f64;
    let mean = if bias.is_some() { x.iter().sum::<f64>() / n } else { 0.0 };
    let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
    let unit = x.iter().map(|x| (x - mean) / (variance + EPS).sqrt());
    let bias = |i: usize| bias.map_or(0.0, |bias| f64::from(bias[i]));
    unit.zip(weight).enumerate().map(|(i, (x, w))| x * f64::from(*w) + bias(i)).collect()
}

#[test]
fn norms_equal_the_reference_in_short_and_long_rows() {
    let random = &mut Random::new(31);
    for (rows, n) in [(0, 3), (1, 1), (5, 768), (300, 4), (40, 1000), (1, 100_003), (2, 70_000)] {
        let mut numbers =
            |mean: f32| -> Vec<f32> { random.normals(rows * n).iter().map(|x| x + mean).collect() };
        // The mean drifts along a row, so that its stretches have means of their own.
        let (mut x, y) = (numbers(30.0), numbers(-2.0));
        x.iter_mut().enumerate().for_each(|(i, x)| *x += 3.0 * (i % n) as f32 / n as f32);
        let (weight, bias) = (random.normals(n), random.normals(n));
        for bias in [Some(&bias[..]), None] {
            let norm = Norm { weight: &weight, bias, eps: EPS };
            let check = |name: &str, got: &[f32], x: Vec<f64>, then: &dyn Fn(f64) -> f64| {
                assert_eq!(got.len(), rows * n);
                for (got, x) in got.chunks(n).zip(x.chunks(n)) {
                    for (got, exact) in got.iter().zip(exact(x, &weight, bias)) {
                        let gap = (f64::from(*got) - then(exact)).abs();
                        assert!(gap < 2e-5, "{name} {rows} x {n} {}: {gap:e}", bias.is_some());
                    }
                }
            };
            let wide: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
            let sum = x.iter().zip(&y).map(|(&x, &y)| f64::from(x) + f64::from(y)).collect();
            check("norm", &norm.forward(&x), wide.clone(), &|x| x);
            check("gelu", &norm.forward_gelu(&x), wide, &crate::reference::gelu_erf);
            check("sum", &norm.forward_sum(&x, &y), sum, &|x| x);
        }
    }
}

#[test]
fn instance_norm_of_short_and_long_rows_equals_its_definition() {
    let random = &mut Random::new(33);
    for (batch, channels, n) in [(2, 3, 8), (1, 5, 1000), (2, 2, 50_000), (3, 1, 1)] {
        let rows = batch * channels;
        // A mean that dwarfs the deviation.
        let x: Vec<f32> = random.normals(rows * n).iter().map(|x| x + 100.0).collect();
        let (weight, bias) = (random.normals(channels), random.normals(channels));
        for factors in [None, Some((&weight[..], &bias[..]))] {
            let y = InstanceNorm { factors, eps: 1e-5 }.forward(&x, n);
            for (row, (x, y)) in x.chunks(n).zip(y.chunks(n)).enumerate() {
                let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / n as f64;
                let squares = x.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>();
                let (w, b) =
                    factors.map_or((1.0, 0.0), |(w, b)| (w[row % channels], b[row % channels]));
                for (x, y) in x.iter().zip(y) {
                    let unit = (f64::from(*x) - mean) / (squares / n as f64 + 1e-5).sqrt();
                    let error = (f64::from(*y) - unit * f64::from(w) - f64::from(b)).abs();
                    assert!(error < 5e-5, "{batch} {channels} {n}: {error:e}");
                }
            }
        }
    }
}

#[test]
fn what_follows_an_instance_norm_in_one_pass_equals_the_steps_on_their_own() {
    let random = &mut Random::new(34);
    for (channels, n) in [(3, 8), (5, 1000), (2, 50_000)] {
        let (x, plus) = (random.normals(channels * n), random.normals(channels * n));
        let (weight, bias) = (random.normals(channels), random.normals(channels));
        let norm = InstanceNorm { factors: Some((&weight, &bias)), eps: 1e-5 };
        let plain = norm.forward(&x, n);
        for summand in [None, Some(&plus[..])] {
            let sum = |i: usize| plain[i] + summand.map_or(0.0, |plus| plus[i]);
            for slope in [0.0, 0.01, 1.0] {
                let y = norm.forward_then(&x, n, summand, AfterNorm::LeakyRelu(slope));
                for (i, y) in y.iter().enumerate() {
                    let exact = if sum(i) < 0.0 { sum(i) * slope } else { sum(i) };
                    assert!((y - exact).abs() < 1e-6, "{slope} {channels} {n}: {y}, {exact}");
                }
            }
            let y = norm.forward_then(&x, n, summand, AfterNorm::Gelu);
            for (i, y) in y.iter().enumerate() {
                let gap = (f64::from(*y) - crate::reference::gelu_erf(f64::from(sum(i)))).abs();
                assert!(gap < 2e-6, "GELU {channels} {n}: {gap:e}");
            }
        }
    }
    let norm = InstanceNorm { factors: None, eps: 1e-5 };
    let y = norm.forward_then(&[1.0, f32::NAN], 2, None, AfterNorm::LeakyRelu(0.0));
    assert!(y.iter().all(|y| y.is_nan()), "NaN stays NaN: {y:?}");
}
