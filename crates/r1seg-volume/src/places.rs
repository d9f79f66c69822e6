//! Points and boxes of a volume, in voxels and in the world.

use crate::error::Detail;
use crate::{Error, Geometry, Region};

impl Geometry {
    /// Whether a box lies in the grid.
    ///
    /// # Errors
    /// `R-BOX-01` for one without voxels, and for one that leaves the grid.
    pub fn check_region(&self, region: Region) -> Result<(), Error> {
        let shape = self.shape();
        if (0..3).any(|axis| region.end[axis] <= region.start[axis]) {
            return Err(Detail::Box { message: "the box is empty or reversed".to_string() }.into());
        }
        if (0..3).any(|axis| shape[axis] < region.end[axis]) {
            let ([d, h, w], [k, j, i]) = (shape, region.end.map(|n| n.saturating_sub(1)));
            return Err(Detail::Box {
                message: format!(
                    "the box ends at voxel {i},{j},{k} (i, j, k), but the volume has {w} x {h} x {d}"
                ),
            }.into());
        }
        Ok(())
    }

    /// Whether a voxel lies in the grid.
    ///
    /// # Errors
    /// `R-PNT-01` for one that does not.
    pub fn check_voxel(&self, voxel @ [k, j, i]: [usize; 3]) -> Result<(), Error> {
        let shape @ [d, h, w] = self.shape();
        if (0..3).all(|axis| voxel[axis] < shape[axis]) {
            return Ok(());
        }
        Err(Detail::Point {
            message: format!(
                "the point is voxel {i},{j},{k} (i, j, k), but the volume has {w} x {h} x {d}"
            ),
        }
        .into())
    }

    /// Whether another grid is this one: of the same shape, and in the same place as far as both are
    /// known, to half a voxel.
    ///
    /// # Errors
    /// `R-GEO-02` or `R-GEO-15`.
    pub fn check_same_grid(&self, other: &Self) -> Result<(), Error> {
        if self.shape() != other.shape() {
            let (expected, got) = (self.shape(), other.shape());
            return Err(Detail::ShapeMismatch { expected, got }.into());
        }
        let Some(spacing) = self.spacing_mm() else { return Ok(()) };
        let most = spacing.into_iter().fold(f64::INFINITY, f64::min) / 2.0;
        for n in 0..8 {
            let corner: [usize; 3] =
                std::array::from_fn(|axis| (n >> axis & 1) * self.shape()[axis].saturating_sub(1));
            let [k, j, i] = corner.map(|n| n as f64);
            let places = self.world_mm([i, j, k]).zip(other.world_mm([i, j, k]));
            let Some((own, other)) = places else { return Ok(()) };
            let mm = (0..3).map(|n| (own[n] - other[n]).powi(2)).sum::<f64>().sqrt();
            if most < mm {
                return Err(Detail::OtherGrid { corner, mm }.into());
            }
        }
        Ok(())
    }

    /// The voxels between two corners in the world (RAS+ mm): those whose centers are nearest to the
    /// corners, and all between. On an oblique grid, all that the box in the world touches.
    ///
    /// # Errors
    /// `R-BOX-01` for corners that are not finite or reversed, without an affine, and where the
    /// volume has nothing of the box.
    pub fn region_from_mm(&self, [low, high]: [[f64; 3]; 2]) -> Result<Region, Error> {
        let wrong = |message: &str| Error::from(Detail::Box { message: message.to_string() });
        if low.iter().chain(&high).any(|mm| !mm.is_finite()) {
            return Err(wrong("the box has a corner that is not a finite number"));
        }
        if (0..3).any(|axis| high[axis] < low[axis]) {
            return Err(wrong("the box is reversed: each lower corner comes first"));
        }
        let (mut first, mut last) = ([f64::INFINITY; 3], [f64::NEG_INFINITY; 3]);
        for corner in 0..8 {
            let mm = std::array::from_fn(|axis| [low, high][corner >> axis & 1][axis]);
            let ijk = self.voxel_at_mm(mm).ok_or_else(|| {
                wrong("the volume has no affine, so that mm have no meaning in it")
            })?;
            for axis in 0..3 {
                first[axis] = first[axis].min(ijk[axis].round());
                last[axis] = last[axis].max(ijk[axis].round());
            }
        }
        let [d, h, w] = self.shape();
        let mut region = Region { start: [0; 3], end: [0; 3] };
        for (ijk, (axis, size)) in [(2, w), (1, h), (0, d)].into_iter().enumerate() {
            // Casts from float to integer saturate.
            let (low, high) = (first[ijk].max(0.0), last[ijk].min(size as f64 - 1.0));
            if high < low {
                return Err(wrong("the box lies outside of the volume"));
            }
            (region.start[axis], region.end[axis]) = (low as usize, high as usize + 1);
        }
        Ok(region)
    }

