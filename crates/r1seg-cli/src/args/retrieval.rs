//! What `embed` and `retrieve` take.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgGroup, Args};
use r1seg::Preprocess;

use super::infer::preprocess;
use super::{ModelArgs, VolumeArgs};

#[derive(Debug, Args)]
#[command(after_long_help = EMBED_EXAMPLES)]
pub(crate) struct EmbedArgs {
    /// Volumes, in any format that `infer` reads, or folders of them, as for `retrieve`; `-` reads a
    /// file from standard input.
    #[arg(value_name = "IMAGE", conflicts_with = "image")]
    pub(crate) images: Vec<PathBuf>,
    /// The same as IMAGE, as a flag; may be given several times.
    #[arg(short, long, value_name = "IMAGE")]
    pub(crate) image: Vec<PathBuf>,
    /// A text, such as a finding or a report; may be given several times. `@FILE` takes every line
    /// of a text file that is not blank as a text of its own, `-` reads one text from standard
    /// input.
    #[arg(short, long, value_name = "TEXT|@FILE|-")]
    pub(crate) text: Vec<OsString>,
    /// Where to write the vectors, one a row: volumes first, then texts, each in the order given.
    ///
    /// OUT.npy is an f32 array [rows, width] with a file OUT.npy.json beside it that names the
    /// rows. OUT.safetensors has the same array as `embeddings`, and the same names as JSON in its
    /// metadata, under `r1seg`.
    #[arg(short, long, value_name = "OUT.npy|OUT.safetensors")]
    pub(crate) out: PathBuf,
    /// What an HSENet's encoder has made of the slices of a volume, a numpy array with a row for each slice;
    /// given once for each volume, in their order.
    #[arg(long, value_name = "FILE.npy")]
    pub(crate) slice_features: Vec<PathBuf>,
    /// Replace files that exist already.
    #[arg(long)]
    pub(crate) force: bool,
    /// Print the names of the rows as one JSON object, too.
    #[arg(long)]
    pub(crate) json: bool,
    /// Say nothing but errors on stderr.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) prepare: PrepareArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) volume: VolumeArgs,
}

const EMBED_EXAMPLES: &str = "\
Examples:
  r1seg embed -m M3D-CLIP ct1.nii.gz ct2.nii.gz \\
    -t \"A cyst in the left kidney.\" -o out.npy
  r1seg embed -m M3D-CLIP -t @reports.txt -o reports.safetensors

Vectors have length 1: the product of two is their similarity. Texts longer than the model reads are \
cut at their end, with a warning. A volume that cannot be read is reported and has no row; the exit \
code is then 4.";

#[derive(Debug, Args)]
#[command(
    after_long_help = RETRIEVE_EXAMPLES,
    group = ArgGroup::new("searched").args(["volumes", "texts"]).multiple(true)
)]
pub(crate) struct RetrieveArgs {
    /// Volumes to search, or folders of them: a folder stands for all volumes and DICOM series in
    /// it and in its folders. A series of several goes by its number, as in `study#2`.
    #[arg(value_name = "FILE|FOLDER", conflicts_with_all = ["texts", "pairs"])]
    pub(crate) volumes: Vec<PathBuf>,
    /// Rank the volumes for this text; may be given several times. `@FILE` takes every line of a
    /// text file that is not blank, `-` reads one text from standard input.
    #[arg(
        short,
        long,
        value_name = "TEXT|@FILE|-",
        requires = "volumes",
        conflicts_with_all = ["image", "texts", "pairs"]
    )]
    pub(crate) text: Vec<OsString>,
    /// Rank the lines of --texts for this volume, or the volumes that are searched; may be given several
    /// times. `-` reads a file from standard input.
    #[arg(short, long, value_name = "PATH|-", requires = "searched", conflicts_with = "pairs")]
    pub(crate) image: Vec<PathBuf>,
    /// Texts to search, one a line.
    #[arg(long, value_name = "FILE", requires = "image", conflicts_with = "pairs")]
    pub(crate) texts: Option<PathBuf>,
    /// Measure how often the right one is found: a CSV file with the columns `image` and `text`,
    /// paths relative to its folder. Prints recall at 1, 5 and 10 in both directions.
    #[arg(long, value_name = "FILE.csv")]
    pub(crate) pairs: Option<PathBuf>,
    /// Show the N best only.
    #[arg(long, value_name = "N", conflicts_with = "pairs")]
    pub(crate) top: Option<usize>,
    /// Print the result as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    /// Say nothing but errors on stderr.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) prepare: PrepareArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) volume: VolumeArgs,
}

const RETRIEVE_EXAMPLES: &str = "\
Examples:
  r1seg retrieve -m M3D-CLIP -t \"Aneurysm of the abdominal aorta.\" scans/
  r1seg retrieve -m M3D-CLIP -i ct.nii.gz --texts findings.txt --top 5
  r1seg retrieve -m M3D-CLIP -i ct.nii.gz scans/ --top 5
  r1seg retrieve -m M3D-CLIP --pairs pairs.csv --json

Each line is a similarity in -1..1 and a name, the best first. Of equal ones the first given is \
first. A volume that cannot be read is reported and left out; the exit code is then 4, or that of \
the error where no volume is left.";

/// How intensities become the model's input.
#[derive(Debug, Args)]
pub(crate) struct PrepareArgs {
    /// Intensities: auto, none (already 0..1), m3d-seg, m3d-cap, m3d-refseg or
    /// window:LEVEL,WIDTH. `auto` takes none for 0..1 and m3d-seg for HU. SAM-Med3D and NeuroSAM3D have
    /// recipes of their own, which `auto` takes: sam-med3d (voxels of 1.5 mm), sam-med3d-centered (the
    /// grid of newer versions of torchio) and neurosam3d (voxels as they are); HSENet has hsenet and
    /// hsenet-as-published (which cuts a scan with many slices into sagittal ones).
    #[arg(
        long,
        default_value = "auto",
        value_name = "RECIPE",
        allow_hyphen_values = true,
        value_parser = preprocess
    )]
    pub(crate) preprocess: Preprocess,
}
