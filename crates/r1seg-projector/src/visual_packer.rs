//! HSENet's visual packer: windows of the patch grid, each packed into one token. Port of
//! `VisualPacker_3d_phi_v3` (`LaMed/src/model/multimodal_projector/builder.py`, HSENet @c7198f3).
//! Keys: `resolution_attention`.

use candle_core::{Result, Tensor};
use r1seg_nn::{CrossAttention, Weights};

/// The mean of each window of patches, after it has looked at all of them.
#[derive(Debug, Clone)]
pub(crate) struct VisualPacker {
    attention: CrossAttention,
    grid: [usize; 3],
    window: [usize; 3],
}

impl VisualPacker {
    /// Loads layers of `width` from `weights`, the prefix of the projector; `window` divides `grid`.
    ///
    /// # Errors
    /// When a tensor is missing or misshaped.
    pub(crate) fn new(
        width: usize,
        grid: [usize; 3],
        window: [usize; 3],
        weights: &Weights,
    ) -> Result<Self> {
        let attention = CrossAttention::new(width, &weights.pp("resolution_attention"))?;
        Ok(Self { attention, grid, window })
    }

    /// # Shapes
    /// - `patches`: `[B, N, E]`    - returns: `[B, n, E]`, windows depth-major
    pub(crate) fn forward(&self, patches: &Tensor) -> Result<Tensor> {
        let groups = self.windows(patches)?;
        let means = groups.mean(2)?;
        self.attention.forward_grouped(&means, &groups)
    }

    /// # Shapes
    /// - `patches`: `[B, N, E]`    - returns: `[B, n, N / n, E]`
    fn windows(&self, patches: &Tensor) -> Result<Tensor> {
        let (b, n, e) = patches.dims3()?;
        let [d, h, w] = self.window;
        let [gd, gh, gw] = [self.grid[0] / d, self.grid[1] / h, self.grid[2] / w];
        patches
            .contiguous()?
            .reshape(vec![b, gd, d, gh, h, gw, w, e])?
            .permute(vec![0, 1, 3, 5, 2, 4, 6, 7])?
            .contiguous()?
            .reshape((b, gd * gh * gw, n / (gd * gh * gw), e))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use candle_nn::{VarBuilder, VarMap};

    use super::*;

    #[test]
    fn a_window_holds_the_patches_that_lie_in_it() -> Result<()> {
        let weights = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu).into();
        let packer = VisualPacker::new(1, [2, 4, 6], [1, 2, 3], &weights)?;
        let patches = Tensor::arange(0f32, 48., &Device::Cpu)?.reshape((1, 48, 1))?;
        let windows = packer.windows(&patches)?.reshape((8, 6))?.to_vec2::<f32>()?;
        assert_eq!(windows[0], [0., 1., 2., 6., 7., 8.]);
        assert_eq!(windows[1], [3., 4., 5., 9., 10., 11.]);
        assert_eq!(windows[2], [12., 13., 14., 18., 19., 20.]);
        assert_eq!(windows[7], [39., 40., 41., 45., 46., 47.]);
        Ok(())
    }
}
