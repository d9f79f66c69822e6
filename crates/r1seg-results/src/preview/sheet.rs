//! The sheet: what goes where.

use std::ops::Range;

use r1seg::PromptPoint;
use r1seg::volume::Region;

use super::canvas::{Rect, Text};
use super::label_stats::LabelStats;
use super::legend;
use super::palette::{BACKGROUND, FAINT_TEXT, PLAIN_COLORS, TEXT};
use super::panel::{self, Slice};
use super::raster::Field;
use super::view::{Anatomy, Plane, View};
use super::window::Window;
use super::{Picture, Scene};

const WIDTH: usize = 1200;
const HEIGHT: usize = 1090;
const MARGIN: usize = 12;

/// Between the top of a heading and what it is the heading of.
const HEADING: usize = 22;
const CUT: [usize; 2] = [392, 378];
const CUTS_TOP: usize = 34;

const MOSAIC_TOP: usize = CUTS_TOP + HEADING + CUT[1] + 8;
const MOSAIC: [usize; 2] = [848, 600];
const MAX_TILES: usize = 12;
const GAP: usize = 6;

const LEGEND_LEFT: usize = MARGIN + MOSAIC[0] + MARGIN;
const FOOTER_TOP: usize = HEIGHT - 22;

const PLAIN: Text = Text { color: TEXT, scale: 2, on_image: false };
const FAINT: Text = Text { color: FAINT_TEXT, scale: 2, on_image: false };

// Parts of the sheet do not overlap.
const _: () = assert!(MOSAIC_TOP + HEADING + MOSAIC[1] <= FOOTER_TOP);
const _: () = assert!(MARGIN + 3 * CUT[0] <= WIDTH);

/// Draws all of it.
pub(super) fn draw(scene: &Scene<'_>) -> Picture {
    let mut field = Field::new(scene);
    let anatomy = Anatomy::new(scene.axes);
    let mut stats = LabelStats::new(field.shape, field.labels);
    if stats.is_empty() {
        stats.look_at(&regions(&field), anatomy.middle(field.shape));
    }
    let chosen = || Window::choose(&field, &stats, anatomy.steps_mm());
    field.window = scene.window.unwrap_or_else(chosen);
    let is_numbered = stats.counts.iter().filter(|count| **count > 0).count() > PLAIN_COLORS;
    let mut picture = Picture::filled(WIDTH, HEIGHT, BACKGROUND);

    let window = field.window.text();
    let window_left = (WIDTH - MARGIN).saturating_sub(PLAIN.width_of(window.len()));
    picture.write(window_left, 10, &window, FAINT);
    let room = window_left.saturating_sub(3 * MARGIN);
    picture.write(MARGIN, 10, &shortened(scene.title, PLAIN.characters_in(room)), PLAIN);
    for (i, plane) in Plane::ALL.into_iter().enumerate() {
        let [width, height] = CUT;
        let (x, y) = (MARGIN + i * width, CUTS_TOP + HEADING);
        let heading = heading(&anatomy, &field, plane, stats.center);
        picture.write(x, CUTS_TOP, &heading, FAINT);
        let area = Rect { x, y, width: width - MARGIN, height };
        panel::draw_cut(
            &mut picture,
            area,
            &field,
            &anatomy.view(plane, field.shape),
            stats.center,
            is_numbered,
        );
    }
    draw_mosaic(&mut picture, &field, &anatomy, &stats);

    let (x, y) = (LEGEND_LEFT, MOSAIC_TOP);
    let area = Rect { x, y, width: WIDTH - MARGIN - x, height: FOOTER_TOP - MARGIN - y };
    legend::draw(&mut picture, area, scene, &field, &anatomy, &stats.counts);
    let notice = "research use only, not a medical device";
    picture.write(
        WIDTH.saturating_sub(PLAIN.width_of(notice.len())) / 2,
        FOOTER_TOP,
        notice,
        PLAIN,
    );
    picture
}

