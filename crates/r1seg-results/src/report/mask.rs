//! The part of a report that is about one mask.

use r1seg::volume::MaskStats;
use serde::Serialize;

use super::is_hu;

/// A mask, measured. All axes are in the order of the file, (i, j, k).
#[derive(Debug, Clone, Serialize)]
pub struct MaskReport {
    /// Its label in the file.
    pub label: u16,
    /// What the label is called.
    pub name: String,
    /// The file that it is in: within the folder of the results by its name; `-` where the caller has it.
    pub path: Option<String>,
    /// How many voxels it has.
    pub voxels: usize,
    /// In milliliters, where mm are known.
    pub volume_ml: Option<f64>,
    /// The smallest and the largest voxel index, both inside.
    pub bbox_vox: Option<[[usize; 3]; 2]>,
    /// In RAS+ mm.
    pub centroid_mm: Option<[f64; 3]>,
    /// The mean under it, if the volume is in Hounsfield units.
    pub mean_hu: Option<f64>,
    /// The mean under it, in the units of the volume.
    pub mean_intensity: Option<f64>,
    /// Whether a voxel lies on a side of the volume.
    pub touches_border: bool,
    /// Connected parts.
    pub components: usize,
    /// The label that it refines: another model drew again, at its own resolution, what that one holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refines: Option<u16>,
    /// The model that drew it, by its id, where that is not the model of the report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Against a known truth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dice: Option<f64>,
}

impl MaskReport {
    /// What was measured of a mask on a volume whose intensities have this range.
    pub fn new(
        label: u16,
        name: impl Into<String>,
        stats: &MaskStats,
        range: Option<(f32, f32)>,
    ) -> Self {
        Self {
            label,
            name: name.into(),
            path: None,
            voxels: stats.voxels,
            volume_ml: stats.volume_ml,
            bbox_vox: stats.bbox_vox,
            centroid_mm: stats.centroid_mm,
            mean_hu: stats.mean_intensity.filter(|_| is_hu(range)),
            mean_intensity: stats.mean_intensity,
            touches_border: stats.touches_border,
            components: stats.components,
            refines: None,
            model: None,
            dice: None,
        }
    }
}
