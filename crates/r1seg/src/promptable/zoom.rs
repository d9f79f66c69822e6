//! SegVol's zoom-in: the region of interest, and the point and box prompts for each window.
//!
//! Port of `logits2roi_coor`, `generate_box` and `select_points` in `utils/monai_inferers_utils.py`
//! (SegVol @5768c97), the last without its random draws: see [`points_in`].

use std::collections::BTreeSet;

use r1seg_mask_decoder::PointLabel;
use r1seg_volume::{GridMap, NearestMode, Region, RegionRule};

use super::prompt::Place;

/// Point prompts of a window: the authors draw one, and four more.
const POINTS: usize = 5;
/// What the authors write where there is no point, and no box: a corner at -0.5 voxels, which is
/// embedded as any other.
const NOWHERE: f32 = -1.0;

/// The part of a grid of shape `size` around what was found in it, `found`, grown towards the size of
/// a window: by half of what is missing on either side, rounded down and clipped at the grid, so that
/// it may stay smaller than the window.
pub(super) fn region_of_interest(found: Region, window: [usize; 3], size: [usize; 3]) -> Region {
    let pad: [usize; 3] = std::array::from_fn(|n| window[n].saturating_sub(found.shape()[n]) / 2);
    Region {
        start: std::array::from_fn(|n| found.start[n].saturating_sub(pad[n])),
        end: std::array::from_fn(|n| (found.end[n] + pad[n]).min(size[n])),
    }
}

/// How SegVol's authors bring cells of the model's grid to the prepared one: those of its voxels that
/// `nearest` takes from them.
const SHOWN: RegionRule = RegionRule::Sampled(NearestMode::Nearest);

/// The voxels of a window that take their value from `cells` of the model's grid, in the voxels of the
/// window; `None` where there are none. `model` leads from the prepared grid to the model's.
pub(super) fn shown_in(window: Region, cells: Region, model: &GridMap) -> Option<Region> {
    let part = GridMap::identity(model.source_shape()).cropped(window).ok()?;
    part.region(model.inverse().region(cells, SHOWN)?, RegionRule::Touched)
}

/// What two parts of a grid share.
pub(super) fn overlap(a: Region, b: Region) -> Option<Region> {
    let both = Region {
        start: std::array::from_fn(|n| a.start[n].max(b.start[n])),
        end: std::array::from_fn(|n| a.end[n].min(b.end[n])),
    };
    (0..3).all(|n| both.start[n] < both.end[n]).then_some(both)
}

/// The smallest box around the voxels of a mask of `shape` that are set, within a part of it.
pub(super) fn box_of(mask: &[u8], [_, h, w]: [usize; 3], within: Region) -> Option<Region> {
    let (mut start, mut end) = ([usize::MAX; 3], [0; 3]);
    for z in within.start[0]..within.end[0] {
        for y in within.start[1]..within.end[1] {
            let row = &mask[(z * h + y) * w..][within.start[2]..within.end[2]];
            let ends = (row.iter().position(|v| *v != 0), row.iter().rposition(|v| *v != 0));
            let (Some(first), Some(last)) = ends else { continue };
            let (first, last) = (within.start[2] + first, within.start[2] + last);
            for (n, (low, high)) in [(z, z), (y, y), (first, last)].into_iter().enumerate() {
                (start[n], end[n]) = (start[n].min(low), end[n].max(high + 1));
            }
        }
    }
    (end != [0; 3]).then_some(Region { start, end })
}

/// A box as the prompt encoder takes it: the first and the last voxel. Without a box the authors
/// write -1, six times, and embed that.
pub(super) fn corners(region: Option<Region>) -> [f32; 6] {
    let Some(Region { start, end }) = region else { return [NOWHERE; 6] };
    let last = end.map(|n| n.saturating_sub(1));
    let ([d0, h0, w0], [d1, h1, w1]) = (start.map(|n| n as f32), last.map(|n| n as f32));
    [d0, h0, w0, d1, h1, w1]
}

