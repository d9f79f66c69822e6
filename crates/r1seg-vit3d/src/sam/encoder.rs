//! The whole encoder. Port of SAM-Med3D's `ImageEncoderViT3D`.
//! Keys: `patch_embed.proj`, `pos_embed`, `blocks.N`, `neck`.

use candle_core::{Result, Tensor, bail};
use r1seg_nn::{PatchConv3d, Probe, Rearranged, Weights, add, patch_conv3d, patchify};

use super::SamVitConfig;
use super::block::Block;
use super::neck::Neck;

/// The vision transformer of SAM-Med3D.
#[derive(Debug, Clone)]
pub struct SamVit {
    patches: PatchConv3d,
    /// `[1, N, E]`
    positions: Tensor,
    blocks: Vec<Block>,
    neck: Neck,
    image_size: usize,
    patch_size: usize,
}

impl SamVit {
    /// Loads from `weights`, the prefix `image_encoder` of a checkpoint.
    ///
    /// # Errors
    /// When the configuration is inconsistent, or a tensor is missing or misshaped.
    pub fn new(cfg: &SamVitConfig, weights: Weights) -> Result<Self> {
        cfg.validate().map_err(candle_core::Error::msg)?;
        let ([d, h, w], n, e) = (cfg.grid(), cfg.num_patches(), cfg.hidden_size);
        let proj = weights.pp("patch_embed").pp("proj");
        let positions = Rearranged::new((1, d, h, w, e), (1, n, e));
        let blocks = weights.pp("blocks");
        Ok(Self {
            patches: patch_conv3d(1, e, [cfg.patch_size; 3], proj)?,
            positions: weights.get_as(&positions, "pos_embed", |t| t.reshape((1, n, e)))?,
            blocks: (0..cfg.num_layers)
                .map(|i| Block::new(cfg, i, blocks.pp(i)))
                .collect::<Result<_>>()?,
            neck: Neck::new(cfg, weights.pp("neck"))?,
            image_size: cfg.image_size,
            patch_size: cfg.patch_size,
        })
    }

    /// The image embedding. Shows to the probe, with `B` in front of the shape unless it is one:
    /// - `encoder.tokens`, and `encoder.block_I` of every block: `[D, H, W, E]` of the grid
    /// - `image_embedding`: `[C, D, H, W]` of the grid
    ///
    /// # Shapes
    /// - `volume`: `[B, 1, D, H, W]`, its axes those of the network
    /// - returns: `[B, N, C]`, patches depth-major
    ///
    /// # Errors
    /// When the volume has another size than the model was built for, or `probe` ends the pass.
    pub fn forward(&self, volume: &Tensor, probe: &mut dyn Probe) -> Result<Tensor> {
        let (b, channels, d, h, w) = volume.dims5()?;
        if channels != 1 || [d, h, w] != [self.image_size; 3] {
            bail!(
                "the model reads one channel of {:?} voxels, got {channels} of {:?}",
                [self.image_size; 3],
                [d, h, w]
            )
        }
        let patches = patchify(volume, [self.patch_size; 3])?;
        let tokens = self.patches.forward_blocks(&patches.reshape((b, d * h * w, 1))?)?;
        let mut x = add(&tokens, &self.positions.to_dtype(tokens.dtype())?)?;
        self.show(probe, "encoder.tokens", &x)?;
        for (i, block) in self.blocks.iter().enumerate() {
            probe.check_cancelled()?;
            x = block.forward(&x, probe)?;
            if probe.is_listening() {
                self.show(probe, &format!("encoder.block_{i}"), &x)?;
            }
        }
        probe.check_cancelled()?;
        let x = self.neck.forward(&x)?;
        if probe.is_listening() {
            let side = self.image_size / self.patch_size;
            let (b, _, c) = x.dims3()?;
            let grid = x.transpose(1, 2)?.reshape((b, c, side, side, side))?;
            probe.record("image_embedding", &single(grid)?)?;
        }
        Ok(x)
    }

    fn show(&self, probe: &mut dyn Probe, name: &str, x: &Tensor) -> Result<()> {
        if !probe.is_listening() {
            return Ok(());
        }
        let side = self.image_size / self.patch_size;
        let (b, _, e) = x.dims3()?;
        probe.record(name, &single(x.reshape((b, side, side, side, e))?)?)
    }
}

/// Without the axis of the batch where there is one volume.
fn single(x: Tensor) -> Result<Tensor> {
    if x.dim(0)? == 1 { x.squeeze(0) } else { Ok(x) }
}
