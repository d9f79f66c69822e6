//! A convolution on a CPU with what it takes over from the layers around it.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape};
use r1seg_kernels::{ConvFusion, ConvGeometry, ConvNorm, ConvWeights};

use crate::by_instance::ByInstance;
use crate::cpu::f32_slice;

pub(super) struct Convolution {
    pub(super) weights: Arc<ConvWeights>,
    pub(super) geometry: ConvGeometry,
    pub(super) bias: Option<Vec<f32>>,
    /// What normalizes the input, and the slope of the leaky ReLU behind it.
    pub(super) norm: Option<(ByInstance, f32)>,
}

impl Convolution {
    const NAME: &str = "conv3d";

    /// # Shapes
    /// - `x`: `[B, in, D, H, W]`    - `residual`, returns: `[B, out, D', H', W']`
    fn run(&self, x: &[f32], residual: Option<&[f32]>, b: usize) -> (CpuStorage, Shape) {
        let [d, h, w] = self.geometry.output;
        let shape = Shape::from((b, self.weights.out_channels(), d, h, w));
        let of =
            |all: &[f32], n: usize| n * (all.len() / b.max(1))..(n + 1) * (all.len() / b.max(1));
        let forward = |n: usize| {
            let (x, residual) = (&x[of(x, n)], residual.map(|residual| &residual[of(residual, n)]));
            let norms = self.norm.as_ref().map(|(norm, slope)| (norm.measure(x), *slope));
            let norm = norms.as_ref().map(|(channels, slope)| ConvNorm { channels, slope: *slope });
            let fusion = ConvFusion { norm, bias: self.bias.as_deref(), residual };
            self.weights.forward(x, self.geometry, fusion)
        };
        let y = match b {
            1 => forward(0),
            _ => (0..b).flat_map(forward).collect(),
        };
        (CpuStorage::F32(y), shape)
    }
}

impl CustomOp1 for Convolution {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (b, ..) = layout.shape().dims5()?;
        Ok(self.run(f32_slice(x, layout, Self::NAME)?, None, b))
    }
}

impl CustomOp2 for Convolution {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        residual: &CpuStorage,
        residual_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (b, ..) = layout.shape().dims5()?;
        let residual = f32_slice(residual, residual_layout, Self::NAME)?;
        Ok(self.run(f32_slice(x, layout, Self::NAME)?, Some(residual), b))
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