/// The points that a window is told, in its own voxels: five, the last of which may be no points.
///
/// The authors resize a map of the positive points from the model's grid to the volume's, so that
/// each becomes a block of voxels, and draw from it at random in every window. Here the voxels
/// nearest to a prompted point are taken, the point itself first (all of them, where there are more
/// than five), and of voxels equally near the first in the order of the volume. Negative points do
/// not reach the windows, as in the authors' code.
pub(super) fn points_in(
    window: Region,
    prompted: &[Place],
    model: &GridMap,
) -> Vec<([f32; 3], PointLabel)> {
    let mut candidates = BTreeSet::new();
    let to_prepared = model.inverse();
    for place in prompted.iter().filter(|place| place.positive) {
        let block = to_prepared.region(Region::at(place.cell, [1; 3]), SHOWN);
        let own = Region::at(place.voxel, [1; 3]);
        for part in [Some(own), block].into_iter().flatten() {
            let Some(seen) = overlap(part, window) else { continue };
            for z in seen.start[0]..seen.end[0] {
                for y in seen.start[1]..seen.end[1] {
                    for x in seen.start[2]..seen.end[2] {
                        let voxel = [z, y, x];
                        let gap = |n: usize| voxel[n].abs_diff(place.voxel[n]).pow(2);
                        candidates.insert((gap(0) + gap(1) + gap(2), voxel));
                    }
                }
            }
        }
    }
    // A voxel near two points is there twice.
    let mut voxels: Vec<[usize; 3]> = Vec::new();
    for (distance, voxel) in candidates {
        if (distance == 0 || voxels.len() < POINTS) && !voxels.contains(&voxel) {
            voxels.push(voxel);
        }
    }
    let of_window = |voxel: [usize; 3]| {
        std::array::from_fn(|n| voxel[n].saturating_sub(window.start[n]) as f32)
    };
    let mut points: Vec<_> =
        voxels.into_iter().map(|voxel| (of_window(voxel), PointLabel::Positive)).collect();
    // A window without any is told of one that is none.
    let count = if points.is_empty() { 1 } else { POINTS };
    while points.len() < count {
        points.push(([NOWHERE; 3], PointLabel::Padding));
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(start: [usize; 3], end: [usize; 3]) -> Region {
        Region { start, end }
    }

    #[test]
    fn quirk_17_a_region_grows_by_half_of_what_is_missing_rounded_down() {
        let grown =
            |start, end| region_of_interest(region(start, end), [16, 64, 64], [40, 90, 100]);
        // 16 - 5 = 11 missing, 5 on either side: 15 slices, one less than the window.
        assert_eq!(grown([20, 10, 30], [25, 74, 40]), region([15, 10, 3], [30, 74, 67]));
        // At the edges it is clipped, and does not grow on the other side for it.
        assert_eq!(grown([0, 0, 90], [4, 10, 100]), region([0, 0, 63], [10, 37, 100]));
        // What is larger than a window stays as it is.
        assert_eq!(grown([1, 2, 3], [39, 89, 99]), region([1, 2, 3], [39, 89, 99]));
    }

    #[test]
    fn a_box_is_that_of_the_voxels_within_a_part() {
        let mut mask = vec![0_u8; 4 * 5 * 6];
        for [z, y, x] in [[1, 2, 3], [2, 4, 1], [3, 0, 5]] {
            mask[(z * 5 + y) * 6 + x] = 1;
        }
        let found = |within| box_of(&mask, [4, 5, 6], within);
        assert_eq!(found(Region::whole([4, 5, 6])), Some(region([1, 0, 1], [4, 5, 6])));
        assert_eq!(found(region([0, 0, 0], [3, 5, 6])), Some(region([1, 2, 1], [3, 5, 4])));
        assert_eq!(found(region([0, 0, 0], [1, 5, 6])), None);
        assert_eq!(corners(found(region([1, 2, 3], [2, 3, 4]))), [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
    }

    #[test]
    fn quirk_15_an_empty_window_has_a_box_of_minus_ones() {
        assert_eq!(corners(None), [-1.0; 6]);
    }

    /// From a grid of `shape` to the model's.
    fn model(shape: [usize; 3], grid: [usize; 3]) -> GridMap {
        GridMap::identity(shape).fitted(grid).unwrap()
    }

    #[test]
    fn cells_are_shown_by_the_voxels_that_take_their_value() {
        let shown = |cells, grid, shape| shown_in(Region::whole(shape), cells, &model(shape, grid));
        let cells = region([1, 0, 3], [2, 4, 4]);
        assert_eq!(shown(cells, [4; 3], [8, 4, 6]), Some(region([2, 0, 5], [4, 4, 6])));
        // Resized down, a cell may get lost: 8 cells to 4 voxels take 0, 2, 4 and 6.
        assert_eq!(shown(region([1; 3], [2; 3]), [8; 3], [4; 3]), None);
        assert_eq!(shown(region([2; 3], [3; 3]), [8; 3], [4; 3]), Some(region([1; 3], [2; 3])));
    }

    #[test]
    fn quirk_18_the_points_of_a_window_are_the_prompted_ones_and_what_is_nearest() {
        let place = |voxel, cell, positive| Place { voxel, cell, positive };
        let model_of_4 = model([8, 8, 16], [4; 3]);
        let one = [place([3, 2, 9], [1, 1, 2], true)];
        let window = region([0, 0, 8], [8, 8, 16]);
        let points = points_in(window, &one, &model_of_4);
        let at: Vec<_> = points.iter().map(|(at, _)| *at).collect();
        // Block [2..4, 2..4, 8..12] of the volume.
        let expected = [[3., 2., 1.], [2., 2., 1.], [3., 2., 0.], [3., 2., 2.], [3., 3., 1.]];
        assert_eq!(at, expected);
        assert!(points.iter().all(|(_, label)| *label == PointLabel::Positive));
        assert_eq!(points, points_in(window, &one, &model_of_4));

        // A negative one stays outside, and a window without any gets one that is none.
        let negative = [place([3, 2, 9], [1, 1, 2], false)];
        let none = [([-1.0; 3], PointLabel::Padding)];
        assert_eq!(points_in(window, &negative, &model_of_4), none);
        assert_eq!(points_in(region([0; 3], [8, 8, 8]), &one, &model_of_4), none);

        // A cell that no voxel shows has its own point alone.
        let lost = [place([0, 0, 0], [1, 1, 1], true)];
        let points = points_in(region([0; 3], [4; 3]), &lost, &model([4; 3], [8; 3]));
        assert_eq!(points[0], ([0.0; 3], PointLabel::Positive));
        assert!(points[1..].iter().all(|(_, label)| *label == PointLabel::Padding));
        assert_eq!(points.len(), 5);

        // Seven that were asked for are all told.
        let seven: Vec<_> = (0..7).map(|x| place([0, 0, x], [0, 0, 0], true)).collect();
        let points = points_in(region([0; 3], [8, 8, 16]), &seven, &model_of_4);
        assert_eq!(points.len(), 7);
    }
}
