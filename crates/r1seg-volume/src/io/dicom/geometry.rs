//! Slices in the order of their positions, and the grid that they make.
//!
//! The slice axis k grows along the normal, the cross product of the directions of rows and
//! columns, as GDCM and SimpleITK sort. The affine's k column is the mean step from slice to slice.

use std::collections::HashSet;

use super::fault::DicomFault;
use super::header::{Header, Plane};
use super::series::Series;
use crate::affine::{self, Affine};
use crate::{ReadOptions, Scale, Warning};

/// Steps between slices may differ from their median by this part of it.
const STEP_TOLERANCE: f64 = 0.05;
/// Slices nearer than this, in mm, lie at one position.
const SAME_POSITION: f64 = 1e-3;
/// A tilt up to this, in degrees, is rounding of positions; the affine carries it.
const TILT_TOLERANCE: f64 = 0.25;
/// Direction cosines may differ by this, in length, angle, and from slice to slice.
const COSINE_TOLERANCE: f64 = 1e-3;
/// Pixel spacings may differ by this part from slice to slice.
const SPACING_TOLERANCE: f64 = 1e-3;
/// Slices may lie off their common line by this part of a pixel.
const SHIFT_TOLERANCE: f64 = 0.5;

/// One slice: frame `frame` of image `image` of its series.
#[derive(Clone)]
pub(super) struct Slice {
    pub(super) image: usize,
    pub(super) frame: usize,
    pub(super) scale: Scale,
    position: [f64; 3],
    /// Position along the normal.
    height: f64,
}

/// How a voxel plane is made of two slices: the lower one, and the share of the one above.
pub(super) type Mix = (usize, f32);

pub(super) struct Grid {
    /// Ascending along the normal.
    pub(super) slices: Vec<Slice>,
    /// `[D, H, W]`.
    pub(super) shape: [usize; 3],
    pub(super) affine: Affine,
    /// For unequal distances: what each plane of the volume is made of.
    pub(super) mixes: Option<Vec<Mix>>,
    pub(super) warnings: Vec<Warning>,
}

pub(super) fn grid(series: &Series, options: &ReadOptions) -> Result<Grid, DicomFault> {
    let mut warnings = Vec::new();
    let (mut slices, plane) = slices(series, &mut warnings)?;
    let missing = |attribute| DicomFault::Missing { attribute };
    let first = series.images.first().ok_or(missing("PixelData"))?;
    let (rows, columns) = (usize::from(first.header.rows), usize::from(first.header.columns));
    if rows == 0 || columns == 0 {
        return Err(missing("Rows or Columns"));
    }
    let [row, column] = plane.directions;
    let normal = unit(cross(row, column));
    for slice in &mut slices {
        slice.height = dot(slice.position, normal);
    }
    slices.sort_by(|a, b| a.height.total_cmp(&b.height));

    let mut step = scaled(normal, plane.thickness.unwrap_or(0.0));
    let mut mixes = None;
    if let [bottom, .., top] = slices.as_slice() {
        check_positions(&slices)?;
        check_line(&slices, normal, plane.spacing)?;
        let extent = minus(top.position, bottom.position);
        let steps = (slices.len() - 1) as f64;
        step = scaled(extent, 1.0 / steps);
        if let Err(gap) = check_steps(&slices) {
            let DicomFault::Gap { gap_mm, spacing_mm, .. } = gap else { return Err(gap) };
            if !options.allow_gaps {
                return Err(gap);
            }
            let height = top.height - bottom.height;
            let planes = planes(&slices, spacing_mm, options)?;
            warnings.push(gap_warning(slices.len(), planes.len(), gap_mm, spacing_mm));
            mixes = Some(planes);
            step = scaled(extent, spacing_mm / height);
        }
    } else if plane.thickness.is_none() {
        return Err(missing("SpacingBetweenSlices or SliceThickness, of a single slice,"));
    }
    let origin = slices.first().map_or([0.0; 3], |s| s.position);
    let columns_of =
        [scaled(row, plane.spacing[1]), scaled(column, plane.spacing[0]), step, origin];
    // DICOM's world is LPS, r1seg's is RAS.
    let to_ras = |axis: usize, sign: f64| columns_of.map(|c| sign * c[axis] + 0.0);
    let affine = affine::from_rows([to_ras(0, -1.0), to_ras(1, -1.0), to_ras(2, 1.0)]);
    if affine::defect(&affine).is_some() {
        return Err(missing("a usable position, orientation or spacing"));
    }
    let shape = [mixes.as_ref().map_or(slices.len(), Vec::len), rows, columns];
    Ok(Grid { slices, shape, affine, mixes, warnings })
}

