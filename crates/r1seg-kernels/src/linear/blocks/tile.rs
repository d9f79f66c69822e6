//! The tile of products in blocks.

use std::marker::PhantomData;

use super::dots::Dots;
use crate::buffer::LINE;
use crate::linear::many::Tiles;
use crate::simd::Simd;
use crate::tile::{PANEL, Start, Strides, Tile};

/// Tiles of blocks, of weights with offsets or without.
pub(in crate::linear) struct InBlocks<D, const OFFSETS: bool>(PhantomData<D>);

impl<D: Dots, const OFFSETS: bool> Tiles<D::Lanes> for InBlocks<D, OFFSETS> {
    fn height(_: usize) -> usize {
        D::ROWS
    }

    #[inline(always)]
    unsafe fn run(tile: Tile, rows: usize, columns: usize) {
        let mut first = 0;
        // SAFETY: the caller's promise.
        unsafe {
            while first + D::Lanes::LANES < columns {
                Self::rows::<2>(tile, rows, first);
                first += 2 * D::Lanes::LANES;
            }
            if first < columns {
                Self::rows::<1>(tile, rows, first);
            }
        }
    }
}

impl<D: Dots, const OFFSETS: bool> InBlocks<D, OFFSETS> {
    /// `V` vectors from column `first` on.
    #[inline(always)]
    unsafe fn rows<const V: usize>(tile: Tile, rows: usize, first: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let tile = Tile { b: tile.b.add(first), c: tile.c.add(first), ..tile };
            match rows {
                6 if D::ROWS == 6 => return Self::fixed::<6, V>(tile),
                3 if D::ROWS == 3 => return Self::fixed::<3, V>(tile),
                _ => {}
            }
            for i in 0..rows {
                let a = tile.a.add(i * tile.a_strides.row);
                let c = tile.c.add(i * tile.c_stride);
                Self::fixed::<1, V>(Tile { a, c, ..tile });
            }
        }
    }

    #[inline(always)]
    unsafe fn fixed<const M: usize, const V: usize>(tile: Tile) {
        let Tile { a, a_strides: Strides { row, line, .. }, b, c, c_stride, .. } = tile;
        let blocks = D::BLOCKS;
        let lanes = D::Lanes::LANES;
        // Where the numbers of a block lie behind its integers.
        let behind = if blocks.words() < LINE { blocks.words() } else { line };
        // SAFETY: the caller has the instructions, blocks in `M` rows of `a` and in `V`
        // vectors of `b`, and as many rows of `c`.
        unsafe {
            let mut sums = [[D::Lanes::splat(0.0); V]; M];
            if let Start::Output = tile.start {
                for (i, sums) in sums.iter_mut().enumerate() {
                    for (v, sum) in sums.iter_mut().enumerate() {
                        *sum = D::Lanes::load(c.add(i * c_stride + v * lanes));
                    }
                }
            }
            for block in 0..tile.steps / (blocks.lines() * LINE) {
                let a = a.add(block * blocks.lines() * line);
                let b = b.add(block * blocks.x_words() * PANEL);
                let mut products = [[D::start(0); V]; M];
                for (i, products) in products.iter_mut().enumerate() {
                    let start = a.add(i * row + behind + 1).cast::<i32>().read();
                    *products = [D::start(start); V];
                }
                for word in 0..blocks.words() {
                    let mut x = [D::splat(0); V];
                    for (v, x) in x.iter_mut().enumerate() {
                        *x = D::load(b.add(word * PANEL + v * lanes));
                    }
                    for (i, products) in products.iter_mut().enumerate() {
                        let w = D::splat(a.add(i * row + word).cast::<i32>().read());
                        for (product, x) in products.iter_mut().zip(x) {
                            *product = D::add(*product, x, w);
                        }
                    }
                }
                let numbers = b.add(blocks.words() * PANEL);
                for v in 0..V {
                    let scales = D::Lanes::load(numbers.add(v * lanes));
                    let x = D::Lanes::load(numbers.add(PANEL + v * lanes));
                    for (i, (sums, products)) in sums.iter_mut().zip(&products).enumerate() {
                        let a = a.add(i * row + behind);
                        let scale = D::Lanes::mul(D::Lanes::splat(*a), scales);
                        sums[v] = D::Lanes::fma(D::numbers(products[v]), scale, sums[v]);
                        if OFFSETS {
                            sums[v] = D::Lanes::fma(D::Lanes::splat(*a.add(2)), x, sums[v]);
                        }
                    }
                }
            }
            for (i, sums) in sums.iter().enumerate() {
                for (v, sum) in sums.iter().enumerate() {
                    D::Lanes::store(c.add(i * c_stride + v * lanes), *sum);
                }
            }
        }
    }
}
