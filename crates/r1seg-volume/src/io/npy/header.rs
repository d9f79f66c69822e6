//! The header of a `.npy` file: magic, version, length, and a Python dict as text
//! (numpy `lib/format.py`). Only the one dict that `numpy.save` writes is understood.

use crate::Error;
use crate::error::Detail;
use crate::io::scalar::{Endian, Scalar};
use crate::io::source::Source;

/// Longest header text that is read. numpy pads to 64 bytes, and itself refuses 10 000 and more.
const MAX_LENGTH: u64 = 64 << 10;
/// Magic, version and length of format 1.0.
const PREFIX: usize = 10;
/// Most axes that numpy can make.
const MAX_AXES: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) scalar: Scalar,
    pub(super) endian: Endian,
    pub(super) fortran_order: bool,
    pub(super) shape: Vec<u64>,
}

/// What stands before the elements in a file of numpy's format 1.0, as `numpy.save` writes it.
///
/// `descr` is numpy's name of the element type, such as `<f4`; shapes of arrays that fit into memory
/// are far shorter than the length field can say.
pub fn npy_header(descr: &str, fortran_order: bool, shape: &[usize]) -> Vec<u8> {
    let order = if fortran_order { "True" } else { "False" };
    let mut sizes = shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    if shape.len() == 1 {
        // Python's tuple of one.
        sizes.push(',');
    }
    let dict = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': ({sizes}), }}");
    // The elements begin at a multiple of 64, and a newline ends the header.
    let length = (PREFIX + dict.len() + 1).next_multiple_of(64) - PREFIX;
    let mut header = super::MAGIC.to_vec();
    header.extend_from_slice(&[1, 0]);
    header.extend_from_slice(&(length as u16).to_le_bytes());
    header.extend_from_slice(format!("{dict:<width$}\n", width = length - 1).as_bytes());
    header
}

impl Header {
    /// Reads the header from the start of `source`.
    pub(super) fn read(source: &mut Source<'_>) -> Result<Self, Error> {
        let path = source.path();
        let path = || path.clone();
        let mut fill = |bytes: &mut [u8]| match source.fill(bytes)? {
            got if got < bytes.len() => Err(Error::from(Detail::NpyHeader {
                path: path(),
                reason: "the file ends within it",
            })),
            _ => Ok(()),
        };
        let mut start = [0; 8];
        fill(&mut start)?;
        let [.., major, minor] = start;
        let length = match (major, minor) {
            (1, 0) => {
                let mut length = [0; 2];
                fill(&mut length)?;
                u64::from(u16::from_le_bytes(length))
            }
            (2 | 3, 0) => {
                let mut length = [0; 4];
                fill(&mut length)?;
                u64::from(u32::from_le_bytes(length))
            }
            _ => return Err(Detail::NpyVersion { path: path(), major, minor }.into()),
        };
        let mut text = match usize::try_from(length) {
            Ok(n) if length <= MAX_LENGTH => vec![0; n],
            _ => {
                return Err(
                    Detail::NpyHeaderLength { path: path(), length, most: MAX_LENGTH }.into()
                );
            }
        };
        fill(&mut text)?;
        let fields = Parser { text: &text, at: 0 }
            .dict()
            .map_err(|reason| Error::from(Detail::NpyHeader { path: path(), reason }))?;
        let (scalar, endian) = match fields.descr {
            Descr::Plain(descr) => parse_descr(&descr, path)?,
            Descr::Structured => {
                return Err(
                    Detail::NpyDtype { path: path(), descr: "structured".to_owned() }.into()
                );
            }
        };
        let (fortran_order, shape) = (fields.fortran_order, fields.shape);
        Ok(Self { scalar, endian, fortran_order, shape })
    }
}

fn parse_descr(
    descr: &str,
    path: impl Fn() -> std::path::PathBuf,
) -> Result<(Scalar, Endian), Error> {
    let other = || {
        Error::from(Detail::NpyDtype {
            path: path(),
            // The text is the file's: what is repeated of it is short and plain.
            descr: descr.chars().filter(char::is_ascii_graphic).take(16).collect(),
        })
    };
    let (endian, name) = match descr.split_at_checked(1) {
        Some((">", name)) => (Endian::Big, name),
        Some(("<" | "|" | "=", name)) => (Endian::Little, name),
        _ => (Endian::Little, descr),
    };
    let scalar = match name {
        "b1" => Scalar::Bool,
        "u1" => Scalar::U8,
        "i1" => Scalar::I8,
        "u2" => Scalar::U16,
        "i2" => Scalar::I16,
        "u4" => Scalar::U32,
        "i4" => Scalar::I32,
        "u8" => Scalar::U64,
        "i8" => Scalar::I64,
        "f2" => Scalar::F16,
        "f4" => Scalar::F32,
        "f8" => Scalar::F64,
        _ if name.starts_with('O') => return Err(Detail::NpyObject { path: path() }.into()),
        _ => return Err(other()),
    };
    Ok((scalar, endian))
}

#[derive(Debug, PartialEq, Eq)]
enum Descr {
    Plain(String),
    Structured,
}

#[derive(Debug, PartialEq, Eq)]
struct Fields {
    descr: Descr,
    fortran_order: bool,
    shape: Vec<u64>,
}

