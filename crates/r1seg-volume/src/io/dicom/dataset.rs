//! The elements of a DICOM file, one after the other, up to its pixels (PS3.5 section 7, PS3.10).
//!
//! A file is walked, never built up in memory: values that nobody wants are passed over, a wanted
//! value is at most [`LONGEST_VALUE`] bytes, and open sequences are kept in a list of at most
//! [`DEEPEST`] entries. Nothing is allocated by a length that the file claims.

use std::io::{self, ErrorKind, Read};

use super::fault::DicomFault;

/// Wanted values are numbers, codes and UIDs; longer ones are passed over.
const LONGEST_VALUE: u32 = 4096;
/// Sequences inside sequences; functional groups need 2.
const DEEPEST: usize = 32;
const UNDEFINED: u32 = u32::MAX;

/// Group and element number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag(pub(super) u16, pub(super) u16);

pub(super) const PIXEL_DATA: Tag = Tag(0x7fe0, 0x0010);
pub(super) const ITEM: Tag = Tag(0xfffe, 0xe000);
pub(super) const SEQUENCE_END: Tag = Tag(0xfffe, 0xe0dd);
const ITEM_END: Tag = Tag(0xfffe, 0xe00d);

/// How elements are stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Encoding {
    pub(super) implicit_vr: bool,
    pub(super) big_endian: bool,
}

/// An open sequence around an element, and the number of its current item, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) sequence: Tag,
    pub(super) item: usize,
}

/// A wanted value.
pub(super) struct Value<'a> {
    bytes: &'a [u8],
    big_endian: bool,
}

/// What a walk hands its findings to.
pub(super) trait Visitor {
    /// Whether the value of this element, or the items of this sequence, shall be visited.
    fn wants(&self, path: &[Step], tag: Tag) -> bool;
    /// Learns that a wanted sequence begins.
    fn enter(&mut self, path: &[Step], sequence: Tag);
    /// Takes a value; fails if it makes further reading pointless.
    fn visit(&mut self, path: &[Step], tag: Tag, value: Value<'_>) -> Result<(), DicomFault>;
}

impl Value<'_> {
    /// The text without padding; empty if it is not ASCII.
    pub(super) fn text(&self) -> &str {
        let text = std::str::from_utf8(self.bytes).ok().filter(|t| t.is_ascii());
        text.unwrap_or_default().trim_matches(['\0', ' '])
    }

    /// Whether there is nothing but padding.
    pub(super) fn is_blank(&self) -> bool {
        self.bytes.iter().all(|byte| b"\0 ".contains(byte))
    }

    pub(super) fn number(&self) -> Option<f64> {
        let part = self.text().split('\\').next()?;
        part.trim().parse().ok().filter(|v: &f64| v.is_finite())
    }

    /// Exactly `N` decimal numbers.
    pub(super) fn numbers<const N: usize>(&self) -> Option<[f64; N]> {
        let mut out = [0.0; N];
        let mut parts = self.text().split('\\');
        for v in &mut out {
            *v = parts.next()?.trim().parse().ok().filter(|v: &f64| v.is_finite())?;
        }
        parts.next().is_none().then_some(out)
    }

    pub(super) fn u16(&self) -> Option<u16> {
        let raw = *self.bytes.first_chunk::<2>()?;
        Some(if self.big_endian { u16::from_be_bytes(raw) } else { u16::from_le_bytes(raw) })
    }
}

/// How a walk ended.
pub(super) enum Walked {
    /// At the first byte of the pixels.
    Pixels(PixelElement),
    /// At the end of the data set, which is so many bytes long.
    End(u64),
}

/// Where the pixels begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct PixelElement {
    /// Bytes of them; `None` where they are fragments up to a delimiter.
    pub(super) length: Option<u32>,
}

struct Level {
    kind: Kind,
    /// Position behind its last byte; `None` up to a delimiter.
    end: Option<u64>,
    encoding: Encoding,
}

