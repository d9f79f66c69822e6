//! Activations as the published models compute them, and sums.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, D, DType, Layout, Result, Shape, Tensor};

use crate::cpu;

/// What is applied to each number of a layer's result. The kernels of a GPU know it by its number
/// (epilogue.cuh).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    None = 0,
    /// [`gelu_erf`]
    GeluErf = 1,
    /// [`relu`]
    Relu = 2,
    /// [`quick_gelu`]
    QuickGelu = 3,
    /// [`silu_mul`], whose result is half as wide.
    SiluGate = 4,
}

impl Activation {
    /// # Shapes
    /// - `x`: any    - returns: the same; half as wide with [`SiluGate`](Self::SiluGate)
    ///
    /// # Errors
    /// When a width is odd that is to be halved, or the backend cannot run the operation.
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::None => Ok(x.clone()),
            Self::GeluErf => gelu_erf(x),
            Self::Relu => relu(x),
            Self::QuickGelu => quick_gelu(x),
            Self::SiluGate => silu_mul(x),
        }
    }
}

/// `torch.nn.GELU()`: the exact form, with the error function.
///
/// # Errors
/// When the backend cannot run the operation.
pub fn gelu_erf(x: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if crate::cuda::takes(x) {
        return crate::cuda::activate(&x.contiguous()?, Activation::GeluErf);
    }
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
        Ok((CpuStorage::F32(r1seg_kernels::gelu_erf(x)), layout.shape().clone()))
    }
}

/// The product of [`gelu_erf`] of each row with `weights`.
///
/// # Shapes
/// - `x`: `[rows, n]`    - `weights`: `[n]`    - returns: `[rows]`
///
/// # Errors
/// When the shapes do not fit or the backend cannot run the operation.
pub fn gelu_dot(x: &Tensor, weights: &Tensor) -> Result<Tensor> {
    let (_, n) = x.dims2()?;
    let weights = weights.reshape(n)?;
    #[cfg(feature = "cuda")]
    if crate::cuda::takes(x) {
        return crate::cuda::gelu_dot(
            &x.contiguous()?,
            &weights.to_dtype(x.dtype())?.contiguous()?,
        );
    }
    if !x.device().is_cpu() || x.dtype() != DType::F32 {
        return gelu_erf(x)?.matmul(&weights.unsqueeze(1)?)?.squeeze(1);
    }
    x.contiguous()?.apply_op2_no_bwd(&weights.contiguous()?, &GeluDot)
}

struct GeluDot;

impl CustomOp2 for GeluDot {
    fn name(&self) -> &'static str {
        "gelu-dot"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weights: &CpuStorage,
        layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = cpu::f32_slice(x, x_layout, self.name())?;
        let y = r1seg_kernels::gelu_dot(x, cpu::f32_slice(weights, layout, self.name())?);
        let rows = y.len();
        Ok((CpuStorage::F32(y), Shape::from(rows)))
    }
}

/// `x + y`, the smaller one as often as it takes.
///
/// On a CPU it runs where all products run; candle's own sum has threads of its own, which compete
/// with those that have just finished a product.
///
/// # Shapes
/// - one `[.., *dims]`, the other `dims`, perhaps with ones in front    - returns: the larger shape
///
/// # Errors
/// When the shapes do not fit.
pub fn add(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    if x.elem_count() < y.elem_count() {
        return add(y, x);
    }
    let repeats = x.rank() >= y.rank() && x.dims().ends_with(trimmed(y.dims()));
    #[cfg(feature = "cuda")]
    if crate::cuda::takes(x) && x.dtype() == y.dtype() && repeats {
        return crate::cuda::sum(&x.contiguous()?, &y.contiguous()?);
    }
    if !x.device().is_cpu() || x.dtype() != DType::F32 || y.dtype() != DType::F32 || !repeats {
        return x.broadcast_add(y);
    }
    x.contiguous()?.apply_op2_no_bwd(&y.contiguous()?, &Add)
}

/// Without ones in front.
fn trimmed(dims: &[usize]) -> &[usize] {
    let ones = dims.iter().take_while(|&&n| n == 1).count();
    &dims[ones..]
}

struct Add;

impl CustomOp2 for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = cpu::f32_slice(x, x_layout, self.name())?;
        let y = cpu::f32_slice(y, y_layout, self.name())?;
        Ok((CpuStorage::F32(r1seg_kernels::add(x, y)), x_layout.shape().clone()))
    }
}

/// CLIP's activation: `x * sigmoid(1.702 x)`.
///
/// # Errors
/// When the backend cannot run the operation.
pub fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if crate::cuda::takes(x) {
        return crate::cuda::activate(&x.contiguous()?, Activation::QuickGelu);
    }
    x * candle_nn::ops::sigmoid(&(x * 1.702)?)?
}

