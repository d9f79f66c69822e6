//! The 3D transposed convolution that doubles a grid with overlapping kernels.

use std::sync::Arc;

use candle_core::{DType, Result, Tensor, bail};
#[cfg(feature = "cuda")]
use r1seg_kernels::ConvGeometry;
use r1seg_kernels::DoublingWeights;

use super::full::{Conv3d, Conv3dConfig};
use super::fused::EachVolume;
use crate::activation::add;
#[cfg(feature = "cuda")]
use crate::cuda::ConvTiles;
use crate::weights::{Rearranged, Weights};

/// `torch.nn.ConvTranspose3d` with kernel 3, stride 2, padding 1 and output padding 1.
///
/// Along each axis an even output voxel reads one input voxel and an odd one two, so that it is eight
/// convolutions whose outputs are interleaved.
#[derive(Debug, Clone)]
pub struct ConvTranspose3d {
    kernel: Kernel,
    /// `[out]`
    bias: Option<Tensor>,
}

#[derive(Debug, Clone)]
enum Kernel {
    /// On a CPU.
    Packed(Arc<DoublingWeights>),
    /// Eight, as [`DoublingWeights::part`] numbers them.
    Parts(Vec<Conv3d>),
    /// On a CUDA device, whose kernels interleave the outputs.
    #[cfg(feature = "cuda")]
    Tiles(ConvTiles),
    /// There are no numbers, and using it is an error.
    Absent,
}

/// A [`ConvTranspose3d`] from the keys `weight` (`[in, out, 3, 3, 3]`) and `bias`.
///
/// # Errors
/// When a tensor is missing or misshaped.
pub fn conv_transpose3d(
    in_channels: usize,
    out_channels: usize,
    weights: Weights,
) -> Result<ConvTranspose3d> {
    let bias = weights.get(out_channels, "bias")?;
    let taps = taps(in_channels, out_channels, &weights)?;
    ConvTranspose3d::from_taps([in_channels, out_channels], &taps, Some(&bias))
}

/// A [`ConvTranspose3d`] from the key `weight` alone.
///
/// # Errors
/// When the tensor is missing or misshaped.
pub fn conv_transpose3d_no_bias(
    in_channels: usize,
    out_channels: usize,
    weights: Weights,
) -> Result<ConvTranspose3d> {
    let taps = taps(in_channels, out_channels, &weights)?;
    ConvTranspose3d::from_taps([in_channels, out_channels], &taps, None)
}

/// `[out, in, 27]`
fn taps(in_channels: usize, out_channels: usize, weights: &Weights) -> Result<Tensor> {
    let shapes =
        Rearranged::new((in_channels, out_channels, 3, 3, 3), (out_channels, in_channels, 27));
    weights.factor_as(&shapes, "weight", |t| {
        t.transpose(0, 1)?.contiguous()?.reshape((out_channels, in_channels, 27))
    })
}

impl ConvTranspose3d {
    /// # Shapes
    /// - `weight`: `[in, out, 3, 3, 3]`    - `bias`: `[out]`
    ///
    /// # Errors
    /// When the weight has another shape.
    pub fn new(weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        let (input, out, 3, 3, 3) = weight.dims5()? else {
            bail!("the kernel of a doubling convolution is 3x3x3, got {:?}", weight.dims())
        };
        let taps = weight.transpose(0, 1)?.contiguous()?.reshape((out, input, 27))?;
        Self::from_taps([input, out], &taps, bias)
    }

    /// # Shapes
    /// - `taps`: `[out, in, 27]`; any other shape stands for weights that are not there
    fn from_taps([input, out]: [usize; 2], taps: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        let kernel = if taps.dims() != [out, input, 27] {
            Kernel::Absent
        } else if taps.device().is_cpu() {
            let numbers = taps.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
            match DoublingWeights::new(&numbers, [out, input]) {
                Some(packed) => Kernel::Packed(Arc::new(packed)),
                None => Kernel::Absent,
            }
        } else {
            Self::on_gpu([input, out], taps, bias)?
        };
        Ok(Self { kernel, bias: bias.cloned() })
    }

    fn on_gpu(channels: [usize; 2], taps: &Tensor, bias: Option<&Tensor>) -> Result<Kernel> {
        #[cfg(feature = "cuda")]
        if crate::cuda::takes(taps) {
            return Ok(Kernel::Tiles(ConvTiles::new(taps, [3; 3], bias)?));
        }
        Ok(Kernel::Parts(Self::parts(channels, taps, bias)?))
    }

