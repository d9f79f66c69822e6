//! Compressed pixels as they lie in a file.

use std::io::Read;

use super::dataset::{Encoding, ITEM, Input, SEQUENCE_END, storage};
use super::fault::DicomFault;

/// Encapsulated pixels (PS3.5 annex A.4): an offset table, then fragments.
pub(super) struct Fragments {
    offsets: Vec<u64>,
    /// Position behind the offset table, and bytes.
    parts: Vec<(u64, Vec<u8>)>,
}

impl Fragments {
    pub(super) fn read(reader: &mut dyn Read, most: u64) -> Result<Self, DicomFault> {
        const EXPLICIT: Encoding = Encoding { implicit_vr: false, big_endian: false };
        let mut table: Option<Vec<u8>> = None;
        let (mut parts, mut at) = (Vec::new(), 0);
        loop {
            let mut input = Input::new(reader);
            let tag = match input.tag(EXPLICIT)? {
                Some(tag) => tag,
                // Some writers leave the delimiter out.
                None => break,
            };
            let length = u64::from(input.u32(EXPLICIT)?);
            if tag == SEQUENCE_END {
                break;
            }
            if tag != ITEM {
                return Err(DicomFault::Malformed("compressed pixels are no fragments"));
            }
            if most < at + length {
                let what = "bytes of compressed pixels";
                return Err(DicomFault::TooMany { what, count: at + length, most });
            }
            let mut bytes = Vec::new();
            let part = (&mut *reader).take(length).read_to_end(&mut bytes);
            part.map_err(|e| storage(&e))?;
            let got = bytes.len() as u64;
            if got < length {
                return Err(DicomFault::PixelsShort { expected: at + length, got: at + got });
            }
            if table.is_none() {
                table = Some(bytes);
            } else {
                parts.push((at, bytes));
                at += length + 8;
            }
        }
        let table = table.unwrap_or_default();
        let offset = |raw: &[u8; 4]| u64::from(u32::from_le_bytes(*raw));
        let offsets = table.as_chunks::<4>().0.iter().map(offset).collect();
        Ok(Self { offsets, parts })
    }

    /// The bytes of frame `n` of `frames`.
    pub(super) fn frame(&self, n: usize, frames: usize) -> Result<Vec<u8>, DicomFault> {
        let in_parts = |(from, to): (u64, u64)| {
            let parts = self.parts.iter().filter(|(at, _)| (from..to).contains(at));
            parts.flat_map(|(_, bytes)| bytes.iter().copied()).collect::<Vec<u8>>()
        };
        let data = if frames == 1 {
            in_parts((0, u64::MAX))
        } else if self.parts.len() == frames {
            self.parts.get(n).map(|(_, bytes)| bytes.clone()).unwrap_or_default()
        } else if self.offsets.len() == frames {
            let from = self.offsets.get(n).copied().unwrap_or(u64::MAX);
            in_parts((from, self.offsets.get(n + 1).copied().unwrap_or(u64::MAX)))
        } else {
            return Err(DicomFault::Layout("nothing tells the fragments of its frames apart"));
        };
        if data.is_empty() {
            return Err(DicomFault::PixelsShort { expected: 1, got: 0 });
        }
        Ok(data)
    }
}
