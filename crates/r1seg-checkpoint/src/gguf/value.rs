/// A metadata value, in the type that it is stored in.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "GGUF's own types")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    /// A list, not taken apart: a vocabulary as a list of strings would take many times its bytes.
    Array {
        of: ValueType,
        len: u64,
        /// The elements as they lie in the file.
        bytes: Vec<u8>,
    },
    U64(u64),
    I64(i64),
    F64(f64),
}

/// The type of a [`Value`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "GGUF's own types")]
pub enum ValueType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl ValueType {
    /// All types, each at the index that is its number in files.
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::String,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    pub(crate) fn from_number(number: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    pub(crate) fn number(self) -> u32 {
        self as u32
    }

    /// Bytes of a value, if all have as many.
    pub(crate) fn size(self) -> Option<u64> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::String | Self::Array => None,
        }
    }
}

impl Value {
    /// Its type.
    pub fn value_type(&self) -> ValueType {
        match self {
            Self::U8(_) => ValueType::U8,
            Self::I8(_) => ValueType::I8,
            Self::U16(_) => ValueType::U16,
            Self::I16(_) => ValueType::I16,
            Self::U32(_) => ValueType::U32,
            Self::I32(_) => ValueType::I32,
            Self::F32(_) => ValueType::F32,
            Self::Bool(_) => ValueType::Bool,
            Self::String(_) => ValueType::String,
            Self::Array { .. } => ValueType::Array,
            Self::U64(_) => ValueType::U64,
            Self::I64(_) => ValueType::I64,
            Self::F64(_) => ValueType::F64,
        }
    }

    /// An integer of any width that is not negative.
    pub fn to_u64(&self) -> Option<u64> {
        match self {
            Self::U8(n) => Some(u64::from(*n)),
            Self::U16(n) => Some(u64::from(*n)),
            Self::U32(n) => Some(u64::from(*n)),
            Self::U64(n) => Some(*n),
            Self::I8(n) => u64::try_from(*n).ok(),
            Self::I16(n) => u64::try_from(*n).ok(),
            Self::I32(n) => u64::try_from(*n).ok(),
            Self::I64(n) => u64::try_from(*n).ok(),
            _ => None,
        }
    }

    /// A float of either width.
    pub fn to_f64(&self) -> Option<f64> {
        match self {
            Self::F32(x) => Some(f64::from(*x)),
            Self::F64(x) => Some(*x),
            _ => None,
        }
    }

    /// Appends it as it lies in a file, without its type.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::U8(n) => out.push(*n),
            Self::I8(n) => out.extend(n.to_le_bytes()),
            Self::U16(n) => out.extend(n.to_le_bytes()),
            Self::I16(n) => out.extend(n.to_le_bytes()),
            Self::U32(n) => out.extend(n.to_le_bytes()),
            Self::I32(n) => out.extend(n.to_le_bytes()),
            Self::F32(x) => out.extend(x.to_le_bytes()),
            Self::Bool(b) => out.push(u8::from(*b)),
            Self::String(text) => write_string(text, out),
            Self::Array { of, len, bytes } => {
                out.extend(of.number().to_le_bytes());
                out.extend(len.to_le_bytes());
                out.extend(bytes);
            }
            Self::U64(n) => out.extend(n.to_le_bytes()),
            Self::I64(n) => out.extend(n.to_le_bytes()),
            Self::F64(x) => out.extend(x.to_le_bytes()),
        }
    }
}

pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}
