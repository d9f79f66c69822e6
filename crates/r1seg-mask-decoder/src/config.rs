//! What the mask decoders of SAM's 3D relatives differ in.

/// A [`MaskHead`](crate::MaskHead): its prompt encoder and its mask decoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskDecoderConfig {
    /// The two-way transformer, whose width is that of the image and prompt embeddings.
    pub transformer: TransformerConfig,
    /// Size of the input volume in voxels, `[D, H, W]`.
    pub image_size: [usize; 3],
    /// Patches per axis, `[D, H, W]`.
    pub grid: [usize; 3],
    /// What follows the transformer: from the patches to the cells of a mask.
    pub upscaling: Vec<Upscale>,
    /// Mask tokens: one for the single mask, then those for ambiguous prompts.
    pub mask_tokens: usize,
    /// Whether each mask token has a hypernetwork of its own (`output_hypernetworks_mlps.N`), of
    /// which the single mask's is used, or all share one (`output_hypernetworks_mlps`).
    pub hypernetworks: Hypernetworks,
    /// Width of the IoU prediction head, where there is one, with its token.
    pub iou_hidden: Option<usize>,
    /// Whether the similarity of a voxel to the text is added to its logit.
    pub text_similarity: bool,
    /// How positions are encoded.
    pub position: PositionConfig,
    /// Which prompts there are weights for.
    pub prompts: PromptConfig,
}

/// Sizes of a [`TwoWayTransformer`](crate::TwoWayTransformer).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransformerConfig {
    /// Width of the tokens, prompts' and image's.
    pub dim: usize,
    /// Number of layers.
    pub depth: usize,
    /// Heads of every attention.
    pub heads: usize,
    /// Width between the two layers of an MLP.
    pub mlp_dim: usize,
    /// Attention between prompts and image works at `dim / attention_downsample`.
    pub attention_downsample: usize,
    /// What a checkpoint calls the two layers of an MLP.
    pub mlp_names: [&'static str; 2],
}

impl TransformerConfig {
    /// What SAM calls the two layers of an MLP.
    pub const SAM_MLP: [&'static str; 2] = ["lin1", "lin2"];

    /// What VISTA3D calls them.
    pub const VISTA3D_MLP: [&'static str; 2] = ["linear1", "linear2"];
}

/// Which hypernetwork turns a mask token into the weights of a mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hypernetworks {
    /// One each.
    PerToken,
    /// The same for all.
    Shared,
}

/// A stage of the upscaling: a convolution, then perhaps a norm, then perhaps a GELU. Each of these
/// takes the next number in the keys of `output_upscaling`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upscale {
    /// The convolution.
    pub layer: UpscaleLayer,
    /// Its output channels.
    pub channels: usize,
    /// What normalizes them.
    pub norm: UpscaleNorm,
    /// Whether a GELU follows.
    pub gelu: bool,
}

/// The convolution of an [`Upscale`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpscaleLayer {
    /// Transposed, kernel 2 and stride 2: each cell becomes eight.
    Patches,
    /// Transposed, kernel 3, stride 2, padding 1 and output padding 1.
    Overlapping,
    /// Kernel 3, stride 1 and padding 1: the grid stays.
    Smoothing,
}

/// The norm of an [`Upscale`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpscaleNorm {
    /// None.
    None,
    /// A layer norm over all channels and cells together.
    Block,
    /// A layer norm over the channels of each cell.
    Channels,
    /// Each channel over its cells, without weights.
    Instance,
}

/// How positions are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PositionConfig {
    /// Which functions of the angles make up an encoding.
    pub bands: Bands,
    /// Order of the axes that the channels of the image's encoding read.
    pub dense_axes: AxisOrder,
    /// Order of the axes by whose sizes the coordinates of points are divided.
    pub point_sizes: AxisOrder,
}

/// Functions of the angles, one behind the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bands {
    /// Sines, then cosines.
    SinCos,
    /// Sines, cosines, and the sines again.
    SinCosSin,
}

impl Bands {
    /// How many there are.
    pub(crate) fn count(self) -> usize {
        match self {
            Self::SinCos => 2,
            Self::SinCosSin => 3,
        }
    }
}

/// An order of the axes `(0, 1, 2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AxisOrder {
    /// `(0, 1, 2)`
    Natural,
    /// `(1, 0, 2)`, left over from the 2D original.
    Swapped,
}

