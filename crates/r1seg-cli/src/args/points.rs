//! Points as typed: three numbers and a sign.

/// A point as typed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point<T> {
    pub(super) at: [T; 3],
    pub(super) positive: bool,
}

/// `[D, H, W]` of i, j, k. A point before the first voxel is as far outside as any.
pub(super) fn voxel([i, j, k]: [i64; 3]) -> [usize; 3] {
    [k, j, i].map(|n| usize::try_from(n).unwrap_or(usize::MAX))
}

pub(super) fn center_voxel(text: &str) -> Result<Point<i64>, String> {
    match text.contains(':') {
        true => Err("a center has no sign".to_owned()),
        false => point_voxels(text),
    }
}

pub(super) fn point_voxels(text: &str) -> Result<Point<i64>, String> {
    let point = point(text, |number| number.parse::<i64>().ok(), "a whole number")?;
    match point.at.iter().find(|n| **n < 0) {
        Some(n) => Err(format!("{n} is not a voxel index: indices begin at 0")),
        None => Ok(point),
    }
}

pub(super) fn point_millimeters(text: &str) -> Result<Point<f64>, String> {
    let finite = |number: &str| number.parse::<f64>().ok().filter(|n| n.is_finite());
    point(text, finite, "a finite number")
}

fn point<T: Copy>(
    text: &str,
    parse: impl Fn(&str) -> Option<T>,
    what: &str,
) -> Result<Point<T>, String> {
    let (numbers, positive) = match text.rsplit_once(':') {
        None => (text, true),
        Some((numbers, "pos")) => (numbers, true),
        Some((numbers, "neg")) => (numbers, false),
        Some((_, sign)) => return Err(format!("`{sign}` is neither pos nor neg")),
    };
    let numbers: Vec<T> = numbers
        .split(',')
        .map(|part| parse(part.trim()).ok_or_else(|| format!("`{}` is not {what}", part.trim())))
        .collect::<Result<_, _>>()?;
    let at = numbers.try_into().map_err(|given: Vec<T>| {
        format!("a point has three numbers; {} were given", given.len())
    })?;
    Ok(Point { at, positive })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_have_three_numbers_and_a_sign() {
        assert_eq!(point_voxels("1,2,3"), Ok(Point { at: [1, 2, 3], positive: true }));
        assert_eq!(point_voxels("1, 2, 3:pos"), Ok(Point { at: [1, 2, 3], positive: true }));
        assert_eq!(point_voxels("1,2,3:neg"), Ok(Point { at: [1, 2, 3], positive: false }));
        let mm = point_millimeters("-1.5,2,3e1:neg");
        assert_eq!(mm, Ok(Point { at: [-1.5, 2.0, 30.0], positive: false }));
        for (text, says) in [
            ("1,2", "2 were given"),
            ("1,2,3,4", "4 were given"),
            ("", "`` is not a whole number"),
            ("1,2,x", "`x` is not a whole number"),
            ("1,2,3.5", "`3.5` is not a whole number"),
            ("-1,2,3", "-1 is not a voxel index"),
            ("1,2,3:maybe", "`maybe` is neither pos nor neg"),
            ("1,2,3:", "`` is neither"),
        ] {
            let error = point_voxels(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert!(point_millimeters("1,2,nan").unwrap_err().contains("finite"));
        assert!(center_voxel("1,2,3:neg").is_err());
    }
}