    /// Convolutions with the voxels of the kernel that one of eight output voxels reads.
    ///
    /// # Shapes
    /// - `taps`: `[out, in, 27]`
    fn parts(
        [input, out]: [usize; 2],
        taps: &Tensor,
        bias: Option<&Tensor>,
    ) -> Result<Vec<Conv3d>> {
        let parts = (0..8usize).map(|part| {
            let (kernel, chosen) = DoublingWeights::part(part);
            let chosen: Vec<u32> = chosen.into_iter().map(|tap| tap as u32).collect();
            let taps = taps.index_select(&Tensor::new(chosen, taps.device())?, 2)?;
            let config = Conv3dConfig::new(input, out, kernel);
            Conv3d::from_taps(config, &taps, bias.cloned())
        });
        parts.collect()
    }

    /// # Shapes
    /// - `x`: `[B, in, D, H, W]`    - returns: `[B, out, 2 D, 2 H, 2 W]`
    ///
    /// # Errors
    /// When the channels differ from the weight's.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_then_add(x, None)
    }

    /// The sum of the convolution and `residual`, on a CPU without a pass over memory of its own.
    ///
    /// # Shapes
    /// - `x`: `[B, in, D, H, W]`    - `residual`, returns: `[B, out, 2 D, 2 H, 2 W]`
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and when the residual has another shape than the output.
    pub fn forward_add(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        self.forward_then_add(x, Some(residual))
    }

    fn forward_then_add(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        let (b, _, d, h, w) = x.dims5()?;
        let y = match &self.kernel {
            Kernel::Absent => bail!("the weights of a convolution were not loaded"),
            Kernel::Packed(weights) => return self.packed(weights, x, residual),
            Kernel::Parts(parts) => {
                let parts = parts.iter().map(|part| part.convolve(x, [d, h, w]));
                let y = Tensor::stack(&parts.collect::<Result<Vec<_>>>()?, 5)?;
                let out = y.dim(1)?;
                let y = y.reshape(vec![b, out, d, h, w, 2, 2, 2])?;
                let y = y.permute(vec![0, 1, 2, 5, 3, 6, 4, 7])?;
                y.reshape((b, out, 2 * d, 2 * h, 2 * w))?
            }
            #[cfg(feature = "cuda")]
            Kernel::Tiles(tiles) => {
                let (input, output) = ([d, h, w], [2 * d, 2 * h, 2 * w]);
                let geometry = ConvGeometry { input, output, stride: [2; 3], padding: [1; 3] };
                tiles.forward(x, geometry, true)?
            }
        };
        match residual {
            Some(residual) => add(&y, residual),
            None => Ok(y),
        }
    }

    fn packed(
        &self,
        weights: &DoublingWeights,
        x: &Tensor,
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (b, c, d, h, w) = x.dims5()?;
        let (input, out) = (weights.in_channels(), weights.out_channels());
        if c != input {
            bail!("a convolution of {input} channels got an input of shape {:?}", x.dims())
        }
        let shape = [b, out, 2 * d, 2 * h, 2 * w];
        if let Some(residual) = residual.filter(|residual| residual.dims() != shape) {
            bail!("a residual of shape {:?} for an output of {shape:?}", residual.dims())
        }
        let bias = match &self.bias {
            Some(bias) => Some(bias.to_dtype(DType::F32)?.to_vec1::<f32>()?),
            None => None,
        };
        let forward = |x: &[f32], residual: Option<&[f32]>| {
            weights.forward(x, [d, h, w], bias.as_deref(), residual)
        };
        let output = [out, 2 * d, 2 * h, 2 * w];
        let residual = residual.map(|residual| residual.to_dtype(DType::F32)).transpose()?;
        let op = EachVolume { name: "conv-transpose3d", output, forward };
        op.apply(&x.to_dtype(DType::F32)?, residual.as_ref())?.to_dtype(x.dtype())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;
    use candle_nn::{VarBuilder, VarMap};

    use super::*;
    use crate::testing::{assert_close, device, gap, random, wave};

    // F.conv_transpose3d(wave([1, 2, 2, 1, 2], .7), wave([2, 1, 3, 3, 3], .3), wave([1], 1.) + .5,
    //                    stride=2, padding=1, output_padding=1)
    #[test]
    fn a_doubling_convolution_equals_pytorchs() -> Result<()> {
        let bias = (wave(&[1], 1.0)? + 0.5)?;
        let conv = ConvTranspose3d::new(&wave(&[2, 1, 3, 3, 3], 0.3)?, Some(&bias))?;
        let y = conv.forward(&wave(&[1, 2, 2, 1, 2], 0.7)?)?;
        assert_eq!(y.dims(), [1, 1, 4, 2, 4]);
        assert_close(
            &y,
            &[
                0.320_254_45,
                0.394_032_06,
                0.245_149_67,
                0.030_852_795,
                0.609_700_1,
                0.056_801_02,
                -0.256_619_45,
                -0.304_115_65,
                1.593_321,
                1.796_143,
                1.086_301,
                1.676_846,
                1.996_74,
                3.530_688,
                2.499_202,
                2.657_555,
                0.289_905,
                0.237_157_3,
                0.433_471_3,
                0.006_260_395,
                -0.767_088_9,
                -1.805_227,
                -0.681_626_8,
                -0.880_856,
                0.069_875_9,
                -0.430_950_94,
                -0.061_980_844,
                0.360_437_6,
                1.330_436,
                1.945_685,
                1.203_828,
                1.549_461,
            ],
            1e-5,
        )
    }

    #[test]
    fn a_packed_kernel_and_its_eight_parts_agree_with_and_without_a_residual() -> Result<()> {
        let (b, input, out, [d, h, w]) = (2, 5, 6, [3, 2, 4]);
        let x = random(0.0, 1.0, (b, input, d, h, w))?;
        let weight = random(0.0, 1.0, (input, out, 3, 3, 3))?;
        let conv = ConvTranspose3d::new(&weight, None)?;
        let y = conv.forward(&x)?;
        let cpu = |t: &Tensor| t.to_device(&candle_core::Device::Cpu);
        let taps = cpu(&weight)?.transpose(0, 1)?.contiguous()?.reshape((out, input, 27))?;
        let kernel = Kernel::Parts(ConvTranspose3d::parts([input, out], &taps, None)?);
        let by_parts = ConvTranspose3d { kernel, bias: None };
        assert!(gap(&by_parts.forward(&cpu(&x)?)?, &y)? < 1e-5);
        let residual = random(0.0, 1.0, y.shape())?;
        let sum = add(&y, &residual)?;
        assert!(gap(&conv.forward_add(&x, &residual)?, &sum)? < 1e-6);
        assert!(gap(&by_parts.forward_add(&cpu(&x)?, &cpu(&residual)?)?, &sum)? < 1e-5);
        assert!(conv.forward_add(&x, &x).is_err());
        for half in [DType::F16, DType::BF16] {
            let close = conv.forward(&x.to_dtype(half)?)?;
            assert!(close.dtype() == half && gap(&close, &y)? < 0.2, "{half:?}");
        }
        Ok(())
    }

    #[test]
    fn wrong_shapes_are_errors() -> Result<()> {
        assert!(ConvTranspose3d::new(&wave(&[2, 1, 2, 2, 2], 0.3)?, None).is_err());
        assert!(ConvTranspose3d::new(&wave(&[2, 27], 0.3)?, None).is_err());
        let conv = ConvTranspose3d::new(&wave(&[2, 1, 3, 3, 3], 0.3)?, None)?;
        assert!(conv.forward(&wave(&[1, 3, 2, 2, 2], 0.3)?).is_err());
        assert!(conv.forward(&wave(&[2, 2, 2, 2], 0.3)?).is_err());
        let weights: Weights =
            VarBuilder::from_varmap(&VarMap::new(), DType::F32, &device()?).into();
        let read = conv_transpose3d(2, 3, weights.pp("a"))?;
        assert_eq!(read.forward(&wave(&[1, 2, 2, 2, 2], 0.3)?)?.dims(), [1, 3, 4, 4, 4]);
        let read = conv_transpose3d_no_bias(2, 3, weights.pp("b"))?;
        assert_eq!(read.forward(&wave(&[1, 2, 2, 2, 2], 0.3)?)?.dims(), [1, 3, 4, 4, 4]);
        Ok(())
    }
}
