//! Norms of volumes, `[B, C, D, H, W]`: over the channels of each voxel, and over the voxels of each
//! channel.

use candle_core::{DType, Result, Tensor, bail};
use r1seg_kernels::AfterNorm;

use crate::activation::{add, gelu_erf, relu};
use crate::by_instance::ByInstance;
use crate::norm::LayerNorm;
use crate::weights::Weights;

/// A layer norm over the channels of each voxel, as `LayerNorm3d` of SAM's ports to 3D.
#[derive(Debug, Clone)]
pub struct LayerNorm3d {
    /// `[C]`, f32
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

/// A [`LayerNorm3d`] from the keys `weight` and `bias`.
///
/// # Errors
/// When a tensor is missing or misshaped.
pub fn layer_norm3d(channels: usize, eps: f64, weights: Weights) -> Result<LayerNorm3d> {
    LayerNorm3d::new(weights.get(channels, "weight")?, weights.get(channels, "bias")?, eps)
}

impl LayerNorm3d {
    /// # Shapes
    /// - `weight`, `bias`: `[C]`
    ///
    /// # Errors
    /// When the tensors cannot be converted to f32.
    pub fn new(weight: Tensor, bias: Tensor, eps: f64) -> Result<Self> {
        Ok(Self { weight: weight.to_dtype(DType::F32)?, bias: bias.to_dtype(DType::F32)?, eps })
    }

    /// # Shapes
    /// - `x`: `[B, C, D, H, W]`    - returns: the same shape and dtype
    ///
    /// # Errors
    /// When the channels differ from the weight's.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.dims5()?;
        #[cfg(feature = "cuda")]
        if crate::cuda::takes(x) {
            return crate::cuda::channel_norm(x, [&self.weight, &self.bias], self.eps);
        }
        let norm = LayerNorm::new(self.weight.clone(), self.bias.clone(), self.eps)?;
        let last = norm.forward(&x.permute((0, 2, 3, 4, 1))?)?;
        last.permute((0, 4, 1, 2, 3))?.contiguous()
    }
}

/// `torch.nn.InstanceNorm3d`: each channel of each volume is normalized over its voxels.
#[derive(Debug, Clone)]
pub struct InstanceNorm3d {
    /// `[C]` each, f32
    factors: Option<(Tensor, Tensor)>,
    eps: f64,
}

/// An [`InstanceNorm3d`] from the keys `weight` and `bias`.
///
/// # Errors
/// When a tensor is missing or misshaped.
pub fn instance_norm3d(channels: usize, eps: f64, weights: Weights) -> Result<InstanceNorm3d> {
    InstanceNorm3d::new(weights.get(channels, "weight")?, weights.get(channels, "bias")?, eps)
}

impl InstanceNorm3d {
    /// # Shapes
    /// - `weight`, `bias`: `[C]`
    ///
    /// # Errors
    /// When the tensors cannot be converted to f32.
    pub fn new(weight: Tensor, bias: Tensor, eps: f64) -> Result<Self> {
        let factors = (weight.to_dtype(DType::F32)?, bias.to_dtype(DType::F32)?);
        Ok(Self { factors: Some(factors), eps })
    }

    /// Without a weight and a bias, for any number of channels.
    pub fn plain(eps: f64) -> Self {
        Self { factors: None, eps }
    }