    /// The smallest and the largest corner in the world (RAS+ mm) of the centers of a box's voxels;
    /// `None` without an affine.
    pub fn region_to_mm(&self, region: Region) -> Option<[[f64; 3]; 2]> {
        let (mut low, mut high) = ([f64::INFINITY; 3], [f64::NEG_INFINITY; 3]);
        for corner in 0..8 {
            // i, j, k are W, H, D.
            let ijk = [2, 1, 0].map(|axis: usize| match corner >> axis & 1 {
                0 => region.start[axis] as f64,
                _ => region.end[axis] as f64 - 1.0,
            });
            let mm = self.world_mm(ijk)?;
            for axis in 0..3 {
                low[axis] = low[axis].min(mm[axis]);
                high[axis] = high[axis].max(mm[axis]);
            }
        }
        Some([low, high])
    }

    /// The voxel, `[D, H, W]`, that a point in the world (RAS+ mm) lies in.
    ///
    /// # Errors
    /// `R-PNT-01` for a point that is not finite or outside, and without an affine.
    pub fn voxel_from_mm(&self, mm: [f64; 3]) -> Result<[usize; 3], Error> {
        let wrong = |message: String| Error::from(Detail::Point { message });
        if mm.iter().any(|mm| !mm.is_finite()) {
            return Err(wrong("the point is not finite".to_string()));
        }
        let ijk = self.voxel_at_mm(mm).ok_or_else(|| {
            wrong("the volume has no affine, so that mm have no meaning in it".to_string())
        })?;
        let [d, h, w] = self.shape();
        let mut voxel = [0; 3];
        for (axis, (at, size)) in [(ijk[2], d), (ijk[1], h), (ijk[0], w)].into_iter().enumerate() {
            let at = at.round();
            if !(0.0 <= at && at < size as f64) {
                let [x, y, z] = mm;
                return Err(wrong(format!(
                    "the point {x},{y},{z} mm (RAS+) lies outside of the volume"
                )));
            }
            // Casts from float to integer saturate.
            voxel[axis] = at as usize;
        }
        Ok(voxel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(start: [usize; 3], end: [usize; 3]) -> Region {
        Region { start, end }
    }

    /// 2 x 3 x 4 mm along i, j, k; i runs to the left.
    fn straight() -> Geometry {
        let affine = [
            [-2.0, 0.0, 0.0, 50.0],
            [0.0, 3.0, 0.0, -20.0],
            [0.0, 0.0, 4.0, 7.0],
            [0.0, 0.0, 0.0, 1.0],
        ];
        Geometry::with_affine([10, 20, 30], affine).unwrap()
    }

    /// The same grid, turned by 30 degrees about k.
    fn oblique() -> Geometry {
        let (sin, cos) = 30_f64.to_radians().sin_cos();
        let affine = [
            [-2.0 * cos, -3.0 * sin, 0.0, 50.0],
            [-2.0 * sin, 3.0 * cos, 0.0, -20.0],
            [0.0, 0.0, 4.0, 7.0],
            [0.0, 0.0, 0.0, 1.0],
        ];
        Geometry::with_affine([10, 20, 30], affine).unwrap()
    }

    #[test]
    fn mm_and_voxels_are_two_names_of_a_box() {
        let given = region([1, 2, 3], [4, 6, 9]);
        let mm = straight().region_to_mm(given).unwrap();
        assert_eq!(mm, [[34.0, -14.0, 11.0], [44.0, -5.0, 19.0]]);
        assert_eq!(straight().region_from_mm(mm).unwrap(), given);
    }

    #[test]
    fn a_box_in_an_oblique_world_holds_all_that_it_touches() {
        let given = region([1, 6, 8], [4, 9, 12]);
        let mm = oblique().region_to_mm(given).unwrap();
        let back = oblique().region_from_mm(mm).unwrap();
        assert!((0..3).all(|n| back.start[n] <= given.start[n] && given.end[n] <= back.end[n]));
        let center = oblique().world_mm([9.0, 7.0, 2.0]).unwrap();
        let voxel = oblique().region_from_mm([center, center]).unwrap();
        assert_eq!(voxel, region([2, 7, 9], [3, 8, 10]));
    }

    #[test]
    fn another_grid_is_told_by_its_shape_or_by_how_far_away_it_lies() {
        let own = oblique();
        let affine = |shift: f64| {
            let mut affine = *own.affine().unwrap();
            affine[2][3] += shift;
            Geometry::with_affine([10, 20, 30], affine).unwrap()
        };
        assert!(own.check_same_grid(&affine(0.9)).is_ok());
        let error = own.check_same_grid(&affine(1.1)).unwrap_err();
        assert_eq!(error.code(), "R-GEO-15");
        assert!(error.to_string().contains("1.1 mm away"), "{error}");
        let bare = Geometry::without_affine([10, 20, 30]);
        assert!(own.check_same_grid(&bare).is_ok() && bare.check_same_grid(&own).is_ok());
        let other = Geometry::without_affine([10, 20, 31]);
        assert_eq!(own.check_same_grid(&other).unwrap_err().code(), "R-GEO-02");
    }

    #[test]
    fn bad_boxes_are_told_apart() {
        let says = |error: Error| (error.code(), error.to_string());
        let bare = Geometry::without_affine([10, 20, 30]);
        let voxels = |start, end| says(bare.check_region(region(start, end)).unwrap_err());
        let (code, text) = voxels([0, 0, 0], [10, 20, 31]);
        assert_eq!((code, text.contains("30 x 20 x 10")), ("R-BOX-01", true), "{text}");
        assert!(voxels([5, 0, 0], [5, 1, 1]).1.contains("empty or reversed"));
        assert!(bare.check_region(region([0; 3], [10, 20, 30])).is_ok());

        let mm = |geometry: &Geometry, low, high| {
            says(geometry.region_from_mm([low, high]).unwrap_err()).1
        };
        assert!(mm(&bare, [0.0; 3], [1.0; 3]).contains("no affine"));
        assert!(mm(&oblique(), [f64::NAN; 3], [1.0; 3]).contains("finite"));
        assert!(mm(&oblique(), [2.0; 3], [1.0; 3]).contains("reversed"));
        assert!(mm(&oblique(), [1e6; 3], [2e6; 3]).contains("outside"));
    }

    #[test]
    fn a_point_in_mm_is_the_voxel_that_it_lies_in() {
        let geometry = straight();
        assert_eq!(geometry.voxel_from_mm([44.9, -14.0, 12.0]).unwrap(), [1, 2, 3]);
        assert_eq!(geometry.voxel_from_mm([50.9, -21.0, 5.1]).unwrap(), [0, 0, 0]);
        for (mm, says) in [
            ([52.0, -14.0, 12.0], "outside"),
            ([1e300, 0.0, 0.0], "outside"),
            ([f64::NAN, 0.0, 0.0], "finite"),
        ] {
            let error = geometry.voxel_from_mm(mm).unwrap_err();
            assert!(error.code() == "R-PNT-01" && error.to_string().contains(says), "{error}");
        }
        let bare = Geometry::without_affine([10, 20, 30]);
        assert!(bare.voxel_from_mm([0.0; 3]).unwrap_err().to_string().contains("no affine"));
        let error = bare.check_voxel([9, 20, 29]).unwrap_err().to_string();
        assert!(error.contains("29,20,9") && error.contains("30 x 20 x 10"), "{error}");
        assert!(bare.check_voxel([9, 19, 29]).is_ok());
    }
}
