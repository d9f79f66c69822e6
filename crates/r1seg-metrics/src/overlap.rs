//! Counts of voxels, and the scores that follow from them alone.

use rayon::prelude::*;

use crate::error::check_length;
use crate::{Empties, Error};

/// How many voxels two masks have, and how many of them are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Overlap {
    /// Voxels of the truth.
    pub truth: u64,
    /// Voxels of what is compared with it.
    pub predicted: u64,
    /// Voxels of both.
    pub both: u64,
}

impl Overlap {
    /// Of two masks on one grid, whose voxels are those that are not 0.
    ///
    /// # Errors
    /// `R-MET-02` for masks that have not as many voxels as each other.
    pub fn of(truth: &[u8], predicted: &[u8]) -> Result<Self, Error> {
        check_length("the mask that is compared", predicted.len(), truth.len())?;
        // Sums of a few thousand bits fit into narrow numbers, which are added many at a time.
        const CHUNK: usize = 1 << 14;
        let of_chunk = |(truth, predicted): (&[u8], &[u8])| {
            let mut sums = [0_u16; 3];
            for (truth, predicted) in truth.iter().zip(predicted) {
                let (truth, predicted) = (u16::from(*truth != 0), u16::from(*predicted != 0));
                sums[0] += truth;
                sums[1] += predicted;
                sums[2] += truth & predicted;
            }
            let [truth, predicted, both] = sums.map(u64::from);
            Self { truth, predicted, both }
        };
        let chunks = truth.par_chunks(CHUNK).zip(predicted.par_chunks(CHUNK));
        Ok(chunks.map(of_chunk).reduce(Self::default, Self::and))
    }

    /// The counts of this and of other voxels.
    fn and(self, other: Self) -> Self {
        Self {
            truth: self.truth + other.truth,
            predicted: self.predicted + other.predicted,
            both: self.both + other.both,
        }
    }

    /// Voxels of either.
    pub fn either(&self) -> u64 {
        self.truth + self.predicted - self.both
    }

    /// Dice: 2 |T and P| / (|T| + |P|), 0..1.
    pub fn dice(&self, empties: Empties) -> Option<f64> {
        self.share(2 * self.both, self.truth + self.predicted, empties)
    }

    /// Intersection over union, the Jaccard index: |T and P| / |T or P|, 0..1.
    pub fn iou(&self, empties: Empties) -> Option<f64> {
        self.share(self.both, self.either(), empties)
    }

    /// The share of what was predicted that is true: |T and P| / |P|, 0..1.
    pub fn precision(&self, empties: Empties) -> Option<f64> {
        self.share(self.both, self.predicted, empties)
    }

    /// The share of the truth that was found, its sensitivity: |T and P| / |T|, 0..1.
    pub fn recall(&self, empties: Empties) -> Option<f64> {
        self.share(self.both, self.truth, empties)
    }

    /// Relative error of the volume: (|P| - |T|) / |T|. Above 0 where too much was predicted. `None` without
    /// a truth, to which nothing can be relative.
    pub fn relative_volume_error(&self) -> Option<f64> {
        let (truth, predicted) = (self.truth as f64, self.predicted as f64);
        (0 < self.truth).then(|| (predicted - truth) / truth)
    }

    /// 2 (|T| - |P|) / (|T| + |P|), -2..2, as SimpleITK's `LabelOverlapMeasuresImageFilter` names it with
    /// the truth as its source. `None` where both are empty.
    pub fn volume_similarity(&self) -> Option<f64> {
        let (truth, predicted) = (self.truth as f64, self.predicted as f64);
        (0 < self.either()).then(|| 2.0 * (truth - predicted) / (truth + predicted))
    }

    /// A share of the voxels, or what the policy makes of a mask that has none.
    fn share(&self, part: u64, whole: u64, empties: Empties) -> Option<f64> {
        let is_empty = [self.truth == 0, self.predicted == 0];
        match empties.verdict(is_empty) {
            Verdict::Skipped => None,
            Verdict::Best => Some(1.0),
            Verdict::Worst => Some(0.0),
            Verdict::Formula => (0 < whole).then(|| part as f64 / whole as f64),
        }
    }
}

/// What a score of a pair is, as far as that follows from which of the two is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// There is none.
    Skipped,
    Best,
    Worst,
    /// What the formula says, and none where it divides by 0.
    Formula,
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTS: Overlap = Overlap { truth: 8, predicted: 4, both: 3 };

    #[test]
    fn scores_follow_from_counts() {
        let score = |score: fn(&Overlap, Empties) -> Option<f64>| score(&COUNTS, Empties::Formula);
        assert_eq!(score(Overlap::dice), Some(0.5));
        assert_eq!(score(Overlap::iou), Some(3.0 / 9.0));
        assert_eq!(score(Overlap::precision), Some(0.75));
        assert_eq!(score(Overlap::recall), Some(0.375));
        assert_eq!(COUNTS.relative_volume_error(), Some(-0.5));
        assert_eq!(COUNTS.volume_similarity(), Some(2.0 / 3.0));
    }

    #[test]
    fn counts_are_of_voxels_that_are_not_0() {
        let truth: Vec<u8> = (0..40_000).map(|n| u8::from(n % 2 == 0) * 7).collect();
        let predicted: Vec<u8> = (0..40_000).map(|n| u8::from(n % 3 == 0)).collect();
        let counts = Overlap::of(&truth, &predicted).unwrap();
        assert_eq!(counts, Overlap { truth: 20_000, predicted: 13_334, both: 6_667 });
        assert_eq!(Overlap::of(&truth, &predicted[1..]).unwrap_err().code(), "R-MET-02");
    }

    #[test]
    fn each_policy_has_its_scores_for_masks_without_voxels() {
        let none = Overlap::default();
        let missed = Overlap { truth: 5, ..none };
        let invented = Overlap { predicted: 5, ..none };
        for (empties, of_none, of_missed, of_invented) in [
            (Empties::Formula, None, Some(0.0), Some(0.0)),
            (Empties::SkipAbsent, None, Some(0.0), None),
            (Empties::RewardAbsent, Some(1.0), Some(0.0), Some(0.0)),
        ] {
            assert_eq!(none.dice(empties), of_none, "{empties:?}");
            assert_eq!(none.iou(empties), of_none, "{empties:?}");
            assert_eq!(missed.dice(empties), of_missed, "{empties:?}");
            assert_eq!(invented.dice(empties), of_invented, "{empties:?}");
        }
        // Nothing was predicted, so that no share of it is true.
        assert_eq!(missed.precision(Empties::Formula), None);
        assert_eq!(missed.precision(Empties::RewardAbsent), Some(0.0));
        assert_eq!(invented.recall(Empties::Formula), None);
        assert_eq!((none.relative_volume_error(), none.volume_similarity()), (None, None));
    }
}
