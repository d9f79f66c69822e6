//! 3D convolution with any kernel, stride and padding.

use std::sync::Arc;

use candle_core::{DType, Result, Tensor, bail};
use r1seg_kernels::{ConvFusion, ConvGeometry, ConvNorm, ConvWeights};

use super::fused::EachVolume;
use super::taps::sum_of_taps;
use crate::activation::add;
use crate::by_instance::ByInstance;
#[cfg(feature = "cuda")]
use crate::cuda::ConvTiles;
use crate::norm3d::InstanceNorm3d;
use crate::weights::{Rearranged, Weights};

/// Sizes of a [`Conv3d`], per axis `[D, H, W]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv3dConfig {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Voxels that one output voxel reads.
    pub kernel: [usize; 3],
    /// From one output voxel to the next, in input voxels.
    pub stride: [usize; 3],
    /// Zeros on both sides of the input.
    pub padding: [usize; 3],
}

impl Conv3dConfig {
    /// With a stride of one and no padding.
    pub fn new(in_channels: usize, out_channels: usize, kernel: [usize; 3]) -> Self {
        Self { in_channels, out_channels, kernel, stride: [1; 3], padding: [0; 3] }
    }

    /// Sets the stride.
    #[must_use]
    pub fn with_stride(self, stride: [usize; 3]) -> Self {
        Self { stride, ..self }
    }

    /// Sets the padding.
    #[must_use]
    pub fn with_padding(self, padding: [usize; 3]) -> Self {
        Self { padding, ..self }
    }

    fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Size of the output for an input of this size.
    fn output(&self, input: [usize; 3]) -> Result<[usize; 3]> {
        let mut output = [0; 3];
        for axis in 0..3 {
            let padded = input[axis] + 2 * self.padding[axis];
            let Some(room) = padded.checked_sub(self.kernel[axis]) else {
                bail!("a kernel of {:?} is larger than a grid of {input:?}", self.kernel)
            };
            output[axis] = room / self.stride[axis] + 1;
        }
        Ok(output)
    }
}

/// `torch.nn.Conv3d` without groups or dilation, with zeros as padding.
#[derive(Debug, Clone)]
pub struct Conv3d {
    config: Conv3dConfig,
    kernel: Kernel,
    bias: Option<Tensor>,
}

#[derive(Debug, Clone)]
pub(super) enum Kernel {
    /// On a CPU.
    Packed(Arc<ConvWeights>),
    /// On a CUDA device, with the bias.
    #[cfg(feature = "cuda")]
    Tiles(ConvTiles),
    /// `[kd * kh * kw, out, in]`
    Taps(Tensor),
    /// There are no numbers, and using it is an error.
    Absent,
}

impl Kernel {
    #[cfg_attr(not(feature = "cuda"), allow(unused_variables, reason = "CUDA alone needs them"))]
    fn on_gpu(taps: &Tensor, kernel: [usize; 3], bias: Option<&Tensor>) -> Result<Self> {
        #[cfg(feature = "cuda")]
        if crate::cuda::takes(taps) {
            return Ok(Self::Tiles(ConvTiles::new(taps, kernel, bias)?));
        }
        Ok(Self::Taps(taps.permute((2, 0, 1))?.contiguous()?))
    }
}

/// A [`Conv3d`] from the keys `weight` (`[out, in, kd, kh, kw]`) and `bias`.
///
/// # Errors
/// When a tensor is missing or misshaped, or a kernel or stride has a size of zero.
pub fn conv3d(config: Conv3dConfig, weights: Weights) -> Result<Conv3d> {
    let bias = weights.get(config.out_channels, "bias")?;
    Conv3d::from_taps(config, &taps(&config, &weights)?, Some(bias))
}

/// A [`Conv3d`] from the key `weight` alone.
///
/// # Errors
/// As [`conv3d`].
pub fn conv3d_no_bias(config: Conv3dConfig, weights: Weights) -> Result<Conv3d> {
    Conv3d::from_taps(config, &taps(&config, &weights)?, None)
}

/// `[out, in, kd * kh * kw]`
fn taps(config: &Conv3dConfig, weights: &Weights) -> Result<Tensor> {
    let &Conv3dConfig { in_channels, out_channels, kernel: [kd, kh, kw], .. } = config;
    let used = (out_channels, in_channels, config.taps());
    let stored = (out_channels, in_channels, kd, kh, kw);
    weights.factor_as(&Rearranged::new(stored, used), "weight", |t| t.reshape(used))
}

