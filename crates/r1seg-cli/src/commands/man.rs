//! `r1seg man`: a manual page for each command.

use std::path::Path;

use anyhow::Result;
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use r1seg::volume::Overwrite;
use r1seg_results::OutputFolder;

use crate::args::{Cli, ManArgs};
use crate::exit::{Exit, say};
use crate::interrupt::Writing;

/// The first line of every page, by which a later run knows it again.
const MARK: &[u8] = b".\\\" Written by `r1seg man`\n";

pub(crate) fn run(args: &ManArgs) -> Result<Exit> {
    let mut cli = Cli::command().disable_help_subcommand(true);
    cli.build();
    let mut pages = Vec::new();
    add(&cli, &mut pages)?;
    let files: Vec<_> = pages.iter().map(|(name, _)| args.dir.join(name)).collect();
    let ours = files.iter().filter(|file| file.exists()).all(|file| is_page(file));
    let overwrite = if args.force || ours { Overwrite::Replace } else { Overwrite::Refuse };
    let output = OutputFolder::open(Some(args.dir.clone()), overwrite, &files)?;
    let _writing = Writing::begin();
    let mut stage = output.stage()?;
    for (file, (_, page)) in files.iter().zip(&pages) {
        stage.write(file, page)?;
    }
    stage.commit(&[])?;
    say!("r1seg: {} manual pages in {}", pages.len(), args.dir.display());
    Ok(Exit::Answered)
}

/// Adds the pages of a command and of those below it, by the names of their files.
fn add(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    let man = Man::new(command.clone());
    let mut page = MARK.to_vec();
    man.render(&mut page)?;
    pages.push((man.get_filename(), page));
    for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        add(command, pages)?;
    }
    Ok(())
}

/// Whether an earlier run wrote this file.
fn is_page(file: &Path) -> bool {
    r1seg::files::begins_with(file, 0, MARK)
}
