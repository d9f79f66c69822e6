//! The labels over the grey image.

use super::Picture;
use super::palette::{SHADOW, color_of, mix};
use super::raster::Tile;

const FILL_SHARE: f32 = 0.35;
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
            let differs = |other: u8| other != label;
            let color = if label == 0 {
                let touches = has_labels && has_neighbor(tile, column, row, 1, 2, differs);
                if touches { mix(grey, SHADOW, HALO_SHARE) } else { grey }
            } else if has_neighbor(tile, column, row, outline, outline * outline, differs) {
                color_of(label)
            } else {
                mix(grey, color_of(label), FILL_SHARE)
            };
            picture.set(x + column, y + row, color);
        }
    }
}

/// Whether a pixel of the tile within `reach` pixels each way, and within the square root of
/// `square` of them, has a label that `is_sought`.
fn has_neighbor(
    tile: &Tile,
    column: usize,
    row: usize,
    reach: usize,
    square: usize,
    is_sought: impl Fn(u8) -> bool,
) -> bool {
    let rows = row.saturating_sub(reach)..(row + reach + 1).min(tile.height);
    rows.into_iter().any(|y| {
        let mut columns = column.saturating_sub(reach)..(column + reach + 1).min(tile.width);
        columns.any(|x| {
            let (dx, dy) = (x.abs_diff(column), y.abs_diff(row));
            dx * dx + dy * dy <= square && is_sought(tile.labels[y * tile.width + x])
        })
    })
}