    /// # Shapes
    /// - `x`: `[B, C, D, H, W]`    - returns: the same shape and dtype
    ///
    /// # Errors
    /// When the channels differ from the weight's.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_then(x, None, None)
    }

    /// [`relu`] of the norm, on a CPU in the same pass over memory.
    ///
    /// # Shapes
    /// - `x`: `[B, C, D, H, W]`    - returns: the same shape and dtype
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_relu(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_leaky_relu(x, 0.0)
    }

    /// The norm with negative numbers times `slope`, on a CPU in the same pass over memory.
    ///
    /// # Shapes
    /// - `x`: `[B, C, D, H, W]`    - returns: the same shape and dtype
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_leaky_relu(&self, x: &Tensor, slope: f32) -> Result<Tensor> {
        self.forward_then(x, None, Some(AfterNorm::LeakyRelu(slope)))
    }

    /// As [`forward_leaky_relu`](Self::forward_leaky_relu), of the sum of the norm of `x` and `residual`.
    ///
    /// # Shapes
    /// - `x`, `residual`: `[B, C, D, H, W]`    - returns: the same shape and dtype
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and when the residual has another shape than `x`.
    pub fn forward_add_leaky_relu(
        &self,
        x: &Tensor,
        residual: &Tensor,
        slope: f32,
    ) -> Result<Tensor> {
        if residual.dims() != x.dims() {
            bail!("a residual of shape {:?} beside an input of {:?}", residual.dims(), x.dims())
        }
        self.forward_then(x, Some(residual), Some(AfterNorm::LeakyRelu(slope)))
    }

    /// [`gelu_erf`] of the norm, on a CPU in the same pass over memory.
    ///
    /// # Shapes
    /// - `x`: `[B, C, D, H, W]`    - returns: the same shape and dtype
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_gelu(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_then(x, None, Some(AfterNorm::Gelu))
    }

    fn forward_then(
        &self,
        x: &Tensor,
        residual: Option<&Tensor>,
        after: Option<AfterNorm>,
    ) -> Result<Tensor> {
        let (_, _, d, h, w) = x.dims5()?;
        self.check(x)?;
        #[cfg(feature = "cuda")]
        if crate::cuda::takes(x) {
            let factors = self.factors.as_ref().map(|(weight, bias)| [weight, bias]);
            return followed(crate::cuda::instance_norm(x, factors, self.eps)?, residual, after);
        }
        let voxels = d * h * w;
        let narrow = |t: &Tensor| t.dtype() == DType::F32;
        if x.device().is_cpu() && narrow(x) && residual.is_none_or(narrow) && voxels != 0 {
            let op = self.by_instance(x, after)?;
            let x = x.contiguous()?;
            return match residual {
                Some(residual) => x.apply_op2_no_bwd(&residual.contiguous()?, &op),
                None => x.apply_op1_no_bwd(&op),
            };
        }
        followed(self.composed(x, voxels)?, residual, after)
    }

    fn check(&self, x: &Tensor) -> Result<()> {
        let channels = x.dim(1)?;
        if self.factors.as_ref().is_some_and(|(weight, _)| weight.elem_count() != channels) {
            bail!("an instance norm of other channels got an input of shape {:?}", x.dims())
        }
        Ok(())
    }

    /// The norm of `x` and what follows it, as an operator of a CPU.
    ///
    /// # Errors
    /// When the channels differ from the weight's.
    pub(crate) fn by_instance(&self, x: &Tensor, after: Option<AfterNorm>) -> Result<ByInstance> {
        self.check(x)?;
        let (_, _, d, h, w) = x.dims5()?;
        let factors = match &self.factors {
            Some((weight, bias)) => Some((weight.to_vec1()?, bias.to_vec1()?)),
            None => None,
        };
        let after = after.unwrap_or(AfterNorm::LeakyRelu(1.0));
        Ok(ByInstance { factors, eps: self.eps, voxels: d * h * w, after })
    }

    fn composed(&self, x: &Tensor, voxels: usize) -> Result<Tensor> {
        let (b, c, ..) = x.dims5()?;
        let wide = if x.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        let rows = x.to_dtype(wide)?.contiguous()?.reshape((b, c, voxels))?;
        let centered = rows.broadcast_sub(&rows.mean_keepdim(2)?)?;
        let variance = centered.sqr()?.mean_keepdim(2)?;
        let mut y = centered.broadcast_div(&(variance + self.eps)?.sqrt()?)?;
        if let Some((weight, bias)) = &self.factors {
            let [weight, bias] = [weight, bias].map(|t| t.to_dtype(wide)?.reshape((1, c, 1)));
            y = y.broadcast_mul(&weight?)?.broadcast_add(&bias?)?;
        }
        y.to_dtype(x.dtype())?.reshape(x.dims())
    }
}

