//! Bare pickles: a magic number, the version, the machine, the weights, the keys of the storages,
//! each in a pickle of its own; then the storages, each after its length.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};

use super::{TorchIndex, io, locate};
use crate::pickle::{
    MAX_PICKLE_BYTES, MAX_TENSORS, PickleError, read_flag, read_integer, read_texts, read_weights,
    sanitize,
};

/// `0x1950a86a20f9469cfc6c`.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const VERSION: i64 = 1001;

fn refuse<T>(what: impl Into<String>) -> Result<T, PickleError> {
    Err(PickleError::Container { what: what.into() })
}

pub(super) fn read<R: Read + Seek>(
    file: &mut R,
    file_bytes: u64,
) -> Result<TorchIndex, PickleError> {
    // The pickles come first; their length is known only once they are read.
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).map_err(io)?;
    let head = file_bytes.min(MAX_PICKLE_BYTES);
    (&mut *file).take(head).read_to_end(&mut bytes).map_err(io)?;
    let cut = |error| match error {
        PickleError::Truncated { .. } if file_bytes > head => {
            PickleError::Limit { what: "bytes of pickles".to_owned(), limit: MAX_PICKLE_BYTES }
        }
        other => other,
    };

    let (magic, position) = read_integer(&bytes, 0).map_err(cut)?;
    if magic != MAGIC {
        return refuse("the file is a pickle, but not one of torch.save");
    }
    let (version, position) = read_integer(&bytes, position).map_err(cut)?;
    if version != VERSION.to_le_bytes() {
        return refuse("the version of the file is not 1001");
    }
    let (little, position) = read_flag(&bytes, position, "little_endian").map_err(cut)?;
    if little != Some(true) {
        return refuse("the numbers are not little-endian");
    }
    let (description, position) = read_weights(&bytes, position).map_err(cut)?;
    let (keys, position) = read_texts(&bytes, position).map_err(cut)?;
    drop(bytes);
    if keys.len() > 2 * MAX_TENSORS {
        return refuse(format!("the file has {} storages", keys.len()));
    }

    let mut units = HashMap::new();
    for (key, unit) in &description.storages {
        if units.insert(key.clone(), *unit).is_some_and(|other| other != *unit) {
            return refuse("a storage has two types");
        }
    }
    let places = places(file, file_bytes, position as u64, keys, &units)?;
    locate(description, |tensor| {
        places.get(&tensor.storage).copied().ok_or_else(|| PickleError::Tensor {
            name: sanitize(&tensor.name),
            what: "has no storage in the file".to_owned(),
        })
    })
}

/// Walks over the storages, from length to length.
fn places<R: Read + Seek>(
    file: &mut R,
    file_bytes: u64,
    start: u64,
    keys: Vec<String>,
    units: &HashMap<String, usize>,
) -> Result<HashMap<String, [u64; 2]>, PickleError> {
    let mut places = HashMap::new();
    let mut position = start;
    for key in keys {
        let mut length = [0; 8];
        file.seek(SeekFrom::Start(position)).map_err(io)?;
        if super::read_up_to(file, &mut length)? != length.len() {
            return refuse("the file ends before its storages");
        }
        let Some(unit) = units.get(&key) else {
            return refuse("a storage in the file has no type in the pickle");
        };
        let end = u64::try_from(i64::from_le_bytes(length))
            .ok()
            .and_then(|numbers| numbers.checked_mul(*unit as u64))
            .and_then(|bytes| position.checked_add(8)?.checked_add(bytes))
            .filter(|end| *end <= file_bytes);
        let Some(end) = end else {
            return refuse("a storage reaches beyond the end of the file");
        };
        if places.insert(key, [position + 8, end]).is_some() {
            return refuse("the file has two storages of one key");
        }
        position = end;
    }
    Ok(places)
}
