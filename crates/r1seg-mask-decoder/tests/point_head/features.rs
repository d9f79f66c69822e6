//! The encoder and the decoder of VISTA3D's point branch, layer by layer: what the point head reads. Model
//! crates do not see each other, so that the network itself is tested in its own.

use candle_core::{Result, Tensor};
use r1seg_nn::{
    Conv3dConfig, Weights, conv_transpose3d_no_bias, conv3d, conv3d_no_bias, instance_norm3d,
};
use serde_json::Value;

fn conv(x: &Tensor, out: usize, stride: usize, weights: Weights) -> Result<Tensor> {
    let config = Conv3dConfig::new(x.dim(1)?, out, [3; 3]);
    conv3d_no_bias(config.with_stride([stride; 3]).with_padding([1; 3]), weights)?.forward(x)
}

fn block(x: &Tensor, weights: &Weights) -> Result<Tensor> {
    let channels = x.dim(1)?;
    let mut y = x.clone();
    for part in ["1", "2"] {
        let norm = instance_norm3d(channels, 1e-5, weights.pp(format!("norm{part}")))?;
        y = norm.forward(&y)?.relu()?;
        y = conv(&y, channels, 1, weights.pp(format!("conv{part}")))?;
    }
    x + y
}

/// # Shapes
/// - `volume`: `[1, 1, D, H, W]`    - returns: `[1, F, D, H, W]`
pub(crate) fn of_points(volume: &Tensor, sizes: &Value, weights: &Weights) -> Result<Tensor> {
    let size = |name: &str| sizes[name].as_u64().unwrap_or(0) as usize;
    let blocks: Vec<u64> =
        sizes["blocks_down"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
    let (first, encoder) = (size("init_filters"), weights.pp("encoder"));
    let mut x = conv(volume, first, 1, encoder.pp("conv_init"))?;
    let mut maps = Vec::new();
    for (level, count) in blocks.iter().enumerate() {
        let layer = encoder.pp("layers").pp(level);
        for j in 0..*count {
            x = block(&x, &layer.pp("blocks").pp(j))?;
        }
        if level + 1 < blocks.len() {
            maps.push(x.clone());
            x = conv(&x, first << (level + 1), 2, layer.pp("downsample"))?;
        }
    }
    let levels = weights.pp("up_layers");
    for (number, map) in maps.iter().rev().enumerate() {
        let (level, channels) = (levels.pp(number), map.dim(1)?);
        let deconv = level.pp("upsample").pp("deconv");
        x = (conv_transpose3d_no_bias(2 * channels, channels, deconv)?.forward(&x)? + map)?;
        x = block(&x, &level.pp("blocks").pp(0))?;
    }
    let head = Conv3dConfig::new(first, size("feature_size"), [1; 3]);
    conv3d(head, levels.pp(maps.len() - 1).pp("head"))?.forward(&x)
}
