use crate::affine::{self, Affine};
use crate::error::Detail;
use crate::io::ArrayAxes;
use crate::io::nifti::NiftiFields;
use crate::{Error, Orientation};

/// Where a [`Geometry`]'s affine comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AffineSource {
    /// The NIfTI sform rows.
    Sform,
    /// The NIfTI qform quaternion.
    Qform,
    /// A guess from the NIfTI voxel sizes alone, since neither sform nor qform is set.
    Pixdim,
    /// Position, orientation and spacing of DICOM slices.
    Dicom,
    /// Space directions and origin of NRRD.
    Nrrd,
    /// Given by the caller, not by the file.
    Given,
    /// There is no affine.
    None,
}

impl AffineSource {
    /// `sform`, `qform`, `pixdim`, `dicom`, `nrrd`, `given` or `none`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sform => "sform",
            Self::Qform => "qform",
            Self::Pixdim => "pixdim",
            Self::Dicom => "dicom",
            Self::Nrrd => "nrrd",
            Self::Given => "given",
            Self::None => "none",
        }
    }
}

/// The grid of a volume and its place in the world.
///
/// Axes are `[D, H, W]`, slowest first; D is the file's k, H its j and W its i. World coordinates
/// are RAS+ millimeters. A geometry also keeps the NIfTI fields that a mask's header must repeat
/// bit for bit, so that viewers lay the mask over its volume.
#[derive(Debug, Clone, PartialEq)]
pub struct Geometry {
    shape: [usize; 3],
    affine: Option<Affine>,
    source: AffineSource,
    nifti: Option<NiftiFields>,
    array: ArrayLayout,
    guessed_sides: bool,
}

/// How a bare array lay, so that a mask of it is written alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ArrayLayout {
    pub(crate) leading_axis: bool,
    pub(crate) axes: ArrayAxes,
}

impl Geometry {
    /// A grid of `shape` (`[D, H, W]`) whose place in the world is not known.
    pub fn without_affine(shape: [usize; 3]) -> Self {
        Self {
            shape,
            affine: None,
            source: AffineSource::None,
            nifti: None,
            array: ArrayLayout::default(),
            guessed_sides: false,
        }
    }

    /// A grid of `shape` with voxels of `spacing_mm` (both `[D, H, W]`), its first voxel at the
    /// world origin, i to the right, j to the front, k upwards.
    ///
    /// # Errors
    /// `R-GEO-03` if a spacing is not finite and positive.
    pub fn with_spacing(shape: [usize; 3], spacing_mm: [f64; 3]) -> Result<Self, Error> {
        if spacing_mm.iter().any(|mm| !(mm.is_finite() && 0.0 < *mm)) {
            return Err(Detail::Spacing { spacing_mm }.into());
        }
        let [d, h, w] = spacing_mm;
        let affine =
            affine::from_rows([[w, 0.0, 0.0, 0.0], [0.0, h, 0.0, 0.0], [0.0, 0.0, d, 0.0]]);
        Self::with_affine(shape, affine)
    }

    /// A grid of `shape` with voxels of `spacing_mm` (both `[D, H, W]`), its first voxel at the world
    /// origin, whose i, j and k grow to the directions of `orientation`.
    ///
    /// # Errors
    /// `R-GEO-03` if a spacing is not finite and positive.
    pub fn with_orientation(
        shape: [usize; 3],
        spacing_mm: [f64; 3],
        orientation: Orientation,
    ) -> Result<Self, Error> {
        let straight = Self::with_spacing(shape, spacing_mm)?;
        let [d, h, w] = spacing_mm;
        let mut rows = [[0.0; 4]; 3];
        for (column, ((row, sign), mm)) in
            orientation.directions().into_iter().zip([w, h, d]).enumerate()
        {
            rows[row][column] = sign * mm;
        }
        Ok(Self { affine: Some(affine::from_rows(rows)), ..straight })
    }

    /// A grid of `shape` (`[D, H, W]`) with the given voxel index `(i, j, k, 1)` to RAS+ mm affine.
    ///
    /// # Errors
    /// `R-GEO-05` if it is singular or not finite.
    pub fn with_affine(shape: [usize; 3], affine: Affine) -> Result<Self, Error> {
        if let Some(reason) = affine::defect(&affine) {
            return Err(Detail::Affine { reason }.into());
        }
        Ok(Self {
            affine: Some(affine),
            source: AffineSource::Given,
            ..Self::without_affine(shape)
        })
    }

    pub(crate) fn from_nifti(
        shape: [usize; 3],
        affine: Affine,
        source: AffineSource,
        fields: NiftiFields,
    ) -> Self {
        Self {
            affine: Some(affine),
            source,
            nifti: Some(fields),
            guessed_sides: source == AffineSource::Pixdim,
            ..Self::without_affine(shape)
        }
    }

