//! Prompts to embeddings. Port of SegVol's `prompt_encoder.py` and of R1Seg-3D's, which swaps
//! points for 3D mask prompts.
//! Keys: `pe_layer`, `no_mask_embed`; with masks, below the name that the configuration gives,
//! convolutions and norms numbered as in `nn.Sequential`; with points or boxes
//! `point_embeddings.N`, `not_a_point_embed`.

use candle_core::{Result, Tensor, bail};
use r1seg_nn::{LayerNorm, PatchConv3d, Weights, layer_norm, patch_conv3d};

use crate::blocks::to_blocks;
use crate::upscaler::LAYER_NORM_3D_EPS;
use crate::{MaskDecoderConfig, MaskPromptConfig, PositionEncoding, PromptConfig};

/// What a point says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PointLabel {
    /// The point lies in the target.
    Positive,
    /// The point lies outside the target.
    Negative,
    /// Not a point: a placeholder.
    Padding,
}

/// What to segment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Prompts<'a> {
    /// `[B, E]`: a text, or the projected hidden state of `[SEG]`.
    pub text: Option<&'a Tensor>,
    /// `[B, 1, d, h, w]`: raw logits of an earlier pass.
    pub mask: Option<&'a Tensor>,
    /// `(d, h, w)` in voxels of the model's image, with labels.
    pub points: &'a [([f32; 3], PointLabel)],
    /// `(d0, h0, w0, d1, h1, w1)` in voxels of the model's image.
    pub bounding_box: Option<[f32; 6]>,
}

/// What the decoder reads.
#[derive(Debug, Clone)]
pub struct PromptEmbeddings {
    /// `[B, T, E]`: points, box corners, text; absent without any of them.
    pub sparse: Option<Tensor>,
    /// `[B, N, E]`, or `[1, 1, E]` where it is the same for all cells.
    pub dense: Tensor,
}

#[derive(Debug, Clone)]
struct MaskDownscaling {
    halvings: Vec<(PatchConv3d, LayerNorm)>,
    last: PatchConv3d,
    last_stride: usize,
}

impl MaskDownscaling {
    fn new(cfg: &MaskPromptConfig, embed_dim: usize, weights: Weights) -> Result<Self> {
        let (mut halvings, mut channels) = (Vec::new(), 1);
        for (i, &wider) in cfg.channels.iter().enumerate() {
            // nn.Sequential: a convolution, a norm and a GELU each.
            let conv = patch_conv3d(channels, wider, [2; 3], weights.pp(3 * i))?;
            halvings.push((conv, layer_norm(wider, LAYER_NORM_3D_EPS, weights.pp(3 * i + 1))?));
            channels = wider;
        }
        let last = weights.pp(3 * halvings.len());
        let last = patch_conv3d(channels, embed_dim, [1; 3], last)?;
        Ok(Self { halvings, last, last_stride: cfg.last_stride })
    }

    /// # Shapes
    /// - `mask`: `[B, 1, n gd, n gh, n gw]`    - returns: `[B, N, E]`
    fn forward(&self, mask: &Tensor) -> Result<Tensor> {
        let levels = self.halvings.len();
        let mut x = if self.last_stride == 1 {
            to_blocks(mask, levels)?
        } else {
            // Of the eight cells that the last convolution steps over it reads the first, and no
            // other layer mixes them.
            let blocks = to_blocks(mask, levels + 1)?;
            let (b, cells, _) = blocks.dims3()?;
            let size = 1 << (3 * levels);
            let firsts = blocks.reshape((b, cells / (8 * size), 8 * size))?.narrow(2, 0, size)?;
            firsts.contiguous()?.reshape((b, cells / 8, 1))?
        };
        for (conv, norm) in &self.halvings {
            x = norm.forward_gelu(&conv.forward_blocks(&x)?)?;
        }
        self.last.forward_blocks(&x)
    }
}

#[derive(Debug, Clone)]
struct PointEmbeddings {
    /// Negative point, positive point, first corner, second corner: `[1, E]` each.
    kinds: Vec<Tensor>,
    not_a_point: Tensor,
}

impl PointEmbeddings {
    fn new(cfg: &PromptConfig, embed_dim: usize, weights: &Weights) -> Result<Self> {
        let kinds = weights.pp("point_embeddings");
        let kinds = (0..cfg.points).map(|i| kinds.pp(i).get((1, embed_dim), "weight"));
        Ok(Self {
            kinds: kinds.collect::<Result<_>>()?,
            not_a_point: weights.pp("not_a_point_embed").get((1, embed_dim), "weight")?,
        })
    }
}

/// Prompts to embeddings.
#[derive(Debug, Clone)]
pub struct PromptEncoder {
    pe_layer: PositionEncoding,
    no_mask_embed: Tensor,
    mask_downscaling: Option<MaskDownscaling>,
    point_embeddings: Option<PointEmbeddings>,
    cfg: PromptConfig,
    image_size: [usize; 3],
    /// Cells of a mask prompt, where there may be one.
    mask_size: [usize; 3],
}

