//! From a window to a map of each level. Keys: `conv_init`, `layers.I.blocks.J`, `layers.I.downsample`.

use candle_core::{Result, Tensor, bail};
use r1seg_nn::{Conv3d, Conv3dConfig, Probe, Weights, conv3d_no_bias};

use crate::SegResNetConfig;
use crate::block::{Block, neighbors};

/// The blocks of a level, and what halves its grid for the next one.
#[derive(Debug, Clone)]
struct Level {
    blocks: Vec<Block>,
    /// The deepest level has none.
    downsample: Option<Conv3d>,
}

/// From a window to a map of each level.
#[derive(Debug, Clone)]
pub struct Encoder {
    conv_init: Conv3d,
    levels: Vec<Level>,
    config: SegResNetConfig,
}

impl Encoder {
    /// Loads from `weights`, the prefix `image_encoder.encoder` of a checkpoint.
    ///
    /// # Errors
    /// When the configuration is inconsistent, or a tensor is missing or misshaped.
    pub fn new(config: &SegResNetConfig, weights: Weights) -> Result<Self> {
        config.validate().map_err(candle_core::Error::msg)?;
        let (layers, deepest) = (weights.pp("layers"), config.blocks_down.len() - 1);
        let level = |(i, &count): (usize, &usize)| {
            let (channels, place) = (config.channels(i), layers.pp(i));
            let blocks = place.pp("blocks");
            let downsample = Conv3dConfig::new(channels, 2 * channels, [3; 3])
                .with_stride([2; 3])
                .with_padding([1; 3]);
            Ok(Level {
                blocks: (0..count)
                    .map(|j| Block::new(channels, blocks.pp(j)))
                    .collect::<Result<_>>()?,
                downsample: match i == deepest {
                    true => None,
                    false => Some(conv3d_no_bias(downsample, place.pp("downsample"))?),
                },
            })
        };
        Ok(Self {
            conv_init: neighbors(config.in_channels, config.channels(0), weights.pp("conv_init"))?,
            levels: config.blocks_down.iter().enumerate().map(level).collect::<Result<_>>()?,
            config: config.clone(),
        })
    }

    /// The map of each level, the finest first. Shows to the probe, with `B` in front of the shape unless
    /// it is one: `encoder.level_I` (`[C 2^I, D / 2^I, H / 2^I, W / 2^I]`).
    ///
    /// # Shapes
    /// - `volume`: `[B, in, D, H, W]`    - returns: `[B, C 2^i, D / 2^i, H / 2^i, W / 2^i]` for level `i`
    ///
    /// # Errors
    /// When the levels cannot halve the volume, or `probe` ends the pass.
    pub fn forward(&self, volume: &Tensor, probe: &mut dyn Probe) -> Result<Vec<Tensor>> {
        let (_, channels, d, h, w) = volume.dims5()?;
        if channels != self.config.in_channels {
            bail!("the model reads {} channels, got {channels}", self.config.in_channels)
        }
        self.config.check_window([d, h, w]).map_err(candle_core::Error::msg)?;
        let mut maps = Vec::with_capacity(self.levels.len());
        let mut x = self.conv_init.forward(volume)?;
        for (i, level) in self.levels.iter().enumerate() {
            for block in &level.blocks {
                probe.check_cancelled()?;
                x = block.forward(&x, probe)?;
            }
            show(probe, &format!("encoder.level_{i}"), &x)?;
            maps.push(x.clone());
            if let Some(downsample) = &level.downsample {
                x = downsample.forward(&x)?;
            }
        }
        Ok(maps)
    }
}

/// Shows a map, without the axis of the batch where there is one volume.
pub(crate) fn show(probe: &mut dyn Probe, name: &str, map: &Tensor) -> Result<()> {
    if probe.is_listening() && map.dim(0)? == 1 {
        return probe.record(name, &map.squeeze(0)?);
    }
    probe.record(name, map)
}
