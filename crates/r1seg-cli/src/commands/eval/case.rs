//! A case of an evaluation: a volume, what it is asked for, and what would be right.

use std::collections::HashSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A volume with its prompts and their truths.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Case {
    pub(super) id: String,
    /// The data set that it is from, where several are evaluated.
    pub(super) dataset: Option<String>,
    /// As the list of `batch` has it.
    pub(super) row: Map<String, Value>,
    /// One for each prompt, in the order in which `batch` numbers them.
    pub(super) truths: Vec<Truth>,
}

/// What would be right for a prompt.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Truth {
    /// What its prompt is called, where that tells it from others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// What scores are put together by, such as the name of the organ.
    pub(super) group: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mask: Option<MaskTruth>,
    /// An answer in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<String>,
    /// The letter of the right choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) choice: Option<String>,
    /// A box: its first and its last voxel, (i, j, k).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) region: Option<[[usize; 3]; 2]>,
    /// Whether the box is that around the mask, which is not scored itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) region_of_mask: bool,
}

/// A label of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct MaskTruth {
    pub(super) file: PathBuf,
    pub(super) label: TrueLabel,
}

/// Which label of a file is meant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum TrueLabel {
    Number(u16),
    /// By the names in the file, or in a labels.json beside it.
    Name(String),
    /// All labels are one.
    Any,
}

/// A row that cannot be used. The others are run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Refused {
    /// Counted from 1.
    pub(super) line: u64,
    pub(super) id: Option<String>,
    pub(super) why: String,
}

/// Rows with the numbers of their lines, counted from 1, or why a line cannot be used.
pub(super) type Rows = Vec<(u64, Result<Map<String, Value>, String>)>;

/// What a file of cases holds.
#[derive(Debug, Default)]
pub(super) struct Cases {
    pub(super) cases: Vec<Case>,
    pub(super) refused: Vec<Refused>,
    ids: HashSet<String>,
}

impl Cases {
    /// Adds a case, or the reason why there is none. Of two cases of one id, the first stays.
    pub(super) fn push(&mut self, line: u64, case: Result<Case, String>) {
        let case = case.and_then(|case| match self.ids.insert(case.id.clone()) {
            true => Ok(case),
            false => Err(format!("the id `{}` is that of an earlier row", case.id)),
        });
        match case {
            Ok(case) => self.cases.push(case),
            Err(why) => self.refused.push(Refused { line, id: None, why }),
        }
    }
}
