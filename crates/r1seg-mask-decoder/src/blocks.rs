//! The order in which low-resolution masks are computed: each patch's eight children follow it, and
//! theirs follow them, so that no layer between patches and masks has to regroup its voxels.

use candle_core::{Result, Tensor, bail};

/// The order of the axes of `[d, 2.., h, 2.., w, 2..]`, with a 2 for each level, in blocks: patches,
/// their children, children of these. `first` axes precede them.
pub(crate) fn block_axes(levels: usize, first: usize) -> Vec<usize> {
    (0..=levels).flat_map(|level| (0..3).map(move |a| first + a * (levels + 1) + level)).collect()
}

/// # Shapes
/// - `mask`: `[B, 1, n gd, n gh, n gw]`, `n = 2^levels`
/// - returns: `[B, n³ gd gh gw, 1]`
///
/// # Errors
/// When the levels do not divide an axis.
pub(crate) fn to_blocks(mask: &Tensor, levels: usize) -> Result<Tensor> {
    let (b, _, d, h, w) = mask.dims5()?;
    let n = 1 << levels;
    if [d, h, w].iter().any(|side| !side.is_multiple_of(n)) {
        bail!("a mask of {d}x{h}x{w} cells has no blocks of {n} along an axis")
    }
    let mut dims = vec![b];
    for side in [d, h, w] {
        dims.push(side / n);
        dims.extend(vec![2; levels]);
    }
    let mut axes = vec![0];
    axes.extend(block_axes(levels, 1));
    mask.reshape(dims)?.permute(axes)?.reshape((b, d * h * w, 1))
}

/// The reverse of [`to_blocks`], over patches of `grid`.
///
/// # Shapes
/// - `blocks`: `[B, n³ gd gh gw]`    - returns: `[B, 1, n gd, n gh, n gw]`, `n = 2^levels`
pub(crate) fn to_grid(blocks: &Tensor, grid: [usize; 3], levels: usize) -> Result<Tensor> {
    let (b, [gd, gh, gw], n) = (blocks.dim(0)?, grid, 1 << levels);
    if blocks.elem_count() != b * n * n * n * gd * gh * gw {
        bail!("{:?} logits of {gd}x{gh}x{gw} patches", blocks.dims())
    }
    let mut dims = vec![b, gd, gh, gw];
    dims.extend(vec![2; 3 * levels]);
    // In blocks the axis of a level is at `1 + 3 * level`.
    let mut axes = vec![0];
    axes.extend((0..3).flat_map(|axis| (0..=levels).map(move |level| 1 + axis + 3 * level)));
    blocks.reshape(dims)?.permute(axes)?.reshape((b, 1, n * gd, n * gh, n * gw))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn a_mask_in_blocks_and_back_is_itself() -> Result<()> {
        let mask = Tensor::arange(0f32, 2. * 8. * 4. * 12., &Device::Cpu)?;
        let mask = mask.reshape((2, 1, 8, 4, 12))?;
        let blocks = to_blocks(&mask, 2)?;
        // Depth, height and width of the first child, then the second child along the width.
        let first = blocks.get(0)?.flatten_all()?.to_vec1::<f32>()?;
        assert_eq!(first[..10], [0., 1., 12., 13., 48., 49., 60., 61., 2., 3.]);
        assert_eq!(first[64], 4.);
        for levels in 0..=2 {
            let n = 1 << levels;
            let back = to_grid(&to_blocks(&mask, levels)?, [8 / n, 4 / n, 12 / n], levels)?;
            assert_eq!(
                back.flatten_all()?.to_vec1::<f32>()?,
                mask.flatten_all()?.to_vec1::<f32>()?
            );
        }
        assert!(to_blocks(&mask, 3).is_err());
        assert!(to_grid(&blocks, [2, 1, 2], 2).is_err());
        Ok(())
    }
}