impl Conv3d {
    /// # Shapes
    /// - `weight`: `[out, in, kd, kh, kw]`    - `bias`: `[out]`
    ///
    /// # Errors
    /// When a tensor has another shape, or a kernel or stride has a size of zero.
    pub fn new(config: Conv3dConfig, weight: &Tensor, bias: Option<Tensor>) -> Result<Self> {
        let Conv3dConfig { in_channels, out_channels, kernel: [kd, kh, kw], .. } = config;
        if weight.dims() != [out_channels, in_channels, kd, kh, kw] {
            bail!(
                "the weight of a convolution is of shape {:?}, expected {config:?}",
                weight.dims()
            )
        }
        let taps = weight.reshape((out_channels, in_channels, config.taps()))?;
        Self::from_taps(config, &taps, bias)
    }

    /// # Shapes
    /// - `taps`: `[out, in, kd * kh * kw]`; any other shape stands for weights that are not there
    pub(super) fn from_taps(
        config: Conv3dConfig,
        taps: &Tensor,
        bias: Option<Tensor>,
    ) -> Result<Self> {
        let Conv3dConfig { in_channels, out_channels, kernel, stride, .. } = config;
        if kernel.contains(&0) || stride.contains(&0) {
            bail!("a convolution with a kernel of {kernel:?} and a stride of {stride:?}")
        }
        let kernel = if taps.dims() != [out_channels, in_channels, config.taps()] {
            Kernel::Absent
        } else if taps.device().is_cpu() {
            let numbers = taps.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
            let Conv3dConfig { stride, padding, .. } = config;
            let channels = [out_channels, in_channels];
            match ConvWeights::for_geometry(&numbers, channels, kernel, stride, padding) {
                Some(packed) => Kernel::Packed(Arc::new(packed)),
                None => Kernel::Absent,
            }
        } else {
            Kernel::on_gpu(taps, kernel, bias.as_ref())?
        };
        Ok(Self { config, kernel, bias })
    }

