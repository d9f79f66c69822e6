//! `y = x Wᵀ + b` over weights where they lie.
//!
//! - A few rows ([`few`]) read every weight once, in the order of the file.
//! - More rows ([`many`]) are laid side by side in the lanes of vectors, and every weight is
//!   multiplied with all of them.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod blocks;
mod few;
mod integers;
mod many;
mod pack;
mod path;
mod rounded;

use rayon::prelude::*;

use crate::buffer::{SharedMut, with_scratch, written};
use crate::isa::Isa;
use crate::tile::PANEL;
use crate::weights::{Matrix, WeightType};

use few::FewRows;
use many::{ManyRows, PANELS};
use path::Path;

/// Up to this many rows of activations, [`Matrix::forward`] shares what reading the weights costs. All of them take 1.2
/// (bf16) to 4 times (`Q8_0` with AVX2) as long as one row, which is bound by reading the weights, and each gets what
/// it gets alone, bit for bit. More rows go another way and round more ([`Matrix`]).
///
/// Whoever has several independent rows to multiply, such as the next tokens of several answers,
/// gives up to this many at a time.
pub const FEW_ROWS: usize = 6;

/// Below this many multiplications a task costs more to hand over than to do.
const SERIAL: usize = 1 << 17;

/// # Precision
///
/// Sums are in f32 on every path. Weights are those of [`widen_rows`](Matrix::widen_rows), and activations are
/// rounded (to nearest even) as these tables say; elsewhere nothing is rounded. With 16 bits the error is about `1e-5`
/// of the result, with 14 bits about `1e-4`, with 8 bits and with bf16 about `1e-2` and `1e-3`. Weights of 14 bits
/// lose nothing down to a 32nd of the largest of their 32. Denormal activations count as zero, with
/// AVX512-BF16 and AMX also denormal weights and results.
///
/// Up to [`FEW_ROWS`] rows, integers of 16 bits have a scale per block of weights:
///
/// | weights | AVX2, AVX-VNNI | AVX-512 |
/// |---|---|---|
/// | `Q8_0` | 16 bits | as given |
/// | `Q6K` | 16 bits | 16 bits |
/// | `Q4K` | 16 bits | 16 bits |
///
/// More rows, with a scale per 32 integers:
///
/// | weights | AVX2 | AVX-VNNI, AVX512-VNNI | AVX512-BF16 | AMX-BF16 |
/// |---|---|---|---|---|
/// | bf16, rows of whole 32 | 14 bits, weights as well | 14 bits, weights as well | **bf16** | **bf16** |
/// | bf16, other rows | as given | as given | **bf16** | **bf16** |
/// | `Q8_0` | 16 bits | **8 bits** | **8 bits** | **bf16**, weights as well |
/// | `Q6K` | as given | as given | **bf16**, weights as well | **bf16**, weights as well |
/// | `Q4K` | **8 bits** | **8 bits** | **8 bits** | **bf16**, weights as well |
///
/// AVX-512 without VNNI rounds nothing there.
///
/// [`Matrix::forward_exact`] never rounds either.
impl Matrix<'_> {
    /// `y = x Wᵀ + bias`, on rayon's current pool. Results do not depend on its size.
    ///
    /// # Shapes
    /// - `x`: `[m, k]`    - `bias`: `[n]`    - `y`: `[m, n]`
    ///
    /// # Panics
    /// When a slice has another length.
    pub fn forward(&self, x: &[f32], m: usize, bias: Option<&[f32]>, y: &mut [f32]) {
        forward_on(Isa::detect(), false, std::slice::from_ref(self), x, m, bias, y);
    }

    /// As [`forward`](Self::forward), but neither activations nor weights are rounded, whatever the
    /// number of rows.
    ///
    /// # Shapes
    /// - `x`: `[m, k]`    - `bias`: `[n]`    - `y`: `[m, n]`
    ///
    /// # Panics
    /// When a slice has another length.
    pub fn forward_exact(&self, x: &[f32], m: usize, bias: Option<&[f32]>, y: &mut [f32]) {
        forward_on(Isa::detect(), true, std::slice::from_ref(self), x, m, bias, y);
    }
}

