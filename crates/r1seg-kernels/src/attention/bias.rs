//! Numbers that are added to scores.

/// What is added to the scaled scores, instead of a mask.
#[derive(Debug, Clone, Copy, Default)]
pub enum Bias<'a> {
    /// Nothing.
    #[default]
    None,
    /// A number for each query and key, `[1, lq, lk]` for all heads or `[heads, lq, lk]`. Minus
    /// infinity hides a key; a query must keep one.
    Full(&'a [f32]),
    /// Keys are the cells of a grid `[I, J, L]`, and perhaps more behind them. The score of query `q`
    /// and cell `(i, j, l)` gets `first[q, i, l] + second[q, j, l]`, as decomposed relative positions
    /// do; that of a key behind the grid gets a number of its own.
    Grid {
        /// Cells per axis of the keys.
        grid: [usize; 3],
        /// `[heads, lq, I, L]`
        first: &'a [f32],
        /// `[heads, lq, J, L]`
        second: &'a [f32],
        /// `[heads, lq, lk - I * J * L]`
        rest: &'a [f32],
    },
}

impl Bias<'_> {
    /// # Panics
    /// When a slice has another length than its shape.
    pub(super) fn check(&self, heads: usize, lq: usize, lk: usize) {
        let fits = |slice: &[f32], shape: &[usize]| {
            shape.iter().try_fold(1usize, |n, side| n.checked_mul(*side)) == Some(slice.len())
        };
        match *self {
            Bias::None => {}
            Bias::Full(bias) => assert!(
                fits(bias, &[lq, lk]) || fits(bias, &[heads, lq, lk]),
                "a bias of [1 or {heads}, {lq}, {lk}]"
            ),
            Bias::Grid { grid: [i, j, l], first, second, rest } => {
                let cells = i.checked_mul(j).and_then(|n| n.checked_mul(l));
                let behind = cells.and_then(|cells| lk.checked_sub(cells));
                assert!(behind.is_some(), "a grid of [{i}, {j}, {l}] among {lk} keys");
                let behind = behind.unwrap_or_default();
                assert!(fits(rest, &[heads, lq, behind]), "a bias of [{heads}, {lq}, {behind}]");
                assert!(fits(first, &[heads, lq, i, l]), "a bias of [{heads}, {lq}, {i}, {l}]");
                assert!(fits(second, &[heads, lq, j, l]), "a bias of [{heads}, {lq}, {j}, {l}]");
            }
        }
    }

    /// Scales a row of scores and adds the bias of query `i` of a head.
    #[inline(always)]
    pub(super) fn add(self, scores: &mut [f32], scale: f32, head: usize, (i, lq): (usize, usize)) {
        match self {
            Bias::None => {}
            Bias::Full(bias) => {
                let lk = scores.len();
                let head = if bias.len() == lq * lk { 0 } else { head };
                let bias = &bias[(head * lq + i) * lk..][..lk];
                for (score, bias) in scores.iter_mut().zip(bias) {
                    *score = *score * scale + bias;
                }
            }
            Bias::Grid { grid: [planes, rows, cells], first, second, rest } => {
                let query = head * lq + i;
                let behind = scores.len() - planes * rows * cells;
                let rest = &rest[query * behind..][..behind];
                let first = &first[query * planes * cells..][..planes * cells];
                let second = &second[query * rows * cells..][..rows * cells];
                let mut at = 0;
                for first in first.chunks_exact(cells) {
                    for second in second.chunks_exact(cells) {
                        let scores = &mut scores[at..at + cells];
                        for ((score, first), second) in scores.iter_mut().zip(first).zip(second) {
                            *score = *score * scale + (first + second);
                        }
                        at += cells;
                    }
                }
                for (score, rest) in scores[at..].iter_mut().zip(rest) {
                    *score = *score * scale + rest;
                }
            }
        }
    }
}
