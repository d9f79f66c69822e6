//! Weight matrices as linear layers and tables have them: where a file has them, or on a GPU.

use bytes::Bytes;
use candle_core::{CpuStorage, DType, Device, Result, Storage, Tensor, bail};
use half::{bf16, f16};
use r1seg_kernels::{Matrix, WeightType};

use crate::quantized::QuantizedMatrix;

/// A weight matrix `[n, k]`.
#[derive(Debug, Clone)]
pub enum WeightMatrix {
    /// On a CPU, as a file stores it; a GPU looks rows up in it.
    Stored(StoredMatrix),
    /// On a GPU, in blocks.
    Quantized(QuantizedMatrix),
    /// On a GPU.
    Tensor(Tensor),
}

impl WeightMatrix {
    /// # Shapes
    /// - `weight`: `[n, k]`, in f32, bf16 or f16
    ///
    /// # Errors
    /// When the weight is not a matrix of these dtypes.
    pub fn from_tensor(weight: &Tensor) -> Result<Self> {
        let (n, k) = weight.dims2()?;
        if !weight.device().is_cpu() {
            return Ok(Self::Tensor(weight.contiguous()?));
        }
        let weight = weight.contiguous()?;
        let (storage, layout) = weight.storage_and_layout();
        let (Storage::Cpu(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets())
        else {
            bail!("a weight matrix needs contiguous numbers")
        };
        let (bytes, weight_type) = match storage {
            CpuStorage::F32(x) => {
                (little_endian(&x[start..end], f32::to_le_bytes), WeightType::F32)
            }
            CpuStorage::BF16(x) => {
                (little_endian(&x[start..end], bf16::to_le_bytes), WeightType::Bf16)
            }
            CpuStorage::F16(x) => {
                (little_endian(&x[start..end], f16::to_le_bytes), WeightType::F16)
            }
            _ => bail!("weights of {:?} cannot be multiplied with", weight.dtype()),
        };
        Ok(Self::Stored(StoredMatrix::new(bytes, weight_type, (n, k))))
    }

    /// `[n, k]`
    pub(crate) fn shape(&self) -> Result<(usize, usize)> {
        match self {
            Self::Stored(stored) => Ok(stored.shape),
            Self::Quantized(quantized) => Ok(quantized.shape()),
            Self::Tensor(tensor) => tensor.dims2(),
        }
    }
}

fn little_endian<T: Copy, const N: usize>(numbers: &[T], bytes: impl Fn(T) -> [u8; N]) -> Bytes {
    let mut all = Vec::with_capacity(N * numbers.len());
    numbers.iter().for_each(|x| all.extend_from_slice(&bytes(*x)));
    Bytes::from(all)
}

/// A weight matrix in the bytes of a file: row-major and little-endian, often memory-mapped.
#[derive(Clone)]
pub struct StoredMatrix {
    bytes: Bytes,
    weight_type: WeightType,
    shape: (usize, usize),
}

impl std::fmt::Debug for StoredMatrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (n, k) = self.shape;
        write!(f, "StoredMatrix({:?}, [{n}, {k}])", self.weight_type)
    }
}

impl StoredMatrix {
    /// A matrix of shape `[n, k]`. Bytes of another length stand for a matrix that is not there: it
    /// has a shape, and using it is an error.
    pub fn new(bytes: Bytes, weight_type: WeightType, shape: (usize, usize)) -> Self {
        Self { bytes, weight_type, shape }
    }

