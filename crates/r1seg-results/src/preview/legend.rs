//! The names of the labels in their colors, and what else there is to know.

use super::canvas::{Rect, Text};
use super::captions::{self, Entry, Sign};
use super::palette::{EMPTY_PANEL, FAINT_TEXT, TEXT};
use super::raster::Field;
use super::sheet::shortened;
use super::view::Anatomy;
use super::window::rounded;
use super::{Picture, Scene, marks};

const LARGE: Text = Text { color: TEXT, scale: 2, on_image: false };
const SMALL: Text = Text { color: TEXT, scale: 1, on_image: false };

/// Rows for the notes at the foot.
const NOTES: usize = 4;
const NOTE_HEIGHT: usize = 14;

const COLUMN_GAP: usize = 4;

/// An axis that is tilted by less than this is no news.
const TILT_DEGREES: f64 = 1.0;

/// How the entries are set.
#[derive(Clone, Copy)]
struct Layout {
    look: Text,
    columns: usize,
    /// Whether long texts go on in the next line.
    is_wrapped: bool,
}

/// The roomiest first.
const LAYOUTS: [Layout; 3] = [
    Layout { look: LARGE, columns: 1, is_wrapped: true },
    Layout { look: SMALL, columns: 1, is_wrapped: false },
    Layout { look: SMALL, columns: 2, is_wrapped: false },
];

impl Layout {
    fn row_height(self) -> usize {
        self.look.height() + 4 * self.look.scale
    }

    fn swatch(self) -> usize {
        self.row_height() - 4
    }

    /// From the left of a swatch to its text.
    fn indent(self) -> usize {
        self.swatch() + 3 * self.look.scale
    }

    fn lines(self, text: &str, width: usize) -> Vec<String> {
        let characters = self
            .look
            .characters_in((width / self.columns).saturating_sub(self.indent() + COLUMN_GAP));
        if self.is_wrapped { wrapped(text, characters) } else { vec![shortened(text, characters)] }
    }

    /// Rows that the entries need, all columns one below the other.
    fn rows(self, entries: &[Entry], width: usize) -> usize {
        entries.iter().map(|entry| self.lines(&entry.text, width).len()).sum()
    }
}

/// Draws the legend; `counts` are the voxels of each label that are drawn.
pub(super) fn draw(
    picture: &mut Picture,
    area: Rect,
    scene: &Scene<'_>,
    field: &Field<'_>,
    anatomy: &Anatomy,
    counts: &[u64],
) {
    let height = area.height - NOTES * NOTE_HEIGHT;
    let entries = captions::of(scene, field, counts);
    draw_entries(picture, Rect { height, ..area }, &entries);
    for (i, note) in notes(scene, anatomy).iter().rev().enumerate() {
        let y = area.bottom() - (i + 1) * NOTE_HEIGHT;
        let look = Text { color: FAINT_TEXT, ..SMALL };
        picture.write(area.x, y, &shortened(note, look.characters_in(area.width)), look);
    }
}

fn draw_entries(picture: &mut Picture, area: Rect, entries: &[Entry]) {
    let rows_of = |layout: &Layout| area.height / layout.row_height();
    let fits =
        |layout: &&Layout| layout.rows(entries, area.width) <= rows_of(layout) * layout.columns;
    let [.., densest] = LAYOUTS;
    let layout = *LAYOUTS.iter().find(fits).unwrap_or(&densest);
    let (row_height, swatch) = (layout.row_height(), layout.swatch());
    let rows = rows_of(&layout);

    let mut row = 0;
    for (i, entry) in entries.iter().enumerate() {
        let place = |row: usize| {
            let column = row.checked_div(rows).unwrap_or(layout.columns);
            let x = area.x + column * (area.width / layout.columns);
            (x, area.y + row.checked_rem(rows).unwrap_or(0) * row_height)
        };
        let (x, y) = place(row);
        // The last row says how many there was no room for.
        let is_last = row + 1 >= rows * layout.columns;
        if is_last && i + 1 < entries.len() {
            let more = format!("and {} more", entries.len() - i);
            picture.write(x, y, &more, layout.look);
            return;
        }
        draw_sign(picture, Rect { x, y, width: swatch, height: swatch }, entry.sign);
        let color = if entry.sign == Sign::Absent { FAINT_TEXT } else { TEXT };
        let look = Text { color, ..layout.look };
        for line in layout.lines(&entry.text, area.width) {
            let (x, y) = place(row);
            picture.write(x + layout.indent(), y + (swatch - look.height()) / 2, &line, look);
            row += 1;
        }
    }
}

