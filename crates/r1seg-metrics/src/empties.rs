use crate::overlap::Verdict;

/// What a score is where a mask has no voxels. Every mean over cases depends on it, so that it is chosen and
/// stated, and never implied.
///
/// | | both empty | the truth alone is empty | the prediction alone is empty |
/// |---|---|---|---|
/// | `Formula` | none | overlap 0, no distance | overlap 0, no distance |
/// | `SkipAbsent` | none | none | overlap 0, the worst distance |
/// | `RewardAbsent` | overlap 1, distance 0 | overlap 0, the worst distance | overlap 0, the worst distance |
///
/// Overlap stands for Dice, IoU, precision, recall and the surface Dice; under `Formula` those whose
/// denominator is 0 are none. The worst distance is the diagonal of the grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Empties {
    /// What the formula says; no score where it divides by 0, or where a distance ends nowhere.
    #[default]
    Formula,
    /// No score where there is no truth, as MONAI's metrics do with `ignore_empty`; the worst one where
    /// there is a truth and nothing was predicted.
    SkipAbsent,
    /// The best score where truth and prediction agree that there is nothing, the worst one where only one
    /// of them does.
    RewardAbsent,
}

impl Empties {
    /// `formula`, `skip-absent` or `reward-absent`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Formula => "formula",
            Self::SkipAbsent => "skip-absent",
            Self::RewardAbsent => "reward-absent",
        }
    }

    /// Whether truth and prediction are empty.
    pub(crate) fn verdict(self, is_empty: [bool; 2]) -> Verdict {
        match (self, is_empty) {
            (_, [false, false]) | (Self::Formula, _) => Verdict::Formula,
            (Self::SkipAbsent, [true, _]) => Verdict::Skipped,
            (Self::RewardAbsent, [true, true]) => Verdict::Best,
            (Self::SkipAbsent | Self::RewardAbsent, _) => Verdict::Worst,
        }
    }

    /// A distance in mm of a pair of which one at least may be empty; `measured` is called if neither is.
    pub(crate) fn distance(
        self,
        is_empty: [bool; 2],
        worst_mm: f64,
        measured: impl FnOnce() -> Option<f64>,
    ) -> Option<f64> {
        match self.verdict(is_empty) {
            Verdict::Skipped => None,
            Verdict::Best => Some(0.0),
            Verdict::Worst => Some(worst_mm),
            Verdict::Formula => (is_empty == [false, false]).then(measured).flatten(),
        }
    }
}
