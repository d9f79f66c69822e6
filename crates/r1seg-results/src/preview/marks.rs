//! Signs on a cut that help to find small masks and to tell many labels apart.

use std::collections::BTreeMap;

use r1seg::PromptPoint;
use r1seg::volume::Region;

use super::canvas::{Rect, Text};
use super::palette::{Color, FAINT_TEXT, TEXT, color_of};
use super::raster::Tile;
use super::view::{ScreenAxis, View};
use super::{BoxMark, Picture};

const NUMBER: Text = Text { color: TEXT, scale: 1, on_image: true };

/// Masks that cover less than one in so many pixels of a cut are bracketed.
const SMALL_SHARE: usize = 1000;
/// Of the largest pieces; more would hide the image.
const MAX_BRACKETS: usize = 6;
/// Between a piece and its brackets.
const GAP: usize = 7;
const ARM: usize = 6;
/// Pieces this close share their brackets, which would overlap.
const JOINED: usize = 2 * GAP;

/// Of the frame of a box that was asked about.
const DASH: usize = 5;
const DASH_GAP: usize = 4;

/// Pixels from the middle of a point to the end of its cross.
const POINT_ARM: usize = 5;

/// Pixels from the border of a label to the middle of its number.
const ROOM_FOR_NUMBER: u16 = 6;

/// Puts corners around the pieces of a mask that is easily overlooked; `image` is where the
/// tile is.
pub(super) fn draw_brackets(picture: &mut Picture, image: Rect, tile: &Tile) {
    let labeled = tile.labels.iter().filter(|label| **label != 0).count();
    if labeled == 0 || labeled * SMALL_SHARE > tile.labels.len() {
        return;
    }
    let mut pieces = pieces(tile);
    pieces.sort_by_key(|piece| std::cmp::Reverse(piece.pixels));
    for Piece { left, right, top, bottom, .. } in pieces.into_iter().take(MAX_BRACKETS) {
        // Brackets stay on the image, where they have their meaning.
        let x = image.x + left.saturating_sub(GAP);
        let y = image.y + top.saturating_sub(GAP);
        let end_x = (image.x + right + 1 + GAP).min(image.right());
        let end_y = (image.y + bottom + 1 + GAP).min(image.bottom());
        let (width, height) = (ARM.min(end_x - x), ARM.min(end_y - y));
        let mut arms = Vec::new();
        for (arm_x, line_x) in [(x, x), (end_x - width, end_x - 1)] {
            for (arm_y, line_y) in [(y, y), (end_y - height, end_y - 1)] {
                arms.push(Rect { x: arm_x, y: line_y, width, height: 1 });
                arms.push(Rect { x: line_x, y: arm_y, width: 1, height });
            }
        }
        // The rim of one arm must not cover the end of another.
        arms.iter().for_each(|arm| picture.fill_on_image(*arm, TEXT));
        arms.iter().for_each(|arm| picture.fill(*arm, TEXT));
    }
}

/// Draws the frames of boxes that a cut at voxel `slice` goes through, `width` pixels wide, around
/// the pixels of their voxels; `image` is where the cut is.
pub(super) fn draw_boxes(
    picture: &mut Picture,
    image: Rect,
    view: &View,
    slice: usize,
    boxes: &[BoxMark],
    width: usize,
) {
    for BoxMark { label, region } in boxes {
        if !(region.start[view.through]..region.end[view.through]).contains(&slice) {
            continue;
        }
        let sides = sides(frame(image, view, region), width);
        // The rim of one side must not cover the end of another.
        sides.iter().for_each(|side| picture.fill_on_image(*side, color_of(*label)));
        sides.iter().for_each(|side| picture.fill(*side, color_of(*label)));
    }
}

/// Draws the frame of the box that was asked about in dashes, which no box that was found has.
pub(super) fn draw_asked_box(
    picture: &mut Picture,
    image: Rect,
    view: &View,
    region: &Region,
    color: Color,
) {
    draw_dashed(picture, frame(image, view, region), color);
}

