/// Sizes of a [`SegResNet`](crate::SegResNet) and its [`ClassHead`](crate::ClassHead). The default is the
/// published network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegResNetConfig {
    /// Channels of the input volume.
    pub in_channels: usize,
    /// Channels of the first level; each deeper one has twice as many.
    pub init_filters: usize,
    /// Width of the features that the decoders give, `F`.
    pub feature_size: usize,
    /// Residual blocks of each level of the encoder, the finest first. A decoder has one for each level
    /// but the deepest.
    pub blocks_down: Vec<usize>,
    /// Rows of the table of class embeddings.
    pub n_classes: usize,
}

impl Default for SegResNetConfig {
    fn default() -> Self {
        Self {
            in_channels: 1,
            init_filters: 48,
            feature_size: 48,
            blocks_down: vec![1, 2, 2, 4, 4],
            n_classes: 512,
        }
    }
}

/// More halvings than any window has room for.
const MAX_LEVELS: usize = 10;

/// The most channels and blocks that are taken for a network, so that no product of sizes overflows.
const MAX_SIZE: usize = 1 << 16;

impl SegResNetConfig {
    /// Channels of a level, the finest being 0.
    pub(crate) fn channels(&self, level: usize) -> usize {
        self.init_filters << level
    }

    /// The sides of a window are multiples of this many voxels.
    pub fn side_step(&self) -> usize {
        1 << self.blocks_down.len().saturating_sub(1)
    }

    /// Says what does not fit, in the terms of the configuration.
    ///
    /// # Errors
    /// The first field that cannot be used, with its value.
    pub fn validate(&self) -> Result<(), String> {
        for (name, size) in [
            ("in_channels", self.in_channels),
            ("init_filters", self.init_filters),
            ("feature_size", self.feature_size),
            ("n_classes", self.n_classes),
        ] {
            if size == 0 || size > MAX_SIZE {
                return Err(format!("{name} {size} is not between 1 and {MAX_SIZE}"));
            }
        }
        let levels = self.blocks_down.len();
        if levels == 0 || levels > MAX_LEVELS {
            return Err(format!("blocks_down names {levels} levels, not 1 to {MAX_LEVELS}"));
        }
        if let Some(blocks) = self.blocks_down.iter().find(|blocks| **blocks > MAX_SIZE) {
            return Err(format!("blocks_down asks for {blocks} blocks in a level"));
        }
        Ok(())
    }

    /// Says what is wrong with a size of windows, `[D, H, W]` in voxels: every level halves the sides, and
    /// the norms of the deepest one need more than one voxel.
    ///
    /// # Errors
    /// The size, and what its sides have to be.
    pub fn check_window(&self, window: [usize; 3]) -> Result<(), String> {
        let (step, [d, h, w]) = (self.side_step(), window);
        if window.iter().any(|side| *side == 0 || !side.is_multiple_of(step)) {
            return Err(format!(
                "a window of {d} x {h} x {w} voxels, whose sides are not multiples of {step}"
            ));
        }
        if window.iter().all(|side| *side == step) {
            return Err(format!(
                "a window of {d} x {h} x {w} voxels leaves a single voxel at the deepest level, \
                 which has no variance: one side must be at least {}",
                2 * step
            ));
        }
        Ok(())
    }

    /// Bytes of the features of a window of `[D, H, W]` voxels, in f32.
    pub fn feature_bytes(&self, window: [usize; 3]) -> u64 {
        let voxels = window.iter().fold(4u64, |n, side| n.saturating_mul(*side as u64));
        voxels.saturating_mul(self.feature_size as u64)
    }

    /// Bytes of the kernels in f32 on a CPU, whatever they are stored as: those up to 192 channels are kept
    /// once more as Winograd's algorithm reads them, in 16/3 of their size.
    pub fn kernel_bytes(&self) -> u64 {
        const KEPT_TWICE: usize = 192;
        let kernel =
            |first: usize, second: usize| (4 * 27 * first as u64).saturating_mul(second as u64);
        let same = |channels: usize, count: usize| {
            let once = kernel(channels, channels).saturating_mul(count as u64);
            let again = if channels <= KEPT_TWICE { once / 3 * 16 } else { 0 };
            once.saturating_add(again)
        };
        let level = |i: usize, blocks: usize| {
            let channels = self.channels(i);
            // Between two levels one convolution halves, and one of each decoder doubles.
            let between = if i == 0 { 0 } else { kernel(channels, channels / 2) };
            let decoders = if i + 1 == self.blocks_down.len() { 0 } else { 2 };
            same(channels, 2 * (blocks + decoders)).saturating_add(between.saturating_mul(3))
        };
        let levels = self.blocks_down.iter().enumerate().map(|(i, blocks)| level(i, *blocks));
        // The class head has four, and the head for points as many.
        levels.chain([same(self.feature_size, 8)]).fold(0, u64::saturating_add)
    }

