//! Random weights, streamed into safetensors files with the sharding of transformers.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde_json::json;

use crate::layout::{Init, TensorPlan};
use crate::{Result, write_file, write_json};

/// Values that are drawn, encoded and written at a time.
const CHUNK: usize = 1 << 16;
/// transformers' `initializer_range`.
const STANDARD_DEVIATION: f32 = 0.02;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum WeightDtype {
    Bf16,
    F16,
    F32,
}

impl WeightDtype {
    pub(crate) fn by_name(name: &str) -> Option<Self> {
        match name {
            "bf16" => Some(Self::Bf16),
            "f16" => Some(Self::F16),
            "f32" => Some(Self::F32),
            _ => None,
        }
    }

    /// The name in `config.json`.
    pub(crate) fn torch_name(self) -> &'static str {
        match self {
            Self::Bf16 => "bfloat16",
            Self::F16 => "float16",
            Self::F32 => "float32",
        }
    }

    fn in_header(self) -> Dtype {
        match self {
            Self::Bf16 => Dtype::BF16,
            Self::F16 => Dtype::F16,
            Self::F32 => Dtype::F32,
        }
    }

    fn size(self) -> usize {
        match self {
            Self::Bf16 | Self::F16 => 2,
            Self::F32 => 4,
        }
    }

    /// Replaces `bytes` by `values` in this dtype, little-endian.
    fn encode(self, values: &[f32], bytes: &mut Vec<u8>) {
        fn fill<const N: usize>(bytes: &mut [u8], values: &[f32], encode: impl Fn(f32) -> [u8; N]) {
            for (target, value) in bytes.chunks_exact_mut(N).zip(values) {
                target.copy_from_slice(&encode(*value));
            }
        }
        bytes.resize(values.len() * self.size(), 0);
        match self {
            Self::Bf16 => fill(bytes, values, |value| bf16::from_f32(value).to_le_bytes()),
            Self::F16 => fill(bytes, values, |value| f16::from_f32(value).to_le_bytes()),
            Self::F32 => fill(bytes, values, f32::to_le_bytes),
        }
    }
}

pub(crate) struct Checkpoint {
    pub(crate) tensors: Vec<TensorPlan>,
    pub(crate) dtype: WeightDtype,
    /// The most bytes of tensors in one file, unless one tensor has more.
    pub(crate) shard_size: u64,
    pub(crate) seed: u64,
}

/// Writes `model.safetensors`, or shards with an index, and returns the bytes of all tensors.
pub(crate) fn write(checkpoint: &Checkpoint, dir: &Path) -> Result<u64> {
    let shards = checkpoint.shards();
    let count = shards.len();
    let mut total_size = 0;
    let mut weight_map = BTreeMap::new();
    for (index, shard) in shards.iter().enumerate() {
        let name = match count {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
        };
        checkpoint.write_shard(shard, &dir.join(&name))?;
        total_size += shard.iter().map(|tensor| checkpoint.bytes_of(tensor)).sum::<u64>();
        weight_map.extend(shard.iter().map(|tensor| (tensor.key.as_str(), name.clone())));
    }
    if 1 < count {
        let index = json!({ "metadata": { "total_size": total_size }, "weight_map": weight_map });
        write_json(&dir.join("model.safetensors.index.json"), &index)?;
    }
    Ok(total_size)
}

impl Checkpoint {
    fn bytes_of(&self, tensor: &TensorPlan) -> u64 {
        (tensor.element_count() * self.dtype.size()) as u64
    }

    /// Fills one file after the other in the order of modules, and sorts each by key.
    fn shards(&self) -> Vec<Vec<&TensorPlan>> {
        let mut shards: Vec<Vec<&TensorPlan>> = Vec::new();
        let mut filled = 0;
        for tensor in &self.tensors {
            let bytes = self.bytes_of(tensor);
            match shards.last_mut() {
                Some(shard) if filled + bytes <= self.shard_size => shard.push(tensor),
                _ => {
                    shards.push(vec![tensor]);
                    filled = 0;
                }
            }
            filled += bytes;
        }
        for shard in &mut shards {
            shard.sort_by_key(|tensor| &tensor.key);
        }
        shards
    }

    fn write_shard(&self, shard: &[&TensorPlan], path: &Path) -> Result<()> {
        let header = self.header(shard)?;
        let (mut values, mut bytes) = (Vec::new(), Vec::new());
        write_file(path, |file| {
            file.write_all(&(header.len() as u64).to_le_bytes())?;
            file.write_all(&header)?;
            for tensor in shard {
                let mut random = Random::new(self.seed, &tensor.key);
                let mut left = tensor.element_count();
                while 0 < left {
                    values.resize(left.min(CHUNK), 0.0);
                    random.fill(tensor.init, &mut values);
                    self.dtype.encode(&values, &mut bytes);
                    file.write_all(&bytes)?;
                    left -= values.len();
                }
            }
            Ok(())
        })
    }

    /// The JSON of a safetensors file, padded so that the data after it is aligned.
    fn header(&self, shard: &[&TensorPlan]) -> Result<Vec<u8>> {
        let mut end = 0;
        let infos = shard.iter().map(|tensor| {
            let start = end;
            end += tensor.element_count() * self.dtype.size();
            let (dtype, shape) = (self.dtype.in_header(), tensor.shape.clone());
            (tensor.key.clone(), TensorInfo { dtype, shape, data_offsets: (start, end) })
        });
        let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let metadata = Metadata::new(Some(format), infos.collect())?;
        let mut header = serde_json::to_vec(&metadata)?;
        header.resize(header.len().next_multiple_of(8), b' ');
        Ok(header)
    }
}

/// SplitMix64, a stream per tensor: the order of tensors changes no weight.
struct Random(u64);

impl Random {
    fn new(seed: u64, key: &str) -> Self {
        // FNV-1a.
        let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(Self(seed).next() ^ hash)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In `0.0..1.0`, with the 24 bits that an `f32` can hold.
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 24) as f32
    }

    /// Box-Muller.
    fn normal(&mut self) -> f32 {
        // The logarithm's argument is in (0, 1].
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f32::consts::TAU * self.unit()).cos()
    }

    fn fill(&mut self, init: Init, values: &mut [f32]) {
        match init {
            Init::Constant(constant) => values.fill(constant),
            Init::Uniform => {
                let width = STANDARD_DEVIATION * 12_f32.sqrt();
                values.fill_with(|| width * (self.unit() - 0.5));
            }
            Init::Normal => values.fill_with(|| self.normal()),
        }
    }
}
