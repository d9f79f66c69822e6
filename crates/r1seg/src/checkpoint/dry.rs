//! What loading would do, without the weights: the model's own constructors ask for tensors, and
//! get ones without numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::VarBuilder;
use candle_nn::var_builder::SimpleBackend;
use r1seg_llm::Decoder;
use r1seg_mask_decoder::MaskHead;
use r1seg_projector::{MmProjector, SegProjector};
use r1seg_vit3d::Vit3d;

use super::{CheckpointSource, LoadReport, Weights, never_used};
use crate::{Error, ModelConfig};

/// The most numbers of a tensor that a constructor rearranges. The largest one that any does has
/// three millions at full size.
const MAX_REARRANGED: usize = 1 << 26;

/// A tensor of a checkpoint, as its header describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Such as `bf16`.
    pub(crate) dtype: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: u64,
}

impl Found {
    /// How many numbers it has.
    pub(crate) fn numbers(&self) -> u64 {
        self.shape.iter().fold(1, |n, axis| n.saturating_mul(*axis as u64))
    }
}

impl CheckpointSource {
    /// What loading would do with every tensor, from `config.json` and the headers of the weights
    /// alone. Loading itself finds the same and refuses a report that is not clean.
    ///
    /// # Errors
    /// As [`R1SegModelBuilder::build`](crate::R1SegModelBuilder::build) for a broken configuration
    /// or broken headers.
    pub fn expected_vs_found(&self) -> Result<LoadReport, Error> {
        let mut config = ModelConfig::read(self)?;
        let found = self.found()?;
        config.set_vocabulary(&found);
        dry_load(&config, &found, self)
    }

    /// Every tensor by name.
    pub(crate) fn found(&self) -> Result<BTreeMap<String, Found>, Error> {
        Ok(self.open_weights()?.found())
    }
}

impl Weights {
    /// Every tensor by name.
    pub(crate) fn found(&self) -> BTreeMap<String, Found> {
        let found = self.tensors().map(|(name, dtype, shape)| {
            let bits =
                shape.iter().fold(dtype.bitsize() as u64, |n, a| n.saturating_mul(*a as u64));
            let dtype = format!("{dtype:?}").to_lowercase();
            (name.to_string(), Found { dtype, shape: shape.to_vec(), bytes: bits / 8 })
        });
        found.collect()
    }
}

impl ModelConfig {
    /// Training resizes the embedding table to the tokenizer; the weights know, config.json may
    /// not.
    pub(crate) fn set_vocabulary(&mut self, found: &BTreeMap<String, Found>) {
        if let Some(Found { shape, .. }) = found.get("model.embed_tokens.weight")
            && let [rows, _] = shape[..]
        {
            self.decoder.vocab_size = rows;
        }
    }
}

/// Compares what the model asks for with what there is.
pub(crate) fn dry_load(
    config: &ModelConfig,
    found: &BTreeMap<String, Found>,
    source: &CheckpointSource,
) -> Result<LoadReport, Error> {
    let asked = asked_for(config).map_err(|e| Error::Config {
        path: source.path(),
        // The rest is a backtrace, where there is one.
        message: format!(
            "no model can be built from it: {}",
            e.to_string().lines().next().unwrap_or_default()
        ),
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
        } else if !["f32", "bf16", "f16"].contains(&tensor.dtype.as_str()) {
            report.misshaped.push((name, "f32, bf16 or f16".into(), tensor.dtype.clone()));
        } else {
            report.loaded += 1;
            report.bytes = report.bytes.saturating_add(tensor.bytes);
        }
    }
    let rest = found.keys().filter(|name| !known.contains(*name)).cloned();
    (report.unused, report.unexpected) = rest.partition(|name| never_used(name));
    Ok(report)
}

/// Tensors by name, and their shapes.
type Asked = Vec<(String, Vec<usize>)>;

/// The tensors that the constructors ask for, in their order.
fn asked_for(config: &ModelConfig) -> candle_core::Result<Asked> {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let backend: Box<dyn SimpleBackend> = Box::new(Dry(asked.clone()));
    // f16, since weights of that type are left as they are on a CPU.
    let root = VarBuilder::from_backend(backend, DType::F16, Device::Cpu);
    let model = root.pp("model");
    let vision = model.pp("vision_module");
    let (hidden, embed) = (config.decoder.hidden_size, config.vit.hidden_size);
    Vit3d::new(&config.vit, vision.pp("image_encoder"))?;
    MmProjector::new(&config.mm_projector, model.pp("mm_projector"))?;
    SegProjector::new(hidden, embed, model.pp("seg_projector"))?;
    MaskHead::new(&config.mask_head, vision)?;
    Decoder::new(&config.decoder, root, DType::F32)?;
    let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(std::mem::take(&mut asked))
}

/// Notes what is asked for.
struct Dry(Arc<Mutex<Asked>>);

impl SimpleBackend for Dry {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _init: candle_nn::Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let dims = shape.dims().to_vec();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((name.to_string(), dims));
        // Constructors look at how many axes a tensor has, with two exceptions in the mask decoder:
        // the norm over a whole block is cut up, and positions in space are encoded.
        let rank = shape.rank();
        if name.ends_with("positional_encoding_gaussian_matrix") {
            return Tensor::zeros((3, 1), dtype, device);
        }
        let numbers = shape.dims().iter().try_fold(1usize, |n, axis| n.checked_mul(*axis));
        let shape = match numbers {
            Some(..=MAX_REARRANGED) if rank == 4 => shape,
            _ => Shape::from(vec![1; rank]),
        };
        Tensor::zeros((), dtype, device)?.broadcast_as(shape)
    }

    fn get_unchecked(
        &self,
        name: &str,
        _dtype: DType,
        _device: &Device,
    ) -> candle_core::Result<Tensor> {
        candle_core::bail!("the shape of `{name}` is not known without its weights")
    }

    fn contains_tensor(&self, _name: &str) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::R1SegModel;

    fn case(name: &str) -> CheckpointSource {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
        CheckpointSource::Folder(root.join(name))
    }

    #[test]
    fn a_dry_load_says_what_a_load_says() {
        for source in [
            CheckpointSource::demo(),
            case("phi3"),
            case("phi3-longrope"),
            case("llama31"),
            case("qwen2"),
            case("mistral"),
        ] {
            let builder = R1SegModel::builder(source.clone()).device(crate::DeviceChoice::Cpu);
            let loaded = builder.build().unwrap();
            let mut dry = source.expected_vs_found().unwrap();
            dry.unused.sort();
            assert!(0 < dry.loaded && dry.is_clean(), "{source:?}");
            assert_eq!(&dry, loaded.load_report(), "{source:?}");
        }
    }

    #[test]
    fn a_full_size_model_takes_no_time() {
        let mut config = ModelConfig::read(&case("phi3")).unwrap();
        let decoder = &mut config.decoder;
        (decoder.hidden_size, decoder.intermediate_size) = (4096, 14336);
        (decoder.num_hidden_layers, decoder.vocab_size) = (32, 128_260);
        (decoder.num_attention_heads, decoder.num_key_value_heads) = (32, 8);
        decoder.head_dim = 128;
        config.mm_projector.out_dim = 4096;
        let start = std::time::Instant::now();
        let asked = asked_for(&config).unwrap();
        let numbers: usize = asked.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        assert!(8_000_000_000 < numbers, "{numbers}");
        assert!(start.elapsed().as_secs_f32() < 2.0, "{:?}", start.elapsed());
    }
}
