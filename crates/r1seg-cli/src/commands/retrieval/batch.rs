//! Several volumes of which some may fail: those are reported and left out.

use std::path::Path;

use anyhow::Result;
use r1seg::volume::{SeriesSummary, Warning};
use r1seg::{Diagnostic, Error, ErrorKind};
use serde::Serialize;

use super::encoder::{Embedded, Encoder};
use crate::candidates::Candidates;
use crate::exit::{CliError, Exit, Reported, error_code, explain};
use crate::input::is_stdin;
use crate::progress::Progress;

/// What became of several volumes.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) embedded: Vec<Embedded>,
    /// Of each of these, which of the given paths it comes from.
    pub(super) origin: Vec<usize>,
    pub(super) failed: Vec<Failed>,
}

/// A volume that failed, which has been reported.
#[derive(Debug, Serialize)]
pub(super) struct Failed {
    name: String,
    code: &'static str,
    text: String,
    fix: Option<String>,
    /// What the program ends with where it is all that was asked for.
    #[serde(skip)]
    exit: u8,
}

/// What a path with several DICOM series stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Several {
    /// Each of them, as a volume of its own.
    Each,
    /// None: one volume is meant.
    Refused,
}

impl Batch {
    /// Embeds volumes one after the other, so that only one is in memory.
    pub(super) fn of(encoder: &mut Encoder, given: Candidates, several: Several) -> Result<Self> {
        let mut batch = Self::default();
        let progress = Progress::new(encoder.quiet);
        for fault in given.faults {
            let path = fault.path.clone().unwrap_or_default();
            batch.fail(fault, &path);
        }
        for (index, path) in given.paths.iter().enumerate() {
            progress.stage(format!("volume {} of {}", index + 1, given.paths.len()));
            match encoder.volume(path, None) {
                Err(error) => match series_of(&error).filter(|_| several == Several::Each) {
                    Some(series) => batch.add_series(encoder, (index, path), &series)?,
                    None => batch.fail_unless_fatal(error, path, path)?,
                },
                Ok(embedded) => batch.push(index, embedded),
            }
        }
        progress.clear();
        Ok(batch)
    }

    fn push(&mut self, index: usize, embedded: Embedded) {
        self.embedded.push(embedded);
        self.origin.push(index);
    }

    fn add_series(
        &mut self,
        encoder: &mut Encoder,
        (index, path): (usize, &Path),
        series: &[SeriesSummary],
    ) -> Result<()> {
        for summary in series {
            let name = series_name(path, summary.number);
            if summary.is_localizer {
                let text = format!("{name} is a localizer, no volume: left out");
                encoder.warn(Warning::new("W-SERIES", text));
                continue;
            }
            match encoder.volume(path, Some(summary.number)) {
                Ok(embedded) => self.push(index, embedded),
                Err(error) => self.fail_unless_fatal(error, Path::new(&name), path)?,
            }
        }
        Ok(())
    }

    /// Reports a volume that cannot be used. A device, a model or r1seg itself that fails would fail
    /// with every other volume, too. `item` is what the volume is called, `given` the path that it is
    /// read from.
    fn fail_unless_fatal(&mut self, error: Error, item: &Path, given: &Path) -> Result<()> {
        match error.kind() {
            ErrorKind::BadData
            | ErrorKind::Missing
            | ErrorKind::Io
            | ErrorKind::Usage
            | ErrorKind::Resources
            | ErrorKind::Network => {}
            _ => return Err(error.into()),
        }
        let mut reported = CliError::from(&error as &dyn Diagnostic);
        // An error may know better, such as which slice it is.
        if reported.path.as_deref().is_none_or(|path| path == given) && !is_stdin(given) {
            reported.path = Some(item.to_path_buf());
        }
        self.fail(reported, item);
        Ok(())
    }

    fn fail(&mut self, error: CliError, path: &Path) {
        let failed = Failed {
            name: path.display().to_string(),
            code: error.code,
            text: error.what.clone(),
            fix: error.fix.clone(),
            exit: error_code(error.kind),
        };
        // With --json it is a part of the one object.
        explain(&anyhow::Error::from(error).context(Reported));
        self.failed.push(failed);
    }

    /// How the program ends.
    pub(super) fn exit(&self, is_any_result: bool) -> Exit {
        let Some(first) = self.failed.first() else {
            return Exit::Answered;
        };
        if is_any_result {
            return Exit::SomeFailed;
        }
        let is_same = self.failed.iter().all(|failed| failed.exit == first.exit);
        Exit::AllFailed(if is_same { first.exit } else { error_code(ErrorKind::BadData) })
    }
}

/// `study#2`, as `--series 2` would choose it.
pub(super) fn series_name(path: &Path, number: usize) -> String {
    format!("{}#{number}", path.display())
}

/// The series among which reading did not choose.
fn series_of(error: &Error) -> Option<Vec<SeriesSummary>> {
    match error {
        Error::Volume(error) => error.series().map(<[_]>::to_vec),
        _ => None,
    }
}
