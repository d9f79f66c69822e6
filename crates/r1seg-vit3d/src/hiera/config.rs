use crate::config::floats;

/// Voxels from one token of the first stage to the next.
pub(super) const STRIDE: usize = 4;

/// Width of a block's MLP, in widths of the block.
pub(super) const MLP_RATIO: usize = 4;

/// More would shrink no volume further, and every stage doubles the width.
const MAX_STAGES: usize = 8;

/// Blocks of a stage, far beyond any checkpoint's.
const MAX_BLOCKS: usize = 1024;

/// Sizes of a [`Hiera`](crate::Hiera).
///
/// Every stage after the first doubles the width and the heads of the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HieraConfig {
    /// Side of the input volume in voxels.
    pub image_size: usize,
    /// Width of a token of the first stage.
    pub hidden_size: usize,
    /// Attention heads of the first stage.
    pub num_heads: usize,
    /// Blocks of each stage.
    pub stages: Vec<usize>,
    /// Side of each stage's windows in tokens. The first block of a stage has those of the stage
    /// before.
    pub window_spec: Vec<usize>,
    /// Blocks, counted through all stages, that attend over the whole grid.
    pub global_blocks: Vec<usize>,
    /// How many stages, from the second on, halve the grid in their first block.
    pub q_pool: usize,
    /// Stages to whose map the neck adds that of the next stage.
    pub top_down_levels: Vec<usize>,
    /// How many of the last stages the returned map precedes.
    pub scalp: usize,
    /// Channels of the returned map.
    pub out_channels: usize,
}

/// Sizes of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockConfig {
    /// Width of the tokens that it reads.
    pub(super) dim: usize,
    /// Width of the tokens that it returns.
    pub(super) dim_out: usize,
    pub(super) num_heads: usize,
    /// Side of the grid that it reads.
    pub(super) side: usize,
    /// Whether it returns a grid of half the side.
    pub(super) pools: bool,
    /// Side of its windows; none where it attends over the whole grid.
    pub(super) window: Option<usize>,
}

impl BlockConfig {
    /// Side of the grid that it returns.
    pub(super) fn side_out(&self) -> usize {
        if self.pools { self.side / 2 } else { self.side }
    }

    /// Side of what attends within itself, and how many there are.
    fn windows(&self) -> (usize, usize) {
        match self.window {
            // A single window holds no more than the grid: what it is filled up with is one key.
            Some(window) if window < self.side => (window, cube(self.side.div_ceil(window.max(1)))),
            _ => (self.side, 1),
        }
    }
}

fn cube(side: usize) -> usize {
    side.saturating_mul(side).saturating_mul(side)
}

impl HieraConfig {
    /// Voxels from one token of the first stage to the next.
    pub const PATCH_SIZE: usize = STRIDE;

    /// Width between the two layers of an MLP of the first stage.
    pub fn mlp_dim(&self) -> usize {
        self.hidden_size.saturating_mul(MLP_RATIO)
    }

    /// Cells per axis of the returned map.
    pub fn grid(&self) -> [usize; 3] {
        [self.side(self.level()); 3]
    }

    /// Number of cells of the returned map, `N`.
    pub fn num_patches(&self) -> usize {
        cube(self.side(self.level()))
    }

    /// Bytes of the largest activations of a pass and of the position table, in f32, where attention
    /// scores are not in memory.
    pub fn working_bytes(&self) -> u64 {
        let positions = cube(self.side(0)).saturating_mul(self.hidden_size);
        let block = |block: BlockConfig| {
            let (side, count) = block.windows();
            // Queries, keys and values as they are computed and by heads, and the residual.
            let attention =
                block.dim_out.saturating_mul(8).saturating_add(block.dim.saturating_mul(2));
            let attention = cube(side).saturating_mul(count).saturating_mul(attention);
            let mlp = block.dim_out.saturating_mul(2 * MLP_RATIO + 4);
            attention.max(cube(block.side_out()).saturating_mul(mlp))
        };
        let largest = self.blocks().map(block).max().unwrap_or(0);
        floats(&[positions.saturating_add(largest)])
    }

