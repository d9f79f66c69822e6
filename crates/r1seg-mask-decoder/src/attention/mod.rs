//! Attention between projected tokens.

mod folded;

use candle_core::{Result, Tensor};
use r1seg_nn::{AttentionMask, Linear, Weights, attention, linear, stacked};

use crate::TransformerConfig;

/// # Shapes
/// - `x`: `[B, T, heads * d]`    - returns: `[B, heads, T, d]`, a view
fn by_head(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (b, t, inner) = x.dims3()?;
    x.reshape((b, t, heads, inner / heads))?.transpose(1, 2)
}

/// The reverse of [`by_head`].
fn joined(x: &Tensor) -> Result<Tensor> {
    let (b, h, t, d) = x.dims4()?;
    x.transpose(1, 2)?.reshape((b, t, h * d))
}

/// `1 / sqrt(d)` for heads of `[B, heads, T, d]`.
fn scale(heads: &Tensor) -> Result<f64> {
    Ok((heads.dim(3)? as f64).powf(-0.5))
}

/// Multi-head attention. Keys: `q_proj`, `k_proj`, `v_proj`, `out_proj`.
#[derive(Debug, Clone)]
pub(crate) struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    heads: usize,
}

impl Attention {
    /// From tokens of width `e`, with heads of `inner` numbers together.
    pub(crate) fn new(e: usize, inner: usize, heads: usize, weights: &Weights) -> Result<Self> {
        let projection = |name: &str| linear(e, inner, weights.pp(name));
        Ok(Self {
            q_proj: projection("q_proj")?,
            k_proj: projection("k_proj")?,
            v_proj: projection("v_proj")?,
            out_proj: linear(inner, e, weights.pp("out_proj"))?,
            heads,
        })
    }

    /// # Shapes
    /// - `q`: `[B, T, E]`    - `k`, `v`: `[B, S, E]`    - returns: `[B, T, E]`
    pub(crate) fn forward(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        self.out_proj.forward(&self.attend(q, k, v)?)
    }

    /// # Shapes
    /// - `q`, `residual`: `[B, T, E]`    - `k`, `v`: `[B, S, E]`    - returns: `[B, T, E]`
    pub(crate) fn forward_add(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        residual: &Tensor,
    ) -> Result<Tensor> {
        self.out_proj.forward_add(&self.attend(q, k, v)?, residual)
    }

    fn attend(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        let q = by_head(&self.q_proj.forward(q)?, self.heads)?;
        let k = by_head(&self.k_proj.forward(k)?, self.heads)?;
        let v = by_head(&self.v_proj.forward(v)?, self.heads)?;
        joined(&attention(&q, &k, &v, scale(&q)?, AttentionMask::None)?)
    }
}

/// Multi-head attention whose queries and keys come from the same tokens. Keys: as [`Attention`].
#[derive(Debug, Clone)]
pub(crate) struct SelfAttention {
    qk_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    heads: usize,
}

impl SelfAttention {
    pub(crate) fn new(cfg: &TransformerConfig, weights: &Weights) -> Result<Self> {
        let e = cfg.dim;
        let qk = ["q_proj", "k_proj"].map(|name| (weights.pp(name), e));
        Ok(Self {
            qk_proj: stacked(e, &qk, true)?,
            v_proj: linear(e, e, weights.pp("v_proj"))?,
            out_proj: linear(e, e, weights.pp("out_proj"))?,
            heads: cfg.heads,
        })
    }

    /// # Shapes
    /// - `qk`, `v`: `[B, T, E]`    - returns: the same
    pub(crate) fn forward(&self, qk: &Tensor, v: &Tensor) -> Result<Tensor> {
        self.out_proj.forward(&self.attend(qk, v)?)
    }

    /// # Shapes
    /// - `qk`, `v`, `residual`: `[B, T, E]`    - returns: the same
    pub(crate) fn forward_add(&self, qk: &Tensor, v: &Tensor, residual: &Tensor) -> Result<Tensor> {
        self.out_proj.forward_add(&self.attend(qk, v)?, residual)
    }

    fn attend(&self, qk: &Tensor, v: &Tensor) -> Result<Tensor> {
        let (b, t, e) = qk.dims3()?;
        let qk = self.qk_proj.forward(qk)?.reshape((b, t, 2 * self.heads, e / self.heads))?;
        let part = |first: usize| qk.narrow(2, first, self.heads)?.transpose(1, 2);
        let (q, k) = (part(0)?, part(self.heads)?);
        let v = by_head(&self.v_proj.forward(v)?, self.heads)?;
        joined(&attention(&q, &k, &v, scale(&q)?, AttentionMask::None)?)
    }
}

/// An attention between tokens and image with the width of `cfg`.
fn projected(cfg: &TransformerConfig, weights: &Weights) -> Result<Attention> {
    Attention::new(cfg.dim, cfg.dim / cfg.attention_downsample, cfg.heads, weights)
}

/// Tokens attend to the image.
#[derive(Debug, Clone)]
pub(crate) enum TokenToImage {
    /// On a CPU, where projecting the image is most of the work.
    Folded(folded::TokenToImage),
    /// On a GPU, where that takes less time than the launches of smaller products.
    Projected(Attention),
}

impl TokenToImage {
    pub(crate) fn new(cfg: &TransformerConfig, weights: Weights) -> Result<Self> {
        Ok(if weights.device().is_cpu() {
            Self::Folded(folded::TokenToImage::new(cfg, &weights)?)
        } else {
            Self::Projected(projected(cfg, &weights)?)
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
        match self {
            Self::Folded(attention) => attention.forward_add(tokens, keys, values, residual),
            Self::Projected(attention) => attention.forward_add(tokens, keys, values, residual),
        }
    }
}

/// The image attends to the tokens: as [`TokenToImage`], the other way around.
#[derive(Debug, Clone)]
pub(crate) enum ImageToToken {
    Folded(folded::ImageToToken),
    Projected(Attention),
}

impl ImageToToken {
    pub(crate) fn new(cfg: &TransformerConfig, weights: Weights) -> Result<Self> {
        Ok(if weights.device().is_cpu() {
            Self::Folded(folded::ImageToToken::new(cfg, &weights)?)
        } else {
            Self::Projected(projected(cfg, &weights)?)
        })
    }

    /// # Shapes
    /// - `image`: `[B, N, E]`    - `keys`, `values`: `[B, T, E]`    - returns: `[B, N, E]`
    pub(crate) fn forward(&self, image: &Tensor, keys: &Tensor, values: &Tensor) -> Result<Tensor> {
        match self {
            Self::Folded(attention) => attention.forward(image, keys, values),
            Self::Projected(attention) => attention.forward(image, keys, values),
        }
    }
}
