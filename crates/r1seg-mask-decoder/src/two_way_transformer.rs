//! Prompt tokens and image tokens attend to each other.
//! Port of SAM's `transformer.py` as SegVol uses it. Keys: `layers.N`,
//! `final_attn_token_to_image`, `norm_final_attn`.

use candle_core::{Result, Tensor};
use r1seg_nn::{AttentionMask, LayerNorm, Linear, Weights, attention, layer_norm, linear};

use crate::MaskHeadConfig;

/// torch.nn.LayerNorm's default.
const LAYER_NORM_EPS: f64 = 1e-5;

/// Attention whose inner width may be smaller than the embedding.
#[derive(Debug, Clone)]
struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
}

impl Attention {
    fn new(embed_dim: usize, downsample: usize, weights: Weights) -> Result<Self> {
        let inner = embed_dim / downsample;
        Ok(Self {
            q_proj: linear(embed_dim, inner, weights.pp("q_proj"))?,
            k_proj: linear(embed_dim, inner, weights.pp("k_proj"))?,
            v_proj: linear(embed_dim, inner, weights.pp("v_proj"))?,
            out_proj: linear(inner, embed_dim, weights.pp("out_proj"))?,
        })
    }

    /// # Shapes
    /// - `q`: `[B, T, E]`    - `k`, `v`: `[B, S, E]`    - returns: `[B, T, E]`
    fn forward(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        let heads = |x: Tensor| -> Result<Tensor> {
            let (b, t, inner) = x.dims3()?;
            let dims = (b, t, MaskHeadConfig::NUM_HEADS, inner / MaskHeadConfig::NUM_HEADS);
            x.reshape(dims)?.transpose(1, 2)?.contiguous()
        };
        let q = heads(self.q_proj.forward(q)?)?;
        let k = heads(self.k_proj.forward(k)?)?;
        let v = heads(self.v_proj.forward(v)?)?;
        let (b, h, t, dim) = q.dims4()?;
        let x = attention(&q, &k, &v, 1.0 / (dim as f64).sqrt(), AttentionMask::None)?;
        self.out_proj.forward(&x.transpose(1, 2)?.reshape((b, t, h * dim))?)
    }
}

#[derive(Debug, Clone)]
struct Layer {
    self_attn: Attention,
    norm1: LayerNorm,
    cross_attn_token_to_image: Attention,
    norm2: LayerNorm,
    lin1: Linear,
    lin2: Linear,
    norm3: LayerNorm,
    norm4: LayerNorm,
    cross_attn_image_to_token: Attention,
    /// The first layer attends without positions and without a residual: the tokens are their
    /// own positions there.
    first: bool,
}

impl Layer {
    fn new(e: usize, first: bool, weights: Weights) -> Result<Self> {
        let down = MaskHeadConfig::ATTENTION_DOWNSAMPLE;
        let norm = |name: &str| layer_norm(e, LAYER_NORM_EPS, weights.pp(name));
        let mlp = weights.pp("mlp");
        Ok(Self {
            self_attn: Attention::new(e, 1, weights.pp("self_attn"))?,
            norm1: norm("norm1")?,
            cross_attn_token_to_image: Attention::new(
                e,
                down,
                weights.pp("cross_attn_token_to_image"),
            )?,
            norm2: norm("norm2")?,
            lin1: linear(e, MaskHeadConfig::MLP_DIM, mlp.pp("lin1"))?,
            lin2: linear(MaskHeadConfig::MLP_DIM, e, mlp.pp("lin2"))?,
            norm3: norm("norm3")?,
            norm4: norm("norm4")?,
            cross_attn_image_to_token: Attention::new(
                e,
                down,
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
            self.self_attn.forward(queries, queries, queries)?
        } else {
            let q = (queries + query_pe)?;
            (queries + self.self_attn.forward(&q, &q, queries)?)?
        };
        let queries = self.norm1.forward(&queries)?;

        let q = (&queries + query_pe)?;
        let k = keys.broadcast_add(key_pe)?;
        let queries = (&queries + self.cross_attn_token_to_image.forward(&q, &k, keys)?)?;
        let queries = self.norm2.forward(&queries)?;

        let mlp = self.lin2.forward(&self.lin1.forward(&queries)?.relu()?)?;
        let queries = self.norm3.forward(&(&queries + mlp)?)?;

        let q = (&queries + query_pe)?;
        let keys = (keys + self.cross_attn_image_to_token.forward(&k, &q, &queries)?)?;
        Ok((queries, self.norm4.forward(&keys)?))
    }
}

/// Prompt tokens and image tokens attend to each other.
#[derive(Debug, Clone)]
pub struct TwoWayTransformer {
    layers: Vec<Layer>,
    final_attn_token_to_image: Attention,
    norm_final_attn: LayerNorm,
}

impl TwoWayTransformer {
    /// Loads from `weights`, the prefix `mask_decoder.transformer`.
    ///
    /// # Errors
    /// When a tensor is missing or misshaped.
    pub fn new(embed_dim: usize, weights: Weights) -> Result<Self> {
        let layers = weights.pp("layers");
        Ok(Self {
            layers: (0..MaskHeadConfig::DEPTH)
                .map(|i| Layer::new(embed_dim, i == 0, layers.pp(i)))
                .collect::<Result<_>>()?,
            final_attn_token_to_image: Attention::new(
                embed_dim,
                MaskHeadConfig::ATTENTION_DOWNSAMPLE,
                weights.pp("final_attn_token_to_image"),
            )?,
            norm_final_attn: layer_norm(embed_dim, LAYER_NORM_EPS, weights.pp("norm_final_attn"))?,
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
        let q = (&queries + tokens)?;
        let k = keys.broadcast_add(image_pe)?;
        let queries = (&queries + self.final_attn_token_to_image.forward(&q, &k, &keys)?)?;
        Ok((self.norm_final_attn.forward(&queries)?, keys))
    }
}
