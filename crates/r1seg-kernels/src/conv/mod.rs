//! 3D convolution: any in as many operations as it has, and that of a `3x3x3` neighborhood in a
//! fraction of them.

mod direct;
mod doubling;
mod fusion;
mod transforms;
mod winograd;

use crate::isa::Isa;
use direct::Direct;
pub use doubling::DoublingWeights;
pub use fusion::{ConvFusion, ConvNorm};
use winograd::Winograd;

/// Sizes of a convolution in voxels, each `[D, H, W]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvGeometry {
    /// Of the input.
    pub input: [usize; 3],
    /// Of the output. What it reads behind the input's last voxel is zero.
    pub output: [usize; 3],
    /// From one output voxel to the next, in input voxels.
    pub stride: [usize; 3],
    /// Zeros in front of the input's first voxel.
    pub padding: [usize; 3],
}

/// The weights of a 3D convolution, in the order in which they are multiplied.
#[derive(Clone)]
pub struct ConvWeights {
    form: Form,
    out_channels: usize,
    in_channels: usize,
    kernel: [usize; 3],
}

#[derive(Clone)]
enum Form {
    Direct(Direct),
    /// For a stride and a padding of one and an output of the input's size.
    Winograd(Winograd),
}

impl std::fmt::Debug for ConvWeights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { out_channels, in_channels, kernel, .. } = self;
        write!(f, "ConvWeights({in_channels} -> {out_channels}, {kernel:?})")
    }
}

impl ConvWeights {
    /// Weights for any stride and padding. `None` when they are not as many as their shape says.
    ///
    /// # Shapes
    /// - `weights`: `[out, in, kd, kh, kw]`
    pub fn new(weights: &[f32], channels: [usize; 2], kernel: [usize; 3]) -> Option<Self> {
        let form = |_: &[f32]| Some(Form::Direct(Direct::new(weights, channels, kernel)?));
        Self::of(weights, channels, kernel, form)
    }

    /// As [`new`](Self::new), for calls of [`forward`](Self::forward) with this stride and padding:
    /// those are faster where the kernel is `3x3x3`, both are one and the output is of the input's
    /// size. Calls with others are as valid, and slower than with weights from [`new`](Self::new).
    ///
    /// The faster form takes 16/3 of the weights' memory beside them up to 192 x 192 channels, and
    /// none beside them above. Its error is that of the direct sums. Where a channel of the input has
    /// a number that is not finite, so have the outputs of a whole tile of `2x4x4`.
    pub fn for_geometry(
        weights: &[f32],
        channels: [usize; 2],
        kernel: [usize; 3],
        stride: [usize; 3],
        padding: [usize; 3],
    ) -> Option<Self> {
        if [kernel, stride, padding] != [[3; 3], [1; 3], [1; 3]] || !winograd::pays(channels) {
            return Self::new(weights, channels, kernel);
        }
        Self::winograd(weights, channels, winograd::keeps(channels))
    }

    /// In Winograd's form, with weights transformed ahead or in every call.
    pub(crate) fn winograd(weights: &[f32], channels: [usize; 2], keep: bool) -> Option<Self> {
        let form = |weights: &[f32]| Some(Form::Winograd(Winograd::new(weights, channels, keep)?));
        Self::of(weights, channels, [3; 3], form)
    }

    fn of(
        weights: &[f32],
        channels: [usize; 2],
        kernel: [usize; 3],
        form: impl FnOnce(&[f32]) -> Option<Form>,
    ) -> Option<Self> {
        let mut sizes = channels.iter().chain(&kernel);
        if sizes.try_fold(1usize, |n, size| n.checked_mul(*size))? != weights.len() {
            return None;
        }
        let [out_channels, in_channels] = channels;
        Some(Self { form: form(weights)?, out_channels, in_channels, kernel })
    }

    /// Channels of the input.
    pub fn in_channels(&self) -> usize {
        self.in_channels
    }

    /// Channels of the output.
    pub fn out_channels(&self) -> usize {
        self.out_channels
    }

    /// The convolution with these weights, on rayon's current pool. Results do not depend on its
    /// size.
    ///
    /// # Shapes
    /// - `x`: `[in, D, H, W]`    - returns: `[out, D', H', W']`
    ///
    /// # Panics
    /// When a slice has another length, a stride is zero, or no memory could hold the result.
    pub fn forward(&self, x: &[f32], geometry: ConvGeometry, fusion: ConvFusion<'_>) -> Vec<f32> {
        self.forward_on(Isa::detect(), x, geometry, fusion)
    }

    /// `isa` must be one of this machine.
    pub(crate) fn forward_on(
        &self,
        isa: Isa,
        x: &[f32],
        geometry: ConvGeometry,
        fusion: ConvFusion<'_>,
    ) -> Vec<f32> {
        assert!(isa.is_here(), "this machine has no {isa:?}");
        let length = |channels: usize, size: [usize; 3]| {
            size.iter().try_fold(channels, |n, side| n.checked_mul(*side))
        };
        let ConvGeometry { input, output, stride, padding } = geometry;
        let channels = self.in_channels;
        assert_eq!(Some(x.len()), length(channels, input), "an input of [{channels}, {input:?}]");
        let ConvFusion { norm, bias, residual } = fusion;
        let normed = norm.is_none_or(|norm| norm.channels.len() == channels);
        assert!(normed, "a norm of each of {channels} channels");
        assert!(bias.is_none_or(|bias| bias.len() == self.out_channels), "a bias per channel");
        assert!(!stride.contains(&0), "a stride of zero");
        let voxels = length(self.out_channels, output);
        assert!(voxels.is_some(), "an output of {output:?}");
        assert!(residual.is_none_or(|r| Some(r.len()) == voxels), "a residual as the output");
        // SAFETY: the machine has `isa`.
        unsafe {
            match &self.form {
                Form::Direct(direct) => direct.forward(isa, x, geometry, fusion, Vec::new()),
                Form::Winograd(winograd)
                    if output == input && stride == [1; 3] && padding == [1; 3] =>
                {
                    winograd.forward(isa, x, input, fusion)
                }
                Form::Winograd(winograd) => {
                    let channels = [self.out_channels, self.in_channels];
                    let direct = Direct::new(&winograd.weights(), channels, self.kernel);
                    direct
                        .map_or_else(Vec::new, |d| d.forward(isa, x, geometry, fusion, Vec::new()))
                }
            }
        }
    }
}
