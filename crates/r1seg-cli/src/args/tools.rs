//! What the commands about the program itself take.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  r1seg completions bash > ~/.local/share/bash-completion/completions/r1seg
  r1seg completions zsh > ~/.zfunc/_r1seg
  r1seg completions fish > ~/.config/fish/completions/r1seg.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell to write completions for.
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  r1seg man ~/.local/share/man/man1 && man r1seg-infer")]
pub(crate) struct ManArgs {
    /// The folder for the pages, which is created if it does not exist. Pages of an earlier `r1seg man`
    /// are replaced.
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Replace other files of the same names, too.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Print the findings as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}