/// What all slices share.
struct Common {
    /// Of a row and of a column, LPS.
    directions: [[f64; 3]; 2],
    /// Between rows, then between columns.
    spacing: [f64; 2],
    thickness: Option<f64>,
}

/// All slices of a series, in file order, and what they share.
fn slices(
    series: &Series,
    warnings: &mut Vec<Warning>,
) -> Result<(Vec<Slice>, Common), DicomFault> {
    let mut slices = Vec::new();
    let mut common: Option<Common> = None;
    let mut instances = HashSet::new();
    let (mut copies, mut bad_slopes, mut bad_inters) = (0, 0, 0);
    let first = series.images.first().map(|image| &image.header);
    for (number, image) in series.images.iter().enumerate() {
        let h = &image.header;
        if first.is_some_and(|f| (f.rows, f.columns) != (h.rows, h.columns)) {
            return Err(DicomFault::Mixed("their rows or columns"));
        }
        if !h.instance_uid.is_empty() && !instances.insert(h.instance_uid.as_str()) {
            copies += 1;
            continue;
        }
        for frame in 0..h.frames()? {
            let plane = h.plane(frame);
            let own = Common::of(&plane)?;
            common.get_or_insert(Common { ..own }).check(&own)?;
            let missing = DicomFault::Missing { attribute: "ImagePositionPatient" };
            let position = plane.position.ok_or(missing)?;
            let slope = plane.slope.filter(|v| v.is_finite() && *v != 0.0);
            let inter = plane.inter.filter(|v| v.is_finite());
            bad_slopes += usize::from(slope.is_none() && plane.slope.is_some());
            bad_inters += usize::from(inter.is_none() && plane.inter.is_some());
            let scale = Scale { slope: slope.unwrap_or(1.0), inter: inter.unwrap_or(0.0) };
            slices.push(Slice { image: number, frame, scale, position, height: 0.0 });
        }
    }
    if 0 < copies {
        let text = format!("{copies} files are copies of others (the same instance): left out");
        warnings.push(Warning::new("W-DUPLICATE", text));
    }
    for (count, attribute, taken) in [
        (bad_slopes, "RescaleSlope", "0 or not a number: taken for 1"),
        (bad_inters, "RescaleIntercept", "not a number: taken for 0"),
    ] {
        if 0 < count {
            let text = format!("{attribute} of {count} of {} slices is {taken}", slices.len());
            warnings.push(Warning::new("W-SLOPE", text).with_remedy("export the series again"));
        }
    }
    let common = common.ok_or(DicomFault::Missing { attribute: "PixelData" })?;
    Ok((slices, common))
}

/// Whether two images can be of one volume by the size, the spacing and the orientation of their planes.
pub(super) fn alike(a: &Header, b: &Header) -> bool {
    let same_planes = match (Common::of(&a.plane(0)), Common::of(&b.plane(0))) {
        (Ok(a), Ok(b)) => a.check(&b).is_ok(),
        (Err(_), Err(_)) => true,
        _ => false,
    };
    (a.rows, a.columns) == (b.rows, b.columns) && same_planes
}

impl Common {
    fn of(plane: &Plane) -> Result<Self, DicomFault> {
        let missing = |attribute| DicomFault::Missing { attribute };
        let [a, b, c, d, e, f] = plane.orientation.ok_or(missing("ImageOrientationPatient"))?;
        let (row, column) = ([a, b, c], [d, e, f]);
        let off = |v: f64, expected: f64| COSINE_TOLERANCE < (v - expected).abs();
        if off(dot(row, row), 1.0) || off(dot(column, column), 1.0) || off(dot(row, column), 0.0) {
            return Err(missing("ImageOrientationPatient, as two unit vectors at right angles,"));
        }
        let spacing = plane.pixel_spacing.ok_or(missing("PixelSpacing"))?;
        if spacing.iter().any(|mm| !(1e-6..1e6).contains(mm)) {
            return Err(missing("PixelSpacing, above 0,"));
        }
        let positive = |mm: &f64| (1e-6..1e6).contains(mm);
        let thickness = plane.slice_spacing.filter(positive).or(plane.thickness.filter(positive));
        Ok(Self { directions: [row, column], spacing, thickness })
    }

