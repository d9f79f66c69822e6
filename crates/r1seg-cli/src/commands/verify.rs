//! `r1seg verify`: are the files those that were published, or those that were converted?

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;

use anyhow::Result;
use r1seg::{CancelToken, CheckpointSource, Error, checkpoint};

use crate::args::VerifyArgs;
use crate::exit::{Exit, say};
use crate::progress::{Progress, counted, gigabytes};

const FILES: [&str; 2] = ["file", "files"];

pub(crate) fn run(args: &VerifyArgs, cancel: CancelToken) -> Result<Exit> {
    let Verdict { ok, remarks } = check(&args.model, args.quiet, cancel)?;
    writeln!(std::io::stdout(), "{ok}")?;
    if !args.quiet {
        remarks.iter().for_each(|remark| say!("r1seg: {remark}"));
    }
    Ok(Exit::Answered)
}

/// What to say of a model that is what it was.
pub(crate) struct Verdict {
    ok: String,
    remarks: Vec<String>,
}

/// Hashes a folder that was converted, or else a model that was downloaded.
pub(crate) fn check(model: &OsStr, quiet: bool, cancel: CancelToken) -> Result<Verdict> {
    let path = Path::new(model);
    let progress = Progress::new(quiet);
    if path == Path::new("demo") && !path.exists() {
        let ok = "OK: the demo model is part of r1seg itself; it has no files to compare";
        return Ok(Verdict { ok: ok.to_string(), remarks: Vec::new() });
    }
    if !path.is_dir() {
        return downloaded(model, &progress, cancel);
    }
    progress.stage("hashing the folder");
    let verified = match checkpoint::verify(path, true) {
        Err(error @ checkpoint::Error::NoManifest { .. }) => {
            // There is nothing to compare with, but the numbers can be looked at.
            progress.stage("looking for NaN and infinity");
            let checked = CheckpointSource::Folder(path.to_path_buf()).check_tensors();
            progress.clear();
            match checked {
                Err(Error::Checkpoint(damaged @ checkpoint::Error::DamagedWeights { .. })) => {
                    return Err(Error::from(damaged).into());
                }
                Ok(tensors) if !quiet => say!("r1seg: no NaN or infinity in {tensors} tensors"),
                _ => {}
            }
            return Err(Error::from(error).into());
        }
        other => other.map_err(Error::from)?,
    };
    progress.clear();
    let (files, size) = (verified.manifest.files.len(), gigabytes(verified.bytes));
    let remarks = match verified.unlisted.len() {
        0 => Vec::new(),
        n => vec![format!(
            "{} that manifest.json does not name",
            counted(n as u64, ["more file", "more files"])
        )],
    };
    let files = counted(files as u64, FILES);
    Ok(Verdict { ok: format!("OK: {files}, {size}, as converted"), remarks })
}

#[cfg(feature = "hub")]
fn downloaded(model: &OsStr, progress: &Progress, cancel: CancelToken) -> Result<Verdict> {
    use r1seg::hub::{Cancel, Event, FileState};

    use crate::progress::share;

    let hub = r1seg::registry::hub()?;
    let snapshot = hub.resolve(&r1seg::registry::model_id(&model.to_string_lossy())?)?;
    let cancel = Cancel::from(cancel);
    let checks = hub.verify(&snapshot, &cancel, &mut |event| {
        if let Event::Progress { name, bytes, total } = event {
            progress.stage(format!("{name}: {}", share(bytes, total)));
        }
    })?;
    snapshot.require_intact(&checks)?;
    progress.stage("looking for NaN and infinity");
    let looked_at = r1seg::convert::check_tensors(&snapshot.path)?;
    progress.clear();
    let unknown = checks.iter().filter(|c| c.state == FileState::Unknown).count();
    let bytes = checks.iter().map(|c| c.bytes).sum();
    let known = counted((checks.len() - unknown) as u64, FILES);
    let ok = format!("OK: {known}, {}, as published", gigabytes(bytes));
    let mut remarks = Vec::new();
    if 0 < unknown {
        remarks.push(format!(
            "of {} nobody stated a hash",
            counted(unknown as u64, ["more file", "more files"])
        ));
    }
    if looked_at == 0 {
        let text = "pickles are not looked into for NaN and infinity; `r1seg convert` does";
        remarks.push(text.to_string());
    }
    Ok(Verdict { ok, remarks })
}

#[cfg(not(feature = "hub"))]
fn downloaded(model: &OsStr, _: &Progress, _: CancelToken) -> Result<Verdict> {
    let what = format!("`{}` is not a local folder", model.to_string_lossy());
    Err(crate::names::without_hub(&what))
}