/// The boxes, those that were found first, and each point as a box of one voxel.
fn regions(field: &Field<'_>) -> Vec<Region> {
    let found = field.boxes.iter().map(|mark| mark.region);
    let points = field
        .points
        .iter()
        .map(|point| Region { start: point.voxel, end: point.voxel.map(|index| index + 1) });
    found.chain(field.asked_boxes.iter().copied()).chain(points).collect()
}

/// The index that viewers show for an array axis, [D, H, W].
const INDEX: [char; 3] = ['k', 'j', 'i'];

/// For example `axial, k = 17 of 0..31`: an index of the file, as viewers and `--point` count.
fn heading(anatomy: &Anatomy, field: &Field<'_>, plane: Plane, center: [usize; 3]) -> String {
    let axis = anatomy.view(plane, field.shape).through;
    let (index, slice, count) = (INDEX[axis], center[axis], field.shape[axis]);
    let what = if anatomy.is_known { plane.name() } else { "cut" };
    match count.checked_sub(1) {
        Some(last) => format!("{what}, {index} = {slice} of 0..{last}"),
        None => "no voxels".to_owned(),
    }
}

/// Axial slices over the extent of the mask, superior first.
fn draw_mosaic(picture: &mut Picture, field: &Field<'_>, anatomy: &Anatomy, stats: &LabelStats) {
    let view = anatomy.view(Plane::Axial, field.shape);
    let downwards = anatomy.downwards(field.shape);
    let extent = &stats.extent[downwards.axis];
    let mut slices = spread(extent, downwards.count, MAX_TILES);
    if downwards.is_reversed {
        slices.reverse();
    }
    let what = match (stats.is_empty(), &field.boxes[..], &field.asked_boxes[..]) {
        (false, ..) => "mask",
        (true, [], []) => "points",
        (true, ..) => "box",
    };
    let mask = match extent.len() {
        0 => String::new(),
        slices_with_it if slices_with_it < slices.len() => {
            format!(" through and next to the {what}")
        }
        _ => format!(" through the {what}"),
    };
    let index = INDEX[view.through];
    let heading = match anatomy.is_known {
        true => format!("axial slices{mask}, superior first"),
        false => format!("slices{mask} along {index}, last first"),
    };
    picture.write(MARGIN, MOSAIC_TOP, &heading, FAINT);

    let columns = columns(&view, slices.len());
    let [width, height] = tile_size(columns, slices.len());
    for (place, slice) in slices.iter().copied().enumerate() {
        // Each point is on the slice that is nearest to it, so that all of them are seen.
        let distance =
            |slice: &usize, point: &PromptPoint| slice.abs_diff(point.voxel[view.through]);
        let is_nearest = |point: &&PromptPoint| {
            slices.iter().min_by_key(|slice| distance(slice, point)) == Some(&slice)
        };
        let points: Vec<PromptPoint> = field.points.iter().filter(is_nearest).copied().collect();
        let x = MARGIN + place % columns * (width + GAP);
        let y = MOSAIC_TOP + HEADING + place / columns * (height + GAP);
        let area = Rect { x, y, width, height };
        panel::draw_tile(picture, area, field, &view, Slice { slice, index, points: &points });
    }
}

/// In how many columns so many cuts are largest, with no more than one place left over.
fn columns(view: &View, tiles: usize) -> usize {
    let area = |columns: usize| {
        let [width, height] = view.size_within(tile_size(columns, tiles));
        width * height
    };
    let is_full = |columns: &usize| tiles.next_multiple_of(*columns) <= tiles + 1;
    (1..=tiles).filter(is_full).max_by_key(|columns| area(*columns)).unwrap_or(1)
}

/// The size of each of so many tiles in so many columns.
fn tile_size(columns: usize, tiles: usize) -> [usize; 2] {
    let rows = tiles.div_ceil(columns).max(1);
    [(MOSAIC[0] / columns).saturating_sub(GAP), (MOSAIC[1] / rows).saturating_sub(GAP)]
}

