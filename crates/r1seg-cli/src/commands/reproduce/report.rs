//! What was reproduced, for programs: `docs/reproduce.schema.json` describes it.

use serde::Serialize;

use super::compare::{Row, Status};
use super::compute::SelfTest;
use super::data::{Missing, Used};
use super::ledger::{Band, Run, Source};
use super::subject::{Setting, Subject};

/// Raised when a field changes its meaning or goes away.
const SCHEMA_VERSION: u32 = 1;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    schema_version: u32,
    research_use_only: bool,
    pub(super) model: Subject,
    pub(super) setting: Setting,
    pub(super) self_test: SelfTest,
    /// What the recorded results are worth.
    pub(super) note: String,
    pub(super) runs: Vec<RunFacts>,
    pub(super) inputs: Vec<Used>,
    pub(super) rows: Vec<Row>,
    pub(super) missing: Vec<Missing>,
    pub(super) summary: Summary,
}

/// How a run was recorded.
#[derive(Debug, Serialize)]
pub(super) struct RunFacts {
    pub(super) id: String,
    repository: String,
    pub(super) source: Source,
    pub(super) stack: String,
    dtype: String,
    pub(super) band: Band,
    pub(super) not_compared: Vec<String>,
}

/// Rows by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Summary {
    pub(super) within: usize,
    pub(super) outside: usize,
    pub(super) no_record: usize,
    pub(super) not_run: usize,
}

impl From<&Run> for RunFacts {
    fn from(run: &Run) -> Self {
        Self {
            id: run.id.clone(),
            repository: run.repository.clone(),
            source: run.source.clone(),
            stack: run.stack.clone(),
            dtype: run.dtype.clone(),
            band: run.band,
            not_compared: run.not_compared.clone(),
        }
    }
}

impl Summary {
    pub(super) fn of(rows: &[Row]) -> Self {
        let count = |status| rows.iter().filter(|row| row.status == status).count();
        Self {
            within: count(Status::Within),
            outside: count(Status::Outside),
            no_record: count(Status::NoRecord),
            not_run: count(Status::NotRun),
        }
    }
}

impl Report {
    pub(super) fn new(
        model: Subject,
        setting: Setting,
        self_test: SelfTest,
        (note, runs): (String, &[Run]),
        rows: Vec<Row>,
    ) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            research_use_only: true,
            model,
            setting,
            self_test,
            note,
            runs: runs.iter().map(RunFacts::from).collect(),
            inputs: Vec::new(),
            summary: Summary::of(&rows),
            rows,
            missing: Vec::new(),
        }
    }
}