    /// Says what does not fit, in the terms of the configuration.
    ///
    /// # Errors
    /// The first field that cannot be used, with its value.
    pub fn validate(&self) -> Result<(), String> {
        let stages = self.stages.len();
        let fits = |blocks: &usize| (1..=MAX_BLOCKS).contains(blocks);
        if stages == 0 || stages > MAX_STAGES || !self.stages.iter().all(fits) {
            return Err(format!("stages of {:?} blocks", self.stages));
        }
        if self.window_spec.len() != stages || self.window_spec.contains(&0) {
            return Err(format!("windows of {:?} tokens for {stages} stages", self.window_spec));
        }
        if self.q_pool >= stages {
            return Err(format!("q_pool is {}, with {stages} stages", self.q_pool));
        }
        if self.scalp >= stages {
            return Err(format!("scalp is {}, with {stages} stages", self.scalp));
        }
        let cell = STRIDE << self.q_pool;
        if self.image_size == 0 || !self.image_size.is_multiple_of(cell) {
            return Err(format!("the image size {} is not a multiple of {cell}", self.image_size));
        }
        let (side, window) = (self.side(0), self.window_spec[0]);
        if !side.is_multiple_of(window) {
            return Err(format!("windows of {window} tokens do not tile a grid of side {side}"));
        }
        if self.num_heads == 0 || !self.hidden_size.is_multiple_of(self.num_heads) {
            return Err(format!(
                "the width {} of the vision transformer is not divisible by its {} heads",
                self.hidden_size, self.num_heads
            ));
        }
        if self.hidden_size == 0 || self.out_channels == 0 {
            return Err("a width of the vision transformer is zero".to_string());
        }
        // Halves of odd windows would tile another grid than the windows do.
        let odd = |block: &BlockConfig| {
            block.pools && block.window.is_some_and(|window| !window.is_multiple_of(2))
        };
        if self.blocks().any(|block| odd(&block)) {
            return Err(format!("windows of {:?} tokens cannot be halved", self.window_spec));
        }
        if self.coarsest() > self.level().max(self.q_pool) {
            return Err(format!(
                "top_down_levels {:?} join maps of one size, with a q_pool of {}",
                self.top_down_levels, self.q_pool
            ));
        }
        Ok(())
    }

    /// The stage whose map is returned.
    pub(super) fn level(&self) -> usize {
        self.stages.len().saturating_sub(1 + self.scalp)
    }

    /// The last stage that reaches the returned map.
    pub(super) fn coarsest(&self) -> usize {
        let last = self.stages.len().saturating_sub(1);
        (self.level()..last).find(|level| !self.top_down_levels.contains(level)).unwrap_or(last)
    }

    /// Side of the grid behind a stage, in tokens.
    pub(super) fn side(&self, stage: usize) -> usize {
        let halved = u32::try_from(stage.min(self.q_pool)).unwrap_or(u32::MAX);
        (self.image_size / STRIDE).checked_shr(halved).unwrap_or(0)
    }

    /// Width of the tokens of a stage.
    pub(super) fn width(&self, stage: usize) -> usize {
        doubled(self.hidden_size, stage)
    }

    /// The blocks of a stage.
    pub(super) fn stage(&self, stage: usize) -> impl Iterator<Item = BlockConfig> + '_ {
        let before: usize = self.stages.iter().take(stage).sum();
        let count = self.stages.get(stage).copied().unwrap_or(0);
        (0..count).map(move |i| {
            // A stage other than the first begins in the grid, width and windows of the one before.
            let from = if i == 0 { stage.saturating_sub(1) } else { stage };
            let window = self.window_spec.get(from).copied();
            BlockConfig {
                dim: self.width(from),
                dim_out: self.width(stage),
                num_heads: doubled(self.num_heads, stage),
                side: self.side(from),
                pools: from < stage && stage <= self.q_pool,
                window: window.filter(|_| !self.global_blocks.contains(&(before + i))),
            }
        })
    }

    /// The blocks of all stages that reach the returned map.
    fn blocks(&self) -> impl Iterator<Item = BlockConfig> + '_ {
        (0..=self.coarsest()).flat_map(|stage| self.stage(stage))
    }
}

