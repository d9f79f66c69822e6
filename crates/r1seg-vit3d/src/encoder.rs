//! The whole encoder. Port of MONAI 1.3.0's `ViT` as R1Seg-3D and M3D use it.
//! Keys: `patch_embedding`, `cls_token` (optional), `blocks.N`, `norm`.

use candle_core::{Result, Tensor};
use r1seg_nn::{LayerNorm, Probe, Weights, layer_norm};

use crate::block::LAYER_NORM_EPS;
use crate::{Block, PatchEmbedding, Vit3dConfig};

/// A 3D vision transformer.
#[derive(Debug, Clone)]
pub struct Vit3d {
    patch_embedding: PatchEmbedding,
    cls_token: Option<Tensor>,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

impl Vit3d {
    /// Loads from `weights`, the prefix of the encoder (`model.vision_module.image_encoder` in
    /// R1Seg-3D).
    ///
    /// # Errors
    /// When the configuration is inconsistent, or a tensor is missing or misshaped.
    pub fn new(cfg: &Vit3dConfig, weights: Weights) -> Result<Self> {
        cfg.validate().map_err(candle_core::Error::msg)?;
        let e = cfg.hidden_size;
        let cls_token =
            if cfg.cls_token { Some(weights.get((1, 1, e), "cls_token")?) } else { None };
        let blocks = weights.pp("blocks");
        Ok(Self {
            patch_embedding: PatchEmbedding::new(cfg, weights.pp("patch_embedding"))?,
            cls_token,
            blocks: (0..cfg.num_layers)
                .map(|i| Block::new(cfg, blocks.pp(i)))
                .collect::<Result<_>>()?,
            norm: layer_norm(e, LAYER_NORM_EPS, weights.pp("norm"))?,
        })
    }

    /// The tokens after the final norm. Shows `vit.block_0` (after the first block, `[B, N, E]`)
    /// to the probe.
    ///
    /// # Shapes
    /// - `volume`: `[B, C, D, H, W]`, intensities in `0..=1`
    /// - returns: `[B, N, E]`, or `[B, 1 + N, E]` with a class token
    ///
    /// # Errors
    /// When the volume has another size than the model was built for, or `probe` ends the pass.
    pub fn forward(&self, volume: &Tensor, probe: &mut dyn Probe) -> Result<Tensor> {
        let mut x = self.patch_embedding.forward(volume)?;
        if let Some(cls) = &self.cls_token {
            // The class token is prepended after the positions were added: it has none.
            let (b, _, e) = x.dims3()?;
            let cls = cls.to_dtype(x.dtype())?.expand((b, 1, e))?;
            x = Tensor::cat(&[&cls, &x], 1)?;
        }
        for (i, block) in self.blocks.iter().enumerate() {
            probe.check_cancelled()?;
            x = block.forward(&x, probe)?;
            if i == 0 {
                probe.record("vit.block_0", &x)?;
            }
        }
        self.norm.forward(&x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use candle_nn::{VarBuilder, VarMap};
    use r1seg_nn::{Cancelled, NoProbe, Recording};
    use std::cell::Cell;

    fn config() -> Vit3dConfig {
        Vit3dConfig {
            image_size: [8, 32, 32],
            patch_size: [4, 16, 16],
            in_channels: 1,
            hidden_size: 24,
            mlp_dim: 40,
            num_layers: 2,
            num_heads: 3,
            cls_token: false,
        }
    }

    fn model(cfg: &Vit3dConfig) -> Result<Vit3d> {
        Vit3d::new(cfg, VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu).into())
    }

    #[test]
    fn a_batch_row_equals_a_single_run() -> Result<()> {
        let model = model(&config())?;
        let volumes = Tensor::rand(0f32, 1., (2, 1, 8, 32, 32), &Device::Cpu)?;
        let both = model.forward(&volumes, &mut NoProbe)?;
        let second = model.forward(&volumes.narrow(0, 1, 1)?, &mut NoProbe)?;
        let gap = (both.narrow(0, 1, 1)? - second)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(gap < 1e-5, "{gap}");
        Ok(())
    }

    #[test]
    fn a_class_token_adds_one_token_in_front() -> Result<()> {
        let cfg = Vit3dConfig { cls_token: true, ..config() };
        let volume = Tensor::rand(0f32, 1., (1, 1, 8, 32, 32), &Device::Cpu)?;
        let mut probe = Recording::default();
        assert_eq!(model(&cfg)?.forward(&volume, &mut probe)?.dims(), [1, 9, 24]);
        assert_eq!(probe.tensors.len(), 1);
        Ok(())
    }

    /// Ends a pass at its n-th check.
    struct CancelAt(Cell<usize>);

    impl Probe for CancelAt {
        fn record(&mut self, _name: &str, _tensor: &Tensor) -> Result<()> {
            Ok(())
        }

        fn check_cancelled(&self) -> Result<()> {
            match self.0.get() {
                0 => Err(Cancelled.into()),
                left => {
                    self.0.set(left - 1);
                    Ok(())
                }
            }
        }
    }

    #[test]
    fn a_pass_can_be_ended_before_each_block_and_within_it() -> Result<()> {
        let cfg = config();
        let model = model(&cfg)?;
        let volume = Tensor::rand(0f32, 1., (1, 1, 8, 32, 32), &Device::Cpu)?;
        for n in 0..2 * cfg.num_layers {
            let error = model.forward(&volume, &mut CancelAt(Cell::new(n))).unwrap_err();
            assert!(Cancelled::is_in(&error), "{n}: {error}");
        }
        model.forward(&volume, &mut CancelAt(Cell::new(2 * cfg.num_layers)))?;
        Ok(())
    }

    #[test]
    fn another_volume_size_is_refused_by_name() -> Result<()> {
        let volume = Tensor::zeros((1, 1, 8, 32, 16), DType::F32, &Device::Cpu)?;
        let error = model(&config())?.forward(&volume, &mut NoProbe);
        assert!(error.is_err_and(|e| e.to_string().contains("[8, 32, 32]")));
        Ok(())
    }

    #[test]
    fn a_configuration_that_does_not_fit_names_its_fields() {
        let cfg = Vit3dConfig { patch_size: [3, 16, 16], ..config() };
        assert!(cfg.validate().is_err_and(|e| e.contains("patch_size")));
        let cfg = Vit3dConfig { num_heads: 5, ..config() };
        assert!(cfg.validate().is_err_and(|e| e.contains("heads")));
    }
}
