//! Headers of safetensors files.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;

use ::safetensors::tensor::{Dtype, Metadata};

use crate::{MAX_TENSORS, NumberFormat, shown};

/// The longest header that is read: 100 000 tensors take half of it.
pub const MAX_HEADER_BYTES: u64 = 32 << 20;

/// What is wrong with a header.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What the header says is not so, or more than is read.
    #[error("{0}")]
    Damaged(String),
}

/// A tensor, as the header describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its key.
    pub name: String,
    /// How its numbers are stored.
    pub format: NumberFormat,
    /// Its axes, row-major.
    pub shape: Vec<usize>,
    /// Its bytes, from the start of the file. They lie within it, and overlap with no other's.
    pub range: Range<u64>,
}

/// Reads and checks the header of an open file: lengths, holes, overlaps, names and the end of the
/// file. The tensors come by position. Takes memory for the header alone.
///
/// # Errors
/// Every [`HeaderError`].
pub fn read_header(mut file: &File) -> Result<Vec<TensorInfo>, HeaderError> {
    let file_bytes = file.metadata()?.len();
    let cut = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged("the file ends in its header"),
        _ => HeaderError::Io(error),
    };
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(cut)?;
    let mut header = vec![0; header_bytes(length, file_bytes)?];
    file.read_exact(&mut header).map_err(cut)?;
    tensors(&header, file_bytes)
}

/// [`read_header`] of a file that lies in memory as a whole, such as a mapped one.
///
/// # Errors
/// [`HeaderError::Damaged`].
pub fn parse_header(file: &[u8]) -> Result<Vec<TensorInfo>, HeaderError> {
    let (length, rest) =
        file.split_first_chunk::<8>().ok_or_else(|| damaged("the file ends in its header"))?;
    let file_bytes = file.len() as u64;
    let header = rest.get(..header_bytes(*length, file_bytes)?);
    tensors(header.unwrap_or_default(), file_bytes)
}

fn damaged(what: impl Into<String>) -> HeaderError {
    HeaderError::Damaged(what.into())
}

/// The length of the header, checked before anything is allocated for it.
fn header_bytes(length: [u8; 8], file_bytes: u64) -> Result<usize, HeaderError> {
    let bytes = u64::from_le_bytes(length);
    if bytes > MAX_HEADER_BYTES {
        return Err(damaged(format!(
            "a header of {bytes} bytes; at most {MAX_HEADER_BYTES} are read"
        )));
    }
    if bytes > file_bytes.saturating_sub(8) {
        return Err(damaged(format!("a header of {bytes} bytes in a file of {file_bytes} bytes")));
    }
    // At most `MAX_HEADER_BYTES`.
    Ok(usize::try_from(bytes).unwrap_or(0))
}

fn tensors(header: &[u8], file_bytes: u64) -> Result<Vec<TensorInfo>, HeaderError> {
    // Checks that the tensors lie one after another without holes, each as long as its shape says.
    let metadata: Metadata = serde_json::from_slice(header)
        .map_err(|error| damaged(shown::text(&format!("the header is damaged: {error}"))))?;
    let start = 8 + header.len() as u64;
    let promised = start.saturating_add(metadata.data_len() as u64);
    if promised != file_bytes {
        return Err(damaged(format!(
            "the header promises {promised} bytes, the file has {file_bytes}"
        )));
    }
    let names = metadata.offset_keys();
    if names.len() > MAX_TENSORS {
        return Err(damaged(format!("more than {MAX_TENSORS} tensors")));
    }
    let mut tensors = Vec::with_capacity(names.len());
    for name in names {
        if !is_usable_name(&name) {
            let name = shown::name(&name);
            return Err(damaged(format!("tensor `{name}` has an invalid name")));
        }
        let Some(info) = metadata.info(&name) else {
            continue;
        };
        let Some(format) = from_dtype(info.dtype) else {
            let (name, dtype) = (shown::name(&name), info.dtype);
            return Err(damaged(format!("tensor `{name}` is {dtype}, which is not supported")));
        };
        let (first, last) = info.data_offsets;
        tensors.push(TensorInfo {
            format,
            shape: info.shape.clone(),
            range: start + first as u64..start + last as u64,
            name,
        });
    }
    Ok(tensors)
}

/// Whether a tensor's name can go into JSON and into messages.
pub fn is_usable_name(name: &str) -> bool {
    !name.is_empty() && name != "__metadata__" && !name.chars().any(char::is_control)
}

/// The format that a header names. `None` for one that is newer than this list.
fn from_dtype(dtype: Dtype) -> Option<NumberFormat> {
    Some(match dtype {
        Dtype::BOOL => NumberFormat::Bool,
        Dtype::F4 => NumberFormat::F4,
        Dtype::F6_E2M3 => NumberFormat::F6E2M3,
        Dtype::F6_E3M2 => NumberFormat::F6E3M2,
        Dtype::U8 => NumberFormat::U8,
        Dtype::I8 => NumberFormat::I8,
        Dtype::F8_E5M2 => NumberFormat::F8E5M2,
        Dtype::F8_E4M3 => NumberFormat::F8E4M3,
        Dtype::F8_E8M0 => NumberFormat::F8E8M0,
        Dtype::F8_E4M3FNUZ => NumberFormat::F8E4M3Fnuz,
        Dtype::F8_E5M2FNUZ => NumberFormat::F8E5M2Fnuz,
        Dtype::I16 => NumberFormat::I16,
        Dtype::U16 => NumberFormat::U16,
        Dtype::F16 => NumberFormat::F16,
        Dtype::BF16 => NumberFormat::Bf16,
        Dtype::I32 => NumberFormat::I32,
        Dtype::U32 => NumberFormat::U32,
        Dtype::F32 => NumberFormat::F32,
        Dtype::C64 => NumberFormat::C64,
        Dtype::F64 => NumberFormat::F64,
        Dtype::I64 => NumberFormat::I64,
        Dtype::U64 => NumberFormat::U64,
        _ => return None,
    })
}

/// How a header names a format. `None` for blocks, which safetensors do not hold.
pub fn to_dtype(format: NumberFormat) -> Option<Dtype> {
    Some(match format {
        NumberFormat::Bool => Dtype::BOOL,
        NumberFormat::F4 => Dtype::F4,
        NumberFormat::F6E2M3 => Dtype::F6_E2M3,
        NumberFormat::F6E3M2 => Dtype::F6_E3M2,
        NumberFormat::U8 => Dtype::U8,
        NumberFormat::I8 => Dtype::I8,
        NumberFormat::F8E5M2 => Dtype::F8_E5M2,
        NumberFormat::F8E4M3 => Dtype::F8_E4M3,
        NumberFormat::F8E8M0 => Dtype::F8_E8M0,
        NumberFormat::F8E4M3Fnuz => Dtype::F8_E4M3FNUZ,
        NumberFormat::F8E5M2Fnuz => Dtype::F8_E5M2FNUZ,
        NumberFormat::I16 => Dtype::I16,
        NumberFormat::U16 => Dtype::U16,
        NumberFormat::F16 => Dtype::F16,
        NumberFormat::Bf16 => Dtype::BF16,
        NumberFormat::I32 => Dtype::I32,
        NumberFormat::U32 => Dtype::U32,
        NumberFormat::F32 => Dtype::F32,
        NumberFormat::C64 => Dtype::C64,
        NumberFormat::F64 => Dtype::F64,
        NumberFormat::I64 => Dtype::I64,
        NumberFormat::U64 => Dtype::U64,
        _ => return None,
    })
}
