//! Which way the axes of a grid run through the body, and the same grid with its axes in another
//! order.

use std::fmt;
use std::str::FromStr;

use crate::error::Detail;
use r1seg_diagnostic::Remedy;

use crate::affine::{self, Affine};
use crate::crop::check_data;
use crate::{Error, Geometry, Region, Warning};

/// The direction in the body that each index `(i, j, k)` of a grid grows to, as nibabel's
/// `aff2axcodes`: in `LPS`, i runs to the left, j to the posterior and k to the superior side.
///
/// The axes of an oblique grid have the code of the direction that they follow most closely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Orientation([char; 3]);

impl Orientation {
    /// Left, posterior, superior: axial slices of DICOM, from the feet to the head.
    pub const LPS: Self = Self(['L', 'P', 'S']);
    /// Right, anterior, superior: nibabel's `as_closest_canonical`.
    pub const RAS: Self = Self(['R', 'A', 'S']);

    pub(crate) fn of(affine: &Affine) -> Option<Self> {
        Self::new(affine::axis_codes(affine))
    }

    /// `None` unless each axis of the body has one code.
    fn new(codes: [char; 3]) -> Option<Self> {
        let mut axes = [false; 3];
        for code in codes {
            *axes.get_mut(body_axis(code)?)? = true;
        }
        (axes == [true; 3]).then_some(Self(codes))
    }

    /// For i, j and k the axis of the world (RAS+) that it follows, and 1, or -1 against it.
    pub(crate) fn directions(self) -> [(usize, f64); 3] {
        self.0.map(|code| {
            let sign = if matches!(code, 'R' | 'A' | 'S') { 1.0 } else { -1.0 };
            // Codes are checked where an orientation is made.
            (body_axis(code).unwrap_or_default(), sign)
        })
    }

    /// Whether the third index counts axial slices, from inferior to superior or the reverse.
    pub fn has_axial_slices(self) -> bool {
        body_axis(self.0[2]) == Some(2)
    }

    /// `W-ORIENT`, where a model that sees a volume in this orientation was not trained on such.
    ///
    /// `trained_on` is the orientation of a model that has seen only one. The published models, for
    /// which it is `None`, were trained on volumes of mixed orientations, turned and mirrored at
    /// random, but always with axial slices along the third index.
    pub fn doubt(self, trained_on: Option<Self>) -> Option<Warning> {
        let text = match trained_on {
            Some(one) if one != self => format!(
                "the model sees the volume as {self}, but has been trained on {one} alone: what it \
                 finds may be wrong"
            ),
            None if !self.has_axial_slices() => format!(
                "the model sees the volume as {self}, whose slices are not axial; published models \
                 have been trained on axial slices alone: what they find may be wrong"
            ),
            _ => return None,
        };
        Some(Warning::new("W-ORIENT", text).with_remedy(Remedy::OrientToLps))
    }
}

/// The axis of the body that a code belongs to: left-right, posterior-anterior, inferior-superior.
fn body_axis(code: char) -> Option<usize> {
    match code {
        'L' | 'R' => Some(0),
        'P' | 'A' => Some(1),
        'I' | 'S' => Some(2),
        _ => None,
    }
}

impl fmt::Display for Orientation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|code| write!(f, "{code}"))
    }
}

impl FromStr for Orientation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let codes: Vec<char> = text.to_ascii_uppercase().chars().collect();
        let codes: Option<[char; 3]> = codes.try_into().ok();
        codes
            .and_then(Self::new)
            .ok_or_else(|| Error::from(Detail::Orientation { text: text.to_owned() }))
    }
}

/// The orientation in which a model sees a volume. Masks, boxes and points stay on the stored grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Orient {
    /// As the volume is stored, which is what the code of the models' authors does.
    #[default]
    Stored,
    /// Axes permuted and reversed to this orientation. Nothing is resampled: an oblique volume stays
    /// oblique, and its axes go by the directions that they follow most closely.
    To(Orientation),
}

impl Orient {
    /// What a model sees of a volume; `None` where nothing is known about its orientation.
    pub fn orientation_of(self, geometry: &Geometry) -> Option<Orientation> {
        match self {
            Self::Stored => geometry.orientation(),
            Self::To(orientation) => Some(orientation),
        }
    }

