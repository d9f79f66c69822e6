//! Arithmetic on voxel-to-world affines, in f64, as nibabel does it.

/// A voxel index `(i, j, k, 1)` to RAS+ world mm affine, row by row.
pub type Affine = [[f64; 4]; 4];

/// `f32::EPSILON * 3`: how far below zero `1 - b² - c² - d²` may fall in a header that stores f32
/// (nibabel `Nifti1Header.quaternion_threshold`).
pub(crate) const QUATERNION_TOLERANCE_F32: f64 = f32::EPSILON as f64 * 3.0;
/// The same for NIfTI-2, which stores f64.
pub(crate) const QUATERNION_TOLERANCE_F64: f64 = f64::EPSILON * 3.0;

/// A volume of cells narrower than this in any direction, relative to their edges, is flat.
const SINGULAR: f64 = 1e-6;
/// No position is farther away and no voxel longer, in mm (a light hour): products of what is smaller
/// stay far from the ends of f64.
const FARTHEST: f64 = 1e15;
/// No voxel is shorter.
const SHORTEST: f64 = 1e-15;

pub(crate) fn from_rows(rows: [[f64; 4]; 3]) -> Affine {
    [rows[0], rows[1], rows[2], [0.0, 0.0, 0.0, 1.0]]
}

/// nibabel `quaternions.fillpositive` and `quat2mat`: the rotation of a unit quaternion whose first
/// part is left out; `None` if the three parts are too long for a unit quaternion.
fn rotation([b, c, d]: [f64; 3], tolerance: f64) -> Option<[[f64; 3]; 3]> {
    let square = 1.0 - (b * b + c * c + d * d);
    let a = match square {
        s if s.abs() < tolerance => 0.0,
        s if 0.0 <= s => s.sqrt(),
        _ => return None,
    };
    let norm = a * a + b * b + c * c + d * d;
    let s = 2.0 / norm;
    let (bs, cs, ds) = (b * s, c * s, d * s);
    let (ab, ac, ad) = (a * bs, a * cs, a * ds);
    let (bb, bc, bd) = (b * bs, b * cs, b * ds);
    let (cc, cd, dd) = (c * cs, c * ds, d * ds);
    Some([
        [1.0 - (cc + dd), bc - ad, bd + ac],
        [bc + ad, 1.0 - (bb + dd), cd - ab],
        [bd - ac, cd + ab, 1.0 - (bb + cc)],
    ])
}

/// The NIfTI qform affine; `pixdim[0]` is qfac, of which anything but -1 means 1.
pub(crate) fn from_qform(
    quatern: [f64; 3],
    qoffset: [f64; 3],
    pixdim: &[f64; 8],
    tolerance: f64,
) -> Option<Affine> {
    let r = rotation(quatern, tolerance)?;
    let qfac = if pixdim[0] == -1.0 { -1.0 } else { 1.0 };
    let zooms = [pixdim[1], pixdim[2], pixdim[3] * qfac];
    let row = |n: usize| [r[n][0] * zooms[0], r[n][1] * zooms[1], r[n][2] * zooms[2], qoffset[n]];
    Some(from_rows([row(0), row(1), row(2)]))
}

/// nibabel `get_base_affine`: the world origin is the center of the grid, and i runs to the left.
pub(crate) fn from_pixdim([d, h, w]: [usize; 3], pixdim: &[f64; 8]) -> Affine {
    let zooms = [-pixdim[1], pixdim[2], pixdim[3]];
    let mut out = [[0.0; 4]; 4];
    for (n, size) in [w, h, d].into_iter().enumerate() {
        out[n][n] = zooms[n];
        out[n][3] = -((size as f64 - 1.0) / 2.0) * zooms[n];
    }
    out[3][3] = 1.0;
    out
}

/// Lengths of the columns: mm a voxel along i, j, k.
pub(crate) fn zooms(a: &Affine) -> [f64; 3] {
    std::array::from_fn(|n| (a[0][n] * a[0][n] + a[1][n] * a[1][n] + a[2][n] * a[2][n]).sqrt())
}

