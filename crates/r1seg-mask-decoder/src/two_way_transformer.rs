//! Prompt tokens and image tokens attend to each other.
//! Port of SAM's `transformer.py` as SegVol uses it. Keys: `layers.N`,
//! `final_attn_token_to_image`, `norm_final_attn`.

use candle_core::{DType, Result, Tensor};
use r1seg_nn::{
    Activation, AttentionMask, LayerNorm, Linear, Rearranged, Weights, add, attention, layer_norm,
    linear, softmax,
};

use crate::TransformerConfig;

/// torch.nn.LayerNorm's default.
const LAYER_NORM_EPS: f64 = 1e-5;

/// # Shapes
/// - `x`: `[B, T, heads * d]`    - returns: `[B, heads, T, d]`
fn split(x: &Tensor, heads: usize) -> Result<Tensor> {
    by_head(x, heads)?.contiguous()
}

/// As [`split`], a view: for attention, which reads heads where they lie.
fn by_head(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (b, t, inner) = x.dims3()?;
    x.reshape((b, t, heads, inner / heads))?.transpose(1, 2)
}

/// The reverse of [`split`].
fn joined(x: &Tensor) -> Result<Tensor> {
    let (b, h, t, d) = x.dims4()?;
    x.transpose(1, 2)?.reshape((b, t, h * d))
}

/// Tokens attend to tokens.
#[derive(Debug, Clone)]
struct SelfAttention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    heads: usize,
}

impl SelfAttention {
    fn new(cfg: &TransformerConfig, weights: Weights) -> Result<Self> {
        let e = cfg.dim;
        let projection = |name: &str| linear(e, e, weights.pp(name));
        Ok(Self {
            q_proj: projection("q_proj")?,
            k_proj: projection("k_proj")?,
            v_proj: projection("v_proj")?,
            out_proj: projection("out_proj")?,
            heads: cfg.heads,
        })
    }

    /// # Shapes
    /// - `q`, `k`, `v`, `residual`: `[B, T, E]`    - returns: the same
    fn forward(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        let q = by_head(&self.q_proj.forward(q)?, self.heads)?;
        let k = by_head(&self.k_proj.forward(k)?, self.heads)?;
        let v = by_head(&self.v_proj.forward(v)?, self.heads)?;
        let x = joined(&attention(&q, &k, &v, scale(&q)?, AttentionMask::None)?)?;
        match residual {
            Some(residual) => self.out_proj.forward_add(&x, residual),
            None => self.out_proj.forward(&x),
        }
    }
}

/// `1 / sqrt(d)` for heads of `[B, heads, T, d]`.
fn scale(heads: &Tensor) -> Result<f64> {
    Ok((heads.dim(3)? as f64).powf(-0.5))
}