    /// The numbers, for the kernels.
    pub(crate) fn view(&self) -> Result<Matrix<'_>> {
        let (n, k) = self.shape;
        match Matrix::new(&self.bytes, self.weight_type, n, k) {
            Some(matrix) => Ok(matrix),
            None => bail!("the weights of a [{n}, {k}] matrix were not loaded"),
        }
    }

    /// How the numbers are stored.
    pub fn weight_type(&self) -> WeightType {
        self.weight_type
    }

    /// # Shapes
    /// - returns: `[n, k]` in `dtype` on `device`, rounded once
    ///
    /// # Errors
    /// When the weights were not loaded or the device is out of memory.
    pub fn to_tensor(&self, dtype: DType, device: &Device) -> Result<Tensor> {
        /// Numbers that are widened at a time: what is in flight stays small.
        const BLOCK: usize = 16 << 20;
        let (n, k) = self.shape;
        let view = self.view()?;
        let rows = (BLOCK / k.max(1)).clamp(1, n.max(1));
        // Filled block by block: joining the blocks afterwards would need the memory twice.
        let all = Tensor::zeros((n, k), dtype, device)?;
        for first in (0..n).step_by(rows) {
            let count = rows.min(n - first);
            let mut wide = vec![0f32; count * k];
            view.widen_rows(first, count, &mut wide);
            let block = Tensor::from_vec(wide, (count, k), &Device::Cpu)?.to_dtype(dtype)?;
            all.slice_set(&block.to_device(device)?, 0, first)?;
        }
        Ok(all)
    }

    /// Writes all numbers as little-endian `dtype`, rounded once. Serial, and in next to no memory
    /// besides `out`.
    ///
    /// # Errors
    /// When the weights were not loaded, `out` has another length, or weights cannot be of that dtype.
    pub fn write(&self, dtype: DType, out: &mut [u8]) -> Result<()> {
        let (n, k) = self.shape;
        if Some(out.len()) != n.checked_mul(k).and_then(|x| x.checked_mul(dtype.size_in_bytes())) {
            bail!("a [{n}, {k}] matrix in {dtype:?} does not have {} bytes", out.len())
        }
        let view = self.view()?;
        match (self.weight_type, dtype) {
            (WeightType::F32, DType::F32)
            | (WeightType::F16, DType::F16)
            | (WeightType::Bf16, DType::BF16) => out.copy_from_slice(&self.bytes),
            (_, DType::F32) => narrow(view, out, f32::to_le_bytes),
            (_, DType::F16) => narrow(view, out, |x| f16::from_f32(x).to_le_bytes()),
            (_, DType::BF16) => narrow(view, out, |x| bf16::from_f32(x).to_le_bytes()),
            _ => bail!("weights cannot be kept as {dtype:?}"),
        }
        Ok(())
    }
}

/// Writes the numbers of a matrix in `N` bytes each.
fn narrow<const N: usize>(matrix: Matrix<'_>, out: &mut [u8], bytes: impl Fn(f32) -> [u8; N]) {
    let mut wide = vec![0f32; matrix.k()];
    for (row, out) in out.chunks_exact_mut((N * matrix.k()).max(1)).enumerate() {
        matrix.widen_rows(row, 1, &mut wide);
        let (numbers, _) = out.as_chunks_mut::<N>();
        numbers.iter_mut().zip(&wide).for_each(|(number, x)| *number = bytes(*x));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_a_tensor_would_have_them() -> Result<()> {
        let x: Vec<f32> = (0..96).map(|i| (i as f32 - 40.0) / 7.0).collect();
        let numbers = Tensor::from_vec(x, (3, 32), &Device::Cpu)?;
        for stored in [DType::F32, DType::F16, DType::BF16] {
            let stored = numbers.to_dtype(stored)?;
            let WeightMatrix::Stored(matrix) = WeightMatrix::from_tensor(&stored)? else {
                bail!("a matrix on a CPU is stored")
            };
            for dtype in [DType::F32, DType::F16, DType::BF16] {
                let mut bytes = vec![0; 96 * dtype.size_in_bytes()];
                matrix.write(dtype, &mut bytes)?;
                let WeightMatrix::Stored(expected) =
                    WeightMatrix::from_tensor(&stored.to_dtype(dtype)?)?
                else {
                    bail!("a matrix on a CPU is stored")
                };
                assert!(bytes == *expected.bytes, "{:?} as {dtype:?}", stored.dtype());
                assert!(matrix.write(dtype, &mut bytes[1..]).is_err());
                let tensor = matrix.to_tensor(dtype, &Device::Cpu)?.to_dtype(DType::F32)?;
                let expected = stored.to_dtype(dtype)?.to_dtype(DType::F32)?;
                assert_eq!(tensor.to_vec2::<f32>()?, expected.to_vec2::<f32>()?);
            }
        }
        Ok(())
    }
}
