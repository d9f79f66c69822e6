//! Image embeddings to visual tokens.
//! Keys: `mm_projector.projector.N` (pooling), `mm_projector.linear` (linear), none (identity),
//! `mm_projector.resolution_attention` and `mm_projector.proj_mpls.N` (visual packer).

use candle_core::{Result, Tensor, bail};
use r1seg_nn::{Linear, Probe, Weights, avg_pool3d, gelu_erf, linear};

use crate::visual_packer::VisualPacker;

/// `mm_projector_type` of a config.json.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProjectorType {
    /// `spp`: pooling, then a stack of linear layers.
    SpatialPooling,
    /// `linear`: one linear layer, no pooling.
    Linear,
    /// `identity`: the embeddings themselves.
    Identity,
    /// `VisualPacker_3d_phi_v3`: the mean of each window of patches looks at them, then two linear layers
    /// with a GELU between them.
    VisualPacker {
        /// Patches of a window, `[D, H, W]`.
        window: [usize; 3],
    },
}

/// `proj_layer_type` of a config.json.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerType {
    /// Linear layers with a GELU between them.
    Mlp,
    /// Linear layers alone.
    Linear,
}

/// `proj_pooling_type` of a config.json.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolingType {
    /// Cubes of the patch grid are averaged.
    Spatial,
    /// Runs of `pooling_size ^ 3` consecutive tokens are averaged.
    Sequence,
}

/// What an [`MmProjector`] is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MmProjectorConfig {
    /// Kind of projector.
    pub projector_type: ProjectorType,
    /// Kind of layers after the pooling.
    pub layer_type: LayerType,
    /// Number of linear layers after the pooling.
    pub layer_num: usize,
    /// Kind of pooling.
    pub pooling_type: PoolingType,
    /// Patches per axis that are averaged into one token.
    pub pooling_size: usize,
    /// Patches per axis of the encoder, `[D, H, W]`.
    pub grid: [usize; 3],
    /// Width of the image embeddings.
    pub in_dim: usize,
    /// Width of the language model.
    pub out_dim: usize,
}

impl MmProjectorConfig {
    /// Number of visual tokens (`<im_patch>` placeholders in the prompt).
    pub fn num_tokens(&self) -> usize {
        let patches: usize = self.grid.iter().product();
        match (self.projector_type, self.pooling_type) {
            (ProjectorType::Linear | ProjectorType::Identity, _) => patches,
            (ProjectorType::VisualPacker { window }, _) => {
                self.grid.iter().zip(window).map(|(n, patches)| n / patches.max(1)).product()
            }
            (_, PoolingType::Spatial) => {
                self.grid.iter().map(|n| n / self.pooling_size.max(1)).product()
            }
            (_, PoolingType::Sequence) => patches / self.pooling_size.max(1).pow(3),
        }
    }

    /// Says what does not fit, in the terms of the configuration.
    ///
    /// # Errors
    /// The first field that cannot be used, with its value.
    pub fn validate(&self) -> std::result::Result<(), String> {
        if self.projector_type == ProjectorType::SpatialPooling
            && !(1..=16).contains(&self.layer_num)
        {
            return Err(format!("proj_layer_num is {}, expected 1 to 16", self.layer_num));
        }
        if let ProjectorType::VisualPacker { window } = self.projector_type {
            let divides = |(n, patches): (&usize, &usize)| *patches != 0 && n % patches == 0;
            return match self.grid.iter().zip(&window).all(divides) && self.num_tokens() != 0 {
                true => Ok(()),
                false => Err(format!(
                    "proj_kernel_size {window:?} does not divide the patch grid {:?}",
                    self.grid
                )),
            };
        }
        if self.pooling_size == 0 || self.num_tokens() == 0 {
            return Err(format!(
                "proj_pooling_size {} leaves no visual token of the patch grid {:?}",
                self.pooling_size, self.grid
            ));
        }
        if self.projector_type == ProjectorType::Identity && self.in_dim != self.out_dim {
            return Err(format!(
                "the identity projector needs equal widths, got {} and {}",
                self.in_dim, self.out_dim
            ));
        }
        Ok(())
    }
}

