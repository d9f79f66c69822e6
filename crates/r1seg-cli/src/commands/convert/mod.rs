//! `r1seg convert`: a published checkpoint into a folder that r1seg loads, and whether it does.

mod check;

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Result;
use r1seg::CancelToken;
use r1seg::checkpoint::shown::first_names;
use r1seg::checkpoint::{AlphaSource, LanguageModelRecord, LoraRecord};
use r1seg::convert::{ConvertOptions, Lora, Report, Sandbox, prepare};
use r1seg::registry::{MODELS, ModelEntry, repository_at};
use r1seg::volume::Warning;
use r1seg_results::{Protected, parent};

use crate::args::ConvertArgs;
use crate::exit::{CliError, Exit, say};
use crate::interrupt::Writing;
use crate::model;
use crate::progress::{Progress, counted, gigabytes, share};

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
    let source = source(args)?;
    let published = args.published.or_else(|| repository_of(&source));
    let options = ConvertOptions {
        base: args.base.clone(),
        parts: args.parts.clone(),
        compose: r1seg::registry::compose_config,
        published,
        dtype: args.dtype.map(Into::into),
        quant: args.quant.as_ref().map(|quant| quant.quant),
        llm: args.llm.clone(),
        architecture: r1seg::registry::architecture,
        recover: r1seg::registry::recover_config,
        max_shard_bytes: args.max_shard_size,
        lora: Lora { alpha: args.lora_alpha, ..Lora::default() },
        check_tensors: !args.no_check_tensors,
        replace: args.force,
        sandbox: Some(sandbox),
        ..ConvertOptions::new(source)
    };
    let mut inputs = Protected::default().checkpoint("the source", &options.source);
    if let Some(base) = &options.base {
        inputs = inputs.checkpoint("the base", base);
    }
    for part in &options.parts {
        inputs = inputs.checkpoint("a part of the model", part);
    }
    if let Some(file) = &options.llm {
        inputs = inputs.file("the file of --llm", file);
    }
    inputs.check_folder(&args.out)?;
    let progress = Progress::new(args.quiet);
    progress.stage("reading the checkpoint");
    // The folder under construction is removed before the program ends.
    let writing = Writing::begin();
    let converted = prepare(&options, &args.out, &mut |step| {
        progress.stage(format!("{} ({})", share(step.done, Some(step.total)), step.tensor));
        if cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    progress.stage("comparing the model with its configuration");
    check_name(converted.report(), args.published)?;
    let warnings = check::check(&converted, args)?;
    let report = converted.publish()?;
    drop(writing);
    progress.clear();

    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report.manifest)?)?;
    } else {
        writeln!(out, "{}", args.out.display())?;
    }
    if !args.quiet {
        tell(&report, args.quant.as_ref().and_then(|quant| quant.remark.as_deref()));
        tell_twins(&report, published);
        warnings.iter().for_each(model::warn);
    }
    Ok(Exit::Answered)
}

/// A path, or else a downloaded model.
fn source(args: &ConvertArgs) -> Result<PathBuf> {
    let path = Path::new(&args.source);
    let name = args.source.to_str().filter(|_| !path.exists());
    let found = name.map(r1seg::downloaded).transpose()?.flatten();
    Ok(found.unwrap_or_else(|| path.to_path_buf()))
}

fn tell(report: &Report, remark: Option<&str>) {
    let manifest = &report.manifest;
    let tensors = counted(manifest.tensors as u64, ["tensor", "tensors"]);
    let parameters = counted(manifest.parameters, ["parameter", "parameters"]);
    say!("r1seg: {tensors}, {parameters}, {} written", gigabytes(report.bytes_written),);
    if let Some(lora) = &manifest.lora {
        tell_lora(lora);
    }
    if let Some(remark) = remark {
        say!("r1seg: {remark}");
    }
    if let Some(language_model) = &manifest.language_model {
        say!("r1seg: language model in {}: {}", language_model.file, count(language_model));
    }
    if let Some(model) = report.recovered_config {
        say!("r1seg: config.json was recovered from the tensors: {model}");
    }
    if !report.dropped.is_empty() {
        let tensors = counted(report.dropped.len() as u64, ["tensor", "tensors"]);
        let names = first_names(report.dropped.iter().map(String::as_str));
        say!("r1seg: left out: {tensors} that no model reads ({names})");
    }
    if 0 < report.ignored {
        let left_out = counted(report.ignored, ["value", "values"]);
        say!("r1seg: left out: {left_out} beside the weights");
    }
}

/// The published repository that a file or a folder of weights comes from, where its place shows that.
fn repository_of(source: &Path) -> Option<&'static str> {
    // A file of the hub's cache is a link, whose target has no name.
    repository_at(if source.is_dir() { source } else { parent(source) })
}

/// Whether the tensors can be those of the published model that was named.
fn check_name(report: &Report, named: Option<&'static str>) -> Result<()> {
    let Some(named) = named else { return Ok(()) };
    let entry = entry_of(report).ok_or_else(|| {
        CliError::usage(
            "--as says which model the tensors are of, and config.json says that already",
            "leave out --as",
        )
    })?;
    match entry.repositories().any(|repository| repository == named) {
        true => Ok(()),
        false => {
            let known: Vec<&str> = entry.repositories().collect();
            let text = format!("the tensors are not those of {named}, but of {}", entry.name);
            Err(CliError::usage(text, format!("leave out --as, or name {}", known.join(" or "))))
        }
    }
}

/// The model whose tensors told what config.json would say.
fn entry_of(report: &Report) -> Option<&'static ModelEntry> {
    let name = report.recovered_config?;
    MODELS.iter().copied().find(|entry| entry.name == name)
}

/// Which published model the weights were taken for, where only a name tells it from another one.
fn tell_twins(report: &Report, published: Option<&'static str>) {
    let Some(entry) = entry_of(report).filter(|_| published.is_none()) else { return };
    for other in entry.published.iter().filter(|of| of.is_told_by_its_name()) {
        let first = entry.published.iter().find(|of| !of.is_told_by_its_name());
        let (taken, other) = (first.map_or(entry.name, |of| of.alias), other.alias);
        let text = format!("the weights were taken for {taken}: {other} has the same tensors");
        let fix = format!("add --as {other} if they are those of {other}, or --as {taken} if not");
        model::warn(&Warning::new("W-TWIN", text).with_remedy(fix));
    }
}

fn tell_lora(lora: &LoraRecord) {
    let ranks: Vec<String> = lora.ranks.iter().map(u64::to_string).collect();
    let (merged, ranks) = (counted(lora.merged as u64, ["matrix", "matrices"]), ranks.join(", "));
    let alpha = match lora.alpha_from {
        AlphaSource::Option => format!("{} (--lora-alpha)", lora.alpha),
        AlphaSource::AdapterConfig => format!("{} (adapter_config.json)", lora.alpha),
        // Each matrix has its own where ranks differ.
        AlphaSource::TwiceTheRank if lora.ranks.len() > 1 => "2 r (guessed)".to_owned(),
        AlphaSource::TwiceTheRank => format!("{} (guessed, 2 r)", lora.alpha),
    };
    say!("r1seg: LoRA merged into {merged}, rank {ranks}, alpha {alpha}");
    if lora.alpha_from == AlphaSource::TwiceTheRank {
        let text = "no adapter_config.json says alpha: it is taken to be twice the rank, as \
                    R1Seg-3D and M3D-LaMed are trained";
        let fix = "--lora-alpha ALPHA, if the checkpoint was trained with another";
        model::warn(&Warning::new("W-LORA", text).with_remedy(fix));
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
