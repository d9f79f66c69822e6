//! The numbers that GGUF files have for number formats (ggml.h).

use crate::NumberFormat;

const NUMBERS: [(NumberFormat, u32); 20] = [
    (NumberFormat::F32, 0),
    (NumberFormat::F16, 1),
    (NumberFormat::Q4_0, 2),
    (NumberFormat::Q4_1, 3),
    (NumberFormat::Q5_0, 6),
    (NumberFormat::Q5_1, 7),
    (NumberFormat::Q8_0, 8),
    (NumberFormat::Q8_1, 9),
    (NumberFormat::Q2K, 10),
    (NumberFormat::Q3K, 11),
    (NumberFormat::Q4K, 12),
    (NumberFormat::Q5K, 13),
    (NumberFormat::Q6K, 14),
    (NumberFormat::Q8K, 15),
    (NumberFormat::I8, 24),
    (NumberFormat::I16, 25),
    (NumberFormat::I32, 26),
    (NumberFormat::I64, 27),
    (NumberFormat::F64, 28),
    (NumberFormat::Bf16, 30),
];

/// The format of a number in a file. `None` for those that r1seg does not know.
pub(super) fn from_number(number: u32) -> Option<NumberFormat> {
    NUMBERS.iter().find(|row| row.1 == number).map(|row| row.0)
}

/// The number of a format. `None` for those that ggml does not have.
pub(super) fn to_number(format: NumberFormat) -> Option<u32> {
    NUMBERS.iter().find(|row| row.0 == format).map(|row| row.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_goes_there_and_back() {
        for (format, number) in NUMBERS {
            assert_eq!((from_number(number), to_number(format)), (Some(format), Some(number)));
        }
        assert_eq!((from_number(4), to_number(NumberFormat::Bool)), (None, None));
    }
}
