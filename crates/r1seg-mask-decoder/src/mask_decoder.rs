//! Image and prompt embeddings to low-resolution mask logits.
//! Port of SegVol's `mask_decoder.py`. Keys: `transformer`, `iou_token`, `mask_tokens`,
//! `output_upscaling.{0,1,3}`, `output_hypernetworks_mlps.0`, `iou_prediction_head`,
//! `txt_align_upscaled_embedding`.

use candle_core::{Result, Tensor};
use r1seg_nn::{
    LayerNorm, Linear, PatchConvTranspose3d, Rearranged, Weights, add, gelu_dot, linear,
    patch_conv_transpose3d, relu,
};

use crate::blocks::to_grid;
use crate::head::MaskPrediction;
use crate::{MaskHeadConfig, PromptEmbeddings, TwoWayTransformer};

/// torch.nn.LayerNorm's default.
const LAYER_NORM_EPS: f64 = 1e-5;

/// Three linear layers with a ReLU between them.
#[derive(Debug, Clone)]
struct Mlp([Linear; 3]);

impl Mlp {
    fn new(input: usize, hidden: usize, output: usize, weights: Weights) -> Result<Self> {
        let layers = weights.pp("layers");
        Ok(Self([
            linear(input, hidden, layers.pp(0))?,
            linear(hidden, hidden, layers.pp(1))?,
            linear(hidden, output, layers.pp(2))?,
        ]))
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [first, second, third] = &self.0;
        third.forward(&relu(&second.forward(&relu(&first.forward(x)?)?)?)?)
    }
}

/// Image and prompt embeddings to low-resolution mask logits.
///
/// Only the single-mask output is used by the published models, so only its hypernetwork is
/// loaded; the three others of a checkpoint are never read.
#[derive(Debug, Clone)]
pub struct MaskDecoder {
    transformer: TwoWayTransformer,
    /// `[1, 1 + masks, E]`: the IoU token, then the mask tokens.
    output_tokens: Tensor,
    upscale0: PatchConvTranspose3d,
    upscale_norm: LayerNorm,
    upscale3: PatchConvTranspose3d,
    hypernetwork: Mlp,
    iou_prediction_head: Mlp,
    txt_align: Linear,
    grid: [usize; 3],
}

impl MaskDecoder {
    /// Loads from `weights`, the prefix `mask_decoder`.
    ///
    /// # Errors
    /// When a tensor is missing or misshaped.
    pub fn new(cfg: &MaskHeadConfig, weights: Weights) -> Result<Self> {
        let e = cfg.embed_dim;
        let masks = MaskHeadConfig::NUM_MASK_TOKENS;
        let iou_token = weights.pp("iou_token").get((1, e), "weight")?;
        let mask_tokens = weights.pp("mask_tokens").get((masks, e), "weight")?;
        let upscaling = weights.pp("output_upscaling");
        Ok(Self {
            transformer: TwoWayTransformer::new(e, weights.pp("transformer"))?,
            output_tokens: Tensor::cat(&[iou_token, mask_tokens], 0)?.unsqueeze(0)?,
            upscale0: patch_conv_transpose3d(e, e / 4, [2; 3], upscaling.pp(0))?,
            upscale_norm: block_norm(e / 4, cfg.grid, upscaling.pp(1))?,
            upscale3: patch_conv_transpose3d(e / 4, e / 8, [2; 3], upscaling.pp(3))?,
            hypernetwork: Mlp::new(e, e, e / 8, weights.pp("output_hypernetworks_mlps").pp(0))?,
            iou_prediction_head: Mlp::new(
                e,
                MaskHeadConfig::IOU_HIDDEN,
                masks,
                weights.pp("iou_prediction_head"),
            )?,
            txt_align: linear(e, e / 8, weights.pp("txt_align_upscaled_embedding"))?,
            grid: cfg.grid,
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

        // Both products read the same map, and the text similarity is added to the mask.
        let mut kernel = self.hypernetwork.forward(&hs.narrow(1, 1, 1)?)?;
        if let Some(text) = text {
            kernel = (kernel + self.txt_align.forward(text)?.unsqueeze(1)?)?;
        }
        let x = self.upscale_norm.forward_gelu(&self.upscale0.forward_blocks(&src)?)?;
        Ok(MaskPrediction {
            logits: to_grid(&self.dots(&x, &kernel)?, self.grid)?,
            iou: self.iou_prediction_head.forward(&hs.narrow(1, 0, 1)?.squeeze(1)?)?,
        })
    }

    /// The second upscaling, and the product of each of its voxels with `kernel`. On a CPU the
    /// upscaled map, the largest tensor of a pass, is never whole: its parts stay in the cache.
    ///
    /// # Shapes
    /// - `x`: `[B, L, E / 4]`    - `kernel`: `[B, 1, E / 8]`    - returns: `[B, 8 L]`
    fn dots(&self, x: &Tensor, kernel: &Tensor) -> Result<Tensor> {
        /// Rows whose children are computed at a time.
        const PART: usize = 2048;
        let (b, rows, _) = x.dims3()?;
        let part = if x.device().is_cpu() { PART } else { rows };
        let of_one = |i: usize| {
            let (x, kernel) = (x.narrow(0, i, 1)?, kernel.get(i)?);
            let parts = (0..rows).step_by(part.max(1)).map(|first| {
                let x = x.narrow(1, first, part.min(rows - first))?;
                gelu_dot(&self.upscale3.forward_blocks(&x)?.squeeze(0)?, &kernel)
            });
            Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0)
        };
        Tensor::stack(&(0..b).map(of_one).collect::<Result<Vec<_>>>()?, 0)
    }
}

/// One norm over the whole block, channels and space, with its weights in the order in which
/// [`PatchConvTranspose3d::forward_blocks`] leaves the voxels: cells, their children, channels.
fn block_norm(channels: usize, grid: [usize; 3], weights: Weights) -> Result<LayerNorm> {
    let [d, h, w] = grid;
    let reordered = |name: &str| {
        let cells = 8 * d * h * w;
        let shapes = Rearranged::new((channels, 2 * d, 2 * h, 2 * w), (cells, channels));
        weights.get_as(&shapes, name, |x| {
            let x = x.reshape(vec![channels, d, 2, h, 2, w, 2])?;
            x.permute(vec![1, 3, 5, 2, 4, 6, 0])?.reshape((cells, channels))
        })
    };
    LayerNorm::new(reordered("weight")?, reordered("bias")?, LAYER_NORM_EPS)
}
