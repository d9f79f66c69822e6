use crate::config::{activation_bytes, check_patches, check_widths};

/// Sizes of a [`SamVit`](crate::SamVit), equal along all axes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SamVitConfig {
    /// Size of the input volume in voxels.
    pub image_size: usize,
    /// Size of a patch in voxels.
    pub patch_size: usize,
    /// Width of a token.
    pub hidden_size: usize,
    /// Width between the two layers of a block's MLP.
    pub mlp_dim: usize,
    /// Number of blocks.
    pub num_layers: usize,
    /// Attention heads per block.
    pub num_heads: usize,
    /// Size of the windows in which blocks attend, in patches.
    pub window_size: usize,
    /// Blocks that attend to the whole grid, from 0.
    pub global_blocks: Vec<usize>,
    /// Channels of the image embedding.
    pub out_channels: usize,
}

impl SamVitConfig {
    /// Patches per axis, `[D, H, W]`.
    pub fn grid(&self) -> [usize; 3] {
        [self.side(); 3]
    }

    /// Number of patches, `N`.
    pub fn num_patches(&self) -> usize {
        cube(self.side())
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
        check_patches([self.patch_size; 3], [self.image_size; 3])?;
        check_widths(self.hidden_size, self.num_heads, &[self.mlp_dim, self.out_channels])?;
        if self.window_size == 0 {
            return Err("the windows of the vision transformer are empty".to_string());
        }
        if let Some(block) = self.global_blocks.iter().find(|block| **block >= self.num_layers) {
            return Err(format!(
                "block {block} cannot attend to the whole grid: the vision transformer has {} blocks",
                self.num_layers
            ));
        }
        Ok(())
    }

    /// Patches along an axis.
    pub(super) fn side(&self) -> usize {
        self.image_size / self.patch_size.max(1)
    }

    /// Size of the window in which a block attends.
    pub(super) fn window(&self, block: usize) -> usize {
        if self.global_blocks.contains(&block) { self.side() } else { self.window_size }
    }
}

fn cube(side: usize) -> usize {
    side.saturating_mul(side).saturating_mul(side)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> SamVitConfig {
        SamVitConfig {
            image_size: 128,
            patch_size: 16,
            hidden_size: 768,
            mlp_dim: 3072,
            num_layers: 12,
            num_heads: 12,
            window_size: 14,
            global_blocks: vec![2, 5, 8, 11],
            out_channels: 384,
        }
    }

    #[test]
    fn memory_counts_what_blocks_hold_at_once() {
        let config = full();
        assert_eq!(config.grid(), [8; 3]);
        assert_eq!(config.working_bytes(), 4 * 512 * (2 * 3072 + 8 * 768));
        let absurd = SamVitConfig { image_size: usize::MAX, patch_size: 1, ..full() };
        assert_eq!(absurd.working_bytes(), u64::MAX);
    }

    #[test]
    fn a_configuration_that_does_not_fit_names_its_fields() {
        assert_eq!(full().validate(), Ok(()));
        for (config, named) in [
            (SamVitConfig { patch_size: 15, ..full() }, "patch_size"),
            (SamVitConfig { num_heads: 5, ..full() }, "5 heads"),
            (SamVitConfig { out_channels: 0, ..full() }, "zero"),
            (SamVitConfig { window_size: 0, ..full() }, "windows"),
            (SamVitConfig { global_blocks: vec![2, 12], ..full() }, "block 12"),
        ] {
            assert!(config.validate().is_err_and(|e| e.contains(named)), "{named}");
        }
    }
}