impl PromptEncoder {
    /// Loads from `weights`, the prefix `prompt_encoder`.
    ///
    /// # Errors
    /// When a tensor is missing or misshaped.
    pub fn new(cfg: &MaskDecoderConfig, weights: Weights) -> Result<Self> {
        let (e, prompts) = (cfg.embed_dim(), &cfg.prompts);
        let mask_downscaling = match &prompts.mask {
            Some(mask) => Some(MaskDownscaling::new(mask, e, weights.pp(mask.key))?),
            None => None,
        };
        let point_embeddings = match prompts.points {
            0 => None,
            _ => Some(PointEmbeddings::new(prompts, e, &weights)?),
        };
        let cells = prompts.mask.as_ref().map_or(0, MaskPromptConfig::cells_per_patch);
        Ok(Self {
            pe_layer: PositionEncoding::new(cfg.position, e, weights.pp("pe_layer"))?,
            no_mask_embed: weights.pp("no_mask_embed").get((1, e), "weight")?,
            mask_downscaling,
            point_embeddings,
            cfg: prompts.clone(),
            image_size: cfg.image_size,
            mask_size: cfg.grid.map(|n| n.saturating_mul(cells)),
        })
    }

    /// The position encoding of every patch.
    ///
    /// # Shapes
    /// - returns: `[1, N, E]`, in f32
    ///
    /// # Errors
    /// When the backend cannot run the operation.
    pub fn dense_position_encoding(&self, grid: [usize; 3]) -> Result<Tensor> {
        self.pe_layer.dense(grid)
    }

    /// # Errors
    /// When the checkpoint has no weights for a kind of prompt, or a mask has another size than
    /// the model reads.
    pub fn forward(&self, prompts: &Prompts<'_>) -> Result<PromptEmbeddings> {
        let mut sparse = Vec::new();
        if !prompts.points.is_empty() || prompts.bounding_box.is_some() {
            sparse.extend(self.embed_points(prompts)?);
        }
        if let Some(text) = prompts.text {
            if !self.cfg.text {
                bail!("this checkpoint has no weights for text prompts")
            }
            sparse.push(text.unsqueeze(1)?);
        }
        let sparse = match sparse.len() {
            0 => None,
            _ => Some(Tensor::cat(&sparse, 1)?),
        };
        let dense = match (prompts.mask, &self.mask_downscaling) {
            (None, _) => self.no_mask_embed.unsqueeze(0)?,
            (Some(_), None) => bail!("this checkpoint has no weights for mask prompts"),
            (Some(mask), Some(downscaling)) => {
                let (_, _, d, h, w) = mask.dims5()?;
                if [d, h, w] != self.mask_size {
                    bail!("a mask prompt has {:?} cells, got {:?}", self.mask_size, [d, h, w])
                }
                downscaling.forward(mask)?
            }
        };
        Ok(PromptEmbeddings { sparse, dense })
    }

    /// # Shapes
    /// - returns: `[1, P, E]` for the points (with a padding point when no box follows) and
    ///   `[1, 2, E]` for the box
    fn embed_points(&self, prompts: &Prompts<'_>) -> Result<Vec<Tensor>> {
        let Some(weights) = &self.point_embeddings else {
            bail!("this checkpoint has no weights for points and boxes")
        };
        if prompts.bounding_box.is_some() && !self.cfg.boxes {
            bail!("this checkpoint has no weights for boxes")
        }
        let mut sparse = Vec::with_capacity(2);
        if !prompts.points.is_empty() {
            let mut points = prompts.points.to_vec();
            if prompts.bounding_box.is_none() {
                points.push(([0.0; 3], PointLabel::Padding));
            }
            let coords: Vec<_> = points.iter().map(|&(at, _)| at).collect();
            let positions = self.pe_layer.points(&coords, self.image_size)?;
            let rows = points.iter().enumerate().map(|(i, (_, label))| {
                let position = positions.narrow(1, i, 1)?;
                let kind = match label {
                    PointLabel::Padding => return weights.not_a_point.unsqueeze(0),
                    PointLabel::Negative => &weights.kinds[0],
                    PointLabel::Positive => &weights.kinds[1],
                };
                position.to_dtype(kind.dtype())?.broadcast_add(kind)
            });
            sparse.push(Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 1)?);
        }
        if let Some([d0, h0, w0, d1, h1, w1]) = prompts.bounding_box {
            let corners = [[d0, h0, w0], [d1, h1, w1]];
            let kinds = Tensor::cat(&weights.kinds[2..4], 0)?.unsqueeze(0)?;
            let positions = self.pe_layer.points(&corners, self.image_size)?;
            sparse.push((positions.to_dtype(kinds.dtype())? + kinds)?);
        }
        match prompts.text {
            Some(text) => sparse.iter().map(|t| t.to_dtype(text.dtype())).collect(),
            None => Ok(sparse),
        }
    }
}
