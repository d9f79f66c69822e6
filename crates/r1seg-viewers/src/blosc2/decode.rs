use ruzstd::decoding::FrameDecoder;

use super::header::{Codec, Content, Header};
use super::{HEADER, blosclz};
use crate::ChunkFault;

/// A zstd frame of any length may ask for this much of a window, as zstd's ordinary levels do.
const LEAST_WINDOW: usize = 8 << 20;
/// Bit of the token of a run: the byte is in the length before it.
const RUN: u8 = 1;

/// Appends the `expected` bytes that `chunk` holds to `out`, which has room for them.
pub(crate) fn decode(chunk: &[u8], expected: usize, out: &mut Vec<u8>) -> Result<(), ChunkFault> {
    let header = Header::read(chunk)?;
    if header.bytes != expected {
        return Err(ChunkFault::Declared);
    }
    let body = chunk.get(HEADER..).unwrap_or_default();
    let end = out.len() + expected;
    match header.content {
        Content::Zero => out.resize(end, 0),
        Content::Nan => match header.element_size {
            4 => repeat(&f32::NAN.to_le_bytes(), expected, out)?,
            8 => repeat(&f64::NAN.to_le_bytes(), expected, out)?,
            _ => return Err(ChunkFault::Sizes),
        },
        Content::Repeated => {
            let element = body.get(..header.element_size).ok_or(ChunkFault::Sizes)?;
            repeat(element, expected, out)?;
        }
        Content::Stored => match body.len() == expected {
            true => out.extend_from_slice(body),
            false => return Err(ChunkFault::Sizes),
        },
        Content::Blocks(codec) => Blocks::new(chunk, header, codec)?.decode(out)?,
    }
    Ok(())
}

fn repeat(element: &[u8], expected: usize, out: &mut Vec<u8>) -> Result<(), ChunkFault> {
    if !expected.is_multiple_of(element.len()) {
        return Err(ChunkFault::Sizes);
    }
    for _ in 0..expected / element.len() {
        out.extend_from_slice(element);
    }
    Ok(())
}

struct Blocks<'a> {
    chunk: &'a [u8],
    header: Header,
    codec: Codec,
    /// Where each block begins in the chunk, in any order.
    offsets: &'a [[u8; 4]],
    zstd: FrameDecoder,
    /// A block before its bytes are put in order.
    shuffled: Vec<u8>,
}

impl<'a> Blocks<'a> {
    fn new(chunk: &'a [u8], header: Header, codec: Codec) -> Result<Self, ChunkFault> {
        let count = header.bytes.div_ceil(header.block_bytes);
        let (offsets, _) = chunk.get(HEADER..).unwrap_or_default().as_chunks::<4>();
        let offsets = offsets.get(..count).ok_or(ChunkFault::Block)?;
        let mut zstd = FrameDecoder::new();
        let window = header.block_bytes.next_power_of_two().max(LEAST_WINDOW);
        zstd.set_max_window_size(window as u64);
        Ok(Self { chunk, header, codec, offsets, zstd, shuffled: Vec::new() })
    }

    fn decode(mut self, out: &mut Vec<u8>) -> Result<(), ChunkFault> {
        let first = out.len();
        for offset in self.offsets {
            let offset = usize::try_from(i32::from_le_bytes(*offset)).ok();
            let block = offset.and_then(|at| self.chunk.get(at..)).ok_or(ChunkFault::Block)?;
            let start = out.len();
            let length = (self.header.bytes - (start - first)).min(self.header.block_bytes);
            // Block by block, so that memory is touched only as far as there are blocks for it.
            out.resize(start + length, 0);
            let target = &mut out[start..];
            if self.header.is_shuffled && 1 < self.header.element_size {
                let mut shuffled = std::mem::take(&mut self.shuffled);
                shuffled.resize(length, 0);
                self.block(block, &mut shuffled)?;
                unshuffle(&shuffled, self.header.element_size, target);
                self.shuffled = shuffled;
            } else {
                self.block(block, target)?;
            }
        }
        Ok(())
    }

    /// Fills `target` from the streams at the start of `block`.
    fn block(&mut self, mut block: &[u8], target: &mut [u8]) -> Result<(), ChunkFault> {
        // The last block is one stream if it is shorter than the others.
        let is_split = self.header.is_split && target.len() == self.header.block_bytes;
        let streams = if is_split { self.header.element_size } else { 1 };
        if !target.len().is_multiple_of(streams) {
            return Err(ChunkFault::Sizes);
        }
        for part in target.chunks_mut(target.len() / streams) {
            let (length, rest) = block.split_first_chunk::<4>().ok_or(ChunkFault::Block)?;
            block = rest;
            let length = i32::from_le_bytes(*length);
            let Ok(length) = usize::try_from(length) else {
                let (token, rest) = block.split_first().ok_or(ChunkFault::Block)?;
                block = rest;
                let value = u8::try_from(length.unsigned_abs());
                match value {
                    Ok(value) if token & RUN != 0 => part.fill(value),
                    _ => return Err(ChunkFault::Compressed),
                }
                continue;
            };
            if length == 0 {
                part.fill(0);
                continue;
            }
            let (bytes, rest) = block.split_at_checked(length).ok_or(ChunkFault::Block)?;
            block = rest;
            match length == part.len() {
                true => part.copy_from_slice(bytes),
                false => self.decompress(bytes, part)?,
            }
        }
        Ok(())
    }

    fn decompress(&mut self, bytes: &[u8], target: &mut [u8]) -> Result<(), ChunkFault> {
        let length = target.len();
        let written = match self.codec {
            Codec::Zstd => self.zstd.decode_all(bytes, target).ok(),
            Codec::Lz4 => lz4_flex::block::decompress_into(bytes, target).ok(),
            Codec::BloscLz => blosclz::decompress(bytes, target),
        };
        (written == Some(length)).then_some(()).ok_or(ChunkFault::Compressed)
    }
}

/// Puts bytes that lie plane by plane, all first bytes of the elements before all second ones, in order.
/// What is left of no whole element stays at the end.
fn unshuffle(planes: &[u8], element_size: usize, target: &mut [u8]) {
    let count = planes.len() / element_size;
    let (elements, rest) = target.split_at_mut(count * element_size);
    rest.copy_from_slice(&planes[count * element_size..]);
    match element_size {
        2 => in_order::<2>(planes, elements),
        4 => in_order::<4>(planes, elements),
        8 => in_order::<8>(planes, elements),
        _ => {
            for (n, element) in elements.chunks_exact_mut(element_size).enumerate() {
                element.iter_mut().enumerate().for_each(|(b, v)| *v = planes[b * count + n]);
            }
        }
    }
}

/// As above, for elements whose size is known when this is compiled: several times faster.
fn in_order<const N: usize>(planes: &[u8], elements: &mut [u8]) {
    let count = elements.len() / N;
    let planes: [&[u8]; N] = std::array::from_fn(|b| &planes[b * count..][..count]);
    for (n, element) in elements.as_chunks_mut::<N>().0.iter_mut().enumerate() {
        *element = std::array::from_fn(|b| planes[b][n]);
    }
}
