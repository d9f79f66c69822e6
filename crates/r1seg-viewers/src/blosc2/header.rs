use super::{HEADER, VERSION, codec, flags, special};
use crate::ChunkFault;

/// Options in the last byte that change how blocks are read: a dictionary, big-endian elements, blocks
/// that lie elsewhere, and measurements instead of data.
const REFUSED_OPTIONS: u8 = 0b1000_1011;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    BloscLz,
    Lz4,
    Zstd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Zero,
    /// Not a number, in elements of 4 or 8 bytes.
    Nan,
    /// One element, which follows the header.
    Repeated,
    /// The bytes follow the header.
    Stored,
    Blocks(Codec),
}

/// The header of a chunk, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) content: Content,
    pub(super) element_size: usize,
    /// Of what the chunk holds.
    pub(super) bytes: usize,
    pub(super) block_bytes: usize,
    pub(super) is_split: bool,
    pub(super) is_shuffled: bool,
}

impl Header {
    /// Reads the header of a chunk that fills `chunk`.
    pub(super) fn read(chunk: &[u8]) -> Result<Self, ChunkFault> {
        let Some((head, _)) = chunk.split_first_chunk::<HEADER>() else {
            return Err(ChunkFault::Header);
        };
        let [version, _, flags, element_size, ..] = *head;
        if version != VERSION {
            return Err(ChunkFault::Version(version));
        }
        if flags & flags::EXTENDED != flags::EXTENDED {
            return Err(ChunkFault::OldHeader);
        }
        let size = |at: usize| {
            let bytes = [head[at], head[at + 1], head[at + 2], head[at + 3]];
            usize::try_from(i32::from_le_bytes(bytes)).map_err(|_| ChunkFault::Sizes)
        };
        let (bytes, block_bytes, whole) = (size(4)?, size(8)?, size(12)?);
        if whole != chunk.len() || element_size == 0 {
            return Err(ChunkFault::Sizes);
        }
        let last = head[HEADER - 1];
        if last & REFUSED_OPTIONS != 0 {
            return Err(ChunkFault::Option);
        }
        let is_stored = flags & flags::STORED != 0;
        let content = match (last >> special::SHIFT) & 7 {
            special::ZERO => Content::Zero,
            2 => Content::Nan,
            3 => Content::Repeated,
            0 if is_stored => Content::Stored,
            0 => Content::Blocks(match flags >> flags::CODEC_SHIFT {
                codec::BLOSCLZ => Codec::BloscLz,
                codec::LZ4 => Codec::Lz4,
                codec::ZSTD => Codec::Zstd,
                _ => return Err(ChunkFault::Codec),
            }),
            4 => return Err(ChunkFault::Uninitialized),
            _ => return Err(ChunkFault::Option),
        };
        let has_blocks = matches!(content, Content::Blocks(_));
        if has_blocks && !(1..=bytes).contains(&block_bytes) {
            return Err(ChunkFault::Sizes);
        }
        // Filters stand at any of six places; one that stands twice is undone twice, and nobody does that.
        let filters: Vec<u8> = head[16..22].iter().copied().filter(|f| *f != 0).collect();
        let is_shuffled = match filters.as_slice() {
            [] => false,
            [1] => true,
            // Nothing of the others is done to bytes that are stored or all alike.
            _ if has_blocks => return Err(ChunkFault::Filter),
            _ => false,
        };
        Ok(Self {
            content,
            element_size: element_size.into(),
            bytes,
            block_bytes,
            is_split: flags & flags::NOT_SPLIT == 0,
            is_shuffled,
        })
    }
}