/// Draws the sides of a rectangle in dashes.
pub(super) fn draw_dashed(picture: &mut Picture, rect: Rect, color: Color) {
    let mut dashes = Vec::new();
    for Rect { x, y, width, height } in sides(rect, 1) {
        for start in (0..width.max(height)).step_by(DASH + DASH_GAP) {
            let dash = |length: usize| DASH.min(length.saturating_sub(start));
            dashes.push(match width < height {
                true => Rect { x, y: y + start, width, height: dash(height) },
                false => Rect { x: x + start, y, width: dash(width), height },
            });
        }
    }
    dashes.iter().for_each(|dash| picture.fill_on_image(*dash, color));
    dashes.iter().for_each(|dash| picture.fill(*dash, color));
}

/// The pixels of the voxels of a box, at least one each way.
fn frame(image: Rect, view: &View, Region { start, end }: &Region) -> Rect {
    // The first pixel and the one past the last.
    let span = |axis: &ScreenAxis, pixels: usize| {
        let (a, b) = (axis.mirrored(start[axis.axis]), axis.mirrored(end[axis.axis] - 1));
        let [low, high] = [a.min(b), a.max(b) + 1].map(|n| n * pixels / axis.count.max(1));
        let high = high.max(low + 1).min(pixels);
        (low.min(high.saturating_sub(1)), high)
    };
    let (left, right) = span(&view.across, image.width);
    let (top, bottom) = span(&view.down, image.height);
    Rect { x: image.x + left, y: image.y + top, width: right - left, height: bottom - top }
}

/// The four sides of a rectangle, inside of it and `thickness` pixels thick.
fn sides(rect: Rect, thickness: usize) -> [Rect; 4] {
    let Rect { x, y, width, height } = rect;
    let (thin_x, thin_y) = (thickness.min(width), thickness.min(height));
    [
        Rect { height: thin_y, ..rect },
        Rect { y: y + height - thin_y, height: thin_y, ..rect },
        Rect { width: thin_x, ..rect },
        Rect { x: x + width - thin_x, width: thin_x, ..rect },
    ]
}

/// Draws the points that were asked about, brighter where the cut goes through their voxel.
pub(super) fn draw_points(
    picture: &mut Picture,
    image: Rect,
    view: &View,
    slice: usize,
    points: &[PromptPoint],
) {
    // The pixel in the middle of the voxel.
    let place = |axis: &ScreenAxis, pixels: usize, voxel: &[usize; 3]| {
        (2 * axis.mirrored(voxel[axis.axis]) + 1) * pixels / (2 * axis.count.max(1))
    };
    for PromptPoint { voxel, positive } in points {
        let x = image.x + place(&view.across, image.width, voxel);
        let y = image.y + place(&view.down, image.height, voxel);
        let color = if voxel[view.through] == slice { TEXT } else { FAINT_TEXT };
        draw_point(picture, (x, y), POINT_ARM, *positive, color);
    }
}

/// Draws an upright cross for a point inside of what is sought, a slanted one for one outside.
pub(super) fn draw_point(
    picture: &mut Picture,
    (x, y): (usize, usize),
    arm: usize,
    positive: bool,
    color: Color,
) {
    let arms = (0..=2 * arm).flat_map(|step| {
        let ends = if positive {
            [(step, arm), (arm, step)]
        } else {
            [(step, step), (step, 2 * arm - step)]
        };
        ends.into_iter().flat_map(|(dx, dy)| [(dx, dy), (dx + 1, dy), (dx, dy + 1)])
    });
    let dots: Vec<Rect> = arms
        .filter_map(|(dx, dy)| {
            // A cross at the border of the picture lacks what would be outside.
            let (x, y) = ((x + dx).checked_sub(arm)?, (y + dy).checked_sub(arm)?);
            Some(Rect { x, y, width: 1, height: 1 })
        })
        .collect();
    dots.iter().for_each(|dot| picture.fill_on_image(*dot, color));
    dots.iter().for_each(|dot| picture.fill(*dot, color));
}

