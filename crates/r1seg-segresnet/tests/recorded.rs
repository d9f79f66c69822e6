//! The network of VISTA3D against recordings of the authors' code, from the encoder to the logits of
//! classes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use r1seg_nn::{Cancelled, NoProbe, Probe, Recording, Weights};
use r1seg_segresnet::{Branches, ClassHead, SegResNet, SegResNetConfig};
use serde_json::Value;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Of the largest number of an array.
const TOLERANCE: f32 = 1e-4;

fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/vista3d").join(path)
}

fn json(path: &str) -> Result<Value> {
    Ok(serde_json::from_slice(&std::fs::read(data(path))?)?)
}

/// What is tested, and what was recorded of it.
struct Case {
    config: SegResNetConfig,
    weights: Weights,
    arrays: HashMap<String, Tensor>,
    classes: Vec<u32>,
}

impl Case {
    fn open() -> Result<Self> {
        let sizes = json("config.json")?;
        let size = |name: &str| {
            let size = sizes[name].as_u64().ok_or_else(|| format!("no {name}"))?;
            Ok::<_, String>(size as usize)
        };
        let tensors = candle_core::safetensors::load(data("model.safetensors"), &Device::Cpu)?;
        Ok(Self {
            config: SegResNetConfig {
                in_channels: size("in_channels")?,
                init_filters: size("init_filters")?,
                feature_size: size("feature_size")?,
                blocks_down: serde_json::from_value(sizes["blocks_down"].clone())?,
                n_classes: size("n_classes")?,
            },
            weights: VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu).into(),
            arrays: candle_core::safetensors::load(data("golden/patch.safetensors"), &Device::Cpu)?,
            classes: serde_json::from_value(json("golden/patch.json")?["classes"].clone())?,
        })
    }

    fn network(&self) -> Result<SegResNet> {
        Ok(SegResNet::new(&self.config, self.weights.pp("image_encoder"))?)
    }

    fn patch(&self) -> Result<Tensor> {
        Ok(self.arrays["patch"].unsqueeze(0)?.unsqueeze(0)?)
    }

    /// Compares a whole array, or the sample that was recorded of it.
    fn check(&self, name: &str, got: &Tensor) -> Result<String> {
        let got = got.flatten_all()?.to_vec1::<f32>()?;
        let sample = format!("{name}.sample");
        let (key, chosen) = if self.arrays.contains_key(&sample) {
            let index = self.arrays[&format!("index.{}", got.len())].to_vec1::<i32>()?;
            (sample, index.iter().map(|i| got[*i as usize]).collect())
        } else {
            (name.to_owned(), got)
        };
        let reference = self.arrays.get(&key).ok_or_else(|| format!("no {key}"))?;
        let reference = reference.flatten_all()?.to_vec1::<f32>()?;
        assert_eq!(chosen.len(), reference.len(), "{key}");
        let largest = reference.iter().fold(0f32, |most, x| most.max(x.abs()));
        let gaps = chosen.iter().zip(&reference).map(|(a, b)| (a - b).abs());
        let gap = gaps.fold(0f32, |most, gap| if gap.is_nan() { gap } else { most.max(gap) });
        assert!(gap <= TOLERANCE * largest, "{key} deviates by {:e}", gap / largest);
        Ok(key)
    }

    /// Compares the signs of logits, but for those that are close to none.
    fn check_signs(&self, name: &str, logits: &Tensor) -> Result<String> {
        let key = format!("{name}.packed");
        let signs = self.arrays.get(&key).ok_or_else(|| format!("no {key}"))?.to_vec1::<u8>()?;
        let logits = logits.flatten_all()?.to_vec1::<f32>()?;
        assert_eq!(logits.len(), 8 * signs.len());
        let largest = logits.iter().fold(0f32, |most, x| most.max(x.abs()));
        for (i, logit) in logits.iter().enumerate() {
            let is_set = signs[i / 8] & (0x80 >> (i % 8)) != 0;
            let is_close = logit.abs() <= TOLERANCE * largest;
            assert!(is_close || is_set == (*logit > 0.0), "{key}: voxel {i}: {logit}");
        }
        Ok(key)
    }
}

#[test]
fn the_network_equals_its_authors_code_from_the_encoder_to_the_logits() -> Result<()> {
    let case = Case::open()?;
    let head = ClassHead::new(&case.config, case.weights.pp("class_head"))?;
    let mut probe = Recording::default();
    let features = case.network()?.forward(&case.patch()?, Branches::Both, &mut probe)?;
    let features = features.classes.ok_or("the class branch was asked for")?;
    let mapped = head.features(features, &mut probe)?;
    let embeddings = head.embeddings(&case.classes, &mut probe)?;
    let mut compared = Vec::new();
    for (name, tensor) in &probe.tensors {
        compared.push(case.check(name, tensor)?);
    }
    let logits = head.score(&mapped.squeeze(0)?.flatten_from(1)?, &embeddings)?;
    for (row, class) in case.classes.iter().enumerate() {
        let name = format!("class.{class}");
        compared.push(case.check(&name, &logits.get(row)?)?);
        compared.push(case.check_signs(&name, &logits.get(row)?)?);
    }
    let of_network = |key: &&String| {
        ["encoder.", "decoder.", "class_head.", "class."].iter().any(|part| key.starts_with(part))
    };
    let missing: Vec<_> =
        case.arrays.keys().filter(of_network).filter(|key| !compared.contains(key)).collect();
    assert!(missing.is_empty(), "not compared: {missing:?}");
    Ok(())
}

