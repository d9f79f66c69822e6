//! Scores as the evaluations of R1Seg-3D, M3D-LaMed and SegVol print them, which are not what their names
//! usually mean; to compare with published tables.

use crate::error::check_length;
use crate::{Empties, Error, Overlap};

/// What R1Seg-3D's evaluation writes for a case.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct R1SegScores {
    /// Whether there is a truth: the column `NP`, as 1 or 0.
    pub has_truth: bool,
    /// 2 |P and T| / (|P| + |T|); without a truth the number of voxels that were predicted.
    pub dice: f64,
    /// Not a distance: 1 with a truth and 500 without one, whatever was predicted.
    pub hd95: f64,
    /// (|P and T| + 1e-5) / (|P or T| + 1e-5); 0 without a truth.
    pub iou: f64,
    /// (|P and T| + 1e-5) / (|P| + 1e-5); 0 without a truth. Where there is one and nothing was predicted,
    /// this is 1.
    pub precision: f64,
    /// (|P and T| + 1e-5) / (|T| + 1e-5); 0 without a truth.
    pub recall: f64,
}

/// The scores of R1Seg-3D's evaluation scripts (`eval_R1Seg3D.py` and its siblings).
pub fn r1seg_scores(overlap: &Overlap) -> R1SegScores {
    const SMOOTH: f64 = 1e-5;
    let share = |whole: u64| (overlap.both as f64 + SMOOTH) / (whole as f64 + SMOOTH);
    match overlap.truth {
        0 => R1SegScores {
            has_truth: false,
            dice: overlap.predicted as f64,
            hd95: 500.0,
            iou: 0.0,
            precision: 0.0,
            recall: 0.0,
        },
        _ => R1SegScores {
            has_truth: true,
            dice: overlap.dice(Empties::Formula).unwrap_or(0.0),
            hd95: 1.0,
            iou: share(overlap.either()),
            precision: share(overlap.predicted),
            recall: share(overlap.truth),
        },
    }
}

/// M3D-LaMed's Dice: of probabilities that are not thresholded, with 1 added to the denominator:
/// 2 sum(p t) / (sum(p) + sum(t) + 1), where p is the sigmoid of the logits and t is 1 where `truth` is not
/// 0. A logit of minus infinity is a probability of 0, and NaN makes the score NaN.
///
/// Without a truth it is 0, also where rightly nothing was predicted: M3D's tables leave such cases out.
///
/// # Errors
/// `R-MET-02` unless there is a logit for each voxel.
pub fn m3d_soft_dice(logits: &[f32], truth: &[u8]) -> Result<f64, Error> {
    check_length("the logits", logits.len(), truth.len())?;
    let (mut both, mut predicted, mut voxels) = (0.0, 0.0, 0_u64);
    for (logit, truth) in logits.iter().zip(truth) {
        let probability = 1.0 / (1.0 + f64::exp(-f64::from(*logit)));
        predicted += probability;
        if *truth != 0 {
            both += probability;
            voxels += 1;
        }
    }
    Ok(2.0 * both / (predicted + voxels as f64 + 1.0))
}

/// SegVol's Dice: of thresholded masks, with 1 added to the denominator.
pub fn segvol_dice(overlap: &Overlap) -> f64 {
    2.0 * overlap.both as f64 / ((overlap.truth + overlap.predicted) as f64 + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r1seg_writes_voxels_for_dice_where_there_is_no_truth() {
        let scores = r1seg_scores(&Overlap { truth: 0, predicted: 42, both: 0 });
        assert_eq!((scores.has_truth, scores.dice, scores.hd95), (false, 42.0, 500.0));
        assert_eq!((scores.iou, scores.precision, scores.recall), (0.0, 0.0, 0.0));
    }

    #[test]
    fn r1seg_smooths_all_but_dice() {
        let scores = r1seg_scores(&Overlap { truth: 8, predicted: 4, both: 3 });
        assert_eq!((scores.has_truth, scores.dice, scores.hd95), (true, 0.5, 1.0));
        assert_eq!(scores.iou, 3.00001 / 9.00001);
        assert_eq!((scores.precision, scores.recall), (3.00001 / 4.00001, 3.00001 / 8.00001));
        // Nothing was predicted, and all of it is called right.
        let missed = r1seg_scores(&Overlap { truth: 8, predicted: 0, both: 0 });
        assert_eq!((missed.dice, missed.precision), (0.0, 1.0));
    }

    #[test]
    fn soft_dice_takes_probabilities() {
        let logits = [f32::NEG_INFINITY, 0.0, 40.0, -40.0];
        let dice = m3d_soft_dice(&logits, &[0, 1, 1, 0]).unwrap();
        assert!((dice - 3.0 / (1.5 + 2.0 + 1.0)).abs() < 1e-12, "{dice}");
        assert_eq!(m3d_soft_dice(&logits, &[0; 4]).unwrap(), 0.0);
        assert!(m3d_soft_dice(&[f32::NAN], &[1]).unwrap().is_nan());
        assert_eq!(m3d_soft_dice(&logits, &[0; 3]).unwrap_err().code(), "R-MET-02");
        assert_eq!(segvol_dice(&Overlap { truth: 2, predicted: 2, both: 2 }), 0.8);
    }
}