impl AxisOrder {
    pub(crate) fn of<T>(self, [first, second, third]: [T; 3]) -> [T; 3] {
        match self {
            Self::Natural => [first, second, third],
            Self::Swapped => [second, first, third],
        }
    }
}

/// Which prompts a checkpoint has weights for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptConfig {
    /// A text, or the projected hidden state of `[SEG]`.
    pub text: bool,
    /// Rows of `point_embeddings`: none without points, else that of negative points, that of
    /// positive ones, and with boxes those of their two corners.
    pub points: usize,
    /// The two corners of a box.
    pub boxes: bool,
    /// The logits of an earlier pass.
    pub mask: Option<MaskPromptConfig>,
}

/// How a mask prompt is read: convolutions with kernel 2 and stride 2, each with a norm over channels
/// and a GELU behind it, then one with kernel 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskPromptConfig {
    /// Where its weights are, below the prompt encoder.
    pub key: &'static str,
    /// Output channels of the convolutions but the last.
    pub channels: Vec<usize>,
    /// Stride of the last convolution: with 2 it reads every second cell along each axis.
    pub last_stride: usize,
}

impl MaskPromptConfig {
    /// SAM's channels at the end of the convolutions.
    const IN_CHANS: usize = 16;

    /// SAM's two convolutions, for masks of a quarter of the image.
    pub fn quarter(key: &'static str) -> Self {
        Self { key, channels: vec![Self::IN_CHANS / 4, Self::IN_CHANS], last_stride: 1 }
    }

    /// Cells per axis of a mask prompt for each patch.
    pub fn cells_per_patch(&self) -> usize {
        self.last_stride << self.channels.len()
    }
}

impl PromptConfig {
    /// R1Seg-3D and R1Seg-3D-SAM: text and an earlier mask.
    pub fn text_and_masks() -> Self {
        let mask = Some(MaskPromptConfig::quarter("mask3D_downscaling"));
        Self { text: true, points: 0, boxes: false, mask }
    }

    /// SegVol and M3D-LaMed: text, points and boxes.
    pub fn text_points_and_boxes() -> Self {
        Self { text: true, points: 4, boxes: true, mask: None }
    }

    fn validate(&self) -> Result<(), String> {
        let least = if self.boxes { 4 } else { 2 };
        if (self.points != 0 || self.boxes) && self.points < least {
            return Err(format!("{} point embeddings, expected at least {least}", self.points));
        }
        let Some(MaskPromptConfig { channels, last_stride, .. }) = &self.mask else {
            return Ok(());
        };
        if channels.contains(&0) || channels.len() > MAX_STAGES || !matches!(last_stride, 1 | 2) {
            return Err(format!("a mask prompt with channels {channels:?} and {last_stride}"));
        }
        Ok(())
    }
}

/// More doublings than any image has room for.
const MAX_STAGES: usize = 8;

impl MaskDecoderConfig {
    /// The decoder of SegVol, which R1Seg-3D and M3D-LaMed share: constants that no config.json names.
    pub fn segvol(
        embed_dim: usize,
        image_size: [usize; 3],
        grid: [usize; 3],
        prompts: PromptConfig,
    ) -> Self {
        let stage =
            |channels, norm| Upscale { layer: UpscaleLayer::Patches, channels, norm, gelu: true };
        Self {
            transformer: TransformerConfig {
                dim: embed_dim,
                depth: 2,
                heads: 8,
                mlp_dim: 2048,
                attention_downsample: 2,
                mlp_names: TransformerConfig::SAM_MLP,
            },
            image_size,
            grid,
            upscaling: vec![
                stage(embed_dim / 4, UpscaleNorm::Block),
                stage(embed_dim / 8, UpscaleNorm::None),
            ],
            mask_tokens: 4,
            hypernetworks: Hypernetworks::PerToken,
            iou_hidden: Some(256),
            text_similarity: true,
            position: PositionConfig {
                bands: Bands::SinCos,
                dense_axes: AxisOrder::Swapped,
                point_sizes: AxisOrder::Swapped,
            },
            prompts,
        }
    }

    /// Width of the image and prompt embeddings.
    pub fn embed_dim(&self) -> usize {
        self.transformer.dim
    }

    /// Cells per axis of a low-resolution mask, `[d, h, w]`.
    pub fn low_res_size(&self) -> [usize; 3] {
        let doublings = self.upscaling.iter().filter(|s| s.layer != UpscaleLayer::Smoothing);
        let factor = doublings.fold(1usize, |n, _| n.saturating_mul(2));
        self.grid.map(|n| n.saturating_mul(factor))
    }

