//! What `mcp` takes.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use r1seg::{DeviceChoice, DtypeChoice};

use super::volume::bytes;
use super::{ModelArgs, running};

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
    /// A checkpoint folder, a model that `r1seg download` brought, or `demo`; once for each model. They
    /// are loaded when they are first called for.
    #[arg(
        short,
        long = "model",
        env = "R1SEG_MODEL",
        value_name = "DIR|MODEL|demo",
        help_heading = "Model"
    )]
    pub(crate) models: Vec<OsString>,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(
        long,
        default_value = "auto",
        env = "R1SEG_DEVICE",
        value_name = "DEVICE",
        value_parser = running::device,
        help_heading = "Model"
    )]
    pub(crate) device: DeviceChoice,
    /// How weights are kept: auto, f32, bf16 or f16.
    #[arg(
        long,
        default_value = "auto",
        env = "R1SEG_DTYPE",
        value_name = "DTYPE",
        value_parser = running::dtype,
        help_heading = "Model"
    )]
    pub(crate) dtype: DtypeChoice,
    /// Read weight files into memory instead of using them where they lie.
    #[arg(long, help_heading = "Model")]
    pub(crate) no_mmap: bool,
    /// Hash the files of each checkpoint before the server starts.
    #[arg(long, help_heading = "Model")]
    pub(crate) verify: bool,

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

impl McpArgs {
    /// How each of the models is loaded, as other commands are told of one.
    pub(crate) fn of_model(&self, model: Option<OsString>) -> ModelArgs {
        let &Self { device, dtype, no_mmap, verify, .. } = self;
        ModelArgs { model, device, dtype, no_mmap, verify }
    }
}
