//! Zip archives: `NAME/data.pkl`, `NAME/data/KEY`, `NAME/byteorder`.

use std::io::{BufReader, Read, Seek};

use zip::{CompressionMethod, ZipArchive};

use super::{TorchIndex, locate};
use crate::pickle::{MAX_PICKLE_BYTES, MAX_TENSORS, PickleError, read_weights, sanitize};

fn refuse<T>(what: impl Into<String>) -> Result<T, PickleError> {
    Err(PickleError::Container { what: what.into() })
}

fn broken(error: zip::result::ZipError) -> PickleError {
    match error {
        zip::result::ZipError::Io(source) => super::io(source),
        // The messages of the zip crate may quote names from the archive.
        _ => PickleError::Container { what: "the zip archive is damaged or cut off".to_owned() },
    }
}

pub(super) fn read<R: Read + Seek>(
    file: &mut R,
    file_bytes: u64,
) -> Result<TorchIndex, PickleError> {
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(broken)?;
    if archive.len() > 2 * MAX_TENSORS {
        return refuse(format!("the zip archive has {} members", archive.len()));
    }
    if archive.has_duplicate_names() {
        return refuse("the zip archive has two members of one name");
    }
    if archive.has_overlapping_entries().map_err(broken)? {
        return refuse("members of the zip archive overlap");
    }
    let root = root(&archive)?;
    if archive.index_for_name(&format!("{root}/constants.pkl")).is_some() {
        return refuse("the file is a TorchScript program, not a dict of weights");
    }
    if let Some(order) = member(&mut archive, &format!("{root}/byteorder"), 16)?
        && order != b"little"
    {
        return refuse("the numbers are not little-endian");
    }
    let name = format!("{root}/data.pkl");
    let Some(pickle) = member(&mut archive, &name, MAX_PICKLE_BYTES)? else {
        return refuse("the zip archive has no data.pkl");
    };
    let (description, _) = read_weights(&pickle, 0)?;
    drop(pickle);
    locate(description, |tensor| {
        let missing = |what: &str| PickleError::Tensor {
            name: sanitize(&tensor.name),
            what: what.to_owned(),
        };
        let index = archive
            .index_for_name(&format!("{root}/data/{}", tensor.storage))
            .ok_or_else(|| missing("has no storage in the archive"))?;
        let member = archive.by_index_raw(index).map_err(broken)?;
        if member.compression() != CompressionMethod::Stored || member.encrypted() {
            return Err(missing("is compressed or encrypted, which torch.save does not do"));
        }
        let start = member.data_start().ok_or_else(|| missing("has no storage in the archive"))?;
        let end = start.checked_add(member.size()).filter(|end| *end <= file_bytes);
        Ok([start, end.ok_or_else(|| missing("lies beyond the end of the file"))?])
    })
}

/// The folder inside the archive that holds `data.pkl`.
fn root<R: Read + Seek>(archive: &ZipArchive<BufReader<&mut R>>) -> Result<String, PickleError> {
    let mut found = None;
    for name in archive.file_names() {
        let name = name.map_err(broken)?;
        let Some(root) = name.strip_suffix("/data.pkl") else {
            continue;
        };
        if root.contains('/') {
            continue;
        }
        if found.replace(root.to_owned()).is_some() {
            return refuse("the zip archive has two pickles");
        }
    }
    match found {
        Some(root) => Ok(root),
        None => refuse("the zip archive has no data.pkl, so that it is not from torch.save"),
    }
}

/// A small member, inflated no further than `limit`.
fn member<R: Read + Seek>(
    archive: &mut ZipArchive<BufReader<&mut R>>,
    name: &str,
    limit: u64,
) -> Result<Option<Vec<u8>>, PickleError> {
    let Some(index) = archive.index_for_name(name) else {
        return Ok(None);
    };
    let member = archive.by_index(index).map_err(broken)?;
    let mut bytes = Vec::new();
    member.take(limit + 1).read_to_end(&mut bytes).map_err(super::io)?;
    if bytes.len() as u64 > limit {
        return Err(PickleError::Limit { what: "bytes in a member of the archive".into(), limit });
    }
    Ok(Some(bytes))
}