pub(crate) fn determinant(a: &Affine) -> f64 {
    a[0][0] * (a[1][1] * a[2][2] - a[1][2] * a[2][1])
        - a[0][1] * (a[1][0] * a[2][2] - a[1][2] * a[2][0])
        + a[0][2] * (a[1][0] * a[2][1] - a[1][1] * a[2][0])
}

/// Why an affine cannot carry a volume, if it cannot.
pub(crate) fn defect(a: &Affine) -> Option<&'static str> {
    if a.iter().flatten().any(|v| !v.is_finite()) {
        return Some("it holds NaN or infinity");
    }
    let zooms = zooms(a);
    if zooms.contains(&0.0) {
        return Some("a voxel axis has no length");
    }
    if a.iter().flatten().any(|v| FARTHEST < v.abs()) || zooms.iter().any(|mm| *mm < SHORTEST) {
        return Some("its numbers are too large or too small for lengths");
    }
    if determinant(a).abs() < SINGULAR * zooms[0] * zooms[1] * zooms[2] {
        return Some("it is singular: two voxel axes run along each other");
    }
    None
}

/// The largest |cosine| between two voxel axes: 0 without shear.
pub(crate) fn shear(a: &Affine) -> f64 {
    let zooms = zooms(a);
    let cosine = |m: usize, n: usize| {
        (0..3).map(|row| a[row][m] * a[row][n]).sum::<f64>().abs() / (zooms[m] * zooms[n])
    };
    cosine(0, 1).max(cosine(0, 2)).max(cosine(1, 2))
}

pub(crate) fn apply(a: &Affine, ijk: [f64; 3]) -> [f64; 3] {
    std::array::from_fn(|n| a[n][0] * ijk[0] + a[n][1] * ijk[1] + a[n][2] * ijk[2] + a[n][3])
}

/// The voxel index at a position in the world, by Cramer's rule; what [`apply`] undoes.
pub(crate) fn invert(a: &Affine, mm: [f64; 3]) -> [f64; 3] {
    let from_origin: [f64; 3] = std::array::from_fn(|n| mm[n] - a[n][3]);
    let whole = determinant(a);
    std::array::from_fn(|column| {
        let mut replaced = *a;
        (0..3).for_each(|row| replaced[row][column] = from_origin[row]);
        determinant(&replaced) / whole
    })
}

/// The largest angle, in degrees, between a voxel axis and the axis of the world that it follows.
pub(crate) fn obliquity_degrees(a: &Affine) -> f64 {
    let (codes, zooms) = (axis_codes(a), zooms(a));
    let angle = |n: usize| {
        let world = match codes[n] {
            'R' | 'L' => 0,
            'A' | 'P' => 1,
            _ => 2,
        };
        (a[world][n].abs() / zooms[n]).min(1.0).acos().to_degrees()
    };
    (0..3).map(angle).fold(0.0, f64::max)
}

/// Axis codes as nibabel `aff2axcodes`: the world direction that each of i, j, k runs towards.
pub(crate) fn axis_codes(a: &Affine) -> [char; 3] {
    const CODES: [[char; 2]; 3] = [['L', 'R'], ['P', 'A'], ['I', 'S']];
    let mut r = nearest_rotation(a);
    let strength = |n: usize| (0..3).map(|row| r[row][n] * r[row][n]).fold(0.0, f64::max);
    let mut order = [(0, strength(0)), (1, strength(1)), (2, strength(2))];
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut codes = ['?'; 3];
    for (column, _) in order {
        let mut best = 0;
        for row in 1..3 {
            if r[best][column].abs() < r[row][column].abs() {
                best = row;
            }
        }
        codes[column] = CODES[best][usize::from(0.0 < r[best][column])];
        r[best] = [0.0; 3];
    }
    codes
}

