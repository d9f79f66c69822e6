//! Drawing on a picture; whatever falls outside it is left out.

use super::Picture;
use super::font;
use super::palette::{Color, SHADOW};

/// A rectangle of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rect {
    pub(super) x: usize,
    pub(super) y: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

impl Rect {
    /// A rectangle of this size in the middle of this one.
    pub(super) fn centered(self, [width, height]: [usize; 2]) -> Self {
        let x = self.x + self.width.saturating_sub(width) / 2;
        let y = self.y + self.height.saturating_sub(height) / 2;
        Self { x, y, width, height }
    }

    /// The first column to the right of it.
    pub(super) fn right(self) -> usize {
        self.x + self.width
    }

    /// The first row below it.
    pub(super) fn bottom(self) -> usize {
        self.y + self.height
    }
}

/// How a line of text looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text {
    pub(super) color: Color,
    /// Pixels of the picture to a pixel of the font.
    pub(super) scale: usize,
    /// Whether it needs a dark rim, to be readable on an image.
    pub(super) on_image: bool,
}

impl Text {
    /// Pixels from the first to the last column of a line of so many characters.
    pub(super) fn width_of(self, characters: usize) -> usize {
        (characters * font::ADVANCE * self.scale).saturating_sub(self.scale)
    }

    /// How many characters fit into so many pixels.
    pub(super) fn characters_in(self, width: usize) -> usize {
        (width + self.scale) / (font::ADVANCE * self.scale)
    }

    /// Pixels from the top of a capital letter to the baseline.
    pub(super) fn height(self) -> usize {
        font::HEIGHT * self.scale
    }
}

impl Picture {
    /// A picture of one color.
    pub(super) fn filled(width: usize, height: usize, color: Color) -> Self {
        Self { width, height, rgb: color.repeat(width * height) }
    }

    /// Sets one pixel.
    pub(super) fn set(&mut self, x: usize, y: usize, color: Color) {
        if x < self.width && y < self.height {
            let start = (y * self.width + x) * color.len();
            self.rgb[start..start + color.len()].copy_from_slice(&color);
        }
    }

    /// Fills a rectangle.
    pub(super) fn fill(&mut self, rect: Rect, color: Color) {
        for y in rect.y..rect.bottom().min(self.height) {
            for x in rect.x..rect.right().min(self.width) {
                self.set(x, y, color);
            }
        }
    }

    /// Fills a rectangle and puts a dark rim of one pixel around it.
    pub(super) fn fill_on_image(&mut self, rect: Rect, color: Color) {
        let (x, y) = (rect.x.saturating_sub(1), rect.y.saturating_sub(1));
        let rim = Rect { x, y, width: rect.right() + 1 - x, height: rect.bottom() + 1 - y };
        self.fill(rim, SHADOW);
        self.fill(rect, color);
    }

    /// Writes a line of text, its top left corner at `(x, y)`.
    pub(super) fn write(&mut self, x: usize, y: usize, text: &str, look: Text) {
        let scale = look.scale;
        let marks = || {
            text.chars().enumerate().flat_map(move |(column, character)| {
                let left = x + column * font::ADVANCE * scale;
                font::pixels(character).map(move |(dx, dy)| (left + dx * scale, y + dy * scale))
            })
        };
        if look.on_image {
            for (left, top) in marks() {
                let (x, y) = (left.saturating_sub(1), top.saturating_sub(1));
                self.fill(Rect { x, y, width: scale + 2, height: scale + 2 }, SHADOW);
            }
        }
        for (x, y) in marks() {
            self.fill(Rect { x, y, width: scale, height: scale }, look.color);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Text = Text { color: [255; 3], scale: 2, on_image: true };

    #[test]
    fn drawing_outside_the_picture_changes_nothing() {
        let mut picture = Picture::filled(8, 4, [1, 2, 3]);
        let before = picture.rgb.clone();
        picture.set(8, 0, [9; 3]);
        picture.fill(Rect { x: 100, y: 0, width: 5, height: 5 }, [9; 3]);
        picture.write(9, 5, "Wg|", LOOK);
        assert_eq!(picture.rgb, before);
    }

    #[test]
    fn fill_is_clipped_to_the_picture() {
        let mut picture = Picture::filled(3, 2, [0; 3]);
        picture.fill(Rect { x: 2, y: 1, width: 9, height: 9 }, [7; 3]);
        assert_eq!(picture.rgb[..15], [0; 15]);
        assert_eq!(picture.rgb[15..], [7; 3]);
    }

    #[test]
    fn text_that_fits_ends_before_the_width() {
        for width in 0..100 {
            let characters = LOOK.characters_in(width);
            assert!(LOOK.width_of(characters) <= width);
            assert!(LOOK.width_of(characters + 1) > width);
        }
    }
}
