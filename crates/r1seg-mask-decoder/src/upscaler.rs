//! From patches to mask logits. Keys: `output_upscaling`, numbered as in `nn.Sequential`.

use candle_core::{Result, Tensor};
use r1seg_nn::{
    Conv3d, Conv3dConfig, ConvTranspose3d, InstanceNorm3d, LayerNorm, LayerNorm3d,
    PatchConvTranspose3d, Rearranged, Weights, conv_transpose3d, conv3d, gelu_dot, gelu_erf,
    layer_norm, layer_norm3d, patch_conv_transpose3d,
};

use crate::blocks::{block_axes, to_grid};
use crate::{MaskDecoderConfig, Upscale, UpscaleLayer, UpscaleNorm};

/// torch.nn.LayerNorm's and torch.nn.InstanceNorm3d's default.
const NORM_EPS: f64 = 1e-5;

/// `LayerNorm3d`, over the channels of a voxel, keeps SAM's own default.
pub(crate) const LAYER_NORM_3D_EPS: f64 = 1e-6;

/// The stages that turn patches into a map, and the product of each of its voxels with a mask's
/// weights.
#[derive(Debug, Clone)]
pub(crate) struct Upscaler {
    stages: Stages,
    grid: [usize; 3],
}

#[derive(Debug, Clone)]
enum Stages {
    /// Each cell becomes eight, which follow one another: nothing is regrouped before the end.
    Blocks(Vec<BlockStage>),
    /// Cells have neighbors.
    Grid(Vec<GridStage>),
}

impl Upscaler {
    /// Loads from `weights`, the prefix `output_upscaling`.
    pub(crate) fn new(cfg: &MaskDecoderConfig, weights: &Weights) -> Result<Self> {
        let in_blocks = |stage: &Upscale| {
            stage.layer == UpscaleLayer::Patches && stage.norm != UpscaleNorm::Instance
        };
        let mut places = Vec::new();
        let (mut key, mut channels, mut size) = (0, cfg.embed_dim(), cfg.grid);
        for &stage in &cfg.upscaling {
            if stage.layer != UpscaleLayer::Smoothing {
                size = size.map(|n| n.saturating_mul(2));
            }
            let (layer, norm) = (weights.pp(key), weights.pp(key + 1));
            places.push(Place { stage, channels, size, layer, norm });
            key += 1 + usize::from(stage.norm != UpscaleNorm::None) + usize::from(stage.gelu);
            channels = stage.channels;
        }
        let stages = if cfg.upscaling.iter().all(in_blocks) {
            let stages = places.iter().enumerate();
            let stages = stages.map(|(i, place)| BlockStage::new(place, cfg.grid, i + 1));
            Stages::Blocks(stages.collect::<Result<_>>()?)
        } else {
            Stages::Grid(places.iter().map(GridStage::new).collect::<Result<_>>()?)
        };
        Ok(Self { stages, grid: cfg.grid })
    }

    /// # Shapes
    /// - `x`: `[B, N, E]`, patches depth-major    - `kernel`: `[B, 1, C]`
    /// - returns: `[B, 1, d, h, w]`
    pub(crate) fn logits(&self, x: &Tensor, kernel: &Tensor) -> Result<Tensor> {
        match &self.stages {
            Stages::Blocks(stages) => {
                let Some((last, before)) = stages.split_last() else {
                    candle_core::bail!("an upscaling without a stage")
                };
                let mut x = x.clone();
                for stage in before {
                    x = stage.forward(&x)?;
                }
                to_grid(&last.dots(&x, kernel)?, self.grid, stages.len())
            }
            Stages::Grid(stages) => {
                let (b, _, e) = x.dims3()?;
                let [d, h, w] = self.grid;
                let mut x = x.transpose(1, 2)?.contiguous()?.reshape((b, e, d, h, w))?;
                for stage in stages {
                    x = stage.forward(&x)?;
                }
                let (_, c, d, h, w) = x.dims5()?;
                let logits = kernel.contiguous()?.matmul(&x.reshape((b, c, d * h * w))?)?;
                logits.reshape((b, 1, d, h, w))
            }
        }
    }
}

/// A stage, and where its weights are.
struct Place {
    stage: Upscale,
    /// Of its input.
    channels: usize,
    /// Of its output.
    size: [usize; 3],
    layer: Weights,
    norm: Weights,
}

/// A stage over cells that follow one another in blocks, channels last.
#[derive(Debug, Clone)]
struct BlockStage {
    layer: PatchConvTranspose3d,
    norm: Option<LayerNorm>,
    gelu: bool,
    /// Whether each cell is normalized on its own, or not at all.
    cells_apart: bool,
}

impl BlockStage {
    /// The stage that ends so many levels below the patches.
    fn new(place: &Place, grid: [usize; 3], levels: usize) -> Result<Self> {
        let Upscale { channels, norm, gelu, .. } = place.stage;
        let layer = patch_conv_transpose3d(place.channels, channels, [2; 3], place.layer.clone())?;
        let norm = match norm {
            UpscaleNorm::None | UpscaleNorm::Instance => None,
            UpscaleNorm::Channels => {
                Some(layer_norm(channels, LAYER_NORM_3D_EPS, place.norm.clone())?)
            }
            UpscaleNorm::Block => Some(block_norm(channels, grid, levels, &place.norm)?),
        };
        Ok(Self { layer, norm, gelu, cells_apart: place.stage.norm != UpscaleNorm::Block })
    }

