//! Warnings that several formats share.

use r1seg_diagnostic::Remedy;

use super::source::Rest;
use crate::Warning;
use crate::affine::{self, Affine};

/// Axes whose cosine stays below this are at right angles, for all that f32 headers can say.
const SHEAR_TOLERANCE: f64 = 1e-4;

/// What follows the voxels.
pub(super) fn rest(rest: &Rest) -> Option<Warning> {
    let text = match rest {
        Rest::Nothing => return None,
        Rest::MoreData => {
            "the file goes on after the last voxel that its header declares: the rest is ignored"
        }
        Rest::Garbage => "there are bytes behind the compressed data: they are ignored",
    };
    Some(Warning::new("W-TRAILING", text))
}

/// A sheared grid.
pub(super) fn shear(affine: &Affine) -> Option<Warning> {
    let shear = affine::shear(affine);
    let text = format!(
        "the voxel axes are not at right angles (cosine up to {shear:.4}): ITK-based viewers \
         may refuse the volume and its mask"
    );
    (SHEAR_TOLERANCE < shear).then(|| Warning::new("W-SHEAR", text))
}

/// A file without any geometry.
pub(super) fn no_spacing(what: &str) -> Warning {
    let text = format!("{what} carries no spacing: sizes in mm and volumes in mL are not known");
    Warning::new("W-GEOM", text).with_remedy(Remedy::GiveGeometry)
}