/// As [`Matrix::forward`], with the matrices on top of each other: row `i` of the result is what the
/// first gives for row `i` of `x`, then what the second gives, and so on. The matrices may differ in
/// type.
///
/// # Shapes
/// - `parts`: `[n_p, k]` each    - `x`: `[m, k]`    - `bias`: `[Σ n_p]`    - returns: `[m, Σ n_p]`
///
/// # Panics
/// When a slice has another length, the widths `k` differ, or no memory could hold the result.
pub fn forward_stacked(
    parts: &[Matrix<'_>],
    x: &[f32],
    m: usize,
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let n: usize = parts.iter().map(Matrix::n).sum();
    let isa = Isa::detect();
    // SAFETY: all numbers are written before any is read: columns and rows are split into tasks
    // without a gap, and each of them starts from zero or its bias.
    unsafe { written(m.saturating_mul(n), |y| forward_to(isa, false, parts, x, m, bias, y)) }
}

/// `isa` must be one of this machine.
pub(crate) fn forward_on(
    isa: Isa,
    exact: bool,
    parts: &[Matrix<'_>],
    x: &[f32],
    m: usize,
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    let n: usize = parts.iter().map(Matrix::n).sum();
    assert_eq!(Some(y.len()), m.checked_mul(n), "an output of [{m}, {n}]");
    // SAFETY: `y` is as long as it has to be.
    unsafe { forward_to(isa, exact, parts, x, m, bias, SharedMut::new(y)) }
}

/// # Safety
/// `y` must have room for a row of all parts' columns for each of the `m` rows, and nothing else may
/// access it. What it holds is not read.
unsafe fn forward_to(
    isa: Isa,
    exact: bool,
    parts: &[Matrix<'_>],
    x: &[f32],
    m: usize,
    bias: Option<&[f32]>,
    y: SharedMut,
) {
    let k = parts.first().map_or(0, Matrix::k);
    let n: usize = parts.iter().map(Matrix::n).sum();
    assert!(isa.is_here(), "this machine has no {isa:?}");
    assert!(parts.iter().all(|part| part.k() == k), "parts of one width out of {parts:?}");
    assert_eq!(Some(x.len()), m.checked_mul(k), "an input of [{m}, {k}]");
    assert!(bias.is_none_or(|bias| bias.len() == n), "a bias of [{n}]");
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        // A product over nothing is zero.
        for row in 0..m {
            for column in 0..n {
                // SAFETY: the caller has room for the rows and columns.
                unsafe { *y.get().add(row * n + column) = bias.map_or(0.0, |bias| bias[column]) }
            }
        }
        return;
    }
    let job = Job { isa, exact, parts, n, k, x, m, bias, y };
    if m <= FEW_ROWS { job.few_rows() } else { job.many_rows() }
}

/// One call of `forward`, its lengths checked.
struct Job<'a> {
    isa: Isa,
    exact: bool,
    parts: &'a [Matrix<'a>],
    /// Of all parts.
    n: usize,
    k: usize,
    x: &'a [f32],
    m: usize,
    bias: Option<&'a [f32]>,
    y: SharedMut,
}

