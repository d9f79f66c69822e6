use std::io;

/// Why an array cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum Error {
    #[error("the array does not begin with `{expected}`")]
    Magic { expected: &'static str },
    #[error("the array has version {version} of its framing; 1 is read")]
    Version { version: u8 },
    #[error("the array has codec {codec}; 1 (zstd) and 2 (lz4) are known")]
    Codec { codec: u8 },
    #[error("the elements of the array are of a type that is not read; {known} are")]
    Element { known: &'static str },
    #[error("the array has {axes} axes; 1 to {most} are read")]
    Axes { axes: usize, most: usize },
    #[error("an axis of the array has no elements, or too many to count")]
    Size,
    /// What the array declares to hold is more than the caller allows.
    #[error("the array declares {declared} bytes; at most {limit} are read")]
    TooLarge { declared: u64, limit: u64 },
    #[error("the array declares {declared} bytes, and its shape has {expected}")]
    Total { declared: u64, expected: u64 },
    #[error("the array ends within {part}")]
    Truncated { part: &'static str },
    #[error("bytes follow the end of the array")]
    Trailing,
    #[error("chunk {number} of the array: {fault}")]
    Chunk { number: u64, fault: ChunkFault },
    #[error("{got} bytes for an array of {expected}")]
    Length { got: usize, expected: usize },
    #[error("an element of the array is not a whole number from 0 to 65535")]
    NoLabel,
    #[error("there is no memory for an array of {bytes} bytes")]
    Memory { bytes: u64 },
    #[error("the array cannot be read or written: {0}")]
    Io(#[from] io::Error),
}

/// Why a blosc2 chunk cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages say what they mean")]
pub enum ChunkFault {
    #[error("it is shorter than its header")]
    Header,
    #[error("it is of version {0} of blosc2's format; 5 is read")]
    Version(u8),
    #[error("it does not have blosc2's extended header")]
    OldHeader,
    #[error("its sizes contradict each other")]
    Sizes,
    #[error("it holds another number of bytes than declared")]
    Declared,
    #[error("it is compressed by a codec that is not read; zstd, lz4 and blosclz are")]
    Codec,
    #[error("it has a filter that is not read; byte shuffle is")]
    Filter,
    #[error(
        "it uses a dictionary, a big-endian machine's order or another option that is not read"
    )]
    Option,
    #[error("it holds no values")]
    Uninitialized,
    #[error("a block lies outside of it")]
    Block,
    #[error("the compressed bytes of a block are broken")]
    Compressed,
}
