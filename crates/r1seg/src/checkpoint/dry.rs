//! What loading would do, without the weights: the model's own constructors ask for tensors, and
//! get ones without numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use candle_core::{DType, Device, Shape, Tensor};
use r1seg_nn::{StoredMatrix, TensorSource, WeightMatrix, WeightType, Weights};

use super::{CheckpointSource, Found, LoadReport, weight_type};
use crate::Error;
use crate::config::{ConfigFile, FamilyConfig};
use crate::error::without_backtrace;
use crate::load::Loadable;

/// Tensors of up to so many numbers have their shape, so that constructors may compute with them.
/// Those that rearrange larger ones do so through [`Weights::get_as`].
const MAX_SHAPED: usize = 1 << 22;

impl CheckpointSource {
    /// What loading would do with every tensor, from `config.json` and the headers of the weights
    /// alone. Loading itself finds the same and refuses a report that is not clean.
    ///
    /// # Errors
    /// As [`load`](crate::load()) for a broken configuration or broken headers.
    pub fn expected_vs_found(&self) -> Result<LoadReport, Error> {
        match ConfigFile::read(self)?.parse()? {
            FamilyConfig::Language(config) => self.compare(*config),
            FamilyConfig::Promptable(config) => self.compare(*config),
            FamilyConfig::Automatic(config) => self.compare(*config),
            FamilyConfig::Retrieval(config) => self.compare(*config),
        }
    }

    fn compare(&self, mut config: impl Loadable) -> Result<LoadReport, Error> {
        let found = self.found(config.head_dim())?;
        config.adapt(&found);
        config.dry_load(&found, self)
    }
}

/// Compares what `build` asks for with what there is. Leftovers that are `never_used` are tolerated.
pub(crate) fn dry_load(
    build: &dyn Fn(&Weights) -> candle_core::Result<()>,
    never_used: &dyn Fn(&str) -> bool,
    found: &BTreeMap<String, Found>,
    source: &CheckpointSource,
) -> Result<LoadReport, Error> {
    let asked = asked_for(build).map_err(|e| Error::Config {
        path: source.path(),
        message: format!("no model can be built from it: {}", without_backtrace(&e)),
    })?;
    let mut report = LoadReport::default();
    let mut known = BTreeSet::new();
    for (name, shape) in asked {
        known.insert(name.clone());
        let Some(tensor) = found.get(&name) else {
            report.missing.push(name);
            continue;
        };
        if tensor.shape != shape {
            let (expected, got) = (format!("{shape:?}"), format!("{:?}", tensor.shape));
            report.misshaped.push((name, expected, got));
        } else if weight_type(tensor.format).is_none() {
            report.misshaped.push((name, "f32, bf16 or f16".into(), tensor.format.to_string()));
        } else {
            report.loaded += 1;
            report.bytes = report.bytes.saturating_add(tensor.bytes);
        }
    }
    let untied = known.contains("lm_head.weight");
    let output = if untied { "lm_head.weight" } else { "model.embed_tokens.weight" };
    let per_token = found.iter().filter(|(name, _)| {
        known.contains(*name) && (name.starts_with("model.layers.") || *name == output)
    });
    report.bytes_per_token = per_token.map(|(_, tensor)| tensor.bytes).sum();
    let rest = found.keys().filter(|name| !known.contains(*name)).cloned();
    (report.unused, report.unexpected) = rest.partition(|name| never_used(name));
    Ok(report)
}

/// Tensors by name, and their shapes.
type Asked = Vec<(String, Vec<usize>)>;

/// The tensors that the constructors ask for, in their order.
fn asked_for(build: &dyn Fn(&Weights) -> candle_core::Result<()>) -> candle_core::Result<Asked> {
    let dry = Arc::new(Dry(Mutex::default()));
    build(&Weights::new(dry.clone(), DType::F32, Device::Cpu))?;
    let mut asked = dry.0.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(std::mem::take(&mut asked))
}

/// Notes what is asked for.
struct Dry(Mutex<Asked>);

impl Dry {
    fn note(&self, name: &str, dims: &[usize]) {
        let asked = (name.to_string(), dims.to_vec());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
    }
}

impl TensorSource for Dry {
    fn tensor(
        &self,
        name: &str,
        shape: &Shape,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        self.note(name, shape.dims());
        let numbers = shape.dims().iter().try_fold(1usize, |n, axis| n.checked_mul(*axis));
        let shape = match numbers {
            Some(..=MAX_SHAPED) => shape.clone(),
            _ => Shape::from(vec![1; shape.rank()]),
        };
        // One number that stands for all.
        Tensor::zeros((), dtype, device)?.broadcast_as(shape)
    }

    fn matrix(
        &self,
        name: &str,
        (n, k): (usize, usize),
        _dtype: DType,
        _device: &Device,
    ) -> candle_core::Result<WeightMatrix> {
        self.note(name, &[n, k]);
        let absent = StoredMatrix::new(Bytes::new(), WeightType::F32, (n, k));
        Ok(WeightMatrix::Stored(absent))
    }

    fn contains(&self, _name: &str) -> bool {
        true
    }

    fn has_numbers(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{DeviceChoice, LoadOptions, ModelConfig};

    fn case(name: &str) -> CheckpointSource {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data");
        CheckpointSource::Folder(root.join(name))
    }

    #[test]
    fn what_a_model_reads_is_what_it_was_said_to_need() {
        let language = [case("phi3"), case("llama31"), case("qwen2"), case("m3d-phi3")];
        let others = [case("segvol"), case("r1seg-3dsam"), case("m3d-clip")];
        let cpu = LoadOptions::default().with_device(DeviceChoice::Cpu);
        for source in [CheckpointSource::demo()].into_iter().chain(language).chain(others) {
            let loaded = crate::load(&source, &cpu).unwrap();
            let dry = source.expected_vs_found().unwrap();
            assert!(0 < dry.loaded && dry.is_clean(), "{source:?}");
            assert_eq!(&dry, loaded.load_report(), "{source:?}");
        }
    }

    #[test]
    fn every_tensor_of_vista3d_is_read_but_those_that_its_authors_never_use() {
        let report = case("vista3d").expected_vs_found().unwrap();
        assert!(0 < report.loaded && report.is_clean(), "{report:?}");
        let unused = ["class_embeddings.weight", "mask_downsample.bias", "mask_downsample.weight"];
        assert_eq!(report.unused, unused.map(|name| format!("point_head.{name}")));
    }

    #[test]
    fn a_full_size_model_takes_no_time() {
        let mut config = ModelConfig::read(&case("phi3")).unwrap();
        let decoder = &mut config.decoder;
        (decoder.hidden_size, decoder.intermediate_size) = (4096, 14336);
        (decoder.num_hidden_layers, decoder.vocab_size) = (32, 128_260);
        (decoder.num_attention_heads, decoder.num_key_value_heads) = (32, 8);
        decoder.head_dim = 128;
        config.branches[0].mm_projector.out_dim = 4096;
        let start = std::time::Instant::now();
        let build = |weights: &Weights| config.build(weights, DType::F32).map(drop);
        let asked = asked_for(&build).unwrap();
        let numbers: usize = asked.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        assert!(8_000_000_000 < numbers, "{numbers}");
        assert!(start.elapsed().as_secs_f32() < 2.0, "{:?}", start.elapsed());
    }
}
