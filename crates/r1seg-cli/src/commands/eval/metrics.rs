//! What is measured, by the names of eval.json and eval.csv.

/// A metric: what it is called, its unit, whether more is better, and what it is.
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) unit: &'static str,
    pub(super) more_is_better: bool,
}

const fn metric(
    name: &'static str,
    title: &'static str,
    unit: &'static str,
    more_is_better: bool,
) -> Metric {
    Metric { name, title, unit, more_is_better }
}

/// All metrics, in the order of tables.
pub(super) const METRICS: [Metric; 25] = [
    metric("dice", "Dice", "", true),
    metric("iou", "IoU", "", true),
    metric("precision", "Precision", "", true),
    metric("recall", "Recall", "", true),
    metric("surface_dice", "Surface Dice (NSD)", "", true),
    metric("hd95_mm", "HD95, larger direction", "mm", false),
    metric("hd95_pooled_mm", "HD95, pooled", "mm", false),
    metric("hausdorff_mm", "Hausdorff distance", "mm", false),
    metric("assd_mm", "ASSD", "mm", false),
    metric("volume_error", "Relative volume error", "", false),
    metric("m3d_dice", "Dice with +1 (M3D, of the mask)", "", true),
    metric("r1seg_dice", "Dice (R1Seg's evaluation)", "", true),
    metric("r1seg_iou", "IoU (R1Seg's evaluation)", "", true),
    metric("box_iou", "Box IoU", "", true),
    metric("box_iou_m3d", "Box IoU (M3D: of the enclosing box)", "", true),
    metric("accuracy", "Accuracy of choices", "", true),
    metric("same_text", "Answers that are the same text", "", true),
    metric("bleu_1", "BLEU-1", "", true),
    metric("bleu_2", "BLEU-2", "", true),
    metric("bleu_3", "BLEU-3", "", true),
    metric("bleu_4", "BLEU-4", "", true),
    metric("rouge_1", "ROUGE-1 F", "", true),
    metric("rouge_2", "ROUGE-2 F", "", true),
    metric("rouge_l", "ROUGE-L F", "", true),
    metric("meteor", "METEOR (exact and stem)", "", true),
];