    /// The way from the stored grid to the one that a model sees.
    ///
    /// # Errors
    /// `R-GEO-11` for [`Orient::To`] if the orientation of the volume is not known,
    /// or [only a guess](Geometry::has_guessed_sides).
    pub fn axes(self, geometry: &Geometry) -> Result<AxisMap, Error> {
        let Self::To(wanted) = self else { return Ok(AxisMap::IDENTITY) };
        let stored = geometry.orientation().filter(|_| !geometry.has_guessed_sides());
        Ok(AxisMap::between(
            stored.ok_or(Error::from(Detail::UnknownOrientation { wanted }))?,
            wanted,
        ))
    }
}

/// `stored`, or the axis codes of an orientation.
impl fmt::Display for Orient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stored => f.write_str("stored"),
            Self::To(orientation) => orientation.fmt(f),
        }
    }
}

impl FromStr for Orient {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Ok(if text == "stored" { Self::Stored } else { Self::To(text.parse()?) })
    }
}

/// From a grid, the source, to the same voxels with their axes in another order and some of them
/// reversed, the target. All shapes and indices are `[D, H, W]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AxisMap {
    /// The axis of the source that each axis of the target runs along.
    axes: [usize; 3],
    /// Whether it runs against it.
    reversed: [bool; 3],
}

impl AxisMap {
    /// The target is the source.
    pub const IDENTITY: Self = Self { axes: [0, 1, 2], reversed: [false; 3] };
    /// H and W change places.
    pub const TRANSPOSED: Self = Self { axes: [0, 2, 1], reversed: [false; 3] };

    /// The last axis becomes the first: from `[D, H, W]` to W, H, D, the order of a NIfTI file's
    /// `(i, j, k)`, and back.
    pub const REVERSED_ORDER: Self = Self { axes: [2, 1, 0], reversed: [false; 3] };

    /// From a grid of one orientation to the same in another.
    pub fn between(source: Orientation, target: Orientation) -> Self {
        // Codes are i, j, k, and axes k, j, i.
        let ([i, j, k], codes) = (target.0, [source.0[2], source.0[1], source.0[0]]);
        let along = [k, j, i].map(|code| {
            let same = |of: &char| body_axis(*of) == body_axis(code);
            // Every orientation has each axis of the body once.
            let axis = codes.iter().position(same).unwrap_or_default();
            (axis, codes[axis] != code)
        });
        Self { axes: along.map(|(axis, _)| axis), reversed: along.map(|(_, reversed)| reversed) }
    }

    /// The axis of the source that axis `n` of the target runs along.
    pub(crate) fn source_axis(self, n: usize) -> usize {
        self.axes[n]
    }

    /// Whether axis `n` of the target runs against its axis of the source.
    pub(crate) fn is_reversed(self, n: usize) -> bool {
        self.reversed[n]
    }

    /// Whether source and target are the same.
    pub fn is_identity(self) -> bool {
        self == Self::IDENTITY
    }

    /// The way back.
    #[must_use]
    pub fn inverse(self) -> Self {
        let mut back = Self::IDENTITY;
        for (target, axis) in self.axes.into_iter().enumerate() {
            (back.axes[axis], back.reversed[axis]) = (target, self.reversed[target]);
        }
        back
    }

