//! Norms in f32, with a two-pass variance, whatever the dtype of the input.

use candle_core::{
    CpuStorage, CustomOp2, CustomOp3, D, DType, Layout, Result, Shape, Tensor, bail,
};
use r1seg_kernels::Norm;

use crate::cpu::f32_slice;
use crate::weights::Weights;

/// `torch.nn.LayerNorm` over the trailing dimensions that `weight` spans.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    /// The weight, then the bias, each flattened.
    factors: Tensor,
    dims: Shape,
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
    /// - `weight`, `bias`: the shape of the trailing dimensions that are normalized together
    ///
    /// # Errors
    /// When the tensors cannot be converted to f32.
    pub fn new(weight: Tensor, bias: Tensor, eps: f64) -> Result<Self> {
        let dims = weight.shape().clone();
        let factors = Tensor::cat(&[weight.flatten_all()?, bias.flatten_all()?], 0)?;
        Ok(Self { factors: factors.to_dtype(DType::F32)?, dims, eps })
    }

    /// # Shapes
    /// - `x`: `[.., *weight.dims()]`    - returns: the same shape and dtype
    ///
    /// # Errors
    /// When the trailing dimensions differ from the weight's.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let rows = self.rows(x)?;
        #[cfg(feature = "cuda")]
        if crate::cuda::takes(x) {
            return self.on_gpu(x, None, false);
        }
        if is_plain(x) {
            let op = RowNorm { eps: self.eps, centered: true, gelu: false };
            return rows.apply_op2_no_bwd(&self.factors, &op)?.reshape(x.dims());
        }
        self.composed(x, &rows)
    }

    /// The norm of `x + y`.
    ///
    /// # Shapes
    /// - `x`, `y`: `[.., *weight.dims()]`    - returns: the same shape and dtype
    ///
    /// # Errors
    /// When the shapes differ, or the trailing dimensions from the weight's.
    pub fn forward_sum(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if crate::cuda::takes(x) && x.dtype() == y.dtype() && x.shape() == y.shape() {
            return self.on_gpu(x, Some(y), false);
        }
        if !is_plain(x) || !is_plain(y) || x.shape() != y.shape() {
            return self.forward(&(x + y)?);
        }
        let op = RowNorm { eps: self.eps, centered: true, gelu: false };
        let rows = self.rows(x)?.apply_op3_no_bwd(&self.rows(y)?, &self.factors, &op)?;
        rows.reshape(x.dims())
    }

    /// [`gelu_erf`](crate::gelu_erf) of the norm.
    ///
    /// # Shapes
    /// - `x`: `[.., *weight.dims()]`    - returns: the same shape and dtype
    ///
    /// # Errors
    /// When the trailing dimensions differ from the weight's.
    pub fn forward_gelu(&self, x: &Tensor) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if crate::cuda::takes(x) {
            return self.on_gpu(x, None, true);
        }
        if !is_plain(x) {
            return crate::gelu_erf(&self.forward(x)?);
        }
        let op = RowNorm { eps: self.eps, centered: true, gelu: true };
        self.rows(x)?.apply_op2_no_bwd(&self.factors, &op)?.reshape(x.dims())
    }

    #[cfg(feature = "cuda")]
    fn on_gpu(&self, x: &Tensor, plus: Option<&Tensor>, gelu: bool) -> Result<Tensor> {
        let plus = plus.map(|plus| self.rows(plus)).transpose()?;
        let norm = crate::cuda::RowNorm { eps: self.eps, centered: true, gelu };
        crate::cuda::row_norm(&self.rows(x)?, plus.as_ref(), &self.factors, norm)?.reshape(x.dims())
    }

    /// # Shapes
    /// - returns: `[rows, width]`
    fn rows(&self, x: &Tensor) -> Result<Tensor> {
        let (dims, inner) = (x.dims(), self.dims.dims());
        if dims.len() < inner.len() || dims[dims.len() - inner.len()..] != *inner {
            bail!("a layer norm over {inner:?} got an input of shape {dims:?}")
        }
        let width = self.dims.elem_count();
        x.contiguous()?.reshape((x.elem_count() / width, width))
    }

    fn composed(&self, x: &Tensor, rows: &Tensor) -> Result<Tensor> {
        let width = self.dims.elem_count();
        let (weight, bias) =
            (self.factors.narrow(0, 0, width)?, self.factors.narrow(0, width, width)?);
        let rows = rows.to_dtype(DType::F32)?;
        let centered = rows.broadcast_sub(&rows.mean_keepdim(D::Minus1)?)?;
        let variance = centered.sqr()?.mean_keepdim(D::Minus1)?;
        centered
            .broadcast_div(&(variance + self.eps)?.sqrt()?)?
            .broadcast_mul(&weight)?
            .broadcast_add(&bias)?
            .to_dtype(x.dtype())?
            .reshape(x.dims())
    }
}

/// Whether the kernels of the CPU take it.
fn is_plain(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
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
        #[cfg(feature = "cuda")]
        if crate::cuda::takes(x) {
            let norm = crate::cuda::RowNorm { eps: self.eps, centered: false, gelu: false };
            return crate::cuda::row_norm(&rows, None, &self.weight, norm)?.reshape(x.dims());
        }
        if is_plain(x) {
            let op = RowNorm { eps: self.eps, centered: false, gelu: false };
            return rows.apply_op2_no_bwd(&self.weight, &op)?.reshape(x.dims());
        }
        let rows = rows.to_dtype(DType::F32)?;
        let mean_square = rows.sqr()?.mean_keepdim(D::Minus1)?;
        rows.broadcast_div(&(mean_square + self.eps)?.sqrt()?)?
            .broadcast_mul(&self.weight)?
            .to_dtype(x.dtype())?
            .reshape(x.dims())
    }
}

