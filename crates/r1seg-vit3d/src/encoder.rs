//! The whole encoder. Port of MONAI 1.3.0's `ViT` as R1Seg-3D and M3D use it.
//! Keys: `patch_embedding`, `cls_token` (optional), `blocks.N`, `norm`; with slices those of [`SliceGuide`].

use candle_core::{Result, Tensor, bail};
use r1seg_nn::{Probe, Weights};

use crate::block::{Blocks, with_class_token};
use crate::{PatchEmbedding, SliceGuide, Vit3dConfig};

/// A 3D vision transformer.
#[derive(Debug, Clone)]
pub struct Vit3d {
    patch_embedding: PatchEmbedding,
    guide: Option<SliceGuide>,
    cls_token: Option<Tensor>,
    blocks: Blocks,
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
        let guide = if cfg.slice_guided { Some(SliceGuide::new(e, &weights)?) } else { None };
        Ok(Self {
            patch_embedding: PatchEmbedding::new(cfg, weights.pp("patch_embedding"))?,
            guide,
            cls_token,
            blocks: Blocks::new(&cfg.block(), cfg.num_layers, &weights)?,
        })
    }

    /// The tokens after the final norm. Shows `vit.patch_embedding` (`[B, N, E]`) and `vit.block_0` (after
    /// the first block, `[B, N, E]`) to the probe, and what guides the patches.
    ///
    /// # Shapes
    /// - `volume`: `[B, C, D, H, W]`, intensities in `0..=1`
    /// - `slices`: `[B, S, E]`, features of slices of it, where they guide the patches
    /// - returns: `[B, N, E]`, or `[B, 1 + N, E]` with a class token
    ///
    /// # Errors
    /// When the volume has another size than the model was built for, slices are missing or of no use, or
    /// `probe` ends the pass.
    pub fn forward(
        &self,
        volume: &Tensor,
        slices: Option<&Tensor>,
        probe: &mut dyn Probe,
    ) -> Result<Tensor> {
        let mut x = self.patch_embedding.forward(volume)?;
        probe.record("vit.patch_embedding", &x)?;
        x = match (&self.guide, slices) {
            (Some(guide), Some(slices)) => guide.forward(&x, slices, probe)?,
            (None, None) => x,
            (Some(_), None) => bail!("the vision transformer needs features of slices"),
            (None, Some(_)) => bail!("the vision transformer takes no features of slices"),
        };
        if let Some(cls) = &self.cls_token {
            // The class token is prepended after the positions were added: it has none.
            x = with_class_token(cls, &x)?;
        }
        self.blocks.forward(x, "vit.block_0", probe)
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
            slice_guided: false,
        }
    }

    fn model(cfg: &Vit3dConfig) -> Result<Vit3d> {
        Vit3d::new(cfg, VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu).into())
    }

    #[test]
    fn a_batch_row_equals_a_single_run() -> Result<()> {
        let model = model(&config())?;
        let volumes = Tensor::rand(0f32, 1., (2, 1, 8, 32, 32), &Device::Cpu)?;
        let both = model.forward(&volumes, None, &mut NoProbe)?;
        let second = model.forward(&volumes.narrow(0, 1, 1)?, None, &mut NoProbe)?;
        let gap = (both.narrow(0, 1, 1)? - second)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(gap < 1e-5, "{gap}");
        Ok(())
    }

    #[test]
    fn a_class_token_adds_one_token_in_front() -> Result<()> {
        let cfg = Vit3dConfig { cls_token: true, ..config() };
        let volume = Tensor::rand(0f32, 1., (1, 1, 8, 32, 32), &Device::Cpu)?;
        let mut probe = Recording::default();
        assert_eq!(model(&cfg)?.forward(&volume, None, &mut probe)?.dims(), [1, 9, 24]);
        assert_eq!(probe.tensors.len(), 2);
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
            let error = model.forward(&volume, None, &mut CancelAt(Cell::new(n))).unwrap_err();
            assert!(Cancelled::is_in(&error), "{n}: {error}");
        }
        model.forward(&volume, None, &mut CancelAt(Cell::new(2 * cfg.num_layers)))?;
        Ok(())
    }

    #[test]
    fn another_volume_size_is_refused_by_name() -> Result<()> {
        let volume = Tensor::zeros((1, 1, 8, 32, 16), DType::F32, &Device::Cpu)?;
        let error = model(&config())?.forward(&volume, None, &mut NoProbe);
        assert!(error.is_err_and(|e| e.to_string().contains("[8, 32, 32]")));
        Ok(())
    }

    #[test]
    fn slices_are_needed_where_they_guide_and_refused_elsewhere() -> Result<()> {
        let volume = Tensor::rand(0f32, 1., (1, 1, 8, 32, 32), &Device::Cpu)?;
        let slices = Tensor::randn(0f32, 1., (1, 5, 24), &Device::Cpu)?;
        let cfg = Vit3dConfig { slice_guided: true, ..config() };
        let guided = Vit3d::new(&cfg, crate::testing::random_weights())?;
        let mut probe = Recording::default();
        let found = guided.forward(&volume, Some(&slices), &mut probe)?;
        let names: Vec<&str> = probe.tensors.iter().map(|(name, _)| name.as_str()).collect();
        let stages = ["patch_embedding", "attention", "attended", "scores", "block_0"];
        assert_eq!(names, stages.map(|stage| format!("vit.{stage}")));
        let scores = probe.tensors[3].1.flatten_all()?.to_vec1::<f32>()?;
        assert!(scores.len() == 8 && scores.iter().all(|score| (0.0..=1.0).contains(score)));
        let other = guided.forward(&volume, Some(&(slices.clone() * -1.0)?), &mut NoProbe)?;
        assert!((found - other)?.abs()?.max_all()?.to_scalar::<f32>()? > 1e-4);
        let error = guided.forward(&volume, None, &mut NoProbe).unwrap_err();
        assert!(error.to_string().contains("needs features of slices"));
        let error = model(&config())?.forward(&volume, Some(&slices), &mut NoProbe).unwrap_err();
        assert!(error.to_string().contains("takes no features of slices"));
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
