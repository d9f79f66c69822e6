//! Attention with a number added to each score: relative positions, or a mask.

use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Storage, Tensor, bail};
use r1seg_kernels::Bias;

use super::{AttentionMask, BlockedAttention, composed, rows_in_place};
use crate::cpu::f32_slice;

/// What is added to the scaled scores of an attention.
#[derive(Debug, Clone)]
pub enum AttentionBias {
    /// `[1 or B, 1 or heads, Lq, Lk]`. Minus infinity hides a key; a query must keep one.
    Full(Tensor),
    /// Keys are the cells of a grid `[I, J, L]`, depth-major, and perhaps more behind them. The score
    /// of query `q` and cell `(i, j, l)` gets `first[q, i, l] + second[q, j, l]`: what relative
    /// positions of each axis come to, without a number for each query and key.
    Grid {
        /// `[B, heads, Lq, I, L]`
        first: Tensor,
        /// `[B, heads, Lq, J, L]`
        second: Tensor,
        /// What the keys behind the grid get, `[B, heads, Lq, Lk - I * J * L]`; `None` when there are
        /// none.
        rest: Option<Tensor>,
    },
}

impl AttentionBias {
    /// The sum of one bias per axis of the keys' grid, such as SAM's decomposed relative positions.
    ///
    /// # Shapes
    /// - `axes`: `[B, heads, Lq, I]`, `[B, heads, Lq, J]` and `[B, heads, Lq, L]`
    ///
    /// # Errors
    /// When the queries of the axes differ.
    pub fn decomposed(axes: [&Tensor; 3]) -> Result<Self> {
        let [planes, rows, cells] = axes;
        let (b, heads, lq, j) = rows.dims4()?;
        let l = cells.dim(3)?;
        Ok(Self::Grid {
            first: planes.unsqueeze(4)?.broadcast_add(&cells.unsqueeze(3)?)?,
            second: rows.unsqueeze(4)?.broadcast_as((b, heads, lq, j, l))?.contiguous()?,
            rest: None,
        })
    }

    /// `softmax(scale * q kᵀ + bias) v`, the softmax in f32 whatever the dtype.
    ///
    /// # Shapes
    /// - `q`: `[B, heads, Lq, dim]`    - `k`, `v`: `[B, kv_heads, Lk, dim]`, `heads % kv_heads == 0`
    /// - returns: `[B, heads, Lq, dim]`
    ///
    /// # Errors
    /// When the shapes do not fit or the backend cannot run the operation.
    pub fn attend(&self, q: &Tensor, k: &Tensor, v: &Tensor, scale: f64) -> Result<Tensor> {
        let (b, heads, lq, dim) = q.dims4()?;
        let (kb, kv_heads, lk, k_dim) = k.dims4()?;
        if v.dims() != k.dims() || kb != b || k_dim != dim {
            bail!("queries {:?}, keys {:?} and values {:?}", q.dims(), k.dims(), v.dims())
        }
        if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
            bail!("{heads} query heads cannot share {kv_heads} key heads")
        }
        self.check([b, heads, lq, lk])?;
        #[cfg(feature = "cuda")]
        if crate::cuda::takes(q) && dim <= crate::cuda::MAX_HEAD {
            let (mask, bias) = (AttentionMask::None, self.full()?.to_dtype(DType::F32)?);
            let scores = crate::cuda::Scores { scale, mask, bias: Some(&bias), rotary: None };
            return super::on_gpu([q, k, v], scores);
        }
        if !q.device().is_cpu() || q.dtype() != DType::F32 {
            return composed([q, k, v], scale, AttentionMask::None, Some(&self.full()?));
        }
        let op = Biased {
            attention: BlockedAttention { scale: scale as f32, mask: AttentionMask::None },
            bias: self.plain()?,
        };
        q.contiguous()?.apply_op3_no_bwd(&rows_in_place(k)?, &rows_in_place(v)?, &op)
    }

    fn check(&self, [b, heads, lq, lk]: [usize; 4]) -> Result<()> {
        let fits = match self {
            Self::Full(bias) => {
                let (bb, bh, bq, bk) = bias.dims4()?;
                (bb == 1 || bb == b) && (bh == 1 || bh == heads) && (bq, bk) == (lq, lk)
            }
            Self::Grid { first, second, rest } => {
                let (_, _, _, i, l) = first.dims5()?;
                let (_, _, _, j, _) = second.dims5()?;
                let rest_fits = match (lk.checked_sub(i * j * l), rest) {
                    (Some(behind), Some(rest)) => rest.dims() == [b, heads, lq, behind],
                    (behind, None) => behind == Some(0),
                    (None, _) => false,
                };
                first.dims() == [b, heads, lq, i, l]
                    && second.dims() == [b, heads, lq, j, l]
                    && rest_fits
            }
        };
        if !fits {
            bail!("a bias of {self:?} does not fit scores of [{b}, {heads}, {lq}, {lk}]")
        }
        Ok(())
    }

    /// A number for each query and key.
    ///
    /// # Shapes
    /// - returns: `[1 or B, 1 or heads, Lq, Lk]`
    fn full(&self) -> Result<Tensor> {
        match self {
            Self::Full(bias) => Ok(bias.clone()),
            Self::Grid { first, second, rest } => {
                let (b, heads, lq, i, l) = first.dims5()?;
                let j = second.dim(3)?;
                let sum = first.unsqueeze(4)?.broadcast_add(&second.unsqueeze(3)?)?;
                let cells = sum.reshape((b, heads, lq, i * j * l))?;
                match rest {
                    Some(rest) => Tensor::cat(&[&cells, rest], 3),
                    None => Ok(cells),
                }
            }
        }
    }

    /// As the kernels read it.
    fn plain(&self) -> Result<Self> {
        let plain = |t: &Tensor| t.to_dtype(DType::F32)?.contiguous();
        Ok(match self {
            Self::Full(bias) => Self::Full(plain(bias)?),
            Self::Grid { first, second, rest } => Self::Grid {
                first: plain(first)?,
                second: plain(second)?,
                rest: rest.as_ref().map(plain).transpose()?,
            },
        })
    }
}

