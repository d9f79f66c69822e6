//! Files of `torch.save`: the zip archives of today and the bare pickles from before version 1.6.
//!
//! [`read_index`] finds out which tensors a file holds and where; it reads none of them.

mod legacy;
mod zip;

use std::io::{Read, Seek, SeekFrom};

use serde::{Deserialize, Serialize};

use crate::TensorEntry;
use crate::pickle::{Described, Description, PickleError, sanitize};

/// The tensors of a file of `torch.save`, and where they lie in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TorchIndex {
    /// In the order of the file's dict.
    pub tensors: Vec<TensorEntry>,
    /// The dicts around the weights that were taken off (`model`, `state_dict`), outermost first.
    pub wrappers: Vec<String>,
    /// Values beside the weights: epochs, optimizer states.
    pub ignored: u64,
}

impl TorchIndex {
    /// Checks every tensor against the file. Also what another process says is checked.
    pub(crate) fn check(&self, file_bytes: u64) -> Result<(), PickleError> {
        // A tensor may repeat its storage without end (strides of 0), and storages may be shared:
        // a file may not become a disk full of copies.
        let most = file_bytes.saturating_mul(4).saturating_add(1 << 20);
        let mut total = 0u64;
        for tensor in &self.tensors {
            tensor.check(file_bytes)?;
            total = total.saturating_add(tensor.bytes().unwrap_or(u64::MAX));
            if total > most {
                let what = format!("the tensors of {file_bytes} bytes take more than {most} bytes");
                return Err(PickleError::Container { what });
            }
        }
        Ok(())
    }
}

/// Finds out which tensors a file of `torch.save` holds. Nothing in the file runs.
///
/// # Errors
/// [`PickleError`] for everything that is not a plain checkpoint.
pub fn read_index<R: Read + Seek>(file: &mut R) -> Result<TorchIndex, PickleError> {
    let file_bytes = file.seek(SeekFrom::End(0)).map_err(io)?;
    let mut magic = [0; 4];
    file.seek(SeekFrom::Start(0)).map_err(io)?;
    let got = read_up_to(file, &mut magic)?;
    let index = match magic {
        [b'P', b'K', 3, 4] => zip::read(file, file_bytes)?,
        [0x80, ..] => legacy::read(file, file_bytes)?,
        _ => {
            let what =
                format!("the file begins with {:02x?}, as no checkpoint does", &magic[..got]);
            return Err(PickleError::Container { what });
        }
    };
    index.check(file_bytes)?;
    Ok(index)
}

fn io(source: std::io::Error) -> PickleError {
    use std::io::ErrorKind;
    match source.kind() {
        // Of the bytes, not of the disk: checksums and deflated data that do not hold.
        ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof => {
            PickleError::Container { what: "the file is damaged or cut off".to_owned() }
        }
        _ => PickleError::Io { what: source.to_string() },
    }
}

fn read_up_to<R: Read>(file: &mut R, buffer: &mut [u8]) -> Result<usize, PickleError> {
    let mut got = 0;
    while let Some(rest) = buffer.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match file.read(rest).map_err(io)? {
            0 => break,
            read => got += read,
        }
    }
    Ok(got)
}

/// Turns descriptions into places. `place` gives the bytes `[start, end)` of a storage.
fn locate(
    description: Description,
    mut place: impl FnMut(&Described) -> Result<[u64; 2], PickleError>,
) -> Result<TorchIndex, PickleError> {
    let mut tensors = Vec::with_capacity(description.tensors.len());
    for tensor in description.tensors {
        let refuse = |what: &str| PickleError::Tensor {
            name: sanitize(&tensor.name),
            what: what.to_owned(),
        };
        let [start, end] = place(&tensor)?;
        if tensor.storage_bytes.is_none_or(|bytes| bytes > end.saturating_sub(start)) {
            return Err(refuse("has a storage that is shorter than the pickle says"));
        }
        let first = tensor
            .offset
            .and_then(|offset| offset.checked_mul(tensor.dtype.size() as u64))
            .and_then(|offset| start.checked_add(offset))
            .ok_or_else(|| refuse("begins beyond the end of the file"))?;
        tensors.push(TensorEntry {
            name: tensor.name,
            dtype: tensor.dtype,
            shape: tensor.shape,
            strides: tensor.strides,
            start: first,
            storage: [start, end],
        });
    }
    Ok(TorchIndex { tensors, wrappers: description.wrappers, ignored: description.ignored })
}
