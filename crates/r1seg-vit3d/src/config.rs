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
}

impl Vit3dConfig {
    /// Patches per axis, `[D, H, W]`.
    pub fn grid(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.image_size[axis] / self.patch_size[axis].max(1))
    }

    /// Number of patches, `N`.
    pub fn num_patches(&self) -> usize {
        self.grid().iter().product()
    }

    /// Says what does not fit, in the terms of the configuration.
    ///
    /// # Errors
    /// The first field that cannot be used, with its value.
    pub fn validate(&self) -> Result<(), String> {
        for axis in 0..3 {
            let (image, patch) = (self.image_size[axis], self.patch_size[axis]);
            if patch == 0 || image == 0 || !image.is_multiple_of(patch) {
                return Err(format!(
                    "patch_size {:?} does not divide the image size {:?}",
                    self.patch_size, self.image_size
                ));
            }
        }
        if self.num_heads == 0 || !self.hidden_size.is_multiple_of(self.num_heads) {
            return Err(format!(
                "the width {} of the vision transformer is not divisible by its {} heads",
                self.hidden_size, self.num_heads
            ));
        }
        if self.hidden_size == 0 || self.mlp_dim == 0 || self.in_channels == 0 {
            return Err("a width of the vision transformer is zero".to_string());
        }
        Ok(())
    }
}
