mod case;

use std::io::{Seek, SeekFrom, Write};

use half::{bf16, f16};
use memmap2::MmapOptions;

use super::Random;
use crate::linear::{FEW_ROWS, forward_on};
use crate::{Isa, Matrix, WeightType, forward_stacked, reference};
use case::{Case, Weights, rounds, rounds_to_14_bits};

const TYPES: [WeightType; 6] = [
    WeightType::F32,
    WeightType::F16,
    WeightType::Bf16,
    WeightType::Q8_0,
    WeightType::Q4K,
    WeightType::Q6K,
];

fn check(random: &mut Random, weight_type: WeightType, (m, k, n): (usize, usize, usize)) {
    // Rows of bf16 are multiplied in blocks of 32 where they are whole ones.
    let blocks: &[usize] =
        if weight_type == WeightType::Bf16 { &[1, 32] } else { &[weight_type.block_len()] };
    for block in blocks {
        let k = k.next_multiple_of(*block);
        let parts = [Weights::new(random, weight_type, n, k)];
        let case = Case::new(random, (m, k, n));
        for isa in Isa::available() {
            case.check(isa, &parts);
        }
    }
}

#[test]
fn products_of_odd_shapes_equal_the_reference() {
    let random = &mut Random::new(1);
    for weight_type in TYPES {
        for m in 1..=50 {
            let shape = (m, random.size(1, 150), random.size(1, 70));
            check(random, weight_type, shape);
        }
        for m in 1..=13 {
            let shape = (m, random.size(1, 9), random.size(31, 33));
            check(random, weight_type, shape);
        }
    }
}

#[test]
fn products_over_several_passes_panels_and_tasks_equal_the_reference() {
    let random = &mut Random::new(2);
    for weight_type in TYPES {
        for shape in [
            (1, 2049, 515),
            (5, 1501, 130),
            (37, 2100, 161),
            (9, 1300, 1600),
            (301, 130, 97),
            (150, 7, 700),
        ] {
            check(random, weight_type, shape);
        }
    }
}

#[test]
fn stacked_parts_of_any_types_equal_the_reference() {
    let random = &mut Random::new(5);
    for m in [1, 4, 7, 33] {
        for _ in 0..4 {
            let parts: Vec<Weights> = (0..random.size(2, 4))
                .map(|_| {
                    let (weight_type, n) = (TYPES[random.size(0, 5)], random.size(1, 90));
                    Weights::new(random, weight_type, n, 512)
                })
                .collect();
            let n = parts.iter().map(|part| part.n).sum();
            let case = Case::new(random, (m, 512, n));
            for isa in Isa::available() {
                case.check(isa, &parts);
            }
        }
    }
}

#[test]
fn widened_rows_are_those_of_the_description_bit_for_bit() {
    let random = &mut Random::new(6);
    for weight_type in TYPES {
        let k = 111usize.next_multiple_of(weight_type.block_len());
        let weights = Weights::new(random, weight_type, 5, k);
        for isa in Isa::available() {
            let mut out = vec![f32::NAN; 2 * k];
            weights.matrix().widen_rows_on(isa, 3, 2, &mut out);
            for (i, (out, wide)) in out.iter().zip(&weights.wide()[3 * k..]).enumerate() {
                assert_eq!(f64::from(*out), *wide, "{isa:?} {weight_type:?} {i}");
            }
        }
    }
}

