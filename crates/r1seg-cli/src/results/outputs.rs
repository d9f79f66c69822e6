//! Which files a run writes, and where to.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Result;
use r1seg::ErrorKind;
use r1seg::volume::{MaskFormat, Overwrite};

use crate::args::OutputArgs;
use crate::exit::CliError;
use crate::input::{Input, is_stdin};
use crate::output::{Output, check_picture_name, parent, wrong_ending};
use crate::prompts;

const SEGMENTATION: &str = "mask.seg.nrrd";
const LABELS: &str = "labels.json";
const PREVIEW: &str = "preview.png";
const ANSWER: &str = "answer.txt";
const REPORT: &str = "report.json";

/// The longest report of an earlier run that is read.
const MAX_REPORT_BYTES: u64 = 64 << 20;

/// All that an earlier run may have left in a folder, besides masks with numbers.
const FILES: [&str; 7] = ["mask.nii.gz", "mask.npy", SEGMENTATION, LABELS, PREVIEW, ANSWER, REPORT];

/// Endings that do not belong to the name of a study.
const ENDINGS: [&str; 15] = [
    ".seg.nrrd",
    ".nii.gz",
    ".npy.gz",
    ".hdr.gz",
    ".img.gz",
    ".nii",
    ".npy",
    ".npz",
    ".nrrd",
    ".nhdr",
    ".hdr",
    ".img",
    ".dcm",
    ".zip",
    ".gz",
];

/// The files of a run. Those of masks are written only if there is one.
pub(crate) struct Outputs {
    /// Of `--out`, or the one named after the image.
    folder: Option<PathBuf>,
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
            format!("--image - and {flag} - both read standard input"),
            "give it as text or with @FILE",
        ));
    }
    if is_stdin(args.image) && std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        return Err(CliError::usage(
            "--image - reads a file from standard input, and that is the terminal",
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
        };
        let files = outputs.possible();
        check_distinct(&files)?;
        outputs.check_inputs(args)?;
        let overwrite = if out.force { Overwrite::Replace } else { Overwrite::Refuse };
        let output = Output::open(outputs.folder.clone(), overwrite, &files)?;
        Ok((outputs, output))
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
    fn check_inputs(&self, args: &Request<'_>) -> Result<()> {
        let read = std::iter::once(args.image)
            .chain(args.affine_from)
            .map(Path::to_path_buf)
            .chain(prompts::files(args.prompts.1));
        crate::output::check_inputs(read, &self.stale())
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

/// `mask_2.nii.gz` for `mask.nii.gz`.
pub(super) fn numbered(path: &Path, number: usize) -> PathBuf {
    let name = path.file_name().unwrap_or_default();
    let (stem, ending) = split(&name.to_string_lossy());
    path.with_file_name(format!("{stem}_{number}{ending}"))
}

/// The numbered masks that a report of an earlier run in the same folder lists.
fn numbered_masks(report: &Path) -> impl Iterator<Item = String> {
    let bytes = r1seg::files::read(report, MAX_REPORT_BYTES).ok();
    let report: Option<serde_json::Value> = bytes.and_then(|b| serde_json::from_slice(&b).ok());
    let masks = report.and_then(|r| r["masks"].as_array().cloned()).unwrap_or_default();
    let names = masks.into_iter().filter_map(|m| m["path"].as_str().map(str::to_string));
    names.flat_map(|name| {
        let number = split(&name).0.strip_prefix("mask_").and_then(|n| n.parse::<u8>().ok());
        let formats = number.map(|n| [".nii.gz", ".npy"].map(|e| format!("mask_{n}{e}")));
        formats.into_iter().flatten()
    })
}

/// A name without its ending, and the ending.
fn split(name: &str) -> (String, String) {
    let lower = name.to_ascii_lowercase();
    let ending = ENDINGS.iter().find(|e| lower.ends_with(*e) && lower.len() > e.len());
    let (stem, ending) = name.split_at(name.len() - ending.map_or(0, |e| e.len()));
    (stem.to_string(), ending.to_string())
}

/// A folder in the current one, named after the image: `ct_0042` for `/data/ct_0042.nii.gz`.
fn default_folder(image: &Path) -> Result<PathBuf> {
    if is_stdin(image) {
        return Ok(PathBuf::from("stdin-r1seg"));
    }
    let (Ok(full), true) = (image.canonicalize(), image.is_dir()) else {
        return Ok(stem(image));
    };
    let here = std::env::current_dir()?.canonicalize()?;
    if here.starts_with(&full) {
        return Err(CliError {
            code: "R-OUT-06",
            kind: ErrorKind::CannotCreate,
            what: "the results would be written into the folder of the image".to_string(),
            path: Some(image.to_path_buf()),
            fix: Some("name another folder with --out".to_string()),
        }
        .into());
    }
    let name = full.file_name().unwrap_or("volume".as_ref()).to_os_string();
    if here.join(&name) == full {
        let mut name = name;
        name.push("-r1seg");
        return Ok(PathBuf::from(name));
    }
    Ok(PathBuf::from(name))
}

/// For a file.
fn stem(image: &Path) -> PathBuf {
    let name = image.file_name().unwrap_or(image.as_os_str());
    let (stem, ending) = split(&name.to_string_lossy());
    // A folder cannot have the name of the file that it stands beside.
    PathBuf::from(if ending.is_empty() { format!("{stem}-r1seg") } else { stem })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_named_after_the_image() {
        for (image, folder) in [
            ("/data/ct_0042.nii.gz", "ct_0042"),
            ("CT.NII", "CT"),
            ("a.b.npy", "a.b"),
            ("study.zip", "study"),
            ("volume", "volume-r1seg"),
            (".npy", ".npy-r1seg"),
            ("-", "stdin-r1seg"),
        ] {
            assert_eq!(default_folder(Path::new(image)).unwrap(), Path::new(folder));
        }
    }

    #[test]
    fn results_on_a_folder_go_neither_into_it_nor_under_its_name_beside_it() {
        let desk = tempfile::tempdir().unwrap();
        let series = desk.path().join("series.v1");
        std::fs::create_dir(&series).unwrap();
        assert_eq!(default_folder(&series).unwrap(), Path::new("series.v1"));
        // The folder of this crate, where tests run, and one in it.
        let error = default_folder(Path::new(".")).unwrap_err();
        assert_eq!(error.downcast_ref::<CliError>().unwrap().code, "R-OUT-06");
        assert_eq!(default_folder(Path::new("src")).unwrap(), Path::new("src-r1seg"));
        assert_eq!(default_folder(Path::new("src/args")).unwrap(), Path::new("args"));
    }

    #[test]
    fn a_number_stands_before_the_ending() {
        for (path, expected) in [
            ("out/mask.nii.gz", "out/mask_2.nii.gz"),
            ("a.b.NPY", "a.b_2.NPY"),
            ("mask.seg.nrrd", "mask_2.seg.nrrd"),
        ] {
            assert_eq!(numbered(Path::new(path), 2), Path::new(expected));
        }
    }

    #[test]
    fn only_numbered_masks_that_a_report_lists_are_stale() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(REPORT);
        let names = |text: &str| {
            std::fs::write(&path, text).unwrap();
            numbered_masks(&path).collect::<Vec<_>>()
        };
        let report = r#"{"masks": [{"path": "mask_3.npy"}, {"path": "../mask_4.npy"},
            {"path": "mask_x.npy"}, {"path": "mask.npy"}, {"path": null}]}"#;
        assert_eq!(names(report), ["mask_3.nii.gz", "mask_3.npy"]);
        assert!(names("no report").is_empty());
    }
}
