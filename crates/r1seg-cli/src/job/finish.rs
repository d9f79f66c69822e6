//! What becomes of the results: files, warnings, standard output, the summary and the exit code.

use std::io::Write;
use std::time::Instant;

use anyhow::Result;
use r1seg::MaskStatus;
use r1seg::volume::{LabelMap, MaskFormat, Warning, write_labels_to};
use r1seg_results::Results;
use r1seg_results::report::Report;

use super::summary::Summary;
use super::{Job, summary};
use crate::codes::Code;
use crate::exit::{CliError, Exit, explain, say};
use crate::interrupt::Writing;
use crate::model;

/// What a model gave to all prompts.
pub(crate) struct Finished<'a> {
    /// When the run began.
    pub(crate) start: Instant,
    pub(crate) results: Results<'a>,
    pub(crate) report: Report,
    pub(crate) warnings: Vec<Warning>,
    /// Why each prompt has no mask, where it has none.
    pub(crate) why_no_mask: Vec<&'static str>,
    /// Whether prompts are called by their names, and not by their numbers.
    pub(crate) by_name: bool,
}

/// Measures and writes everything, and prints what there is to say about it. `print` is given what each
/// prompt got in words, for standard output where that carries neither report nor mask.
pub(crate) fn finish(
    job: &Job<'_>,
    finished: Finished<'_>,
    print: impl FnOnce(&[String]) -> std::io::Result<()>,
) -> Result<Exit> {
    let Finished { start, results, report, warnings, why_no_mask, by_name } = finished;
    let measured = results.measure(report, warnings)?;
    let writing = Writing::begin();
    let written = measured.write(start)?;
    drop(writing);

    let quiet = job.output.quiet;
    if !quiet {
        written.warnings.iter().for_each(model::warn);
    }
    let sizes = summary::sizes(&written, &why_no_mask);
    print(&sizes)?;
    if job.output.json {
        std::io::stdout().write_all(written.json.as_bytes())?;
    }
    if !quiet {
        let seconds = start.elapsed().as_secs_f64();
        let summary = Summary { args: job.output, written: &written, sizes, by_name, seconds };
        summary.lines().iter().for_each(|line| say!("r1seg: {line}"));
    }
    if job.mask_to_stdout() && !print_mask(written.mask())? {
        return Ok(Exit::NoMask);
    }
    // Where a mask could not be refined, it stays as it is.
    let mut asked = written.findings.prompts().iter().filter(|of| of.refines.is_none());
    let all_found = asked.all(|prompt| prompt.status == MaskStatus::Found);
    Ok(if job.output.require_mask && !all_found { Exit::NoMask } else { Exit::Answered })
}

/// Writes the mask to standard output, as `.nii.gz`. Whether there is one: a file without a byte
/// must not pass for a mask.
fn print_mask(mask: Option<&LabelMap>) -> Result<bool> {
    let Some(mask) = mask else {
        let error = CliError::new(Code::NoMask, "there is no mask to write to standard output")
            .fix("--empty-mask writes a mask of zeros where none was found");
        explain(&error.into());
        return Ok(false);
    };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    write_labels_to(&mut out, mask, MaskFormat::NiftiGz)?;
    out.flush()?;
    Ok(true)
}
