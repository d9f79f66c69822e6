//! The scores as data, which `docs/compare.schema.json` describes.

use std::path::Path;

use r1seg::volume::Warning;
use r1seg_metrics::{Empties, LabelComparison};
use r1seg_results::preview::WorstSlice;
use r1seg_results::report::{WarningReport, ijk};
use serde::Serialize;

use super::naming::Named;
use super::sides::{Side, Sides};
use crate::args::{By, CompareArgs};
use crate::hints;

/// The index that viewers show for an array axis, `[D, H, W]`.
pub(super) const AXES: [&str; 3] = ["k", "j", "i"];

/// What `compare` prints.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    schema_version: u32,
    r1seg_version: &'static str,
    pub(super) a: File,
    pub(super) b: File,
    /// Whether B was brought onto A's grid.
    pub(super) resampled: bool,
    pub(super) ignored_affine: bool,
    pub(super) matched_by: &'static str,
    /// `None` where distances were left out.
    pub(super) tolerance_mm: Option<f64>,
    pub(super) empty: &'static str,
    pub(super) labels: Vec<Row>,
    /// Of the labels that have a score.
    pub(super) mean: Mean,
    pub(super) worst_slice: Option<Worst>,
    pub(super) preview: Option<String>,
    warnings: Vec<WarningReport>,
    research_use_only: bool,
    #[serde(skip)]
    worst: Option<WorstSlice>,
}

/// One of the two files.
#[derive(Debug, Serialize)]
pub(super) struct File {
    pub(super) path: String,
    pub(super) kind: &'static str,
    /// (i, j, k).
    pub(super) shape: [usize; 3],
    pub(super) spacing_mm: Option<[f64; 3]>,
    pub(super) orientation: Option<String>,
    /// Labels with voxels.
    pub(super) labels: usize,
}

/// One label of both.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) label_a: Option<u16>,
    pub(super) label_b: Option<u16>,
    pub(super) name: Option<String>,
    pub(super) voxels_a: u64,
    pub(super) voxels_b: u64,
    pub(super) voxels_both: u64,
    pub(super) volume_a_ml: Option<f64>,
    pub(super) volume_b_ml: Option<f64>,
    pub(super) relative_volume_error: Option<f64>,
    #[serde(flatten)]
    pub(super) scores: Scores,
}

/// The scores of a label.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Scores {
    pub(super) dice: Option<f64>,
    pub(super) iou: Option<f64>,
    pub(super) precision: Option<f64>,
    pub(super) recall: Option<f64>,
    pub(super) surface_dice: Option<f64>,
    pub(super) hausdorff_mm: Option<f64>,
    pub(super) hd95_directed_mm: Option<f64>,
    pub(super) hd95_pooled_mm: Option<f64>,
    pub(super) hd95_surfels_mm: Option<f64>,
    pub(super) assd_mm: Option<f64>,
    pub(super) masd_mm: Option<f64>,
}

/// Means over the labels that have a score.
#[derive(Debug, Serialize)]
pub(super) struct Mean {
    /// How many labels have a Dice.
    pub(super) labels: usize,
    #[serde(flatten)]
    pub(super) scores: Scores,
}

/// Where the two differ most.
#[derive(Debug, Serialize)]
pub(super) struct Worst {
    /// The voxel index that axial slices are counted by.
    pub(super) axis: &'static str,
    pub(super) index: usize,
    pub(super) different_voxels: usize,
}

