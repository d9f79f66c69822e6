//! One blosc2 chunk: a header of 32 bytes, and blocks that are compressed each by itself.

mod blosclz;
mod decode;
mod encode;
mod header;

pub(crate) use decode::decode;
pub(crate) use encode::encode;

/// Bytes of the header.
pub(crate) const HEADER: usize = 32;

/// The version of the format, in the first byte.
const VERSION: u8 = 5;

/// Bits of the third byte.
mod flags {
    /// Both of these: the header is the extended one.
    pub(super) const EXTENDED: u8 = 0b101;
    pub(super) const STORED: u8 = 1 << 1;
    pub(super) const NOT_SPLIT: u8 = 1 << 4;
    pub(super) const CODEC_SHIFT: u32 = 5;
}

/// Codecs, as the flags number them.
mod codec {
    pub(super) const BLOSCLZ: u8 = 0;
    pub(super) const LZ4: u8 = 1;
    pub(super) const ZSTD: u8 = 4;
}

/// What a chunk says instead of having blocks, in the last byte of its header.
mod special {
    pub(super) const SHIFT: u32 = 4;
    pub(super) const ZERO: u8 = 1;
}