#[test]
fn a_branch_alone_gives_what_both_give_and_the_other_does_not_run() -> Result<()> {
    let case = Case::open()?;
    let (network, patch) = (case.network()?, case.patch()?);
    for (branch, name, other) in [
        (Branches::Classes, "decoder.auto", "decoder.point"),
        (Branches::Points, "decoder.point", "decoder.auto"),
    ] {
        let mut probe = Recording::default();
        let features = network.forward(&patch, branch, &mut probe)?;
        assert_eq!(features.classes.is_some(), branch == Branches::Classes);
        assert_eq!(features.points.is_some(), branch == Branches::Points);
        let features = features.classes.or(features.points).ok_or("a branch gave nothing")?;
        assert_eq!(features.dims(), [1, case.config.feature_size, 32, 48, 64]);
        case.check(name, &features)?;
        assert!(probe.tensors.iter().all(|(stage, _)| stage != other));
    }
    Ok(())
}

#[test]
fn averaged_features_score_like_averaged_logits() -> Result<()> {
    let case = Case::open()?;
    let head = ClassHead::new(&case.config, case.weights.pp("class_head"))?;
    let embeddings = head.embeddings(&case.classes, &mut NoProbe)?;
    let window = || Tensor::randn(0f32, 1., (case.config.feature_size, 500), &Device::Cpu);
    let (one, other) = (window()?, window()?);
    let together = head.score(&((&one + &other)? / 2.0)?, &embeddings)?;
    let apart = ((head.score(&one, &embeddings)? + head.score(&other, &embeddings)?)? / 2.0)?;
    let largest = apart.abs()?.max_all()?.to_scalar::<f32>()?;
    let gap = (together - apart)?.abs()?.max_all()?.to_scalar::<f32>()?;
    assert!(gap < 1e-6 * largest, "{gap} of {largest}");
    Ok(())
}

#[test]
fn what_the_network_cannot_read_is_refused() -> Result<()> {
    let case = Case::open()?;
    let network = case.network()?;
    let message = |dims: [usize; 5]| -> Result<String> {
        let volume = Tensor::zeros(dims.to_vec(), DType::F32, &Device::Cpu)?;
        let refused = network.forward(&volume, Branches::Both, &mut NoProbe);
        Ok(refused.err().map(|e| e.to_string()).unwrap_or_default())
    };
    assert!(message([1, 2, 32, 32, 32])?.contains("1 channels, got 2"));
    assert!(message([1, 1, 32, 40, 32])?.contains("multiples of 16"));
    assert!(message([1, 1, 16, 16, 16])?.contains("single voxel"));
    assert!(message([1, 1, 16, 32, 16])?.is_empty());
    let head = ClassHead::new(&case.config, case.weights.pp("class_head"))?;
    let refused = head.embeddings(&[1, 512], &mut NoProbe);
    assert!(refused.is_err_and(|e| e.to_string().contains("512")));
    assert!(head.embeddings(&[], &mut NoProbe).is_err());
    let single = SegResNetConfig { blocks_down: vec![1], ..case.config.clone() };
    assert!(SegResNet::new(&single, case.weights.pp("image_encoder")).is_err());
    Ok(())
}

/// Ends a pass at the given question.
struct Impatient(std::cell::Cell<usize>);

impl Probe for Impatient {
    fn record(&mut self, _name: &str, _tensor: &Tensor) -> candle_core::Result<()> {
        Ok(())
    }

    fn check_cancelled(&self) -> candle_core::Result<()> {
        match self.0.get().checked_sub(1) {
            None => Err(Cancelled.into()),
            Some(left) => {
                self.0.set(left);
                Ok(())
            }
        }
    }
}

#[test]
fn a_pass_ends_between_any_two_convolutions() -> Result<()> {
    let case = Case::open()?;
    let (network, patch) = (case.network()?, case.patch()?.narrow(2, 0, 16)?);
    let mut patience = 0;
    loop {
        let mut probe = Impatient(patience.into());
        match network.forward(&patch, Branches::Both, &mut probe) {
            Ok(_) => break,
            Err(error) => assert!(Cancelled::is_in(&error), "{error}"),
        }
        patience += 1;
    }
    // Two in each of 7 blocks of the encoder and 8 of the decoders, at least.
    assert!(patience >= 30, "the caller was asked {patience} times");
    Ok(())
}