#[derive(PartialEq, Eq)]
enum Kind {
    Sequence,
    Item,
}

/// Walks a data set and leaves `reader` at the first byte of its pixels, if it has any.
pub(super) fn walk(
    reader: &mut dyn Read,
    encoding: Encoding,
    visitor: &mut dyn Visitor,
) -> Result<Walked, DicomFault> {
    let mut input = Input { reader, position: 0 };
    let mut levels: Vec<Level> = Vec::new();
    let mut path: Vec<Step> = Vec::new();
    let mut buffer = Vec::new();
    loop {
        while let Some(end) = levels.last().and_then(|l| l.end) {
            if input.position < end {
                break;
            }
            if end < input.position {
                return Err(DicomFault::Malformed("an element is longer than its sequence"));
            }
            close(&mut levels, &mut path);
        }
        let encoding = levels.last().map_or(encoding, |l| l.encoding);
        let Some(tag) = input.tag(encoding)? else {
            if levels.is_empty() {
                return Ok(Walked::End(input.position));
            }
            return Err(DicomFault::EndsEarly { at: input.position });
        };
        let kind = levels.last().map(|l| &l.kind);
        if tag.0 == ITEM.0 {
            let length = input.u32(encoding)?;
            match (tag, kind) {
                (ITEM, Some(Kind::Sequence)) => {
                    if let Some(step) = path.last_mut() {
                        step.item += 1;
                    }
                    levels.push(Level { kind: Kind::Item, end: input.end(length), encoding });
                }
                (ITEM_END, Some(Kind::Item)) | (SEQUENCE_END, Some(Kind::Sequence)) => {
                    close(&mut levels, &mut path);
                }
                _ => return Err(DicomFault::Malformed("an item or delimiter is out of place")),
            }
            continue;
        }
        if kind == Some(&Kind::Sequence) {
            return Err(DicomFault::Malformed("a sequence holds something that is no item"));
        }
        let (vr, length) = input.vr_and_length(encoding)?;
        if tag == PIXEL_DATA && levels.is_empty() {
            let length = (length != UNDEFINED).then_some(length);
            return Ok(Walked::Pixels(PixelElement { length }));
        }
        let wanted = visitor.wants(&path, tag);
        let sequence = match vr {
            Some(vr) => &vr == b"SQ",
            // Nothing else says that an implicit element is a sequence.
            None => wanted && is_wanted_sequence(tag),
        };
        if length == UNDEFINED || (sequence && wanted) {
            if DEEPEST <= path.len() {
                return Err(DicomFault::Malformed("sequences are nested too deeply"));
            }
            // PS3.5 section 6.2.2: UN of undefined length is implicit VR little endian inside.
            let unknown = vr.is_some_and(|vr| &vr == b"UN");
            let inner = Encoding { implicit_vr: true, big_endian: false };
            let encoding = if unknown { inner } else { encoding };
            if wanted {
                visitor.enter(&path, tag);
            }
            path.push(Step { sequence: tag, item: 0 });
            levels.push(Level { kind: Kind::Sequence, end: input.end(length), encoding });
        } else if wanted && length <= LONGEST_VALUE {
            buffer.resize(length as usize, 0);
            input.fill(&mut buffer)?;
            let value = Value { bytes: &buffer, big_endian: encoding.big_endian };
            visitor.visit(&path, tag, value)?;
        } else {
            input.skip(u64::from(length))?;
        }
    }
}

fn close(levels: &mut Vec<Level>, path: &mut Vec<Step>) {
    if levels.pop().is_some_and(|level| level.kind == Kind::Sequence) {
        path.pop();
    }
}

/// Sequences that [`super::header`] looks into.
fn is_wanted_sequence(Tag(group, element): Tag) -> bool {
    matches!(
        (group, element),
        (0x5200, 0x9229 | 0x9230) | (0x0020, 0x9113 | 0x9116) | (0x0028, 0x3000 | 0x9110 | 0x9145)
    )
}

