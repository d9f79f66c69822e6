//! `r1seg verify`: are the files those that were published, or those that were converted?

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use r1seg::CancelToken;
use r1seg::hub::{Cancel, Event, FileState, Hub, ModelId};

use crate::args::VerifyArgs;
use crate::exit::{Exit, say};
use crate::progress::{Progress, gigabytes, share};

pub(crate) fn run(args: &VerifyArgs, cancel: CancelToken) -> Result<Exit> {
    let path = Path::new(&args.model);
    let progress = Progress::new(args.quiet);
    let mut out = std::io::stdout().lock();
    if path.is_dir() {
        progress.stage("hashing the folder");
        let verified = r1seg::convert::verify(path, true)?;
        progress.clear();
        let files = verified.manifest.files.len();
        writeln!(out, "OK: {files} files, {}, as converted", gigabytes(verified.bytes))?;
        if !args.quiet && !verified.unlisted.is_empty() {
            say!("r1seg: {} more files that manifest.json does not name", verified.unlisted.len());
        }
        return Ok(Exit::Answered);
    }
    let hub = Hub::from_env()?;
    let snapshot = hub.resolve(&ModelId::parse(&args.model.to_string_lossy())?)?;
    let cancel = Cancel::when(move || cancel.is_cancelled());
    let checks = hub.verify(&snapshot, &cancel, &mut |event| {
        if let Event::Progress { name, bytes, total } = event {
            progress.stage(format!("{name}: {}", share(bytes, total)));
        }
    })?;
    progress.clear();
    snapshot.require_intact(&checks)?;
    let unknown = checks.iter().filter(|c| c.state == FileState::Unknown).count();
    let bytes = checks.iter().map(|c| c.bytes).sum();
    writeln!(out, "OK: {} files, {}, as published", checks.len() - unknown, gigabytes(bytes))?;
    if !args.quiet && 0 < unknown {
        say!("r1seg: of {unknown} more files nobody stated a hash");
    }
    Ok(Exit::Answered)
}
