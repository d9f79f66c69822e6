//! The order of axes in which viewers exchange volumes and masks: `[Z, Y, X]` of the closest grid from left
//! to right, posterior to anterior and inferior to superior, as nibabel's `as_closest_canonical` finds it.
//! Files stay as they are stored, and so does what models see.

use r1seg::Orientation;
use r1seg::volume::{AxisMap, Geometry};

/// The way from a stored grid to the one of viewers. A grid that nothing is known of stays as it is.
pub(super) fn canonical(stored: &Geometry) -> AxisMap {
    // Sides that are a guess are guessed as nibabel does.
    let own = stored.orientation();
    own.map_or(AxisMap::IDENTITY, |own| AxisMap::between(own, Orientation::RAS))
}
