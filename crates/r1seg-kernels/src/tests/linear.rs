use half::bf16;

use super::Random;
use crate::{Isa, PackedLinear, WeightType, reference};

struct Case {
    x: Vec<f32>,
    weight: Vec<bf16>,
    bias: Vec<f32>,
    m: usize,
    k: usize,
    n: usize,
}

impl Case {
    fn new(random: &mut Random, (m, k, n): (usize, usize, usize)) -> Self {
        let weight = random.normals(n * k).into_iter().map(bf16::from_f32).collect();
        Self { x: random.normals(m * k), weight, bias: random.normals(n), m, k, n }
    }

    fn packed(&self, weight_type: WeightType) -> PackedLinear {
        match weight_type {
            WeightType::Bf16 => PackedLinear::from_bf16(&self.weight, self.n, self.k),
            WeightType::F32 => {
                let wide: Vec<f32> = self.weight.iter().map(|w| w.to_f32()).collect();
                PackedLinear::from_f32(&wide, self.n, self.k)
            }
        }
    }

    /// The largest error over the sum of the products' magnitudes.
    fn error(&self, y: &[f32], biased: bool, rounded: bool) -> f64 {
        let x: Vec<f64> = (self.x.iter())
            .map(|&x| f64::from(if rounded { bf16::from_f32(x).to_f32() } else { x }))
            .collect();
        let weight: Vec<f64> = self.weight.iter().map(|w| w.to_f64()).collect();
        let bias = biased.then_some(self.bias.as_slice());
        let (exact, size) = reference::linear(&x, &weight, bias, (self.m, self.k, self.n));
        let gaps = y.iter().zip(exact).map(|(&y, e)| (f64::from(y) - e).abs());
        gaps.zip(size).map(|(gap, size)| gap / (size + 1e-30)).fold(0.0, f64::max)
    }

    fn check(&self) {
        let &Self { m, k, n, .. } = self;
        for weight_type in [WeightType::Bf16, WeightType::F32] {
            let linear = self.packed(weight_type);
            assert_eq!((linear.n(), linear.k(), linear.weight_type()), (n, k, weight_type));
            for isa in Isa::available() {
                for (exact, biased) in [(false, true), (true, false)] {
                    let bias = biased.then_some(self.bias.as_slice());
                    // What was there before must not matter.
                    let mut y = vec![f32::NAN; m * n];
                    linear.forward_on(isa, exact, &self.x, m, bias, &mut y);
                    let rounded = isa == Isa::Avx512Bf16
                        && weight_type == WeightType::Bf16
                        && !exact
                        && m > super::super::linear::EXACT_ROWS;
                    let error = self.error(&y, biased, rounded);
                    assert!(
                        error < 4e-7,
                        "{isa:?} {weight_type:?} exact={exact} {m}x{k}x{n}: {error:e}"
                    );
                }
            }
        }
    }
}

#[test]
fn products_of_odd_shapes_equal_the_reference() {
    let random = &mut Random::new(1);
    for _ in 0..120 {
        let shape = (random.size(1, 40), random.size(1, 70), random.size(1, 70));
        Case::new(random, shape).check();
    }
    for m in 1..=13 {
        let shape = (m, random.size(1, 9), random.size(31, 33));
        Case::new(random, shape).check();
    }
}

#[test]
fn products_over_several_passes_panels_and_tasks_equal_the_reference() {
    let random = &mut Random::new(2);
    for shape in [(1, 2049, 515), (5, 1501, 130), (37, 2100, 161), (301, 130, 97), (150, 7, 700)] {
        Case::new(random, shape).check();
    }
}

#[test]
fn a_product_over_nothing_is_its_bias() {
    let linear = PackedLinear::from_f32(&[], 3, 0);
    let mut y = [f32::NAN; 6];
    linear.forward(&[], 2, Some(&[1.0, 2.0, 3.0]), &mut y);
    assert_eq!(y, [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
    linear.forward(&[], 2, None, &mut y);
    assert_eq!(y, [0.0; 6]);
    linear.forward(&[], 0, None, &mut []);
    PackedLinear::from_bf16(&[], 0, 5).forward(&[0.0; 10], 2, None, &mut []);
}

#[test]
fn nan_and_infinity_stay_in_their_rows() {
    let random = &mut Random::new(3);
    for m in [3, 20] {
        let mut case = Case::new(random, (m, 45, 50));
        case.x[45] = f32::NAN;
        case.x[2 * 45 + 44] = f32::INFINITY;
        for (isa, weight_type) in Isa::available()
            .into_iter()
            .flat_map(|isa| [(isa, WeightType::Bf16), (isa, WeightType::F32)])
        {
            let mut y = vec![0f32; m * 50];
            case.packed(weight_type).forward_on(isa, false, &case.x, m, None, &mut y);
            assert!(y[50..100].iter().all(|y| y.is_nan()), "{isa:?}");
            assert!(y[100..150].iter().all(|y| !y.is_finite()), "{isa:?}");
            assert!(y[..50].iter().chain(&y[150..]).all(|y| y.is_finite()), "{isa:?}");
        }
    }
}

#[test]
fn one_layer_serves_many_threads_at_once() {
    let random = &mut Random::new(4);
    let case = Case::new(random, (33, 300, 210));
    let linear = case.packed(WeightType::Bf16);
    let mut expected = vec![0f32; 33 * 210];
    linear.forward(&case.x, 33, Some(&case.bias), &mut expected);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let mut y = vec![0f32; 33 * 210];
                    linear.forward(&case.x, 33, Some(&case.bias), &mut y);
                    assert_eq!(y, expected);
                }
            });
        }
    });
}

#[test]
fn packing_takes_no_more_than_the_padding() {
    let weight = vec![bf16::ONE; 100 * 64];
    assert_eq!(PackedLinear::from_bf16(&weight, 100, 64).bytes(), 128 * 64 * 2);
    assert_eq!(PackedLinear::from_f32(&[1.0; 64 * 7], 64, 7).bytes(), 64 * 7 * 4);
}
