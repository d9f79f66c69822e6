//! Image and prompt embeddings to low-resolution mask logits.
//! Port of SegVol's `mask_decoder.py`, with what other relatives of SAM in 3D do otherwise.
//! Keys: `transformer`, `iou_token`, `mask_tokens`, `output_upscaling`,
//! `output_hypernetworks_mlps`, `iou_prediction_head`, `txt_align_upscaled_embedding`.

use candle_core::{Result, Tensor, bail};
use r1seg_nn::{Activation, Linear, Weights, add, linear};

use crate::head::MaskPrediction;
use crate::upscaler::Upscaler;
use crate::{Hypernetworks, MaskDecoderConfig, PromptEmbeddings, TwoWayTransformer};

/// Three linear layers with a ReLU between them.
#[derive(Debug, Clone)]
pub(crate) struct Mlp([Linear; 3]);

impl Mlp {
    pub(crate) fn new(
        input: usize,
        hidden: usize,
        output: usize,
        weights: Weights,
    ) -> Result<Self> {
        let layers = weights.pp("layers");
        Ok(Self([
            linear(input, hidden, layers.pp(0))?,
            linear(hidden, hidden, layers.pp(1))?,
            linear(hidden, output, layers.pp(2))?,
        ]))
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [first, second, third] = &self.0;
        let x = first.forward_activated(x, Activation::Relu)?;
        third.forward(&second.forward_activated(&x, Activation::Relu)?)
    }
}

/// Image and prompt embeddings to low-resolution mask logits.
///
/// Only the single-mask output is used by the published models, so only its hypernetwork is
/// loaded; the others of a checkpoint are never read.
#[derive(Debug, Clone)]
pub struct MaskDecoder {
    transformer: TwoWayTransformer,
    /// `[1, tokens, E]`: the IoU token, if there is one, then the mask tokens.
    output_tokens: Tensor,
    upscaler: Upscaler,
    hypernetwork: Mlp,
    iou_prediction_head: Option<Mlp>,
    txt_align: Option<Linear>,
}

impl MaskDecoder {
    /// Loads from `weights`, the prefix `mask_decoder`.
    ///
    /// # Errors
    /// When a tensor is missing or misshaped.
    pub fn new(cfg: &MaskDecoderConfig, weights: Weights) -> Result<Self> {
        let (e, channels, masks) = (cfg.embed_dim(), cfg.mask_channels(), cfg.mask_tokens);
        let mask_tokens = weights.pp("mask_tokens").get((masks, e), "weight")?;
        let output_tokens = match cfg.iou_hidden {
            Some(_) => {
                let iou_token = weights.pp("iou_token").get((1, e), "weight")?;
                Tensor::cat(&[iou_token, mask_tokens], 0)?
            }
            None => mask_tokens,
        };
        let hypernetworks = weights.pp("output_hypernetworks_mlps");
        let hypernetwork = match cfg.hypernetworks {
            Hypernetworks::PerToken => hypernetworks.pp(0),
            Hypernetworks::Shared => hypernetworks,
        };
        let iou_prediction_head = match cfg.iou_hidden {
            Some(hidden) => Some(Mlp::new(e, hidden, masks, weights.pp("iou_prediction_head"))?),
            None => None,
        };
        let txt_align = if cfg.text_similarity {
            Some(linear(e, channels, weights.pp("txt_align_upscaled_embedding"))?)
        } else {
            None
        };
        Ok(Self {
            transformer: TwoWayTransformer::new(&cfg.transformer, weights.pp("transformer"))?,
            output_tokens: output_tokens.unsqueeze(0)?,
            upscaler: Upscaler::new(cfg, &weights.pp("output_upscaling"))?,
            hypernetwork: Mlp::new(e, e, channels, hypernetwork)?,
            iou_prediction_head,
            txt_align,
        })
    }

    /// # Shapes
    /// - `image_embeddings`: `[B, N, E]`    - `image_pe`: `[1, N, E]`    - `text`: `[B, E]`
    ///
    /// # Errors
    /// When the widths differ or the backend cannot run the operation.
    pub fn forward(
        &self,
        image_embeddings: &Tensor,
        image_pe: &Tensor,
        prompts: &PromptEmbeddings,
        text: Option<&Tensor>,
    ) -> Result<MaskPrediction> {
        let (b, _, e) = image_embeddings.dims3()?;
        let dtype = image_embeddings.dtype();
        let output_tokens = self.output_tokens.to_dtype(dtype)?;
        let count = output_tokens.dim(1)?;
        let output_tokens = output_tokens.expand((b, count, e))?.contiguous()?;
        let tokens = match &prompts.sparse {
            Some(sparse) => {
                let sparse = sparse.to_dtype(dtype)?;
                let sparse = sparse.expand((b, sparse.dim(1)?, e))?;
                Tensor::cat(&[&output_tokens, &sparse], 1)?
            }
            None => output_tokens,
        };
        let src = add(image_embeddings, &prompts.dense.to_dtype(dtype)?)?;
        let (hs, src) = self.transformer.forward(&src, &image_pe.to_dtype(dtype)?, &tokens)?;

        let mask_token = usize::from(self.iou_prediction_head.is_some());
        let mut kernel = self.hypernetwork.forward(&hs.narrow(1, mask_token, 1)?)?;
        if let (Some(text), Some(txt_align)) = (text, &self.txt_align) {
            // Both products read the same map, and the text similarity is added to the mask.
            kernel = txt_align.forward_add(&text.unsqueeze(1)?, &kernel)?;
        }
        Ok(MaskPrediction {
            logits: self.upscaler.logits(&src, &kernel)?,
            first_token: hs.narrow(1, 0, 1)?.squeeze(1)?,
        })
    }

    /// The predicted IoU of all mask outputs, of which a pass itself has no need.
    ///
    /// # Shapes
    /// - returns: `[B, masks]`: the single mask, then those for ambiguous prompts
    ///
    /// # Errors
    /// When the model predicts none.
    pub fn predicted_iou(&self, prediction: &MaskPrediction) -> Result<Tensor> {
        match &self.iou_prediction_head {
            Some(head) => head.forward(&prediction.first_token),
            None => bail!("the model predicts no IoU"),
        }
    }

    /// Whether the model predicts an IoU.
    pub fn predicts_iou(&self) -> bool {
        self.iou_prediction_head.is_some()
    }
}
