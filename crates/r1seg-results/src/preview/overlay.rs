//! The labels over the grey image.

use super::Picture;
use super::palette::{SHADOW, color_of, mix};
use super::raster::Tile;

/// Little enough to judge the tissue below.
const FILL_SHARE: f32 = 0.25;
/// How dark the rim outside of an outline is, which sets it off from bone.
const HALO_SHARE: f32 = 0.8;

/// Draws a cut with its top left corner at `(x, y)`: labels are filled, outlined inwards by
/// `outline` pixels and rimmed in the dark.
pub(super) fn draw(picture: &mut Picture, (x, y): (usize, usize), tile: &Tile, outline: usize) {
    let has_labels = tile.labels.iter().any(|label| *label != 0);
    for row in 0..tile.height {
        for column in 0..tile.width {
            let index = row * tile.width + column;
            let label = tile.labels[index];
            // A cast from float to integer saturates.
            let grey = [(tile.grey[index] * 255.0).round() as u8; 3];
            let color = if label == 0 {
                let touches = has_labels && has_other_near(tile, column, row, 1, 2);
                if touches { mix(grey, SHADOW, HALO_SHARE) } else { grey }
            } else if has_other_near(tile, column, row, outline, outline * outline) {
                color_of(label)
            } else {
                mix(grey, color_of(label), FILL_SHARE)
            };
            picture.set(x + column, y + row, color);
        }
    }
}

/// Whether a pixel of the tile within `reach` pixels each way, and within the square root of
/// `square` of them, has another label than this one.
fn has_other_near(tile: &Tile, column: usize, row: usize, reach: usize, square: usize) -> bool {
    let label = tile.labels[row * tile.width + column];
    let left = column.saturating_sub(reach);
    let right = (column + reach + 1).min(tile.width);
    let mut rows = row.saturating_sub(reach)..(row + reach + 1).min(tile.height);
    rows.any(|y| {
        let line = &tile.labels[y * tile.width + left..y * tile.width + right];
        // Most lines are of one label.
        let differing = line.iter().fold(0, |differing, other| differing | (other ^ label));
        differing != 0
            && line.iter().enumerate().any(|(i, other)| {
                let (dx, dy) = ((left + i).abs_diff(column), y.abs_diff(row));
                *other != label && dx * dx + dy * dy <= square
            })
    })
}
