//! GGUF's blocks against candle's own reading of them, an implementation that shares no code.
#![expect(clippy::unwrap_used, reason = "a test stops at the first error")]

use candle_core::quantized::k_quants::{BlockQ4K, BlockQ6K, BlockQ8_0, GgmlType};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use r1seg_kernels::{Matrix, WeightType};

/// Rows as candle quantizes them, and the numbers that candle makes of them again.
fn quantized<B: GgmlType>(dtype: GgmlDType, n: usize, k: usize) -> (Vec<u8>, Vec<f32>) {
    let device = Device::Cpu;
    let numbers = Tensor::randn(0f32, 0.02, (n, k), &device).unwrap();
    let tensor = QTensor::quantize(&numbers, dtype).unwrap();
    let bytes = tensor.data().unwrap().into_owned();
    let wide = tensor.dequantize(&device).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    assert_eq!(bytes.len(), n * k / B::BLCK_SIZE * size_of::<B>());
    (bytes, wide)
}

fn each(mut check: impl FnMut(WeightType, &[u8], &[f32], usize, usize)) {
    let (n, k) = (70, 768);
    let (bytes, wide) = quantized::<BlockQ8_0>(GgmlDType::Q8_0, n, k);
    check(WeightType::Q8_0, &bytes, &wide, n, k);
    let (bytes, wide) = quantized::<BlockQ4K>(GgmlDType::Q4K, n, k);
    check(WeightType::Q4K, &bytes, &wide, n, k);
    let (bytes, wide) = quantized::<BlockQ6K>(GgmlDType::Q6K, n, k);
    check(WeightType::Q6K, &bytes, &wide, n, k);
}

#[test]
fn widened_rows_are_candles_bit_for_bit() {
    each(|weight_type, bytes, wide, n, k| {
        let matrix = Matrix::new(bytes, weight_type, n, k).unwrap();
        let mut rows = vec![0f32; (n - 3) * k];
        matrix.widen_rows(3, n - 3, &mut rows);
        for (i, (row, wide)) in rows.iter().zip(&wide[3 * k..]).enumerate() {
            assert_eq!(row.to_bits(), wide.to_bits(), "{weight_type:?} {i}: {row:e} {wide:e}");
        }
    });
}

#[test]
fn products_are_those_of_the_widened_weights() {
    each(|weight_type, bytes, wide, n, k| {
        let matrix = Matrix::new(bytes, weight_type, n, k).unwrap();
        // A few rows at 16 bits or more, and many that may be rounded to bf16.
        for (m, tolerance) in [(1, 2e-5), (6, 2e-5), (40, 4e-3)] {
            let x: Vec<f32> =
                Tensor::randn(0f32, 1.0, m * k, &Device::Cpu).and_then(|x| x.to_vec1()).unwrap();
            let mut y = vec![0f32; m * n];
            matrix.forward(&x, m, None, &mut y);
            let mut exact = vec![0f32; m * n];
            matrix.forward_exact(&x, m, None, &mut exact);
            for (i, (y, exact)) in y.iter().zip(&exact).enumerate() {
                let (x, w) = (&x[i / n * k..][..k], &wide[i % n * k..][..k]);
                let products = x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w));
                let size = products.clone().map(f64::abs).sum::<f64>();
                let sum = products.sum::<f64>();
                let error = |y: f32| (f64::from(y) - sum).abs() / size;
                assert!(error(*y) < tolerance, "{weight_type:?} {m} rows: {:e}", error(*y));
                assert!(error(*exact) < 1e-6, "{weight_type:?} exact: {:e}", error(*exact));
            }
        }
    });
}