    /// This map, and then another from its target on.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        Self {
            axes: next.axes.map(|axis| self.axes[axis]),
            reversed: std::array::from_fn(|n| next.reversed[n] != self.reversed[next.axes[n]]),
        }
    }

    /// The shape of the target of a source of shape `source`.
    pub fn shape(self, source: [usize; 3]) -> [usize; 3] {
        self.along(source)
    }

    /// What belongs to each axis of the source, such as its spacing, in the order of the target.
    pub fn along<T: Copy>(self, source: [T; 3]) -> [T; 3] {
        self.axes.map(|axis| source[axis])
    }

    /// Where a box of voxels of a source of shape `source`, which lies in it, is in the target.
    pub fn region(self, region: Region, source: [usize; 3]) -> Region {
        let ends = |n: usize| {
            let axis = self.axes[n];
            let (start, end) = (region.start[axis], region.end[axis]);
            match self.reversed[n] {
                true => (source[axis].saturating_sub(end), source[axis].saturating_sub(start)),
                false => (start, end),
            }
        };
        Region {
            start: std::array::from_fn(|n| ends(n).0),
            end: std::array::from_fn(|n| ends(n).1),
        }
    }

    /// The voxels of a source of shape `source` in the order of the target.
    ///
    /// # Errors
    /// `R-GEO-01` if `data` has not one value for each voxel.
    pub fn data<T: Copy>(self, data: &[T], source: [usize; 3]) -> Result<Vec<T>, Error> {
        check_data(data, source)?;
        if self.is_identity() {
            return Ok(data.to_vec());
        }
        let [depth, height, width] = self.shape(source);
        let mut out = Vec::with_capacity(data.len());
        for (z, y) in (0..depth).flat_map(|z| (0..height).map(move |y| (z, y))) {
            let Row { first, step } = self.row(source, [z, y]);
            out.extend((0..width).map(|x| data[Row { first, step }.at(x)]));
        }
        Ok(out)
    }

    /// Where the voxels of the target's row at `[z, y]` lie in a source of shape `source`.
    fn row(self, source: [usize; 3], [z, y]: [usize; 2]) -> Row {
        let [_, h, w] = source;
        self.row_in(Region::whole(source), [h, w], [z, y])
    }

    /// The same where the source is the part `part` of a grid with slices of `[h, w]`.
    pub(crate) fn row_in(self, part: Region, [h, w]: [usize; 2], [z, y]: [usize; 2]) -> Row {
        let (strides, sizes) = ([h * w, w, 1], part.shape());
        let mut first: usize = (0..3).map(|axis| part.start[axis] * strides[axis]).sum();
        for (n, at) in [z, y, 0].into_iter().enumerate() {
            let axis = self.axes[n];
            let at = if self.reversed[n] { sizes[axis].saturating_sub(1 + at) } else { at };
            first += at * strides[axis];
        }
        let stride = strides[self.axes[2]].cast_signed();
        Row { first, step: if self.reversed[2] { -stride } else { stride } }
    }
}

/// Voxels that are equally far apart in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) first: usize,
    pub(crate) step: isize,
}