    /// Bytes of the tensors that are alive at the peak of a pass over a window of `[D, H, W]` voxels with
    /// both branches and the class head, in f32, without weights, the window itself and the scratch memory
    /// of convolutions.
    ///
    /// With `V` voxels, `L(i) = 4 C 2^i V / 8^i` is a map of level `i`, `K` the sum of them, and `M = 4 F V`
    /// a map of features. It is the largest of
    /// - `K + 3 L(0)`: the last block of the first decoder has its input, what a convolution reads and what
    ///   it writes, while the maps of all levels wait for the second one (the encoder has fewer of them);
    /// - `M + 3 L(0)`: the last block of the second decoder, beside the features of the first;
    /// - `2 M + L(0)`: its end;
    /// - `4 M`: a convolution of the class head, beside the features of the other branch.
    ///
    /// A window of 128 x 128 x 128 voxels takes 1.6 GiB in the published network.
    pub fn working_bytes(&self, window: [usize; 3]) -> u64 {
        let voxels = window.iter().fold(4u64, |n, side| n.saturating_mul(*side as u64));
        let features = self.feature_bytes(window);
        // Channels double where voxels become an eighth.
        let finest = voxels.saturating_mul(self.init_filters as u64);
        let level = |i: usize| finest.checked_shr(2 * i as u32).unwrap_or(0);
        let sum = |parts: &[u64]| parts.iter().copied().fold(0, u64::saturating_add);
        let maps: Vec<u64> = (0..self.blocks_down.len()).map(level).collect();
        [
            sum(&[sum(&maps), finest, finest, finest]),
            sum(&[features, finest, finest, finest]),
            sum(&[features, features, finest]),
            features.saturating_mul(4),
        ]
        .into_iter()
        .fold(0, u64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_that_does_not_fit_names_its_fields() {
        assert_eq!(SegResNetConfig::default().validate(), Ok(()));
        let refused = |change: &dyn Fn(&mut SegResNetConfig), named: &str| {
            let mut config = SegResNetConfig::default();
            change(&mut config);
            assert!(config.validate().is_err_and(|e| e.contains(named)), "{named}");
        };
        refused(&|c| c.in_channels = 0, "in_channels 0");
        refused(&|c| c.init_filters = usize::MAX, "init_filters");
        refused(&|c| c.feature_size = 0, "feature_size 0");
        refused(&|c| c.n_classes = 0, "n_classes 0");
        refused(&|c| c.blocks_down.clear(), "0 levels");
        refused(&|c| c.blocks_down = vec![1; 64], "64 levels");
        refused(&|c| c.blocks_down[3] = usize::MAX, "blocks in a level");
    }

    #[test]
    fn a_window_that_the_levels_cannot_halve_is_refused_with_what_it_has_to_be() {
        let config = SegResNetConfig::default();
        for window in [[128; 3], [16, 32, 16], [192, 192, 128]] {
            assert_eq!(config.check_window(window), Ok(()));
        }
        for (window, named) in [
            ([128, 120, 128], "multiples of 16"),
            ([0, 128, 128], "multiples of 16"),
            ([16; 3], "at least 32"),
        ] {
            assert!(config.check_window(window).is_err_and(|e| e.contains(named)), "{window:?}");
        }
        let flat = SegResNetConfig { blocks_down: vec![1], ..config };
        assert!(flat.check_window([3, 5, 1]).is_ok() && flat.check_window([1; 3]).is_err());
    }

    #[test]
    fn kernels_are_those_of_the_published_network_and_the_finest_of_them_twice() {
        let bytes = SegResNetConfig::default().kernel_bytes();
        // 217,965,054 numbers in all, of which some 5 % are kept again in 16/3 of their size.
        let numbers = 4 * 217_965_054;
        assert!((numbers + numbers / 5..numbers + numbers / 3).contains(&bytes), "{bytes}");
    }

    #[test]
    fn memory_counts_what_is_alive_at_once() {
        let config = SegResNetConfig::default();
        let map = 4 * 48 * 128 * 128 * 128u64;
        let kept = map + map / 4 + map / 16 + map / 64 + map / 256;
        assert_eq!(config.working_bytes([128; 3]), kept + 3 * map);
        // Wide features make the class head the largest part.
        let wide = SegResNetConfig { feature_size: 480, ..config.clone() };
        assert_eq!(wide.working_bytes([128; 3]), 4 * 10 * map);
        assert_eq!(config.working_bytes([usize::MAX; 3]), u64::MAX);
    }
}
