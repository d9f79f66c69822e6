//! The files of a repository, made from a recorded checkpoint.

use std::collections::BTreeMap;
use std::fs;

use safetensors::Dtype;
use serde_json::{Value, json};

use crate::hub_server::FileOnHub;
use crate::torch_file::{TorchFile, Val, ordered};
use crate::{RawTensor, RawTensors, data, read_tensors, safetensors_of};

/// Files by name.
#[derive(Debug, Clone, Default)]
pub(super) struct Repository(BTreeMap<String, Vec<u8>>);

impl Repository {
    pub(super) fn put(mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.0.insert(name.to_owned(), bytes.into());
        self
    }

    pub(super) fn json(self, name: &str, value: &Value) -> Self {
        self.put(name, serde_json::to_vec_pretty(value).unwrap())
    }

    /// `config.json` of a recorded checkpoint with the publisher's own fields.
    pub(super) fn config(self, case: &str, published: Value) -> Self {
        let bytes = fs::read(data(&format!("{case}/config.json"))).unwrap();
        let mut config: Value = serde_json::from_slice(&bytes).unwrap();
        for (field, value) in published.as_object().unwrap() {
            config[field] = value.clone();
        }
        self.json("config.json", &config)
    }

    pub(super) fn copy(self, case: &str, name: &str) -> Self {
        self.put(name, fs::read(data(&format!("{case}/{name}"))).unwrap())
    }

    pub(super) fn with(self, more: Self) -> Self {
        Self(self.0.into_iter().chain(more.0).collect())
    }

    /// What a repository for transformers has beside the model, and what a training leaves.
    pub(super) fn strays(self) -> Self {
        self.put(".gitattributes", "*.safetensors filter=lfs diff=lfs merge=lfs -text\n")
            .put("README.md", "# A model\n")
            .put("modeling_lamed.py", "raise SystemExit('code of a repository never runs')\n")
            .put("configuration_lamed.py", "raise SystemExit('code of a repository never runs')\n")
            .put("training_args.bin", b"\x80\x02cos\nsystem\nX\x09\0\0\0touch ran\x85R.".to_vec())
    }

    /// One file of weights.
    pub(super) fn whole(self, tensors: &RawTensors) -> Self {
        self.put("model.safetensors", safetensors_of(tensors))
    }

    /// Shards of about equal numbers of tensors, and their index.
    pub(super) fn shards(self, tensors: &RawTensors, count: usize) -> Self {
        self.sharded(tensors, count, ["model", "safetensors"], safetensors_of)
    }

    /// `torch.save` of one state dict.
    pub(super) fn pickle(self, name: &str, tensors: &RawTensors) -> Self {
        self.put(name, pickle_of(tensors))
    }

    /// Pickles that an index joins.
    pub(super) fn pickles(self, tensors: &RawTensors, count: usize) -> Self {
        self.sharded(tensors, count, ["pytorch_model", "bin"], pickle_of)
    }

    fn sharded(
        mut self,
        tensors: &RawTensors,
        count: usize,
        [stem, ending]: [&str; 2],
        encode: fn(&RawTensors) -> Vec<u8>,
    ) -> Self {
        let mut weight_map = BTreeMap::new();
        let names: Vec<&String> = tensors.keys().collect();
        for (i, part) in names.chunks(names.len().div_ceil(count)).enumerate() {
            let name = format!("{stem}-{:05}-of-{count:05}.{ending}", i + 1);
            weight_map.extend(part.iter().map(|tensor| (tensor.to_string(), name.clone())));
            let shard =
                part.iter().map(|name| (name.to_string(), tensors[*name].clone())).collect();
            self = self.put(&name, encode(&shard));
        }
        let bytes: usize = tensors.values().map(|tensor| tensor.bytes.len()).sum();
        let index = json!({"metadata": {"total_size": bytes}, "weight_map": weight_map});
        self.json(&format!("{stem}.{ending}.index.json"), &index)
    }

    /// As the hub stores them: large and binary files by their SHA-256.
    pub(super) fn into_files(self) -> BTreeMap<String, FileOnHub> {
        let stored = |(name, bytes): (String, Vec<u8>)| {
            let is_lfs = [".safetensors", ".bin", ".pth", ".pt", ".model", ".gz"]
                .iter()
                .any(|e| name.ends_with(e));
            (name, FileOnHub { bytes, is_lfs })
        };
        self.0.into_iter().map(stored).collect()
    }
}

/// The weights of a recorded checkpoint.
pub(super) fn recorded(case: &str) -> RawTensors {
    read_tensors(&data(&format!("{case}/model.safetensors")))
}

/// The same numbers in f32, as they are published.
pub(super) fn in_f32(mut tensors: RawTensors) -> RawTensors {
    for tensor in tensors.values_mut().filter(|tensor| tensor.dtype == Dtype::BF16) {
        let numbers = tensor.bytes.as_chunks::<2>().0;
        tensor.bytes = numbers.iter().flat_map(|&[low, high]| [0, 0, low, high]).collect();
        tensor.dtype = Dtype::F32;
    }
    tensors
}

/// The tensors under a prefix, and what to call them instead.
pub(super) fn renamed(tensors: RawTensors, from: &str, to: &str) -> RawTensors {
    let name = |(name, tensor): (String, RawTensor)| {
        Some((format!("{to}{}", name.strip_prefix(from)?), tensor))
    };
    tensors.into_iter().filter_map(name).collect()
}

fn pickle_of(tensors: &RawTensors) -> Vec<u8> {
    let mut file = TorchFile::new(2);
    let mut entries = Vec::new();
    for (name, tensor) in tensors {
        let shape: Vec<i64> = tensor.shape.iter().map(|axis| *axis as i64).collect();
        let tensor = file.add(storage_of(tensor.dtype), &shape, tensor.bytes.clone());
        entries.push((name.as_str(), Val::Tensor(tensor)));
    }
    file.root = ordered(entries);
    file.zip()
}

fn storage_of(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F32 => "FloatStorage",
        Dtype::BF16 => "BFloat16Storage",
        Dtype::I64 => "LongStorage",
        other => panic!("{other:?}"),
    }
}
