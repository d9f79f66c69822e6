//! Which files a run writes, and where to.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Result;
use r1seg::CheckpointSource;
use r1seg::volume::{MaskFormat, Overwrite};

use crate::args::OutputArgs;
use crate::exit::CliError;
use crate::input::{Input, is_stdin};
use crate::output::{Output, check_picture_name, parent, wrong_ending};
use crate::protected::Protected;
use crate::results::naming::{default_folder, numbered, numbered_masks};

const SEGMENTATION: &str = "mask.seg.nrrd";
const LABELS: &str = "labels.json";
const PREVIEW: &str = "preview.png";
const ANSWER: &str = "answer.txt";
const REPORT: &str = "report.json";

/// All that an earlier run may have left in a folder, besides masks with numbers.
const FILES: [&str; 7] = ["mask.nii.gz", "mask.npy", SEGMENTATION, LABELS, PREVIEW, ANSWER, REPORT];

/// The files of a run. Those of masks are written only if there is one.
pub(crate) struct Outputs {
    /// Of `--out`, or the one named after the image.
    folder: Option<PathBuf>,
    /// The name that the folder would have, were it free.
    pub(super) taken: Option<PathBuf>,
    /// The same masks in several formats, the most telling first.
    pub(super) masks: Vec<PathBuf>,
    /// The same for 3D Slicer, with names and colors, however masks overlap.
    pub(super) segmentation: Option<PathBuf>,
    pub(crate) mask_to_stdout: bool,
    pub(super) labels: Option<PathBuf>,
    pub(super) preview: Option<PathBuf>,
    pub(super) answer: Option<PathBuf>,
    pub(super) report: Option<PathBuf>,
    pub(super) trace: Option<PathBuf>,
    prompts: usize,
}

/// What a command was told to read and to write.
pub(crate) struct Request<'a> {
    pub(crate) image: &'a Path,
    /// Of other files to read, the one with a geometry.
    pub(crate) affine_from: Option<&'a Path>,
    /// What the volume is asked for, as given by the flag of this name.
    pub(crate) prompts: (&'static str, &'a [OsString]),
    /// Whether the model answers them in words.
    pub(crate) has_answers: bool,
    pub(crate) output: &'a OutputArgs,
}

/// What can be said about the arguments before anything is read.
pub(crate) fn check_args(args: &Request<'_>) -> Result<()> {
    let (flag, prompts) = args.prompts;
    let out = args.output;
    let mask_to_stdout = out.mask.as_deref().is_some_and(is_stdin);
    if is_stdin(args.image) && prompts.iter().any(|prompt| prompt == "-") {
        return Err(CliError::usage(
            format!("--image - and {flag} both read standard input"),
            "give the text itself, or a file with @FILE",
        ));
    }
    if is_stdin(args.image) && std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        return Err(CliError::usage(
            "the image is read from standard input, and that is the terminal",
            "send a file: r1seg ... -i - < ct.nii.gz",
        ));
    }
    if mask_to_stdout && out.json {
        return Err(CliError::usage(
            "--mask - and --json both write to standard output",
            "use --report FILE for the report, or --mask FILE",
        ));
    }
    if mask_to_stdout && std::io::IsTerminal::is_terminal(&std::io::stdout()) {
        return Err(CliError::usage(
            "--mask - would write a binary file to the terminal",
            "send it to a file or program: r1seg ... --mask - > mask.nii.gz",
        ));
    }
    for (path, flag) in [(&out.preview, "--preview"), (&out.report, "--report")] {
        if path.as_deref().is_some_and(is_stdin) {
            return Err(CliError::usage(
                format!(
                    "{flag} - is not possible: only --mask and --json write to standard output"
                ),
                format!("name a file for {flag}"),
            ));
        }
    }
    let only_named = out.out.is_none() && (out.mask.is_some() || out.report.is_some());
    if out.window.is_some() && out.preview.is_none() && only_named {
        return Err(CliError::usage(
            "--window is for the picture, and none is drawn",
            "name it with --preview FILE, or give a folder with --out DIR",
        ));
    }
    if let Some(path) = out.mask.as_deref().filter(|p| !is_stdin(p) && !is_segmentation(p)) {
        MaskFormat::from_path(path).map_err(|_| {
            wrong_ending(path, "the file name does not say the format", MASK_ENDINGS)
        })?;
    }
    out.preview.as_deref().map_or(Ok(()), check_picture_name)
}

const MASK_ENDINGS: &str = "end the name in .nii.gz, .nii, .npy or .seg.nrrd";