/// The CPU's path in f32.
struct Biased {
    attention: BlockedAttention,
    /// Contiguous, in f32.
    bias: AttentionBias,
}

impl CustomOp3 for Biased {
    fn name(&self) -> &'static str {
        "biased-attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let batch = q_layout.shape().dims4()?.0;
        let tensors = match &self.bias {
            AttentionBias::Full(bias) => vec![bias],
            AttentionBias::Grid { first, second, rest } => {
                [first, second].into_iter().chain(rest).collect()
            }
        };
        let guards: Vec<_> = tensors.iter().map(|t| t.storage_and_layout()).collect();
        let mut slices = Vec::with_capacity(tensors.len());
        for (storage, layout) in &guards {
            let Storage::Cpu(storage) = &**storage else { bail!("a bias on another device") };
            slices.push(f32_slice(storage, layout, self.name())?);
        }
        // One for all of the batch, or one each.
        let of = |slice: usize, i: usize| {
            let (slice, batches) = (slices[slice], tensors[slice].dims()[0]);
            let size = slice.len() / batches;
            if batches == batch { &slice[i * size..][..size] } else { slice }
        };
        self.attention.run((q, q_layout), (k, k_layout), (v, v_layout), |i| match &self.bias {
            AttentionBias::Full(_) => Bias::Full(of(0, i)),
            AttentionBias::Grid { first, second, rest } => {
                let (first, second) = (first.dims(), second.dims());
                let grid = [first[3], second[3], first[4]];
                let rest = if rest.is_some() { of(2, i) } else { &[] };
                Bias::Grid { grid, first: of(0, i), second: of(1, i), rest }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, device, gap, on_cpu, random, wave};

    // q, k, v = wave([1, 1, 6, 2], .7), wave([1, 1, 6, 2], .3), wave([1, 1, 6, 2], .9)
    // rd, rh, rw = wave([1, 1, 6, 2], 1.1), wave([1, 1, 6, 1], 1.3), wave([1, 1, 6, 3], 1.7)
    // bias = rd[..., :, None, None] + rh[..., None, :, None] + rw[..., None, None, :]
    // F.scaled_dot_product_attention(q, k, v, attn_mask=bias.reshape(1, 1, 6, 6))
    #[test]
    fn decomposed_positions_equal_those_of_pytorch() -> Result<()> {
        let [q, k, v] = [0.7, 0.3, 0.9].map(|step| wave(&[1, 1, 6, 2], step));
        let (q, k, v) = (q?, k?, v?);
        let axes = [(2, 1.1), (1, 1.3), (3, 1.7)].map(|(n, step)| wave(&[1, 1, 6, n], step));
        let [planes, rows, cells] = axes;
        let bias = AttentionBias::decomposed([&planes?, &rows?, &cells?])?;
        let full = AttentionBias::Full(bias.full()?);
        for bias in [bias, full] {
            let y = bias.attend(&q, &k, &v, 0.5f64.sqrt())?;
            assert_close(
                &y,
                &[
                    0.382_255_05,
                    0.426_707_63,
                    0.090_442_64,
                    -0.317_676_04,
                    0.113_228_64,
                    -0.309_096_72,
                    0.080_832_705,
                    0.077_835_195,
                    0.070_082_11,
                    0.507_769_8,
                    0.222_719_63,
                    0.372_227_5,
                ],
                1e-6,
            )?;
        }
        Ok(())
    }

    #[test]
    fn every_form_of_bias_gives_what_f64_gives_in_batches_and_shared_heads() -> Result<()> {
        let random = |dims: &[usize]| random(0.0, 1.0, dims);
        let (b, heads, kv_heads, lq, [i, j, l], dim) = (2, 4, 2, 30, [3, 4, 5], 24);
        let lk = i * j * l;
        let q = random(&[b, heads, lq, dim])?;
        let (k, v) = (random(&[b, kv_heads, lk, dim])?, random(&[b, kv_heads, lk, dim])?);
        let hidden = (random(&[1, 1, lq, lk])? * f64::INFINITY)?.minimum(&Tensor::zeros(
            (1, 1, lq, lk),
            DType::F32,
            &device()?,
        )?)?;
        let wide = on_cpu;
        let grid = |[i, j, l]: [usize; 3], behind: usize| -> Result<AttentionBias> {
            Ok(AttentionBias::Grid {
                first: random(&[b, heads, lq, i, l])?,
                second: random(&[b, heads, lq, j, l])?,
                rest: (behind > 0).then(|| random(&[b, heads, lq, behind])).transpose()?,
            })
        };
        for bias in [
            grid([i, j, l], 0)?,
            grid([i - 1, j, l], j * l)?,
            grid([i, j, 1], lk - i * j)?,
            AttentionBias::Full(random(&[b, heads, lq, lk])?),
            AttentionBias::Full(random(&[b, 1, lq, lk])?),
            AttentionBias::Full(random(&[1, heads, lq, lk])?),
            AttentionBias::Full(hidden),
        ] {
            let got = bias.attend(&q, &k, &v, 0.2)?;
            // The path that materializes the scores.
            let exact = composed(
                [&wide(&q)?, &wide(&k)?, &wide(&v)?],
                0.2,
                AttentionMask::None,
                Some(&wide(&bias.full()?)?),
            )?;
            assert!(gap(&got, &exact)? < 5e-6);
            let half = |t: &Tensor| t.to_dtype(DType::BF16);
            let rounded = bias.attend(&half(&q)?, &half(&k)?, &half(&v)?, 0.2)?;
            assert_eq!(rounded.dtype(), DType::BF16);
            assert!(gap(&rounded, &exact)? < 0.1);
        }
        Ok(())
    }

    #[test]
    fn a_bias_that_does_not_fit_is_an_error() -> Result<()> {
        let q = wave(&[1, 2, 6, 4], 0.7)?;
        let full = |shape: &[usize]| Ok(AttentionBias::Full(wave(shape, 0.3)?));
        let refused = |bias: Result<AttentionBias>| -> Result<bool> {
            Ok(bias?.attend(&q, &q, &q, 1.0).is_err())
        };
        assert!(!refused(full(&[1, 2, 6, 6]))?);
        for shape in [&[1, 3, 6, 6][..], &[2, 2, 6, 6], &[1, 2, 6, 5], &[2, 6, 6]] {
            assert!(refused(full(shape))?, "{shape:?}");
        }
        let with_rest = |first: &[usize], second: &[usize], rest: Option<&[usize]>| {
            let rest = rest.map(|rest| wave(rest, 0.3)).transpose()?;
            Ok(AttentionBias::Grid { first: wave(first, 0.3)?, second: wave(second, 0.3)?, rest })
        };
        let grid = |first: &[usize], second: &[usize]| with_rest(first, second, None);
        assert!(!refused(grid(&[1, 2, 6, 1, 2], &[1, 2, 6, 3, 2]))?);
        assert!(refused(grid(&[1, 2, 6, 1, 3], &[1, 2, 6, 3, 2]))?);
        assert!(refused(grid(&[1, 2, 6, 2, 2], &[1, 2, 6, 3, 2]))?);
        assert!(refused(grid(&[1, 2, 6, 1, 2], &[1, 2, 6, 2, 2]))?);
        let (plane, rows) = (&[1, 2, 6, 1, 2][..], &[1, 2, 6, 2, 2][..]);
        assert!(!refused(with_rest(plane, rows, Some(&[1, 2, 6, 2])))?);
        assert!(refused(with_rest(plane, rows, Some(&[1, 2, 6, 1])))?);
        assert!(refused(with_rest(plane, rows, Some(&[1, 1, 6, 2])))?);
        assert!(full(&[1, 2, 6, 6])?.attend(&q, &q, &q.narrow(2, 0, 5)?, 1.0).is_err());
        Ok(())
    }
}
