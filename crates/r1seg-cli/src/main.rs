//! The `r1seg` command line: `args` as typed, `commands` as done, `exit` as reported.
//!
//! stdout carries results only: the answer, or one JSON object with `--json`. Everything else
//! goes to stderr.

#![allow(clippy::print_stderr, reason = "a command line talks on stderr")]

mod args;
mod commands;
mod exit;
mod output;
mod preview;
mod progress;
mod report;
mod study;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    exit::guard(|| match cli.command {
        Command::Infer(args) => commands::infer::run(&args),
        Command::Demo(args) => commands::demo::run(&args),
        Command::Bench(args) => commands::bench::run(&args),
    })
}
