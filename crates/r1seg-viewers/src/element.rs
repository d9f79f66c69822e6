/// What the numbers of an array are; little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum ElementType {
    Bool,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F16,
    F32,
    F64,
}

/// Every type with numpy's short and long name.
const NAMES: [(ElementType, &str, &str); 12] = [
    (ElementType::Bool, "|b1", "bool"),
    (ElementType::U8, "|u1", "uint8"),
    (ElementType::I8, "|i1", "int8"),
    (ElementType::U16, "<u2", "uint16"),
    (ElementType::I16, "<i2", "int16"),
    (ElementType::U32, "<u4", "uint32"),
    (ElementType::I32, "<i4", "int32"),
    (ElementType::U64, "<u8", "uint64"),
    (ElementType::I64, "<i8", "int64"),
    (ElementType::F16, "<f2", "float16"),
    (ElementType::F32, "<f4", "float32"),
    (ElementType::F64, "<f8", "float64"),
];

impl ElementType {
    /// Bytes per element.
    pub fn size(self) -> usize {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 | Self::F16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// Whether the numbers are truth values or whole.
    pub fn is_whole(self) -> bool {
        !matches!(self, Self::F16 | Self::F32 | Self::F64)
    }

    /// numpy's name with the byte order, such as `<f4`: that of VoxTell's framing and of `.npy` files.
    pub fn descr(self) -> &'static str {
        NAMES.iter().find(|row| row.0 == self).map_or("", |row| row.1)
    }

    /// numpy's name without it, such as `float32`: that of nnInteractive's framing.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|row| row.0 == self).map_or("", |row| row.2)
    }

    /// The type that numpy calls so with the byte order; `None` for others, big-endian ones among them.
    pub fn from_descr(descr: &str) -> Option<Self> {
        NAMES.iter().find(|row| row.1 == descr).map(|row| row.0)
    }

    /// The type that numpy calls so.
    pub fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|row| row.2 == name).map(|row| row.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_names_lead_back_to_the_type() {
        for (element, ..) in NAMES {
            assert_eq!(ElementType::from_descr(element.descr()), Some(element));
            assert_eq!(ElementType::from_name(element.name()), Some(element));
            assert!(element.descr().ends_with(&element.size().to_string()));
        }
        assert_eq!(ElementType::from_descr(">i2"), None);
        assert_eq!(ElementType::from_name("complex64"), None);
    }
}
