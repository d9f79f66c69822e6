//! Recorded results: which model made them, from which inputs, and how.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use r1seg::files::read_utf8_json;
use r1seg::{ErrorKind, Separator};
use serde::{Deserialize, Serialize};

use super::compare::{Figures, Row};
use crate::codes::Code;
use crate::exit::CliError;

/// Raised when a field changes its meaning or goes away.
const SCHEMA_VERSION: u32 = 1;
/// A ledger is text about a few hundred runs.
const MAX_BYTES: u64 = 16 << 20;
const PUBLISHED: &str = include_str!("published.json");

/// Results of several models. `docs/ledger.schema.json` describes the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ledger {
    schema_version: u32,
    pub(super) note: String,
    pub(super) runs: Vec<Run>,
}

/// Results of one model, recorded by one person in one way.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Run {
    pub(super) id: String,
    /// The published repository of the weights.
    pub(super) repository: String,
    pub(super) model_type: String,
    pub(super) source: Source,
    /// Software and hardware of the recorded run.
    pub(super) stack: String,
    pub(super) dtype: String,
    decoding: Decoding,
    pub(super) max_new_tokens: Option<usize>,
    /// Between the image and the prompt; absent for the model's own.
    separator: Option<SeparatorName>,
    pub(super) preprocess: Preparation,
    /// The preprocessing and the way back in words.
    method: String,
    pub(super) band: Band,
    pub(super) inputs: Vec<Input>,
    pub(super) prompts: Vec<Prompt>,
    /// Recorded results that cannot be compared, with the reason.
    pub(super) not_compared: Vec<String>,
}

/// Where a result was recorded.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Source {
    pub(super) repository: String,
    pub(super) commit: Option<String>,
    pub(super) file: Option<String>,
}

/// How tokens were chosen. Only runs that repeat can be compared.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Decoding {
    Greedy,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum SeparatorName {
    Space,
    None,
}

/// How a volume was brought to the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Preparation {
    /// From the smallest to the largest value, without a crop; the mask comes back by nearest neighbor.
    MinMax,
    /// The values are in 0..1 already.
    None,
    /// As r1seg does when nothing is said.
    Auto,
}

/// How far a measured result may be from the recorded one.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Band {
    /// Of mask voxels, as a fraction of the recorded number.
    pub(super) voxels: f64,
    /// Of Dice, absolute.
    pub(super) dice: f64,
}

/// A volume, and the segmentation by people that it is compared with.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Input {
    pub(super) name: String,
    /// Path in the data folder.
    pub(super) file: String,
    /// Absent where nobody recorded it.
    pub(super) sha256: Option<String>,
    /// Where a person gets it.
    pub(super) from: String,
    pub(super) license: Option<String>,
    pub(super) truth: Option<Truth>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Truth {
    pub(super) file: String,
    pub(super) sha256: Option<String>,
    /// Recorded voxels by label.
    pub(super) voxels: BTreeMap<u8, u64>,
}

/// A prompt and what it gave on each input.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Prompt {
    pub(super) id: String,
    pub(super) prompt: String,
    /// Label of the truth that the mask is compared with.
    pub(super) label: Option<u8>,
    pub(super) results: Vec<Recorded>,
}

/// A recorded result. What is absent was not recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recorded {
    pub(super) input: String,
    /// Empty for an answer that ended at once.
    pub(super) text: Option<String>,
    /// Whether `text` is only the beginning of the answer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) text_is_cut: bool,
    /// 0 where there was no mask.
    pub(super) voxels: Option<u64>,
    pub(super) dice: Option<f64>,
}

impl Ledger {
    /// The one in `file`, or the published results.
    pub(super) fn open(file: Option<&Path>) -> Result<Self> {
        let Some(path) = file else {
            return Ok(serde_json::from_str(PUBLISHED)?);
        };
        let bytes = read_utf8_json(path, MAX_BYTES).map_err(|error| {
            let kind = match path.exists() {
                true => ErrorKind::BadData,
                false => ErrorKind::Missing,
            };
            refused(kind, format!("the ledger cannot be read: {error}"), path)
        })?;
        let ledger: Self = serde_json::from_slice(&bytes)
            .map_err(|error| refused(ErrorKind::BadData, format!("not a ledger: {error}"), path))?;
        ledger.check().map_err(|what| refused(ErrorKind::BadData, what, path))?;
        Ok(ledger)
    }

