//! A measured result beside a recorded one.

use serde::Serialize;

use super::ledger::{Band, Prompt, Recorded, Run};

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    /// Everything that was recorded was measured within its band.
    Within,
    /// Something was not.
    Outside,
    /// It ran, and nothing is recorded that it could be compared with.
    NoRecord,
    /// It could not run.
    NotRun,
}

/// A prompt on an input.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) run: String,
    pub(super) input: String,
    pub(super) id: String,
    pub(super) prompt: String,
    pub(super) status: Status,
    /// What is outside of its band, or missing.
    pub(super) why: Option<String>,
    pub(super) recorded: Figures,
    pub(super) measured: Option<Figures>,
    /// Time for this row; questions that are asked together share theirs.
    pub(super) seconds: Option<f64>,
}

/// Of an answer and its mask.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Figures {
    /// Absent for a model without a language model.
    pub(super) text: Option<String>,
    pub(super) voxels: Option<u64>,
    /// Absent without a truth, and for two empty masks.
    pub(super) dice: Option<f64>,
}

impl From<&Recorded> for Figures {
    fn from(recorded: &Recorded) -> Self {
        Self { text: recorded.text.clone(), voxels: recorded.voxels, dice: recorded.dice }
    }
}

impl Row {
    pub(super) fn not_run(run: &Run, prompt: &Prompt, recorded: &Recorded, why: &str) -> Self {
        Self {
            run: run.id.clone(),
            input: recorded.input.clone(),
            id: prompt.id.clone(),
            prompt: prompt.prompt.clone(),
            status: Status::NotRun,
            why: Some(why.to_string()),
            recorded: recorded.into(),
            measured: None,
            seconds: None,
        }
    }

    pub(super) fn measured(
        (run, prompt, recorded): (&Run, &Prompt, &Recorded),
        measured: Figures,
        seconds: f64,
        doubts: &[String],
    ) -> Self {
        let faults = faults(recorded, &measured, run.band);
        let is_recorded =
            recorded.text.is_some() || recorded.voxels.is_some() || recorded.dice.is_some();
        let status = match (is_recorded, faults.is_empty()) {
            (false, _) => Status::NoRecord,
            (true, true) => Status::Within,
            (true, false) => Status::Outside,
        };
        let why: Vec<String> = faults.into_iter().chain(doubts.iter().cloned()).collect();
        Self {
            status,
            why: (!why.is_empty()).then(|| why.join("; ")),
            measured: Some(measured),
            seconds: Some(seconds),
            ..Self::not_run(run, prompt, recorded, "")
        }
    }
}

/// What is outside of its band.
fn faults(recorded: &Recorded, measured: &Figures, band: Band) -> Vec<String> {
    let mut faults = Vec::new();
    if let (Some(expected), Some(found)) = (&recorded.text, &measured.text)
        && !same_text(expected, found, recorded.text_is_cut)
    {
        faults.push("the answer differs".to_string());
    }
    if let (Some(expected), Some(found)) = (recorded.voxels, measured.voxels) {
        let most = band.voxels * expected as f64;
        if most < expected.abs_diff(found) as f64 {
            faults.push(match expected {
                0 => format!("{found} voxels instead of none"),
                _ => {
                    let share = 100.0 * (found as f64 - expected as f64) / expected as f64;
                    format!("{share:+.1} % voxels")
                }
            });
        }
    }
    // Without a truth there is no Dice, and no fault.
    if let (Some(expected), Some(found)) = (recorded.dice, measured.dice)
        && band.dice < (expected - found).abs()
    {
        faults.push(format!("{:+.4} Dice", found - expected));
    }
    faults
}

/// Whether two answers have the same words; tokenizers differ in the spaces next to special tokens.
fn same_text(expected: &str, found: &str, is_cut: bool) -> bool {
    let without_spaces =
        |text: &str| -> String { text.chars().filter(|c| !c.is_whitespace()).collect() };
    let (expected, found) = (without_spaces(expected), without_spaces(found));
    if is_cut { found.starts_with(&expected) } else { found == expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(text: &str, voxels: u64, dice: Option<f64>) -> Recorded {
        let (input, text) = ("x".to_string(), Some(text.to_string()));
        Recorded { input, text, text_is_cut: false, voxels: Some(voxels), dice }
    }

    fn measured(text: &str, voxels: u64, dice: Option<f64>) -> Figures {
        Figures { text: Some(text.to_string()), voxels: Some(voxels), dice }
    }

    const BAND: Band = Band { voxels: 0.02, dice: 0.01 };

    #[test]
    fn a_result_is_within_up_to_the_ends_of_its_band() {
        let expected = recorded("It is  [SEG] .", 1000, Some(0.5));
        for (text, voxels, dice, faulty) in [
            ("It is [SEG].", 1000, Some(0.5), 0),
            ("It is [SEG].", 1020, Some(0.509), 0),
            ("It is [SEG].", 980, None, 0),
            ("It is [SEG].", 1021, Some(0.5), 1),
            ("It is [SEG].", 979, Some(0.52), 2),
            ("Sure [SEG].", 0, Some(0.0), 3),
        ] {
            let found = faults(&expected, &measured(text, voxels, dice), BAND);
            assert_eq!(found.len(), faulty, "{found:?}");
        }
    }

    #[test]
    fn an_empty_answer_and_an_empty_mask_have_no_band() {
        let expected = recorded("", 0, None);
        assert!(faults(&expected, &measured("", 0, Some(0.0)), BAND).is_empty());
        assert_eq!(faults(&expected, &measured("", 7, None), BAND), ["7 voxels instead of none"]);
        assert_eq!(faults(&expected, &measured("x", 0, None), BAND), ["the answer differs"]);
    }

    #[test]
    fn an_answer_that_was_recorded_in_part_is_compared_in_part() {
        assert!(same_text("There's no sign of a li", "There's no sign of a liver.", true));
        assert!(!same_text("There's no sign of a li", "There's no sign of a liver.", false));
        assert!(!same_text("There's no sign of a li", "There's no", true));
    }
}
