//! `r1seg completions`: what a shell completes.

use std::io::Write;

use anyhow::Result;
use clap::CommandFactory;

use crate::args::{Cli, CompletionsArgs};
use crate::exit::Exit;

pub(crate) fn run(args: &CompletionsArgs) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "r1seg", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(Exit::Answered)
}
