//! Writes the inputs that fuzzing starts from: `cargo run --example seeds -- FOLDER` makes `FOLDER/gguf`
//! and `FOLDER/header`.

use std::path::Path;
use std::{env, fs, io};

use r1seg_checkpoint::NumberFormat;
use r1seg_checkpoint::gguf::{Layout, NewTensor, Value, ValueType};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

fn main() -> io::Result<()> {
    let folder = env::args_os().nth(1).ok_or(io::Error::other("FOLDER is needed"))?;
    for (target, seeds) in [("gguf", gguf_seeds()), ("header", header_seeds())] {
        let folder = Path::new(&folder).join(target);
        fs::create_dir_all(&folder)?;
        for (number, bytes) in Vec::into_iter(seeds).enumerate() {
            fs::write(folder.join(format!("seed-{number}")), bytes)?;
        }
    }
    Ok(())
}

/// Tensors of several formats and numbers of axes, and no tensors.
fn header_seeds() -> Vec<Vec<u8>> {
    let bytes = [0; 64];
    let view = |dtype, shape: &[usize], length: usize| {
        TensorView::new(dtype, shape.to_vec(), &bytes[..length]).expect("a tensor")
    };
    let tensors = vec![
        ("a", view(Dtype::F32, &[2, 3], 24)),
        ("b.weight", view(Dtype::BF16, &[4], 8)),
        ("c", view(Dtype::I64, &[], 8)),
        ("d", view(Dtype::F8_E4M3, &[3], 3)),
    ];
    let serialize = |tensors| safetensors::serialize(tensors, None).expect("a file");
    vec![serialize(tensors), serialize(Vec::new())]
}

/// Every kind of field, and tensors of several types and numbers of axes.
fn gguf_seeds() -> Vec<Vec<u8>> {
    let text = |text: &str| Value::String(text.to_owned());
    let fields = vec![
        ("general.architecture".to_owned(), text("llama")),
        ("llama.block_count".to_owned(), Value::U64(1)),
        ("llama.rope.freq_base".to_owned(), Value::F32(10_000.0)),
        ("tokenizer.ggml.add_bos_token".to_owned(), Value::Bool(true)),
        (
            "tokenizer.ggml.tokens".to_owned(),
            Value::Array { of: ValueType::String, len: 1, bytes: b"\x01\0\0\0\0\0\0\0a".to_vec() },
        ),
    ];
    let tensors = vec![
        NewTensor::new("blk.0.attn_q.weight", NumberFormat::Q8_0, vec![2, 64]),
        NewTensor::new("output.weight", NumberFormat::Q4K, vec![2, 256]),
        NewTensor::new("output_norm.weight", NumberFormat::F32, vec![8]),
    ];
    [(&[][..], &[][..]), (&fields[..1], &tensors[..1]), (&fields[..], &tensors[..])]
        .into_iter()
        .map(|(fields, tensors)| {
            let layout = Layout::new(fields, tensors).expect("a header");
            let mut file = layout.header().to_vec();
            for number in 0..tensors.len() {
                let bytes = layout.bytes(number) as usize + layout.padding(number);
                file.resize(file.len() + bytes, 0);
            }
            file
        })
        .collect()
}
