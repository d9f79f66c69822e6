use rayon::prelude::*;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::{HEADER, VERSION, codec, flags, special};

/// Bytes per block: readers that use threads get some to share, and none is held twice for long.
const BLOCK: usize = 1 << 20;
/// The version of the format of zstd's blocks.
const CODEC_VERSION: u8 = 1;
/// zstd, as the field of the codec numbers it.
const CODEC_ID: u8 = 5;

/// A chunk of `bytes`, at most 1 GiB of elements of `element_size`: blocks of zstd, not split and
/// without a filter; zero bytes are a header alone, and bytes that do not shrink are stored.
pub(crate) fn encode(bytes: &[u8], element_size: usize) -> Vec<u8> {
    let is_zero = |bytes: &[u8]| bytes.iter().all(|v| *v == 0);
    let mut chunk = vec![0; HEADER];
    let mut kind = flags::EXTENDED | flags::NOT_SPLIT | codec::ZSTD << flags::CODEC_SHIFT;
    if is_zero(bytes) {
        chunk[HEADER - 1] = special::ZERO << special::SHIFT;
    } else {
        // Where blocks begin is known once they are there.
        let count = bytes.len().div_ceil(BLOCK);
        chunk.resize(HEADER + 4 * count, 0);
        // Nothing for zeros.
        let compress = |block: &[u8]| match is_zero(block) {
            true => Vec::new(),
            false => compress_to_vec(block, CompressionLevel::Fastest),
        };
        let frames: Vec<Vec<u8>> = bytes.par_chunks(BLOCK).map(compress).collect();
        for (n, (frame, block)) in frames.iter().zip(bytes.chunks(BLOCK)).enumerate() {
            let offset = field(chunk.len());
            chunk[HEADER + 4 * n..][..4].copy_from_slice(&offset);
            let stored = if frame.len() < block.len() { frame } else { block };
            chunk.extend(field(stored.len()));
            chunk.extend(stored);
        }
        // No chunk is longer than its bytes and a header: readers may rely on it.
        if HEADER + bytes.len() < chunk.len() {
            kind |= flags::STORED;
            chunk.truncate(HEADER);
            chunk.extend(bytes);
        }
    }
    // Elements have at most 8 bytes.
    chunk[..4].copy_from_slice(&[VERSION, CODEC_VERSION, kind, element_size as u8]);
    let whole = chunk.len();
    chunk[4..8].copy_from_slice(&field(bytes.len()));
    chunk[8..12].copy_from_slice(&field(bytes.len().min(BLOCK)));
    chunk[12..16].copy_from_slice(&field(whole));
    chunk[22] = CODEC_ID;
    chunk
}

/// A field of four bytes, which hold the length of any chunk.
fn field(value: usize) -> [u8; 4] {
    (value as i32).to_le_bytes()
}
