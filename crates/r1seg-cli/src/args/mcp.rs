//! What `mcp` takes.

use std::path::PathBuf;

use clap::Args;

use super::volume::bytes;
use super::{DraftArgs, SeveralModelsArgs};

#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  r1seg mcp --model demo --root ./scans
  r1seg mcp -m R1Seg-3D-Phi-3-4B -m ./SegVol --root /data/ct --root /data/study --out ./results

A client starts this command and speaks with it on standard input and output, as one line of its \
configuration says: command `r1seg`, arguments `mcp --model MODEL --root DIR`. docs/mcp.md describes the \
tools. Answers and masks are read by the client and by whoever runs its language model: see there what \
leaves this machine. For research use only: not a medical device.")]
pub(crate) struct McpArgs {
    #[command(flatten)]
    pub(crate) model: SeveralModelsArgs,
    #[command(flatten)]
    pub(crate) drafts: DraftArgs,
    /// A folder whose volumes may be read, with all that is in it; once for each. A path that leads out
    /// of them, also by a symbolic link, is refused [default: the current folder].
    #[arg(long = "root", value_name = "DIR")]
    pub(crate) roots: Vec<PathBuf>,
    /// Where results go: each call gets a new folder in it, named after the volume.
    #[arg(short, long, default_value = "r1seg-results", value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Largest volume that is read, in bytes of its voxels: a number, or one with a unit such as MB or
    /// GiB.
    #[arg(long, default_value = "4GiB", value_name = "SIZE", value_parser = bytes)]
    pub(crate) max_input_bytes: u64,
    /// Largest volume that is read, in voxels.
    #[arg(long, default_value_t = 1 << 30, value_name = "N", hide_default_value = true)]
    pub(crate) max_voxels: u64,
    /// Say nothing but errors on stderr.
    #[arg(short, long)]
    pub(crate) quiet: bool,
}