    /// # Shapes
    /// - `x`: `[B, L, in]`    - returns: `[B, 8 L, out]`
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.layer.forward_blocks(x)?;
        match (&self.norm, self.gelu) {
            (Some(norm), true) => norm.forward_gelu(&x),
            (Some(norm), false) => norm.forward(&x),
            (None, true) => gelu_erf(&x),
            (None, false) => Ok(x),
        }
    }

    /// The product of each voxel of the output with `kernel`. On a CPU the output, the largest tensor
    /// of a pass, is never whole where it need not be: its parts stay in the cache.
    ///
    /// # Shapes
    /// - `x`: `[B, L, in]`    - `kernel`: `[B, 1, out]`    - returns: `[B, 8 L]`
    fn dots(&self, x: &Tensor, kernel: &Tensor) -> Result<Tensor> {
        /// Rows whose children are computed at a time.
        const PART: usize = 2048;
        let (b, rows, _) = x.dims3()?;
        let part = if x.device().is_cpu() && self.cells_apart { PART } else { rows };
        let of_one = |i: usize| {
            let (x, kernel) = (x.narrow(0, i, 1)?, kernel.get(i)?);
            let parts = (0..rows).step_by(part.max(1)).map(|first| {
                let x = x.narrow(1, first, part.min(rows - first))?;
                if self.norm.is_none() && self.gelu {
                    return gelu_dot(&self.layer.forward_blocks(&x)?.squeeze(0)?, &kernel);
                }
                self.forward(&x)?.squeeze(0)?.matmul(&kernel.t()?)?.squeeze(1)
            });
            Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0)
        };
        Tensor::stack(&(0..b).map(of_one).collect::<Result<Vec<_>>>()?, 0)
    }
}

/// One norm over the whole block, channels and space, with its weights in the order in which
/// [`PatchConvTranspose3d::forward_blocks`] leaves the voxels: cells, their children, channels.
fn block_norm(
    channels: usize,
    grid: [usize; 3],
    levels: usize,
    weights: &Weights,
) -> Result<LayerNorm> {
    let n = 1 << levels;
    let [d, h, w] = grid.map(|side| side * n);
    let cells = d * h * w;
    let shapes = Rearranged::new((channels, d, h, w), (cells, channels));
    let reordered = |name: &str| {
        weights.get_as(&shapes, name, |x| {
            let mut dims = vec![channels];
            for side in grid {
                dims.push(side);
                dims.extend(vec![2; levels]);
            }
            let mut axes = block_axes(levels, 1);
            axes.push(0);
            x.reshape(dims)?.permute(axes)?.reshape((cells, channels))
        })
    };
    LayerNorm::new(reordered("weight")?, reordered("bias")?, NORM_EPS)
}

/// A stage over a grid, channels first.
#[derive(Debug, Clone)]
struct GridStage {
    layer: GridLayer,
    norm: GridNorm,
    gelu: bool,
}

#[derive(Debug, Clone)]
enum GridLayer {
    Patches(PatchConvTranspose3d),
    Overlapping(ConvTranspose3d),
    Smoothing(Conv3d),
}

#[derive(Debug, Clone)]
enum GridNorm {
    None,
    Block(LayerNorm),
    Channels(LayerNorm3d),
    Instance(InstanceNorm3d),
}

impl GridStage {
    fn new(place: &Place) -> Result<Self> {
        let (from, to) = (place.channels, place.stage.channels);
        let layer = match place.stage.layer {
            UpscaleLayer::Patches => {
                GridLayer::Patches(patch_conv_transpose3d(from, to, [2; 3], place.layer.clone())?)
            }
            UpscaleLayer::Overlapping => {
                GridLayer::Overlapping(conv_transpose3d(from, to, place.layer.clone())?)
            }
            UpscaleLayer::Smoothing => {
                let config = Conv3dConfig::new(from, to, [3; 3]).with_padding([1; 3]);
                GridLayer::Smoothing(conv3d(config, place.layer.clone())?)
            }
        };
        let norm = match place.stage.norm {
            UpscaleNorm::None => GridNorm::None,
            UpscaleNorm::Block => {
                let [d, h, w] = place.size;
                GridNorm::Block(layer_norm((to, d, h, w), NORM_EPS, place.norm.clone())?)
            }
            UpscaleNorm::Channels => {
                GridNorm::Channels(layer_norm3d(to, LAYER_NORM_3D_EPS, place.norm.clone())?)
            }
            UpscaleNorm::Instance => GridNorm::Instance(InstanceNorm3d::plain(NORM_EPS)),
        };
        Ok(Self { layer, norm, gelu: place.stage.gelu })
    }

    /// # Shapes
    /// - `x`: `[B, in, D, H, W]`    - returns: `[B, out, D', H', W']`
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = match &self.layer {
            GridLayer::Patches(layer) => layer.forward(x)?,
            GridLayer::Overlapping(layer) => layer.forward(x)?,
            GridLayer::Smoothing(layer) => layer.forward(x)?,
        };
        let x = match &self.norm {
            GridNorm::None => x,
            GridNorm::Block(norm) => norm.forward(&x)?,
            GridNorm::Channels(norm) => norm.forward(&x)?,
            GridNorm::Instance(norm) => norm.forward(&x)?,
        };
        if self.gelu { gelu_erf(&x) } else { Ok(x) }
    }
}