/// At most `wanted` slices, ascending, evenly over an extent; it is widened within the
/// volume's `count` slices if it has too few, and taken as the whole volume if it is empty.
fn spread(extent: &Range<usize>, count: usize, wanted: usize) -> Vec<usize> {
    let (mut start, mut end) =
        if extent.is_empty() { (0, count) } else { (extent.start, extent.end) };
    let wanted = wanted.min(count);
    let missing = wanted.saturating_sub(end - start);
    start = start.saturating_sub(missing / 2);
    end = end.max((start + wanted).min(count));
    start = start.min(end - wanted);
    // The middles of as many equal parts.
    (0..wanted).map(|i| start + (2 * i + 1) * (end - start) / (2 * wanted)).collect()
}

/// Text of at most so many characters; the middle is left out, since names that differ in
/// `left` and `right` do so at an end.
pub(super) fn shortened(text: &str, characters: usize) -> String {
    const ELLIPSIS: &str = "...";
    let count = text.chars().count();
    if count <= characters {
        return text.to_owned();
    }
    let kept = characters.saturating_sub(ELLIPSIS.len());
    let tail = kept / 2;
    let head: String = text.chars().take(kept - tail).collect();
    let tail: String = text.chars().skip(count - tail).collect();
    head + &ELLIPSIS[..characters.min(ELLIPSIS.len())] + &tail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_takes_the_middles_of_equal_parts() {
        assert_eq!(spread(&(0..24), 24, 12), (0..12).map(|i| 2 * i + 1).collect::<Vec<_>>());
        assert_eq!(spread(&(100..220), 300, 12)[..3], [105, 115, 125]);
    }

    #[test]
    fn spread_of_few_slices_takes_their_neighbors() {
        assert_eq!(spread(&(10..12), 40, 4), [9, 10, 11, 12]);
        assert_eq!(spread(&(0..1), 40, 4), [0, 1, 2, 3]);
        assert_eq!(spread(&(39..40), 40, 4), [36, 37, 38, 39]);
        assert_eq!(spread(&(1..2), 3, 4), [0, 1, 2]);
    }

    #[test]
    fn spread_without_an_extent_takes_the_whole_volume() {
        assert_eq!(spread(&(0..0), 8, 4), [1, 3, 5, 7]);
        assert_eq!(spread(&(0..0), 0, 4), [0; 0]);
    }

    #[test]
    fn tiles_are_as_large_as_their_number_allows() {
        let view = |shape| Anatomy::new(None).view(Plane::Axial, shape);
        for (shape, tiles, expected) in [
            ([9, 100, 100], 1, 1),
            ([9, 100, 100], 2, 2),
            ([9, 100, 100], 4, 2),
            ([9, 100, 100], 12, 4),
            ([9, 100, 80], 12, 4),
            ([9, 100, 100], 5, 3),
            ([9, 100, 10], 12, 12),
            ([9, 10, 1000], 12, 1),
        ] {
            assert_eq!(columns(&view(shape), tiles), expected, "{tiles} of {shape:?}");
        }
    }

    #[test]
    fn tiles_stay_inside_the_mosaic() {
        for tiles in 0..=MAX_TILES {
            for columns in 1..=tiles.max(1) {
                let [width, height] = tile_size(columns, tiles);
                assert!(columns * (width + GAP) <= MOSAIC[0]);
                assert!(tiles.div_ceil(columns) * (height + GAP) <= MOSAIC[1]);
            }
        }
    }

    #[test]
    fn shortened_text_keeps_both_ends() {
        assert_eq!(shortened("brachiocephalic_vein_left", 15), "brachi...n_left");
        assert_eq!(shortened("aorta", 5), "aorta");
        assert_eq!(shortened("aorta", 2), "..");
        assert_eq!(shortened("äöüäöü", 5), "ä...ü");
    }
}