/// VRs whose length has 32 bits in explicit encodings (PS3.5 section 7.1.2).
fn has_long_length(vr: [u8; 2]) -> bool {
    matches!(
        &vr,
        b"OB"
            | b"OD"
            | b"OF"
            | b"OL"
            | b"OV"
            | b"OW"
            | b"SQ"
            | b"SV"
            | b"UC"
            | b"UN"
            | b"UR"
            | b"UT"
            | b"UV"
    )
}

/// Bytes with a position, so that an error can say where.
pub(super) struct Input<'a> {
    reader: &'a mut dyn Read,
    position: u64,
}

impl<'a> Input<'a> {
    pub(super) fn new(reader: &'a mut dyn Read) -> Self {
        Self { reader, position: 0 }
    }

    fn end(&self, length: u32) -> Option<u64> {
        (length != UNDEFINED).then(|| self.position + u64::from(length))
    }

    /// Reads as much as there is.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, DicomFault> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.reader.read(rest) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(storage(&e)),
            }
        }
        self.position += filled as u64;
        Ok(filled)
    }

    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> Result<(), DicomFault> {
        if self.read(buffer)? < buffer.len() {
            return Err(DicomFault::EndsEarly { at: self.position });
        }
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DicomFault> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn u16(&mut self, encoding: Encoding) -> Result<u16, DicomFault> {
        let raw = self.array()?;
        Ok(if encoding.big_endian { u16::from_be_bytes(raw) } else { u16::from_le_bytes(raw) })
    }

    pub(super) fn u32(&mut self, encoding: Encoding) -> Result<u32, DicomFault> {
        let raw = self.array()?;
        Ok(if encoding.big_endian { u32::from_be_bytes(raw) } else { u32::from_le_bytes(raw) })
    }

    /// The next tag, or `None` at the end; a stub of a tag counts as the end.
    pub(super) fn tag(&mut self, encoding: Encoding) -> Result<Option<Tag>, DicomFault> {
        let mut raw = [0; 4];
        if self.read(&mut raw)? < 4 {
            return Ok(None);
        }
        let [a, b, c, d] = raw;
        let number = if encoding.big_endian { u16::from_be_bytes } else { u16::from_le_bytes };
        Ok(Some(Tag(number([a, b]), number([c, d]))))
    }

    /// The VR, which implicit encodings lack, and the length.
    pub(super) fn vr_and_length(
        &mut self,
        encoding: Encoding,
    ) -> Result<(Option<[u8; 2]>, u32), DicomFault> {
        if encoding.implicit_vr {
            return Ok((None, self.u32(encoding)?));
        }
        let vr: [u8; 2] = self.array()?;
        if !vr.iter().all(u8::is_ascii_uppercase) {
            return Err(DicomFault::Malformed("an element has no valid type (VR)"));
        }
        if has_long_length(vr) {
            self.u16(encoding)?;
            return Ok((Some(vr), self.u32(encoding)?));
        }
        Ok((Some(vr), u32::from(self.u16(encoding)?)))
    }

    pub(super) fn skip(&mut self, length: u64) -> Result<(), DicomFault> {
        let mut part = (&mut *self.reader).take(length);
        let passed = io::copy(&mut part, &mut io::sink()).map_err(|e| storage(&e))?;
        self.position += passed;
        if passed < length {
            return Err(DicomFault::EndsEarly { at: self.position });
        }
        Ok(())
    }
}

/// Inflating reports bad data with these kinds; other kinds come from the storage.
pub(super) fn storage(e: &io::Error) -> DicomFault {
    match e.kind() {
        ErrorKind::InvalidInput | ErrorKind::InvalidData | ErrorKind::UnexpectedEof => {
            DicomFault::Malformed("compressed data is corrupt")
        }
        kind => DicomFault::Storage(kind),
    }
}
