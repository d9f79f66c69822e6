//! `--class`, `--classes-file` and `--everything`: classes by name or number.

use anyhow::Result;
use r1seg::registry::Family;
use r1seg::{AutomaticConfig, CheckpointSource};
use r1seg_results::Asked;

use crate::args::ClassArgs;
use crate::exit::CliError;
use crate::prompts;

/// A prompt for each class that is asked for, in the order in which they were typed, and of a group one for
/// each of its parts. Beside points there is one class, or a number that stands for what is pointed at.
pub(super) fn classes(
    args: &ClassArgs,
    source: &CheckpointSource,
    family: Family,
    is_clicked: bool,
) -> Result<Vec<Asked>> {
    if !family.has_classes() {
        let flag = match args {
            ClassArgs { everything: Some(_), .. } => "--everything",
            ClassArgs { classes_file: Some(_), .. } => "--classes-file",
            ClassArgs { classes, .. } if !classes.is_empty() => "--class",
            ClassArgs { one_file_per_class: true, .. } => "--one-file-per-class",
            _ => return Ok(Vec::new()),
        };
        return Err(CliError::usage(
            format!("{flag} is for models with classes, and {} has none", family.name()),
            "use NV-Segment-CT, or name what to segment with --text or --organ",
        ));
    }
    if !args.is_given() {
        return Ok(Vec::new());
    }
    let config = AutomaticConfig::read(source)?;
    let table = config.classes();
    let mut ids = match args.everything {
        Some(scan) => config.everything_in(scan)?.to_vec(),
        None => Vec::new(),
    };
    let listed = args.classes_file.as_deref().map(prompts::lines).transpose()?.unwrap_or_default();
    let listed = listed.iter().filter(|line| !line.trim_start().starts_with('#'));
    let named = args.classes.iter().chain(listed).map(String::as_str);
    for id in table.find_all(named, is_clicked)? {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    if ids.is_empty() {
        return Err(CliError::usage(
            "the file of --classes-file names no class",
            "write a name or a number in each line",
        ));
    }
    Ok(ids.into_iter().map(|id| Asked::of_text(table.text(id))).collect())
}
