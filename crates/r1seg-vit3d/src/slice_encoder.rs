//! A 2D vision transformer over slices. Port of timm's `VisionTransformer`, as the trunk of BiomedCLIP has
//! it. Keys: `patch_embed.proj`, `cls_token`, `pos_embed`, `blocks.N`, `norm`.

use candle_core::{Result, Tensor, bail};
use r1seg_nn::{Linear, Probe, Rearranged, Weights};

use crate::BlockConfig;
use crate::block::{Blocks, with_class_token};
use crate::config::{activation_bytes, check_widths, floats};

/// Red, green and blue, which are the same in a slice of CT.
const CHANNELS: usize = 3;

/// Sizes of a [`SliceEncoder`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SliceEncoderConfig {
    /// Height and width of a slice, in pixels.
    pub image_size: usize,
    /// Height and width of a patch, in pixels.
    pub patch_size: usize,
    /// Width of a token.
    pub hidden_size: usize,
    /// Width between the two layers of a block's MLP.
    pub mlp_dim: usize,
    /// Number of blocks.
    pub num_layers: usize,
    /// Attention heads per block.
    pub num_heads: usize,
    /// Added to the variance of the norms.
    pub norm_eps: f64,
}

impl SliceEncoderConfig {
    /// Number of patches of a slice.
    pub fn num_patches(&self) -> usize {
        (self.image_size / self.patch_size.max(1)).pow(2)
    }

    /// Bytes of the largest activations of a pass over so many slices, in f32.
    pub fn working_bytes(&self, slices: usize) -> u64 {
        let tokens = slices.saturating_mul(self.num_patches() + 1);
        let pixels = floats(&[slices, CHANNELS, self.image_size, self.image_size]);
        activation_bytes(tokens, self.hidden_size, self.mlp_dim)
            .saturating_add(pixels.saturating_mul(2))
    }

    /// Says what does not fit, in the terms of the configuration.
    ///
    /// # Errors
    /// The first field that cannot be used, with its value.
    pub fn validate(&self) -> std::result::Result<(), String> {
        let (image, patch) = (self.image_size, self.patch_size);
        if patch == 0 || image == 0 || !image.is_multiple_of(patch) {
            return Err(format!("patch_size {patch} does not divide the image size {image}"));
        }
        if !(0.0 < self.norm_eps && self.norm_eps < 1.0) {
            return Err(format!(
                "layer_norm_eps is {}, expected a number between 0 and 1",
                self.norm_eps
            ));
        }
        check_widths(self.hidden_size, self.num_heads, &[self.mlp_dim])
    }
}

/// A 2D vision transformer, of which the class token describes a slice.
#[derive(Debug, Clone)]
pub struct SliceEncoder {
    /// `[E, C * p * p]`
    projection: Linear,
    /// `[1, 1, E]`
    cls_token: Tensor,
    /// `[1, 1 + N, E]`
    positions: Tensor,
    blocks: Blocks,
    image_size: usize,
    patch_size: usize,
}

impl SliceEncoder {
    /// Loads from `weights`, the prefix of the encoder.
    ///
    /// # Errors
    /// When the configuration is inconsistent, or a tensor is missing or misshaped.
    pub fn new(cfg: &SliceEncoderConfig, weights: &Weights) -> Result<Self> {
        cfg.validate().map_err(candle_core::Error::msg)?;
        let (e, p) = (cfg.hidden_size, cfg.patch_size);
        let proj = weights.pp("patch_embed").pp("proj");
        let inputs = CHANNELS * p * p;
        let kernel = Rearranged::new((e, CHANNELS, p, p), (e, inputs));
        let kernel = proj.factor_as(&kernel, "weight", |kernel| kernel.reshape((e, inputs)))?;
        let block = BlockConfig::timm(e, cfg.mlp_dim, cfg.num_heads, cfg.norm_eps);
        Ok(Self {
            projection: Linear::new(&kernel, Some(proj.get(e, "bias")?))?,
            cls_token: weights.get((1, 1, e), "cls_token")?,
            positions: weights.get((1, 1 + cfg.num_patches(), e), "pos_embed")?,
            blocks: Blocks::new(&block, cfg.num_layers, weights)?,
            image_size: cfg.image_size,
            patch_size: p,
        })
    }

