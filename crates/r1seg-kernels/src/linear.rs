//! `y = x Wᵀ + b` over weights that are packed once.

use half::bf16;
use rayon::prelude::*;

use crate::buffer::{Buffer, SharedMut, with_scratch};
use crate::isa::Isa;
use crate::pack::{self, Activations};
use crate::simd::{self, Kernel, Simd};
use crate::tile::{F32, PANEL, Product, Start, Tile, WidenBf16};

/// Up to this many rows the product is bound by reading the weights, and rounding the activations
/// would save nothing.
pub(crate) const EXACT_ROWS: usize = 6;

/// Inner steps per pass over many rows: a panel's stretch (64 KiB) stays in the second-level cache.
const PASS: usize = 512;

/// Panels per task of a product of many rows, which share one read of the activations.
const PANELS: usize = 4;

/// Below this many multiplications a task costs more to hand over than to do.
const SERIAL: usize = 1 << 17;

/// What the weights of a [`PackedLinear`] are stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightType {
    /// Two bytes per weight.
    Bf16,
    /// Four bytes per weight.
    F32,
}

/// The weights of a linear layer, `[n, k]`, in the order in which the kernels read them. The
/// original can be dropped.
///
/// # Precision
///
/// Sums are in f32 on every path, and weights enter exactly as they are stored.
///
/// | weights | rows | AVX512-BF16 | AVX-512, AVX2, portable |
/// |---|---|---|---|
/// | f32 | any | f32 activations | f32 activations |
/// | bf16 | up to 6 | f32 activations | f32 activations |
/// | bf16 | more | **activations rounded to bf16** (nearest even), denormals as zero | f32 activations |
///
/// [`PackedLinear::forward_exact`] never rounds the activations.
#[derive(Clone)]
pub struct PackedLinear {
    weights: Buffer,
    weight_type: WeightType,
    n: usize,
    k: usize,
}

impl std::fmt::Debug for PackedLinear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { weight_type, n, k, .. } = self;
        write!(f, "PackedLinear({weight_type:?}, [{n}, {k}])")
    }
}

impl PackedLinear {
    /// # Shapes
    /// - `weight`: `[n, k]`
    ///
    /// # Panics
    /// When `weight` has another length.
    pub fn from_bf16(weight: &[bf16], n: usize, k: usize) -> Self {
        assert_eq!(Some(weight.len()), n.checked_mul(k), "weights of [{n}, {k}]");
        Self { weights: pack::weights_bf16(weight, n, k), weight_type: WeightType::Bf16, n, k }
    }

    /// # Shapes
    /// - `weight`: `[n, k]`
    ///
    /// # Panics
    /// When `weight` has another length.
    pub fn from_f32(weight: &[f32], n: usize, k: usize) -> Self {
        assert_eq!(Some(weight.len()), n.checked_mul(k), "weights of [{n}, {k}]");
        Self { weights: pack::weights_f32(weight, n, k), weight_type: WeightType::F32, n, k }
    }

    /// The width of the output.
    pub fn n(&self) -> usize {
        self.n
    }

    /// The width of the input.
    pub fn k(&self) -> usize {
        self.k
    }

    /// What the weights are stored as.
    pub fn weight_type(&self) -> WeightType {
        self.weight_type
    }

    /// Memory that the packed weights take.
    pub fn bytes(&self) -> usize {
        size_of_val(self.weights.as_slice())
    }

    /// Whether [`forward`](Self::forward) rounds the activations of `m` rows to bf16 here.
    pub fn rounds_activations(&self, m: usize) -> bool {
        self.path(Isa::detect(), m, false) == Path::Dot
    }

    /// `y = x Wᵀ + bias`, on rayon's current pool.
    ///
    /// # Shapes
    /// - `x`: `[m, k]`    - `bias`: `[n]`    - `y`: `[m, n]`
    ///
    /// # Panics
    /// When a slice has another length.
    pub fn forward(&self, x: &[f32], m: usize, bias: Option<&[f32]>, y: &mut [f32]) {
        self.forward_on(Isa::detect(), false, x, m, bias, y);
    }

