//! Boxes as typed: `--box` and `--box-mm`.

use clap::Args;
use r1seg::volume::{Geometry, Region};

/// The part of the volume that a question is about.
#[derive(Debug, Args)]
#[command(next_help_heading = "Box")]
pub(crate) struct BoxArgs {
    /// Ask about this part of the volume: the first and the last voxel, both inside, as viewers show
    /// them (i, j, k from 0, in the order of the file).
    ///
    /// The model reads the box where the prompt says `{box}`, or at its end: "What is in the region
    /// {box}?". Only boxes that are given here reach the model as boxes.
    #[arg(
        long = "box",
        value_name = "I0,J0,K0,I1,J1,K1",
        allow_hyphen_values = true,
        value_parser = voxels
    )]
    pub(crate) voxels: Option<Region>,
    /// The same in mm, as viewers show positions (RAS+): the smallest and the largest corner.
    #[arg(
        long,
        value_name = "X0,Y0,Z0,X1,Y1,Z1",
        allow_hyphen_values = true,
        value_parser = millimeters,
        conflicts_with = "voxels"
    )]
    pub(crate) box_mm: Option<Millimeters>,
}

/// The smallest and the largest corner, RAS+.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Millimeters([[f64; 3]; 2]);

impl BoxArgs {
    /// The voxels of this volume that are meant.
    pub(crate) fn region(&self, geometry: &Geometry) -> Result<Option<Region>, r1seg::Error> {
        region(self.voxels, self.box_mm, geometry)
    }
}

/// The voxels of this volume that one of the two means.
pub(super) fn region(
    voxels: Option<Region>,
    box_mm: Option<Millimeters>,
    geometry: &Geometry,
) -> Result<Option<Region>, r1seg::Error> {
    if let Some(Millimeters(corners)) = box_mm {
        return Ok(Some(geometry.region_from_mm(corners)?));
    }
    if let Some(region) = voxels {
        geometry.check_region(region)?;
    }
    Ok(voxels)
}

pub(super) fn voxels(text: &str) -> Result<Region, String> {
    let numbers = six(text, |number| number.parse::<i64>().ok(), "a whole number")?;
    ordered(&numbers, "i", "j", "k")?;
    let index = |n: i64| {
        usize::try_from(n)
            .ok()
            .filter(|n| *n < usize::MAX)
            .ok_or_else(|| format!("{n} is not a voxel index: indices begin at 0"))
    };
    let [i0, j0, k0, i1, j1, k1] = numbers;
    let (start, last) =
        ([index(k0)?, index(j0)?, index(i0)?], [index(k1)?, index(j1)?, index(i1)?]);
    Ok(Region { start, end: last.map(|n| n + 1) })
}

pub(super) fn millimeters(text: &str) -> Result<Millimeters, String> {
    let finite = |number: &str| number.parse::<f64>().ok().filter(|n| n.is_finite());
    let numbers = six(text, finite, "a finite number")?;
    ordered(&numbers, "x", "y", "z")?;
    let [x0, y0, z0, x1, y1, z1] = numbers;
    Ok(Millimeters([[x0, y0, z0], [x1, y1, z1]]))
}

fn six<T: Copy>(
    text: &str,
    parse: impl Fn(&str) -> Option<T>,
    what: &str,
) -> Result<[T; 6], String> {
    let numbers: Vec<T> = text
        .split(',')
        .map(|part| parse(part.trim()).ok_or_else(|| format!("`{}` is not {what}", part.trim())))
        .collect::<Result<_, _>>()?;
    numbers.try_into().map_err(|given: Vec<T>| {
        format!("a box has six numbers, two corners of three; {} were given", given.len())
    })
}

fn ordered<T: PartialOrd + std::fmt::Display>(
    numbers: &[T; 6],
    a: &str,
    b: &str,
    c: &str,
) -> Result<(), String> {
    for (axis, name) in [a, b, c].into_iter().enumerate() {
        let (low, high) = (&numbers[axis], &numbers[axis + 3]);
        if high < low {
            return Err(format!(
                "the box is reversed: {name} runs from {low} to {high}; give the smaller corner first"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners_are_inside_and_in_the_order_of_the_file() {
        let region = Region { start: [3, 2, 1], end: [7, 6, 5] };
        assert_eq!(voxels("1,2,3,4,5,6"), Ok(region));
        assert_eq!(voxels(" 1, 2, 3, 4, 5, 6 "), Ok(region));
        let mm = millimeters("-1.5,2,3,4,5,6e1");
        assert_eq!(mm, Ok(Millimeters([[-1.5, 2.0, 3.0], [4.0, 5.0, 60.0]])));
    }

    #[test]
    fn what_is_no_box_is_told_apart() {
        for (text, says) in [
            ("1,2,3,4,5", "5 were given"),
            ("1,2,3,4,5,6,7", "7 were given"),
            ("", "`` is not a whole number"),
            ("1,2,3,4,5,6.5", "`6.5` is not a whole number"),
            ("1,2,3,4,nan,6", "`nan` is not a whole number"),
            ("-1,2,3,4,5,6", "-1 is not a voxel index"),
            ("1,2,3,4,1,6", "j runs from 2 to 1"),
            ("1,2,3,4,5,99999999999999999999", "is not a whole number"),
        ] {
            let error = voxels(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        for (text, says) in [
            ("1,2,3,4,5,inf", "`inf` is not a finite number"),
            ("1,2,3,4,NaN,6", "`NaN` is not a finite number"),
            ("1,2,3,0,5,6", "x runs from 1 to 0"),
        ] {
            let error = millimeters(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