impl Outputs {
    /// Chooses the files, and checks that all of them can be written.
    pub(crate) fn open(
        args: &Request<'_>,
        model: &CheckpointSource,
        input: &Input,
        prompts: usize,
    ) -> Result<(Self, Output)> {
        let out = args.output;
        let explicit = out.mask.is_some() || out.preview.is_some() || out.report.is_some();
        let folder = match &out.out {
            Some(folder) => Some(folder.clone()),
            None if explicit => None,
            None => Some(default_folder(args.image)?),
        };
        let in_folder = |name: &str| folder.as_ref().map(|folder| folder.join(name));
        let masks = match &out.mask {
            Some(path) if is_stdin(path) || is_segmentation(path) => Vec::new(),
            Some(path) => vec![path.clone()],
            None => mask_names(input).iter().filter_map(|name| in_folder(name)).collect(),
        };
        let segmentation = match &out.mask {
            Some(path) => Some(path.clone()).filter(|path| is_segmentation(path)),
            // Without mm there is nothing to lay it over.
            None => in_folder(SEGMENTATION).filter(|_| has_affine(input)),
        };
        let outputs = Self {
            masks,
            segmentation,
            mask_to_stdout: out.mask.as_deref().is_some_and(is_stdin),
            labels: in_folder(LABELS),
            preview: out.preview.clone().or_else(|| in_folder(PREVIEW).filter(|_| !out.no_preview)),
            answer: in_folder(ANSWER).filter(|_| args.has_answers),
            report: out.report.clone().or_else(|| in_folder(REPORT)),
            trace: out.trace.clone(),
            prompts,
            folder,
            taken: None,
        };
        let files = outputs.possible();
        check_distinct(&files)?;
        outputs.check_inputs(args, model)?;
        let output = match (&outputs.folder, out.force) {
            (Some(folder), false) if out.out.is_none() => Output::open_new(folder.clone(), &files)?,
            (folder, true) => Output::open(folder.clone(), Overwrite::Replace, &files)?,
            (folder, false) => Output::open(folder.clone(), Overwrite::Refuse, &files)?,
        };
        Ok((outputs, output))
    }

    /// Takes the folder that was made for the results, in place of the one that was wanted.
    pub(super) fn settle(&mut self, made: Option<&Path>) {
        let (Some(wanted), Some(made)) = (self.folder.clone(), made) else { return };
        if wanted == made {
            return;
        }
        let single = [
            &mut self.segmentation,
            &mut self.labels,
            &mut self.preview,
            &mut self.answer,
            &mut self.report,
        ];
        for path in self.masks.iter_mut().chain(single.into_iter().flatten()) {
            if let Some(name) = path.file_name().filter(|_| path.parent() == Some(&wanted)) {
                *path = made.join(name);
            }
        }
        self.folder = Some(made.to_path_buf());
        self.taken = Some(wanted);
    }

    /// The folder of the results.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// How a report names a file: in the folder by its name, elsewhere as given.
    pub(super) fn name(&self, path: &Path) -> String {
        let name = match path.file_name() {
            Some(name) if path.parent() == self.folder.as_deref() => Path::new(name),
            _ => path,
        };
        name.display().to_string()
    }

    /// Every file that this run may write.
    fn possible(&self) -> Vec<PathBuf> {
        let mut files = self.masks.clone();
        if self.prompts > 1 {
            let numbers = 1..=self.prompts;
            files.extend(numbers.flat_map(|k| self.masks.iter().map(move |m| numbered(m, k))));
        }
        let single = [
            &self.segmentation,
            &self.labels,
            &self.preview,
            &self.answer,
            &self.report,
            &self.trace,
        ];
        files.extend(single.into_iter().flatten().cloned());
        files
    }

    /// Files that an earlier run may have left, which go if this one does not write them.
    pub(super) fn stale(&self) -> Vec<PathBuf> {
        let mut files = self.possible();
        if let Some(folder) = &self.folder {
            files.extend(FILES.iter().map(|name| folder.join(name)));
            files.extend(numbered_masks(&folder.join(REPORT)).map(|name| folder.join(name)));
        }
        files
    }

    /// Refuses to replace or remove what is read.
    fn check_inputs(&self, args: &Request<'_>, model: &CheckpointSource) -> Result<()> {
        let mut inputs = Protected::default()
            .volume("the image", args.image)
            .prompts(args.prompts.1)
            .model(model);
        if let Some(path) = args.affine_from {
            inputs = inputs.volume("the file of --affine-from", path);
        }
        inputs.check(&self.stale())
    }
}

/// Masks of a folder: for an array an array, which says nothing in mm, and more where mm are known.
fn mask_names(input: &Input) -> &'static [&'static str] {
    match (input.is_array, has_affine(input)) {
        (true, false) => &["mask.npy"],
        (true, true) => &["mask.nii.gz", "mask.npy"],
        (false, _) => &["mask.nii.gz"],
    }
}

fn has_affine(input: &Input) -> bool {
    input.volume.geometry().affine().is_some()
}

/// `.seg.nrrd`, or `.nrrd`, which is the same format.
fn is_segmentation(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("nrrd"))
}

fn check_distinct(files: &[PathBuf]) -> Result<()> {
    let places: Vec<PathBuf> = files
        .iter()
        .map(|path| {
            let folder = parent(path);
            let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
            folder.join(path.file_name().unwrap_or_default())
        })
        .collect();
    for (n, place) in places.iter().enumerate() {
        if places[..n].contains(place) {
            return Err(CliError::usage(
                format!("two results would go to `{}`", files[n].display()),
                "give --mask, --preview, --report and --trace a name each",
            ));
        }
    }
    Ok(())
}
