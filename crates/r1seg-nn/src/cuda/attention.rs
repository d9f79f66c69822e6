//! Attention without scores in memory, and the cache of a sequence.

use candle_core::{DType, Result, Tensor, bail};
use r1seg_kernels::Mask;
use r1seg_kernels::cuda::{APPEND, ATTENTION_MMA, ATTENTION_PLAIN, ATTENTION_STEP, ATTENTION_WIDE};

use super::{Grid, Parameters, Pointer, SHARED, device_of, launch, unfilled};

/// Strides of batch, head and row.
#[repr(C)]
struct Strides([i64; 3]);

impl Strides {
    /// Of `[B, heads, L, dim]`, whose rows must be whole.
    fn of(x: &Tensor) -> Result<Self> {
        match *x.stride() {
            [batch, head, row, 1] => Ok(Self([batch as i64, head as i64, row as i64])),
            _ => bail!(
                "attention needs the numbers of a row side by side, got strides {:?}",
                x.stride()
            ),
        }
    }
}

#[repr(C)]
struct Args<'a> {
    q: Pointer<'a>,
    k: Pointer<'a>,
    v: Pointer<'a>,
    out: Pointer<'a>,
    bias: Pointer<'a>,
    rotary: Pointer<'a>,
    q_strides: Strides,
    k_strides: Strides,
    v_strides: Strides,
    out_strides: Strides,
    bias_strides: Strides,
    /// Batch, heads, key heads, queries, keys, width of a head.
    sizes: [i32; 6],
    scale: f32,
    causal: i32,
    past: i32,
    window: i32,
    rotary_half: i32,
}

const _: () = assert!(size_of::<Args<'_>>() == 216, "as in common.cuh");

// SAFETY: as `Attention` of attention/common.cuh; `attend` checks the shapes.
unsafe impl Parameters for Args<'_> {}

/// The widest head that the kernels take.
pub(crate) const MAX_HEAD: usize = 1024;

/// Queries per head up to which each gets a block of its own.
const FEW_QUERIES: usize = 16;

/// Queries from which on a block of tensor cores takes 128 of them.
const MANY_QUERIES: usize = 1024;

/// What changes the scores of an attention.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scores<'a> {
    pub(crate) scale: f64,
    pub(crate) mask: Mask,
    /// `[1 or B, 1 or heads, Lq, Lk]` in f32.
    pub(crate) bias: Option<&'a Tensor>,
    /// `[Lq, 2 half]` in f32: for each query its cosines, then its sines.
    pub(crate) rotary: Option<&'a Tensor>,
}

/// The kernel for these sizes, and its grid.
fn kernel(
    [batch, heads, lq, dim]: [usize; 4],
    dtype: DType,
    aligned: bool,
) -> Result<(r1seg_kernels::cuda::Module, String, Grid)> {
    let size = |sizes: &[usize]| match sizes.iter().find(|size| dim <= **size) {
        Some(size) => Ok(*size),
        None => bail!("attention of heads of {dim} numbers"),
    };
    if dim > 256 || lq <= FEW_QUERIES {
        let size = size(&[128, 256, MAX_HEAD])?;
        let grid = Grid::new([heads, lq, batch], 256);
        return Ok((ATTENTION_WIDE, format!("attend_wide_{size}"), grid));
    }
    let blocks = |rows: usize| Grid::new([heads, lq.div_ceil(rows), batch], 128);
    if dtype != DType::F32 && aligned && dim <= 128 {
        let size = size(&[32, 64, 96, 128])?;
        return Ok(if lq >= MANY_QUERIES && size > 32 {
            (ATTENTION_MMA, format!("attend_mma_{size}_tall"), blocks(128))
        } else {
            (ATTENTION_MMA, format!("attend_mma_{size}"), blocks(64))
        });
    }
    let size = size(&[32, 64, 96, 128, 256])?;
    Ok((ATTENTION_PLAIN, format!("attend_plain_{size}"), blocks(64)))
}