/// What follows a norm, step by step.
fn followed(norm: Tensor, residual: Option<&Tensor>, after: Option<AfterNorm>) -> Result<Tensor> {
    let y = match residual {
        Some(residual) => add(&norm, residual)?,
        None => norm,
    };
    match after {
        None => Ok(y),
        Some(AfterNorm::Gelu) => gelu_erf(&y),
        Some(AfterNorm::LeakyRelu(0.0)) => relu(&y),
        Some(AfterNorm::LeakyRelu(slope)) => {
            let slope = f64::from(slope);
            (relu(&y)? * (1.0 - slope))? + (y * slope)?
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::IndexOp;

    use super::*;
    use crate::testing::{assert_close, gap, on_cpu, random, wave};

    // F.instance_norm(wave([1, 2, 2, 2, 2], .7), weight=wave([2], 1.) + .5, bias=wave([2], 2.), eps=1e-5)
    #[test]
    fn instance_norm_equals_pytorchs() -> Result<()> {
        let norm = InstanceNorm3d::new((wave(&[2], 1.0)? + 0.5)?, wave(&[2], 2.0)?, 1e-5)?;
        let x = wave(&[1, 2, 2, 2, 2], 0.7)?;
        for y in [norm.forward(&x)?, norm.composed(&x, 8)?] {
            assert_close(
                &y,
                &[
                    -0.054_777_436,
                    0.398_327_86,
                    0.638_330_64,
                    0.552_353_86,
                    0.180_833_76,
                    -0.301_497_97,
                    -0.667_793_2,
                    -0.745_777_5,
                    -0.628_804_1,
                    0.698_432,
                    2.009_473,
                    2.687_716,
                    2.414_173,
                    1.317_495,
                    -0.086_532_675,
                    -1.137_574,
                ],
                2e-6,
            )?;
        }
        Ok(())
    }

    // u = x.mean(1, keepdim=True); s = (x - u).pow(2).mean(1, keepdim=True)
    // w[:, None, None, None] * (x - u) / torch.sqrt(s + 1e-6) + b[:, None, None, None]
    // with x = wave([1, 3, 1, 2, 2], .7), w = wave([3], 1.) + .5, b = wave([3], 2.)
    #[test]
    fn a_norm_over_channels_equals_pytorchs() -> Result<()> {
        let norm = LayerNorm3d::new((wave(&[3], 1.0)? + 0.5)?, wave(&[3], 2.0)?, 1e-6)?;
        assert_close(
            &norm.forward(&wave(&[1, 3, 1, 2, 2], 0.7)?)?,
            &[
                0.123_262_4,
                0.658_232_15,
                0.450_144_98,
                0.318_311_87,
                2.361_744,
                -0.573_899_9,
                -0.961_596_7,
                -0.984_784_07,
                -2.630_113,
                -1.053_903,
                -0.060_089_827,
                0.335_854_1,
            ],
            2e-6,
        )
    }

    #[test]
    fn norms_of_any_layout_and_dtype_agree_with_f64() -> Result<()> {
        let x = random(30.0, 2.0, (2, 5, 6, 7, 20))?;
        let wide = x.to_dtype(DType::F64)?;
        for norm in [
            InstanceNorm3d::plain(1e-5),
            InstanceNorm3d::new(wave(&[5], 1.0)?, wave(&[5], 2.0)?, 1e-5)?,
        ] {
            let exact = norm.composed(&wide, 840)?;
            assert!(gap(&norm.forward(&x)?, &exact)? < 1e-5);
            let turned = x.transpose(2, 4)?;
            assert!(gap(&norm.forward(&turned)?, &exact.transpose(2, 4)?)? < 1e-5);
            let half = norm.forward(&x.to_dtype(DType::BF16)?)?;
            assert_eq!(half.dtype(), DType::BF16);
            assert!(gap(&half, &exact)? < 0.5);
        }
        Ok(())
    }

    #[test]
    fn what_follows_an_instance_norm_equals_the_composed_steps() -> Result<()> {
        let x = random(3.0, 2.0, (2, 5, 6, 7, 20))?;
        let residual = random(0.0, 1.0, (2, 5, 6, 7, 20))?;
        let (wide, wide_residual) = (on_cpu(&x)?, on_cpu(&residual)?);
        for norm in [
            InstanceNorm3d::plain(1e-5),
            InstanceNorm3d::new(wave(&[5], 1.0)?, wave(&[5], 2.0)?, 1e-5)?,
        ] {
            let host = |t: &Tensor| t.to_device(&candle_core::Device::Cpu);
            let factors = match &norm.factors {
                Some((weight, bias)) => Some((host(weight)?, host(bias)?)),
                None => None,
            };
            let exact = InstanceNorm3d { factors, eps: 1e-5 }.composed(&wide, 840)?;
            let leaky = |t: &Tensor, slope: f64| t.maximum(&(t * slope)?);
            let sum = (&exact + &wide_residual)?;
            for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::BF16, 0.1)] {
                let (x, residual) = (x.to_dtype(dtype)?, residual.to_dtype(dtype)?);
                for (y, exact) in [
                    (norm.forward_relu(&x)?, exact.relu()?),
                    (norm.forward_leaky_relu(&x, 0.01)?, leaky(&exact, 0.01)?),
                    (norm.forward_add_leaky_relu(&x, &residual, 0.01)?, leaky(&sum, 0.01)?),
                    (norm.forward_gelu(&x)?, exact.gelu_erf()?),
                ] {
                    let gap = gap(&y, &exact)?;
                    assert!(y.dtype() == dtype && gap < tolerance, "{dtype:?}: {gap:e}");
                }
            }
            assert!(norm.forward_add_leaky_relu(&x, &residual.i(0)?, 0.01).is_err());
        }
        Ok(())
    }

    #[test]
    fn other_channels_and_ranks_are_errors() -> Result<()> {
        let instance = InstanceNorm3d::new(wave(&[2], 1.0)?, wave(&[2], 2.0)?, 1e-5)?;
        let channel = LayerNorm3d::new(wave(&[2], 1.0)?, wave(&[2], 2.0)?, 1e-6)?;
        for shape in [&[1, 3, 2, 2, 2][..], &[2, 2, 2, 2]] {
            let x = wave(shape, 0.7)?;
            assert!(instance.forward(&x).is_err() && channel.forward(&x).is_err(), "{shape:?}");
        }
        Ok(())
    }
}
