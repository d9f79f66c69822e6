//! Checkpoints in every layout go in, a folder that r1seg loads comes out; hostile ones do not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod containers;
mod hostile;
mod import;
mod language_model;
mod layouts;
mod lora;
mod mutation;
mod output;
mod quantize;
mod shards;
mod torch_file;
mod training;
mod verify;
mod vista3d;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use r1seg_checkpoint::keys::llama_cpp::Architecture;
use r1seg_convert::{ConvertOptions, Error, PickleError, Report, TorchIndex, convert, read_index};
use safetensors::SafeTensors;
use tempfile::TempDir;

/// Name, dtype, shape and bytes of every tensor of a folder.
type Tensors = BTreeMap<String, (safetensors::Dtype, Vec<usize>, Vec<u8>)>;

fn tensors_of(folder: &Path) -> Tensors {
    let mut tensors = Tensors::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "safetensors") {
            continue;
        }
        let bytes = std::fs::read(path).unwrap();
        for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
            let tensor = (view.dtype(), view.shape().to_vec(), view.data().to_vec());
            assert!(tensors.insert(name, tensor).is_none());
        }
    }
    tensors
}

/// As the registry of models has it, for those of these tests.
fn architecture(model_type: &str) -> Option<Architecture> {
    match model_type {
        "lamed_phi3_cross" => Some(Architecture::Phi3),
        "lamed_llama" | "llava_mistral" => Some(Architecture::Llama),
        "lamed_Qwen2" => Some(Architecture::Qwen2),
        _ => None,
    }
}

/// Converts into a folder, with the models of these tests known.
fn convert_to(options: &ConvertOptions, out: &Path) -> Result<Report, Error> {
    let options = ConvertOptions { architecture, ..options.clone() };
    convert(&options, out, &mut go_on)
}

fn go_on(_: r1seg_convert::Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// A folder for one test: a source in it, and the place of the output.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn out(&self) -> PathBuf {
        self.path("out")
    }

    fn convert(&self, options: &ConvertOptions) -> Result<Report, Error> {
        convert_to(options, &self.out())
    }

    /// Converts one file with the defaults.
    fn convert_bytes(&self, name: &str, bytes: &[u8]) -> Result<Report, Error> {
        let source = self.write(name, bytes);
        self.convert(&ConvertOptions::new(source))
    }
}

fn index_of(bytes: &[u8]) -> Result<TorchIndex, PickleError> {
    read_index(&mut std::io::Cursor::new(bytes))
}

fn f32_bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// A safetensors file.
fn safetensors(tensors: &[(&str, safetensors::Dtype, &[usize], Vec<u8>)]) -> Vec<u8> {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        let view = safetensors::tensor::TensorView::new(*dtype, shape.to_vec(), bytes).unwrap();
        (*name, view)
    });
    safetensors::serialize(views, None).unwrap()
}