/// `softmax(scale * q kᵀ + bias) v` under a mask, in f32 whatever the dtype.
///
/// # Shapes
/// - `q`: `[B, heads, Lq, dim]`    - `k`, `v`: `[B, kv_heads, Lk, dim]`, views whose rows are whole
/// - returns: `[B, heads, Lq, dim]`, a view of `[B, Lq, heads, dim]`
pub(crate) fn attend(q: &Tensor, k: &Tensor, v: &Tensor, scores: Scores<'_>) -> Result<Tensor> {
    let (batch, heads, lq, dim) = q.dims4()?;
    let (_, kv_heads, lk, _) = k.dims4()?;
    let dtype = q.dtype();
    let fits = k.dims() == v.dims()
        && k.dims() == [batch, kv_heads, lk, dim]
        && kv_heads > 0
        && heads.is_multiple_of(kv_heads)
        && k.dtype() == dtype
        && v.dtype() == dtype;
    if !fits {
        bail!("queries {:?}, keys {:?} and values {:?}", q.dims(), k.dims(), v.dims())
    }
    let rotary_half = half(scores.rotary, lq, dim)?;
    let bias = match scores.bias {
        Some(bias) => {
            let (bb, bh, bq, bk) = bias.dims4()?;
            let fits = (bb == 1 || bb == batch) && (bh == 1 || bh == heads) && (bq, bk) == (lq, lk);
            if !fits || bias.dtype() != DType::F32 {
                bail!("a bias of {:?} for scores of [{batch}, {heads}, {lq}, {lk}]", bias.dims())
            }
            // What all share has no stride.
            Some(bias.contiguous()?.broadcast_as((batch, heads, lq, lk))?)
        }
        None => None,
    };
    let device = device_of(q)?;
    let out = unfilled((batch, lq, heads, dim), dtype, &device)?;
    let rows = out.transpose(1, 2)?;
    let (causal, past, window) = match scores.mask {
        Mask::None => (0, 0, 0),
        Mask::Causal { past, window } => (1, past, window.unwrap_or(0)),
    };
    let (q_at, k_at, v_at) = (operand(q)?, operand(k)?, operand(v)?);
    let vector = |(pointer, strides): &(Pointer<'_>, Strides)| {
        pointer.0.is_multiple_of(16) && strides.0.iter().all(|stride| stride % 8 == 0)
    };
    let aligned = dim.is_multiple_of(8) && [&q_at, &k_at, &v_at].into_iter().all(vector);
    let (module, name, grid) = kernel([batch, heads, lq, dim], dtype, aligned)?;
    let narrow = |n: usize| i32::try_from(n).map_err(candle_core::Error::wrap);
    let args = Args {
        q: q_at.0,
        k: k_at.0,
        v: v_at.0,
        out: Pointer::first(&rows)?,
        bias: bias.as_ref().map_or(Ok(Pointer::NULL), Pointer::first)?,
        rotary: Pointer::of_optional(scores.rotary)?,
        q_strides: q_at.1,
        k_strides: k_at.1,
        v_strides: v_at.1,
        out_strides: Strides::of(&rows)?,
        bias_strides: bias.as_ref().map_or(Ok(Strides([0; 3])), Strides::of)?,
        sizes: [
            narrow(batch)?,
            narrow(heads)?,
            narrow(kv_heads)?,
            narrow(lq)?,
            narrow(lk)?,
            narrow(dim)?,
        ],
        scale: scores.scale as f32,
        causal,
        past: narrow(past)?,
        window: narrow(window)?,
        rotary_half,
    };
    launch(&device, (module, &name, dtype), grid, args)?;
    Ok(rows)
}

fn operand(x: &Tensor) -> Result<(Pointer<'_>, Strides)> {
    Ok((Pointer::first(x)?, Strides::of(x)?))
}

/// Half the numbers of a head that rotate.
fn half(rotary: Option<&Tensor>, len: usize, dim: usize) -> Result<i32> {
    let Some(rotary) = rotary else { return Ok(0) };
    let (rows, width) = rotary.dims2()?;
    if rows != len || width > dim || !width.is_multiple_of(2) || rotary.dtype() != DType::F32 {
        bail!("a rotary table of {:?} for {len} heads of {dim} numbers", rotary.dims())
    }
    Ok((width / 2) as i32)
}