    /// Channels of the map from which masks are computed.
    pub(crate) fn mask_channels(&self) -> usize {
        self.upscaling.last().map_or(self.embed_dim(), |stage| stage.channels)
    }

    /// Bytes that a pass takes beside the weights, in f32: maps of the upscaling, and the mask on the
    /// model's grid with a copy.
    pub fn working_bytes(&self) -> u64 {
        /// Maps that live at the same time.
        const MAPS: u64 = 3;
        let floats = |size: [usize; 3], channels: usize| {
            let cells = size.iter().fold(4u64, |n, side| n.saturating_mul(*side as u64));
            cells.saturating_mul(channels as u64)
        };
        let map = floats(self.low_res_size(), self.mask_channels());
        map.saturating_mul(MAPS).saturating_add(floats(self.image_size, 2))
    }

    /// Says what does not fit, in the terms of the configuration.
    ///
    /// # Errors
    /// The first width that cannot be used, with its value.
    pub fn validate(&self) -> Result<(), String> {
        let TransformerConfig { dim, depth, heads, mlp_dim, attention_downsample, .. } =
            self.transformer;
        let step = heads.saturating_mul(attention_downsample);
        if dim == 0 || step == 0 || !dim.is_multiple_of(step) {
            return Err(format!(
                "mm_hidden_size {dim} is not a multiple of {step}, as the mask decoder needs"
            ));
        }
        if !dim.is_multiple_of(self.position.bands.count()) {
            return Err(format!(
                "{:?} positions do not fill a width of {dim}",
                self.position.bands
            ));
        }
        if depth == 0 || mlp_dim == 0 || self.mask_tokens == 0 || self.iou_hidden == Some(0) {
            return Err("a width of the mask decoder is zero".to_string());
        }
        let stages = 1..=MAX_STAGES;
        if !stages.contains(&self.upscaling.len()) || self.upscaling.iter().any(|s| s.channels == 0)
        {
            return Err(format!("the upscaling {:?} gives no mask", self.upscaling));
        }
        if self.grid.contains(&0) || self.image_size.contains(&0) {
            return Err(format!("the patch grid {:?} is empty", self.grid));
        }
        self.prompts.validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segvol() -> MaskDecoderConfig {
        let prompts = PromptConfig::text_points_and_boxes();
        MaskDecoderConfig::segvol(48, [16, 64, 64], [4, 4, 4], prompts)
    }

    #[test]
    fn a_configuration_that_does_not_fit_says_why() {
        assert_eq!(segvol().validate(), Ok(()));
        assert_eq!(segvol().low_res_size(), [16, 16, 16]);
        let refused = |change: &dyn Fn(&mut MaskDecoderConfig), word: &str| {
            let mut config = segvol();
            change(&mut config);
            let message = config.validate().unwrap_err();
            assert!(message.contains(word), "{message}");
        };
        refused(&|c| c.transformer.dim = 40, "multiple of 16");
        refused(&|c| c.transformer.heads = 0, "multiple of 0");
        refused(&|c| (c.transformer.dim, c.position.bands) = (32, Bands::SinCosSin), "SinCosSin");
        refused(&|c| c.transformer.depth = 0, "zero");
        refused(&|c| c.upscaling.clear(), "upscaling");
        refused(&|c| c.upscaling[1].channels = 0, "upscaling");
        refused(&|c| c.grid[1] = 0, "grid");
        refused(&|c| c.prompts.points = 3, "3 point embeddings");
        refused(&|c| (c.prompts.points, c.prompts.boxes) = (1, false), "1 point");
        let mask = MaskPromptConfig { last_stride: 3, ..MaskPromptConfig::quarter("m") };
        refused(&|c| c.prompts.mask = Some(mask.clone()), "mask prompt");
    }

    #[test]
    fn a_pass_needs_three_maps_and_two_masks() {
        let full = MaskDecoderConfig::segvol(
            768,
            [32, 256, 256],
            [8, 16, 16],
            PromptConfig::text_and_masks(),
        );
        let (map, mask) = (4 * 32 * 64 * 64 * 96, 4 * 32 * 256 * 256);
        assert_eq!(full.working_bytes(), 3 * map + 2 * mask);
    }
}
