//! Headers of safetensors files.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use safetensors::tensor::Metadata;

use super::length;
use crate::pickle::{MAX_TENSORS, check_name, sanitize, sanitize_text};
use crate::tensor::contiguous_strides;
use crate::{Dtype, Error, TensorEntry};

/// The longest header that is read: 100 000 tensors take half of it.
const MAX_HEADER_BYTES: u64 = 32 << 20;

/// Reads and checks the header of a file: lengths, holes, overlaps and the end of the file. The
/// tensors come by position.
pub(crate) fn read_header(file: &File, path: &Path) -> Result<Vec<TensorEntry>, Error> {
    let broken = |message: String| Error::Safetensors { path: path.to_owned(), message };
    let read = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::UnexpectedEof => broken("the file ends in it".to_owned()),
        _ => Error::Read { path: path.to_owned(), source },
    };
    let file_bytes = length(file, path)?;
    let mut file = file;
    let mut prefix = [0; 8];
    file.read_exact(&mut prefix).map_err(read)?;
    let header_bytes = u64::from_le_bytes(prefix);
    if header_bytes > MAX_HEADER_BYTES {
        return Err(broken(format!("{header_bytes} bytes; at most {MAX_HEADER_BYTES} are read")));
    }
    if header_bytes > file_bytes.saturating_sub(8) {
        return Err(broken(format!("{header_bytes} bytes in a file of {file_bytes} bytes")));
    }
    let mut header = vec![0; usize::try_from(header_bytes).unwrap_or(0)];
    file.read_exact(&mut header).map_err(read)?;
    // Checks that the tensors lie one after another without holes, each as long as its shape says.
    let metadata: Metadata = serde_json::from_slice(&header)
        .map_err(|error| broken(sanitize_text(&error.to_string())))?;
    let data_start = 8 + header_bytes;
    let promised = data_start + metadata.data_len() as u64;
    if promised != file_bytes {
        return Err(broken(format!("it promises {promised} bytes, the file has {file_bytes}")));
    }

    let names = metadata.offset_keys();
    if names.len() > MAX_TENSORS {
        return Err(broken(format!("{} tensors; at most {MAX_TENSORS} are read", names.len())));
    }
    let mut tensors = Vec::with_capacity(names.len());
    for name in names {
        check_name(&name).map_err(|error| broken(error.to_string()))?;
        let Some(info) = metadata.info(&name) else {
            continue;
        };
        let Some(dtype) = Dtype::from_safetensors(info.dtype) else {
            let name = sanitize(&name);
            return Err(broken(format!("tensor `{name}` is {:?}, which is not read", info.dtype)));
        };
        let shape: Vec<u64> = info.shape.iter().map(|axis| *axis as u64).collect();
        let (start, end) = info.data_offsets;
        let storage = [data_start + start as u64, data_start + end as u64];
        let strides = contiguous_strides(&shape);
        tensors.push(TensorEntry { name, dtype, shape, strides, start: storage[0], storage });
    }
    Ok(tensors)
}