/// Sums of products of the largest integers just fit into 32 bits.
#[test]
fn the_largest_integers_of_a_block_do_not_overflow() {
    for (weight_type, byte, scale) in [
        (WeightType::Q8_0, 0x80, 0..2),
        (WeightType::Q4K, 0xff, 0..4),
        // All weights are -32 or 31, the scales -128 or -1.
        (WeightType::Q6K, 0x00, 208..210),
        (WeightType::Q6K, 0xff, 208..210),
    ] {
        let mut block = vec![byte; weight_type.block_bytes()];
        if weight_type == WeightType::Q6K && byte == 0 {
            block[192..208].fill(0x80);
        }
        for unit in block[scale].as_chunks_mut::<2>().0 {
            *unit = f16::ONE.to_le_bytes();
        }
        let (n, k) = (3, 2 * weight_type.block_len());
        let matrix = block.repeat(2 * n);
        let wide = reference::widen(&matrix, weight_type);
        let matrix = Matrix::new(&matrix, weight_type, n, k).unwrap();
        for (isa, sign) in Isa::available().into_iter().flat_map(|isa| [(isa, 1.0), (isa, -1.0)]) {
            let exact = f64::from(sign) * wide[..k].iter().sum::<f64>();
            let size: f64 = wide[..k].iter().map(|w| w.abs()).sum();
            for m in [1, FEW_ROWS, FEW_ROWS + 3] {
                let (x, mut y) = (vec![sign; m * k], vec![f32::NAN; m * n]);
                forward_on(isa, false, &[matrix], &x, m, None, &mut y);
                // Weights in bf16 lose half of 1 in 128, here all the same.
                let allowed = if rounds(isa, weight_type, m, false) { 4e-3 } else { 2e-6 } * size;
                let label = format!("{isa:?} {weight_type:?} {byte:x} {m}");
                assert!(
                    y.iter().all(|y| (f64::from(*y) - exact).abs() < allowed),
                    "{label}: {y:?}"
                );
            }
        }
    }
}

/// Weights and activations of bf16 that are as large and as small as they can be, and those that a block of 14 bits
/// has no room for.
#[test]
fn blocks_of_any_magnitude_equal_the_reference() {
    let (m, k, n) = (9, 64, 5);
    let fixed: Vec<Isa> = (Isa::available().into_iter())
        .filter(|isa| rounds_to_14_bits(*isa, WeightType::Bf16, (m, k), false))
        .collect();
    for exponent in (-126..=127).step_by(11) {
        let largest = bf16::from_f64(1.9921875 * f64::from(exponent).exp2());
        // The second half has one of each magnitude down to zero.
        let mut row = vec![largest; k];
        for (i, w) in row[32..].iter_mut().enumerate() {
            *w = bf16::from_f64(-largest.to_f64() * (-(i as f64)).exp2());
        }
        let matrix: Vec<u8> =
            row.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>().repeat(n);
        let matrix = Matrix::new(&matrix, WeightType::Bf16, n, k).unwrap();
        // Products and their sums have to be numbers.
        let sign = if exponent % 2 == 0 { 1.0 } else { -1.0 };
        let (x, mut y) = (vec![sign / 256.0; m * k], vec![f32::NAN; m * n]);
        let size = 33.0 * largest.to_f64() / 256.0;
        let sum: f64 = row.iter().map(|w| w.to_f64()).sum();
        for isa in &fixed {
            forward_on(*isa, false, &[matrix], &x, m, None, &mut y);
            // Where the products of scales are too small for f32, zero will do.
            let allowed = if exponent < -95 { 1.1 } else { 3e-5 };
            for y in &y {
                let error = (f64::from(*y) - f64::from(sign) / 256.0 * sum).abs();
                assert!(
                    error < allowed * size,
                    "{isa:?} 2^{exponent}: {y:e}, {error:e} of {size:e}"
                );
            }
        }
    }
    for isa in fixed {
        let mut row = vec![bf16::ONE; k];
        row[40] = bf16::NAN;
        let bytes: Vec<u8> = row.iter().flat_map(|w| w.to_le_bytes()).collect();
        let matrix = Matrix::new(&bytes, WeightType::Bf16, 1, k).unwrap();
        let mut y = vec![0f32; m];
        forward_on(isa, false, &[matrix], &vec![1.0; m * k], m, None, &mut y);
        assert!(y.iter().all(|y| y.is_nan()), "{isa:?}");
    }
}