/// Writes the number of each label in the middle of its thickest part, where there is room.
pub(super) fn draw_numbers(picture: &mut Picture, image: Rect, tile: &Tile) {
    let depths = depths(tile);
    let mut deepest = BTreeMap::<u16, _>::new();
    for (index, (label, depth)) in tile.labels.iter().zip(depths).enumerate() {
        if *label == 0 {
            continue;
        }
        let best = deepest.entry(*label).or_insert((0, 0));
        if depth > best.0 {
            *best = (depth, index);
        }
    }
    for (label, (depth, index)) in deepest {
        if depth < ROOM_FOR_NUMBER {
            continue;
        }
        let number = label.to_string();
        let x = image.x + index % tile.width;
        let y = image.y + index / tile.width;
        let x = x.saturating_sub(NUMBER.width_of(number.len()) / 2);
        picture.write(x, y.saturating_sub(NUMBER.height() / 2), &number, NUMBER);
    }
}

/// Pixels that have a label, close to each other.
struct Piece {
    pixels: usize,
    left: usize,
    right: usize,
    top: usize,
    bottom: usize,
}

fn pieces(tile: &Tile) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut is_open: Vec<bool> = tile.labels.iter().map(|label| *label != 0).collect();
    for start in 0..is_open.len() {
        if !is_open[start] {
            continue;
        }
        is_open[start] = false;
        let (x, y) = (start % tile.width, start / tile.width);
        let mut piece = Piece { pixels: 0, left: x, right: x, top: y, bottom: y };
        let mut front = vec![(x, y)];
        while let Some((x, y)) = front.pop() {
            piece.pixels += 1;
            (piece.left, piece.right) = (piece.left.min(x), piece.right.max(x));
            (piece.top, piece.bottom) = (piece.top.min(y), piece.bottom.max(y));
            for y in y.saturating_sub(JOINED)..(y + JOINED + 1).min(tile.height) {
                for x in x.saturating_sub(JOINED)..(x + JOINED + 1).min(tile.width) {
                    if std::mem::take(&mut is_open[y * tile.width + x]) {
                        front.push((x, y));
                    }
                }
            }
        }
        pieces.push(piece);
    }
    pieces
}

/// How many steps, diagonal ones too, each pixel is away from one with another label or from
/// the outside.
fn depths(tile: &Tile) -> Vec<u16> {
    let (width, height) = (tile.width, tile.height);
    let mut depths = vec![0_u16; width * height];
    for y in 0..height {
        for x in 0..width {
            depths[y * width + x] =
                shallowest(tile, &depths, x, y, [(-1, -1), (0, -1), (1, -1), (-1, 0)]);
        }
    }
    for y in (0..height).rev() {
        for x in (0..width).rev() {
            let depth = shallowest(tile, &depths, x, y, [(1, 1), (0, 1), (-1, 1), (1, 0)]);
            let index = y * width + x;
            depths[index] = depths[index].min(depth);
        }
    }
    depths
}