    /// The class tokens after the final norm. Shows `slices.block_0` (after the first block,
    /// `[S, 1 + N, E]`) to the probe.
    ///
    /// # Shapes
    /// - `slices`: `[S, 3, H, W]`, normalized as in the encoder's training    - returns: `[S, E]`
    ///
    /// # Errors
    /// When the slices have another size than the encoder was built for, or `probe` ends the pass.
    pub fn forward(&self, slices: &Tensor, probe: &mut dyn Probe) -> Result<Tensor> {
        let (s, channels, h, w) = slices.dims4()?;
        let (size, p) = (self.image_size, self.patch_size);
        if [channels, h, w] != [CHANNELS, size, size] {
            bail!(
                "the slice encoder reads {CHANNELS} channels of {size} x {size}, got {channels} of {h} x {w}"
            )
        }
        let grid = size / p;
        // A kernel's numbers are in the order of channel, row and column.
        let patches = slices
            .contiguous()?
            .reshape((s, channels, grid, p, grid, p))?
            .permute((0, 2, 4, 1, 3, 5))?
            .reshape((s, grid * grid, channels * p * p))?;
        let x = with_class_token(&self.cls_token, &self.projection.forward(&patches)?)?;
        // The class token has a position, too.
        let x = x.broadcast_add(&self.positions.to_dtype(x.dtype())?)?;
        let x = self.blocks.forward(x, "slices.block_0", probe)?;
        x.narrow(1, 0, 1)?.squeeze(1)?.contiguous()
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use r1seg_nn::NoProbe;

    use super::*;
    use crate::testing::random_weights;

    const CONFIG: SliceEncoderConfig = SliceEncoderConfig {
        image_size: 32,
        patch_size: 16,
        hidden_size: 24,
        mlp_dim: 40,
        num_layers: 2,
        num_heads: 3,
        norm_eps: 1e-6,
    };

    fn encoder() -> Result<SliceEncoder> {
        SliceEncoder::new(&CONFIG, &random_weights())
    }

    #[test]
    fn each_slice_is_described_by_itself() -> Result<()> {
        let encoder = encoder()?;
        let slices = Tensor::randn(0f32, 1., (3, 3, 32, 32), &Device::Cpu)?;
        let all = encoder.forward(&slices, &mut NoProbe)?;
        assert_eq!(all.dims(), [3, 24]);
        let second = encoder.forward(&slices.narrow(0, 1, 1)?, &mut NoProbe)?;
        let gap = (all.narrow(0, 1, 1)? - second)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(gap < 1e-4, "{gap}");
        let spread = (all.get(0)? - all.get(2)?)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(spread > 0.1, "{spread}");
        Ok(())
    }

    #[test]
    fn slices_of_another_size_and_sizes_that_do_not_fit_are_refused() -> Result<()> {
        let gray = Tensor::zeros((3, 1, 32, 32), DType::F32, &Device::Cpu)?;
        let error = encoder()?.forward(&gray, &mut NoProbe).unwrap_err();
        assert!(error.to_string().contains("3 channels of 32 x 32, got 1 of 32 x 32"), "{error}");
        for (config, said) in [
            (SliceEncoderConfig { patch_size: 15, ..CONFIG }, "patch_size 15"),
            (SliceEncoderConfig { num_heads: 5, ..CONFIG }, "heads"),
            (SliceEncoderConfig { norm_eps: 0.0, ..CONFIG }, "layer_norm_eps"),
            (SliceEncoderConfig { mlp_dim: 0, ..CONFIG }, "zero"),
        ] {
            assert!(config.validate().is_err_and(|e| e.contains(said)), "{said}");
        }
        let many = usize::MAX / 4;
        assert_eq!(CONFIG.working_bytes(many), u64::MAX);
        Ok(())
    }
}