/// The cache of one layer, and the new tokens of its sequence.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cached<'a> {
    /// `[1, L, (heads + 2 kv_heads) dim]`: queries, keys, values.
    pub(crate) qkv: &'a Tensor,
    /// `[L, 2 half]` in f32: for each token its cosines, then its sines.
    pub(crate) rotary: &'a Tensor,
    /// `[1, kv_heads, capacity, dim]`, rows up to `past` filled; the new ones are written behind.
    pub(crate) keys: &'a Tensor,
    /// As the keys.
    pub(crate) values: &'a Tensor,
    pub(crate) past: usize,
    pub(crate) heads: usize,
    pub(crate) window: Option<usize>,
    pub(crate) scale: f64,
}

#[repr(C)]
struct AppendArgs<'a> {
    qkv: Pointer<'a>,
    keys: Pointer<'a>,
    values: Pointer<'a>,
    rotary: Pointer<'a>,
    head_strides: [i64; 2],
    sizes: [i32; 3],
    past: i32,
    rotary_half: i32,
}

// SAFETY: as `Append` of attention/append.cu; `Cached::sizes` checks the shapes.
unsafe impl Parameters for AppendArgs<'_> {}

#[repr(C)]
struct StepArgs<'a> {
    qkv: Pointer<'a>,
    keys: Pointer<'a>,
    values: Pointer<'a>,
    rotary: Pointer<'a>,
    out: Pointer<'a>,
    partial: Pointer<'a>,
    head_strides: [i64; 2],
    sizes: [i32; 3],
    past: i32,
    window: i32,
    scale: f32,
    rotary_half: i32,
    splits: i32,
    stages: i32,
}

