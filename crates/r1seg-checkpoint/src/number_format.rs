use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// How the numbers of a tensor are stored, whichever kind of file holds it.
///
/// Plain formats have a width of their own for each number. Formats of ggml pack a block of numbers
/// of a row together with their scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, non_camel_case_types, reason = "the usual names, and ggml's own")]
#[non_exhaustive]
pub enum NumberFormat {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q8_1,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Q8K,
    C64,
    F8E4M3,
    F8E4M3Fnuz,
    F8E5M2,
    F8E5M2Fnuz,
    F8E8M0,
    F6E2M3,
    F6E3M2,
    F4,
}

/// Format, name, numbers and bytes of a block (ggml.h, ggml-common.h; the names of safetensors).
const TABLE: [(NumberFormat, &str, u64, u64); 34] = [
    (NumberFormat::F64, "f64", 1, 8),
    (NumberFormat::F32, "f32", 1, 4),
    (NumberFormat::F16, "f16", 1, 2),
    (NumberFormat::Bf16, "bf16", 1, 2),
    (NumberFormat::I64, "i64", 1, 8),
    (NumberFormat::I32, "i32", 1, 4),
    (NumberFormat::I16, "i16", 1, 2),
    (NumberFormat::I8, "i8", 1, 1),
    (NumberFormat::U64, "u64", 1, 8),
    (NumberFormat::U32, "u32", 1, 4),
    (NumberFormat::U16, "u16", 1, 2),
    (NumberFormat::U8, "u8", 1, 1),
    (NumberFormat::Bool, "bool", 1, 1),
    (NumberFormat::Q4_0, "q4_0", 32, 18),
    (NumberFormat::Q4_1, "q4_1", 32, 20),
    (NumberFormat::Q5_0, "q5_0", 32, 22),
    (NumberFormat::Q5_1, "q5_1", 32, 24),
    (NumberFormat::Q8_0, "q8_0", 32, 34),
    (NumberFormat::Q8_1, "q8_1", 32, 36),
    (NumberFormat::Q2K, "q2k", 256, 84),
    (NumberFormat::Q3K, "q3k", 256, 110),
    (NumberFormat::Q4K, "q4k", 256, 144),
    (NumberFormat::Q5K, "q5k", 256, 176),
    (NumberFormat::Q6K, "q6k", 256, 210),
    (NumberFormat::Q8K, "q8k", 256, 292),
    (NumberFormat::C64, "c64", 1, 8),
    (NumberFormat::F8E4M3, "f8_e4m3", 1, 1),
    (NumberFormat::F8E4M3Fnuz, "f8_e4m3fnuz", 1, 1),
    (NumberFormat::F8E5M2, "f8_e5m2", 1, 1),
    (NumberFormat::F8E5M2Fnuz, "f8_e5m2fnuz", 1, 1),
    (NumberFormat::F8E8M0, "f8_e8m0", 1, 1),
    (NumberFormat::F6E2M3, "f6_e2m3", 4, 3),
    (NumberFormat::F6E3M2, "f6_e3m2", 4, 3),
    (NumberFormat::F4, "f4", 2, 1),
];

impl NumberFormat {
    /// The format of this name, as [`NumberFormat::name`] gives it.
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    fn row(self) -> (&'static str, u64, u64) {
        let known = TABLE.iter().find(|row| row.0 == self);
        // Every variant is in the table; a test holds it.
        known.map_or(("unknown", 1, 1), |row| (row.1, row.2, row.3))
    }

    /// Its name, in lower case: `q4k`, `bf16`.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// Numbers per block, 1 for plain formats. The width of a row is a multiple of it.
    pub fn block_len(self) -> u64 {
        self.row().1
    }

    /// Bytes per block, of a plain format those of one number.
    pub fn block_bytes(self) -> u64 {
        self.row().2
    }

    /// Bytes of `numbers` numbers. `None` if they do not fill whole blocks or are too many to be counted.
    pub fn bytes(self, numbers: u64) -> Option<u64> {
        let (_, block_len, block_bytes) = self.row();
        let blocks = numbers.is_multiple_of(block_len).then_some(numbers / block_len)?;
        blocks.checked_mul(block_bytes)
    }

    /// Bytes of one number of a plain format, bytes of a block otherwise.
    pub fn size(self) -> usize {
        usize::try_from(self.block_bytes()).unwrap_or(usize::MAX)
    }

    /// Whether each number has a whole number of bytes of its own.
    pub fn is_plain(self) -> bool {
        self.block_len() == 1
    }

    /// Whether it is one of the four floating-point formats that weights are published and
    /// converted in.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::Bf16)
    }
}

impl fmt::Display for NumberFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for NumberFormat {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for NumberFormat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::from_name(&name).ok_or_else(|| de::Error::custom("an unknown number format"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_those_of_candle() {
        use NumberFormat as N;
        use candle_core::quantized::GgmlDType as C;
        for (ours, theirs) in [
            (N::F32, C::F32),
            (N::F16, C::F16),
            (N::Bf16, C::BF16),
            (N::Q4_0, C::Q4_0),
            (N::Q4_1, C::Q4_1),
            (N::Q5_0, C::Q5_0),
            (N::Q5_1, C::Q5_1),
            (N::Q8_0, C::Q8_0),
            (N::Q8_1, C::Q8_1),
            (N::Q2K, C::Q2K),
            (N::Q3K, C::Q3K),
            (N::Q4K, C::Q4K),
            (N::Q5K, C::Q5K),
            (N::Q6K, C::Q6K),
            (N::Q8K, C::Q8K),
        ] {
            assert_eq!(ours.block_len(), theirs.block_size() as u64, "{ours:?}");
            assert_eq!(ours.block_bytes(), theirs.type_size() as u64, "{ours:?}");
        }
    }

    #[test]
    fn every_format_has_one_name_that_json_keeps() {
        for (i, row) in TABLE.iter().enumerate() {
            assert_eq!(NumberFormat::from_name(row.1), Some(row.0));
            assert!(TABLE[..i].iter().all(|other| other.0 != row.0));
            let json = serde_json::to_string(&row.0).unwrap();
            assert_eq!(json, format!("\"{}\"", row.1));
            assert_eq!(serde_json::from_str::<NumberFormat>(&json).unwrap(), row.0);
        }
        // The last variant: every variant has its row.
        assert_eq!(NumberFormat::F4 as usize + 1, TABLE.len());
        assert!(serde_json::from_str::<NumberFormat>("\"f7\"").is_err());
    }

    #[test]
    fn bytes_are_counted_in_whole_blocks() {
        assert_eq!(NumberFormat::Q4K.bytes(512), Some(288));
        assert_eq!(NumberFormat::Q4K.bytes(500), None);
        assert_eq!(NumberFormat::F4.bytes(6), Some(3));
        assert_eq!(NumberFormat::F64.bytes(u64::MAX), None);
    }
}
