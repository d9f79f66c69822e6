//! Quantized matrices on a GPU.

use bytes::Bytes;
use candle_core::{DType, Result, Tensor, bail};
use r1seg_kernels::WeightType;

use crate::matrix::StoredMatrix;

/// Rows begin at multiples of so many bytes, which a thread loads at once.
const ALIGNMENT: usize = 16;

/// A weight matrix `[n, k]` on a GPU, in the blocks of a GGUF file.
///
/// A row of [`Q4K`](WeightType::Q4K) has the bytes that a file has. A row of
/// [`Q8_0`](WeightType::Q8_0) has all its integers first, and the scales of its blocks after them: blocks of
/// 34 bytes are aligned to nothing that threads load in one piece. Rows are filled up with zeros to
/// 16 bytes.
#[derive(Clone)]
pub struct QuantizedMatrix {
    bytes: Tensor,
    weight_type: WeightType,
    shape: (usize, usize),
}

impl std::fmt::Debug for QuantizedMatrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (n, k) = self.shape;
        write!(f, "QuantizedMatrix({:?}, [{n}, {k}])", self.weight_type)
    }
}

impl QuantizedMatrix {
    /// Bytes from one row of `k` weights to the next. `None` for a type that a GPU does not keep, and
    /// for a `k` that is not a whole number of blocks.
    pub fn row_bytes(weight_type: WeightType, k: usize) -> Option<usize> {
        match weight_type {
            WeightType::Q8_0 | WeightType::Q4K => {
                weight_type.row_bytes(k)?.checked_next_multiple_of(ALIGNMENT)
            }
            _ => None,
        }
    }

    /// Writes rows of `k` weights from a file as a GPU has them.
    ///
    /// # Shapes
    /// - `stored`: whole rows of a file    - `out`: as many of [`row_bytes`](Self::row_bytes)
    ///
    /// # Errors
    /// When the lengths do not fit, or the type is not kept on a GPU.
    pub fn arrange(weight_type: WeightType, k: usize, stored: &[u8], out: &mut [u8]) -> Result<()> {
        let (from, to) = lengths(weight_type, k)?;
        if !stored.len().is_multiple_of(from) || stored.len() / from * to != out.len() {
            bail!("{} bytes of rows do not become {} on a device", stored.len(), out.len())
        }
        for (stored, out) in stored.chunks_exact(from).zip(out.chunks_exact_mut(to)) {
            out[from..].fill(0);
            if weight_type != WeightType::Q8_0 {
                out[..from].copy_from_slice(stored);
                continue;
            }
            let (integers, scales) = out[..from].split_at_mut(k);
            let (blocks, _) = stored.as_chunks::<34>();
            let outs =
                integers.as_chunks_mut::<32>().0.iter_mut().zip(scales.as_chunks_mut::<2>().0);
            for (block, (integers, scale)) in blocks.iter().zip(outs) {
                scale.copy_from_slice(&block[..2]);
                integers.copy_from_slice(&block[2..]);
            }
        }
        Ok(())
    }

    /// A matrix whose rows were [arranged](Self::arrange).
    ///
    /// # Shapes
    /// - `bytes`: `[n, row_bytes]`, u8, contiguous    - `shape`: `[n, k]`
    ///
    /// # Errors
    /// When they are of another shape or dtype, or the type is not kept on a GPU.
    pub fn new(bytes: Tensor, weight_type: WeightType, shape: (usize, usize)) -> Result<Self> {
        let (n, k) = shape;
        let (_, row) = lengths(weight_type, k)?;
        if bytes.dims() != [n, row] || bytes.dtype() != DType::U8 || !bytes.is_contiguous() {
            let (dims, dtype) = (bytes.dims(), bytes.dtype());
            bail!("a {weight_type:?} matrix [{n}, {k}] is not {dims:?} of {dtype:?}")
        }
        Ok(Self { bytes, weight_type, shape })
    }

    /// The rows, `[n, row_bytes]`, u8 and contiguous.
    pub fn bytes(&self) -> &Tensor {
        &self.bytes
    }

