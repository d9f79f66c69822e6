//! Prompt tokens and image tokens attend to each other.
//! Port of SAM's `transformer.py` as SegVol uses it. Keys: `layers.N`,
//! `final_attn_token_to_image`, `norm_final_attn`.

use candle_core::{Result, Tensor};
use r1seg_nn::{Activation, LayerNorm, Linear, Weights, add, layer_norm, linear};

use crate::TransformerConfig;
use crate::attention::{ImageToToken, SelfAttention, TokenToImage};

/// torch.nn.LayerNorm's default.
const LAYER_NORM_EPS: f64 = 1e-5;

#[derive(Debug, Clone)]
struct Layer {
    self_attn: SelfAttention,
    norm1: LayerNorm,
    cross_attn_token_to_image: TokenToImage,
    norm2: LayerNorm,
    widen: Linear,
    narrow: Linear,
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
        let (mlp, [widen, narrow]) = (weights.pp("mlp"), cfg.mlp_names);
        Ok(Self {
            self_attn: SelfAttention::new(cfg, &weights.pp("self_attn"))?,
            norm1: norm("norm1")?,
            cross_attn_token_to_image: TokenToImage::new(
                cfg,
                weights.pp("cross_attn_token_to_image"),
            )?,
            norm2: norm("norm2")?,
            widen: linear(e, cfg.mlp_dim, mlp.pp(widen))?,
            narrow: linear(cfg.mlp_dim, e, mlp.pp(narrow))?,
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
            self.self_attn.forward(queries, queries)?
        } else {
            let q = add(queries, query_pe)?;
            self.self_attn.forward_add(&q, queries, queries)?
        };
        let queries = self.norm1.forward(&queries)?;

        let q = add(&queries, query_pe)?;
        let k = add(keys, key_pe)?;
        let queries = self.cross_attn_token_to_image.forward_add(&q, &k, keys, &queries)?;
        let queries = self.norm2.forward(&queries)?;

        let inner = self.widen.forward_activated(&queries, Activation::Relu)?;
        let queries = self.norm3.forward(&self.narrow.forward_add(&inner, &queries)?)?;

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