    /// As [`forward`](Self::forward), but the activations stay in f32 whatever the number of rows.
    ///
    /// # Shapes
    /// - `x`: `[m, k]`    - `bias`: `[n]`    - `y`: `[m, n]`
    ///
    /// # Panics
    /// When a slice has another length.
    pub fn forward_exact(&self, x: &[f32], m: usize, bias: Option<&[f32]>, y: &mut [f32]) {
        self.forward_on(Isa::detect(), true, x, m, bias, y);
    }

    fn path(&self, isa: Isa, m: usize, exact: bool) -> Path {
        match self.weight_type {
            WeightType::F32 => Path::F32,
            WeightType::Bf16 if isa == Isa::Avx512Bf16 && m > EXACT_ROWS && !exact => Path::Dot,
            WeightType::Bf16 => Path::Widen,
        }
    }

    /// `isa` must be one of this machine.
    pub(crate) fn forward_on(
        &self,
        isa: Isa,
        exact: bool,
        x: &[f32],
        m: usize,
        bias: Option<&[f32]>,
        y: &mut [f32],
    ) {
        let (n, k) = (self.n, self.k);
        assert!(isa <= Isa::detect(), "this machine has no {isa:?}");
        assert_eq!(Some(x.len()), m.checked_mul(k), "an input of [{m}, {k}]");
        assert_eq!(Some(y.len()), m.checked_mul(n), "an output of [{m}, {n}]");
        assert!(bias.is_none_or(|bias| bias.len() == n), "a bias of [{n}]");
        if m == 0 || n == 0 {
            return;
        }
        let path = self.path(isa, m, exact);
        let activations = path.activations();
        let rows = simd::tile_rows(isa).min(m);
        if m == 1 && path != Path::Dot && activations.words(k) == k {
            // A single row is its own packing.
            return self.product(isa, path, rows, x, m, bias, y);
        }
        with_scratch(m * activations.words(k), |packed| {
            activations.pack(x, m, k, rows, packed);
            self.product(isa, path, rows, packed, m, bias, y);
        });
    }

    /// # Shapes
    /// - `x`: packed in blocks of `rows`    - `y`: `[m, n]`
    #[expect(clippy::too_many_arguments, reason = "the private second half of forward_on")]
    fn product(
        &self,
        isa: Isa,
        path: Path,
        rows: usize,
        x: &[f32],
        m: usize,
        bias: Option<&[f32]>,
        y: &mut [f32],
    ) {
        let job = Job {
            linear: self,
            steps: self.weights.as_slice().len() / (self.n.div_ceil(PANEL) * PANEL),
            words: path.activations().words(self.k),
            x,
            m,
            rows,
            bias,
            y: SharedMut::new(y),
        };
        let (panels, blocks) = (self.n.div_ceil(PANEL), m.div_ceil(rows));
        let run = |panels: std::ops::Range<usize>, blocks: std::ops::Range<usize>| {
            let part = Part { job: &job, path, panels, blocks };
            // SAFETY: `forward_on` has checked the lengths and that the machine has `isa`; the
            // parts of different tasks are different panels or blocks of `y`.
            unsafe { part.run(isa) }
        };
        let work = m * self.n * self.k;
        if work <= SERIAL {
            return run(0..panels, 0..blocks);
        }
        let wanted = (work / SERIAL + 1).min(4 * rayon::current_num_threads());
        let width = if blocks == 1 {
            panels.div_ceil(wanted).max(1)
        } else {
            PANELS.min(panels.div_ceil(wanted)).max(1).max(PANELS.min(panels) / 2)
        };
        let columns = panels.div_ceil(width);
        let height = blocks.div_ceil(wanted.div_ceil(columns));
        (0..columns * blocks.div_ceil(height)).into_par_iter().for_each(|task| {
            let (row, column) = (task / columns, task % columns);
            run(
                column * width..((column + 1) * width).min(panels),
                row * height..((row + 1) * height).min(blocks),
            );
        });
    }
}

/// Which tile kernel multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    F32,
    Widen,
    Dot,
}

