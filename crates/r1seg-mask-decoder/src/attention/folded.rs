//! Attention between a handful of tokens and thousands of patches, without projecting the patches.
//!
//! `(x Wᵀ) y = x (Wᵀ y)`: what would project every patch to `inner` numbers is multiplied with the tokens
//! instead, which leaves one number for each patch, head and token.

use candle_core::{DType, Result, Tensor};
use r1seg_nn::{AttentionMask, Linear, Rearranged, Weights, add, attention, linear, softmax};

use super::{by_head, joined, scale};
use crate::TransformerConfig;

/// As [`by_head`], one head behind the other.
fn split(x: &Tensor, heads: usize) -> Result<Tensor> {
    by_head(x, heads)?.contiguous()
}

/// `W`, `[inner, E]`, of a projection of the image.
///
/// Everything is computed in f32 on a CPU.
fn folded(weight: Tensor) -> Result<Tensor> {
    weight.to_dtype(DType::F32)
}

/// # Shapes
/// - `weight`: `[heads * d, n]`    - `like`: `[B, heads, ..]`
/// - returns: `[1, heads, d, n]`, in the dtype of `like`
fn by_heads(weight: &Tensor, like: &Tensor) -> Result<Tensor> {
    let ((inner, n), heads) = (weight.dims2()?, like.dim(1)?);
    weight.to_dtype(like.dtype())?.reshape((1, heads, inner / heads, n))
}

/// Tokens attend to the image.
#[derive(Debug, Clone)]
pub(crate) struct TokenToImage {
    q_proj: Linear,
    /// `[inner, E]`; the bias adds the same to all patches and does not change a softmax.
    k_proj: Tensor,
    /// `[inner, E]`
    v_proj: Tensor,
    /// `[inner]`
    v_bias: Tensor,
    out_proj: Linear,
    heads: usize,
}

impl TokenToImage {
    pub(crate) fn new(cfg: &TransformerConfig, weights: &Weights) -> Result<Self> {
        let (e, inner) = (cfg.dim, cfg.dim / cfg.attention_downsample);
        let (k, v) = (weights.pp("k_proj"), weights.pp("v_proj"));
        k.get(inner, "bias")?;
        Ok(Self {
            q_proj: linear(e, inner, weights.pp("q_proj"))?,
            k_proj: folded(k.get((inner, e), "weight")?)?,
            v_proj: folded(v.get((inner, e), "weight")?)?,
            v_bias: v.get(inner, "bias")?,
            out_proj: linear(inner, e, weights.pp("out_proj"))?,
            heads: cfg.heads,
        })
    }

    /// # Shapes
    /// - `tokens`, `residual`: `[B, T, E]`    - `keys`, `values`: `[B, N, E]`
    /// - returns: `[B, T, E]`
    pub(crate) fn forward_add(
        &self,
        tokens: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        residual: &Tensor,
    ) -> Result<Tensor> {
        let q = split(&self.q_proj.forward(tokens)?, self.heads)?;
        let scale = scale(&q)?;
        let q = q.broadcast_matmul(&by_heads(&self.k_proj, &q)?)?;
        let (keys, values) = (keys.unsqueeze(1)?, values.unsqueeze(1)?);
        let x = attention(&q, &keys, &values, scale, AttentionMask::None)?;
        let x = joined(&x.broadcast_matmul(&by_heads(&self.v_proj, &x)?.transpose(2, 3)?)?)?;
        self.out_proj.forward_add(&add(&x, &self.v_bias.to_dtype(x.dtype())?)?, residual)
    }
}

/// The image attends to the tokens.
#[derive(Debug, Clone)]
pub(crate) struct ImageToToken {
    /// `[inner, E]`
    q_proj: Tensor,
    /// `[inner, 1]`
    q_bias: Tensor,
    k_proj: Linear,
    v_proj: Linear,
    /// `[inner, E]`, transposed
    out_proj: Tensor,
    /// `[E]`
    out_bias: Tensor,
    heads: usize,
}

impl ImageToToken {
    pub(crate) fn new(cfg: &TransformerConfig, weights: &Weights) -> Result<Self> {
        let (e, inner) = (cfg.dim, cfg.dim / cfg.attention_downsample);
        let (q, out) = (weights.pp("q_proj"), weights.pp("out_proj"));
        Ok(Self {
            q_proj: folded(q.get((inner, e), "weight")?)?,
            q_bias: folded(q.get(inner, "bias")?.unsqueeze(1)?)?,
            k_proj: linear(e, inner, weights.pp("k_proj"))?,
            v_proj: linear(e, inner, weights.pp("v_proj"))?,
            out_proj: folded(out.get_as(
                &Rearranged::new((e, inner), (inner, e)),
                "weight",
                |t| t.t()?.contiguous(),
            )?)?,
            out_bias: out.get(e, "bias")?,
            heads: cfg.heads,
        })
    }

    /// # Shapes
    /// - `image`: `[B, N, E]`    - `keys`, `values`: `[B, T, E]`    - returns: `[B, N, E]`
    pub(crate) fn forward(&self, image: &Tensor, keys: &Tensor, values: &Tensor) -> Result<Tensor> {
        let (b, n, e) = image.dims3()?;
        let (t, heads) = (keys.dim(1)?, self.heads);
        let k = split(&self.k_proj.forward(keys)?, self.heads)?;
        let k = (&k * scale(&k)?)?;
        let v = split(&self.v_proj.forward(values)?, self.heads)?;
        let q = k.broadcast_matmul(&by_heads(&self.q_proj, &k)?)?.reshape((b, heads * t, e))?;
        let bias = k.broadcast_matmul(&by_heads(&self.q_bias, &k)?)?.reshape((b, heads * t))?;
        let scores = products(image, &q, |i| bias.get(i))?.reshape((b, n, heads, t))?;
        let shares = softmax(scores, 1.0, AttentionMask::None)?.reshape((b, n, heads * t))?;
        let v = v.broadcast_matmul(&by_heads(&self.out_proj, &v)?)?.reshape((b, heads * t, e))?;
        products(&shares, &v.transpose(1, 2)?, |_| Ok(self.out_bias.clone()))
    }
}

/// `x Wᵀ + bias`, with a `W` and a bias of its own for each of the batch.
///
/// # Shapes
/// - `x`: `[B, N, K]`    - `weights`: `[B, M, K]`    - `bias`: `[M]`    - returns: `[B, N, M]`
fn products(
    x: &Tensor,
    weights: &Tensor,
    bias: impl Fn(usize) -> Result<Tensor>,
) -> Result<Tensor> {
    let one = |i| Linear::new(&weights.get(i)?, Some(bias(i)?))?.forward(&x.get(i)?);
    Tensor::stack(&(0..x.dim(0)?).map(one).collect::<Result<Vec<_>>>()?, 0)
}
