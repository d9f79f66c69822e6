//! NeuroSAM3D's encoder against its definition, evaluated number by number in f64.

mod reference;
mod source;

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};
use r1seg_nn::{Cancelled, NoProbe, Probe, Recording, Weights};
use r1seg_vit3d::{Hiera, HieraConfig};
use source::{Named, WithoutNumbers};

/// Of the largest number of a stage, in f32: sums of a few hundred products in another order.
const TOLERANCE: f64 = 1e-5;

/// As the published model: windows that divide their grid, then single windows beyond theirs, with
/// and without pooling.
fn published() -> HieraConfig {
    HieraConfig {
        image_size: 64,
        hidden_size: 8,
        num_heads: 1,
        stages: vec![1, 2, 3, 2],
        window_spec: vec![8, 4, 6, 7],
        global_blocks: vec![4],
        q_pool: 3,
        top_down_levels: vec![2, 3],
        scalp: 1,
        out_channels: 10,
    }
}

/// Several windows that do not divide their grid, so that what fills them up is put into it.
fn filled_up() -> HieraConfig {
    HieraConfig {
        image_size: 48,
        hidden_size: 4,
        num_heads: 2,
        stages: vec![1, 2, 2],
        window_spec: vec![6, 4, 2],
        global_blocks: vec![],
        q_pool: 2,
        top_down_levels: vec![0, 1],
        scalp: 2,
        out_channels: 5,
    }
}

/// Wider stages without pooling, and a neck that joins nothing.
fn flat() -> HieraConfig {
    HieraConfig {
        image_size: 16,
        hidden_size: 6,
        num_heads: 3,
        stages: vec![2, 2],
        window_spec: vec![2, 4],
        global_blocks: vec![0],
        q_pool: 0,
        top_down_levels: vec![1],
        scalp: 0,
        out_channels: 3,
    }
}

/// The largest difference, over the largest number of `expected`.
fn deviation(got: &Tensor, expected: &[f64]) -> Result<f64> {
    let got = got.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    assert_eq!(got.len(), expected.len());
    let largest = expected.iter().fold(0f64, |m, x| m.max(x.abs()));
    let apart = got.iter().zip(expected).map(|(a, b)| (a - b).abs());
    Ok(apart.fold(0f64, |m, x| if x.is_nan() { f64::INFINITY } else { m.max(x) }) / largest)
}

fn volumes(cfg: &HieraConfig, count: usize) -> Result<Tensor> {
    let side = cfg.image_size;
    Tensor::from_vec(
        source::numbers("volume", count * side * side * side),
        (count, 1, side, side, side),
        &Device::Cpu,
    )
}

fn row(volumes: &Tensor, i: usize) -> Result<Vec<f64>> {
    volumes.get(i)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

#[test]
fn every_stage_equals_its_definition_in_f64() -> Result<()> {
    for cfg in [published(), filled_up(), flat()] {
        let source = Arc::new(Named::default());
        let model = Hiera::new(&cfg, Weights::new(source.clone(), DType::F32, Device::Cpu))?;
        let volume = volumes(&cfg, 1)?;
        let mut probe = Recording::default();
        let map = model.forward(&volume, &mut probe)?;
        let expected = reference::run(&cfg, &source.f64s()?, &row(&volume, 0)?);
        let names = |names: Vec<&String>| names.into_iter().cloned().collect::<Vec<_>>();
        let mut recorded = names(probe.tensors.iter().map(|(name, _)| name).collect());
        recorded.sort();
        assert_eq!(recorded, names(expected.keys().collect()), "{cfg:?}");
        for (name, tensor) in &probe.tensors {
            let gap = deviation(tensor, &expected[name])?;
            assert!(gap < TOLERANCE, "{name} of {cfg:?}: {gap:e}");
        }
        assert_eq!(map.dims(), [1, cfg.num_patches(), cfg.out_channels]);
        assert!(deviation(&map.get(0)?.t()?, &expected["image_embedding"])? < TOLERANCE);
    }
    Ok(())
}

#[test]
fn recorded_stages_have_the_shape_of_their_grid() -> Result<()> {
    let cfg = published();
    let source = Arc::new(Named::default());
    let model = Hiera::new(&cfg, Weights::new(source, DType::F32, Device::Cpu))?;
    let mut probe = Recording::default();
    model.forward(&volumes(&cfg, 1)?, &mut probe)?;
    let shapes: BTreeMap<_, _> =
        probe.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.dims())).collect();
    assert_eq!(shapes["encoder.patch_embed"], [16, 16, 16, 8]);
    assert_eq!(shapes["encoder.block_1"], [8, 8, 8, 16]);
    assert_eq!(shapes["encoder.block_7"], [2, 2, 2, 64]);
    assert_eq!(shapes["neck.lateral_0"], [10, 2, 2, 2]);
    assert_eq!(shapes["neck.lateral_1"], [10, 4, 4, 4]);
    assert_eq!(shapes["image_embedding"], [10, 4, 4, 4]);
    Ok(())
}

