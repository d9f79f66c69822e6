use crate::TransformerConfig;

/// Sizes of a [`PointHead`](crate::PointHead), and which classes it knows. The default is the published one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PointHeadConfig {
    /// Width of the features, `F`.
    pub feature_size: usize,
    /// Clicks on classes above this one mark an object of no known class.
    pub last_supported: usize,
}

impl Default for PointHeadConfig {
    fn default() -> Self {
        Self { feature_size: 48, last_supported: 132 }
    }
}

impl PointHeadConfig {
    pub(super) fn transformer(&self) -> TransformerConfig {
        TransformerConfig {
            dim: self.feature_size,
            depth: 2,
            heads: 4,
            mlp_dim: 512,
            attention_downsample: 2,
            mlp_names: TransformerConfig::VISTA3D_MLP,
        }
    }

    /// Whether clicks on a class are those of an unknown one.
    pub fn is_zero_shot(&self, class: usize) -> bool {
        class > self.last_supported
    }

    /// Says what does not fit, in the terms of the configuration.
    ///
    /// # Errors
    /// When heads cannot share the width.
    pub fn validate(&self) -> Result<(), String> {
        let TransformerConfig { heads, attention_downsample, .. } = self.transformer();
        let (f, step) = (self.feature_size, heads * attention_downsample);
        if f == 0 || !f.is_multiple_of(step) {
            return Err(format!(
                "feature_size {f} is not a multiple of {step}, as the point head needs"
            ));
        }
        Ok(())
    }

    /// Bytes of the tensors that are alive at the peak of a pass over a window of `[D, H, W]` voxels, in
    /// f32, without weights, the features themselves and the scratch memory of convolutions.
    ///
    /// With `V` voxels and `M = 4 F V` it is `9/4 M + 8 V objects`: the doubled grid and the norm of it, two
    /// maps of an eighth of it (the low features and their positions), and the logits, which are joined at
    /// the end.
    pub fn working_bytes(&self, window: [usize; 3], objects: usize) -> u64 {
        let voxels = window.iter().fold(4u64, |n, side| n.saturating_mul(*side as u64));
        let map = voxels.saturating_mul(self.feature_size as u64);
        let logits = voxels.saturating_mul(2).saturating_mul(objects as u64);
        map.saturating_mul(2).saturating_add(map / 4).saturating_add(logits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_that_does_not_fit_says_why() {
        let config = PointHeadConfig::default();
        assert_eq!(config.validate(), Ok(()));
        assert!(!config.is_zero_shot(132) && config.is_zero_shot(133));
        for feature_size in [0, 12] {
            let refused = PointHeadConfig { feature_size, ..config }.validate();
            assert!(refused.is_err_and(|e| e.contains("multiple of 8")));
        }
        let map = 4 * 48 * 128 * 128 * 128;
        assert_eq!(config.working_bytes([128; 3], 3), map * 9 / 4 + map / 8);
        assert_eq!(config.working_bytes([usize::MAX; 3], 1), u64::MAX);
    }
}
