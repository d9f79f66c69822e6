//! The header of an NRRD file: lines of text up to an empty one (the Teem project's NRRD format
//! definition, versions 1 to 5). Comments, key/value pairs and `content` may name a patient: they
//! are passed over but for the names of segments, and no text of a header is repeated in a message.

use super::labels::{SegmentEntry, segment_entries};
use super::values::{directions, domains, encoding, scalar, spacings, vector};
use crate::Error;
use crate::error::Detail;
use crate::io::scalar::{Endian, Scalar};
use crate::io::source::Source;

/// How files spell the unit that is meant where none is named.
const MILLIMETERS: [&str; 5] = [
    "",
    "mm",
    "millimeter",
    "millimeters",
    "millimetre", // spellchecker:disable-line
];

/// Longest header that is read. 3D Slicer's segmentations need about 500 bytes a segment.
const MAX_LENGTH: u64 = 1 << 20;
/// `NRRD_DIM_MAX` of Teem.
const MAX_AXES: usize = 16;

/// How the voxels are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Raw,
    Text,
    Gzip,
}

/// Bytes in front of the voxels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ByteSkip {
    Count(u64),
    /// `-1`: the voxels are the last bytes of the file.
    FromEnd,
}

/// The world that `space directions` and `space origin` are given in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Space {
    /// An anatomical one; the signs turn it to RAS+.
    Anatomical([f64; 3]),
    /// Three dimensions whose sides are not said.
    Other,
}

/// The fields that matter, not yet checked against each other.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) scalar: Scalar,
    pub(super) endian: Endian,
    pub(super) encoding: Encoding,
    pub(super) sizes: Vec<u64>,
    pub(super) line_skip: u64,
    pub(super) byte_skip: ByteSkip,
    /// The name of the file that holds the voxels, if it is another one.
    pub(super) data_file: Option<String>,
    pub(super) space: Option<Space>,
    /// One a size: the step of an axis in the world; `None` for an axis outside of it.
    pub(super) directions: Option<Vec<Option<[f64; 3]>>>,
    pub(super) origin: Option<[f64; 3]>,
    /// One a size; NaN where an axis has none.
    pub(super) spacings: Option<Vec<f64>>,
    /// One a size: whether the axis is one of the volume's.
    pub(super) domains: Option<Vec<bool>>,
    /// Whether `space units` are absent or mm.
    pub(super) in_mm: bool,
    /// What 3D Slicer says of the labels.
    pub(super) segments: Vec<SegmentEntry>,
}

impl Header {
    /// Reads the header from the start of `source`, up to the first byte behind it.
    pub(super) fn read(source: &mut Source<'_>) -> Result<Self, Error> {
        let path = source.path();
        let lines = lines(source)?;
        let header = Fields::collect(&lines).and_then(|fields| fields.header());
        let header = header.map_err(|fault| match fault {
            Fault::Header(reason) => Error::from(Detail::NrrdHeader { path, reason }),
            Fault::Encoding(name) => Error::from(Detail::NrrdEncoding { path, name }),
            Fault::Block => Error::from(Detail::NrrdBlock { path }),
        })?;
        Ok(Self { segments: segment_entries(&lines), ..header })
    }
}

