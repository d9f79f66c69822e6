//! Whether two grids are the same.

use r1seg::volume::Geometry;
use r1seg_results::inspection::join;
use r1seg_results::report::ijk;

/// Headers round positions: grids that are no farther apart than this share of a voxel are the same.
const TOLERANCE: f64 = 0.02;

/// How two grids lie to each other.
#[derive(Debug, PartialEq)]
pub(crate) enum Grids {
    Same,
    /// As many voxels; where one of them lies is not known.
    OneUnplaced,
    /// In words.
    Different(String),
}

/// Compares the voxels of both, and the positions of the corners of the grids.
pub(crate) fn compare(a: &Geometry, b: &Geometry) -> Grids {
    if a.shape() != b.shape() {
        return Grids::Different(format!("A is {}, B is {}", described(a), described(b)));
    }
    let (Some(a_mm), Some(b_mm)) = (a.spacing_mm(), b.spacing_mm()) else {
        return match a.affine().is_some() || b.affine().is_some() {
            true => Grids::OneUnplaced,
            false => Grids::Same,
        };
    };
    let least = a_mm.into_iter().chain(b_mm).fold(f64::INFINITY, f64::min);
    let [d, h, w] = a.shape().map(|size| size.saturating_sub(1) as f64);
    let mut apart = 0.0_f64;
    for corner in 0..8 {
        let at = |axis: usize, last: f64| if corner >> axis & 1 == 1 { last } else { 0.0 };
        let place = [at(0, w), at(1, h), at(2, d)];
        if let (Some(a), Some(b)) = (a.world_mm(place), b.world_mm(place)) {
            let squared: f64 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
            apart = apart.max(squared.sqrt());
        }
    }
    if apart <= TOLERANCE * least {
        return Grids::Same;
    }
    let (of_a, of_b) = (described(a), described(b));
    let what = match of_a == of_b {
        true => format!("both are {of_a}, but their voxels lie up to {apart:.2} mm apart"),
        false => format!("A is {of_a}, B is {of_b}"),
    };
    Grids::Different(what)
}

/// `122 x 101 x 30 voxels of 3 x 3 x 3 mm, RAS`.
pub(super) fn described(geometry: &Geometry) -> String {
    let voxels = join(ijk(geometry.shape()).map(|n| n as f64));
    let mm = geometry.spacing_mm().map(|mm| format!(" of {} mm", join(ijk(mm))));
    let orientation = geometry.orientation().map(|orientation| format!(", {orientation}"));
    let (mm, orientation) = (mm.unwrap_or_default(), orientation.unwrap_or_default());
    format!("{voxels} voxels{mm}{orientation}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_are_the_same_within_the_rounding_of_headers() {
        let a = Geometry::with_spacing([4, 5, 6], [2.0, 0.7, 0.7]).unwrap();
        let nearly = Geometry::with_spacing([4, 5, 6], [2.0001, 0.7, 0.7]).unwrap();
        assert_eq!(compare(&a, &nearly), Grids::Same);
        let other = Geometry::with_spacing([4, 5, 6], [2.5, 0.7, 0.7]).unwrap();
        let Grids::Different(what) = compare(&a, &other) else { panic!() };
        assert_eq!(
            what,
            "A is 6 x 5 x 4 voxels of 0.7 x 0.7 x 2 mm, RAS, B is 6 x 5 x 4 voxels of 0.7 x 0.7 x 2.5 \
             mm, RAS"
        );
        let none = Geometry::without_affine([4, 5, 6]);
        assert_eq!((compare(&a, &none), compare(&none, &none)), (Grids::OneUnplaced, Grids::Same));
        assert!(matches!(compare(&none, &Geometry::without_affine([4; 3])), Grids::Different(_)));
    }

    #[test]
    fn a_grid_that_is_moved_is_another_one() {
        let a = Geometry::with_spacing([4, 5, 6], [2.0, 0.7, 0.7]).unwrap();
        let mut affine = *a.affine().unwrap();
        affine[0][3] = 3.5;
        let moved = Geometry::with_affine([4, 5, 6], affine).unwrap();
        let Grids::Different(what) = compare(&a, &moved) else { panic!() };
        assert!(what.contains("up to 3.50 mm apart"), "{what}");
    }
}
