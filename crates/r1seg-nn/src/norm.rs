//! Norms in f32, with a two-pass variance, whatever the dtype of the input.

use crate::weights::Weights;
use candle_core::{CpuStorage, CustomOp3, D, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// `torch.nn.LayerNorm` over the trailing dimensions that `weight` spans.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

/// A [`LayerNorm`] from the keys `weight` and `bias`, over trailing dimensions of shape `dims`.
///
/// # Errors
/// When a tensor is missing or misshaped.
pub fn layer_norm<S: Into<Shape>>(dims: S, eps: f64, weights: Weights) -> Result<LayerNorm> {
    let dims = dims.into();
    LayerNorm::new(weights.get(dims.clone(), "weight")?, weights.get(dims, "bias")?, eps)
}

impl LayerNorm {
    /// # Shapes
    /// - `weight`, `bias`: the shape of the trailing dimensions that are normalised together
    ///
    /// # Errors
    /// When the tensors cannot be converted to f32.
    pub fn new(weight: Tensor, bias: Tensor, eps: f64) -> Result<Self> {
        Ok(Self { weight: weight.to_dtype(DType::F32)?, bias: bias.to_dtype(DType::F32)?, eps })
    }

    /// # Shapes
    /// - `x`: `[.., *weight.dims()]`    - returns: the same shape and dtype
    ///
    /// # Errors
    /// When the trailing dimensions differ from the weight's.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (dims, inner) = (x.dims(), self.weight.dims());
        if dims.len() < inner.len() || dims[dims.len() - inner.len()..] != *inner {
            bail!("a layer norm over {inner:?} got an input of shape {dims:?}")
        }
        let width = self.weight.elem_count();
        let rows = x.contiguous()?.reshape((x.elem_count() / width, width))?;
        let (weight, bias) = (self.weight.flatten_all()?, self.bias.flatten_all()?);
        if x.device().is_cpu() && x.dtype() == DType::F32 {
            let op = RowNorm { eps: self.eps, centred: true };
            return rows.apply_op3_no_bwd(&weight, &bias, &op)?.reshape(dims);
        }
        let rows = rows.to_dtype(DType::F32)?;
        let centred = rows.broadcast_sub(&rows.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        centred
            .broadcast_div(&(variance + self.eps)?.sqrt()?)?
            .broadcast_mul(&weight)?
            .broadcast_add(&bias)?
            .to_dtype(x.dtype())?
            .reshape(dims)
    }
}

/// SAM's `LayerNorm3d`: every voxel is normalised over its channels.
#[derive(Debug, Clone)]
pub struct LayerNorm3d(LayerNorm);

/// A [`LayerNorm3d`] from the keys `weight` and `bias`.
///
/// # Errors
/// When a tensor is missing or misshaped.
pub fn layer_norm_3d(channels: usize, eps: f64, weights: Weights) -> Result<LayerNorm3d> {
    Ok(LayerNorm3d(layer_norm(channels, eps, weights)?))
}

impl LayerNorm3d {
    /// # Shapes
    /// - `x`: `[B, C, D, H, W]`    - returns: the same
    ///
    /// # Errors
    /// When the channels differ from the weight's.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (b, c, d, h, w) = x.dims5()?;
        let channels_last = x.reshape((b, c, d * h * w))?.transpose(1, 2)?;
        self.0.forward(&channels_last)?.transpose(1, 2)?.contiguous()?.reshape((b, c, d, h, w))
    }
}

/// The root-mean-square norm of the Llama family.
#[derive(Debug, Clone)]
pub struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

/// An [`RmsNorm`] from the key `weight`.
///
/// # Errors
/// When the tensor is missing or misshaped.
pub fn rms_norm(width: usize, eps: f64, weights: Weights) -> Result<RmsNorm> {
    RmsNorm::new(weights.get(width, "weight")?, eps)
}

