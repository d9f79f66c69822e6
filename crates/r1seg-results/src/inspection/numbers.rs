//! Numbers as a person reads them.

/// `48 x 40 x 24`.
pub fn join(numbers: [f64; 3]) -> String {
    numbers.map(number).join(" x ")
}

/// A number with the digits that a reader needs.
pub fn number(value: impl Into<f64>) -> String {
    let value = value.into();
    let size = value.abs();
    if value.fract() == 0.0 && size < 1e15 {
        return format!("{:.0}", value + 0.0);
    }
    if !(1e-3..1e7).contains(&size) {
        return format!("{value:.3e}");
    }
    let decimals = match size {
        100.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (-1024.0, "-1024"),
            (-412.34, "-412.3"),
            (0.9765625, "0.977"),
            (1.25, "1.25"),
            (5.0, "5"),
            (11.5625, "11.56"),
            (4.9999, "5"),
            (2.5e-7, "2.500e-7"),
            (2.2066, "2.21"),
            (1.5e300, "1.500e300"),
            (16777216.5, "1.678e7"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