/// Normalizes rows: a layer norm when `centered`, whose weights are followed by a bias, else an RMS
/// norm.
struct RowNorm {
    eps: f64,
    centered: bool,
    gelu: bool,
}

impl RowNorm {
    const NAME: &'static str = "row-norm";

    fn norm<'a>(&self, factors: &'a CpuStorage, layout: &Layout) -> Result<Norm<'a>> {
        let factors = f32_slice(factors, layout, Self::NAME)?;
        if !self.centered {
            return Ok(Norm { weight: factors, bias: None, eps: self.eps });
        }
        let (weight, bias) = factors.split_at(factors.len() / 2);
        Ok(Norm { weight, bias: Some(bias), eps: self.eps })
    }
}

/// `[rows, width]` and the factors.
impl CustomOp2 for RowNorm {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        factors: &CpuStorage,
        layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = f32_slice(x, x_layout, Self::NAME)?;
        let norm = self.norm(factors, layout)?;
        let y = if self.gelu { norm.forward_gelu(x) } else { norm.forward(x) };
        Ok((CpuStorage::F32(y), x_layout.shape().clone()))
    }
}

/// `[rows, width]`, what is added to it, and the factors.
impl CustomOp3 for RowNorm {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
        factors: &CpuStorage,
        layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = f32_slice(x, x_layout, Self::NAME)?;
        let y = f32_slice(y, y_layout, Self::NAME)?;
        let y = self.norm(factors, layout)?.forward_sum(x, y);
        Ok((CpuStorage::F32(y), x_layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{gap, random};
    use candle_core::Device;

    fn exact_layer_norm(x: &Tensor, w: &Tensor, b: &Tensor, eps: f64) -> Result<Tensor> {
        let [x, w, b] = [x, w, b].map(|t| t.to_dtype(DType::F64));
        let x = x?;
        let centered = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centered.sqr()?.mean_keepdim(D::Minus1)?;
        let unit = centered.broadcast_div(&(variance + eps)?.sqrt()?)?;
        unit.broadcast_mul(&w?)?.broadcast_add(&b?)
    }

    #[test]
    fn layer_norm_keeps_its_digits_when_the_mean_dwarfs_the_deviation() -> Result<()> {
        let x = random(1000.0, 1.0, (7, 770))?;
        let (w, b) = (random(1.0, 0.1, 770)?, random(0.0, 1.0, 770)?);
        let y = LayerNorm::new(w.clone(), b.clone(), 1e-5)?.forward(&x)?;
        let gap = gap(&y, &exact_layer_norm(&x, &w, &b, 1e-5)?)?;
        assert!(gap < 1e-4, "{gap}");
        Ok(())
    }

    #[test]
    fn whole_block_norm_spans_channels_and_space() -> Result<()> {
        let shape = (12, 8, 8, 8);
        let x = random(3.0, 2.0, (2, 12, 8, 8, 8))?;
        let (w, b) = (random(1.0, 0.5, shape)?, random(0.0, 1.0, shape)?);
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
    fn a_row_that_several_blocks_share_is_normed_as_one() -> Result<()> {
        let width = 20_011;
        let x = random(30.0, 2.0, (2, width))?;
        let (w, b) = (random(1.0, 0.5, width)?, random(0.0, 1.0, width)?);
        let y = LayerNorm::new(w.clone(), b.clone(), 1e-5)?.forward_gelu(&x)?;
        let exact = exact_layer_norm(&x, &w, &b, 1e-5)?.gelu_erf()?;
        let gap = gap(&y, &exact)?;
        assert!(gap < 1e-5, "{gap}");
        Ok(())
    }

    #[test]
    fn rows_around_what_a_block_of_a_gpu_holds_are_normed_alike() -> Result<()> {
        for width in [12_200, 12_256, 12_288, 16_384] {
            let x = random(5.0, 2.0, (1, width))?;
            let w = random(1.0, 0.5, width)?;
            let exact = {
                let x = x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
                let ms = (x.sqr()?.mean_keepdim(D::Minus1)? + 1e-6)?.sqrt()?;
                let w = w.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
                x.broadcast_div(&ms)?.broadcast_mul(&w)?
            };
            let gap = gap(&RmsNorm::new(w, 1e-6)?.forward(&x)?, &exact)?;
            assert!(gap < 1e-5, "{width}: {gap}");
        }
        Ok(())
    }

    #[test]
    fn fused_norms_equal_the_unfused() -> Result<()> {
        let [x, y] = [0; 2].map(|_| random(0.0, 2.0, (2, 50, 96)));
        let (x, y) = (x?, y?);
        let (w, b) = (random(1.0, 0.5, 96)?, random(0.0, 1.0, 96)?);
        let norm = LayerNorm::new(w, b, 1e-5)?;
        let plain = norm.forward(&(&x + &y)?)?.to_dtype(DType::F64)?;
        assert!(gap(&norm.forward_sum(&x, &y)?, &plain)? < 1e-5);
        let plain = crate::gelu_erf(&norm.forward(&x)?)?.to_dtype(DType::F64)?;
        assert!(gap(&norm.forward_gelu(&x)?, &plain)? < 1e-5);
        assert!(norm.forward_sum(&x, &y.narrow(1, 0, 9)?).is_err());
        Ok(())
    }

    #[test]
    fn rms_norm_in_half_precision_computes_in_f32() -> Result<()> {
        let x = random(0.0, 3.0, (4, 200))?;
        let w = random(1.0, 0.5, 200)?;
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
