//! Headers, and where the tensors lie.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;

use super::cursor::Cursor;
use super::number::from_number;
use super::{Error, Value};
use crate::{NumberFormat, shown};

/// The longest header that is read. Vocabularies of 128 000 tokens with their merges take 8 MB.
pub const MAX_HEADER_BYTES: u64 = 64 << 20;
/// More fields than any file has; llama.cpp writes some forty.
const MAX_FIELDS: u64 = 4096;
const MAX_TENSORS: u64 = 65_536;
/// The longest name of a field, as GGUF allows it.
const MAX_KEY_BYTES: u64 = 65_535;
/// llama.cpp stops at 63.
const MAX_NAME_BYTES: u64 = 1024;
const MAX_DIMS: u32 = 4;
const DEFAULT_ALIGNMENT: u64 = 32;
const MAX_ALIGNMENT: u64 = 65_536;

/// The header of a GGUF file, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Gguf {
    /// 2 or 3.
    pub version: u32,
    /// The fields, in the types that they are stored in.
    pub metadata: BTreeMap<String, Value>,
    /// The tensors, by llama.cpp's names.
    pub tensors: BTreeMap<String, TensorInfo>,
    /// What the position of every tensor is a multiple of, seen from `data_start`.
    pub alignment: u64,
    /// Where the tensors begin, in bytes from the start of the file.
    pub data_start: u64,
}

/// A tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// How its numbers are stored.
    pub format: NumberFormat,
    /// Its axes, row-major: a matrix is `[rows, columns]` as in safetensors (GGUF itself lists the
    /// columns first). One to four axes, none of them 0.
    pub shape: Vec<u64>,
    /// Its bytes, from the start of the file. They lie within it, and overlap with no other's.
    pub range: Range<u64>,
}

impl TensorInfo {
    /// The length of a row.
    pub fn columns(&self) -> u64 {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Bytes of a row: whole blocks.
    pub fn row_bytes(&self) -> u64 {
        self.columns() / self.format.block_len() * self.format.block_bytes()
    }

    /// How many numbers it has.
    pub fn numbers(&self) -> u64 {
        self.shape.iter().product()
    }
}

impl Gguf {
    /// Reads the header of a file that lies in memory as a whole, such as a mapped one.
    ///
    /// # Errors
    /// Every [`Error`] but [`Error::Io`].
    pub fn parse(file: &[u8]) -> Result<Self, Error> {
        let most = usize::try_from(MAX_HEADER_BYTES).unwrap_or(usize::MAX);
        Self::parse_start(file.get(..most).unwrap_or(file), file.len() as u64)
    }

    /// Reads the header of an open file. Takes memory for the header alone.
    ///
    /// # Errors
    /// Every [`Error`].
    pub fn open(file: &File) -> Result<Self, Error> {
        let file_bytes = file.metadata()?.len();
        // How long the header is shows when it is read: most take less than this.
        let mut length = 1 << 20;
        loop {
            let mut start = Vec::new();
            let mut file = file;
            file.seek(SeekFrom::Start(0))?;
            file.take(length).read_to_end(&mut start)?;
            match Self::parse_start(&start, file_bytes) {
                Err(Error::EndsEarly { .. }) if length < file_bytes.min(MAX_HEADER_BYTES) => {
                    length = (length * 4).min(MAX_HEADER_BYTES);
                }
                other => return other,
            }
        }
    }

    /// `start` is the beginning of a file of `file_bytes` bytes.
    fn parse_start(start: &[u8], file_bytes: u64) -> Result<Self, Error> {
        let mut cursor = Cursor::new(start);
        match header(&mut cursor, file_bytes) {
            Err(Error::EndsEarly { .. })
                if start.len() as u64 == MAX_HEADER_BYTES && MAX_HEADER_BYTES < file_bytes =>
            {
                Err(Error::HeaderTooLong { most: MAX_HEADER_BYTES })
            }
            other => other,
        }
    }