/// Image embeddings to visual tokens.
#[derive(Debug, Clone)]
pub struct MmProjector {
    cfg: MmProjectorConfig,
    packer: Option<VisualPacker>,
    layers: Vec<Linear>,
}

impl MmProjector {
    /// Loads from `weights`, the prefix `model.mm_projector`.
    ///
    /// # Errors
    /// When the configuration is inconsistent, or a tensor is missing or misshaped.
    pub fn new(cfg: &MmProjectorConfig, weights: Weights) -> Result<Self> {
        cfg.validate().map_err(candle_core::Error::msg)?;
        let (i, o) = (cfg.in_dim, cfg.out_dim);
        let packer = match cfg.projector_type {
            ProjectorType::VisualPacker { window } => {
                Some(VisualPacker::new(i, cfg.grid, window, &weights)?)
            }
            _ => None,
        };
        let layers = match cfg.projector_type {
            ProjectorType::Identity => Vec::new(),
            ProjectorType::Linear => vec![linear(i, o, weights.pp("linear"))?],
            ProjectorType::VisualPacker { .. } => {
                let layers = weights.pp("proj_mpls");
                vec![linear(i, o, layers.pp(0))?, linear(o, o, layers.pp(2))?]
            }
            ProjectorType::SpatialPooling => {
                // The activations take the odd places of the nn.Sequential.
                let step = match cfg.layer_type {
                    LayerType::Mlp => 2,
                    LayerType::Linear => 1,
                };
                let projector = weights.pp("projector");
                (0..cfg.layer_num)
                    .map(|n| linear(if n == 0 { i } else { o }, o, projector.pp(n * step)))
                    .collect::<Result<_>>()?
            }
        };
        Ok(Self { cfg: cfg.clone(), packer, layers })
    }

    /// Shows `projector.packed` (what packing makes of windows, `[B, num_tokens, E]`) to the probe.
    ///
    /// # Shapes
    /// - `image_embeddings`: `[B, N, E]`    - returns: `[B, num_tokens, hidden]`
    ///
    /// # Errors
    /// When the embeddings do not lie on the configured patch grid.
    pub fn forward(&self, image_embeddings: &Tensor, probe: &mut dyn Probe) -> Result<Tensor> {
        let mut x = self.pool(image_embeddings)?;
        if self.packer.is_some() {
            probe.record("projector.packed", &x)?;
        }
        let is_mlp = self.packer.is_some() || self.cfg.layer_type == LayerType::Mlp;
        for (n, layer) in self.layers.iter().enumerate() {
            if n > 0 && is_mlp {
                x = gelu_erf(&x)?;
            }
            x = layer.forward(&x)?;
        }
        Ok(x)
    }