/// One more than the depth of the shallowest of these neighbors of a pixel; those with another
/// label and those outside have none.
fn shallowest(
    tile: &Tile,
    depths: &[u16],
    x: usize,
    y: usize,
    neighbors: [(isize, isize); 4],
) -> u16 {
    let label = tile.labels[y * tile.width + x];
    let depth_of = |(dx, dy)| match (x.checked_add_signed(dx), y.checked_add_signed(dy)) {
        (Some(x), Some(y)) if x < tile.width && y < tile.height => {
            let index = y * tile.width + x;
            if tile.labels[index] == label { depths[index] } else { 0 }
        }
        _ => 0,
    };
    neighbors.into_iter().map(depth_of).min().unwrap_or(0).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: usize = 100;
    const IMAGE: Rect = Rect { x: 10, y: 20, width: SIDE, height: SIDE };

    fn tile(label_at: impl Fn(usize, usize) -> u16) -> Tile {
        let labels = (0..SIDE * SIDE).map(|i| label_at(i % SIDE, i / SIDE)).collect();
        Tile { width: SIDE, height: SIDE, grey: vec![0.0; SIDE * SIDE], labels }
    }

    /// The pixels of the image that are in the color of text.
    fn marked(draw: impl Fn(&mut Picture)) -> Vec<(usize, usize)> {
        let mut picture = Picture::filled(120, 130, [9; 3]);
        draw(&mut picture);
        let pixels = picture.rgb.chunks_exact(3).enumerate();
        let marked = pixels.filter(|(_, pixel)| *pixel == TEXT);
        marked.map(|(i, _)| (i % 120 - IMAGE.x, i / 120 - IMAGE.y)).collect()
    }

    #[test]
    fn small_piece_has_a_bracket_at_each_corner() {
        let tile = tile(|x, y| u16::from((50..53).contains(&x) && y == 40));
        let marked = marked(|picture| draw_brackets(picture, IMAGE, &tile));
        assert_eq!(marked.len(), 4 * (2 * ARM - 1));
        for corner in [(43, 33), (59, 33), (43, 47), (59, 47)] {
            assert!(marked.contains(&corner), "{corner:?}");
        }
        assert!(!marked.iter().any(|(x, y)| (50..53).contains(x) && *y == 40));
    }

    #[test]
    fn pieces_far_apart_have_brackets_of_their_own() {
        let spots = [(10, 10), (80, 15), (40, 90)];
        let tile = tile(|x, y| u16::from(spots.contains(&(x, y))));
        let marked = marked(|picture| draw_brackets(picture, IMAGE, &tile));
        assert_eq!(marked.len(), 3 * 4 * (2 * ARM - 1));
    }

    #[test]
    fn pieces_close_together_share_their_brackets() {
        let tile = tile(|x, y| u16::from([(50, 50), (60, 52)].contains(&(x, y))));
        let marked = marked(|picture| draw_brackets(picture, IMAGE, &tile));
        assert_eq!(marked.len(), 4 * (2 * ARM - 1));
    }

    #[test]
    fn brackets_stay_on_the_image() {
        for corner in [(0, 0), (99, 0), (0, 99), (99, 99)] {
            let tile = tile(|x, y| u16::from((x, y) == corner));
            let marked = marked(|picture| draw_brackets(picture, IMAGE, &tile));
            assert!(!marked.is_empty());
            assert!(marked.iter().all(|(x, y)| *x < SIDE && *y < SIDE), "{corner:?}");
        }
    }

    #[test]
    fn mask_that_is_large_or_not_there_has_no_brackets() {
        for tile in [tile(|x, y| u16::from(x < 6 && y < 6)), tile(|_, _| 0)] {
            assert!(marked(|picture| draw_brackets(picture, IMAGE, &tile)).is_empty());
        }
    }

    #[test]
    fn number_of_a_label_is_written_inside_of_it() {
        let tile = tile(|x, y| if (20..60).contains(&x) && (30..70).contains(&y) { 28 } else { 0 });
        let marked = marked(|picture| draw_numbers(picture, IMAGE, &tile));
        let expected: usize =
            ['2', '8'].map(|digit| crate::preview::font::pixels(digit).count()).iter().sum();
        assert_eq!(marked.len(), expected);
        assert!(marked.iter().all(|(x, y)| (30..50).contains(x) && (40..60).contains(y)));
    }

    #[test]
    fn label_without_room_for_its_number_has_none() {
        let tile = tile(|x, _| if x % 20 < 10 { 1 + (x / 20) as u16 } else { 0 });
        assert!(marked(|picture| draw_numbers(picture, IMAGE, &tile)).is_empty());
    }
}