impl Job<'_> {
    /// Into how many tasks the job is worth splitting.
    fn tasks(&self) -> usize {
        let work = self.m.saturating_mul(self.n).saturating_mul(self.k);
        if work <= SERIAL { 1 } else { (work / SERIAL + 1).min(4 * rayon::current_num_threads()) }
    }

    /// Whether activations are rounded to 16 bits for a few rows of such weights.
    fn rounds(&self, weight_type: WeightType) -> bool {
        cfg!(target_arch = "x86_64") && !self.exact && rounded::takes(weight_type, self.isa)
    }

    /// Calls `run` with the activations rounded for such weights, if any part has them.
    fn with_rounded<R>(&self, weight_type: WeightType, run: impl FnOnce(&[f32]) -> R) -> R {
        let any = self.parts.iter().any(|part| part.weight_type() == weight_type);
        if !any || !self.rounds(weight_type) {
            return run(&[]);
        }
        with_scratch(few::padded(self.m) * rounded::words(weight_type, self.k), |x| {
            // SAFETY: `forward_to` has checked that the machine has this instruction set.
            unsafe { rounded::round(weight_type, self.isa, self.m, self.x, x) }
            run(x)
        })
    }

    fn few_rows(&self) {
        self.with_rounded(WeightType::Q4K, |q4k| {
            self.with_rounded(WeightType::Q6K, |q6k| {
                self.with_rounded(WeightType::Q8_0, |q8_0| {
                    with_scratch(few::padded(self.m) * few::words(self.k), |exact| {
                        few::fill_up(self.x, self.k, exact);
                        self.few_rows_of(exact, [q4k, q6k, q8_0]);
                    });
                });
            });
        });
    }

    fn few_rows_of(&self, exact: &[f32], [q4k, q6k, q8_0]: [&[f32]; 3]) {
        let run = |rows: std::ops::Range<usize>| {
            let mut first = 0;
            for part in self.parts {
                let end = first + part.n();
                let here = rows.start.clamp(first, end)..rows.end.clamp(first, end);
                let rows = here.start - first..here.end - first;
                let rounded = self.rounds(part.weight_type());
                let x = match part.weight_type() {
                    WeightType::Q4K if rounded => q4k,
                    WeightType::Q6K if rounded => q6k,
                    WeightType::Q8_0 if rounded => q8_0,
                    _ => exact,
                };
                let kernel = FewRows { job: self, part, x, rounded, first, rows };
                // SAFETY: `forward_on` has checked the lengths and that the machine has this
                // instruction set; the ranges of different tasks are different columns of `y`.
                unsafe { kernel.run() }
                first = end;
            }
        };
        let height = self.n.div_ceil(self.tasks());
        let tasks = self.n.div_ceil(height);
        if tasks == 1 {
            return run(0..self.n);
        }
        (0..tasks).into_par_iter().for_each(|task| {
            run(task * height..((task + 1) * height).min(self.n));
        });
    }

    /// How a product of many rows with a part is computed.
    fn path(&self, part: &Matrix<'_>) -> Path {
        Path::of(part.weight_type(), self.k, self.isa, self.exact)
    }

    fn many_rows(&self) {
        let &Self { x, m, k, isa, .. } = self;
        // The parts may differ in what they multiply with.
        let mut paths: Vec<(Path, usize)> = Vec::new();
        for path in self.parts.iter().map(|part| self.path(part)) {
            if paths.iter().all(|(known, _)| *known != path) {
                paths.push((path, pack::words(path, m, k)));
            }
        }
        with_scratch(paths.iter().map(|(_, words)| words).sum(), |mut rest| {
            let mut packed = Vec::new();
            for &(path, words) in &paths {
                let (x_packed, behind) = rest.split_at_mut(words);
                pack::pack(isa, path, x, m, k, x_packed);
                packed.push((path, &*x_packed));
                rest = behind;
            }
            let tasks = self.split();
            let run = |task: &Task| {
                let part = &self.parts[task.part];
                let path = self.path(part);
                let x = packed.iter().find(|(of, _)| *of == path).map_or(&[][..], |(_, x)| x);
                with_scratch(ManyRows::scratch_words(task, path, k), |scratch| {
                    let kernel = ManyRows { job: self, part, path, x, task, scratch };
                    // SAFETY: `forward_to` has checked the lengths and that the machine has this
                    // instruction set; tasks are different rows or columns of `y`.
                    unsafe { kernel.run() }
                });
            };
            if tasks.len() == 1 { run(&tasks[0]) } else { tasks.par_iter().for_each(run) }
        });
    }

    /// Tasks of some weight rows of a part by some panels of activations. Weights are split first:
    /// tasks that share them read or widen them once each.
    fn split(&self) -> Vec<Task> {
        let wanted = self.tasks();
        let panels = self.m.div_ceil(PANEL);
        let mut tasks = Vec::new();
        let mut column = 0;
        for (index, part) in self.parts.iter().enumerate() {
            let path = self.path(part);
            let height = self.n.div_ceil(wanted).next_multiple_of(path.group()).min(path.rows());
            let width = panels.div_ceil(wanted.div_ceil(self.n.div_ceil(height))).min(PANELS);
            for row in (0..part.n()).step_by(height) {
                for panel in (0..panels).step_by(width) {
                    tasks.push(Task {
                        part: index,
                        column,
                        rows: row..(row + height).min(part.n()),
                        panels: panel..(panel + width).min(panels),
                    });
                }
            }
            column += part.n();
        }
        tasks
    }
}

/// What one task of many rows computes.
struct Task {
    part: usize,
    /// Where the part's columns start in `y`.
    column: usize,
    /// Of the part's weights, which are columns of `y`.
    rows: std::ops::Range<usize>,
    panels: std::ops::Range<usize>,
}
