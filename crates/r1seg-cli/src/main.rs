//! The `r1seg` command line: `args` as typed, `commands` as done, `exit` as reported.
//!
//! stdout carries results only: the answer, or one JSON object with `--json`. Everything else
//! goes to stderr.

mod args;
mod bandwidth;
mod candidates;
mod capabilities;
mod codes;
mod commands;
mod exit;
mod hints;
mod input;
mod interrupt;
mod job;
#[expect(unsafe_code, reason = "an allocator and signal handlers, which know no safe form")]
mod last_words;
mod model;
mod names;
mod organs;
mod progress;
mod prompts;
mod refiner;
mod threads;
mod verbose;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};

/// Every operation of a model makes a new tensor of some 10 MB. The system's allocator gives each
/// back to the kernel, which clears its pages for the next one; this one keeps them, and asks for
/// large ones.
#[global_allocator]
static ALLOCATOR: last_words::Allocator = last_words::Allocator;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli.settled(),
        Err(error) => return exit::refused(&error),
    };
    // The child that reads pickles is meant to die of its limits.
    if !matches!(cli.command, Command::ReadPickle) {
        last_words::install();
    }
    if cli.command.json() {
        exit::report_in_json();
    }
    let serves = matches!(&cli.command, Command::Serve(args) if !args.quiet);
    verbose::install(cli.running.verbose, serves);
    exit::guard(|| run(cli))
}

fn run(Cli { command, running }: Cli) -> anyhow::Result<exit::Exit> {
    r1seg::check_cpu_kernels().map_err(|what| {
        let fix = "unset R1SEG_ISA, or set it to an instruction set of this processor";
        exit::CliError::usage(format!("R1SEG_ISA: {what}"), fix)
    })?;
    if command.computes() {
        threads::start(running.threads, command.quiet())?;
    }
    match command {
        Command::Infer(args) => commands::infer::run(&args, interrupt::install()),
        Command::Segment(args) => commands::segment::run(&args, interrupt::install()),
        Command::Batch(args) => commands::batch::run(&args, interrupt::install()),
        Command::Chat(args) => commands::chat::run(&args),
        Command::Inspect(args) => commands::inspect::run(&args, interrupt::install()),
        Command::Compare(args) => commands::compare::run(&args, interrupt::install()),
        Command::Eval(args) => commands::eval::run(*args, interrupt::install()),
        Command::Embed(args) => commands::retrieval::embed(&args, interrupt::install()),
        Command::Retrieve(args) => commands::retrieval::retrieve(&args, interrupt::install()),
        Command::Serve(args) => commands::serve::run(&args, &interrupt::install_for_server()),
        Command::Demo(args) => commands::demo::run(&args, interrupt::install()),
        #[cfg(feature = "hub")]
        Command::Download(args) => commands::download::run(&args, interrupt::install()),
        Command::Convert(args) => commands::convert::run(&args, interrupt::install()),
        Command::Verify(args) => commands::verify::run(&args, interrupt::install()),
        #[cfg(feature = "hub")]
        Command::Cache(args) => commands::cache::run(&args),
        #[cfg(not(feature = "hub"))]
        Command::Download(_) | Command::Cache(_) => Err(names::without_hub("no such command")),
        Command::Models(args) => commands::models::run(&args),
        Command::Prompts(args) => commands::prompts::run(&args),
        Command::ReadPickle => Ok(exit::Exit::of_child(r1seg::convert::sandbox_main())),
        Command::Mcp(args) => commands::mcp::run(&args, interrupt::install()),
        Command::Bench(args) => commands::bench::run(&args, interrupt::install()),
        Command::Reproduce(args) => commands::reproduce::run(&args, interrupt::install()),
        Command::Doctor(args) => commands::doctor::run(&args),
        Command::Completions(args) => commands::completions::run(&args),
        Command::Man(args) => commands::man::run(&args),
    }
}