/// The orthogonal polar factor of the direction part, by Newton's iteration `(R + R⁻ᵀ) / 2`.
fn nearest_rotation(a: &Affine) -> [[f64; 3]; 3] {
    let zooms = zooms(a);
    let mut r: [[f64; 3]; 3] =
        std::array::from_fn(|m| std::array::from_fn(|n| a[m][n] / zooms[n].max(f64::MIN_POSITIVE)));
    for _ in 0..32 {
        let cofactor = |m: usize, n: usize| {
            let (m1, m2, n1, n2) = ((m + 1) % 3, (m + 2) % 3, (n + 1) % 3, (n + 2) % 3);
            r[m1][n1] * r[m2][n2] - r[m1][n2] * r[m2][n1]
        };
        let det = (0..3).map(|n| r[0][n] * cofactor(0, n)).sum::<f64>();
        if det == 0.0 {
            return r;
        }
        r = std::array::from_fn(|m| {
            std::array::from_fn(|n| 0.5 * (r[m][n] + cofactor(m, n) / det))
        });
    }
    r
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_is_ras_with_unit_zooms() {
        let a = from_rows([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]);
        assert_eq!(axis_codes(&a), ['R', 'A', 'S']);
        assert_eq!(zooms(&a), [1.0; 3]);
        assert_eq!(determinant(&a), 1.0);
        assert_eq!(defect(&a), None);
    }

    #[test]
    fn base_affine_is_centered_and_runs_left() {
        // nibabel: h.set_data_shape((3, 5, 7)); h.set_zooms((3, 2, 1)); h.get_base_affine()
        let a = from_pixdim([7, 5, 3], &[1.0, 3.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
        assert_eq!(
            a,
            [
                [-3.0, 0.0, 0.0, 3.0],
                [0.0, 2.0, 0.0, -4.0],
                [0.0, 0.0, 1.0, -3.0],
                [0.0, 0.0, 0.0, 1.0]
            ]
        );
    }

    #[test]
    fn half_turn_quaternion_flips_two_axes() {
        let pixdim = [-1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0];
        let a = from_qform([0.0, 0.0, 1.0], [5.0, 6.0, 7.0], &pixdim, QUATERNION_TOLERANCE_F32);
        let expected =
            from_rows([[-2.0, 0.0, 0.0, 5.0], [0.0, -3.0, 0.0, 6.0], [0.0, 0.0, -4.0, 7.0]]);
        assert_eq!(a, Some(expected));
    }

    #[test]
    fn quaternion_longer_than_one_is_refused() {
        assert_eq!(rotation([0.9, 0.9, 0.0], QUATERNION_TOLERANCE_F32), None);
        assert_eq!(rotation([f64::NAN, 0.0, 0.0], QUATERNION_TOLERANCE_F32), None);
    }

    #[test]
    fn axis_codes_of_an_oblique_affine_follow_the_strongest_axes() {
        // Oracle: nibabel.aff2axcodes of the same rows.
        let a = from_rows([[-0.9, 0.3, 0.3, 0.0], [0.3, 0.6, 0.74, 0.0], [0.1, -0.73, 0.68, 0.0]]);
        assert_eq!(axis_codes(&a), ['L', 'I', 'A']);
    }

    #[test]
    fn defects_are_named() {
        let mut a = from_rows([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, 0.0]]);
        assert_eq!(defect(&a), Some("it is singular: two voxel axes run along each other"));
        a[0][1] = 0.0;
        assert_eq!(defect(&a), Some("a voxel axis has no length"));
        a[0][3] = f64::NAN;
        assert_eq!(defect(&a), Some("it holds NaN or infinity"));
    }

    #[test]
    fn lengths_whose_products_leave_f64_are_a_defect() {
        for mm in [1e-120, 1e-16, 1e16, 1e200] {
            let a = from_rows([[mm, 0.0, 0.0, 0.0], [0.0, mm, 0.0, 0.0], [0.0, 0.0, mm, 0.0]]);
            assert_eq!(defect(&a), Some("its numbers are too large or too small for lengths"));
        }
        let mut a = from_rows([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]);
        a[2][3] = f64::MAX;
        assert!(defect(&a).is_some());
    }
}
