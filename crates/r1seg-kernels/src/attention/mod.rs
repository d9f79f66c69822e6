//! Scaled dot-product attention in f32, a block of query rows at a time.
//!
//! A block's scores against all the keys that it sees fit into the second-level cache, so that the
//! softmax is the exact one of two passes, and no score is written to memory.

mod bias;
mod few;
mod many;
mod spread;

use rayon::prelude::*;

use crate::buffer::{SharedMut, with_scratch};
use crate::isa::Isa;
use crate::simd::{self, Simd, exp_nonpositive};
use crate::tile::PANEL;

pub use bias::Bias;

use few::FewQueries;
use many::ManyQueries;
use spread::Stretch;

/// Scores that a task holds at once (512 KiB).
const SCORES: usize = 128 << 10;

/// Query rows per task, a multiple of every register tile's rows.
const BLOCK: usize = 60;

/// Up to this many queries per head the keys are read in place: reordering them would cost more. So each gets the same
/// numbers as alone, where those of more queries have another order of sums.
pub const ALIKE_QUERIES: usize = 4;

/// Up to this many queries over one head of keys the keys are read in place, by several tasks.
const SPREAD: usize = 128;

/// Below this many multiplications a task costs more to hand over than to do.
const SERIAL: usize = 1 << 16;

/// Which keys a query sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mask {
    /// All of them.
    #[default]
    None,
    /// Query `i` sits at position `past + i` and sees keys up to itself.
    Causal {
        /// Keys that precede the first query.
        past: usize,
        /// Only the last `window` keys up to the query itself, when set.
        window: Option<usize>,
    },
}

impl Mask {
    /// The keys out of `lk` that query `i` sees.
    pub(crate) fn visible(self, i: usize, lk: usize) -> std::ops::Range<usize> {
        match self {
            Self::None => 0..lk,
            Self::Causal { past, window } => {
                let end = past.saturating_add(i + 1);
                let start = window.map_or(0, |window| end.saturating_sub(window));
                start.min(lk)..end.min(lk)
            }
        }
    }
}

/// The operands of [`attention`].
#[derive(Debug)]
pub struct AttentionArgs<'a> {
    /// Queries, `[heads, lq, dim]`.
    pub q: &'a [f32],
    /// Keys, `[kv_heads, lk, dim]`, each head `k_head_stride` after the one before.
    pub k: &'a [f32],
    /// Values, `[kv_heads, lk, dim]`, each head `v_head_stride` after the one before.
    pub v: &'a [f32],
    /// The result, `[heads, lq, dim]`.
    pub out: &'a mut [f32],
    /// Query heads. Head `h` reads key head `h / (heads / kv_heads)`.
    pub heads: usize,
    /// Key and value heads, which divide `heads`.
    pub kv_heads: usize,
    /// Queries per head.
    pub lq: usize,
    /// Keys per head.
    pub lk: usize,
    /// Width of a head.
    pub dim: usize,
    /// Elements from one head's keys to the next; `lk * dim` when there are no gaps.
    pub k_head_stride: usize,
    /// Elements from one head's values to the next.
    pub v_head_stride: usize,
    /// What the scores are multiplied by, commonly `1 / sqrt(dim)`.
    pub scale: f32,
    /// Which keys a query sees.
    pub mask: Mask,
    /// What is added to the scaled scores, where all keys are seen.
    pub bias: Bias<'a>,
}

/// `softmax(scale * q kᵀ + mask + bias) v`, all in f32, on rayon's current pool.
///
/// A query that sees no key at all gets zeros. Keys and values that the mask hides must still be
/// finite numbers where another query sees them.
///
/// # Panics
/// When a slice is too short for its shape, `kv_heads` does not divide `heads`, or there is a bias
/// beside a mask.
pub fn attention(args: AttentionArgs<'_>) {
    attention_on(Isa::detect(), args);
}

