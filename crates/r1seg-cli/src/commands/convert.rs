//! `r1seg convert`: a published checkpoint into a folder that r1seg loads.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Result;
use r1seg::CancelToken;
use r1seg::convert::{ConvertOptions, LanguageModelRecord, Lora, Report, Sandbox, convert};

use crate::args::ConvertArgs;
use crate::exit::{self, CliError, Exit, say};
use crate::interrupt::Writing;
use crate::names;
use crate::progress::{Progress, gigabytes, share};

/// The hidden command that reads a pickle from standard input, in a process with limits.
pub(crate) const SANDBOX: &str = "read-pickle";

pub(crate) fn run(args: &ConvertArgs, cancel: CancelToken) -> Result<Exit> {
    if let Some(alpha) = args.lora_alpha.filter(|alpha| !(alpha.is_finite() && 0.0 < *alpha)) {
        return Err(CliError::usage(
            format!("--lora-alpha is {alpha}; a number above 0 is needed"),
            "leave it out to take it from adapter_config.json, or 2 r as R1Seg trains",
        ));
    }
    let sandbox = Sandbox { program: std::env::current_exe()?, arguments: vec![SANDBOX.into()] };
    let options = ConvertOptions {
        base: args.base.clone(),
        dtype: args.dtype.map(Into::into),
        quant: args.quant.map(Into::into),
        llm: args.llm.clone(),
        max_shard_bytes: args.max_shard_size,
        lora: Lora { alpha: args.lora_alpha, ..Lora::default() },
        check_tensors: !args.no_check_tensors,
        replace: args.force,
        sandbox: Some(sandbox),
        ..ConvertOptions::new(source(args)?)
    };
    let progress = Progress::new(args.quiet);
    progress.stage("reading the checkpoint");
    // The folder under construction is removed before the program ends.
    let writing = Writing::begin();
    let report = convert(&options, &args.out, &mut |step| {
        progress.stage(format!("{} ({})", share(step.done, Some(step.total)), step.tensor));
        if cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    drop(writing);
    progress.clear();

    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report.manifest)?)?;
    } else {
        writeln!(out, "{}", args.out.display())?;
    }
    if !args.quiet {
        tell(&report);
    }
    Ok(Exit::Answered)
}

/// A path, or else a downloaded model.
fn source(args: &ConvertArgs) -> Result<PathBuf> {
    let path = Path::new(&args.source);
    let name = args.source.to_str().filter(|_| !path.exists());
    let found = name.map(names::resolve).transpose()?.flatten();
    Ok(found.unwrap_or_else(|| path.to_path_buf()))
}

fn tell(report: &Report) {
    let manifest = &report.manifest;
    let (tensors, parameters) = (manifest.tensors, manifest.parameters);
    say!(
        "r1seg: {tensors} tensors, {parameters} parameters, {} written",
        gigabytes(report.bytes_written),
    );
    if let Some(lora) = &manifest.lora {
        let ranks: Vec<String> = lora.ranks.iter().map(u64::to_string).collect();
        let (merged, alpha) = (lora.merged, lora.alpha);
        say!("r1seg: LoRA merged into {merged} matrices, rank {}, alpha {alpha}", ranks.join(", "));
    }
    if let Some(language_model) = &manifest.language_model {
        say!("r1seg: language model in {}: {}", language_model.file, count(language_model));
    }
    if 0 < report.ignored {
        say!("r1seg: {} values beside the weights were left out", report.ignored);
    }
    for (is_there, what) in
        [(report.has_config, "config.json"), (report.has_tokenizer, "tokenizer files")]
    {
        if !is_there {
            let text = format!("there is no {what} in the source");
            exit::warning("W-FILES", &text, Some("--base DIR with them"));
        }
    }
}

/// How many tensors are of which type, and which of them for want of a fitting one.
fn count(language_model: &LanguageModelRecord) -> String {
    let mut types: BTreeMap<&str, usize> = BTreeMap::new();
    for name in language_model.types.values() {
        *types.entry(name).or_default() += 1;
    }
    let mut text: Vec<String> =
        types.into_iter().map(|(name, count)| format!("{count} {name}")).collect();
    let otherwise = &language_model.stored_otherwise;
    if let Some(first) = otherwise.first() {
        text.push(format!(
            "{} otherwise than wanted (listed in manifest.json), the first {}: {} for {}, {} columns",
            otherwise.len(),
            first.name,
            first.stored,
            first.wanted,
            first.columns,
        ));
    }
    text.join(", ")
}