    /// The same grid at the place of `given`, which the caller knows.
    pub(crate) fn placed_as(self, given: &Self) -> Self {
        let (affine, nifti) = (given.affine, given.nifti.clone());
        let guessed_sides = given.guessed_sides;
        Self { affine, nifti, source: AffineSource::Given, guessed_sides, ..self }
    }

    /// The same geometry, of which the file says the sizes of voxels alone, or does not.
    pub(crate) fn with_guessed_sides(self, guessed_sides: bool) -> Self {
        Self { guessed_sides, ..self }
    }

    /// The same geometry, whose affine comes from `source`.
    pub(crate) fn with_source(self, source: AffineSource) -> Self {
        Self { source, ..self }
    }

    pub(crate) fn of_array(shape: [usize; 3], array: ArrayLayout) -> Self {
        Self { array, ..Self::without_affine(shape) }
    }

    pub(crate) fn array_layout(&self) -> ArrayLayout {
        self.array
    }

    /// `[D, H, W]`.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// D x H x W.
    pub fn voxels(&self) -> usize {
        self.shape.iter().fold(1, |n: usize, size| n.saturating_mul(*size))
    }

    /// Voxel index `(i, j, k, 1)` to RAS+ mm, where it is known.
    pub fn affine(&self) -> Option<&Affine> {
        self.affine.as_ref()
    }

    /// Where the affine comes from.
    pub fn affine_source(&self) -> AffineSource {
        self.source
    }

    /// Millimeters a voxel, `[D, H, W]`, where they are known, to the precision of f32.
    pub fn spacing_mm(&self) -> Option<[f64; 3]> {
        let [i, j, k] = affine::zooms(self.affine.as_ref()?).map(without_rounding_errors);
        Some([k, j, i])
    }

    /// The same as the header gives them: as f32 that stand for themselves, and not for the decimals
    /// that they come from.
    pub(crate) fn header_spacing_mm(&self) -> Option<[f64; 3]> {
        let spacing = self.spacing_mm()?;
        let pixdim = self.nifti.as_ref().map(|fields| fields.pixdim);
        Some(match pixdim {
            // Where it is not the length of the axes, the header contradicts itself.
            Some([_, i, j, k, ..])
                if [k, j, i].iter().zip(spacing).all(|(a, b)| (a / b - 1.0).abs() < 1e-3) =>
            {
                [k, j, i]
            }
            _ => spacing.map(|mm| f64::from(mm as f32)),
        })
    }

    /// The same as the lengths of the affine's columns, to the last bit.
    pub(crate) fn axis_lengths_mm(&self) -> Option<[f64; 3]> {
        let [i, j, k] = affine::zooms(self.affine.as_ref()?);
        Some([k, j, i])
    }

    /// Volume of a voxel in mm³: |det| of the affine, which also holds for a sheared grid.
    pub fn voxel_volume_mm3(&self) -> Option<f64> {
        Some(affine::determinant(self.affine.as_ref()?).abs())
    }

    /// The direction that each index i, j, k grows to, such as `RAS`.
    pub fn orientation(&self) -> Option<Orientation> {
        Orientation::of(self.affine.as_ref()?)
    }

    /// Whether position and orientation are a guess, since nothing but the size of a voxel is known.
    pub fn has_guessed_sides(&self) -> bool {
        self.guessed_sides
    }

    /// The largest angle, in degrees, between a voxel axis and the axis of the world that it
    /// follows: 0 unless the grid is oblique.
    pub fn obliquity_degrees(&self) -> Option<f64> {
        Some(affine::obliquity_degrees(self.affine.as_ref()?))
    }

    /// Whether i, j and k are a left-handed system in the world.
    pub fn is_left_handed(&self) -> Option<bool> {
        Some(affine::determinant(self.affine.as_ref()?) < 0.0)
    }

    /// World position in RAS+ mm of a voxel index `(i, j, k)`, which need not be whole.
    pub fn world_mm(&self, ijk: [f64; 3]) -> Option<[f64; 3]> {
        Some(affine::apply(self.affine.as_ref()?, ijk))
    }

    /// The voxel index `(i, j, k)` at a position in the world (RAS+ mm), which need not be whole nor
    /// inside; `None` without an affine.
    pub fn voxel_at_mm(&self, mm: [f64; 3]) -> Option<[f64; 3]> {
        Some(affine::invert(self.affine.as_ref()?, mm))
    }

    /// The NIfTI fields that the header of a mask repeats, if the volume came from NIfTI.
    pub fn nifti(&self) -> Option<&NiftiFields> {
        self.nifti.as_ref()
    }

    /// Whether the array was `1xDxHxW`; a mask of it is written the same way.
    pub fn npy_leading_axis(&self) -> bool {
        self.array.leading_axis
    }

    /// How the axes of the array lay; a mask of it is written the same way.
    pub fn npy_axes(&self) -> ArrayAxes {
        self.array.axes
    }
}

