//! Writes the inputs that fuzzing starts from: `cargo run --example seeds -- FOLDER` makes
//! `FOLDER/pickle`, `FOLDER/torch` and `FOLDER/safetensors`. They are what the tests of the readers are made
//! of.

use std::path::Path;
use std::{env, fs, io};

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use torch_file::{TorchFile, Val, dict, ordered, text};

#[allow(dead_code, reason = "seeds need only a part of it")]
#[path = "../../tests/convert/torch_file.rs"]
mod torch_file;

fn main() -> io::Result<()> {
    let folder = env::args_os().nth(1).ok_or(io::Error::other("FOLDER is needed"))?;
    let files = torch_files();
    let torch = files.iter().flat_map(|file| [file.zip(), file.legacy()]).collect();
    let pickle = files.iter().map(TorchFile::pickle).collect();
    for (target, seeds) in [
        ("pickle", pickle),
        ("torch", torch),
        ("safetensors", safetensors_seeds()),
    ] {
        let folder = Path::new(&folder).join(target);
        fs::create_dir_all(&folder)?;
        for (number, bytes) in Vec::into_iter(seeds).enumerate() {
            fs::write(folder.join(format!("seed-{number}")), bytes)?;
        }
    }
    Ok(())
}

/// Every layout of weights, in every protocol.
fn torch_files() -> Vec<TorchFile> {
    let mut files = Vec::new();
    for protocol in 2..=5 {
        let mut plain = TorchFile::new(protocol);
        let a = plain.add_f32(&[2, 3], &[1.0; 6]);
        plain.root = dict(vec![("a", Val::Tensor(a))]);
        files.push(plain);

        let mut nested = TorchFile::new(protocol);
        let a = nested.add_f32(&[4, 4], &[1.0; 16]);
        let mut transposed = a.clone();
        transposed.strides.reverse();
        let mut part = a.clone();
        (part.offset, part.shape, part.strides) = (4, vec![2], vec![4]);
        let weights = ordered(vec![
            ("module.a", Val::Parameter(a)),
            ("module.b", Val::Tensor(transposed)),
            ("module.c", Val::Tensor(part)),
        ]);
        let more = Val::List(vec![Val::Int(-70_000), Val::Float(0.5), Val::None, text("x")]);
        nested.root = dict(vec![("epoch", Val::Int(3)), ("more", more), ("state_dict", weights)]);
        files.push(nested);
    }
    let mut kinds = TorchFile::new(2);
    for (kind, bytes) in [
        ("HalfStorage", 2),
        ("BFloat16Storage", 2),
        ("DoubleStorage", 8),
        ("LongStorage", 8),
        ("BoolStorage", 1),
    ] {
        let tensor = kinds.add(kind, &[3], vec![0; 3 * bytes]);
        let entry = (text(kind), Val::Tensor(tensor));
        match &mut kinds.root {
            Val::Dict(entries) => entries.push(entry),
            root => *root = Val::Dict(vec![entry]),
        }
    }
    files.push(kinds);
    files
}

/// The length of an index, the index, and a shard.
fn safetensors_seeds() -> Vec<Vec<u8>> {
    let bytes = [0; 64];
    let view = |dtype, shape: &[usize], length: usize| {
        TensorView::new(dtype, shape.to_vec(), &bytes[..length]).expect("a tensor")
    };
    let tensors = [
        ("a", view(Dtype::F32, &[2, 3], 24)),
        ("b.weight", view(Dtype::BF16, &[4], 8)),
        ("c", view(Dtype::I64, &[], 8)),
    ];
    let shard = safetensors::serialize(tensors, None).expect("a file");
    let map = |name: &str| {
        format!(r#"{{"metadata":{{}},"weight_map":{{"a":"{name}","b.weight":"{name}"}}}}"#)
    };
    let indices = [
        String::new(),
        map("a.safetensors"),
        map("../a.safetensors"),
        r#"{"weight_map":{}}"#.to_owned(),
    ];
    indices
        .iter()
        .map(|index| {
            let length = u16::try_from(index.len()).expect("a short index").to_le_bytes();
            [&length, index.as_bytes(), &shard].concat()
        })
        .collect()
}