#[test]
fn a_batch_row_equals_its_definition() -> Result<()> {
    for cfg in [published(), filled_up()] {
        let source = Arc::new(Named::default());
        let model = Hiera::new(&cfg, Weights::new(source.clone(), DType::F32, Device::Cpu))?;
        let volumes = volumes(&cfg, 2)?;
        let maps = model.forward(&volumes, &mut NoProbe)?;
        for i in 0..2 {
            let expected = reference::run(&cfg, &source.f64s()?, &row(&volumes, i)?);
            let gap = deviation(&maps.get(i)?.t()?, &expected["image_embedding"])?;
            assert!(gap < TOLERANCE, "row {i} of {cfg:?}: {gap:e}");
        }
    }
    Ok(())
}

#[test]
fn half_precision_weights_are_multiplied_as_they_are_stored() -> Result<()> {
    // Processors that multiply bf16 round activations to 8 bits at each of some fifty products.
    let tolerance = 0.02;
    let cfg = published();
    let source = Arc::new(Named::rounded_to(DType::BF16));
    let model = Hiera::new(&cfg, Weights::new(source.clone(), DType::BF16, Device::Cpu))?;
    let volume = volumes(&cfg, 1)?;
    let map = model.forward(&volume, &mut NoProbe)?;
    assert_eq!(map.dtype(), DType::F32);
    let expected = reference::run(&cfg, &source.f64s()?, &row(&volume, 0)?);
    let gap = deviation(&map.get(0)?.t()?, &expected["image_embedding"])?;
    assert!(gap < tolerance, "{gap:e}");
    Ok(())
}

#[test]
fn only_what_reaches_the_returned_map_is_asked_for() -> Result<()> {
    let cfg = published();
    let source = Arc::new(Named::default());
    Hiera::new(&cfg, Weights::new(source.clone(), DType::F32, Device::Cpu))?;
    let names: Vec<_> = source.f64s()?.into_keys().collect();
    let under = |prefix: &str| names.iter().filter(|name| name.starts_with(prefix)).count();
    assert_eq!(under("trunk.blocks."), 8 * 12 + 3 * 2);
    assert_eq!((under("neck.convs.0."), under("neck.convs.1."), under("neck.")), (2, 2, 4));
    // Nothing of the last stage where no map of it is joined.
    let alone = HieraConfig { top_down_levels: vec![3], ..cfg };
    let source = Arc::new(Named::default());
    Hiera::new(&alone, Weights::new(source.clone(), DType::F32, Device::Cpu))?;
    let names: Vec<_> = source.f64s()?.into_keys().collect();
    let used = |prefix: &str| names.iter().any(|name| name.starts_with(prefix));
    assert!(used("trunk.blocks.5.") && used("neck.convs.1."));
    assert!(!used("trunk.blocks.6.") && !used("neck.convs.0."));
    Ok(())
}

#[test]
fn a_model_is_built_without_numbers() -> Result<()> {
    let weights = Weights::new(Arc::new(WithoutNumbers), DType::F32, Device::Cpu);
    Hiera::new(&published(), weights)?;
    Ok(())
}

/// Ends a pass at its n-th check.
struct CancelAt(std::cell::Cell<usize>);

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
    let cfg = flat();
    let weights = Weights::new(Arc::new(Named::default()), DType::F32, Device::Cpu);
    let (model, volume) = (Hiera::new(&cfg, weights)?, volumes(&cfg, 1)?);
    let checks = 2 * cfg.stages.iter().sum::<usize>();
    for n in 0..checks {
        let error = model.forward(&volume, &mut CancelAt(n.into())).unwrap_err();
        assert!(Cancelled::is_in(&error), "{n}: {error}");
    }
    model.forward(&volume, &mut CancelAt(checks.into()))?;
    Ok(())
}

#[test]
fn another_volume_size_is_refused_by_name() -> Result<()> {
    let cfg = flat();
    let weights = Weights::new(Arc::new(Named::default()), DType::F32, Device::Cpu);
    let volume = Tensor::zeros((1, 1, 16, 16, 12), DType::F32, &Device::Cpu)?;
    let error = Hiera::new(&cfg, weights)?.forward(&volume, &mut NoProbe);
    assert!(error.is_err_and(|e| e.to_string().contains("[16, 16, 16]")));
    Ok(())
}
