//! What a convolution does to numbers as it reads and writes them, without a pass over memory of its own.

use crate::instance_norm::RowNorm;
use crate::simd::Simd;

/// What a convolution takes over from the layers around it.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConvFusion<'a> {
    /// Normalizes what is read. The padding around it stays zero.
    pub norm: Option<ConvNorm<'a>>,
    /// Added to each output channel, `[out]`.
    pub bias: Option<&'a [f32]>,
    /// Added to the output, `[out, D', H', W']`.
    pub residual: Option<&'a [f32]>,
}

/// A norm of the input with a leaky ReLU behind it.
#[derive(Debug, Clone, Copy)]
pub struct ConvNorm<'a> {
    /// Of each input channel.
    pub channels: &'a [RowNorm],
    /// What negative numbers are multiplied by: 0 is a ReLU.
    pub slope: f32,
}

impl ConvNorm<'_> {
    /// A number of a channel.
    #[inline(always)]
    pub(super) fn apply(&self, channel: usize, x: f32) -> f32 {
        let y = self.channels[channel].apply(x);
        if y < 0.0 { y * self.slope } else { y }
    }
}

/// A [`ConvNorm`] of one channel in every lane.
#[derive(Clone, Copy)]
pub(super) struct Normalize<S: Simd> {
    mean: S::V,
    scale: S::V,
    bias: S::V,
    slope: S::V,
}

impl<S: Simd> Normalize<S> {
    /// # Safety
    /// As of [`Simd`].
    #[inline(always)]
    pub(super) unsafe fn new(norm: ConvNorm<'_>, channel: usize) -> Self {
        let RowNorm { mean, scale, bias } = norm.channels[channel];
        // SAFETY: the caller has the instructions.
        unsafe {
            let [mean, scale, bias, slope] =
                [S::splat(mean), S::splat(scale), S::splat(bias), S::splat(norm.slope)];
            Self { mean, scale, bias, slope }
        }
    }

    /// # Safety
    /// As of [`Simd`].
    #[inline(always)]
    pub(super) unsafe fn apply(self, x: S::V) -> S::V {
        let Self { mean, scale, bias, slope } = self;
        // SAFETY: the caller has the instructions.
        unsafe {
            let y = S::fma(S::sub(x, mean), scale, bias);
            S::by_sign(y, S::mul(y, slope), y)
        }
    }
}