    /// # Shapes
    /// - `x`: `[B, in, D, H, W]`
    /// - returns: `[B, out, D', H', W']`, `D' = (D + 2 padding - kernel) / stride + 1`
    ///
    /// # Errors
    /// When the channels differ from the weight's, or the kernel is larger than the padded input.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, _, d, h, w) = x.dims5()?;
        self.convolve(x, self.config.output([d, h, w])?)
    }

    /// # Shapes
    /// - `x`: `[B, in, D, H, W]`    - `residual`, returns: `[B, out, D', H', W']`, all of them in f32
    fn packed(
        &self,
        weights: &ConvWeights,
        geometry: ConvGeometry,
        x: &Tensor,
        norm: Option<(&ByInstance, f32)>,
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        let bias = match &self.bias {
            Some(bias) => Some(bias.to_dtype(DType::F32)?.to_vec1::<f32>()?),
            None => None,
        };
        let [d, h, w] = geometry.output;
        let forward = |x: &[f32], residual: Option<&[f32]>| {
            let norms = norm.map(|(norm, slope)| (norm.measure(x), slope));
            let norm = norms.as_ref().map(|(channels, slope)| ConvNorm { channels, slope: *slope });
            weights.forward(x, geometry, ConvFusion { norm, bias: bias.as_deref(), residual })
        };
        let output = [self.config.out_channels, d, h, w];
        EachVolume { name: "conv3d", output, forward }.apply(x, residual)
    }

    /// The convolution of `norm` of `x` with a leaky ReLU behind it, plus `residual`. On a CPU neither
    /// takes a pass over memory of its own, and the norm no memory.
    ///
    /// # Shapes
    /// - `x`: `[B, in, D, H, W]`    - `residual`: as what is returned
    /// - returns: as [`forward`](Self::forward)
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and when the channels differ from the norm's or the residual has
    /// another shape than the output.
    pub fn forward_normalized(
        &self,
        x: &Tensor,
        norm: &InstanceNorm3d,
        slope: f32,
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (b, c, d, h, w) = x.dims5()?;
        let Conv3dConfig { in_channels, out_channels, stride, padding, .. } = self.config;
        let [od, oh, ow] = self.config.output([d, h, w])?;
        let shape = [b, out_channels, od, oh, ow];
        if let Some(residual) = residual.filter(|residual| residual.dims() != shape) {
            bail!("a residual of shape {:?} for an output of {shape:?}", residual.dims())
        }
        let narrow = |t: &Tensor| t.dtype() == DType::F32;
        if let Kernel::Packed(weights) = &self.kernel
            && c == in_channels
            && x.elem_count() > 0
            && narrow(x)
            && residual.is_none_or(narrow)
        {
            let geometry = ConvGeometry { input: [d, h, w], output: [od, oh, ow], stride, padding };
            let norm = norm.by_instance(x, None)?;
            return self.packed(weights, geometry, x, Some((&norm, slope)), residual);
        }
        let y = self.forward(&norm.forward_leaky_relu(x, slope)?)?;
        match residual {
            Some(residual) => add(&y, residual),
            None => Ok(y),
        }
    }

    /// The first output voxels, which may also read beyond the end of the input, where zeros are.
    ///
    /// # Shapes
    /// - `x`: `[B, in, D, H, W]`    - returns: `[B, out, output..]`
    pub(super) fn convolve(&self, x: &Tensor, output: [usize; 3]) -> Result<Tensor> {
        let (_, c, d, h, w) = x.dims5()?;
        let Conv3dConfig { in_channels, stride, padding, .. } = self.config;
        if c != in_channels {
            bail!("a convolution of {in_channels} channels got an input of shape {:?}", x.dims())
        }
        let geometry = ConvGeometry { input: [d, h, w], output, stride, padding };
        match &self.kernel {
            Kernel::Absent => bail!("the weights of a convolution were not loaded"),
            Kernel::Packed(weights) => {
                let x32 = x.to_dtype(DType::F32)?;
                self.packed(weights, geometry, &x32, None, None)?.to_dtype(x.dtype())
            }
            #[cfg(feature = "cuda")]
            Kernel::Tiles(tiles) => tiles.forward(x, geometry, false),
            Kernel::Taps(taps) => {
                let y = sum_of_taps(x, taps, self.config.kernel, geometry)?;
                let y = match &self.bias {
                    Some(bias) => y.broadcast_add(&bias.to_dtype(y.dtype())?.reshape((
                        1,
                        self.config.out_channels,
                        1,
                        1,
                        1,
                    ))?)?,
                    None => y,
                };
                y.to_dtype(x.dtype())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use candle_nn::{VarBuilder, VarMap};

    use super::*;
    use crate::testing::{assert_close, device, gap, random, wave};

    /// The same convolution by products of tensors, on a CPU.
    fn by_taps(conv: &Conv3d, weight: &Tensor) -> Result<Conv3d> {
        let (out, input, taps) = (weight.dim(0)?, weight.dim(1)?, conv.config.taps());
        let weight = weight.to_device(&Device::Cpu)?;
        let taps = weight.reshape((out, input, taps))?.permute((2, 0, 1))?.contiguous()?;
        let bias = conv.bias.as_ref().map(|bias| bias.to_device(&Device::Cpu)).transpose()?;
        Ok(Conv3d { config: conv.config, kernel: Kernel::Taps(taps), bias })
    }

    // def wave(shape, step):
    //     n = torch.Size(shape).numel()
    //     return torch.sin(torch.arange(n, dtype=torch.float64) * step).float().reshape(shape)
    // F.conv3d(wave([1, 3, 4, 5, 3], .7), wave([2, 3, 3, 3, 3], .3), wave([2], 1.), stride=2, padding=1)
    #[test]
    fn a_convolution_equals_pytorchs() -> Result<()> {
        let config = Conv3dConfig::new(3, 2, [3; 3]).with_stride([2; 3]).with_padding([1; 3]);
        let weight = wave(&[2, 3, 3, 3, 3], 0.3)?;
        let conv = Conv3d::new(config, &weight, Some(wave(&[2], 1.0)?))?;
        let x = wave(&[1, 3, 4, 5, 3], 0.7)?;
        let taps = by_taps(&conv, &weight)?;
        for y in [taps.forward(&x.to_device(&Device::Cpu)?)?, conv.forward(&x)?] {
            assert_eq!(y.dims(), [1, 2, 2, 3, 2]);
            assert_close(
                &y,
                &[
                    -2.038_157,
                    -1.260_281,
                    -2.617_707,
                    -4.721_177,
                    -0.979_019_6,
                    0.113_041_67,
                    -0.008_044_004,
                    1.260_954,
                    -3.112_651,
                    -1.150_666,
                    0.080_171_41,
                    0.574_055,
                    -0.266_821,
                    0.828_184_4,
                    0.723_421_1,
                    -2.422_534,
                    1.532_049,
                    2.152_298,
                    0.895_842_9,
                    1.483_013,
                    -6.518_702,
                    -4.991_717,
                    0.918_193_9,
                    0.350_667_8,
                ],
                1e-5,
            )?;
        }
        Ok(())
    }

    #[test]
    fn both_ways_of_convolving_agree_with_f64_in_every_geometry() -> Result<()> {
        for ([inner, out], input, kernel, stride, padding) in [
            ([5, 7], [4, 5, 6], [3; 3], [1; 3], [1; 3]),
            ([20, 70], [5, 3, 18], [3; 3], [1; 3], [1; 3]),
            ([5, 7], [5, 4, 33], [1, 3, 2], [1, 2, 3], [0, 2, 1]),
            ([5, 7], [8, 8, 8], [1; 3], [2; 3], [0; 3]),
            ([5, 7], [16, 8, 16], [7, 4, 7], [4; 3], [3, 0, 3]),
        ] {
            let config = Conv3dConfig::new(inner, out, kernel);
            let config = config.with_stride(stride).with_padding(padding);
            let [kd, kh, kw] = kernel;
            let weight = random(0.0, 1.0, (out, inner, kd, kh, kw))?;
            let bias = random(0.0, 1.0, out)?;
            let [d, h, w] = input;
            let x = random(0.0, 1.0, (2, inner, d, h, w))?;
            let on_cpu = x.to_device(&Device::Cpu)?;
            let conv = Conv3d::new(config, &weight, Some(bias))?;
            let taps = by_taps(&conv, &weight)?;
            let exact = taps.forward(&on_cpu.to_dtype(DType::F64)?)?;
            assert!(gap(&conv.forward(&x)?, &exact)? < 2e-4, "{config:?}");
            assert!(gap(&taps.forward(&on_cpu)?, &exact)? < 2e-4, "{config:?}");
            let half = on_cpu.to_dtype(DType::BF16)?;
            assert_eq!(taps.forward(&half)?.dtype(), DType::BF16);
            for half in [DType::F16, DType::BF16] {
                let y = conv.forward(&x.to_dtype(half)?)?;
                let close = gap(&y, &exact)?;
                assert!(y.dtype() == half && close < 0.5, "{config:?}: {close}");
            }
        }
        Ok(())
    }

    #[test]
    fn wrong_shapes_are_errors_that_name_what_does_not_fit() -> Result<()> {
        let config = Conv3dConfig::new(3, 2, [3; 3]);
        let weight = wave(&[2, 3, 3, 3, 3], 0.3)?;
        let conv = Conv3d::new(config, &weight, None)?;
        let message = |x: &[usize]| -> Result<String> {
            Ok(conv.forward(&wave(x, 1.0)?).err().map(|e| e.to_string()).unwrap_or_default())
        };
        assert!(message(&[1, 2, 4, 4, 4])?.contains("3 channels"));
        assert!(message(&[1, 3, 4, 2, 4])?.contains("larger"));
        assert!(message(&[3, 4, 4, 4])?.contains("rank"));
        assert!(Conv3d::new(config, &wave(&[2, 3, 27], 0.3)?, None).is_err());
        assert!(Conv3d::new(config.with_stride([1, 0, 1]), &weight, None).is_err());
        Ok(())
    }

    #[test]
    fn weights_are_read_by_their_keys_and_absent_ones_are_an_error_when_used() -> Result<()> {
        let weights: Weights =
            VarBuilder::from_varmap(&VarMap::new(), DType::F32, &device()?).into();
        let config = Conv3dConfig::new(2, 4, [3; 3]).with_padding([1; 3]);
        let x = wave(&[1, 2, 3, 3, 3], 0.7)?;
        assert_eq!(conv3d(config, weights.pp("a"))?.forward(&x)?.dims(), [1, 4, 3, 3, 3]);
        let conv = conv3d_no_bias(config, weights.pp("b"))?;
        assert_eq!(conv.forward(&x)?.dims(), [1, 4, 3, 3, 3]);
        let absent =
            Conv3d::from_taps(config, &Tensor::zeros((1, 1, 1), DType::F32, x.device())?, None)?;
        assert!(absent.forward(&x).is_err_and(|e| e.to_string().contains("not loaded")));
        Ok(())
    }
}