/// A reader of `{'descr': '<f4', 'fortran_order': False, 'shape': (4, 5, 6), }`, keys in any order.
struct Parser<'a> {
    text: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn dict(mut self) -> Result<Fields, &'static str> {
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        self.expect(b'{')?;
        while !self.accept(b'}') {
            let key = self.string()?;
            self.expect(b':')?;
            match key.as_str() {
                "descr" if self.peek() == Some(b'[') => {
                    // What follows a list of fields does not matter: no volume has one.
                    return Ok(Fields {
                        descr: Descr::Structured,
                        fortran_order: false,
                        shape: Vec::new(),
                    });
                }
                "descr" => descr = Some(Descr::Plain(self.string()?)),
                "fortran_order" => fortran_order = Some(self.boolean()?),
                "shape" => shape = Some(self.tuple()?),
                _ => return Err("it has a key other than descr, fortran_order and shape"),
            }
            if !self.accept(b',') {
                self.expect(b'}')?;
                break;
            }
        }
        if self.peek().is_some() {
            return Err("there is text behind the closing brace");
        }
        match (descr, fortran_order, shape) {
            (Some(descr), Some(fortran_order), Some(shape)) => {
                Ok(Fields { descr, fortran_order, shape })
            }
            _ => Err("one of the keys descr, fortran_order and shape is missing"),
        }
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    fn accept(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), &'static str> {
        if self.accept(byte) { Ok(()) } else { Err("it is not a Python dict") }
    }

    fn string(&mut self) -> Result<String, &'static str> {
        let quote = match self.peek() {
            Some(quote @ (b'\'' | b'"')) => quote,
            _ => return Err("a quoted string is missing"),
        };
        let rest = &self.text[self.at + 1..];
        let end = rest.iter().position(|b| *b == quote).ok_or("a quoted string does not end")?;
        self.at += end + 2;
        Ok(String::from_utf8_lossy(&rest[..end]).into_owned())
    }

    fn boolean(&mut self) -> Result<bool, &'static str> {
        self.peek();
        for (word, value) in [(b"True".as_slice(), true), (b"False".as_slice(), false)] {
            if self.text[self.at..].starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err("fortran_order is neither True nor False")
    }

    fn tuple(&mut self) -> Result<Vec<u64>, &'static str> {
        let mut sizes = Vec::new();
        self.expect(b'(')?;
        while !self.accept(b')') {
            if sizes.len() == MAX_AXES {
                return Err("shape has more axes than an array can have");
            }
            sizes.push(self.number()?);
            if !self.accept(b',') {
                self.expect(b')')?;
                break;
            }
        }
        Ok(sizes)
    }

    fn number(&mut self) -> Result<u64, &'static str> {
        let mut value: Option<u64> = None;
        self.peek();
        while let Some(digit @ b'0'..=b'9') = self.text.get(self.at).copied() {
            let next = value.unwrap_or(0).checked_mul(10);
            let next = next.and_then(|v| v.checked_add(u64::from(digit - b'0')));
            value = Some(next.ok_or("a size in shape is out of range")?);
            self.at += 1;
        }
        // Python 2 wrote long numbers as `4L`.
        if value.is_some() && self.text.get(self.at) == Some(&b'L') {
            self.at += 1;
        }
        value.ok_or("a size in shape is not a whole number of 0 or more")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_begins_as_numpy_writes_it() {
        // numpy.save of numpy.zeros((4, 32), "<f4"), and of numpy.zeros(3, "u1")
        let header = npy_header("<f4", false, &[4, 32]);
        assert_eq!(&header[..10], b"\x93NUMPY\x01\x00\x76\x00");
        let dict = b"{'descr': '<f4', 'fortran_order': False, 'shape': (4, 32), }     ";
        assert!(header[10..].starts_with(dict));
        assert_eq!((header[127], header.len()), (b'\n', 128));
        assert!(
            npy_header("|u1", true, &[3])[10..]
                .starts_with(b"{'descr': '|u1', 'fortran_order': True, 'shape': (3,), }")
        );
    }

    fn parse(text: &str) -> Result<Fields, &'static str> {
        Parser { text: text.as_bytes(), at: 0 }.dict()
    }

    #[test]
    fn the_header_of_numpy_is_understood() {
        let fields = parse("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 32, 256), }  \n");
        let expected = Fields {
            descr: Descr::Plain("<f4".to_owned()),
            fortran_order: false,
            shape: vec![1, 32, 256],
        };
        assert_eq!(fields, Ok(expected));
    }

    #[test]
    fn keys_come_in_any_order_and_python_2_longs_are_numbers() {
        let fields = parse(r#"{"shape":(4L,5L,),"fortran_order":True,"descr":">i2"}"#).unwrap();
        assert_eq!((fields.shape, fields.fortran_order), (vec![4, 5], true));
    }

    #[test]
    fn every_way_to_be_wrong_has_its_reason() {
        for (text, reason) in [
            ("", "it is not a Python dict"),
            ("{'descr': '<f4'", "it is not a Python dict"),
            ("{'descr': <f4}", "a quoted string is missing"),
            ("{'descr': '<f4", "a quoted string does not end"),
            ("{'a': 1}", "it has a key other than descr, fortran_order and shape"),
            ("{'fortran_order': 0}", "fortran_order is neither True nor False"),
            ("{'shape': (-1,)}", "a size in shape is not a whole number of 0 or more"),
            ("{'shape': (99999999999999999999,)}", "a size in shape is out of range"),
            ("{}", "one of the keys descr, fortran_order and shape is missing"),
            ("{} x", "there is text behind the closing brace"),
        ] {
            assert_eq!(parse(text), Err(reason), "{text}");
        }
    }
}