/// `n`, doubled by every stage after the first.
fn doubled(n: usize, stage: usize) -> usize {
    let times = u32::try_from(stage).unwrap_or(u32::MAX);
    n.saturating_mul(2usize.saturating_pow(times))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published() -> HieraConfig {
        HieraConfig {
            image_size: 128,
            hidden_size: 256,
            num_heads: 8,
            stages: vec![2, 3, 12, 3],
            window_spec: vec![8, 4, 14, 7],
            global_blocks: vec![7, 12, 16],
            q_pool: 3,
            top_down_levels: vec![2, 3],
            scalp: 1,
            out_channels: 384,
        }
    }

    #[test]
    fn a_stage_begins_in_the_windows_of_the_one_before() {
        let blocks: Vec<_> = published().blocks().collect();
        assert_eq!(blocks.len(), 20);
        let of = |i: usize| (blocks[i].side, blocks[i].side_out(), blocks[i].window);
        assert_eq!(of(0), (32, 32, Some(8)));
        assert_eq!(of(2), (32, 16, Some(8)));
        assert_eq!(of(5), (16, 8, Some(4)));
        assert_eq!([of(6), of(7)], [(8, 8, Some(14)), (8, 8, None)]);
        assert_eq!([of(17), of(18)], [(8, 4, Some(14)), (4, 4, Some(7))]);
        assert_eq!(blocks[17].num_heads, 64);
        assert_eq!((blocks[17].dim, blocks[17].dim_out), (1024, 2048));
        assert_eq!(published().grid(), [8; 3]);
    }

    #[test]
    fn memory_is_that_of_the_largest_block_and_never_overflows() {
        let tokens = 32 * 32 * 32;
        let (positions, first) = (tokens * 256, tokens * 256 * 12);
        // The second stage begins on the first one's grid, twice as wide.
        let second = tokens * (512 * 8 + 2 * 256);
        assert!(second > first);
        assert_eq!(published().working_bytes(), 4 * (positions + second) as u64);
        let absurd = HieraConfig {
            image_size: usize::MAX,
            hidden_size: usize::MAX,
            num_heads: usize::MAX,
            ..published()
        };
        assert_eq!(absurd.working_bytes(), u64::MAX);
    }

    #[test]
    fn a_configuration_that_does_not_fit_names_what_is_wrong() {
        let message = |cfg: HieraConfig| cfg.validate().err().unwrap_or_default();
        assert_eq!(message(published()), "");
        let cases = [
            (HieraConfig { stages: vec![2, 0, 12, 3], ..published() }, "stages of [2, 0"),
            (HieraConfig { stages: vec![1; 9], ..published() }, "stages of"),
            (HieraConfig { stages: vec![usize::MAX; 4], ..published() }, "stages of"),
            (HieraConfig { window_spec: vec![8, 4, 14], ..published() }, "[8, 4, 14]"),
            (HieraConfig { window_spec: vec![8, 4, 0, 7], ..published() }, "[8, 4, 0, 7]"),
            (HieraConfig { window_spec: vec![8, 5, 14, 7], ..published() }, "halved"),
            (HieraConfig { window_spec: vec![12, 4, 14, 7], ..published() }, "tile"),
            (HieraConfig { q_pool: 4, ..published() }, "q_pool is 4"),
            (HieraConfig { q_pool: 2, ..published() }, "one size"),
            (HieraConfig { scalp: 4, ..published() }, "scalp is 4"),
            (HieraConfig { image_size: 112, ..published() }, "112 is not a multiple of 32"),
            (HieraConfig { num_heads: 7, ..published() }, "7 heads"),
            (HieraConfig { out_channels: 0, ..published() }, "zero"),
        ];
        for (cfg, expected) in cases {
            let message = message(cfg);
            assert!(message.contains(expected), "{message:?} without {expected:?}");
        }
    }
}
