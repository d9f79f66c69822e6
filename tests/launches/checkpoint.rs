//! A recorded checkpoint, and the same with more layers.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use candle_core::{Device, Tensor, safetensors};
use tempfile::TempDir;

const LAYERS: usize = 2;

/// A checkpoint of two layers and two blocks, and a volume.
pub(crate) fn recorded() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/phi3")
}

/// The recorded checkpoint with two more layers and blocks. Their last products have weights and biases
/// of zero, so that they add nothing to what flows past them.
pub(crate) fn with_two_more_layers() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(recorded()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    let config = folder.path().join("config.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    for key in ["num_hidden_layers", "num_layers"] {
        assert_eq!(json[key], LAYERS, "{key}");
        json[key] = (2 * LAYERS).into();
    }
    fs::write(&config, serde_json::to_vec(&json).unwrap()).unwrap();

    let weights = folder.path().join("model.safetensors");
    let mut tensors = safetensors::load(&weights, &Device::Cpu).unwrap();
    let added: HashMap<String, Tensor> =
        tensors.iter().filter_map(|(key, tensor)| added(key, tensor)).collect();
    assert!(!added.is_empty());
    tensors.extend(added);
    safetensors::save(&tensors, &weights).unwrap();
    folder
}

/// The tensor of a layer two further on, where this is a layer's.
fn added(key: &str, tensor: &Tensor) -> Option<(String, Tensor)> {
    let prefix = ["model.layers.", "model.vision_module.image_encoder.blocks."]
        .into_iter()
        .find(|prefix| key.starts_with(prefix))?;
    let (number, rest) = key[prefix.len()..].split_once('.')?;
    let number = LAYERS + number.parse::<usize>().ok()?;
    let ends = ["o_proj", "down_proj", "out_proj", "linear2"];
    let is_last = ends.iter().any(|name| rest.contains(&format!("{name}.")));
    let tensor = if is_last { tensor.zeros_like().unwrap() } else { tensor.clone() };
    Some((format!("{prefix}{number}.{rest}"), tensor))
}