/// `isa` must be one of this machine.
pub(crate) fn attention_on(isa: Isa, args: AttentionArgs<'_>) {
    let AttentionArgs { q, k, v, out, heads, kv_heads, lq, lk, dim, scale, mask, bias, .. } = args;
    assert!(isa.is_here(), "this machine has no {isa:?}");
    let length = heads.checked_mul(lq).and_then(|rows| rows.checked_mul(dim));
    assert_eq!(Some(q.len()), length, "queries of [{heads}, {lq}, {dim}]");
    assert_eq!(Some(out.len()), length, "an output of [{heads}, {lq}, {dim}]");
    if out.is_empty() {
        return;
    }
    assert!(
        kv_heads > 0 && heads.is_multiple_of(kv_heads),
        "{heads} heads over {kv_heads} key heads"
    );
    let biased = !matches!(bias, Bias::None);
    assert!(!biased || mask == Mask::None, "a bias beside a mask");
    bias.check(heads, lq, lk);
    for (name, slice, stride) in
        [("keys", k, args.k_head_stride), ("values", v, args.v_head_stride)]
    {
        let needed = (kv_heads - 1).checked_mul(stride).zip(lk.checked_mul(dim));
        let needed = needed.and_then(|(before, last)| before.checked_add(last));
        assert!(
            needed.is_some_and(|needed| slice.len() >= needed),
            "{name} of [{kv_heads}, {lk}, {dim}] with a head stride of {stride}"
        );
    }
    if lk == 0 {
        return out.fill(0.0);
    }
    let job = Job {
        q,
        keys: Heads { data: k, stride: args.k_head_stride },
        values: Heads { data: v, stride: args.v_head_stride },
        out: SharedMut::new(out),
        group: heads / kv_heads,
        kv_heads,
        lq,
        lk,
        dim,
        scale,
        mask,
        bias,
    };
    // Whole panels of values can be read where they are.
    let whole = dim.is_multiple_of(PANEL) && lk >= 4 * PASS;
    if biased {
        job.many_queries(isa);
    } else if lq <= ALIKE_QUERIES {
        job.few_queries(isa);
    } else if mask == Mask::None && kv_heads == 1 && heads * lq <= SPREAD && whole {
        job.spread_keys(isa);
    } else {
        job.many_queries(isa);
    }
}

#[derive(Clone, Copy)]
struct Heads<'a> {
    data: &'a [f32],
    stride: usize,
}

impl<'a> Heads<'a> {
    fn head(self, head: usize) -> &'a [f32] {
        &self.data[head * self.stride..]
    }
}

/// One call of `attention`.
#[derive(Clone, Copy)]
struct Job<'a> {
    q: &'a [f32],
    /// In `many_queries` packed: `[kv_heads][lk / 32][dim][32]`.
    keys: Heads<'a>,
    /// In `many_queries` packed unless `dim` is whole panels: `[kv_heads][dim / 32][lk][32]`.
    values: Heads<'a>,
    out: SharedMut,
    group: usize,
    kv_heads: usize,
    lq: usize,
    lk: usize,
    dim: usize,
    scale: f32,
    mask: Mask,
    bias: Bias<'a>,
}

