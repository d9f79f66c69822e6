//! Prompts as plug-ins send them, and as models take them.

use r1seg::volume::Region;
use r1seg::{Prompt, PromptPoint};
use serde::Deserialize;

use super::refusal::Refusal;

/// A point. Coordinates are voxels along the axes of the image, which may lie between two.
#[derive(Debug, Deserialize)]
pub(super) struct PointRequest {
    coordinates: [f64; 3],
    include_interaction: bool,
    #[serde(default = "yes")]
    pub(super) run_prediction: bool,
}

/// A box, half-open along each axis.
#[derive(Debug, Deserialize)]
pub(super) struct BoxRequest {
    bbox_coords: [[f64; 2]; 3],
    include_interaction: bool,
    #[serde(default = "yes")]
    pub(super) run_prediction: bool,
}

/// What comes along with the mask of an object.
#[derive(Debug, Default, Deserialize)]
pub(super) struct SeedMeta {
    #[serde(default)]
    pub(super) run_prediction: bool,
}

fn yes() -> bool {
    true
}

impl PointRequest {
    /// # Errors
    /// For a point outside of an image of `shape`.
    pub(super) fn prompt(&self, shape: [usize; 3]) -> Result<Prompt, Refusal> {
        let voxel = self.coordinates.map(f64::round_ties_even);
        let is_inside = (0..3).all(|n| 0.0 <= voxel[n] && voxel[n] < shape[n] as f64);
        if !is_inside {
            let [a, b, c] = shape;
            let message = format!("the point lies outside of the image of {a} x {b} x {c} voxels");
            return Err(Refusal::new(message));
        }
        // Within the image, hence whole numbers that fit.
        let voxel = voxel.map(|n| n as usize);
        let point = PromptPoint { voxel, positive: self.include_interaction };
        Ok(Prompt::default().with_point(point))
    }
}

impl BoxRequest {
    /// # Errors
    /// For a negative box, one outside of an image of `shape`, and one that is a rectangle in a slice.
    pub(super) fn prompt(&self, shape: [usize; 3]) -> Result<Prompt, Refusal> {
        if !self.include_interaction {
            let message = "negative boxes are not supported: use negative points";
            return Err(Refusal::new(message));
        }
        let mut region = Region::whole(shape);
        for (n, [low, high]) in self.bbox_coords.into_iter().enumerate() {
            let (low, high) = (low.round_ties_even(), high.round_ties_even());
            let end = shape[n] as f64;
            if !(low <= high && low < end && 0.0 <= high) {
                return Err(Refusal::new("the box lies outside of the image, or is reversed"));
            }
            // Casts from float to integer saturate.
            region.start[n] = low.max(0.0) as usize;
            region.end[n] = (high.min(end) as usize).max(region.start[n] + 1);
        }
        let [sides, voxels] = [region.shape(), shape];
        if (0..3).any(|n| sides[n] == 1 && voxels[n] > 1) {
            let message = "a box in one slice is not supported: use points, or a box over several \
                           slices along each axis";
            return Err(Refusal::new(message));
        }
        Ok(Prompt::default().with_region(region))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SHAPE: [usize; 3] = [10, 20, 30];

    fn point(at: serde_json::Value) -> Result<[usize; 3], Refusal> {
        let request = json!({"coordinates": at, "include_interaction": true});
        let request: PointRequest = serde_json::from_value(request).unwrap();
        assert!(request.run_prediction);
        request.prompt(SHAPE).map(|prompt| prompt.points[0].voxel)
    }

    fn region(at: serde_json::Value, positive: bool) -> Option<Region> {
        let request = json!({"bbox_coords": at, "include_interaction": positive});
        let request: BoxRequest = serde_json::from_value(request).unwrap();
        request.prompt(SHAPE).ok().and_then(|prompt| prompt.region)
    }

    #[test]
    fn coordinates_are_rounded_half_to_even() {
        assert_eq!(point(json!([5.199999809265137, 6.5, 7.5])).unwrap(), [5, 6, 8]);
        assert_eq!(point(json!([-0.5, 0, 29.4])).unwrap(), [0, 0, 29]);
        for outside in [json!([-0.6, 0, 0]), json!([9.5, 0, 0]), json!([0, 0, 1e300])] {
            assert!(point(outside.clone()).is_err(), "{outside}");
        }
    }

    #[test]
    fn a_box_is_clipped_and_one_in_a_slice_is_refused() {
        let found = region(json!([[2.4, 5.6], [3, 8], [0.5, 1e9]]), true);
        assert_eq!(found, Some(Region { start: [2, 3, 0], end: [6, 8, 30] }));
        assert_eq!(region(json!([[-5, 40], [-5, 40], [-5, 40]]), true), Some(Region::whole(SHAPE)));
        for refused in [
            json!([[5, 6], [3, 8], [0, 9]]),
            json!([[5.0, 5.2], [3, 8], [0, 9]]),
            json!([[6, 5], [3, 8], [0, 9]]),
            json!([[10, 12], [3, 8], [0, 9]]),
            json!([[-4, -1], [3, 8], [0, 9]]),
        ] {
            assert_eq!(region(refused.clone(), true), None, "{refused}");
        }
        assert_eq!(region(json!([[2, 5], [3, 8], [0, 9]]), false), None);
    }
}