/// What an answer gets must not depend on how many rows its pass has.
#[test]
fn each_of_a_few_rows_gets_what_it_gets_alone_bit_for_bit() {
    let random = &mut Random::new(9);
    for (weight_type, (k, n)) in
        TYPES.into_iter().flat_map(|t| [(77, 5), (1300, 130), (2049, 515)].map(|size| (t, size)))
    {
        let k = usize::next_multiple_of(k, weight_type.block_len());
        let parts = [n, 17].map(|n| Weights::new(random, weight_type, n, k));
        let (parts, n) = (parts.each_ref().map(Weights::matrix), n + 17);
        let (x, bias) = (random.normals(FEW_ROWS * k), random.normals(n));
        for (isa, exact) in Isa::available().into_iter().flat_map(|isa| [(isa, false), (isa, true)])
        {
            let rows = |first: usize, m: usize| {
                let mut y = vec![f32::NAN; m * n];
                let x = &x[first * k..][..m * k];
                forward_on(isa, exact, &parts, x, m, Some(&bias), &mut y);
                y.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            let alone: Vec<u32> = (0..FEW_ROWS).flat_map(|row| rows(row, 1)).collect();
            for m in 2..=FEW_ROWS {
                let first = FEW_ROWS - m;
                let equal = rows(first, m) == alone[first * n..];
                assert!(equal, "{isa:?} {weight_type:?} exact={exact} {m}x{k}x{n}");
            }
        }
    }
}

#[test]
fn a_product_over_nothing_is_its_bias() {
    for (weight_type, m) in TYPES.into_iter().flat_map(|t| [2, 7, 70].map(|m| (t, m))) {
        let matrix = Matrix::new(&[], weight_type, 3, 0).unwrap();
        for isa in Isa::available() {
            let mut y = vec![f32::NAN; 3 * m];
            forward_on(isa, false, &[matrix], &[], m, Some(&[1.0, 2.0, 3.0]), &mut y);
            assert_eq!(y, [1.0, 2.0, 3.0].repeat(m));
            forward_on(isa, false, &[matrix], &[], m, None, &mut y);
            assert_eq!(y, vec![0.0; 3 * m]);
        }
    }
    let matrix = Matrix::new(&[], WeightType::F32, 3, 0).unwrap();
    matrix.forward(&[], 0, None, &mut []);
    Matrix::new(&[], WeightType::Bf16, 0, 5).unwrap().forward(&[0.0; 10], 2, None, &mut []);
    assert!(forward_stacked(&[], &[], 0, None).is_empty());
}

/// Results are not cleared before they are written.
#[test]
fn every_number_of_a_result_is_written() {
    let random = &mut Random::new(5);
    for (m, n) in [1, 4, 7, 40].into_iter().flat_map(|m| [1, 31, 33, 130, 1100].map(|n| (m, n))) {
        for weight_type in TYPES {
            let k = 300usize.next_multiple_of(weight_type.block_len());
            let parts = [n, 17].map(|n| Weights::new(random, weight_type, n, k));
            let parts = parts.each_ref().map(Weights::matrix);
            let x = random.normals(m * k);
            for isa in Isa::available() {
                let mut y = vec![f32::NAN; m * (n + 17)];
                forward_on(isa, false, &parts, &x, m, None, &mut y);
                assert!(!y.iter().any(|y| y.is_nan()), "{isa:?} {weight_type:?} {m} {n}");
            }
        }
    }
}

#[test]
fn a_matrix_has_the_bytes_of_its_rows() {
    let fits =
        |len: usize, weight_type, n, k| Matrix::new(&vec![0; len], weight_type, n, k).is_some();
    assert!(fits(24, WeightType::F32, 2, 3));
    assert!(!fits(23, WeightType::F32, 2, 3) && !fits(25, WeightType::F32, 2, 3));
    assert!(fits(2 * 68, WeightType::Q8_0, 2, 64));
    // Rows of blocks end with a block.
    assert!(!fits(2 * 68, WeightType::Q8_0, 4, 32 + 1) && !fits(144, WeightType::Q4K, 2, 128));
    assert!(!fits(0, WeightType::F32, usize::MAX, 3) && !fits(0, WeightType::F32, 3, usize::MAX));
    assert_eq!(WeightType::Q6K.row_bytes(512), Some(420));
    assert_eq!(WeightType::Q6K.row_bytes(511), None);
    assert_eq!(WeightType::F32.row_bytes(usize::MAX), None);
}

/// A mapping that goes on behind the end of its file: a read there ends the process.
#[test]
fn nothing_behind_the_last_row_is_read() {
    let random = &mut Random::new(8);
    for (weight_type, k) in TYPES.into_iter().flat_map(|t| [(t, 77usize), (t, 512), (t, 1300)]) {
        let k = k.next_multiple_of(weight_type.block_len());
        for n in [1, 5, 33, 64] {
            let weights = Weights::new(random, weight_type, n, k);
            let bytes = &weights.shifted[1..];
            let page = 65536;
            let end = bytes.len().next_multiple_of(page);
            let mut file = tempfile::tempfile().unwrap();
            file.seek(SeekFrom::Start((end - bytes.len()) as u64)).unwrap();
            file.write_all(bytes).unwrap();
            // SAFETY: nobody else has the file.
            let map = unsafe { MmapOptions::new().len(end + page).map(&file) }.unwrap();
            let matrix = Matrix::new(&map[end - bytes.len()..end], weight_type, n, k).unwrap();
            for isa in Isa::available() {
                let mut wide = vec![0f32; n * k];
                matrix.widen_rows_on(isa, 0, n, &mut wide);
                for (m, exact) in [(1, false), (1, true), (4, false), (9, false), (9, true)] {
                    let mut y = vec![0f32; m * n];
                    forward_on(isa, exact, &[matrix], &random.normals(m * k), m, None, &mut y);
                }
            }
        }
    }
}

#[test]
fn nan_and_infinity_stay_in_their_rows() {
    let random = &mut Random::new(3);
    for (m, weight_type) in [3, 20].into_iter().flat_map(|m| TYPES.map(|t| (m, t))) {
        let k = 45usize.next_multiple_of(weight_type.block_len());
        let weights = Weights::new(random, weight_type, 50, k);
        let mut case = Case::new(random, (m, k, 50));
        case.x[k] = f32::NAN;
        case.x[3 * k - 1] = f32::INFINITY;
        for isa in Isa::available() {
            let mut y = vec![0f32; m * 50];
            forward_on(isa, false, &[weights.matrix()], &case.x, m, None, &mut y);
            assert!(y[50..100].iter().all(|y| y.is_nan()), "{isa:?} {weight_type:?}");
            assert!(y[100..150].iter().all(|y| !y.is_finite()), "{isa:?} {weight_type:?}");
            let others = y[..50].iter().chain(&y[150..]);
            assert!(others.copied().all(f32::is_finite), "{isa:?} {weight_type:?}");
        }
    }
}

/// Some processors take a hundred times as long for a product with a denormal number.
#[test]
fn denormal_activations_count_as_zero() {
    let random = &mut Random::new(11);
    for (weight_type, k) in TYPES.into_iter().flat_map(|t| [40, 64].map(|k| (t, k))) {
        let k = usize::next_multiple_of(k, weight_type.block_len());
        let weights = Weights::new(random, weight_type, 5, k);
        for (isa, m) in Isa::available().into_iter().flat_map(|isa| [1, 4, 9].map(|m| (isa, m))) {
            for exact in [false, true] {
                let (x, mut y) = (vec![1e-40; m * k], vec![f32::NAN; m * 5]);
                forward_on(isa, exact, &[weights.matrix()], &x, m, None, &mut y);
                assert!(y.iter().all(|y| *y == 0.0), "{isa:?} {weight_type:?} {m}: {y:?}");
            }
        }
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let random = &mut Random::new(7);
    for weight_type in TYPES {
        for m in [1, 3, 9, 40] {
            let weights = Weights::new(random, weight_type, 330, 1280);
            let case = Case::new(random, (m, 1280, 330));
            let run = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let mut y = vec![f32::NAN; m * 330];
                pool.install(|| weights.matrix().forward(&case.x, m, Some(&case.bias), &mut y));
                y
            };
            let alone = run(1);
            assert!([2, 3, 16].into_iter().all(|threads| run(threads) == alone), "{weight_type:?}");
        }
    }
}

#[test]
fn one_layer_serves_many_threads_at_once() {
    let random = &mut Random::new(4);
    let weights = Weights::new(random, WeightType::Bf16, 210, 300);
    let (matrix, case) = (weights.matrix(), Case::new(random, (33, 300, 210)));
    let mut expected = vec![0f32; 33 * 210];
    matrix.forward(&case.x, 33, Some(&case.bias), &mut expected);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let mut y = vec![0f32; 33 * 210];
                    matrix.forward(&case.x, 33, Some(&case.bias), &mut y);
                    assert_eq!(y, expected);
                }
            });
        }
    });
}