/// The shortest decimal that is the same f32. The length of an affine's column carries the rounding
/// errors of its cosines, and headers store most lengths as f32.
fn without_rounding_errors(mm: f64) -> f64 {
    (mm as f32).to_string().parse().unwrap_or(mm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spacing_is_dhw_and_ends_up_on_the_diagonal() {
        let g = Geometry::with_spacing([4, 5, 6], [5.0, 0.8, 0.7]).unwrap();
        assert_eq!(g.spacing_mm(), Some([5.0, 0.8, 0.7]));
        assert_eq!(g.world_mm([1.0, 2.0, 3.0]), Some([0.7, 1.6, 15.0]));
        assert!((g.voxel_volume_mm3().unwrap() - 2.8).abs() < 1e-12);
        assert_eq!(g.orientation(), Some(Orientation::RAS));
        assert_eq!(g.voxels(), 120);
    }

    #[test]
    fn an_orientation_and_a_spacing_are_a_place_in_the_world() {
        let spacing = [5.0, 0.8, 0.7];
        let ras = Geometry::with_orientation([4, 5, 6], spacing, Orientation::RAS).unwrap();
        assert_eq!(ras, Geometry::with_spacing([4, 5, 6], spacing).unwrap());
        for codes in ["LPS", "ASR", "PIL", "SLA"] {
            let orientation = codes.parse().unwrap();
            let g = Geometry::with_orientation([4, 5, 6], spacing, orientation).unwrap();
            assert_eq!((g.orientation(), g.spacing_mm()), (Some(orientation), Some(spacing)));
        }
        // i grows to the posterior by 0.7 mm, j to the left by 0.8 mm, k upwards by 5 mm.
        let turned = "PLS".parse().unwrap();
        let g = Geometry::with_orientation([4, 5, 6], spacing, turned).unwrap();
        assert_eq!(g.world_mm([1.0, 2.0, 3.0]), Some([-1.6, -0.7, 15.0]));
        let refused = Geometry::with_orientation([4; 3], [1.0, -1.0, 1.0], Orientation::RAS);
        assert_eq!(refused.unwrap_err().code(), "R-GEO-03");
    }

    #[test]
    fn spacing_of_zero_or_nan_is_refused() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = Geometry::with_spacing([4, 4, 4], [1.0, bad, 1.0]).unwrap_err();
            assert_eq!(error.code(), "R-GEO-03");
        }
    }

    fn with_rows(rows: [[f64; 4]; 3]) -> Geometry {
        Geometry::with_affine([4; 3], affine::from_rows(rows)).unwrap()
    }

    #[test]
    fn a_spacing_has_no_rounding_errors_and_the_affine_keeps_every_bit() {
        let (sin, cos) = 17.3_f64.to_radians().sin_cos();
        let rows = [
            [0.68359375 * cos, -0.7 * sin, 0., 1.],
            [0.68359375 * sin, 0.7 * cos, 0., 2.],
            [0., 0., f64::from(1.1_f32), 3.],
        ];
        let turned = with_rows(rows);
        assert_eq!(turned.spacing_mm(), Some([1.1, 0.7, 0.68359375]));
        assert_eq!(turned.affine().unwrap()[..3], rows);
        let noisy =
            with_rows([[3.0000000000000084, 0., 0., 0.], [0., 3., 0., 0.], [0., 0., 1e-9, 0.]]);
        assert_eq!(noisy.spacing_mm(), Some([1e-9, 3.0, 3.0]));
    }

    #[test]
    fn obliquity_is_measured_from_the_axis_that_is_followed() {
        let straight = with_rows([[0.0, -2.0, 0.0, 7.0], [0.5, 0.0, 0.0, 0.0], [0., 0., 5., 0.]]);
        assert_eq!(straight.obliquity_degrees(), Some(0.0));
        let (sin, cos) = 10_f64.to_radians().sin_cos();
        let oblique =
            with_rows([[-2.0, 0.0, 0.0, 0.0], [0., cos, -3. * sin, 0.], [0., sin, 3. * cos, 0.]]);
        assert!((oblique.obliquity_degrees().unwrap() - 10.0).abs() < 1e-9);
    }

    #[test]
    fn one_mirrored_axis_is_left_handed_and_two_are_not() {
        let is_left_handed = |x: f64, y: f64| {
            let rows = [[x, 0.0, 0.0, 0.0], [0.0, y, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]];
            with_rows(rows).is_left_handed()
        };
        assert_eq!(is_left_handed(1.0, 1.0), Some(false));
        assert_eq!(is_left_handed(-1.0, 1.0), Some(true));
        assert_eq!(is_left_handed(-2.0, -1.0), Some(false));
    }

    #[test]
    fn nothing_in_mm_is_made_up_without_an_affine() {
        let g = Geometry::without_affine([4, 4, 4]);
        assert_eq!((g.spacing_mm(), g.voxel_volume_mm3(), g.orientation()), (None, None, None));
        assert_eq!((g.obliquity_degrees(), g.is_left_handed()), (None, None));
        assert_eq!(g.affine_source().as_str(), "none");
    }
}
