//! What a fuzz target does with its bytes: it reads them as the header of a file of weights, and holds
//! what is said of the tensors against the file.
//!
//! A target fails on a panic, a hang, too much memory, and on any of the promises asserted here.

use std::io::{Seek, SeekFrom, Write};

use libfuzzer_sys::Corpus;
use r1seg_checkpoint::gguf::Gguf;
use r1seg_checkpoint::keys::llama_cpp::Architecture;
use r1seg_checkpoint::safetensors::{parse_header, read_header};

/// Reads the bytes as a file of safetensors, from memory and from a disk.
pub fn read_safetensors(bytes: &[u8]) -> Corpus {
    let parsed = parse_header(bytes);
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(bytes).expect("written");
    file.seek(SeekFrom::Start(0)).expect("at the start");
    match (parsed, read_header(&file)) {
        (Ok(tensors), Ok(read)) => {
            assert_eq!(tensors, read);
            let mut end = 8;
            for tensor in &tensors {
                let range = &tensor.range;
                assert!(end <= range.start && range.start <= range.end, "{tensor:?}");
                let numbers: u64 = tensor.shape.iter().map(|axis| *axis as u64).product();
                assert_eq!(tensor.format.bytes(numbers), Some(range.end - range.start));
                check_text(&tensor.name);
                end = range.end;
            }
            // Without tensors the header is all of it.
            assert!(tensors.is_empty() || end == bytes.len() as u64);
        }
        (Err(parsed), Err(read)) => {
            assert_eq!(parsed.to_string(), read.to_string());
            check_text(&parsed.to_string());
        }
        (parsed, read) => panic!("{parsed:?} in memory, {read:?} on a disk"),
    }
    Corpus::Keep
}

/// Reads the bytes as a GGUF file.
pub fn read_gguf(bytes: &[u8]) -> Corpus {
    match Gguf::parse(bytes) {
        Ok(gguf) => {
            let mut end = gguf.data_start;
            let mut tensors: Vec<_> = gguf.tensors.iter().collect();
            tensors.sort_by_key(|(_, tensor)| tensor.range.start);
            for (name, tensor) in tensors {
                let range = &tensor.range;
                assert!(end <= range.start && range.end <= bytes.len() as u64, "{tensor:?}");
                assert_eq!(
                    tensor.numbers() / tensor.columns() * tensor.row_bytes(),
                    range.end - range.start,
                    "{tensor:?}"
                );
                end = range.end;
                if let Some(published) = Architecture::Llama.to_published(name) {
                    let mapped = Architecture::Llama.to_gguf(&published);
                    assert_eq!(mapped.expect("a name of ours").name, *name);
                }
            }
        }
        Err(error) => {
            assert!(!error.code().is_empty());
            check_text(&error.to_string());
        }
    }
    Corpus::Keep
}

/// What is printed cannot drive a terminal.
fn check_text(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
}
