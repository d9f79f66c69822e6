//! One image of the sheet: a cut with its letters and marks.

use r1seg::PromptPoint;
use r1seg::volume::Region;

use super::Picture;
use super::canvas::{Rect, Text};
use super::marks;
use super::overlay;
use super::palette::{EMPTY_PANEL, FAINT_TEXT, TEXT};
use super::raster::Field;
use super::view::View;

const LETTER: Text = Text { color: TEXT, scale: 2, on_image: false };
const NOTE: Text = Text { color: TEXT, scale: 2, on_image: true };
const SMALL_NOTE: Text = Text { color: TEXT, scale: 1, on_image: true };

/// Around the image of a large cut, where its letters are.
const LETTER_MARGIN: usize = 24;
/// The marks of the other two cuts, in from the edges.
const TICK: Rect = Rect { x: 0, y: 0, width: 1, height: 8 };

const CUT_OUTLINE: usize = 2;
const TILE_OUTLINE: usize = 1;

/// The lengths of a scale bar, of which the longest that is at most a third of the image is
/// taken.
const BARS_MM: [u16; 8] = [200, 100, 50, 20, 10, 5, 2, 1];

/// Draws the cut through `center` (`[D, H, W]`) with the letters of its sides, a scale bar,
/// marks where the other two cuts are, and the numbers of labels if wanted.
pub(super) fn draw_cut(
    picture: &mut Picture,
    area: Rect,
    field: &Field<'_>,
    view: &View,
    center: [usize; 3],
    is_numbered: bool,
) {
    let limit = [area.width, area.height].map(|size| size - 2 * LETTER_MARGIN);
    let size = view.size_within(limit);
    picture.fill(area, EMPTY_PANEL);
    if size.contains(&0) {
        return;
    }
    let image = area.centered(size);
    let tile = field.cut(view, center[view.through], size);
    overlay::draw(picture, (image.x, image.y), &tile, CUT_OUTLINE);
    marks::draw_brackets(picture, image, &tile);
    let slice = center[view.through];
    marks::draw_boxes(picture, image, view, slice, &field.boxes, CUT_OUTLINE);
    for region in &field.asked_boxes {
        let is_here = (region.start[view.through]..region.end[view.through]).contains(&slice);
        let color = if is_here { TEXT } else { FAINT_TEXT };
        marks::draw_asked_box(picture, image, view, region, color);
    }
    marks::draw_points(picture, image, view, slice, &field.points);
    if is_numbered {
        marks::draw_numbers(picture, image, &tile);
    }

    draw_letters(picture, image, view);
    draw_ticks(picture, image, view, center);
    if view.across.letters.is_some() {
        draw_scale_bar(picture, image, view);
    }
}

/// What a small cut shows.
pub(super) struct Slice<'a> {
    /// Counted from 0.
    pub(super) slice: usize,
    /// What that number is called: `k`.
    pub(super) index: char,
    /// The points that are drawn on it.
    pub(super) points: &'a [PromptPoint],
}

/// Draws a small axial cut with its slice number and the patient's right.
pub(super) fn draw_tile(
    picture: &mut Picture,
    area: Rect,
    field: &Field<'_>,
    view: &View,
    Slice { slice, index, points }: Slice<'_>,
) {
    let size = view.size_within([area.width, area.height]);
    picture.fill(area, EMPTY_PANEL);
    if size.contains(&0) {
        return;
    }
    let image = area.centered(size);
    let tile = field.cut(view, slice, size);
    overlay::draw(picture, (image.x, image.y), &tile, TILE_OUTLINE);
    marks::draw_brackets(picture, image, &tile);
    marks::draw_boxes(picture, image, view, slice, &field.boxes, TILE_OUTLINE);
    let is_through =
        |region: &&Region| (region.start[view.through]..region.end[view.through]).contains(&slice);
    for region in field.asked_boxes.iter().filter(is_through) {
        marks::draw_asked_box(picture, image, view, region, TEXT);
    }
    marks::draw_points(picture, image, view, slice, points);

    let number = format!("{index} = {slice}");
    let has_room = NOTE.width_of(number.len()) + 8 <= area.width;
    let number = if has_room { number } else { slice.to_string() };
    picture.write(area.x + 4, area.y + 4, &number, NOTE);
    if let Some([first, _]) = view.across.letters {
        let y = area.y + (area.height - NOTE.height()) / 2;
        picture.write(area.x + 4, y, first.encode_utf8(&mut [0; 4]), NOTE);
    }
}

fn draw_letters(picture: &mut Picture, image: Rect, view: &View) {
    let (width, height) = (LETTER.width_of(1), LETTER.height());
    let (x, y) = (image.x + image.width / 2 - width / 2, image.y + image.height / 2);
    let y = y.saturating_sub(height / 2);
    let gap = (LETTER_MARGIN - height) / 2;
    let mut write = |x, y, letter: char| {
        picture.write(x, y, letter.encode_utf8(&mut [0; 4]), LETTER);
    };
    if let Some([left, right]) = view.across.letters {
        write(image.x - gap - width, y, left);
        write(image.right() + gap, y, right);
    }
    if let Some([top, bottom]) = view.down.letters {
        write(x, image.y - gap - height, top);
        write(x, image.bottom() + gap, bottom);
    }
}

fn draw_ticks(picture: &mut Picture, image: Rect, view: &View, center: [usize; 3]) {
    let position = |axis: &super::view::ScreenAxis, pixels: usize| {
        let voxels = axis.mirrored(center[axis.axis]) as f64 + 0.5;
        // A cast from float to integer saturates.
        (voxels / axis.count as f64 * pixels as f64) as usize
    };
    let x = image.x + position(&view.across, image.width);
    let y = image.y + position(&view.down, image.height);
    let (thin, long) = (TICK.width, TICK.height);
    let upright = |y| Rect { x, y, width: thin, height: long };
    let level = |x| Rect { x, y, width: long, height: thin };
    // An image too thin for a mark at both edges gets none.
    if image.height > 4 * long {
        picture.fill_on_image(upright(image.y), TEXT);
        picture.fill_on_image(upright(image.bottom() - long), TEXT);
    }
    if image.width > 4 * long {
        picture.fill_on_image(level(image.x), TEXT);
        picture.fill_on_image(level(image.right() - long), TEXT);
    }
}

fn draw_scale_bar(picture: &mut Picture, image: Rect, view: &View) {
    let length_mm = view.across.length_mm();
    let Some(bar_mm) = BARS_MM.into_iter().find(|mm| f64::from(*mm) <= length_mm / 3.0) else {
        return;
    };
    // A cast from float to integer saturates.
    let width = (f64::from(bar_mm) / length_mm * image.width as f64).round() as usize;
    let label = format!("{bar_mm} mm");
    let (x, y) = (image.x + 14, image.bottom().saturating_sub(14));
    if image.height < 60 || width < 8 || image.width < SMALL_NOTE.width_of(label.len()) + 28 {
        return;
    }
    picture.fill_on_image(Rect { x, y, width, height: 2 }, TEXT);
    picture.write(x, y - 12, &label, SMALL_NOTE);
}
