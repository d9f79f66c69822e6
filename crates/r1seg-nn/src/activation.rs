//! Activations as the published models compute them.

use candle_core::{CpuStorage, CustomOp1, D, DType, Layout, Result, Shape, Tensor};

use crate::cpu;

/// `torch.nn.GELU()`: the exact form, with the error function.
///
/// # Errors
/// When the backend cannot run the operation.
pub fn gelu_erf(x: &Tensor) -> Result<Tensor> {
    if !x.device().is_cpu() || x.dtype() != DType::F32 {
        return x.gelu_erf();
    }
    x.contiguous()?.apply_op1_no_bwd(&GeluErf)
}

struct GeluErf;

impl CustomOp1 for GeluErf {
    fn name(&self) -> &'static str {
        "gelu-erf"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = cpu::f32_slice(storage, layout, self.name())?;
        let mut y = vec![0f32; x.len()];
        r1seg_kernels::gelu_erf(x, &mut y);
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }
}

/// CLIP's activation: `x * sigmoid(1.702 x)`.
///
/// # Errors
/// When the backend cannot run the operation.
pub fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    x * candle_nn::ops::sigmoid(&(x * 1.702)?)?
}

/// The gated activation of the Llama family on a fused projection.
///
/// # Shapes
/// - `gate_up`: `[.., 2 * F]`, the gate in the first half    - returns: `[.., F]`, `silu(gate) * up`
///
/// # Errors
/// When the last dimension is odd or the backend cannot run the operation.
pub fn silu_mul(gate_up: &Tensor) -> Result<Tensor> {
    if gate_up.device().is_cpu() && gate_up.dtype() == DType::F32 {
        return gate_up.contiguous()?.apply_op1_no_bwd(&SiluMul);
    }
    let halves = gate_up.chunk(2, D::Minus1)?;
    halves[0].silu()? * &halves[1]
}

struct SiluMul;

impl CustomOp1 for SiluMul {
    fn name(&self) -> &'static str {
        "silu-mul"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = cpu::f32_slice(storage, layout, self.name())?;
        let mut dims = layout.dims().to_vec();
        let Some(last) = dims.last_mut().filter(|last| last.is_multiple_of(2)) else {
            candle_core::bail!("silu_mul needs an even last dimension, got {:?}", layout.dims())
        };
        *last /= 2;
        let half = *last;
        let mut y = vec![0f32; x.len() / 2];
        r1seg_kernels::silu_mul(x, half, &mut y);
        Ok((CpuStorage::F32(y), Shape::from_dims(&dims)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn gelu_is_the_error_function_form() -> Result<()> {
        // torch.nn.functional.gelu(torch.tensor([-3., -1., -.1, 0., .5, 2.]))
        let x = Tensor::new(&[-3f32, -1., -0.1, 0., 0.5, 2.], &Device::Cpu)?;
        let y = gelu_erf(&x)?.to_vec1::<f32>()?;
        let expected =
            [-0.004_049_694, -0.158_655_26, -0.046_017_22, 0., 0.345_731_23, 1.954_499_8];
        for (y, e) in y.iter().zip(expected) {
            assert!((y - e).abs() < 2e-7, "{y} {e}");
        }
        Ok(())
    }

    #[test]
    fn quick_gelu_is_clips() -> Result<()> {
        // x = torch.tensor([-3., -1., 0., .5, 2.]); x * torch.sigmoid(1.702 * x)
        let x = Tensor::new(&[-3f32, -1., 0., 0.5, 2.], &Device::Cpu)?;
        let y = quick_gelu(&x)?.to_vec1::<f32>()?;
        let expected = [-0.018_071_31, -0.154_204_23, 0., 0.350_388_44, 1.935_658_6];
        for (y, e) in y.iter().zip(expected) {
            assert!((y - e).abs() < 2e-7, "{y} {e}");
        }
        Ok(())
    }

    #[test]
    fn silu_mul_equals_the_unfused_operations() -> Result<()> {
        let x = Tensor::randn(0f32, 8., (3, 5, 62), &Device::Cpu)?;
        let fused = silu_mul(&x)?;
        let (gate, up) = (x.narrow(2, 0, 31)?, x.narrow(2, 31, 31)?);
        let plain = (gate.silu()? * up)?;
        let gap = (fused - &plain)?.abs()?.max_all()?.to_scalar::<f32>()?;
        let scale = plain.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(gap <= 1e-6 * scale, "{gap} of {scale}");
        Ok(())
    }
}