const _: () = assert!(size_of::<StepArgs<'_>>() == 104, "as in step.cu");

// SAFETY: as `Step` of attention/step.cu; `Cached::sizes` checks the shapes.
unsafe impl Parameters for StepArgs<'_> {}

/// Keys up to which one block reads all of a head: a second launch would cost more than it saves.
const UNSPLIT: usize = 512;

/// Keys of a split beyond that.
const SPLIT: usize = 256;

impl Cached<'_> {
    /// Tokens, key heads and the width of a head.
    fn sizes(&self) -> Result<[usize; 3]> {
        let (batch, tokens, width) = self.qkv.dims3()?;
        let (one, kv_heads, capacity, dim) = self.keys.dims4()?;
        let dtype = self.qkv.dtype();
        let fits = (batch, one) == (1, 1)
            && width == (self.heads + 2 * kv_heads) * dim
            && self.past + tokens <= capacity
            && kv_heads > 0
            && self.heads.is_multiple_of(kv_heads)
            && self.keys.dims() == self.values.dims()
            && self.keys.dtype() == dtype
            && self.values.dtype() == dtype;
        if !fits {
            bail!(
                "tokens of {:?} behind {} rows of a cache of {:?}",
                self.qkv.dims(),
                self.past,
                self.keys.dims()
            )
        }
        Ok([tokens, kv_heads, dim])
    }

    /// Attention of the new tokens to those before them and to themselves.
    ///
    /// # Shapes
    /// - returns: `[1, L, heads dim]`
    pub(crate) fn attend(&self) -> Result<Tensor> {
        let [tokens, kv_heads, dim] = self.sizes()?;
        let group = self.heads / kv_heads;
        if tokens == 1 && dim <= 256 && group <= 16 {
            return self.step([kv_heads, dim]);
        }
        self.append([tokens, kv_heads, dim])?;
        let heads = self.qkv.reshape((1, tokens, self.heads + 2 * kv_heads, dim))?;
        let q = heads.narrow(2, 0, self.heads)?.transpose(1, 2)?;
        let [keys, values] =
            [self.keys, self.values].map(|rows| rows.narrow(2, 0, self.past + tokens));
        let scores = Scores {
            scale: self.scale,
            mask: Mask::Causal { past: self.past, window: self.window },
            bias: None,
            rotary: Some(self.rotary),
        };
        let out = attend(&q, &keys?, &values?, scores)?;
        out.transpose(1, 2)?.reshape((1, tokens, self.heads * dim))
    }

    fn head_strides(&self) -> [i64; 2] {
        [self.keys, self.values].map(|rows| rows.stride()[1] as i64)
    }

    fn append(&self, [tokens, kv_heads, dim]: [usize; 3]) -> Result<()> {
        let args = AppendArgs {
            qkv: Pointer::of(self.qkv)?,
            keys: Pointer::of(self.keys)?,
            values: Pointer::of(self.values)?,
            rotary: Pointer::of(self.rotary)?,
            head_strides: self.head_strides(),
            sizes: [self.heads as i32, kv_heads as i32, dim as i32],
            past: i32::try_from(self.past).map_err(candle_core::Error::wrap)?,
            rotary_half: half(Some(self.rotary), tokens, dim)?,
        };
        let grid = Grid::new([tokens, kv_heads, 1], dim.next_multiple_of(32).min(256));
        launch(&device_of(self.qkv)?, (APPEND, "append", self.qkv.dtype()), grid, args)
    }

    /// The one new token.
    fn step(&self, [kv_heads, dim]: [usize; 2]) -> Result<Tensor> {
        let (device, dtype, size) =
            (device_of(self.qkv)?, self.qkv.dtype(), self.qkv.dtype().size_in_bytes());
        let heads = self.heads;
        let seen = (self.past + 1).min(self.window.unwrap_or(usize::MAX));
        let splits = if seen <= UNSPLIT { 1 } else { seen.div_ceil(SPLIT) };
        let group = (heads / kv_heads).next_power_of_two();
        let width = dim.next_multiple_of(16 / size);
        let shared = |warps: usize, stages: usize| {
            4 * (group + 1) * width + 32 * warps * group + warps * stages * 16 * width * size
        };
        let geometries = [(4, 3), (4, 2), (2, 3), (2, 2), (2, 1), (1, 1)];
        let Some((warps, stages)) =
            geometries.into_iter().find(|&(warps, stages)| shared(warps, stages) <= SHARED)
        else {
            bail!("{group} heads of {dim} numbers do not fit a block")
        };
        let out = unfilled((1, 1, heads * dim), dtype, &device)?;
        let partial = match splits {
            1 => None,
            _ => Some(unfilled(heads * splits * (dim + 2), DType::F32, &device)?),
        };
        let args = || {
            Ok::<_, candle_core::Error>(StepArgs {
                qkv: Pointer::of(self.qkv)?,
                keys: Pointer::of(self.keys)?,
                values: Pointer::of(self.values)?,
                rotary: Pointer::of(self.rotary)?,
                out: Pointer::of(&out)?,
                partial: Pointer::of_optional(partial.as_ref())?,
                head_strides: self.head_strides(),
                sizes: [heads as i32, kv_heads as i32, dim as i32],
                past: i32::try_from(self.past).map_err(candle_core::Error::wrap)?,
                window: i32::try_from(self.window.unwrap_or(0))
                    .map_err(candle_core::Error::wrap)?,
                scale: self.scale as f32,
                rotary_half: half(Some(self.rotary), 1, dim)?,
                splits: splits as i32,
                stages: stages as i32,
            })
        };
        let mut grid = Grid::new([kv_heads, splits, 1], 32 * warps);
        grid.shared = shared(warps, stages);
        let name = format!("attend_step_{group}");
        launch(&device, (ATTENTION_STEP, &name, dtype), grid, args()?)?;
        if splits > 1 {
            let grid = Grid::new([heads, 1, 1], dim.next_multiple_of(32));
            launch(&device, (ATTENTION_STEP, "attend_step_combine", dtype), grid, args()?)?;
        }
        Ok(out)
    }
}
