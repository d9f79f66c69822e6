//! Operators of a CPU on each volume of a batch, and what is added to what they give.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};

use crate::cpu::f32_slice;

/// An operator on volumes, in f32.
pub(super) struct EachVolume<F> {
    pub(super) name: &'static str,
    /// `[out, D', H', W']`
    pub(super) output: [usize; 4],
    /// Gets a volume and what is added to the result, which has as many numbers as `output` says.
    pub(super) forward: F,
}

impl<F: Fn(&[f32], Option<&[f32]>) -> Vec<f32>> EachVolume<F> {
    /// # Shapes
    /// - `x`: `[B, in, D, H, W]`    - `residual`, returns: `[B, out, D', H', W']`
    pub(super) fn apply(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        let x = x.contiguous()?;
        match residual {
            Some(residual) => x.apply_op2_no_bwd(&residual.contiguous()?, self),
            None => x.apply_op1_no_bwd(self),
        }
    }

    fn run(&self, x: &[f32], residual: Option<&[f32]>, b: usize) -> (CpuStorage, Shape) {
        let [out, d, h, w] = self.output;
        let forward = |n: usize| {
            let of = |all: usize| n * (all / b.max(1))..(n + 1) * (all / b.max(1));
            let residual = residual.map(|residual| &residual[of(residual.len())]);
            (self.forward)(&x[of(x.len())], residual)
        };
        let y = match b {
            1 => forward(0),
            _ => (0..b).flat_map(forward).collect(),
        };
        (CpuStorage::F32(y), Shape::from((b, out, d, h, w)))
    }
}

impl<F: Fn(&[f32], Option<&[f32]>) -> Vec<f32>> CustomOp1 for EachVolume<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (b, ..) = layout.shape().dims5()?;
        Ok(self.run(f32_slice(x, layout, self.name)?, None, b))
    }
}

impl<F: Fn(&[f32], Option<&[f32]>) -> Vec<f32>> CustomOp2 for EachVolume<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        residual: &CpuStorage,
        residual_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (b, ..) = layout.shape().dims5()?;
        let residual = f32_slice(residual, residual_layout, self.name)?;
        Ok(self.run(f32_slice(x, layout, self.name)?, Some(residual), b))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use crate::testing::{gap, random};
    use crate::{Conv3d, Conv3dConfig, InstanceNorm3d, add};

    #[test]
    fn a_convolution_of_a_norm_plus_a_residual_equals_the_steps_on_their_own() -> super::Result<()>
    {
        let neighbors = |inner, out| Conv3dConfig::new(inner, out, [3; 3]).with_padding([1; 3]);
        let halving = neighbors(6, 9).with_stride([2; 3]);
        for (config, size, residual) in [
            (neighbors(20, 18), [5, 6, 17], true),
            (neighbors(20, 18), [5, 6, 17], false),
            (halving, [6, 5, 8], true),
            (Conv3dConfig::new(5, 3, [1; 3]), [4, 3, 2], true),
        ] {
            let (inner, out) = (config.in_channels, config.out_channels);
            let ([d, h, w], [kd, kh, kw]) = (size, config.kernel);
            let on_cpu = |t: Tensor| t.to_device(&Device::Cpu);
            let weight = on_cpu(random(0.0, 0.3, (out, inner, kd, kh, kw))?)?;
            let conv = Conv3d::new(config, &weight, Some(on_cpu(random(0.0, 1.0, out)?)?))?;
            let factors = [on_cpu(random(1.0, 0.5, inner)?)?, on_cpu(random(0.0, 1.0, inner)?)?];
            let [weight, bias] = factors;
            let x = on_cpu(random(2.0, 3.0, (2, inner, d, h, w))?)?;
            let plus = random(0.0, 1.0, conv.forward(&x)?.shape())?;
            let plus = if residual { Some(on_cpu(plus)?) } else { None };
            for norm in [InstanceNorm3d::new(weight, bias, 1e-5)?, InstanceNorm3d::plain(1e-5)] {
                for dtype in [DType::F32, DType::F64] {
                    let x = x.to_dtype(dtype)?;
                    let plus = plus.as_ref().map(|plus| plus.to_dtype(dtype)).transpose()?;
                    let y = conv.forward_normalized(&x, &norm, 0.25, plus.as_ref())?;
                    let steps = conv.forward(&norm.forward_leaky_relu(&x, 0.25)?)?;
                    let steps = match &plus {
                        Some(plus) => add(&steps, plus)?,
                        None => steps,
                    };
                    // Numbers that differ in their last bit go through sums of hundreds of products.
                    let largest = gap(&steps, &steps.zeros_like()?)?;
                    let gap = gap(&y, &steps)?;
                    assert!(y.dtype() == dtype && gap < 1e-5 * largest, "{config:?}: {gap:e}");
                }
                // What does not fit is refused on either way.
                let other = x.narrow(2, 0, 2)?;
                assert!(conv.forward_normalized(&x, &norm, 0.0, Some(&other)).is_err());
                let narrow = x.narrow(1, 0, inner - 1)?.contiguous()?;
                assert!(conv.forward_normalized(&narrow, &norm, 0.0, None).is_err());
            }
        }
        Ok(())
    }
}