    fn pool(&self, x: &Tensor) -> Result<Tensor> {
        let (b, n, e) = x.dims3()?;
        let [d, h, w] = self.cfg.grid;
        if n != d * h * w {
            bail!("the projector expects {} patches, got {n}", d * h * w)
        }
        if let Some(packer) = &self.packer {
            return packer.forward(x);
        }
        let tokens = self.cfg.num_tokens();
        match (self.cfg.projector_type, self.cfg.pooling_type) {
            (ProjectorType::Linear | ProjectorType::Identity, _) => Ok(x.clone()),
            (_, PoolingType::Spatial) => {
                let grid = x.transpose(1, 2)?.contiguous()?.reshape((b, e, d, h, w))?;
                let pooled = avg_pool3d(&grid, self.cfg.pooling_size)?;
                pooled.reshape((b, e, tokens))?.transpose(1, 2)?.contiguous()
            }
            (_, PoolingType::Sequence) => {
                let run = self.cfg.pooling_size.pow(3);
                x.narrow(1, 0, tokens * run)?.reshape((b, tokens, run, e))?.mean(2)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use candle_nn::{VarBuilder, VarMap};
    use r1seg_nn::NoProbe;

    fn config() -> MmProjectorConfig {
        MmProjectorConfig {
            projector_type: ProjectorType::SpatialPooling,
            layer_type: LayerType::Mlp,
            layer_num: 2,
            pooling_type: PoolingType::Spatial,
            pooling_size: 2,
            grid: [4, 4, 4],
            in_dim: 6,
            out_dim: 6,
        }
    }

    fn keys(cfg: &MmProjectorConfig) -> Result<Vec<String>> {
        let map = VarMap::new();
        MmProjector::new(cfg, VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu).into())?;
        let mut keys: Vec<_> = match map.data().lock() {
            Ok(data) => data.keys().cloned().collect(),
            Err(_) => Vec::new(),
        };
        keys.retain(|key| key.ends_with("weight"));
        keys.sort();
        Ok(keys)
    }

    #[test]
    fn layer_numbers_follow_the_published_sequential() -> Result<()> {
        let cfg = MmProjectorConfig { layer_num: 3, ..config() };
        let mlp = ["projector.0.weight", "projector.2.weight", "projector.4.weight"];
        assert_eq!(keys(&cfg)?, mlp);
        let cfg = MmProjectorConfig { layer_type: LayerType::Linear, ..cfg };
        let linear = ["projector.0.weight", "projector.1.weight", "projector.2.weight"];
        assert_eq!(keys(&cfg)?, linear);
        let cfg = MmProjectorConfig { projector_type: ProjectorType::Linear, ..cfg };
        assert_eq!(keys(&cfg)?, ["linear.weight"]);
        let packer = ProjectorType::VisualPacker { window: [1, 4, 4] };
        let cfg = MmProjectorConfig { projector_type: packer, ..cfg };
        let mut packer = vec!["proj_mpls.0.weight".to_string(), "proj_mpls.2.weight".to_string()];
        let attention = ["Wk", "Wq", "Wv", "norm", "output_linear"];
        packer.extend(attention.map(|layer| format!("resolution_attention.{layer}.weight")));
        assert_eq!((keys(&cfg)?, cfg.num_tokens()), (packer, 4));
        Ok(())
    }

    fn pooled(cfg: MmProjectorConfig, x: &Tensor) -> Result<Vec<f32>> {
        let projector = MmProjector { cfg, packer: None, layers: Vec::new() };
        projector.forward(x, &mut NoProbe)?.narrow(2, 0, 1)?.flatten_all()?.to_vec1()
    }

    #[test]
    fn spatial_pooling_averages_cubes_and_sequence_pooling_runs() -> Result<()> {
        let x = Tensor::arange(0f32, 64., &Device::Cpu)?.reshape((1, 64, 1))?;
        let x = x.broadcast_as((1, 64, 6))?.contiguous()?;
        // Mean of {0, 1} + {0, 4} + {0, 16}.
        let spatial = pooled(config(), &x)?;
        assert_eq!(spatial[..3], [10.5, 12.5, 18.5]);
        let cfg = MmProjectorConfig { pooling_type: PoolingType::Sequence, ..config() };
        assert_eq!(pooled(cfg, &x)?[..2], [3.5, 11.5]);
        Ok(())
    }

    #[test]
    fn identity_keeps_every_patch() -> Result<()> {
        let cfg = MmProjectorConfig { projector_type: ProjectorType::Identity, ..config() };
        assert_eq!(cfg.num_tokens(), 64);
        let x = Tensor::rand(0f32, 1., (1, 64, 6), &Device::Cpu)?;
        assert_eq!(pooled(cfg, &x)?, x.narrow(2, 0, 1)?.flatten_all()?.to_vec1::<f32>()?);
        Ok(())
    }

    #[test]
    fn a_pooling_that_leaves_nothing_is_refused() {
        let cfg = MmProjectorConfig { pooling_size: 5, ..config() };
        assert!(cfg.validate().is_err_and(|e| e.contains("proj_pooling_size 5")));
        for window in [[1, 3, 4], [0, 4, 4], [8, 4, 4]] {
            let projector_type = ProjectorType::VisualPacker { window };
            let cfg = MmProjectorConfig { projector_type, ..config() };
            assert!(cfg.validate().is_err_and(|e| e.contains("proj_kernel_size")));
        }
    }
}
