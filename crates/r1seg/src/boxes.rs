//! Boxes that a model writes and reads, on the grid of the input.

use r1seg_tokenizer::{BoxText, PromptPart, VoxelBox, parse_boxes};
use r1seg_volume::{Geometry, Placement, Region};

use crate::Error;

/// In a question, where its box goes; without it, a box goes to the end.
pub const BOX_PLACEHOLDER: &str = "{box}";

/// A box in an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct AnswerBox {
    /// As the model wrote it: fractions of what it saw.
    pub text: BoxText,
    /// The voxels of the input that it holds. Absent for a box that is reversed or lies outside of
    /// what the model saw.
    pub region: Option<Region>,
}

/// The part of a model's input that a text is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sight<'a> {
    pub(crate) placement: &'a Placement,
    /// The model's grid, `[D, H, W]`.
    pub(crate) grid: [usize; 3],
    /// The first cell of a window in the prepared grid, and negative in the padding; absent when the
    /// model's grid covers all of it.
    pub(crate) window: Option<[i64; 3]>,
}

impl Sight<'_> {
    /// The boxes in a text.
    pub(crate) fn boxes_in(&self, text: &str) -> Vec<AnswerBox> {
        let region = |text: &BoxText| {
            let cells = text.is_valid().then(|| text.to_indices(self.grid))?;
            let (min, max) = cells.clipped(self.grid)?;
            let cells = |min: [usize; 3], max: [usize; 3]| Region {
                start: min,
                end: max.map(|last| last.saturating_add(1)),
            };
            let Some(window) = self.window else {
                return Some(self.placement.from_cells(cells(min, max), self.grid));
            };
            let shift = |corner: [usize; 3]| {
                std::array::from_fn(|axis| {
                    window[axis].saturating_add(i64::try_from(corner[axis]).unwrap_or(i64::MAX))
                })
            };
            let shape = self.placement.shape();
            let (min, max) = VoxelBox { min: shift(min), max: shift(max) }.clipped(shape)?;
            Some(self.placement.from_cells(cells(min, max), shape))
        };
        parse_boxes(text)
            .into_iter()
            .map(|text| AnswerBox { region: region(&text), text })
            .collect()
    }

    /// A part of the input as the model reads it.
    ///
    /// # Errors
    /// [`Error::Box`] where the model sees nothing of it.
    pub(crate) fn text_of(&self, region: Region) -> Result<BoxText, Error> {
        let cells = self.placement.to_cells(region, self.grid).ok_or_else(|| {
            let Region { start, end } = self.placement.region();
            Error::Box {
                message: format!(
                    "the box lies outside of what the model sees, voxels {start:?} to {:?} of \
                     [D, H, W]",
                    end.map(|n| n.saturating_sub(1)),
                ),
            }
        })?;
        let index = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let voxels = VoxelBox { min: cells.start.map(index), max: cells.end.map(|n| index(n) - 1) };
        Ok(BoxText::of(voxels, self.grid))
    }
}

/// Whether a box lies in a volume.
///
/// # Errors
/// [`Error::Box`] for one without voxels, and for one that leaves the volume.
pub fn check_box(geometry: &Geometry, region: Region) -> Result<(), Error> {
    let shape = geometry.shape();
    if (0..3).any(|axis| region.end[axis] <= region.start[axis]) {
        return Err(Error::Box { message: "the box is empty or reversed".to_string() });
    }
    if (0..3).any(|axis| shape[axis] < region.end[axis]) {
        let ([d, h, w], [k, j, i]) = (shape, region.end.map(|n| n.saturating_sub(1)));
        return Err(Error::Box {
            message: format!(
                "the box ends at voxel {i},{j},{k} (i, j, k), but the volume has {w} x {h} x {d}"
            ),
        });
    }
    Ok(())
}