impl Job<'_> {
    fn each(&self, tasks: usize, f: impl Fn(usize) + Sync + Send) {
        if self.group * self.kv_heads * self.lq * self.lk * self.dim <= SERIAL {
            (0..tasks).for_each(f);
        } else {
            (0..tasks).into_par_iter().for_each(f);
        }
    }

    fn few_queries(&self, isa: Isa) {
        self.each(self.kv_heads, |kv_head| {
            let rows = self.group * self.lq;
            with_scratch(rows * (self.lk + PANEL), |scores| {
                // SAFETY: `attention_on` has checked the lengths and the instructions; each task
                // writes the output of its own heads.
                unsafe { simd::run(isa, FewQueries { job: self, kv_head, scores }) }
            });
        });
    }

    fn many_queries(self, isa: Isa) {
        let (panels, wide) = (self.lk.div_ceil(PANEL), self.dim.div_ceil(PANEL));
        let k_stride = panels * self.dim * PANEL;
        let v_stride = if self.dim.is_multiple_of(PANEL) { 0 } else { wide * self.lk * PANEL };
        with_scratch(self.kv_heads * (k_stride + v_stride), |packed| {
            let (keys, values) = packed.split_at_mut(self.kv_heads * k_stride);
            let (k_out, v_out) = (SharedMut::new(keys), SharedMut::new(values));
            self.each(self.kv_heads, |head| {
                // SAFETY: the heads are disjoint stretches of the two halves.
                let (keys, values) = unsafe {
                    (
                        std::slice::from_raw_parts_mut(k_out.get().add(head * k_stride), k_stride),
                        std::slice::from_raw_parts_mut(v_out.get().add(head * v_stride), v_stride),
                    )
                };
                self.pack_keys(self.keys.head(head), keys);
                self.pack_values(self.values.head(head), values);
            });
            let job = Job {
                keys: Heads { data: keys, stride: k_stride },
                values: match v_stride {
                    0 => self.values,
                    stride => Heads { data: values, stride },
                },
                ..self
            };
            let tile = simd::tile_rows(isa);
            let rows = (SCORES / self.lk).clamp(tile, BLOCK) / tile * tile;
            let blocks = self.lq.div_ceil(rows);
            self.each(self.group * self.kv_heads * blocks, |task| {
                let (head, block) = (task / blocks, task % blocks);
                let queries = block * rows..((block + 1) * rows).min(self.lq);
                // The scratch is taken out here because a closure inside a kernel would not be
                // compiled for the kernel's instructions.
                with_scratch(queries.len() * job.score_stride(&queries), |scores| {
                    // SAFETY: `attention_on` has checked the lengths and the instructions; each
                    // task writes the output of its own queries.
                    unsafe { simd::run(isa, ManyQueries { job: &job, head, queries, scores }) }
                });
            });
        });
    }

    /// Few queries that all see the same many keys: each task reads a stretch of keys for all of
    /// them, and their parts of the softmax are joined in the end.
    fn spread_keys(&self, isa: Isa) {
        let (rows, dim) = (self.group * self.lq, self.dim);
        let columns = rows.next_multiple_of(PANEL);
        let (stretches, part) = (self.lk.div_ceil(PASS), spread::part_len(rows, dim));
        with_scratch(columns * dim + stretches * part, |scratch| {
            let (queries, parts) = scratch.split_at_mut(columns * dim);
            spread::pack_queries(self.q, rows, dim, queries);
            let (queries, to) = (&*queries, SharedMut::new(parts));
            (0..stretches).into_par_iter().for_each(|i| {
                let keys = i * PASS..((i + 1) * PASS).min(self.lk);
                with_scratch(PASS * columns, |scores| {
                    // SAFETY: the machine has `isa`, and the parts are disjoint.
                    unsafe {
                        let part = to.get().add(i * part);
                        simd::run(isa, Stretch { job: self, keys, queries, scores, part });
                    }
                });
            });
            // SAFETY: the output, which nothing else writes.
            let out = unsafe { std::slice::from_raw_parts_mut(self.out.get(), rows * dim) };
            spread::join(parts, rows, dim, out);
        });
    }

    /// The first, from the start of its panel, and the end of the keys that any of `queries` sees.
    fn seen_by_any(&self, queries: &std::ops::Range<usize>) -> (usize, usize) {
        let first = self.mask.visible(queries.start, self.lk).start / PANEL * PANEL;
        (first, self.mask.visible(queries.end - 1, self.lk).end.max(first))
    }

    /// Distance between rows of scores. The odd half panel is slack for the last vector, and keeps
    /// rows from all falling into the same set of the cache.
    fn score_stride(&self, queries: &std::ops::Range<usize>) -> usize {
        let (first, last) = self.seen_by_any(queries);
        (last - first).next_multiple_of(PANEL) + PANEL / 2
    }
}

/// Keys per pass of the product with the values: their rows of one panel fill half a first cache.
const PASS: usize = 256;

/// Replaces the scores in `seen` by `e^(scale * score - largest)` and returns their sum.
///
/// # Safety
/// As of [`Simd`]; `row` must reach a vector beyond `seen`, whose contents are lost.
#[inline(always)]
unsafe fn exponentials<S: Simd>(row: &mut [f32], seen: std::ops::Range<usize>, scale: f32) -> f32 {
    let whole = seen.start + seen.len() / S::LANES * S::LANES;
    let end = seen.start + seen.len().next_multiple_of(S::LANES);
    // The last vector is filled up with a score that changes no maximum.
    let filler = row[seen.end - 1];
    row[seen.end..end].fill(filler);
    // SAFETY: all accesses are to `row[seen.start..end]`.
    unsafe {
        let at = row.as_mut_ptr();
        let scale = S::splat(scale);
        let mut largest = S::splat(f32::NEG_INFINITY);
        for i in (seen.start..end).step_by(S::LANES) {
            largest = S::max(S::mul(S::load(at.add(i)), scale), largest);
        }
        let offset = S::splat(-S::largest(largest));
        let mut sum = S::splat(0.0);
        for i in (seen.start..end).step_by(S::LANES) {
            let e = exp_nonpositive::<S>(S::fma(S::load(at.add(i)), scale, offset));
            S::store(at.add(i), e);
            if i < whole {
                sum = S::add(sum, e);
            }
        }
        S::sum(sum) + row[whole..seen.end].iter().sum::<f32>()
    }
}