/// Why a header is not usable; the error without the path.
#[derive(Debug, PartialEq)]
pub(super) enum Fault {
    Header(&'static str),
    Encoding(&'static str),
    Block,
}

/// The lines up to the empty one or, for a detached header, up to the end of the file.
fn lines(source: &mut Source<'_>) -> Result<Vec<String>, Error> {
    let mut lines = Vec::new();
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        let ended = source.fill(&mut byte)? == 0;
        if MAX_LENGTH < source.got() {
            let reason = "it is longer than 1 MiB";
            return Err(Detail::NrrdHeader { path: source.path(), reason }.into());
        }
        if !ended && byte != *b"\n" {
            line.extend(byte);
            continue;
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if line.is_empty() {
            return Ok(lines);
        }
        lines.push(String::from_utf8_lossy(&line).into_owned());
        line.clear();
    }
}

/// The values of the fields that matter, as they are written.
#[derive(Debug, Default)]
struct Fields<'a> {
    kind: Option<&'a str>,
    dimension: Option<&'a str>,
    sizes: Option<&'a str>,
    encoding: Option<&'a str>,
    endian: Option<&'a str>,
    line_skip: Option<&'a str>,
    byte_skip: Option<&'a str>,
    data_file: Option<&'a str>,
    space: Option<&'a str>,
    space_dimension: Option<&'a str>,
    directions: Option<&'a str>,
    origin: Option<&'a str>,
    spacings: Option<&'a str>,
    kinds: Option<&'a str>,
    space_units: Option<&'a str>,
}

impl<'a> Fields<'a> {
    fn collect(lines: &'a [String]) -> Result<Self, Fault> {
        let (magic, lines) = lines.split_first().ok_or(Fault::Header("it is empty"))?;
        if !matches!(magic.strip_prefix("NRRD000"), Some("1" | "2" | "3" | "4" | "5")) {
            return Err(Fault::Header("its version is not one of NRRD0001 to NRRD0005"));
        }
        let mut fields = Self::default();
        for line in lines {
            let Some((name, value)) = line.split_once(':') else {
                // A comment, or one of the names behind `data file: LIST`.
                continue;
            };
            if line.starts_with('#') || value.starts_with('=') {
                continue;
            }
            let field = match name.trim().to_ascii_lowercase().as_str() {
                "type" => &mut fields.kind,
                "dimension" => &mut fields.dimension,
                "sizes" => &mut fields.sizes,
                "encoding" => &mut fields.encoding,
                "endian" => &mut fields.endian,
                "line skip" | "lineskip" => &mut fields.line_skip,
                "byte skip" | "byteskip" => &mut fields.byte_skip,
                "data file" | "datafile" => &mut fields.data_file,
                "space" => &mut fields.space,
                "space dimension" => &mut fields.space_dimension,
                "space directions" => &mut fields.directions,
                "space origin" => &mut fields.origin,
                "spacings" => &mut fields.spacings,
                "kinds" => &mut fields.kinds,
                "space units" => &mut fields.space_units,
                _ => continue,
            };
            if field.replace(value.trim()).is_some() {
                return Err(Fault::Header("a field is there twice"));
            }
        }
        Ok(fields)
    }

    fn header(&self) -> Result<Header, Fault> {
        let sizes = self.sizes()?;
        let axes = sizes.len();
        let scalar = scalar(self.kind.ok_or(Fault::Header("type is missing"))?)?;
        let encoding = encoding(self.encoding.ok_or(Fault::Header("encoding is missing"))?)?;
        let space = self.space()?;
        Ok(Header {
            scalar,
            endian: self.endian(scalar, encoding)?,
            encoding,
            sizes,
            line_skip: self.line_skip.map_or(Ok(0), |text| {
                text.parse().map_err(|_| Fault::Header("line skip is not a number of lines"))
            })?,
            byte_skip: match self.byte_skip {
                None => ByteSkip::Count(0),
                Some("-1") => ByteSkip::FromEnd,
                Some(text) => ByteSkip::Count(
                    text.parse()
                        .map_err(|_| Fault::Header("byte skip is neither -1 nor 0 or more"))?,
                ),
            },
            data_file: self.data_file.map(str::to_owned),
            space,
            directions: self.directions.map(|text| directions(text, axes)).transpose()?,
            origin: self
                .origin
                .map(|text| {
                    vector(text)
                        .ok_or(Fault::Header("space origin is not a vector of three numbers"))
                })
                .transpose()?,
            spacings: self.spacings.map(|text| spacings(text, axes)).transpose()?,
            domains: self.kinds.map(|text| domains(text, axes)).transpose()?,
            in_mm: self.space_units.is_none_or(|text| {
                let units = text.split_whitespace().map(|unit| unit.trim_matches('"'));
                units.into_iter().all(|unit| MILLIMETERS.contains(&unit))
            }),
            segments: Vec::new(),
        })
    }

