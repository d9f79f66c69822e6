//! Which files a run writes, and where to.

use std::path::{Path, PathBuf};

use r1seg::volume::{MaskFormat, Overwrite};

use crate::atomic_folder::{OutputFolder, parent};
use crate::naming::{numbered, numbered_masks};
use crate::preview::Window;
use crate::{Error, Input, Protected};

const SEGMENTATION: &str = "mask.seg.nrrd";
const LABELS: &str = "labels.json";
const PREVIEW: &str = "preview.png";
const ANSWER: &str = "answer.txt";
const REPORT: &str = "report.json";

/// All that an earlier run may have left in a folder, besides masks with numbers.
const FILES: [&str; 7] = ["mask.nii.gz", "mask.npy", SEGMENTATION, LABELS, PREVIEW, ANSWER, REPORT];

/// How the names of files of masks may end.
const MASK_ENDINGS: &[&str] = &[".nii.gz", ".nii", ".npy", ".seg.nrrd"];

/// What a run is to write, and where to.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The folder of the results. Without one, only files with a path of their own are written.
    pub folder: Option<ResultFolder>,
    /// The mask. In the folder: in the formats that suit the volume.
    pub mask: MaskTarget,
    /// The picture; `None` draws none.
    pub preview: Option<Place>,
    /// The report.
    pub report: Place,
    /// The tensors of every stage, as safetensors.
    pub trace: Option<PathBuf>,
    /// Whether the model answers in words, which go to `answer.txt` in the folder.
    pub has_answers: bool,
    /// Whether a prompt that got no mask gets one of zeros.
    pub zeros_for_missing: bool,
    /// The intensities that are black and white in the picture; chosen by what is under the masks if not
    /// given.
    pub window: Option<Window>,
    /// The labels of masks that have files of their own even where they do not overlap.
    pub apart: Vec<u16>,
    /// Whether the report keeps to itself where the folder is, as a server's must.
    pub private: bool,
    /// What to do with files that exist already.
    pub overwrite: Overwrite,
    /// What the run reads, which is never replaced.
    pub protected: Protected,
}

/// The folder that results are written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResultFolder {
    /// This one, which is made if it does not exist.
    At(PathBuf),
    /// One that is made for the results alone: under this name or, where that is taken, with a number
    /// behind it.
    New(PathBuf),
}

/// Where one of the results goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Place {
    /// Under its usual name into the folder of the results, if there is one.
    #[default]
    InFolder,
    /// To this file.
    File(PathBuf),
}

/// Where the mask goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MaskTarget {
    /// To files.
    Files(Place),
    /// To the caller, as the one mask [`Written::mask`](crate::Written::mask), and to no file. Masks that
    /// overlap are refused; reports call its path `-`.
    Caller,
}

impl Default for MaskTarget {
    fn default() -> Self {
        Self::Files(Place::InFolder)
    }
}

impl Request {
    /// Everything in this folder, which is made if it does not exist.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: Some(ResultFolder::At(folder.into())),
            preview: Some(Place::InFolder),
            has_answers: true,
            ..Self::default()
        }
    }

    /// Checks the names of files, before anything is read.
    ///
    /// # Errors
    /// [`Error::UnknownFormat`] and [`Error::NotPng`].
    pub fn check_names(&self) -> Result<(), Error> {
        if let MaskTarget::Files(Place::File(path)) = &self.mask
            && !is_segmentation(path)
            && MaskFormat::from_path(path).is_err()
        {
            return Err(Error::UnknownFormat { path: path.clone(), endings: MASK_ENDINGS });
        }
        match &self.preview {
            Some(Place::File(path)) => check_picture_name(path),
            _ => Ok(()),
        }
    }
}

/// Refuses a preview that is not named as a PNG picture.
///
/// # Errors
/// [`Error::NotPng`].
pub fn check_picture_name(path: &Path) -> Result<(), Error> {
    match path.extension().is_some_and(|e| e.eq_ignore_ascii_case("png")) {
        true => Ok(()),
        false => Err(Error::NotPng { path: path.to_path_buf() }),
    }
}

/// The files of a run. Those of masks are written only if there is one.
#[derive(Debug)]
pub struct Layout {
    pub(crate) request: Request,
    pub(crate) output: OutputFolder,
    paths: Paths,
    /// The name that the folder would have, were it free.
    taken: Option<PathBuf>,
    prompts: usize,
}

/// Where each result goes, if it is wanted.
#[derive(Debug)]
pub(crate) struct Paths {
    folder: Option<PathBuf>,
    /// The same masks in several formats, the one with the geometry first.
    pub(crate) masks: Vec<PathBuf>,
    /// The same for 3D Slicer, with names and colors, however masks overlap.
    pub(crate) segmentation: Option<PathBuf>,
    pub(crate) labels: Option<PathBuf>,
    pub(crate) preview: Option<PathBuf>,
    pub(crate) answer: Option<PathBuf>,
    pub(crate) report: Option<PathBuf>,
    pub(crate) trace: Option<PathBuf>,
    /// Labels whose masks have files of their own.
    apart: Vec<u16>,
}

