/// How ggml stores the numbers of a tensor: in blocks along a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, non_camel_case_types, reason = "ggml's own names")]
#[non_exhaustive]
pub enum GgmlType {
    F32,
    F16,
    Bf16,
    F64,
    I8,
    I16,
    I32,
    I64,
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
}

/// Type, its number in files, its name, numbers and bytes of a block (ggml.h, ggml-common.h).
const TABLE: [(GgmlType, u32, &str, u64, u64); 20] = [
    (GgmlType::F32, 0, "f32", 1, 4),
    (GgmlType::F16, 1, "f16", 1, 2),
    (GgmlType::Q4_0, 2, "q4_0", 32, 18),
    (GgmlType::Q4_1, 3, "q4_1", 32, 20),
    (GgmlType::Q5_0, 6, "q5_0", 32, 22),
    (GgmlType::Q5_1, 7, "q5_1", 32, 24),
    (GgmlType::Q8_0, 8, "q8_0", 32, 34),
    (GgmlType::Q8_1, 9, "q8_1", 32, 36),
    (GgmlType::Q2K, 10, "q2k", 256, 84),
    (GgmlType::Q3K, 11, "q3k", 256, 110),
    (GgmlType::Q4K, 12, "q4k", 256, 144),
    (GgmlType::Q5K, 13, "q5k", 256, 176),
    (GgmlType::Q6K, 14, "q6k", 256, 210),
    (GgmlType::Q8K, 15, "q8k", 256, 292),
    (GgmlType::I8, 24, "i8", 1, 1),
    (GgmlType::I16, 25, "i16", 1, 2),
    (GgmlType::I32, 26, "i32", 1, 4),
    (GgmlType::I64, 27, "i64", 1, 8),
    (GgmlType::F64, 28, "f64", 1, 8),
    (GgmlType::Bf16, 30, "bf16", 1, 2),
];

impl GgmlType {
    /// The type of a number in a file. `None` for those that r1seg does not know.
    pub fn from_number(number: u32) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == number).map(|row| row.0)
    }

    /// The type of a name, as [`GgmlType::name`] gives it.
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.2 == name).map(|row| row.0)
    }

    fn row(self) -> (u32, &'static str, u64, u64) {
        let known = TABLE.iter().find(|row| row.0 == self);
        // Every variant is in the table; a test holds it.
        known.map_or((u32::MAX, "unknown", 1, 1), |row| (row.1, row.2, row.3, row.4))
    }

    /// The number that files have for it.
    pub fn number(self) -> u32 {
        self.row().0
    }

    /// Its name, in lower case: `q4k`, `bf16`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Numbers of a block. The width of a row is a multiple of it.
    pub fn block_len(self) -> u64 {
        self.row().2
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> u64 {
        self.row().3
    }

    /// Bytes of `numbers` numbers. `None` if they are no whole blocks or too many to be counted.
    pub fn bytes(self, numbers: u64) -> Option<u64> {
        let (_, _, block_len, block_bytes) = self.row();
        let blocks = numbers.is_multiple_of(block_len).then_some(numbers / block_len)?;
        blocks.checked_mul(block_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_names_and_numbers_are_those_of_candle() {
        use candle_core::quantized::GgmlDType as C;
        for (ours, theirs) in [
            (GgmlType::F32, C::F32),
            (GgmlType::F16, C::F16),
            (GgmlType::Bf16, C::BF16),
            (GgmlType::Q4_0, C::Q4_0),
            (GgmlType::Q4_1, C::Q4_1),
            (GgmlType::Q5_0, C::Q5_0),
            (GgmlType::Q5_1, C::Q5_1),
            (GgmlType::Q8_0, C::Q8_0),
            (GgmlType::Q8_1, C::Q8_1),
            (GgmlType::Q2K, C::Q2K),
            (GgmlType::Q3K, C::Q3K),
            (GgmlType::Q4K, C::Q4K),
            (GgmlType::Q5K, C::Q5K),
            (GgmlType::Q6K, C::Q6K),
            (GgmlType::Q8K, C::Q8K),
        ] {
            assert_eq!(ours.block_len(), theirs.block_size() as u64, "{ours:?}");
            assert_eq!(ours.block_bytes(), theirs.type_size() as u64, "{ours:?}");
        }
        for (i, row) in TABLE.iter().enumerate() {
            assert_eq!(GgmlType::from_number(row.1), Some(row.0));
            assert_eq!(GgmlType::from_name(row.2), Some(row.0));
            assert_eq!(row.0.number(), row.1);
            assert!(TABLE[..i].iter().all(|other| other.0 != row.0));
        }
        // The last variant: every variant has its row.
        assert_eq!(GgmlType::Q8K as usize + 1, TABLE.len());
    }
}
