//! Which way a product of many rows goes, and how its operands are laid out for it.

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use super::blocks::Blocks;
use crate::buffer::LINE;
use crate::isa::Isa;
use crate::simd::WIDEST;
use crate::tile::MAX_ROWS;
use crate::weights::WeightType;

/// How a product of many rows is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Path {
    /// f32 by f32.
    F32,
    /// bf16 by bf16.
    #[cfg(target_arch = "x86_64")]
    Dot,
    /// bf16 by bf16, whole tiles at a time.
    #[cfg(target_arch = "x86_64")]
    Amx,
    /// Blocks of integers.
    #[cfg(target_arch = "x86_64")]
    Blocks(Blocks),
}

impl Path {
    /// That of rows of `k` weights.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn of(weight_type: WeightType, k: usize, isa: Isa, exact: bool) -> Self {
        use WeightType::{Bf16, F16, F32, Q4K, Q6K, Q8_0};
        match (weight_type, isa) {
            _ if exact => Self::F32,
            (F32 | F16, _) => Self::F32,
            (_, Isa::AmxBf16) => Self::Amx,
            (Bf16 | Q6K, Isa::Avx512Bf16) => Self::Dot,
            // Scales of fewer weights, as `Q6K` has them, would cost what is won.
            (Q8_0 | Q4K, Isa::AvxVnni | Isa::Avx512Vnni | Isa::Avx512Bf16) => {
                Self::Blocks(Blocks::Bytes)
            }
            (Q4K, Isa::Avx2) => Self::Blocks(Blocks::Nibbles),
            (Q8_0, Isa::Avx2) => Self::Blocks(Blocks::Halves),
            (Bf16, Isa::Avx2 | Isa::AvxVnni | Isa::Avx512Vnni) if k.is_multiple_of(Blocks::LEN) => {
                Self::Blocks(Blocks::Fixed)
            }
            _ => Self::F32,
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn of(_: WeightType, _: usize, _: Isa, _: bool) -> Self {
        Self::F32
    }

    /// Steps of a tile over rows of `k` weights, in 32-bit words: one for a weight, for two, or some lines for a
    /// block.
    pub(super) fn steps(self, k: usize) -> usize {
        match self {
            Self::F32 => k,
            #[cfg(target_arch = "x86_64")]
            Self::Dot | Self::Amx => k.div_ceil(2),
            #[cfg(target_arch = "x86_64")]
            Self::Blocks(blocks) => k / Blocks::LEN * blocks.lines() * LINE,
        }
    }

    /// The weights of some steps, whole blocks of them.
    pub(super) fn numbers(self, steps: Range<usize>, k: usize) -> Range<usize> {
        let number = |step: usize| match self {
            Self::F32 => step,
            #[cfg(target_arch = "x86_64")]
            Self::Dot | Self::Amx => 2 * step,
            #[cfg(target_arch = "x86_64")]
            Self::Blocks(blocks) => step / (blocks.lines() * LINE) * Blocks::LEN,
        };
        number(steps.start).min(k)..number(steps.end).min(k)
    }

    /// Words of a row of `k` weights: the steps, in whole lines.
    pub(super) fn w_words(self, k: usize) -> usize {
        self.steps(k).next_multiple_of(LINE)
    }

    /// Words of a row of `k` activations, filled up to whole vectors.
    pub(super) fn x_words(self, k: usize) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Blocks(blocks) => (k / Blocks::LEN * blocks.x_words()).next_multiple_of(WIDEST),
            _ => self.w_words(k),
        }
    }

    /// Words of activations for a [`LINE`] of weights.
    pub(super) fn x_line(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Blocks(blocks) => blocks.x_words() / blocks.lines(),
            _ => LINE,
        }
    }

    /// Rows of weights of a task, which share one read of the activations: whole groups.
    pub(super) fn rows(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx => 384,
            _ => 96,
        }
    }

    /// Rows of weights that lie side by side where they are brought together: whole tiles.
    pub(super) fn group(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx => super::amx::ROWS,
            _ => MAX_ROWS,
        }
    }

    /// Whether weights are fetched into the cache before they are brought together. Tiles of AMX
    /// already read as fast as memory delivers.
    pub(super) fn fetches_ahead(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx => false,
            _ => true,
        }
    }
}
