//! The volume that a command is about, by flag or by position.

use std::ops::Deref;
use std::path::{Path, PathBuf};

use clap::Args;

/// Given once, in one of the two ways.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct ImageArg {
    /// The CT: NIfTI (.nii, .nii.gz, or .hdr beside .img), DICOM (the folder of a series, a .zip of it,
    /// or one multi-frame file), NRRD (.nrrd, .nhdr) or a numpy array (.npy, .npz; slices first). `-`
    /// reads a file from standard input.
    #[arg(value_name = "IMAGE")]
    positional: Option<PathBuf>,
    /// The same as IMAGE, as a flag.
    #[arg(short, long, value_name = "IMAGE")]
    image: Option<PathBuf>,
}

impl Deref for ImageArg {
    type Target = Path;

    fn deref(&self) -> &Path {
        // clap has made sure that there is one.
        self.positional.as_deref().or(self.image.as_deref()).unwrap_or(Path::new(""))
    }
}