impl Layout {
    /// Chooses the files for what so many prompts about a volume may get, and checks that all of them
    /// can be written.
    ///
    /// # Errors
    /// [`Error::SamePlace`], [`Error::Protected`], and those of [`OutputFolder::open`].
    pub fn open(request: Request, input: &Input, prompts: usize) -> Result<Self, Error> {
        let paths = Paths::new(&request, input);
        let files = paths.possible(prompts);
        check_distinct(&files)?;
        request.protected.check(&paths.stale(prompts))?;
        let output = match &request.folder {
            Some(ResultFolder::New(folder)) => OutputFolder::open_new(folder.clone(), &files)?,
            Some(ResultFolder::At(folder)) => {
                OutputFolder::open(Some(folder.clone()), request.overwrite, &files)?
            }
            None => OutputFolder::open(None, request.overwrite, &files)?,
        };
        Ok(Self { request, output, paths, taken: None, prompts })
    }

    /// Whether the mask goes to the caller.
    pub fn mask_to_caller(&self) -> bool {
        self.request.mask == MaskTarget::Caller
    }

    pub(crate) fn paths(&self) -> &Paths {
        &self.paths
    }

    /// The name that the folder would have, were it free.
    pub(crate) fn taken(&self) -> Option<&Path> {
        self.taken.as_deref()
    }

    /// Takes the folder that was made for the results, in place of the one that was wanted.
    pub(crate) fn settle(&mut self, made: Option<&Path>) {
        self.taken = made.and_then(|made| self.paths.move_to(made));
    }

    /// Files that an earlier run may have left, which go if this one does not write them.
    pub(crate) fn stale(&self) -> Vec<PathBuf> {
        self.paths.stale(self.prompts)
    }
}

impl Paths {
    fn new(request: &Request, input: &Input) -> Self {
        let folder = request.folder.as_ref().map(|folder| match folder {
            ResultFolder::At(folder) | ResultFolder::New(folder) => folder.clone(),
        });
        let in_folder = |name: &str| folder.as_ref().map(|folder| folder.join(name));
        let at = |place: &Place, name: &str| match place {
            Place::InFolder => in_folder(name),
            Place::File(path) => Some(path.clone()),
        };
        let masks = match &request.mask {
            MaskTarget::Files(Place::File(path)) if !is_segmentation(path) => vec![path.clone()],
            MaskTarget::Files(Place::InFolder) => {
                mask_names(input).iter().filter_map(|name| in_folder(name)).collect()
            }
            _ => Vec::new(),
        };
        let segmentation = match &request.mask {
            MaskTarget::Files(Place::File(path)) => {
                Some(path).filter(|p| is_segmentation(p)).cloned()
            }
            MaskTarget::Caller => None,
            // Without mm there is nothing to lay it over.
            MaskTarget::Files(Place::InFolder) => {
                in_folder(SEGMENTATION).filter(|_| input.has_affine())
            }
        };
        Self {
            masks,
            segmentation,
            labels: in_folder(LABELS),
            preview: request.preview.as_ref().and_then(|place| at(place, PREVIEW)),
            answer: in_folder(ANSWER).filter(|_| request.has_answers),
            report: at(&request.report, REPORT),
            trace: request.trace.clone(),
            apart: request.apart.clone(),
            folder,
        }
    }

    /// Moves what goes into the folder to another one; returns the first one if it is another.
    fn move_to(&mut self, made: &Path) -> Option<PathBuf> {
        let wanted = self.folder.clone().filter(|wanted| wanted != made)?;
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
        Some(wanted)
    }

    /// The folder of the results.
    pub(crate) fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// How a report names a file: in the folder by its name, elsewhere as given.
    pub(crate) fn name(&self, path: &Path) -> String {
        let name = match path.file_name() {
            Some(name) if path.parent() == self.folder.as_deref() => Path::new(name),
            _ => path,
        };
        name.display().to_string()
    }

    /// Every file that this run may write.
    fn possible(&self, prompts: usize) -> Vec<PathBuf> {
        let mut files = self.masks.clone();
        let numbers: Vec<usize> = match self.apart.as_slice() {
            [] if prompts > 1 => (1..=prompts).collect(),
            labels => labels.iter().map(|label| usize::from(*label)).collect(),
        };
        let of = |k: usize| self.masks.iter().map(move |mask| numbered(mask, k));
        files.extend(numbers.into_iter().flat_map(of));
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
    fn stale(&self, prompts: usize) -> Vec<PathBuf> {
        let mut files = self.possible(prompts);
        if let Some(folder) = &self.folder {
            files.extend(FILES.iter().map(|name| folder.join(name)));
            files.extend(numbered_masks(&folder.join(REPORT)).map(|name| folder.join(name)));
        }
        files
    }
}

/// Masks of a folder: for an array an array, which says nothing in mm, and more where mm are known.
fn mask_names(input: &Input) -> &'static [&'static str] {
    match (input.is_array(), input.has_affine()) {
        (true, false) => &["mask.npy"],
        (true, true) => &["mask.nii.gz", "mask.npy"],
        (false, _) => &["mask.nii.gz"],
    }
}

/// `.seg.nrrd`, or `.nrrd`, which is the same format.
/// Whether a mask of this name is a segmentation of several segments.
pub fn is_segmentation(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("nrrd"))
}

fn check_distinct(files: &[PathBuf]) -> Result<(), Error> {
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
            return Err(Error::SamePlace { path: files[n].clone() });
        }
    }
    Ok(())
}
