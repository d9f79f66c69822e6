//! Whether the numbers of a tensor are numbers.

use candle_core::{CpuStorage, Result, Storage, Tensor};

use crate::cpu;

/// Whether no element of a float tensor is NaN or infinite.
///
/// On a GPU the elements stay there: one number crosses to the host.
///
/// # Errors
/// When the tensor holds integers, or the backend cannot run an operation.
pub fn all_finite(x: &Tensor) -> Result<bool> {
    if !x.dtype().is_float() {
        candle_core::bail!("only floats can be NaN or infinite, got {:?}", x.dtype())
    }
    #[cfg(feature = "cuda")]
    if crate::cuda::takes(x) {
        return crate::cuda::all_finite(&x.contiguous()?);
    }
    if !x.device().is_cpu() {
        // Zero times NaN or infinity is NaN, and a sum keeps it.
        let sum = x.affine(0.0, 0.0)?.sum_all()?.to_dtype(candle_core::DType::F32)?;
        return Ok(sum.to_scalar::<f32>()? == 0.0);
    }
    let x = x.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        candle_core::bail!("a tensor of the CPU lies elsewhere")
    };
    // Without an early exit, so that the compiler can use vectors.
    macro_rules! none {
        ($number:ty) => {
            cpu::slice::<$number>(storage, layout, "all-finite")?
                .iter()
                .fold(true, |finite, x| finite & x.is_finite())
        };
    }
    Ok(match storage {
        CpuStorage::F32(_) => none!(f32),
        CpuStorage::BF16(_) => none!(half::bf16),
        CpuStorage::F16(_) => none!(half::f16),
        CpuStorage::F64(_) => none!(f64),
        _ => candle_core::bail!("no number of {:?} is looked at", x.dtype()),
    })
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use crate::testing::{device, random};

    #[test]
    fn one_nan_or_infinity_is_found_in_every_float_dtype_and_layout() -> Result<()> {
        for dtype in [DType::F32, DType::BF16, DType::F16, DType::F64] {
            let fine = random(0.0, 1.0, (3, 37))?.to_dtype(dtype)?;
            assert!(all_finite(&fine)? && all_finite(&fine.t()?)?, "{dtype:?}");
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let bad = Tensor::full(bad, (3, 1), &device()?)?.to_dtype(dtype)?;
                let bad = Tensor::cat(&[&fine, &bad, &fine], 1)?;
                assert!(!all_finite(&bad)? && !all_finite(&bad.t()?)?, "{dtype:?}");
                assert!(all_finite(&bad.narrow(1, 38, 37)?)?, "{dtype:?}");
            }
        }
        assert!(all_finite(&Tensor::new(&[1u32], &device()?)?).is_err());
        Ok(())
    }
}