    fn sizes(&self) -> Result<Vec<u64>, Fault> {
        let text = self.sizes.ok_or(Fault::Header("sizes are missing"))?;
        let sizes: Option<Vec<u64>> = text
            .split_whitespace()
            .take(MAX_AXES + 1)
            .map(|size| size.parse().ok().filter(|size| 0 < *size))
            .collect();
        let sizes = sizes.ok_or(Fault::Header("a size is not a whole number above 0"))?;
        let dimension = self.dimension.ok_or(Fault::Header("dimension is missing"))?;
        match dimension.parse() {
            Ok(1..=MAX_AXES) if dimension.parse() == Ok(sizes.len()) => Ok(sizes),
            Ok(1..=MAX_AXES) => Err(Fault::Header("there are not as many sizes as dimensions")),
            _ => Err(Fault::Header("dimension is not one of 1 to 16")),
        }
    }

    fn endian(&self, scalar: Scalar, encoding: Encoding) -> Result<Endian, Fault> {
        match self.endian.map(str::to_ascii_lowercase).as_deref() {
            Some("little") => Ok(Endian::Little),
            Some("big") => Ok(Endian::Big),
            None if scalar.size() == 1 || encoding == Encoding::Text => Ok(Endian::Little),
            None => Err(Fault::Header("endian is missing")),
            Some(_) => Err(Fault::Header("endian is neither little nor big")),
        }
    }

    fn space(&self) -> Result<Option<Space>, Fault> {
        let Some(space) = self.space else {
            return match self.space_dimension {
                None => Ok(None),
                Some("3") => Ok(Some(Space::Other)),
                Some(_) => Err(Fault::Header("space dimension is not 3")),
            };
        };
        Ok(Some(match space.to_ascii_lowercase().as_str() {
            "right-anterior-superior" | "ras" => Space::Anatomical([1.0, 1.0, 1.0]),
            "left-anterior-superior" | "las" => Space::Anatomical([-1.0, 1.0, 1.0]),
            "left-posterior-superior" | "lps" => Space::Anatomical([-1.0, -1.0, 1.0]),
            "scanner-xyz" | "3d-right-handed" | "3d-left-handed" => Space::Other,
            _ => return Err(Fault::Header("space is not a known one of three dimensions")),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: [&str; 5] =
        ["NRRD0004", "type: uchar", "dimension: 3", "sizes: 4 5 6", "encoding: raw"];

    fn parse(more: &[&str]) -> Result<Header, Fault> {
        let lines: Vec<String> = LEAST.iter().chain(more).map(|line| (*line).to_owned()).collect();
        Fields::collect(&lines)?.header()
    }

    #[test]
    fn a_header_has_few_fields_that_it_must_have() {
        let header = parse(&[]).unwrap();
        assert_eq!((header.scalar, header.sizes), (Scalar::U8, vec![4, 5, 6]));
        assert_eq!((header.encoding, header.byte_skip), (Encoding::Raw, ByteSkip::Count(0)));
        for missing in 1..LEAST.len() {
            let mut lines: Vec<String> = LEAST.iter().map(|line| (*line).to_owned()).collect();
            lines.remove(missing);
            assert!(Fields::collect(&lines).unwrap().header().is_err(), "{missing}");
        }
    }

    #[test]
    fn every_way_to_be_wrong_has_its_reason() {
        for (line, reason) in [
            ("type: short", "a field is there twice"),
            ("endian: middle", "endian is neither little nor big"),
            ("line skip: -1", "line skip is not a number of lines"),
            ("byte skip: -2", "byte skip is neither -1 nor 0 or more"),
            ("space: mars", "space is not a known one of three dimensions"),
            ("space dimension: 2", "space dimension is not 3"),
            ("space origin: (1,2)", "space origin is not a vector of three numbers"),
            ("spacings: 1 2", "spacings are not one number an axis"),
            ("kinds: domain", "kinds are not one an axis"),
        ] {
            assert_eq!(parse(&[line]).unwrap_err(), Fault::Header(reason), "{line}");
        }
    }
}
