//! The order in which low-resolution masks are computed: each patch's eight children follow it, and
//! theirs follow them, so that no layer between patches and masks has to regroup its voxels.

use candle_core::{Result, Tensor, bail};

/// # Shapes
/// - `mask`: `[B, 1, 4 gd, 4 gh, 4 gw]`    - returns: `[B, 64 gd gh gw, 1]`
pub(crate) fn to_blocks(mask: &Tensor) -> Result<Tensor> {
    let (b, _, d, h, w) = mask.dims5()?;
    let mask = mask.reshape(vec![b, d / 4, 2, 2, h / 4, 2, 2, w / 4, 2, 2])?;
    // Halves of an axis: patches, their children, children of these.
    let blocks = mask.permute(vec![0, 1, 4, 7, 2, 5, 8, 3, 6, 9])?;
    blocks.reshape((b, d * h * w, 1))
}

/// The reverse of [`to_blocks`], over patches of `grid`.
///
/// # Shapes
/// - `blocks`: `[B, 64 gd gh gw]`    - returns: `[B, 1, 4 gd, 4 gh, 4 gw]`
pub(crate) fn to_grid(blocks: &Tensor, grid: [usize; 3]) -> Result<Tensor> {
    let (b, [gd, gh, gw]) = (blocks.dim(0)?, grid);
    if blocks.elem_count() != b * 64 * gd * gh * gw {
        bail!("{:?} logits of {gd}x{gh}x{gw} patches", blocks.dims())
    }
    let blocks = blocks.reshape(vec![b, gd, gh, gw, 2, 2, 2, 2, 2, 2])?;
    let mask = blocks.permute(vec![0, 1, 4, 7, 2, 5, 8, 3, 6, 9])?;
    mask.reshape((b, 1, 4 * gd, 4 * gh, 4 * gw))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn a_mask_in_blocks_and_back_is_itself() -> Result<()> {
        let mask = Tensor::arange(0f32, 2. * 8. * 4. * 12., &Device::Cpu)?;
        let mask = mask.reshape((2, 1, 8, 4, 12))?;
        let blocks = to_blocks(&mask)?;
        // Depth, height and width of the first child, then the second child along the width.
        let first = blocks.get(0)?.flatten_all()?.to_vec1::<f32>()?;
        assert_eq!(first[..10], [0., 1., 12., 13., 48., 49., 60., 61., 2., 3.]);
        assert_eq!(first[64], 4.);
        let back = to_grid(&blocks, [2, 1, 3])?;
        assert_eq!(back.flatten_all()?.to_vec1::<f32>()?, mask.flatten_all()?.to_vec1::<f32>()?);
        Ok(())
    }
}
