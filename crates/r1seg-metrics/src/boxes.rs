//! How well two boxes agree.

use r1seg_volume::Region;

/// A box by its lowest and highest corner, along any three axes and in any unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Corners {
    /// The least coordinates.
    pub low: [f64; 3],
    /// The greatest.
    pub high: [f64; 3],
}

/// What M3D-Bench gives where the answer or the truth has no box.
pub const NO_BOX: f64 = -1.0;

impl Corners {
    /// A box of voxels, whose ends are behind its last ones.
    pub fn of(region: Region) -> Self {
        Self { low: region.start.map(|n| n as f64), high: region.end.map(|n| n as f64) }
    }

    fn volume(&self) -> f64 {
        (0..3).map(|n| (self.high[n] - self.low[n]).max(0.0)).product()
    }

    fn intersection(&self, other: &Self) -> Self {
        Self {
            low: std::array::from_fn(|n| self.low[n].max(other.low[n])),
            high: std::array::from_fn(|n| self.high[n].min(other.high[n])),
        }
    }

    fn enclosing(&self, other: &Self) -> Self {
        Self {
            low: std::array::from_fn(|n| self.low[n].min(other.low[n])),
            high: std::array::from_fn(|n| self.high[n].max(other.high[n])),
        }
    }
}

/// Intersection over union of two boxes, 0..1; 0 where both have no volume.
pub fn box_iou(a: &Corners, b: &Corners) -> f64 {
    let both = a.intersection(b).volume();
    let either = a.volume() + b.volume() - both;
    if either > 0.0 { both / either } else { 0.0 }
}

/// What M3D-Bench calls IoU: the intersection over the box that encloses both, which is never less than the
/// union. It is at most [`box_iou`], and equal to it where one box holds the other.
///
/// ```
/// use r1seg_metrics::{Corners, box_iou, box_iou_m3d};
///
/// let a = Corners { low: [0.0; 3], high: [1.0, 1.0, 1.0] };
/// let b = Corners { low: [0.5, 0.5, 0.0], high: [1.5, 1.5, 1.0] };
/// assert_eq!(box_iou(&a, &b), 0.25 / 1.75);
/// assert!((box_iou_m3d(&a, &b) - 0.25 / 2.25).abs() < 1e-6);
/// ```
pub fn box_iou_m3d(a: &Corners, b: &Corners) -> f64 {
    // Against boxes without volume, and so that a perfect score is just short of 1.
    const EPSILON: f64 = 1e-6;
    a.intersection(b).volume() / (a.enclosing(b).volume() + EPSILON)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corners(start: [usize; 3], end: [usize; 3]) -> Corners {
        Corners::of(Region { start, end })
    }

    #[test]
    fn boxes_apart_and_boxes_without_volume_have_none_in_common() {
        let a = corners([0; 3], [2; 3]);
        for b in [corners([3; 3], [4; 3]), corners([2, 0, 0], [4, 2, 2]), corners([1; 3], [1; 3])] {
            assert_eq!((box_iou(&a, &b), box_iou_m3d(&a, &b)), (0.0, 0.0));
        }
        let flat = corners([1; 3], [1; 3]);
        assert_eq!((box_iou(&flat, &flat), box_iou_m3d(&flat, &flat)), (0.0, 0.0));
    }

    #[test]
    fn the_enclosing_box_is_the_union_where_one_holds_the_other() {
        let (outer, inner) = (corners([0; 3], [4; 3]), corners([1; 3], [3; 3]));
        assert_eq!(box_iou(&outer, &inner), 8.0 / 64.0);
        assert_eq!(box_iou_m3d(&outer, &inner), 8.0 / (64.0 + 1e-6));
        assert_eq!(box_iou(&outer, &outer), 1.0);
    }
}
