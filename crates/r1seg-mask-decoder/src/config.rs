/// Which prompts the weights of a checkpoint were made for, beside text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptKinds {
    /// R1Seg-3D: a low-resolution mask.
    Masks,
    /// SegVol and M3D-LaMed: points and boxes.
    PointsAndBoxes,
}

/// Widths of a [`MaskHead`](crate::MaskHead).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskHeadConfig {
    /// Width of the image and prompt embeddings.
    pub embed_dim: usize,
    /// Size of the input volume in voxels, `[D, H, W]`.
    pub image_size: [usize; 3],
    /// Patches per axis, `[D, H, W]`.
    pub grid: [usize; 3],
    /// Prompts beside text.
    pub prompts: PromptKinds,
}

impl MaskHeadConfig {
    // The published models keep these constants of SAM; no config.json names them.

    /// Layers of the two-way transformer.
    pub const DEPTH: usize = 2;
    /// Heads of every attention.
    pub const NUM_HEADS: usize = 8;
    /// Width of the two-way transformer's MLP.
    pub const MLP_DIM: usize = 2048;
    /// Cross-attentions work at `embed_dim / 2`.
    pub const ATTENTION_DOWNSAMPLE: usize = 2;
    /// One single-mask token and three for ambiguous prompts.
    pub const NUM_MASK_TOKENS: usize = 4;
    /// Width of the IoU prediction head.
    pub const IOU_HIDDEN: usize = 256;
    /// Channels before the last layer of the mask prompt.
    pub const MASK_IN_CHANS: usize = 16;

    /// Cells per axis of a low-resolution mask, `[d, h, w]`.
    pub fn low_res_size(&self) -> [usize; 3] {
        self.grid.map(|n| 4 * n)
    }

    /// Says what does not fit, in the terms of the configuration.
    ///
    /// # Errors
    /// The first width that cannot be used, with its value.
    pub fn validate(&self) -> Result<(), String> {
        let step = Self::NUM_HEADS * Self::ATTENTION_DOWNSAMPLE;
        if self.embed_dim == 0 || !self.embed_dim.is_multiple_of(step) {
            return Err(format!(
                "mm_hidden_size {} is not a multiple of {step}, as the mask decoder needs",
                self.embed_dim
            ));
        }
        if self.grid.contains(&0) || self.image_size.contains(&0) {
            return Err(format!("the patch grid {:?} is empty", self.grid));
        }
        Ok(())
    }
}