    fn check(&self, other: &Self) -> Result<(), DicomFault> {
        let pairs = |a: &[f64], b: &[f64], tolerance: f64| {
            a.iter().zip(b).all(|(a, b)| (a - b).abs() <= tolerance)
        };
        let (ours, theirs) = (self.directions.as_flattened(), other.directions.as_flattened());
        if !pairs(ours, theirs, COSINE_TOLERANCE) {
            return Err(DicomFault::Mixed("their orientation"));
        }
        if !pairs(&self.spacing, &other.spacing, SPACING_TOLERANCE * self.spacing[0]) {
            return Err(DicomFault::Mixed("their pixel spacing"));
        }
        Ok(())
    }
}

fn steps(slices: &[Slice]) -> impl Iterator<Item = f64> + '_ {
    slices.windows(2).map(|pair| match pair {
        [low, high] => high.height - low.height,
        _ => 0.0,
    })
}

fn check_positions(slices: &[Slice]) -> Result<(), DicomFault> {
    let positions = 1 + steps(slices).filter(|mm| SAME_POSITION < *mm).count();
    if positions < slices.len() {
        return Err(DicomFault::SamePosition { slices: slices.len(), positions });
    }
    Ok(())
}

/// Slices of one volume lie on one line, and the line along their normal.
fn check_line(slices: &[Slice], normal: [f64; 3], spacing: [f64; 2]) -> Result<(), DicomFault> {
    let [bottom, .., top] = slices else { return Ok(()) };
    let extent = minus(top.position, bottom.position);
    let height = top.height - bottom.height;
    let sideways = |v: [f64; 3]| length(minus(v, scaled(normal, dot(v, normal))));
    let degrees = sideways(extent).atan2(height).to_degrees();
    if TILT_TOLERANCE < degrees {
        return Err(DicomFault::Tilt { degrees });
    }
    let most = SHIFT_TOLERANCE * spacing[0].min(spacing[1]);
    let off = slices.iter().any(|slice| {
        let along = scaled(extent, (slice.height - bottom.height) / height);
        most < sideways(minus(minus(slice.position, bottom.position), along))
    });
    if off { Err(DicomFault::Mixed("their position along the planes")) } else { Ok(()) }
}

/// Fails with the step that is furthest from the median.
fn check_steps(slices: &[Slice]) -> Result<(), DicomFault> {
    let mut sorted: Vec<f64> = steps(slices).collect();
    sorted.sort_by(f64::total_cmp);
    let spacing_mm = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
    let off = |mm: f64| (mm - spacing_mm).abs();
    let worst = steps(slices).enumerate().max_by(|a, b| off(a.1).total_cmp(&off(b.1)));
    match worst {
        Some((n, gap_mm)) if STEP_TOLERANCE * spacing_mm < off(gap_mm) => {
            Err(DicomFault::Gap { gap_mm, spacing_mm, after: n + 1, slices: slices.len() })
        }
        _ => Ok(()),
    }
}

/// Planes `spacing_mm` apart from the first slice to the last, each between two slices.
fn planes(
    slices: &[Slice],
    spacing_mm: f64,
    options: &ReadOptions,
) -> Result<Vec<Mix>, DicomFault> {
    let [bottom, .., top] = slices else { return Ok(vec![]) };
    let count = ((top.height - bottom.height) / spacing_mm).round() + 1.0;
    if options.max_voxels as f64 <= count {
        let (what, most) = ("slices after resampling", options.max_voxels);
        return Err(DicomFault::TooMany { what, count: count as u64, most });
    }
    let mut low = 0;
    let plane = |n: usize| {
        let height = bottom.height + n as f64 * spacing_mm;
        while slices.get(low + 2).is_some()
            && slices.get(low + 1).is_some_and(|next| next.height <= height)
        {
            low += 1;
        }
        let (Some(a), Some(b)) = (slices.get(low), slices.get(low + 1)) else { return (low, 0.0) };
        (low, ((height - a.height) / (b.height - a.height)).clamp(0.0, 1.0) as f32)
    };
    Ok((0..count as usize).map(plane).collect())
}

fn gap_warning(slices: usize, planes: usize, gap_mm: f64, spacing_mm: f64) -> Warning {
    let text = format!(
        "{slices} slices are unequally far apart (up to {gap_mm:.3} mm): interpolated to {planes} \
         slices, {spacing_mm:.3} mm apart; what lay in between is not known"
    );
    Warning::new("W-GAPS", text).with_remedy("find the missing slices")
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

fn minus(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

fn scaled(v: [f64; 3], factor: f64) -> [f64; 3] {
    v.map(|x| x * factor)
}

fn length(v: [f64; 3]) -> f64 {
    dot(v, v).sqrt()
}

fn unit(v: [f64; 3]) -> [f64; 3] {
    scaled(v, 1.0 / length(v).max(f64::MIN_POSITIVE))
}
