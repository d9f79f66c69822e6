//! Prompts to embeddings. Port of SegVol's `prompt_encoder.py` and of R1Seg-3D's, which swaps
//! points for 3D mask prompts.
//! Keys: `pe_layer`, `no_mask_embed`; R1Seg-3D: `mask3D_downscaling.{0,1,3,4,6}`; SegVol and
//! M3D-LaMed: `point_embeddings.{0..3}`, `not_a_point_embed`.

use candle_core::{Result, Tensor, bail};
use r1seg_nn::{LayerNorm, PatchConv3d, Weights, layer_norm, patch_conv3d};

use crate::blocks::to_blocks;
use crate::{MaskHeadConfig, PositionEncoding, PromptKinds};

/// `LayerNorm3d` of the mask prompt, over the channels of a voxel, keeps SAM's own default.
const LAYER_NORM_3D_EPS: f64 = 1e-6;

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
    conv0: PatchConv3d,
    norm1: LayerNorm,
    conv3: PatchConv3d,
    norm4: LayerNorm,
    conv6: PatchConv3d,
}

impl MaskDownscaling {
    fn new(embed_dim: usize, weights: Weights) -> Result<Self> {
        // nn.Sequential: 2 and 5 are the GELUs.
        let wide = MaskHeadConfig::MASK_IN_CHANS;
        let narrow = wide / 4;
        Ok(Self {
            conv0: patch_conv3d(1, narrow, [2; 3], weights.pp(0))?,
            norm1: layer_norm(narrow, LAYER_NORM_3D_EPS, weights.pp(1))?,
            conv3: patch_conv3d(narrow, wide, [2; 3], weights.pp(3))?,
            norm4: layer_norm(wide, LAYER_NORM_3D_EPS, weights.pp(4))?,
            conv6: patch_conv3d(wide, embed_dim, [1; 3], weights.pp(6))?,
        })
    }

    /// # Shapes
    /// - `blocks`: `[B, 64 N, 1]`, as [`to_blocks`] leaves a mask    - returns: `[B, N, E]`
    fn forward(&self, blocks: &Tensor) -> Result<Tensor> {
        let x = self.norm1.forward_gelu(&self.conv0.forward_blocks(blocks)?)?;
        let x = self.norm4.forward_gelu(&self.conv3.forward_blocks(&x)?)?;
        self.conv6.forward_blocks(&x)
    }
}

#[derive(Debug, Clone)]
struct PointEmbeddings {
    /// Negative point, positive point, first corner, second corner: `[1, E]` each.
    kinds: Vec<Tensor>,
    not_a_point: Tensor,
}

/// Prompts to embeddings.
#[derive(Debug, Clone)]
pub struct PromptEncoder {
    pe_layer: PositionEncoding,
    no_mask_embed: Tensor,
    mask_downscaling: Option<MaskDownscaling>,
    point_embeddings: Option<PointEmbeddings>,
    image_size: [usize; 3],
    low_res_size: [usize; 3],
}

impl PromptEncoder {
    /// Loads from `weights`, the prefix `prompt_encoder`.
    ///
    /// # Errors
    /// When a tensor is missing or misshaped.
    pub fn new(cfg: &MaskHeadConfig, weights: Weights) -> Result<Self> {
        let e = cfg.embed_dim;
        let (mut mask_downscaling, mut point_embeddings) = (None, None);
        match cfg.prompts {
            PromptKinds::Masks => {
                mask_downscaling = Some(MaskDownscaling::new(e, weights.pp("mask3D_downscaling"))?);
            }
            PromptKinds::PointsAndBoxes => {
                let kinds = weights.pp("point_embeddings");
                point_embeddings = Some(PointEmbeddings {
                    kinds: (0..4)
                        .map(|i| kinds.pp(i).get((1, e), "weight"))
                        .collect::<Result<_>>()?,
                    not_a_point: weights.pp("not_a_point_embed").get((1, e), "weight")?,
                });
            }
        }
        Ok(Self {
            pe_layer: PositionEncoding::new(e, weights.pp("pe_layer"))?,
            no_mask_embed: weights.pp("no_mask_embed").get((1, e), "weight")?,
            mask_downscaling,
            point_embeddings,
            image_size: cfg.image_size,
            low_res_size: cfg.low_res_size(),
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
    /// the model's low-resolution grid.
    pub fn forward(&self, prompts: &Prompts<'_>) -> Result<PromptEmbeddings> {
        let mut sparse = Vec::new();
        if !prompts.points.is_empty() || prompts.bounding_box.is_some() {
            sparse.extend(self.embed_points(prompts)?);
        }
        if let Some(text) = prompts.text {
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
                if [d, h, w] != self.low_res_size {
                    bail!("a mask prompt has {:?} cells, got {:?}", self.low_res_size, [d, h, w])
                }
                downscaling.forward(&to_blocks(mask)?)?
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
            let kinds = Tensor::cat(&weights.kinds[2..], 0)?.unsqueeze(0)?;
            let positions = self.pe_layer.points(&corners, self.image_size)?;
            sparse.push((positions.to_dtype(kinds.dtype())? + kinds)?);
        }
        match prompts.text {
            Some(text) => sparse.iter().map(|t| t.to_dtype(text.dtype())).collect(),
            None => Ok(sparse),
        }
    }
}