impl RmsNorm {
    /// # Shapes
    /// - `weight`: `[width]`
    ///
    /// # Errors
    /// When the tensor cannot be converted to f32.
    pub fn new(weight: Tensor, eps: f64) -> Result<Self> {
        Ok(Self { weight: weight.to_dtype(DType::F32)?, eps })
    }

    /// # Shapes
    /// - `x`: `[.., width]`    - returns: the same shape and dtype
    ///
    /// # Errors
    /// When the width differs from the weight's.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let width = self.weight.elem_count();
        if x.dims().last() != Some(&width) {
            bail!("an RMS norm of width {width} got an input of shape {:?}", x.dims())
        }
        let rows = x.contiguous()?.reshape((x.elem_count() / width, width))?;
        if x.device().is_cpu() && x.dtype() == DType::F32 {
            let op = RowNorm { eps: self.eps, centred: false };
            return rows.apply_op3_no_bwd(&self.weight, &self.weight, &op)?.reshape(x.dims());
        }
        let rows = rows.to_dtype(DType::F32)?;
        let mean_square = rows.sqr()?.mean_keepdim(D::Minus1)?;
        rows.broadcast_div(&(mean_square + self.eps)?.sqrt()?)?
            .broadcast_mul(&self.weight)?
            .to_dtype(x.dtype())?
            .reshape(x.dims())
    }
}

/// Normalises rows: a layer norm when `centred`, else an RMS norm (which ignores the bias).
struct RowNorm {
    eps: f64,
    centred: bool,
}

/// Sum in f32 lanes, carried over into f64 every few thousand elements, so that rows of millions
/// of elements (the whole-block norm) stay exact.
#[inline(always)]
fn sum(row: &[f32], f: impl Fn(f32) -> f32) -> f64 {
    const LANES: usize = 16;
    row.chunks(4096)
        .map(|block| {
            let mut lanes = [0f32; LANES];
            let mut chunks = block.chunks_exact(LANES);
            for chunk in &mut chunks {
                for (lane, &x) in lanes.iter_mut().zip(chunk) {
                    *lane += f(x);
                }
            }
            let tail: f32 = chunks.remainder().iter().map(|&x| f(x)).sum();
            f64::from(lanes.iter().sum::<f32>() + tail)
        })
        .sum()
}