    /// How the weights are stored.
    pub fn weight_type(&self) -> WeightType {
        self.weight_type
    }

    /// `[n, k]`
    pub fn shape(&self) -> (usize, usize) {
        self.shape
    }

    /// The rows of `ids`.
    ///
    /// # Errors
    /// When an id is out of range.
    pub fn select(&self, ids: &[u32]) -> Result<Self> {
        let (n, k) = self.shape;
        if let Some(id) = ids.iter().find(|id| n <= **id as usize) {
            bail!("row {id} of a table of {n} rows")
        }
        let bytes = self.bytes.index_select(&Tensor::new(ids, self.bytes.device())?, 0)?;
        Self::new(bytes, self.weight_type, (ids.len(), k))
    }

    /// One matrix whose rows are those of `parts`, one after the other.
    ///
    /// # Errors
    /// When there are none, or they differ in width or type.
    pub fn joined(parts: &[Self]) -> Result<Self> {
        let Some((first, rest)) = parts.split_first() else { bail!("there is no matrix to join") };
        if rest.is_empty() {
            return Ok(first.clone());
        }
        let (weight_type, k) = (first.weight_type, first.shape.1);
        if rest.iter().any(|part| part.weight_type != weight_type || part.shape.1 != k) {
            bail!("quantized matrices of different types or widths cannot be joined")
        }
        let bytes: Vec<&Tensor> = parts.iter().map(|part| &part.bytes).collect();
        let n = parts.iter().map(|part| part.shape.0).sum();
        Self::new(Tensor::cat(&bytes, 0)?, weight_type, (n, k))
    }

    /// All weights.
    ///
    /// # Shapes
    /// - returns: `[n, k]` in `dtype`, where the matrix is
    ///
    /// # Errors
    /// When a device is out of memory.
    pub fn to_tensor(&self, dtype: DType) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if self.bytes.device().is_cuda() {
            return crate::cuda::widen(self, dtype);
        }
        let (_, k) = self.shape;
        let (to, from) = lengths(self.weight_type, k)?;
        let arranged = self.bytes.flatten_all()?.to_vec1::<u8>()?;
        let mut stored = Vec::with_capacity(arranged.len() / from * to);
        for row in arranged.chunks_exact(from) {
            if self.weight_type != WeightType::Q8_0 {
                stored.extend_from_slice(&row[..to]);
                continue;
            }
            let (integers, scales) = row[..to].split_at(k);
            let (scales, _) = scales.as_chunks::<2>();
            for (integers, scale) in integers.chunks_exact(32).zip(scales) {
                stored.extend_from_slice(scale);
                stored.extend_from_slice(integers);
            }
        }
        StoredMatrix::new(Bytes::from(stored), self.weight_type, self.shape)
            .to_tensor(dtype, self.bytes.device())
    }
}