    /// A field that is a string.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.metadata.get(key)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }
}

fn header(cursor: &mut Cursor<'_>, file_bytes: u64) -> Result<Gguf, Error> {
    let magic = cursor.bytes4()?;
    if magic != *b"GGUF" {
        return Err(Error::Magic { found: magic });
    }
    let version = cursor.u32()?;
    match version {
        2 | 3 => {}
        _ if matches!(version.swap_bytes(), 1..=3) => return Err(Error::BigEndian),
        _ => return Err(Error::Version { version }),
    }
    let tensor_count = count(cursor.u64()?, "tensors", MAX_TENSORS)?;
    let field_count = count(cursor.u64()?, "fields", MAX_FIELDS)?;

    let mut metadata = BTreeMap::new();
    for _ in 0..field_count {
        let key = cursor.string()?;
        count(key.len() as u64, "bytes in the name of a field", MAX_KEY_BYTES)?;
        let value_type = cursor.value_type()?;
        let value = cursor.value(value_type)?;
        if metadata.insert(key.to_owned(), value).is_some() {
            return Err(Error::DuplicateField { name: shown::name(key) });
        }
    }
    let alignment = alignment(metadata.get("general.alignment"))?;

    let mut stored = Vec::new();
    for _ in 0..tensor_count {
        stored.push(tensor(cursor, alignment)?);
    }
    let data_start = cursor.at().next_multiple_of(alignment);

    let mut tensors = BTreeMap::new();
    for Stored { name, format, shape, offset, bytes } in stored {
        let start = data_start.checked_add(offset);
        let end = start.and_then(|start| start.checked_add(bytes));
        let (Some(start), Some(end)) = (start, end.filter(|end| *end <= file_bytes)) else {
            let end = end.unwrap_or(u64::MAX);
            return Err(Error::BeyondEnd { name: shown::name(name), end, file_bytes });
        };
        let info = TensorInfo { format, shape, range: start..end };
        if tensors.insert(name.to_owned(), info).is_some() {
            return Err(Error::DuplicateTensor { name: shown::name(name) });
        }
    }
    check_overlaps(&tensors)?;
    Ok(Gguf { version, metadata, tensors, alignment, data_start })
}

fn count(count: u64, what: &'static str, most: u64) -> Result<u64, Error> {
    if count > most {
        return Err(Error::TooMany { what, count, most });
    }
    Ok(count)
}

fn alignment(field: Option<&Value>) -> Result<u64, Error> {
    let Some(value) = field else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    match value.to_u64() {
        Some(n) if n.is_power_of_two() && (8..=MAX_ALIGNMENT).contains(&n) => Ok(n),
        Some(n) => Err(Error::Alignment { value: n.to_string() }),
        None => Err(Error::Alignment { value: format!("of type {:?}", value.value_type()) }),
    }
}

struct Stored<'a> {
    name: &'a str,
    format: NumberFormat,
    shape: Vec<u64>,
    /// From the start of the tensors.
    offset: u64,
    bytes: u64,
}

fn tensor<'a>(cursor: &mut Cursor<'a>, alignment: u64) -> Result<Stored<'a>, Error> {
    let name = cursor.string()?;
    count(name.len() as u64, "bytes in the name of a tensor", MAX_NAME_BYTES)?;
    let dims = cursor.u32()?;
    if !(1..=MAX_DIMS).contains(&dims) {
        let what =
            format!("tensor `{}` has {dims} axes; 1 to {MAX_DIMS} are read", shown::name(name));
        return Err(cursor.damaged(what));
    }
    let mut shape = (0..dims).map(|_| cursor.u64()).collect::<Result<Vec<u64>, Error>>()?;
    // ggml lists the fastest axis first.
    shape.reverse();
    let number = cursor.u32()?;
    let format =
        from_number(number).ok_or_else(|| Error::TensorType { name: shown::name(name), number })?;
    let offset = cursor.u64()?;
    let bytes = tensor_bytes(name, format, &shape)?;
    if !offset.is_multiple_of(alignment) {
        return Err(Error::Misaligned { name: shown::name(name), offset, alignment });
    }
    Ok(Stored { name, format, shape, offset, bytes })
}

/// Bytes of a tensor, if its shape can be stored in its type.
pub(crate) fn tensor_bytes(name: &str, format: NumberFormat, shape: &[u64]) -> Result<u64, Error> {
    let refuse = |what| Error::Shape { name: shown::name(name), shape: shape.to_vec(), what };
    if shape.is_empty() || shape.len() > MAX_DIMS as usize {
        return Err(refuse("a tensor has 1 to 4 axes"));
    }
    if shape.contains(&0) {
        return Err(refuse("there are no numbers in it"));
    }
    let columns = shape.last().copied().unwrap_or(1);
    if !columns.is_multiple_of(format.block_len()) {
        return Err(refuse("the length of a row is not a multiple of the block of its type"));
    }
    let numbers = shape.iter().try_fold(1u64, |product, axis| product.checked_mul(*axis));
    numbers
        .and_then(|numbers| format.bytes(numbers))
        .ok_or_else(|| refuse("it is too large to be counted"))
}

fn check_overlaps(tensors: &BTreeMap<String, TensorInfo>) -> Result<(), Error> {
    let mut by_start: Vec<_> = tensors.iter().map(|(name, info)| (&info.range, name)).collect();
    by_start.sort_by_key(|(range, _)| range.start);
    for pair in by_start.windows(2) {
        if let [(first, first_name), (second, second_name)] = pair
            && second.start < first.end
        {
            return Err(Error::Overlap {
                first: shown::name(first_name),
                second: shown::name(second_name),
            });
        }
    }
    Ok(())
}
