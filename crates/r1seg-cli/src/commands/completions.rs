//! `r1seg completions`: what a shell completes.

use std::io::Write;

use anyhow::Result;
use clap::CommandFactory;

use crate::args::{Cli, CompletionsArgs};
use crate::exit::Exit;

pub(crate) fn run(args: &CompletionsArgs) -> Result<Exit> {
    let all = Cli::command();
    // Some of the scripts would offer hidden commands, too.
    let shown = all.get_subcommands().filter(|command| !command.is_hide_set());
    let mut cli = clap::Command::new("r1seg")
        .version(env!("CARGO_PKG_VERSION"))
        .args(all.get_arguments())
        .subcommands(shown.cloned());
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut cli, "r1seg", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(Exit::Answered)
}
