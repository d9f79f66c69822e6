//! Boxes that a model writes and reads, on the grid of the input.

use r1seg_tokenizer::{BoxText, PromptPart, VoxelBox, parse_boxes};
use r1seg_volume::{GridMap, NearestMode, Region, RegionRule};

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

/// The way between boxes in the words of a model, which are fractions of its grid, and boxes of the
/// input.
#[derive(Debug)]
pub(crate) struct BoxMapping {
    /// From the input to the grid of a model, or of one window.
    pub(crate) map: GridMap,
}

impl BoxMapping {
    /// The boxes in a text. All voxels that a box touches are in it.
    pub(crate) fn boxes_in(&self, text: &str) -> Vec<AnswerBox> {
        let (grid, to_input) = (self.map.shape(), self.map.inverse());
        let region = |text: &BoxText| {
            let cells = text.is_valid().then(|| text.to_indices(grid))?;
            let (start, last) = cells.clipped(grid)?;
            let cells = Region { start, end: last.map(|last| last.saturating_add(1)) };
            to_input.region(cells, RegionRule::Touched)
        };
        parse_boxes(text)
            .into_iter()
            .map(|text| AnswerBox { region: region(&text), text })
            .collect()
    }

    /// A part of the input as the model reads it: the box around its mask, resized as the authors
    /// resize masks.
    ///
    /// # Errors
    /// `R-BOX-01` where the model sees nothing of it.
    pub(crate) fn text_of(&self, region: Region) -> Result<BoxText, Error> {
        let rule = RegionRule::SampledOrMiddle(NearestMode::Nearest);
        let cells = self.map.region(region, rule).ok_or_else(|| {
            let message = format!("the box {}", outside_of(&self.map));
            r1seg_volume::Error::invalid_box(message)
        })?;
        let index = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let voxels = VoxelBox { min: cells.start.map(index), max: cells.end.map(|n| index(n) - 1) };
        Ok(BoxText::of(voxels, self.map.shape()))
    }
}

/// That something lies outside of what the target of a map shows.
pub(crate) fn outside_of(map: &GridMap) -> String {
    let Region { start, end } = map.footprint().unwrap_or(Region::whole(map.source_shape()));
    let last = end.map(|n| n.saturating_sub(1));
    format!("lies outside of what the model sees, voxels {start:?} to {last:?} of [D, H, W]")
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

    #[test]
    fn boxes_of_answers_lie_on_the_input() {
        let prepared = GridMap::identity([64, 128, 128]);
        let mapping = BoxMapping { map: prepared.clone().fitted([32, 256, 256]).unwrap() };
        // Cells 16..=23, 64..=127 and 105..=105 (0.41 is 105 / 256, which truncates to 104).
        let found = mapping.boxes_in("It is [0.5, 0.25, 0.41, 0.719, 0.496, 0.41].");
        assert_eq!(found[0].region, Some(region([32, 32, 52], [48, 64, 53])));
        assert_eq!(
            mapping.text_of(region([32, 32, 52], [48, 64, 53])).unwrap().to_string(),
            "[0.5, 0.25, 0.406, 0.719, 0.496, 0.41]"
        );
        for bad in ["[0.5, 0.5, 0.5, 0.4, 0.6, 0.6]", "[1.5, 1.5, 1.5, 1.6, 1.6, 1.6]"] {
            assert_eq!(mapping.boxes_in(bad)[0].region, None, "{bad}");
        }

        let mapping = BoxMapping { map: prepared.windowed([32, -8, 64], [32, 64, 64]) };
        let found = mapping.boxes_in("[0.0, 0.0, 0.0, 0.969, 0.25, 0.984]");
        assert_eq!(found[0].region, Some(region([32, 0, 64], [64, 9, 128])));
    }
}
