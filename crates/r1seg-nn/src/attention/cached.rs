//! Causal attention of the new tokens of a sequence, whose keys and values stay for those to come.

use candle_core::{DType, Device, Result, Tensor, bail};
use candle_nn::rotary_emb::rope;
use r1seg_kernels::ALIKE_QUERIES;

use super::{AttentionMask, attention};
use crate::FEW_ROWS;

/// Cosines and sines of the angles by which the heads of some tokens rotate.
#[derive(Debug, Clone)]
pub struct Rotary {
    /// `[L, half]`
    cos: Tensor,
    /// `[L, half]`
    sin: Tensor,
    /// `[L, 2 half]`: both, where they are on a GPU; `cos` and `sin` are its halves then.
    #[cfg(feature = "cuda")]
    table: Option<Tensor>,
}

impl Rotary {
    /// # Shapes
    /// - `cos`, `sin`: `[L, half]`, row by row
    ///
    /// # Errors
    /// When the numbers are not so many rows, or the device is out of memory.
    pub fn new(cos: Vec<f32>, sin: Vec<f32>, half: usize, device: &Device) -> Result<Self> {
        let len = cos.len() / half.max(1);
        #[cfg(feature = "cuda")]
        if device.is_cuda() {
            // One copy to the device.
            let rows = cos.chunks_exact(half.max(1)).zip(sin.chunks_exact(half.max(1)));
            let both: Vec<f32> =
                rows.flat_map(|(cos, sin)| cos.iter().chain(sin)).copied().collect();
            let table = Tensor::from_vec(both, (len, 2 * half), device)?;
            let (cos, sin) = (table.narrow(1, 0, half)?, table.narrow(1, half, half)?);
            return Ok(Self { cos, sin, table: Some(table) });
        }
        Ok(Self {
            cos: Tensor::from_vec(cos, (len, half), device)?,
            sin: Tensor::from_vec(sin, (len, half), device)?,
            #[cfg(feature = "cuda")]
            table: None,
        })
    }

    /// # Shapes
    /// - returns: `[L, half]`
    pub fn cos(&self) -> &Tensor {
        &self.cos
    }

    /// # Shapes
    /// - returns: `[L, half]`
    pub fn sin(&self) -> &Tensor {
        &self.sin
    }

    /// Rotates the first elements of each head, as many as the tables have angles for.
    ///
    /// # Shapes
    /// - `x`: `[B, heads, L, head_dim]`    - returns: the same shape and dtype
    ///
    /// # Errors
    /// When the shapes do not fit or the backend cannot run the operation.
    pub fn rotate(&self, x: &Tensor) -> Result<Tensor> {
        let (dtype, head_dim) = (x.dtype(), x.dim(3)?);
        let rotary_dim = 2 * self.cos.dim(1)?;
        let turned = x.narrow(3, 0, rotary_dim)?.to_dtype(DType::F32)?.contiguous()?;
        let turned = rope(&turned, &self.cos.contiguous()?, &self.sin.contiguous()?)?;
        let turned = turned.to_dtype(dtype)?;
        if rotary_dim == head_dim {
            return Ok(turned);
        }
        Tensor::cat(&[&turned, &x.narrow(3, rotary_dim, head_dim - rotary_dim)?], 3)
    }
}

/// Attention of the new tokens of a sequence to those before them and to themselves, with rotated
/// queries and keys and grouped key heads.
#[derive(Debug, Clone, Copy)]
pub struct CachedAttention {
    /// Query heads, a multiple of the key heads.
    pub heads: usize,
    /// Numbers of a head.
    pub head_dim: usize,
    /// Positions that a token sees, itself included; `None` for all.
    pub window: Option<usize>,
}