impl Path {
    fn activations(self) -> Activations {
        match self {
            Self::F32 => Activations::F32 { multiple: 1 },
            Self::Widen => Activations::F32 { multiple: 2 },
            Self::Dot => Activations::Bf16,
        }
    }
}

/// One call of `forward`.
struct Job<'a> {
    linear: &'a PackedLinear,
    /// Inner steps of a panel.
    steps: usize,
    /// Words per row of packed activations.
    words: usize,
    x: &'a [f32],
    m: usize,
    rows: usize,
    bias: Option<&'a [f32]>,
    y: SharedMut,
}

/// What one task computes of it.
struct Part<'a> {
    job: &'a Job<'a>,
    path: Path,
    panels: std::ops::Range<usize>,
    blocks: std::ops::Range<usize>,
}

impl Part<'_> {
    /// # Safety
    /// The machine must have `isa`, the job's slices must have their lengths, and no other thread
    /// may access this part of `y`.
    unsafe fn run(self, isa: Isa) {
        #[cfg(target_arch = "x86_64")]
        if self.path == Path::Dot {
            #[target_feature(enable = "avx512f,avx512bf16")]
            unsafe fn dot(part: Part<'_>) {
                // SAFETY: the caller's promise.
                unsafe { part.multiply::<simd::Avx512, crate::tile::DotBf16>() }
            }
            // SAFETY: this path is chosen with AVX512-BF16 alone.
            return unsafe { dot(self) };
        }
        // SAFETY: the caller's promise.
        unsafe {
            match self.path {
                Path::F32 => simd::run(isa, ByF32(self)),
                Path::Widen | Path::Dot => simd::run(isa, ByBf16(self)),
            }
        }
    }

    #[inline(always)]
    unsafe fn multiply<S: Simd, P: Product<S>>(self) {
        let &Job { linear, steps, words, x, m, rows, bias, y } = self.job;
        let (n, weights) = (linear.n, linear.weights.as_slice());
        let pass = match self.blocks.len() {
            // Narrow vectors need several sweeps over a panel: its stretch stays in the first cache.
            1 if 2 * S::LANES < PANEL => PASS / 4,
            // Otherwise a single block reads every weight once: there is nothing to keep.
            1 => steps.max(1),
            _ => PASS,
        };
        // A product over nothing still writes its bias.
        for first in (0..steps.max(1)).step_by(pass) {
            for block in self.blocks.clone() {
                let rows_here = rows.min(m - block * rows);
                for panel in self.panels.clone() {
                    let columns = PANEL.min(n - panel * PANEL);
                    let mut edge = [0f32; PANEL];
                    let start = match bias {
                        _ if first > 0 => Start::Output,
                        None => Start::Zero,
                        Some(bias) if columns == PANEL => {
                            Start::Bias(bias[panel * PANEL..].as_ptr())
                        }
                        Some(bias) => {
                            edge[..columns].copy_from_slice(&bias[panel * PANEL..]);
                            Start::Bias(edge.as_ptr())
                        }
                    };
                    let x = &x[block * rows * words + first * P::A_STEP * rows_here..];
                    let weights = &weights[(panel * steps + first) * PANEL..];
                    // SAFETY: the tile's rows and columns lie inside `y`, which has m * n
                    // elements; blocks and panels reach over `steps` by construction.
                    unsafe {
                        let tile = Tile {
                            a: x.as_ptr(),
                            a_strides: (1, rows_here),
                            b: weights.as_ptr(),
                            b_stride: PANEL,
                            steps: pass.min(steps - first),
                            c: y.get().add(block * rows * n + panel * PANEL),
                            c_stride: n,
                            start,
                        };
                        tile.run::<S, P>(rows_here, columns);
                    }
                }
            }
        }
    }
}

struct ByF32<'a>(Part<'a>);

impl Kernel for ByF32<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the caller's promise.
        unsafe { self.0.multiply::<S, F32>() }
    }
}

struct ByBf16<'a>(Part<'a>);

impl Kernel for ByBf16<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the caller's promise.
        unsafe { self.0.multiply::<S, WidenBf16>() }
    }
}