/// The voxels of a volume between two corners in the world (RAS+ mm): those whose centers are
/// nearest to the corners, and all between. On an oblique grid, all that the box in the world
/// touches.
///
/// # Errors
/// [`Error::Box`] for corners that are not finite or reversed, without an affine, and where the
/// volume has nothing of the box.
pub fn box_from_mm(geometry: &Geometry, [low, high]: [[f64; 3]; 2]) -> Result<Region, Error> {
    let wrong = |message: &str| Error::Box { message: message.to_string() };
    if low.iter().chain(&high).any(|mm| !mm.is_finite()) {
        return Err(wrong("the box has a corner that is not a finite number"));
    }
    if (0..3).any(|axis| high[axis] < low[axis]) {
        return Err(wrong("the box is reversed: each lower corner comes first"));
    }
    let (mut first, mut last) = ([f64::INFINITY; 3], [f64::NEG_INFINITY; 3]);
    for corner in 0..8 {
        let mm = std::array::from_fn(|axis| [low, high][corner >> axis & 1][axis]);
        let ijk = geometry
            .voxel_at_mm(mm)
            .ok_or_else(|| wrong("the volume has no affine, so that mm have no meaning in it"))?;
        for axis in 0..3 {
            first[axis] = first[axis].min(ijk[axis].round());
            last[axis] = last[axis].max(ijk[axis].round());
        }
    }
    let [d, h, w] = geometry.shape();
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
/// absent without an affine.
pub fn box_to_mm(geometry: &Geometry, region: Region) -> Option<[[f64; 3]; 2]> {
    let (mut low, mut high) = ([f64::INFINITY; 3], [f64::NEG_INFINITY; 3]);
    for corner in 0..8 {
        // i, j, k are W, H, D.
        let ijk = [2, 1, 0].map(|axis: usize| match corner >> axis & 1 {
            0 => region.start[axis] as f64,
            _ => region.end[axis] as f64 - 1.0,
        });
        let mm = geometry.world_mm(ijk)?;
        for axis in 0..3 {
            low[axis] = low[axis].min(mm[axis]);
            high[axis] = high[axis].max(mm[axis]);
        }
    }
    Some([low, high])
}

/// A question with its box: at each [`BOX_PLACEHOLDER`], or at the end.
pub(crate) fn with_box<'a>(question: &'a str, text: &'a str) -> Vec<PromptPart<'a>> {
    const START: PromptPart<'_> = PromptPart::Token("<bx_start>");
    const END: PromptPart<'_> = PromptPart::Token("<bx_end>");
    let mut parts = Vec::new();
    let mut pieces: Vec<&str> = question.split(BOX_PLACEHOLDER).collect();
    if let [only] = pieces[..] {
        parts.push(PromptPart::Text(only));
        parts.extend((!only.ends_with(char::is_whitespace)).then_some(PromptPart::Text(" ")));
        pieces = vec!["", ""];
    }
    for (index, piece) in pieces.into_iter().enumerate() {
        if index > 0 {
            parts.extend([START, PromptPart::Text(text), END]);
        }
        parts.extend((!piece.is_empty()).then_some(PromptPart::Text(piece)));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(start: [usize; 3], end: [usize; 3]) -> Region {
        Region { start, end }
    }

    fn joined(question: &str) -> String {
        with_box(question, "[b]")
            .into_iter()
            .map(|part| match part {
                PromptPart::Text(text) | PromptPart::Token(text) => text,
            })
            .collect()
    }

    #[test]
    fn a_box_goes_to_its_place_or_to_the_end() {
        assert_eq!(joined("What is in {box}?"), "What is in <bx_start>[b]<bx_end>?");
        assert_eq!(joined("What is this?"), "What is this? <bx_start>[b]<bx_end>");
        assert_eq!(joined("What is this: "), "What is this: <bx_start>[b]<bx_end>");
        assert_eq!(joined("{box}"), "<bx_start>[b]<bx_end>");
    }

    /// 2 x 3 x 4 mm along i, j, k; i runs to the left, and the grid is turned by 30 degrees about k.
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
        let affine = [
            [-2.0, 0.0, 0.0, 50.0],
            [0.0, 3.0, 0.0, -20.0],
            [0.0, 0.0, 4.0, 7.0],
            [0.0, 0.0, 0.0, 1.0],
        ];
        let geometry = Geometry::with_affine([10, 20, 30], affine).unwrap();
        let given = region([1, 2, 3], [4, 6, 9]);
        let mm = box_to_mm(&geometry, given).unwrap();
        assert_eq!(mm, [[34.0, -14.0, 11.0], [44.0, -5.0, 19.0]]);
        assert_eq!(box_from_mm(&geometry, mm).unwrap(), given);
    }

    #[test]
    fn a_box_in_an_oblique_world_holds_all_that_it_touches() {
        let given = region([1, 6, 8], [4, 9, 12]);
        let mm = box_to_mm(&oblique(), given).unwrap();
        let back = box_from_mm(&oblique(), mm).unwrap();
        assert!((0..3).all(|n| back.start[n] <= given.start[n] && given.end[n] <= back.end[n]));
        let center = oblique().world_mm([9.0, 7.0, 2.0]).unwrap();
        assert_eq!(
            box_from_mm(&oblique(), [center, center]).unwrap(),
            region([2, 7, 9], [3, 8, 10])
        );
    }

    #[test]
    fn bad_boxes_are_told_apart() {
        let says = |error: Error| (error.code(), error.to_string());
        let bare = Geometry::without_affine([10, 20, 30]);
        let voxels = |start, end| says(check_box(&bare, region(start, end)).unwrap_err());
        let (code, text) = voxels([0, 0, 0], [10, 20, 31]);
        assert_eq!((code, text.contains("30 x 20 x 10")), ("R-BOX-01", true), "{text}");
        assert!(voxels([5, 0, 0], [5, 1, 1]).1.contains("empty or reversed"));
        assert!(check_box(&bare, region([0; 3], [10, 20, 30])).is_ok());

        let mm = |geometry: &Geometry, low, high| {
            says(box_from_mm(geometry, [low, high]).unwrap_err()).1
        };
        assert!(mm(&bare, [0.0; 3], [1.0; 3]).contains("no affine"));
        assert!(mm(&oblique(), [f64::NAN; 3], [1.0; 3]).contains("finite"));
        assert!(mm(&oblique(), [2.0; 3], [1.0; 3]).contains("reversed"));
        assert!(mm(&oblique(), [1e6; 3], [2e6; 3]).contains("outside"));
    }

    #[test]
    fn boxes_of_answers_lie_on_the_input() {
        let volume = r1seg_volume::Volume::new(
            vec![0.5; 64 * 128 * 128],
            Geometry::without_affine([64, 128, 128]),
        )
        .unwrap();
        let placement = r1seg_volume::Recipe::None.apply(&volume).unwrap().placement();
        let grid = [32, 256, 256];
        let sight = Sight { placement: &placement, grid, window: None };
        // Cells 16..=23, 64..=127 and 105..=105 (0.41 is 105 / 256, which truncates to 104).
        let found = sight.boxes_in("It is [0.5, 0.25, 0.41, 0.719, 0.496, 0.41].");
        assert_eq!(found[0].region, Some(region([32, 32, 52], [48, 64, 53])));
        assert_eq!(
            sight.text_of(region([32, 32, 52], [48, 64, 53])).unwrap().to_string(),
            "[0.5, 0.25, 0.406, 0.719, 0.496, 0.41]"
        );
        for bad in ["[0.5, 0.5, 0.5, 0.4, 0.6, 0.6]", "[1.5, 1.5, 1.5, 1.6, 1.6, 1.6]"] {
            assert_eq!(sight.boxes_in(bad)[0].region, None, "{bad}");
        }

        let sight = Sight { grid: [32, 64, 64], window: Some([32, -8, 64]), ..sight };
        let found = sight.boxes_in("[0.0, 0.0, 0.0, 0.969, 0.25, 0.984]");
        assert_eq!(found[0].region, Some(region([32, 0, 64], [64, 9, 128])));
    }
}
