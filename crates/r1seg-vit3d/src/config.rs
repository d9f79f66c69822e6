use crate::BlockConfig;

/// Widths of a [`Vit3d`](crate::Vit3d).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vit3dConfig {
    /// Size of the input volume in voxels, `[D, H, W]`.
    pub image_size: [usize; 3],
    /// Size of a patch in voxels, `[D, H, W]`.
    pub patch_size: [usize; 3],
    /// Channels of the input volume.
    pub in_channels: usize,
    /// Width of a token.
    pub hidden_size: usize,
    /// Width between the two layers of a block's MLP.
    pub mlp_dim: usize,
    /// Number of blocks.
    pub num_layers: usize,
    /// Attention heads per block.
    pub num_heads: usize,
    /// Whether a class token precedes the patches.
    pub cls_token: bool,
    /// Whether patches are scaled by what slices of the volume make of them ([`SliceGuide`](crate::SliceGuide)).
    pub slice_guided: bool,
}

impl Vit3dConfig {
    pub(crate) fn block(&self) -> BlockConfig {
        BlockConfig::monai(self.hidden_size, self.mlp_dim, self.num_heads)
    }

    /// Patches per axis, `[D, H, W]`.
    pub fn grid(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.image_size[axis] / self.patch_size[axis].max(1))
    }

    /// Number of patches, `N`.
    pub fn num_patches(&self) -> usize {
        self.grid().iter().product()
    }

    /// Bytes of the largest activations of a pass, in f32. Attention scores are never materialized.
    pub fn working_bytes(&self) -> u64 {
        activation_bytes(self.num_patches(), self.hidden_size, self.mlp_dim)
    }

    /// Says what does not fit, in the terms of the configuration.
    ///
    /// # Errors
    /// The first field that cannot be used, with its value.
    pub fn validate(&self) -> Result<(), String> {
        check_patches(self.patch_size, self.image_size)?;
        check_widths(self.hidden_size, self.num_heads, &[self.mlp_dim, self.in_channels])
    }
}

/// Whether patches fill the image.
pub(crate) fn check_patches(patch_size: [usize; 3], image_size: [usize; 3]) -> Result<(), String> {
    for (image, patch) in image_size.into_iter().zip(patch_size) {
        if patch == 0 || image == 0 || !image.is_multiple_of(patch) {
            return Err(format!(
                "patch_size {patch_size:?} does not divide the image size {image_size:?}"
            ));
        }
    }
    Ok(())
}

/// Whether heads share the width, and no width is zero.
pub(crate) fn check_widths(
    hidden_size: usize,
    num_heads: usize,
    others: &[usize],
) -> Result<(), String> {
    if num_heads == 0 || !hidden_size.is_multiple_of(num_heads) {
        return Err(format!(
            "the width {hidden_size} of the vision transformer is not divisible by its {num_heads} heads"
        ));
    }
    if hidden_size == 0 || others.contains(&0) {
        return Err("a width of the vision transformer is zero".to_string());
    }
    Ok(())
}

/// Bytes of the largest activations of a pass, in f32, without attention scores.
pub(crate) fn activation_bytes(patches: usize, hidden_size: usize, mlp_dim: usize) -> u64 {
    let widths = mlp_dim.saturating_mul(2).saturating_add(hidden_size.saturating_mul(8));
    floats(&[patches, widths])
}

/// Bytes of so many floats along each axis.
pub(crate) fn floats(sizes: &[usize]) -> u64 {
    sizes.iter().fold(4u64, |n, size| n.saturating_mul(*size as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(patches: usize) -> Vit3dConfig {
        Vit3dConfig {
            image_size: [patches, 1, 1],
            patch_size: [1, 1, 1],
            in_channels: 1,
            hidden_size: 12,
            mlp_dim: 12,
            num_layers: 1,
            num_heads: 12,
            cls_token: false,
            slice_guided: false,
        }
    }

    #[test]
    fn activations_grow_with_the_patches_and_never_overflow() {
        assert_eq!(config(64).working_bytes(), 4 * 64 * (2 * 12 + 8 * 12));
        let absurd = Vit3dConfig { mlp_dim: usize::MAX, ..config(usize::MAX) };
        assert_eq!(absurd.working_bytes(), u64::MAX);
    }
}
