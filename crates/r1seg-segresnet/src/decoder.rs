//! From the maps of all levels to features at full size. Keys: `N.upsample.deconv`, `N.blocks.0`, and below
//! the last number `head`.

use candle_core::{Result, Tensor, bail};
use r1seg_nn::{
    Conv3d, Conv3dConfig, ConvTranspose3d, Probe, Weights, conv_transpose3d_no_bias, conv3d,
};

use crate::SegResNetConfig;
use crate::block::Block;

/// A level: the doubled grid of the one below joined with the encoder's map, and a block.
#[derive(Debug, Clone)]
struct Level {
    upsample: ConvTranspose3d,
    block: Block,
}

/// From the maps of all levels to features at full size: one of the two that VISTA3D has, that of the class
/// branch (`up_layers_auto`) or that of the point branch (`up_layers`).
#[derive(Debug, Clone)]
pub struct Decoder {
    /// The deepest first.
    levels: Vec<Level>,
    head: Conv3d,
}

impl Decoder {
    /// Loads from `weights`, the prefix `image_encoder.up_layers_auto` or `image_encoder.up_layers` of a
    /// checkpoint.
    ///
    /// # Errors
    /// When the configuration is inconsistent, has a single level, or a tensor is missing or misshaped.
    pub fn new(config: &SegResNetConfig, weights: Weights) -> Result<Self> {
        config.validate().map_err(candle_core::Error::msg)?;
        let Some(last) = config.blocks_down.len().checked_sub(2) else {
            bail!("an encoder with a single level leaves a decoder nothing to join")
        };
        let level = |number: usize| {
            let (place, channels) = (weights.pp(number), config.channels(last - number));
            let deconv = place.pp("upsample").pp("deconv");
            Ok(Level {
                upsample: conv_transpose3d_no_bias(2 * channels, channels, deconv)?,
                block: Block::new(channels, place.pp("blocks").pp(0))?,
            })
        };
        let head = Conv3dConfig::new(config.channels(0), config.feature_size, [1; 3]);
        Ok(Self {
            levels: (0..=last).map(level).collect::<Result<_>>()?,
            head: conv3d(head, weights.pp(last).pp("head"))?,
        })
    }

    /// Takes the maps, each of which is given back once it has been read, unless the caller keeps a copy.
    ///
    /// # Shapes
    /// - `maps`: as [`Encoder::forward`](crate::Encoder::forward) gives them
    /// - returns: `[B, F, D, H, W]`
    ///
    /// # Errors
    /// When the maps are not those of the encoder, or `probe` ends the pass.
    pub fn forward(&self, mut maps: Vec<Tensor>, probe: &mut dyn Probe) -> Result<Tensor> {
        if maps.len() != self.levels.len() + 1 {
            bail!("a decoder of {} levels got {} maps", self.levels.len(), maps.len())
        }
        let Some(mut x) = maps.pop() else { bail!("a decoder needs a map") };
        for level in &self.levels {
            probe.check_cancelled()?;
            x = match maps.pop() {
                Some(map) => level.upsample.forward_add(&x, &map)?,
                None => level.upsample.forward(&x)?,
            };
            probe.check_cancelled()?;
            x = level.block.forward(&x, probe)?;
        }
        self.head.forward(&x)
    }
}
