//! The names of the labels in their colors, and what else there is to know.

use super::canvas::{Rect, Text};
use super::palette::{Color, EMPTY_PANEL, FAINT_TEXT, TEXT, color_of};
use super::sheet::shortened;
use super::view::Anatomy;
use super::{Picture, Scene};

const LARGE: Text = Text { color: TEXT, scale: 2, on_image: false };
const SMALL: Text = Text { color: TEXT, scale: 1, on_image: false };

/// Rows for the notes at the foot.
const NOTES: usize = 4;
const NOTE_HEIGHT: usize = 14;

/// An axis that is tilted by less than this is no news.
const TILT_DEGREES: f64 = 1.0;

/// A row of the legend.
struct Entry {
    text: String,
    /// Of the label's voxels, if there are any.
    color: Option<Color>,
}

/// Draws the legend; `counts` are the voxels of each label.
pub(super) fn draw(
    picture: &mut Picture,
    area: Rect,
    scene: &Scene<'_>,
    anatomy: &Anatomy,
    counts: &[u64; 256],
) {
    let height = area.height - NOTES * NOTE_HEIGHT;
    draw_entries(picture, Rect { height, ..area }, &entries(scene.names, counts));
    for (i, note) in notes(scene, anatomy).iter().rev().enumerate() {
        let y = area.bottom() - (i + 1) * NOTE_HEIGHT;
        let look = Text { color: FAINT_TEXT, ..SMALL };
        picture.write(area.x, y, &shortened(note, look.characters_in(area.width)), look);
    }
}

fn draw_entries(picture: &mut Picture, area: Rect, entries: &[Entry]) {
    let roomy = entries.len() * row_height(LARGE) <= area.height;
    let row_height = row_height(if roomy { LARGE } else { SMALL });
    let rows = area.height / row_height;
    // The last row says how many there was no room for.
    let shown = if entries.len() <= rows { entries.len() } else { rows.saturating_sub(1) };

    for (row, entry) in entries[..shown].iter().enumerate() {
        let y = area.y + row * row_height;
        let size = row_height - 4;
        let swatch = Rect { x: area.x, y, width: size, height: size };
        let text_left = swatch.right() + 6;
        let room = area.right() - text_left;
        let fits = LARGE.characters_in(room) >= entry.text.chars().count();
        let look = Text {
            color: if entry.color.is_some() { TEXT } else { FAINT_TEXT },
            ..if roomy && fits { LARGE } else { SMALL }
        };
        picture.fill(swatch, entry.color.unwrap_or(EMPTY_PANEL));
        let text = shortened(&entry.text, look.characters_in(room));
        picture.write(text_left, y + (size - look.height().min(size)) / 2, &text, look);
    }
    if shown < entries.len() {
        let more = format!("and {} more", entries.len() - shown);
        picture.write(area.x, area.y + shown * row_height, &more, SMALL);
    }
}

fn row_height(look: Text) -> usize {
    look.height() + 4 * look.scale
}

/// The labels that the volume has, then the names without a voxel.
fn entries(names: &[String], counts: &[u64; 256]) -> Vec<Entry> {
    let present = (1..=u8::MAX).filter(|label| counts[usize::from(*label)] > 0).map(|label| {
        let name = names.get(usize::from(label) - 1);
        let text = name.map_or_else(|| format!("label {label}"), |name| format!("{label} {name}"));
        Entry { text, color: Some(color_of(label)) }
    });
    let absent = names.iter().enumerate().filter_map(|(i, name)| {
        let label = i + 1;
        let is_absent = counts.get(label).is_none_or(|count| *count == 0);
        is_absent.then(|| Entry { text: format!("{label} {name}: no voxels"), color: None })
    });
    let mut entries: Vec<Entry> = present.chain(absent).collect();
    if entries.is_empty() {
        entries.push(Entry { text: "no mask".to_owned(), color: None });
    }
    entries
}

fn notes(scene: &Scene<'_>, anatomy: &Anatomy) -> Vec<String> {
    let [d, h, w] = scene.shape;
    let (low, high) = scene.window;
    let mut notes = vec![format!("{d} x {h} x {w} voxels (D, H, W)")];
    notes.push(format!("grey from {low} to {high}"));
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

    fn texts(names: &[&str], present: &[u8]) -> Vec<String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut counts = [0; 256];
        present.iter().for_each(|label| counts[usize::from(*label)] = 5);
        entries(&names, &counts).into_iter().map(|entry| entry.text).collect()
    }

    #[test]
    fn legend_lists_present_labels_before_empty_ones() {
        let expected = ["2 spleen", "label 9", "1 liver: no voxels"];
        assert_eq!(texts(&["liver", "spleen"], &[9, 2]), expected);
    }

    #[test]
    fn legend_without_labels_and_names_says_so() {
        assert_eq!(texts(&[], &[]), ["no mask"]);
    }

    #[test]
    fn legend_of_more_names_than_labels_lists_them() {
        assert_eq!(texts(&["x"; 300], &[255]).len(), 300);
    }

    #[test]
    fn legend_stays_inside_its_area() {
        let area = Rect { x: 20, y: 10, width: 240, height: 200 };
        for count in [0, 1, 8, 9, 30, 300] {
            let entry = |i| Entry {
                text: format!("{i} a rather long name of an organ"),
                color: Some([9; 3]),
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
