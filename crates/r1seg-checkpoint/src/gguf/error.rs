use std::io;

use r1seg_diagnostic::{Diagnostic, ErrorKind, Remedy};

use crate::NumberFormat;

/// What is wrong with a GGUF file. All but [`Error::Io`] mean that the file cannot be used.
///
/// Names of tensors and fields in a message are shortened to printable characters.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum Error {
    #[error("not a GGUF file: it begins with {found:02x?}, not with \"GGUF\"")]
    Magic { found: [u8; 4] },
    #[error("GGUF version {version} is not supported; expected 2 or 3")]
    Version { version: u32 },
    #[error("the GGUF file is big-endian; only little-endian files are supported")]
    BigEndian,
    #[error("the GGUF header ends early: {needed} bytes are needed at {at}, {left} are left")]
    EndsEarly { at: u64, needed: u64, left: u64 },
    #[error("the GGUF header is longer than {most} bytes")]
    HeaderTooLong { most: u64 },
    #[error("the GGUF header has {count} {what}; at most {most} are read")]
    TooMany { what: &'static str, count: u64, most: u64 },
    #[error("the GGUF header is damaged at {at}: {what}")]
    Damaged { at: u64, what: String },
    #[error("field `{name}` is in the GGUF header twice")]
    DuplicateField { name: String },
    #[error("tensor `{name}` is in the GGUF header twice")]
    DuplicateTensor { name: String },
    #[error("general.alignment is {value}; a power of two from 8 to 65536 is needed")]
    Alignment { value: String },
    #[error("tensor `{name}` has the unknown ggml type {number}")]
    TensorType { name: String, number: u32 },
    #[error("tensor `{name}` has the shape {shape:?}: {what}")]
    Shape { name: String, shape: Vec<u64>, what: &'static str },
    #[error("tensor `{name}` is in {format}, which GGUF cannot hold")]
    Format { name: String, format: NumberFormat },
    #[error("tensor `{name}` lies at offset {offset}, which is not a multiple of {alignment}")]
    Misaligned { name: String, offset: u64, alignment: u64 },
    #[error("tensor `{name}` lies beyond the end of the file, at {end} of {file_bytes}")]
    BeyondEnd { name: String, end: u64, file_bytes: u64 },
    #[error("tensors `{first}` and `{second}` overlap")]
    Overlap { first: String, second: String },
    #[error("the file cannot be read")]
    Io(#[from] io::Error),
}

r1seg_diagnostic::diagnostic_methods!(Error);

impl Diagnostic for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::Magic { .. } => "R-GGUF-01",
            Self::Version { .. } => "R-GGUF-02",
            Self::BigEndian => "R-GGUF-03",
            Self::EndsEarly { .. } => "R-GGUF-04",
            Self::HeaderTooLong { .. } => "R-GGUF-05",
            Self::TooMany { .. } => "R-GGUF-06",
            Self::Damaged { .. } => "R-GGUF-07",
            Self::DuplicateField { .. } => "R-GGUF-08",
            Self::DuplicateTensor { .. } => "R-GGUF-09",
            Self::Alignment { .. } => "R-GGUF-10",
            Self::TensorType { .. } => "R-GGUF-11",
            Self::Shape { .. } => "R-GGUF-12",
            Self::Misaligned { .. } => "R-GGUF-13",
            Self::BeyondEnd { .. } => "R-GGUF-14",
            Self::Overlap { .. } => "R-GGUF-15",
            Self::Io(_) => "R-GGUF-16",
            Self::Format { .. } => "R-GGUF-17",
        }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::Io(_) => ErrorKind::Io,
            _ => ErrorKind::Model,
        }
    }

    fn remedy(&self) -> Option<Remedy> {
        let advice = match self {
            Self::EndsEarly { .. } | Self::BeyondEnd { .. } => {
                "repeat the download; the file is cut off"
            }
            Self::Version { .. } | Self::BigEndian | Self::TensorType { .. } => {
                "make the GGUF file again with a current llama.cpp, as q8_0, q6_k or q4_k"
            }
            _ => return None,
        };
        Some(advice.into())
    }
}