fn draw_sign(picture: &mut Picture, area: Rect, sign: Sign) {
    picture.fill(area, if let Sign::Color(color) = sign { color } else { EMPTY_PANEL });
    match sign {
        Sign::Color(_) | Sign::Absent => {}
        Sign::Dashes => {
            let (width, height) = (area.width - 2, area.height - 2);
            marks::draw_dashed(picture, area.centered([width, height]), TEXT);
        }
        Sign::Cross(positive) => {
            let arm = (area.width / 2).saturating_sub(2);
            let middle = (area.x + area.width / 2 - 1, area.y + area.height / 2 - 1);
            marks::draw_point(picture, middle, arm, positive, TEXT);
        }
    }
}

/// Lines of at most so many characters, broken between words where that is possible.
fn wrapped(text: &str, characters: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut length = 0;
    for word in text.split_whitespace() {
        let word = shortened(word, characters);
        let count = word.chars().count();
        match lines.last_mut() {
            Some(line) if length == 0 || length + 1 + count <= characters => {
                if length > 0 {
                    line.push(' ');
                    length += 1;
                }
                line.push_str(&word);
                length += count;
            }
            _ => {
                lines.push(word);
                length = count;
            }
        }
    }
    lines
}

fn notes(scene: &Scene<'_>, anatomy: &Anatomy) -> Vec<String> {
    let [k, j, i] = scene.shape;
    let mut notes = vec![format!("{i} x {j} x {k} voxels (i, j, k), from 0")];
    if anatomy.is_known {
        let [k, j, i] = anatomy.steps_mm().map(rounded);
        notes.push(format!("of {i} x {j} x {k} mm"));
    }
    if !anatomy.is_known {
        notes.push("geometry unknown: sides unknown, voxels".to_owned());
        notes.push("drawn as cubes".to_owned());
    } else if anatomy.tilt_degrees >= TILT_DEGREES {
        notes
            .push(format!("cuts follow the array, which is tilted by {:.0}", anatomy.tilt_degrees));
        notes.push("degrees from the patient's axes".to_owned());
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_go_on_in_the_next_line() {
        let lines = wrapped("1 Where is the lesion of the liver?", 12);
        assert_eq!(lines, ["1 Where is", "the lesion", "of the", "liver?"]);
        assert_eq!(wrapped("portal_vein_and_splenic_vein", 9), ["por...ein"]);
        assert_eq!(wrapped("", 9), [""]);
    }

    #[test]
    fn sixty_labels_are_all_in_the_legend() {
        let area = Rect { x: 0, y: 0, width: 300, height: 540 };
        let entry = |i: u8| Entry { text: format!("{i} name"), sign: Sign::Color([100, i, 7]) };
        let entries: Vec<Entry> = (1..=90).map(entry).collect();
        let mut picture = Picture::filled(300, 540, [0; 3]);
        draw_entries(&mut picture, area, &entries);
        for entry in &entries {
            let Sign::Color(color) = entry.sign else { panic!() };
            let drawn = picture.rgb.chunks_exact(3).filter(|p| *p == color);
            assert_eq!(drawn.count(), 49, "{}", entry.text);
        }
    }

    #[test]
    fn legend_stays_inside_its_area() {
        let area = Rect { x: 20, y: 10, width: 240, height: 200 };
        for count in [0, 1, 8, 9, 30, 300] {
            let entry = |i| Entry {
                text: format!("{i} a rather long name of an organ"),
                sign: Sign::Color([9; 3]),
            };
            let mut picture = Picture::filled(300, 240, [0; 3]);
            draw_entries(&mut picture, area, &(0..count).map(entry).collect::<Vec<_>>());
            for (i, pixel) in picture.rgb.chunks_exact(3).enumerate() {
                let (x, y) = (i % 300, i / 300);
                let inside =
                    (area.x..area.right()).contains(&x) && (area.y..area.bottom()).contains(&y);
                assert!(inside || pixel == [0; 3], "{count} entries: ({x}, {y})");
            }
        }
    }
}
