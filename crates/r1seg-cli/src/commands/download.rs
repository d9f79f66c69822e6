//! `r1seg download`: a published checkpoint into the cache.

use std::io::Write;

use anyhow::Result;
use r1seg::hub::{DownloadOptions, Event, Snapshot};
use r1seg::{CancelToken, registry};
use serde::Serialize;

use crate::args::DownloadArgs;
use crate::exit::{Exit, say};
use crate::progress::{Progress, gigabytes, share};

#[derive(Serialize)]
struct Downloaded<'a> {
    model: String,
    commit: &'a str,
    path: String,
    files: &'a [String],
    /// Whether there is nothing but pickles, which have to be converted first.
    needs_convert: bool,
}

pub(crate) fn run(args: &DownloadArgs, cancel: CancelToken) -> Result<Exit> {
    let id = registry::model_id(&args.model)?;
    let hub = registry::hub()?;
    let options = DownloadOptions {
        allow: (!args.include.is_empty()).then(|| args.include.clone()),
        ignore: args.exclude.clone(),
        rehash: args.repair,
        cancel: cancel.into(),
        ..DownloadOptions::default()
    };
    let progress = Progress::new(args.quiet);
    progress.stage(format!("asking for {id}"));
    let snapshot = hub.download(&id, &options, &mut |event| show(&progress, &event))?;
    progress.clear();

    let needs_convert = needs_convert(&snapshot);
    let path = snapshot.path.display().to_string();
    let mut out = std::io::stdout().lock();
    if args.json {
        let Snapshot { commit, files, .. } = &snapshot;
        let model = id.repository();
        let done = Downloaded { model, commit, path, files, needs_convert };
        writeln!(out, "{}", serde_json::to_string_pretty(&done)?)?;
    } else {
        writeln!(out, "{path}")?;
    }
    if !args.quiet {
        say!("r1seg: {} at {}, {} files", id.repository(), snapshot.commit, snapshot.files.len());
        if needs_convert {
            say!("r1seg: its weights are a pickle; next: r1seg convert {id} -o DIR");
        }
    }
    Ok(Exit::Answered)
}

/// Whether the weights are pickles only, which `infer` refuses.
fn needs_convert(snapshot: &Snapshot) -> bool {
    snapshot.files.iter().any(|name| r1seg::is_pickle(name))
        && !snapshot.files.iter().any(|name| name.ends_with(".safetensors"))
}

fn show(progress: &Progress, event: &Event<'_>) {
    match event {
        Event::Resolved { commit, files, bytes } if 0 < *files => {
            progress.stage(format!("{commit}: {files} files, {} to come", gigabytes(*bytes)));
        }
        Event::Waiting { name } => progress.stage(format!("{name}: another process fetches it")),
        Event::Progress { name, bytes, total } => {
            progress.stage(format!("{name}: {}", share(*bytes, *total)));
        }
        Event::Retrying { name, attempt, .. } => {
            progress.stage(format!("{name}: trying again ({attempt})"));
        }
        _ => {}
    }
}