/// Bytes of a row of `k` weights in a file, and on a GPU.
fn lengths(weight_type: WeightType, k: usize) -> Result<(usize, usize)> {
    let on_device = QuantizedMatrix::row_bytes(weight_type, k).filter(|_| k != 0);
    match weight_type.row_bytes(k).zip(on_device) {
        Some(lengths) => Ok(lengths),
        None => bail!("rows of {k} weights in {weight_type:?} are not kept on a GPU"),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::testing::{device, gap, random};
    use crate::{Linear, WeightMatrix};

    /// `n` rows of `k` weights whose scales are plain numbers.
    fn stored(weight_type: WeightType, n: usize, k: usize) -> Vec<u8> {
        let mut bytes = vec![0; weight_type.row_bytes(k).unwrap_or(0) * n];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = (i * 73 + i / 7) as u8;
        }
        for block in bytes.chunks_exact_mut(weight_type.block_bytes()) {
            let scale = half::f16::from_f32(f32::from(block[5]) / 1e3).to_le_bytes();
            block[..2].copy_from_slice(&scale);
            if weight_type == WeightType::Q4K {
                block[2..4].copy_from_slice(&scale);
            }
        }
        bytes
    }

    fn arranged(
        weight_type: WeightType,
        n: usize,
        k: usize,
    ) -> Result<(StoredMatrix, QuantizedMatrix)> {
        let stored = stored(weight_type, n, k);
        let row = QuantizedMatrix::row_bytes(weight_type, k).unwrap_or(0);
        let mut bytes = vec![0xff; n * row];
        QuantizedMatrix::arrange(weight_type, k, &stored, &mut bytes)?;
        let bytes = Tensor::from_vec(bytes, (n, row), &device()?)?;
        let quantized = QuantizedMatrix::new(bytes, weight_type, (n, k))?;
        Ok((StoredMatrix::new(stored.into(), weight_type, (n, k)), quantized))
    }

    #[test]
    fn a_matrix_on_a_device_has_the_numbers_of_the_file() -> Result<()> {
        for (weight_type, k) in
            [(WeightType::Q8_0, 96), (WeightType::Q8_0, 256), (WeightType::Q4K, 512)]
        {
            let (file, device) = arranged(weight_type, 5, k)?;
            let expected = file.to_tensor(DType::F32, &Device::Cpu)?.to_vec2::<f32>()?;
            assert_eq!(device.to_tensor(DType::F32)?.to_vec2::<f32>()?, expected);
            let rows = device.select(&[3, 0])?.to_tensor(DType::F32)?.to_vec2::<f32>()?;
            assert_eq!(rows, [&expected[3][..], &expected[0]]);
            assert!(device.select(&[5]).is_err_and(|e| e.to_string().contains("5 rows")));
        }
        Ok(())
    }

    #[test]
    fn a_layer_of_joined_parts_computes_what_the_wide_weights_give() -> Result<()> {
        let parts = [arranged(WeightType::Q8_0, 3, 96)?.1, arranged(WeightType::Q8_0, 4, 96)?.1];
        let wide: Vec<Tensor> =
            parts.iter().map(|part| part.to_tensor(DType::F32)).collect::<Result<_>>()?;
        let matrices = parts.into_iter().map(WeightMatrix::Quantized).collect();
        let bias = random(0.0, 1.0, 7)?;
        let layer = Linear::from_matrices(matrices, Some(bias.clone()))?;
        let plain = Linear::new(&Tensor::cat(&wide, 0)?, Some(bias))?;
        check(&layer, &plain, 96)
    }

    /// One layer gives what another does, with few rows and many.
    fn check(layer: &Linear, plain: &Linear, k: usize) -> Result<()> {
        for rows in [1, 2, 3, 8, 20] {
            let x = random(0.0, 1.0, (rows, k))?;
            let expected = plain.forward(&x)?;
            let largest = expected.abs()?.max_all()?.to_scalar::<f32>()?;
            let gap = gap(&layer.forward(&x)?, &expected)?;
            assert!(gap < 1e-5 * f64::from(largest), "{rows} rows: {gap} of {largest}");
        }
        Ok(())
    }

    #[test]
    fn blocks_of_q4k_are_multiplied_as_their_numbers_are() -> Result<()> {
        let quantized = arranged(WeightType::Q4K, 9, 512)?.1;
        let wide = quantized.to_tensor(DType::F32)?;
        let layer = Linear::from_matrices(vec![WeightMatrix::Quantized(quantized)], None)?;
        check(&layer, &Linear::new(&wide, None)?, 512)
    }

    #[test]
    fn what_does_not_fit_is_refused() -> Result<()> {
        assert_eq!(QuantizedMatrix::row_bytes(WeightType::Q6K, 256), None);
        assert_eq!(QuantizedMatrix::row_bytes(WeightType::Q8_0, 33), None);
        assert_eq!(QuantizedMatrix::row_bytes(WeightType::Q8_0, 32), Some(48));
        assert!(QuantizedMatrix::arrange(WeightType::Q8_0, 32, &[0; 34], &mut [0; 34]).is_err());
        let other = [arranged(WeightType::Q8_0, 2, 256)?.1, arranged(WeightType::Q4K, 2, 256)?.1];
        assert!(QuantizedMatrix::joined(&other).is_err());
        assert!(QuantizedMatrix::joined(&[]).is_err());
        Ok(())
    }
}