/// `W`, `[inner, E]`, of a projection of the image, in the dtype of what is computed.
///
/// A handful of tokens attends to thousands of patches, or the reverse. `(x Wᵀ) y = x (Wᵀ y)`: what
/// would project every patch to `inner` numbers is multiplied with the tokens instead, which leaves
/// one number for each patch, head and token.
fn folded(weight: Tensor) -> Result<Tensor> {
    // On a CPU everything is computed in f32.
    let dtype = if weight.device().is_cpu() { DType::F32 } else { weight.dtype() };
    weight.to_dtype(dtype)
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
struct TokenToImage {
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
    fn new(cfg: &TransformerConfig, weights: Weights) -> Result<Self> {
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
    fn forward_add(
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
        let x = attention(&q, &keys, &values, scale, AttentionMask::None)?.contiguous()?;
        let x = joined(&x.broadcast_matmul(&by_heads(&self.v_proj, &x)?.transpose(2, 3)?)?)?;
        self.out_proj.forward_add(&add(&x, &self.v_bias.to_dtype(x.dtype())?)?, residual)
    }
}

/// The image attends to the tokens.
#[derive(Debug, Clone)]
struct ImageToToken {
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
    fn new(cfg: &TransformerConfig, weights: Weights) -> Result<Self> {
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
    fn forward(&self, image: &Tensor, keys: &Tensor, values: &Tensor) -> Result<Tensor> {
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

#[derive(Debug, Clone)]
struct Layer {
    self_attn: SelfAttention,
    norm1: LayerNorm,
    cross_attn_token_to_image: TokenToImage,
    norm2: LayerNorm,
    lin1: Linear,
    lin2: Linear,
    norm3: LayerNorm,
    norm4: LayerNorm,
    cross_attn_image_to_token: ImageToToken,
    /// The first layer attends without positions and without a residual: the tokens are their
    /// own positions there.
    first: bool,
}

impl Layer {
    fn new(cfg: &TransformerConfig, weights: Weights, first: bool) -> Result<Self> {
        let e = cfg.dim;
        let norm = |name: &str| layer_norm(e, LAYER_NORM_EPS, weights.pp(name));
        let mlp = weights.pp("mlp");
        Ok(Self {
            self_attn: SelfAttention::new(cfg, weights.pp("self_attn"))?,
            norm1: norm("norm1")?,
            cross_attn_token_to_image: TokenToImage::new(
                cfg,
                weights.pp("cross_attn_token_to_image"),
            )?,
            norm2: norm("norm2")?,
            lin1: linear(e, cfg.mlp_dim, mlp.pp("lin1"))?,
            lin2: linear(cfg.mlp_dim, e, mlp.pp("lin2"))?,
            norm3: norm("norm3")?,
            norm4: norm("norm4")?,
            cross_attn_image_to_token: ImageToToken::new(
                cfg,
                weights.pp("cross_attn_image_to_token"),
            )?,
            first,
        })
    }

    /// # Shapes
    /// - `queries`, `query_pe`: `[B, T, E]`    - `keys`: `[B, N, E]`    - `key_pe`: `[1, N, E]`
    fn forward(
        &self,
        queries: &Tensor,
        keys: &Tensor,
        query_pe: &Tensor,
        key_pe: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let queries = if self.first {
            self.self_attn.forward(queries, queries, queries, None)?
        } else {
            let q = add(queries, query_pe)?;
            self.self_attn.forward(&q, &q, queries, Some(queries))?
        };
        let queries = self.norm1.forward(&queries)?;

        let q = add(&queries, query_pe)?;
        let k = add(keys, key_pe)?;
        let queries = self.cross_attn_token_to_image.forward_add(&q, &k, keys, &queries)?;
        let queries = self.norm2.forward(&queries)?;

        let inner = self.lin1.forward_activated(&queries, Activation::Relu)?;
        let queries = self.norm3.forward(&self.lin2.forward_add(&inner, &queries)?)?;

        let q = add(&queries, query_pe)?;
        let x = self.cross_attn_image_to_token.forward(&k, &q, &queries)?;
        Ok((queries, self.norm4.forward_sum(keys, &x)?))
    }
}

/// Prompt tokens and image tokens attend to each other.
#[derive(Debug, Clone)]
pub struct TwoWayTransformer {
    layers: Vec<Layer>,
    final_attn_token_to_image: TokenToImage,
    norm_final_attn: LayerNorm,
}

impl TwoWayTransformer {
    /// Loads from `weights`, the prefix `mask_decoder.transformer`.
    ///
    /// # Errors
    /// When a tensor is missing or misshaped.
    pub fn new(cfg: &TransformerConfig, weights: Weights) -> Result<Self> {
        let layers = weights.pp("layers");
        Ok(Self {
            layers: (0..cfg.depth)
                .map(|i| Layer::new(cfg, layers.pp(i), i == 0))
                .collect::<Result<_>>()?,
            final_attn_token_to_image: TokenToImage::new(
                cfg,
                weights.pp("final_attn_token_to_image"),
            )?,
            norm_final_attn: layer_norm(cfg.dim, LAYER_NORM_EPS, weights.pp("norm_final_attn"))?,
        })
    }

    /// # Shapes
    /// - `image`: `[B, N, E]`    - `image_pe`: `[1, N, E]`    - `tokens`: `[B, T, E]`
    /// - returns: the tokens `[B, T, E]` and the image `[B, N, E]`
    ///
    /// # Errors
    /// When the widths differ or the backend cannot run the operation.
    pub fn forward(
        &self,
        image: &Tensor,
        image_pe: &Tensor,
        tokens: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let (mut queries, mut keys) = (tokens.clone(), image.clone());
        for layer in &self.layers {
            (queries, keys) = layer.forward(&queries, &keys, tokens, image_pe)?;
        }
        let q = add(&queries, tokens)?;
        let k = add(&keys, image_pe)?;
        let queries = self.final_attn_token_to_image.forward_add(&q, &k, &keys, &queries)?;
        Ok((self.norm_final_attn.forward(&queries)?, keys))
    }
}
