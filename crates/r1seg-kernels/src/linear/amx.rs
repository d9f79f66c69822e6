//! Tiles of bf16 in the registers that AMX has for them: 16 rows of 16 words of weights by 16 words of 16 rows of
//! activations in one instruction. Denormal inputs and results count as zero, as in AVX512-BF16.
//!
//! Written in assembly, since the compiler's intrinsics for these instructions are unstable. It uses none of the
//! registers itself.

use std::arch::asm;

use super::many::Tiles;
use crate::buffer::LINE;
use crate::simd::Avx512;
use crate::tile::{PANEL, Start, Strides, Tile};

/// Rows of weights that are multiplied at a time, in two registers.
pub(super) const ROWS: usize = 2 * TILE_ROWS;

/// Rows of a register, of a line each.
const TILE_ROWS: usize = 16;

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// The tile registers of this thread while it lasts, all of full size.
pub(super) struct Registers(());

impl Registers {
    /// # Safety
    /// Needs AMX, and no other `Registers` on this thread.
    pub(super) unsafe fn take() -> Self {
        let mut configuration = Configuration {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [0; 16],
            rows: [0; 16],
        };
        configuration.row_bytes[..8].fill(64);
        configuration.rows[..8].fill(TILE_ROWS as u8);
        // SAFETY: the caller has the instructions, and these are the 64 bytes that it reads.
        unsafe {
            asm!(
                "ldtilecfg [{}]",
                in(reg) &raw const configuration,
                options(nostack, preserves_flags),
            );
        }
        Self(())
    }
}

impl Drop for Registers {
    fn drop(&mut self) {
        // SAFETY: whoever took the registers has the instructions.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) }
    }
}

/// Tiles while a thread has its [`Registers`].
pub(super) struct AmxTiles;

impl Tiles<Avx512> for AmxTiles {
    fn height(_: usize) -> usize {
        ROWS
    }

    /// Computes all of [`ROWS`] by [`PANEL`] sums, whatever a tile has of them: there is memory for whole groups of
    /// weights, whole panels and their sums, and sums beyond the tile are never read.
    #[inline(always)]
    unsafe fn run(tile: Tile, _: usize, _: usize) {
        // SAFETY: the caller's promise, and this thread has the registers.
        unsafe { multiply(tile) }
    }
}

/// # Safety
/// Needs AMX and this thread's [`Registers`]; `a` must have [`ROWS`] rows of whole lines, `b` as many words, and `c`
/// all of the sums.
#[inline(always)]
unsafe fn multiply(tile: Tile) {
    let Tile { a, a_strides: Strides { row, line, .. }, b, steps, c, c_stride, start, .. } = tile;
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "test {from_output:e}, {from_output:e}",
            "jz 20f",
            "tileloadd tmm0, [{c} + {c_stride}]",
            "tileloadd tmm1, [{c} + {c_stride} + 64]",
            "tileloadd tmm2, [{c_below} + {c_stride}]",
            "tileloadd tmm3, [{c_below} + {c_stride} + 64]",
            "jmp 21f",
            "20:",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "21:",
            "test {lines}, {lines}",
            "jz 23f",
            "22:",
            "tileloadd tmm4, [{a} + {row}]",
            "tileloadd tmm6, [{b} + {b_stride}]",
            "tileloadd tmm7, [{b} + {b_stride} + 64]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{a_below} + {row}]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a}, {line}",
            "add {a_below}, {line}",
            "add {b}, {b_line}",
            "dec {lines}",
            "jnz 22b",
            "23:",
            "tilestored [{c} + {c_stride}], tmm0",
            "tilestored [{c} + {c_stride} + 64], tmm1",
            "tilestored [{c_below} + {c_stride}], tmm2",
            "tilestored [{c_below} + {c_stride} + 64], tmm3",
            lines = inout(reg) steps.div_ceil(LINE) => _,
            from_output = in(reg) u32::from(matches!(start, Start::Output)),
            a = inout(reg) a => _,
            a_below = inout(reg) a.wrapping_add(TILE_ROWS * row) => _,
            row = in(reg) 4 * row,
            line = in(reg) 4 * line,
            b = inout(reg) b => _,
            b_stride = in(reg) 4 * PANEL,
            b_line = const 4 * PANEL * LINE,
            c = in(reg) c,
            c_below = in(reg) c.wrapping_add(TILE_ROWS * c_stride),
            c_stride = in(reg) 4 * c_stride,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