impl Report {
    pub(super) fn new(
        args: &CompareArgs,
        sides: &Sides,
        named: &Named,
        scores: &[LabelComparison],
    ) -> Self {
        let empties = Empties::from(args.empty);
        let voxel_ml = named.truth.geometry().voxel_volume_mm3().map(|mm3| mm3 / 1000.0);
        let row = |comparison: &LabelComparison| {
            let LabelComparison { label, overlap, surface } = comparison;
            let known = named.labels.get(label).cloned().unwrap_or_default();
            let surface = surface.unwrap_or_default();
            let ml = |voxels: u64| voxel_ml.map(|ml| voxels as f64 * ml);
            Row {
                label_a: known.of_truth,
                label_b: known.of_predicted,
                name: known.name,
                voxels_a: overlap.truth,
                voxels_b: overlap.predicted,
                voxels_both: overlap.both,
                volume_a_ml: ml(overlap.truth),
                volume_b_ml: ml(overlap.predicted),
                relative_volume_error: overlap.relative_volume_error(),
                scores: Scores {
                    dice: overlap.dice(empties),
                    iou: overlap.iou(empties),
                    precision: overlap.precision(empties),
                    recall: overlap.recall(empties),
                    surface_dice: surface.surface_dice,
                    hausdorff_mm: surface.hausdorff_mm,
                    hd95_directed_mm: surface.hd95_directed_mm,
                    hd95_pooled_mm: surface.hd95_pooled_mm,
                    hd95_surfels_mm: surface.hd95_surfels_mm,
                    assd_mm: surface.assd_mm,
                    masd_mm: surface.masd_mm,
                },
            }
        };
        let labels: Vec<Row> = scores.iter().map(row).collect();
        Self {
            schema_version: 1,
            r1seg_version: env!("CARGO_PKG_VERSION"),
            a: file(&sides.truth),
            b: file(&sides.predicted),
            resampled: sides.resampled,
            ignored_affine: sides.ignored_affine,
            matched_by: match (args.any_label, args.by) {
                (true, _) => "any",
                (false, By::Number) => "number",
                (false, By::Name) => "name",
            },
            tolerance_mm: voxel_ml.and(args.surface.tolerance_mm()),
            empty: named.empties,
            mean: mean(&labels),
            labels,
            worst_slice: None,
            preview: None,
            warnings: Vec::new(),
            research_use_only: true,
            worst: None,
        }
    }

    pub(super) fn with_worst_slice(
        self,
        worst: Option<WorstSlice>,
        preview: Option<&Path>,
    ) -> Self {
        let of_report = |worst: WorstSlice| Worst {
            axis: AXES[worst.axis],
            index: worst.index,
            different_voxels: worst.different,
        };
        let preview = preview.filter(|_| worst.is_some()).map(|path| path.display().to_string());
        Self { worst_slice: worst.map(of_report), worst, preview, ..self }
    }

    pub(super) fn worst(&self) -> Option<WorstSlice> {
        self.worst
    }

    pub(super) fn with_warnings(self, warnings: &[Warning]) -> Self {
        let warnings = warnings.iter().map(|w| WarningReport::new(w, hints::words)).collect();
        Self { warnings, ..self }
    }
}

fn file(side: &Side) -> File {
    let labels = (1..=u16::MAX).take(side.labels.len());
    File {
        path: side.path.display().to_string(),
        kind: side.kind,
        shape: ijk(side.geometry.shape()),
        spacing_mm: side.geometry.spacing_mm().map(ijk),
        orientation: side.geometry.orientation().map(|orientation| orientation.to_string()),
        labels: labels.filter(|label| 0 < side.labels.voxels(*label)).count(),
    }
}

fn mean(rows: &[Row]) -> Mean {
    let of = |score: fn(&Scores) -> Option<f64>| {
        let values: Vec<f64> = rows.iter().filter_map(|row| score(&row.scores)).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    Mean {
        labels: rows.iter().filter(|row| row.scores.dice.is_some()).count(),
        scores: Scores {
            dice: of(|s| s.dice),
            iou: of(|s| s.iou),
            precision: of(|s| s.precision),
            recall: of(|s| s.recall),
            surface_dice: of(|s| s.surface_dice),
            hausdorff_mm: of(|s| s.hausdorff_mm),
            hd95_directed_mm: of(|s| s.hd95_directed_mm),
            hd95_pooled_mm: of(|s| s.hd95_pooled_mm),
            hd95_surfels_mm: of(|s| s.hd95_surfels_mm),
            assd_mm: of(|s| s.assd_mm),
            masd_mm: of(|s| s.masd_mm),
        },
    }
}