impl Row {
    /// The index of its voxel `n`.
    pub(crate) fn at(self, n: usize) -> usize {
        self.first.wrapping_add_signed(self.step.wrapping_mul(n.cast_signed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All 48.
    fn orientations() -> Vec<Orientation> {
        let pairs = [['L', 'R'], ['P', 'A'], ['I', 'S']];
        let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        let codes = |order: [usize; 3], signs: usize| {
            std::array::from_fn(|n| pairs[order[n]][signs >> n & 1])
        };
        let all = orders.into_iter().flat_map(|o| (0..8).map(move |signs| codes(o, signs)));
        all.map(|codes| Orientation::new(codes).unwrap()).collect()
    }

    /// A body of 2 x 3 x 4 voxels from right to left, anterior to posterior and inferior to superior,
    /// stored in an orientation: its shape, and in each voxel its place in the body.
    fn stored(orientation: Orientation) -> ([usize; 3], Vec<usize>) {
        const SIZES: [usize; 3] = [2, 3, 4];
        let [i, j, k] = orientation.0.map(|code| (body_axis(code).unwrap(), "LPS".contains(code)));
        let shape = [k, j, i].map(|(axis, _)| SIZES[axis]);
        let mut voxels = Vec::new();
        for z in 0..shape[0] {
            for y in 0..shape[1] {
                for x in 0..shape[2] {
                    let mut place = [0; 3];
                    for (at, (axis, along)) in [(x, i), (y, j), (z, k)] {
                        place[axis] = if along { at } else { SIZES[axis] - 1 - at };
                    }
                    voxels.push(place[0] + 10 * place[1] + 100 * place[2]);
                }
            }
        }
        (shape, voxels)
    }

    #[test]
    fn every_orientation_becomes_every_other_and_itself_again() {
        for from in orientations() {
            for to in orientations() {
                let ((shape, voxels), (other, expected)) = (stored(from), stored(to));
                let map = AxisMap::between(from, to);
                assert_eq!((map.shape(shape), map.is_identity()), (other, from == to));
                assert_eq!(map.data(&voxels, shape).unwrap(), expected, "{from} to {to}");
                assert_eq!(map.inverse(), AxisMap::between(to, from));
                assert_eq!(map.inverse().data(&expected, other).unwrap(), voxels);
            }
        }
    }

    #[test]
    fn maps_follow_each_other() {
        for from in orientations() {
            for by in orientations() {
                let (first, second) =
                    (AxisMap::between(from, by), AxisMap::between(by, Orientation::LPS));
                assert_eq!(first.then(second), AxisMap::between(from, Orientation::LPS));
                assert_eq!(first.then(first.inverse()), AxisMap::IDENTITY);
            }
        }
    }

    #[test]
    fn a_box_goes_where_its_voxels_go() {
        for from in orientations() {
            let (shape @ [_, h, w], _) = stored(from);
            let map = AxisMap::between(from, Orientation::LPS);
            let target @ [_, th, tw] = map.shape(shape);
            let boxes = [
                Region::whole(shape),
                Region { start: [0, 1, 0], end: [1, 2, 2] },
                Region { start: [1, 0, 1], end: shape },
            ];
            for region in boxes {
                let mut inside = vec![false; shape.iter().product()];
                region.rows(shape).for_each(|row| inside[row].fill(true));
                let inside = map.data(&inside, shape).unwrap();
                let moved = map.region(region, shape);
                let mut expected = vec![false; inside.len()];
                moved.rows(target).for_each(|row| expected[row].fill(true));
                assert_eq!(inside, expected, "{from}: {region:?} is {moved:?}");
                assert_eq!(map.inverse().region(moved, target), region);
                // A part is a grid of its own.
                let part = map.row_in(region, [h, w], [0, 0]).first;
                let voxel = [part / (h * w), part / w % h, part % w];
                let first = map.region(Region::at(voxel, [1; 3]), shape).start;
                assert_eq!(first, moved.start);
                assert!(first[1] < th && first[2] < tw);
            }
        }
    }

    #[test]
    fn data_of_another_length_is_refused() {
        let map = AxisMap::between(Orientation::RAS, Orientation::LPS);
        assert_eq!(map.data(&[0; 5], [1, 2, 3]).unwrap_err().code(), "R-GEO-01");
    }

    #[test]
    fn names_are_parsed_and_printed() {
        for name in ["stored", "LPS", "RAS", "PIR"] {
            assert_eq!(name.parse::<Orient>().unwrap().to_string(), name);
        }
        assert_eq!("lps".parse::<Orient>().unwrap(), Orient::To(Orientation::LPS));
        for name in ["", "LP", "LPSS", "LRS", "LPX", "Stored", "ЛPS"] {
            let error = name.parse::<Orient>().unwrap_err();
            assert_eq!((error.code(), error.kind()), ("R-GEO-12", crate::ErrorKind::Usage));
        }
    }

    #[test]
    fn a_volume_is_turned_only_if_its_sides_are_known() {
        let affine = affine::from_rows([[0., 0., 2., 0.], [-1., 0., 0., 0.], [0., 3., 0., 0.]]);
        let placed = Geometry::with_affine([4; 3], affine).unwrap();
        assert_eq!(placed.orientation().unwrap().to_string(), "PSR");
        assert_eq!(Orient::Stored.orientation_of(&placed), placed.orientation());
        let to = Orient::To(Orientation::LPS);
        assert_eq!(to.orientation_of(&placed), Some(Orientation::LPS));
        assert!(!to.axes(&placed).unwrap().is_identity());

        let bare = Geometry::without_affine([4; 3]);
        assert!(Orient::Stored.axes(&bare).unwrap().is_identity());
        let guessed = placed.with_guessed_sides(true);
        for geometry in [bare, guessed] {
            let error = to.axes(&geometry).unwrap_err();
            assert_eq!((error.code(), error.kind()), ("R-GEO-11", crate::ErrorKind::Usage));
        }
    }

    #[test]
    fn only_what_a_model_was_not_trained_on_is_doubtful() {
        let doubt = |seen: &str, trained_on| {
            let seen: Orientation = seen.parse().unwrap();
            seen.doubt(trained_on).map(|warning| warning.code)
        };
        for axial in ["LPS", "RAS", "LAS", "PLS", "LPI", "RAI"] {
            assert_eq!(doubt(axial, None), None);
        }
        for other in ["PSL", "PIR", "LSA", "SPL"] {
            assert_eq!(doubt(other, None), Some("W-ORIENT"));
        }
        assert_eq!(doubt("LPS", Some(Orientation::LPS)), None);
        for other in ["RAS", "LAS", "LPI", "PSL"] {
            assert_eq!(doubt(other, Some(Orientation::LPS)), Some("W-ORIENT"));
        }
    }
}
