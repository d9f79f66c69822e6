//! What a fuzz target does with its bytes: it lists the tensors of a checkpoint, and holds what is
//! said of them against the file.
//!
//! A target fails on a panic, a hang, too much memory, and on any of the promises asserted here.

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use libfuzzer_sys::Corpus;
use r1seg_convert::{Contents, PickleError, TensorEntry, TorchIndex, contents, read_index};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// The storage that a fuzzed pickle may name `0`.
const STORAGE: [u8; 64] = [0; 64];

/// Reads the bytes as a file of `torch.save`, in either layout.
pub fn read_torch(bytes: &[u8]) -> Corpus {
    check_index(&read_index(&mut Cursor::new(bytes)), bytes.len() as u64);
    Corpus::Keep
}

/// Reads the bytes as the pickle in an archive of `torch.save`, past its checksum.
pub fn read_pickle(bytes: &[u8]) -> Corpus {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, bytes) in [("a/data.pkl", bytes), ("a/data/0", &STORAGE)] {
        writer.start_file(name, options).expect("a short name");
        writer.write_all(bytes).expect("memory takes everything");
    }
    let file = writer.finish().expect("memory takes everything").into_inner();
    check_index(&read_index(&mut Cursor::new(&file)), file.len() as u64);
    Corpus::Keep
}

/// Reads the bytes as a folder: two bytes of length, an index of so many bytes, and a shard that
/// the index may call `a`. Without an index the shard is the whole checkpoint.
pub fn read_safetensors(bytes: &[u8]) -> Corpus {
    let Some((length, rest)) = bytes.split_first_chunk::<2>() else {
        return Corpus::Reject;
    };
    let length = usize::from(u16::from_le_bytes(*length));
    let Some((index, shard)) = rest.split_at_checked(length) else {
        return Corpus::Reject;
    };
    thread_local! {
        static FOLDER: tempfile::TempDir = tempfile::tempdir().expect("a temporary folder");
    }
    FOLDER.with(|folder| {
        let folder = folder.path();
        let write = |name: &str, bytes| fs::write(folder.join(name), bytes).expect("written");
        let names = ["model.safetensors", "model.safetensors.index.json", "a.safetensors"];
        for name in names {
            let _ = fs::remove_file(folder.join(name));
        }
        if index.is_empty() {
            write(names[0], shard);
        } else {
            write(names[1], index);
            write(names[2], shard);
        }
        check_contents(folder, shard.len() as u64);
    });
    Corpus::Keep
}

fn check_contents(folder: &Path, shard_bytes: u64) {
    match contents(folder, None) {
        Ok(Contents { files, tensors, has_pickles }) => {
            assert!(!tensors.is_empty() && !has_pickles);
            assert!(files.iter().all(|file| file.parent() == Some(folder)), "{files:?}");
            tensors.iter().for_each(|tensor| check_tensor(tensor, shard_bytes));
        }
        Err(error) => {
            assert!(error.path().is_some() && !error.code().is_empty());
            check_text(&error.to_string());
        }
    }
}

fn check_index(index: &Result<TorchIndex, PickleError>, file_bytes: u64) {
    match index {
        Ok(index) => index.tensors.iter().for_each(|tensor| check_tensor(tensor, file_bytes)),
        Err(error) => check_text(&error.to_string()),
    }
}

/// Every number lies in the file.
fn check_tensor(tensor: &TensorEntry, file_bytes: u64) {
    let [start, end] = tensor.storage;
    assert!(start <= end && end <= file_bytes, "{tensor:?} of {file_bytes}");
    assert!(tensor.bytes().is_some() && tensor.shape.len() == tensor.strides.len(), "{tensor:?}");
    let steps = tensor.shape.iter().zip(&tensor.strides).map(|(n, step)| (n - 1) * step);
    if !tensor.shape.contains(&0) {
        let last = tensor.start + steps.sum::<u64>() * tensor.dtype.size() as u64;
        assert!(start <= tensor.start && last < end, "{tensor:?}");
    }
    check_text(&tensor.name);
}

/// What is printed cannot drive a terminal.
fn check_text(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
}