impl CustomOp3 for RowNorm {
    fn name(&self) -> &'static str {
        "row-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, width) = x_layout.shape().dims2()?;
        let x = crate::cpu::f32_slice(x, x_layout, self.name())?;
        let weight = crate::cpu::f32_slice(weight, weight_layout, self.name())?;
        let bias = crate::cpu::f32_slice(bias, bias_layout, self.name())?;
        let mut y = vec![0f32; x.len()];
        let arch = pulp::Arch::new();
        y.par_chunks_mut(width).zip(x.par_chunks(width)).for_each(|(y, x)| {
            arch.dispatch(
                #[inline(always)]
                || {
                    let n = width as f64;
                    // Sums of the differences to any one element keep the digits that a large
                    // mean would take.
                    let first = x.first().copied().unwrap_or(0.0);
                    let mean = if self.centred {
                        (f64::from(first) + sum(x, |x| x - first) / n) as f32
                    } else {
                        0.0
                    };
                    let variance = sum(x, |x| (x - mean) * (x - mean)) / n;
                    let inverse = (1.0 / (variance + self.eps).sqrt()) as f32;
                    if self.centred {
                        for (((y, &x), &w), &b) in y.iter_mut().zip(x).zip(weight).zip(bias) {
                            *y = (x - mean) * inverse * w + b;
                        }
                    } else {
                        for ((y, &x), &w) in y.iter_mut().zip(x).zip(weight) {
                            *y = x * inverse * w;
                        }
                    }
                },
            )
        });
        Ok((CpuStorage::F32(y), x_layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn gap(a: &Tensor, b: &Tensor) -> Result<f64> {
        (a.to_dtype(DType::F64)? - b)?.abs()?.max_all()?.to_scalar::<f64>()
    }

    fn exact_layer_norm(x: &Tensor, w: &Tensor, b: &Tensor, eps: f64) -> Result<Tensor> {
        let [x, w, b] = [x, w, b].map(|t| t.to_dtype(DType::F64));
        let x = x?;
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let unit = centred.broadcast_div(&(variance + eps)?.sqrt()?)?;
        unit.broadcast_mul(&w?)?.broadcast_add(&b?)
    }

    #[test]
    fn layer_norm_keeps_its_digits_when_the_mean_dwarfs_the_deviation() -> Result<()> {
        let d = &Device::Cpu;
        let x = Tensor::randn(1000f32, 1., (7, 770), d)?;
        let (w, b) = (Tensor::randn(1f32, 0.1, 770, d)?, Tensor::randn(0f32, 1., 770, d)?);
        let y = LayerNorm::new(w.clone(), b.clone(), 1e-5)?.forward(&x)?;
        let gap = gap(&y, &exact_layer_norm(&x, &w, &b, 1e-5)?)?;
        assert!(gap < 1e-4, "{gap}");
        Ok(())
    }

    #[test]
    fn whole_block_norm_spans_channels_and_space() -> Result<()> {
        let d = &Device::Cpu;
        let shape = (12, 8, 8, 8);
        let x = Tensor::randn(3f32, 2., (2, 12, 8, 8, 8), d)?;
        let (w, b) = (Tensor::randn(1f32, 0.5, shape, d)?, Tensor::randn(0f32, 1., shape, d)?);
        let y = LayerNorm::new(w.clone(), b.clone(), 1e-5)?.forward(&x)?;
        let exact = exact_layer_norm(
            &x.reshape((2, 12 * 512))?,
            &w.flatten_all()?,
            &b.flatten_all()?,
            1e-5,
        )?;
        let gap = gap(&y.reshape((2, 12 * 512))?, &exact)?;
        assert!(gap < 1e-5, "{gap}");
        Ok(())
    }

    #[test]
    fn layer_norm_3d_normalises_each_voxel_over_its_channels() -> Result<()> {
        let d = &Device::Cpu;
        let x = Tensor::randn(0f32, 2., (1, 16, 3, 4, 5), d)?;
        let (w, b) = (Tensor::randn(1f32, 0.5, 16, d)?, Tensor::randn(0f32, 1., 16, d)?);
        let y = LayerNorm3d(LayerNorm::new(w.clone(), b.clone(), 1e-6)?).forward(&x)?;
        let last = |t: &Tensor| t.reshape((16, 60))?.t()?.contiguous();
        let gap = gap(&last(&y)?, &exact_layer_norm(&last(&x)?, &w, &b, 1e-6)?)?;
        assert!(gap < 1e-5, "{gap}");
        Ok(())
    }

    #[test]
    fn rms_norm_in_half_precision_computes_in_f32() -> Result<()> {
        let d = &Device::Cpu;
        let x = Tensor::randn(0f32, 3., (4, 200), d)?;
        let w = Tensor::randn(1f32, 0.5, 200, d)?;
        let norm = RmsNorm::new(w.clone(), 1e-6)?;
        let exact = {
            let x = x.to_dtype(DType::F64)?;
            let ms = (x.sqr()?.mean_keepdim(D::Minus1)? + 1e-6)?;
            x.broadcast_div(&ms.sqrt()?)?.broadcast_mul(&w.to_dtype(DType::F64)?)?
        };
        assert!(gap(&norm.forward(&x)?, &exact)? < 1e-5);
        let half = norm.forward(&x.to_dtype(DType::BF16)?)?;
        assert_eq!(half.dtype(), DType::BF16);
        assert!(gap(&half, &exact)? < 0.06);
        Ok(())
    }
}
