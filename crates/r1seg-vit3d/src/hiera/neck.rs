//! What joins the maps of the last stages. Key: `convs.K.conv`, where 0 reads the last stage.

use candle_core::{Result, Tensor};
use r1seg_nn::{PatchConv3d, Probe, Weights, add, nearest, patch_conv3d};

use super::HieraConfig;

/// A convolution for each map that reaches the output.
#[derive(Debug, Clone)]
pub(super) struct Neck {
    /// With their numbers in the checkpoint, the finest map's first.
    convs: Vec<(usize, PatchConv3d)>,
}

impl Neck {
    /// Loads from `weights`, the prefix `neck` of a checkpoint.
    pub(super) fn new(cfg: &HieraConfig, weights: Weights) -> Result<Self> {
        let conv = |level: usize| {
            let number = cfg.stages.len() - 1 - level;
            let weights = weights.pp("convs").pp(number).pp("conv");
            Ok((number, patch_conv3d(cfg.width(level), cfg.out_channels, [1; 3], weights)?))
        };
        Ok(Self { convs: (cfg.level()..=cfg.coarsest()).map(conv).collect::<Result<_>>()? })
    }

    /// # Shapes
    /// - `maps`: `[B, s, s, s, width]` each, of the stages from the returned level on
    /// - returns: `[B, s, s, s, C]`, of the size of the first map
    pub(super) fn forward(&self, maps: &[Tensor], probe: &mut dyn Probe) -> Result<Tensor> {
        let mut joined: Option<Tensor> = None;
        for ((number, conv), map) in self.convs.iter().zip(maps).rev() {
            let (b, s, _, _, width) = map.dims5()?;
            let lateral = conv.forward_blocks(&map.reshape((b, s * s * s, width))?)?;
            let lateral = lateral.reshape((b, s, s, s, ()))?;
            if probe.is_listening() {
                probe.record(&format!("neck.lateral_{number}"), &channels_first(&lateral)?)?;
            }
            joined = Some(match joined {
                None => lateral,
                Some(coarser) => add(&lateral, &nearest(&coarser, 2)?)?,
            });
        }
        joined.ok_or_else(|| candle_core::Error::msg("a neck without maps"))
    }
}

/// The map of the first volume.
///
/// # Shapes
/// - `map`: `[B, s, s, s, C]`    - returns: `[C, s, s, s]`
pub(super) fn channels_first(map: &Tensor) -> Result<Tensor> {
    map.get(0)?.permute((3, 0, 1, 2))?.contiguous()
}
