//! What `reproduce` takes.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::ModelArgs;

#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ReproduceArgs {
    /// The same as --model, by position.
    #[arg(value_name = "MODEL|DIR")]
    pub(crate) positional: Option<OsString>,
    /// A folder with the volumes that results were recorded on; again for another. Without them, what
    /// is missing is named, and where it comes from.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data: Vec<PathBuf>,
    /// Only rows with this prompt id or this input; again for others.
    #[arg(long, value_name = "NAME")]
    pub(crate) only: Vec<String>,
    /// Compare with the results in this file instead of the published ones.
    #[arg(long, value_name = "FILE")]
    pub(crate) ledger: Option<PathBuf>,
    /// Write a ledger with the measured results in place of the recorded ones.
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
    /// Replace the file of --record if it exists already.
    #[arg(long, requires = "record")]
    pub(crate) force: bool,
    /// List the files that results were recorded with, and load nothing: path in the data folder,
    /// SHA-256 where it is known, repository of the model, origin; separated by tabs.
    #[arg(long)]
    pub(crate) list: bool,
    /// Print the results as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    /// Say nothing but errors on stderr.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

const EXAMPLES: &str = "\
Examples:
  r1seg reproduce --list
  r1seg reproduce M3D-LaMed-Phi-3-4B --data Task07_Pancreas --only B1
  r1seg reproduce ./SegVol --data ./segvol-case --json > result.json

The files of the model are hashed, its weights searched for NaN and infinity, and the embedded phantom \
is run through it, with or without data. Each recorded result is then measured in the way that it was \
recorded: `within` its band, `outside`, `no record` to compare with, or `not run`. A band is a tolerance \
that was chosen around a single run of somebody else: a result outside of it is a reason to look, not a \
proof of a fault. The exit code is 5 if any result is outside, and 0 if all that ran are within. \
Recorded results and their sources: docs/reproducing.md.";