impl CachedAttention {
    /// Writes the rotated keys and the values of the new tokens behind the `past` rows of the cache
    /// that are filled, and attends to all of them. On a CPU, in f32, each of up to [`FEW_ROWS`] tokens gets what
    /// it gets alone, to the last bit.
    ///
    /// # Shapes
    /// - `qkv`: `[1, L, (heads + 2 kv_heads) head_dim]`    - `rotary`: of the `L` tokens
    /// - `keys`, `values`: `[1, kv_heads, capacity, head_dim]`, with room for `past + L` rows
    /// - returns: `[1, L, heads head_dim]`
    ///
    /// # Errors
    /// When the shapes do not fit or the backend cannot run the operation.
    pub fn forward(
        &self,
        qkv: &Tensor,
        rotary: &Rotary,
        (keys, values): (&Tensor, &Tensor),
        past: usize,
    ) -> Result<Tensor> {
        let &Self { heads, head_dim, window } = self;
        let scale = (head_dim as f64).powf(-0.5);
        #[cfg(feature = "cuda")]
        if let (true, Some(rotary)) = (crate::cuda::takes(qkv), &rotary.table) {
            let qkv = &qkv.contiguous()?;
            let cached =
                crate::cuda::Cached { qkv, rotary, keys, values, past, heads, window, scale };
            return cached.attend();
        }
        let (_, len, width) = qkv.dims3()?;
        let (_, kv_heads, capacity, _) = keys.dims4()?;
        if width != (heads + 2 * kv_heads) * head_dim || past + len > capacity {
            bail!("tokens of {:?} behind {past} rows of a cache of {:?}", qkv.dims(), keys.dims())
        }
        let split = |first: usize, heads: usize| {
            qkv.narrow(2, first * head_dim, heads * head_dim)?
                .reshape((1, len, heads, head_dim))?
                .transpose(1, 2) // [1, heads, L, head_dim]
        };
        let q = rotary.rotate(&split(0, heads)?)?;
        keys.slice_set(&rotary.rotate(&split(heads, kv_heads)?)?.contiguous()?, 2, past)?;
        values.slice_set(&split(heads + kv_heads, kv_heads)?.contiguous()?, 2, past)?;
        let attend = |first: usize, count: usize| {
            let seen = past + first + count;
            let [keys, values] = [keys, values].map(|rows| rows.narrow(2, 0, seen));
            let mask = AttentionMask::Causal { past: past + first, window };
            attention(&q.narrow(2, first, count)?, &keys?, &values?, scale, mask)
        };
        let out = if len > ALIKE_QUERIES && len <= FEW_ROWS {
            Tensor::cat(
                &[attend(0, ALIKE_QUERIES)?, attend(ALIKE_QUERIES, len - ALIKE_QUERIES)?],
                2,
            )?
        } else {
            attend(0, len)?
        };
        out.transpose(1, 2)?.reshape((1, len, heads * head_dim))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{device, gap, wave};

    /// A sequence in one pass and in several gives what attention without a cache gives.
    fn check(heads: usize, kv_heads: usize, head_dim: usize, half: usize) -> Result<()> {
        let (len, capacity) = (23, 64);
        let width = (heads + 2 * kv_heads) * head_dim;
        let qkv = (wave(&[1, len, width], 0.37)? * 1.5)?;
        let angles: Vec<f64> = (0..len * half).map(|i| i as f64 * 0.11).collect();
        let part = |first: usize, len: usize| {
            let angles = &angles[first * half..][..len * half];
            let (sin, cos) = angles.iter().map(|a| (a.sin() as f32, a.cos() as f32)).unzip();
            Rotary::new(cos, sin, half, &device()?)
        };
        let rotary = part(0, len)?;
        let heads_of = |first: usize, heads: usize| {
            let part = qkv.narrow(2, first * head_dim, heads * head_dim)?;
            part.reshape((1, len, heads, head_dim))?.transpose(1, 2)
        };
        let (q, k) =
            (rotary.rotate(&heads_of(0, heads)?)?, rotary.rotate(&heads_of(heads, kv_heads)?)?);
        for window in [None, Some(4)] {
            let layer = CachedAttention { heads, head_dim, window };
            let mask = AttentionMask::Causal { past: 0, window };
            let scale = (head_dim as f64).powf(-0.5);
            let v = heads_of(heads + kv_heads, kv_heads)?.contiguous()?;
            let expected = attention(&q, &k, &v, scale, mask)?.transpose(1, 2)?;
            let expected = expected.reshape((1, len, heads * head_dim))?;
            for parts in [&[23][..], &[1; 23], &[7, 1, 1, 14]] {
                let shape = (1, kv_heads, capacity, head_dim);
                let [keys, values] = [0; 2].map(|_| Tensor::zeros(shape, DType::F32, &device()?));
                let (keys, values) = (keys?, values?);
                let (mut past, mut outputs) = (0, Vec::new());
                for &new in parts {
                    let tokens = qkv.narrow(1, past, new)?;
                    let rotary = part(past, new)?;
                    outputs.push(layer.forward(&tokens, &rotary, (&keys, &values), past)?);
                    past += new;
                }
                let gap = gap(&Tensor::cat(&outputs, 1)?, &expected)?;
                // Scores of up to 20, summed in another order.
                assert!(gap < 8e-6, "{heads}/{kv_heads} {head_dim} {window:?} {parts:?}: {gap}");
                let filled = keys.narrow(2, 0, len)?;
                assert!(crate::testing::gap(&filled, &k)? < 1e-6);
            }
        }
        Ok(())
    }

    #[test]
    fn tokens_one_by_one_give_what_they_give_at_once() -> Result<()> {
        check(4, 4, 16, 8)?;
        check(6, 2, 24, 8)?;
        check(8, 1, 32, 16)?;
        check(16, 1, 96, 48)?;
        check(2, 2, 128, 32)
    }

    #[test]
    fn a_few_tokens_at_once_get_what_each_gets_alone_to_the_last_bit() -> Result<()> {
        let capacity = 700;
        for (heads, kv_heads, head_dim) in [(4, 4, 96), (8, 2, 64), (6, 2, 24), (28, 4, 128)] {
            let filled = wave(&[1, kv_heads, capacity, head_dim], 0.7)?.to_device(&Device::Cpu)?;
            let width = (heads + 2 * kv_heads) * head_dim;
            let qkv = (wave(&[1, FEW_ROWS, width], 0.37)? * 1.5)?.to_device(&Device::Cpu)?;
            let angles: Vec<f32> = (0..FEW_ROWS * 12).map(|i| i as f32 * 0.11).collect();
            let rotary = |first: usize, len: usize| {
                let angles = &angles[first * 12..][..len * 12];
                let (sin, cos) = angles.iter().map(|a| (a.sin(), a.cos())).unzip();
                Rotary::new(cos, sin, 12, &Device::Cpu)
            };
            for (past, window) in [(0, None), (3, Some(4)), (300, None), (640, Some(290))] {
                let layer = CachedAttention { heads, head_dim, window };
                let run = |parts: &[usize]| {
                    let (keys, values) = (filled.copy()?, (filled.copy()? * 0.5)?);
                    let (mut first, mut outputs) = (0, Vec::new());
                    for &len in parts {
                        let (qkv, rotary) = (qkv.narrow(1, first, len)?, rotary(first, len)?);
                        let at = past + first;
                        outputs.push(layer.forward(&qkv, &rotary, (&keys, &values), at)?);
                        first += len;
                    }
                    Tensor::cat(&outputs, 1)?.flatten_all()?.to_vec1::<f32>()
                };
                let alone = run(&[1; FEW_ROWS])?;
                for parts in [&[6][..], &[5, 1], &[4, 2], &[3, 3], &[2, 1, 3]] {
                    assert!(run(parts)? == alone, "{heads}/{kv_heads} {past} {parts:?}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn many_positions_are_read_in_parts() -> Result<()> {
        let (heads, head_dim, past) = (2, 16, 1300);
        let filled = wave(&[1, heads, past + 12, head_dim], 0.7)?;
        let (keys, values) = (filled.copy()?, (filled.copy()? * 0.5)?);
        let qkv = wave(&[1, 1, 3 * heads * head_dim], 0.3)?;
        let rotary = Rotary::new(vec![1.0; 4], vec![0.0; 4], 4, &device()?)?;
        let layer = CachedAttention { heads, head_dim, window: None };
        let out = layer.forward(&qkv, &rotary, (&keys, &values), past)?;
        let q = qkv.narrow(2, 0, heads * head_dim)?.reshape((1, 1, heads, head_dim))?;
        let [keys, values] = [keys, values].map(|rows| rows.narrow(2, 0, past + 1));
        let q = q.transpose(1, 2)?.contiguous()?;
        let expected = attention(&q, &keys?, &values?, 0.25, AttentionMask::None)?;
        assert!(gap(&out, &expected.transpose(1, 2)?.reshape((1, 1, heads * head_dim))?)? < 2e-6);
        let far = layer.forward(&qkv, &rotary, (&filled, &filled), past + 12);
        assert!(far.is_err(), "there is no room");
        Ok(())
    }
}