/// `torch.nn.ReLU()`: the larger of `x` and 0. NaN stays NaN, as in PyTorch; candle's own operation
/// makes it 0, so that a broken number would look like a sound one.
///
/// # Errors
/// When the backend cannot run the operation.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if crate::cuda::takes(x) {
        return crate::cuda::activate(&x.contiguous()?, Activation::Relu);
    }
    // Zero times NaN is NaN, and zero times any finite number changes nothing.
    x.relu()? + x.affine(0.0, 0.0)?
}

/// The gated activation of the Llama family on a fused projection.
///
/// # Shapes
/// - `gate_up`: `[.., 2 * F]`, the gate in the first half    - returns: `[.., F]`, `silu(gate) * up`
///
/// # Errors
/// When the last dimension is odd or the backend cannot run the operation.
pub fn silu_mul(gate_up: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if crate::cuda::takes(gate_up) {
        return crate::cuda::gated(&gate_up.contiguous()?);
    }
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
    use crate::testing::{device, random};

    #[test]
    fn gelu_is_the_error_function_form() -> Result<()> {
        // torch.nn.functional.gelu(torch.tensor([-3., -1., -.1, 0., .5, 2.]))
        let x = Tensor::new(&[-3f32, -1., -0.1, 0., 0.5, 2.], &device()?)?;
        let y = gelu_erf(&x)?.to_vec1::<f32>()?;
        let expected =
            [-0.004_049_694, -0.158_655_26, -0.046_017_22, 0., 0.345_731_23, 1.954_499_8];
        for (y, e) in y.iter().zip(expected) {
            assert!((y - e).abs() < 2e-7, "{y} {e}");
        }
        Ok(())
    }

    #[test]
    fn gelu_dot_equals_the_unfused_operations() -> Result<()> {
        let x = random(0.0, 2.0, (40, 96))?;
        let weights = random(0.0, 1.0, 96)?;
        let plain = gelu_erf(&x)?.matmul(&weights.unsqueeze(1)?)?.squeeze(1)?;
        let gap = (gelu_dot(&x, &weights)? - plain)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(gap < 1e-5, "{gap}");
        Ok(())
    }

    #[test]
    fn sums_of_all_shapes_are_candles() -> Result<()> {
        let random = |dims: &[usize]| random(0.0, 1.0, dims);
        for (x, y) in [
            (&[2, 3, 4][..], &[2, 3, 4][..]),
            (&[2, 3, 4], &[1, 3, 4]),
            (&[1, 1, 4], &[2, 3, 4]),
            (&[2, 3, 4], &[2, 1, 4]),
            (&[2, 3, 4], &[4]),
            (&[1, 1, 1], &[1]),
        ] {
            let (x, y) = (random(x)?, random(y)?);
            let (sum, plain) = (add(&x, &y)?, x.broadcast_add(&y)?);
            assert_eq!(sum.dims(), plain.dims());
            assert_eq!(
                sum.flatten_all()?.to_vec1::<f32>()?,
                plain.flatten_all()?.to_vec1::<f32>()?
            );
        }
        assert!(add(&random(&[2, 3, 4])?, &random(&[3])?).is_err());
        Ok(())
    }

    #[test]
    fn quick_gelu_is_clips() -> Result<()> {
        // x = torch.tensor([-3., -1., 0., .5, 2.]); x * torch.sigmoid(1.702 * x)
        let x = Tensor::new(&[-3f32, -1., 0., 0.5, 2.], &device()?)?;
        let y = quick_gelu(&x)?.to_vec1::<f32>()?;
        let expected = [-0.018_071_31, -0.154_204_23, 0., 0.350_388_44, 1.935_658_6];
        for (y, e) in y.iter().zip(expected) {
            assert!((y - e).abs() < 2e-7, "{y} {e}");
        }
        Ok(())
    }

    #[test]
    fn relu_keeps_nan() -> Result<()> {
        let x = Tensor::new(&[-3f32, -0.0, 0.5, f32::NAN], &device()?)?;
        let y = relu(&x)?.to_vec1::<f32>()?;
        assert_eq!(y[..3], [0.0, 0.0, 0.5]);
        assert!(y[3].is_nan());
        Ok(())
    }

    #[test]
    fn silu_mul_equals_the_unfused_operations() -> Result<()> {
        let x = random(0.0, 8.0, (3, 5, 62))?;
        let fused = silu_mul(&x)?;
        let (gate, up) = (x.narrow(2, 0, 31)?, x.narrow(2, 31, 31)?);
        let plain = (gate.silu()? * up)?;
        let gap = (fused - &plain)?.abs()?.max_all()?.to_scalar::<f32>()?;
        let scale = plain.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(gap <= 1e-6 * scale, "{gap} of {scale}");
        Ok(())
    }
}
