//! The whole encoder. Keys: `trunk.patch_embed.proj`, `trunk.pos_embed`, `trunk.pos_embed_window`,
//! `trunk.blocks.N`, `neck`.

use candle_core::{DType, Result, Tensor, bail};
use r1seg_nn::{Conv3d, Conv3dConfig, Probe, Rearranged, Weights, add, conv3d, trilinear};

use super::HieraConfig;
use super::block::Block;
use super::config::STRIDE;
use super::neck::{Neck, channels_first};

/// Side of the table of positions in a checkpoint, whatever the grid.
const TABLE: usize = 14;

/// NeuroSAM3D's 3D Hiera with its neck.
///
/// Only what reaches the returned map is computed and asked for: of a published checkpoint,
/// `neck.convs.2` and `neck.convs.3` are not used.
#[derive(Debug, Clone)]
pub struct Hiera {
    patch_embed: Conv3d,
    /// `[1, s, s, s, E]`, f32
    positions: Tensor,
    stages: Vec<Vec<Block>>,
    neck: Neck,
    image_size: usize,
    /// The stage whose map is returned.
    level: usize,
}

impl Hiera {
    /// Loads from `weights`, the prefix of the encoder (`image_encoder` in NeuroSAM3D).
    ///
    /// # Errors
    /// When the configuration is inconsistent, or a tensor is missing or misshaped.
    pub fn new(cfg: &HieraConfig, weights: Weights) -> Result<Self> {
        cfg.validate().map_err(candle_core::Error::msg)?;
        let trunk = weights.pp("trunk");
        let stem = Conv3dConfig::new(1, cfg.hidden_size, [7; 3]);
        let stem = stem.with_stride([STRIDE; 3]).with_padding([3; 3]);
        let mut numbers = 0..;
        let mut stages = Vec::new();
        for stage in 0..=cfg.coarsest() {
            let blocks = cfg.stage(stage).zip(numbers.by_ref());
            let blocks =
                blocks.map(|(block, n): (_, usize)| Block::new(block, trunk.pp("blocks").pp(n)));
            stages.push(blocks.collect::<Result<Vec<_>>>()?);
        }
        Ok(Self {
            patch_embed: conv3d(stem, trunk.pp("patch_embed").pp("proj"))?,
            positions: positions(cfg, &trunk)?,
            stages,
            neck: Neck::new(cfg, weights.pp("neck"))?,
            image_size: cfg.image_size,
            level: cfg.level(),
        })
    }

    /// The map of the returned stage, joined with those of the stages behind it.
    ///
    /// Shows to the probe, of the first volume: `encoder.patch_embed`, `encoder.tokens` (with
    /// positions) and `encoder.block_N`, each `[d, h, w, width]`; `neck.lateral_K` (the last stage's is
    /// 0) and `image_embedding`, each `[C, d, h, w]`.
    ///
    /// # Shapes
    /// - `volume`: `[B, 1, D, H, W]`    - returns: `[B, N, C]`, cells depth-major
    ///
    /// # Errors
    /// When the volume has another size than the model was built for, or `probe` ends the pass.
    pub fn forward(&self, volume: &Tensor, probe: &mut dyn Probe) -> Result<Tensor> {
        let (_, _, d, h, w) = volume.dims5()?;
        if [d, h, w] != [self.image_size; 3] {
            bail!(
                "the model reads volumes of {:?} voxels, got {:?}",
                [self.image_size; 3],
                [d, h, w]
            )
        }
        let tokens = self.patch_embed.forward(volume)?.permute((0, 2, 3, 4, 1))?.contiguous()?;
        record(probe, "encoder.patch_embed", &tokens)?;
        let mut x = add(&tokens, &self.positions.to_dtype(tokens.dtype())?)?;
        record(probe, "encoder.tokens", &x)?;
        let (mut number, mut maps) = (0, Vec::new());
        for (stage, blocks) in self.stages.iter().enumerate() {
            for block in blocks {
                probe.check_cancelled()?;
                x = block.forward(&x, probe)?;
                if probe.is_listening() {
                    record(probe, &format!("encoder.block_{number}"), &x)?;
                }
                number += 1;
            }
            if stage >= self.level {
                maps.push(x.clone());
            }
        }
        let map = self.neck.forward(&maps, probe)?;
        if probe.is_listening() {
            probe.record("image_embedding", &channels_first(&map)?)?;
        }
        let (b, s, _, _, c) = map.dims5()?;
        map.reshape((b, s * s * s, c))
    }
}

/// Shows the tokens of the first volume.
///
/// # Shapes
/// - `tokens`: `[B, s, s, s, width]`
fn record(probe: &mut dyn Probe, name: &str, tokens: &Tensor) -> Result<()> {
    if probe.is_listening() { probe.record(name, &tokens.get(0)?) } else { Ok(()) }
}

/// A small table, resized to the grid, plus one of a window, repeated over it.
///
/// # Shapes
/// - returns: `[1, s, s, s, E]`, f32
fn positions(cfg: &HieraConfig, trunk: &Weights) -> Result<Tensor> {
    let (e, s, window) = (cfg.hidden_size, cfg.side(0), cfg.window_spec[0]);
    let of_window = trunk.get((1, e, window, window, window), "pos_embed_window")?;
    let shapes = Rearranged::new((1, e, TABLE, TABLE, TABLE), (1, s, s, s, e));
    trunk.get_as(&shapes, "pos_embed", |table| {
        let repeats = s / window;
        let of_window =
            of_window.to_dtype(DType::F32)?.repeat((1, 1, repeats, repeats, repeats))?;
        let sum = (trilinear(&table, [s; 3])? + of_window)?;
        sum.permute((0, 2, 3, 4, 1))?.contiguous()
    })
}