    /// Puts measured results in the place of recorded ones; those that did not run stay as they are.
    pub(super) fn set_results(&mut self, rows: &[Row]) {
        for run in &mut self.runs {
            for prompt in &mut run.prompts {
                for result in &mut prompt.results {
                    let is_it = |row: &&Row| {
                        row.run == run.id && row.id == prompt.id && row.input == result.input
                    };
                    let Some(measured) = rows.iter().find(is_it).and_then(|r| r.measured.as_ref())
                    else {
                        continue;
                    };
                    let Figures { text, voxels, dice } = measured.clone();
                    *result = Recorded { text, text_is_cut: false, voxels, dice, ..result.clone() };
                }
            }
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.schema_version != SCHEMA_VERSION {
            let version = self.schema_version;
            return Err(format!("schema_version is {version}; this r1seg reads {SCHEMA_VERSION}"));
        }
        for run in &self.runs {
            let id = &run.id;
            if ![run.band.voxels, run.band.dice].iter().all(|b| b.is_finite() && 0.0 <= *b) {
                return Err(format!("run `{id}`: bands must be numbers from 0"));
            }
            let files = run.inputs.iter().flat_map(Input::files);
            for (file, _) in files {
                if !is_relative(file) {
                    return Err(format!("run `{id}`: `{file}` leads out of the data folder"));
                }
            }
            for prompt in &run.prompts {
                for result in &prompt.results {
                    if !run.inputs.iter().any(|input| input.name == result.input) {
                        let input = &result.input;
                        return Err(format!("run `{id}`: there is no input `{input}`"));
                    }
                }
            }
        }
        Ok(())
    }

    /// Keeps the rows whose prompt or input has one of these names; all if there are none.
    pub(super) fn keep_only(&mut self, names: &[String]) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let is_named = |name: &str| names.iter().any(|n| n.eq_ignore_ascii_case(name));
        for run in &mut self.runs {
            for prompt in &mut run.prompts {
                let whole = is_named(&prompt.id);
                prompt.results.retain(|result| whole || is_named(&result.input));
            }
            run.prompts.retain(|prompt| !prompt.results.is_empty());
            let prompts = &run.prompts;
            let is_used = |input: &Input| {
                prompts.iter().any(|p| p.results.iter().any(|r| r.input == input.name))
            };
            run.inputs.retain(is_used);
        }
        self.runs.retain(|run| !run.prompts.is_empty());
        if self.runs.is_empty() {
            return Err(CliError::usage(
                format!("--only {}: there is no such prompt or input", names.join(" --only ")),
                "name a prompt or an input of the ledger: `r1seg reproduce --list` shows the inputs",
            ));
        }
        Ok(())
    }
}

impl Run {
    /// What stands between the image and the prompt; `None` for the model's own.
    pub(super) fn separator(&self) -> Option<Separator> {
        self.separator.map(|separator| match separator {
            SeparatorName::Space => Separator::Space,
            SeparatorName::None => Separator::None,
        })
    }
}

impl Input {
    /// Its files with the hashes that are known.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let truth = self.truth.iter().map(|truth| (truth.file.as_str(), truth.sha256.as_deref()));
        std::iter::once((self.file.as_str(), self.sha256.as_deref())).chain(truth)
    }
}

/// Whether a path stays in the folder that it is given for.
fn is_relative(file: &str) -> bool {
    use std::path::Component;
    let mut parts = Path::new(file).components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}

fn refused(kind: ErrorKind, what: String, path: &Path) -> anyhow::Error {
    let error = CliError::new(Code::Ledger, what);
    let error = error.at(path).fix("docs/ledger.schema.json describes the file");
    CliError { kind, ..error }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_results_are_a_ledger_whose_rows_are_complete() {
        let ledger = Ledger::open(None).unwrap();
        ledger.check().unwrap();
        let run = &ledger.runs[0];
        assert_eq!(run.repository, "GoodBaiBai88/M3D-LaMed-Phi-3-4B");
        assert_eq!(run.preprocess, Preparation::MinMax);
        let rows: Vec<&Recorded> = run.prompts.iter().flat_map(|prompt| &prompt.results).collect();
        assert_eq!((run.inputs.len(), run.prompts.len(), rows.len()), (5, 20, 100));
        // A mask has a Dice, and only a mask has one.
        assert!(rows.iter().all(|row| row.dice.is_some() == (row.voxels > Some(0))));
        let with_mask = rows.iter().filter(|row| row.dice.is_some()).count();
        assert_eq!(with_mask, 62);
        // Nobody recorded hashes of these files, and none is invented.
        assert!(run.inputs.iter().flat_map(Input::files).all(|(_, sha256)| sha256.is_none()));
    }

    #[test]
    fn a_ledger_that_leads_out_of_its_folder_or_names_no_input_is_refused() {
        let broken = |change: fn(&mut Ledger)| {
            let mut ledger = Ledger::open(None).unwrap();
            change(&mut ledger);
            ledger.check().unwrap_err()
        };
        assert!(broken(|l| l.runs[0].inputs[0].file = "../x".into()).contains("leads out"));
        assert!(broken(|l| l.runs[0].inputs[0].file = "/x".into()).contains("leads out"));
        assert!(broken(|l| l.runs[0].inputs[0].name = "x".into()).contains("pancreas_001"));
        assert!(broken(|l| l.runs[0].band.dice = f64::NAN).contains("bands"));
        assert!(broken(|l| l.schema_version = 2).contains("schema_version is 2"));
    }

    #[test]
    fn rows_are_chosen_by_prompt_and_by_input() {
        let mut ledger = Ledger::open(None).unwrap();
        ledger.keep_only(&["b1".to_string()]).unwrap();
        assert_eq!((ledger.runs.len(), ledger.runs[0].prompts.len()), (1, 1));
        assert_eq!(ledger.runs[0].inputs.len(), 5);
        let mut ledger = Ledger::open(None).unwrap();
        ledger.keep_only(&["Case_00001".to_string(), "pancreas_005".to_string()]).unwrap();
        assert_eq!(ledger.runs.iter().map(|run| run.inputs.len()).collect::<Vec<_>>(), [1, 1]);
        assert!(ledger.keep_only(&["x".to_string()]).is_err());
    }
}
