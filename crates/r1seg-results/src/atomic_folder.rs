//! Files that results go to: checked before anything is computed, then written all or none.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use r1seg::files::{PartFolder, sweep};
use r1seg::volume::Overwrite;

use crate::{Error, StagedFiles};

/// So many results of one image are kept side by side.
const MAX_FOLDERS: usize = 10_000;
/// What the names of unfinished folders begin with.
const PREFIX: &str = ".r1seg-";

/// Where results may go: a folder, and files that need not be in it.
///
/// [`OutputFolder::open`] checks all places before anything is computed, [`OutputFolder::stage`]
/// begins to write beside them, and [`StagedFiles::commit`] moves everything to its place.
#[derive(Debug, Clone)]
pub struct OutputFolder {
    /// Made if it does not exist; the folders of all other files must exist.
    folder: Option<PathBuf>,
    /// Whether the folder is a new one: under its name or, where that is taken, with a number.
    is_new: bool,
    pub(crate) overwrite: Overwrite,
}

impl OutputFolder {
    /// Checks that all `files` can be written. `folder` need not exist yet.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::NoFolder`] and [`Error::CannotCreate`].
    pub fn open(
        folder: Option<PathBuf>,
        overwrite: Overwrite,
        files: &[PathBuf],
    ) -> Result<Self, Error> {
        Self { folder, overwrite, is_new: false }.checked(files)
    }

    /// [`Self::open`] with a folder that is made for the results alone: `folder` or, where something
    /// of that name exists once they are written, `folder-2`, `folder-3` and so on.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_new(folder: PathBuf, files: &[PathBuf]) -> Result<Self, Error> {
        let overwrite = Overwrite::Refuse;
        Self { folder: Some(folder), overwrite, is_new: true }.checked(files)
    }

    fn checked(self, files: &[PathBuf]) -> Result<Self, Error> {
        let output = self;
        for path in files.iter().filter(|path| !output.is_new || !output.is_in_folder(path)) {
            output.check_target(path)?;
        }
        if let Some(folder) = &output.folder {
            // Only trying tells whether one may write there.
            let skipped = usize::from(output.is_new);
            let mut ancestors = folder.ancestors().skip(skipped);
            let existing = ancestors.find(|f| f.as_os_str().is_empty() || f.exists());
            let existing = match existing {
                Some(folder) if !folder.as_os_str().is_empty() => folder,
                _ => Path::new("."),
            };
            if !existing.is_dir() {
                let what = format!("`{}` is a file, not a folder", existing.display());
                return Err(Error::cannot_create(what, folder));
            }
            probe(existing, folder)?;
        }
        let mut probed: Vec<&Path> = Vec::new();
        for path in files.iter().filter(|path| !output.is_in_folder(path)) {
            let parent = parent(path);
            if !parent.is_dir() {
                return Err(Error::NoFolder { path: path.clone() });
            }
            if !probed.contains(&parent) {
                probe(parent, path)?;
                probed.push(parent);
            }
        }
        Ok(output)
    }

    fn is_in_folder(&self, path: &Path) -> bool {
        self.folder.as_deref().is_some_and(|folder| path.parent() == Some(folder))
    }

    pub(crate) fn check_target(&self, path: &Path) -> Result<(), Error> {
        match path.symlink_metadata() {
            // A link to a folder would be replaced by a file just as silently.
            Ok(_) if path.is_dir() => Err(r1seg::volume::Error::not_replaceable(path).into()),
            Ok(_) if self.overwrite == Overwrite::Refuse => {
                let in_folder = self.is_in_folder(path);
                Err(Error::Exists { path: path.to_path_buf(), in_folder })
            }
            Ok(_) => Ok(()),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(()),
            // A name that is too long, for example.
            Err(e) => Err(Error::cannot_create(
                format!("the output cannot be created: {}", e.kind()),
                path,
            )),
        }
    }

    /// Begins to write results. Makes the folder, if there is none yet.
    ///
    /// # Errors
    /// [`Error::CannotCreate`].
    pub fn stage(&self) -> Result<StagedFiles<'_>, Error> {
        let Some(folder) = &self.folder else {
            return Ok(StagedFiles::new(self, None, Vec::new()));
        };
        if self.is_new {
            let made = create_new(folder)?;
            return Ok(StagedFiles::new(self, Some(made.clone()), vec![made]));
        }
        let missing = folder.ancestors().take_while(|f| !f.as_os_str().is_empty() && !f.exists());
        // Before anything fails, so that those that were made are removed then.
        let created = missing.map(Path::to_path_buf).collect();
        let stage = StagedFiles::new(self, Some(folder.clone()), created);
        fs::create_dir_all(folder).map_err(|e| {
            Error::cannot_create(format!("cannot create the output folder: {}", e.kind()), folder)
        })?;
        Ok(stage)
    }
}

/// Makes a folder of this name or, where that is taken, with a number behind it. Only making it
/// tells: another run may choose its folder at the same time.
fn create_new(folder: &Path) -> Result<PathBuf, Error> {
    for number in 1..=MAX_FOLDERS {
        let mut name = folder.as_os_str().to_os_string();
        if number > 1 {
            name.push(format!("-{number}"));
        }
        match fs::create_dir(&name) {
            Ok(()) => return Ok(name.into()),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                if holds_only_leftovers(Path::new(&name)) {
                    return Ok(name.into());
                }
            }
            Err(e) => {
                let what = format!("cannot create the output folder: {}", e.kind());
                return Err(Error::cannot_create(what, folder));
            }
        }
    }
    let what = format!("it and {MAX_FOLDERS} folders numbered after it exist already");
    Err(Error::cannot_create(what, folder))
}

/// Whether a run that was killed left nothing but unfinished files in a folder, which go. An empty
/// folder may be another run's, which has not begun to write yet.
fn holds_only_leftovers(folder: &Path) -> bool {
    let count = || fs::read_dir(folder).map_or(0, Iterator::count);
    let before = count();
    sweep(folder, PREFIX.as_ref());
    before > 0 && count() == 0
}

/// The folder of a file, `.` for a bare name.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A folder inside `folder`, so that finished files need only a new name.
pub(crate) fn staging(folder: &Path) -> io::Result<PartFolder> {
    PartFolder::private(folder, PREFIX.as_ref())
}

fn probe(folder: &Path, target: &Path) -> Result<(), Error> {
    // What runs that were killed left.
    sweep(folder, PREFIX.as_ref());
    staging(folder).map(drop).map_err(|e| Error::cannot_create(unwritable(&e), target))
}

/// Why a folder that was there takes no files.
pub(crate) fn unwritable(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "the output folder does not exist any more".to_string(),
        kind => format!("cannot write to the output folder: {kind}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn files_of_several_folders_get_to_their_places_together() {
        let desk = tempfile::tempdir().unwrap();
        fs::create_dir(desk.path().join("other")).unwrap();
        let folder = desk.path().join("new/out");
        let files = [folder.join("report.json"), desk.path().join("other/mask.nii.gz")];
        let output = OutputFolder::open(Some(folder.clone()), Overwrite::Refuse, &files).unwrap();
        let mut stage = output.stage().unwrap();
        for file in &files {
            stage.write(file, b"x").unwrap();
            assert!(!file.exists());
        }
        stage.commit(&[]).unwrap();
        assert_eq!(names(&folder), ["report.json"]);
        assert_eq!(names(&desk.path().join("other")), ["mask.nii.gz"]);
    }

    #[test]
    fn new_folders_of_runs_at_the_same_time_are_all_different() {
        let desk = tempfile::tempdir().unwrap();
        fs::write(desk.path().join("ct-2"), "a file is in the way, too").unwrap();
        let folder = desk.path().join("ct");
        let mut made: Vec<PathBuf> = std::thread::scope(|scope| {
            let runs: Vec<_> = (0..8).map(|_| scope.spawn(|| create_new(&folder))).collect();
            runs.into_iter().map(|run| run.join().unwrap().unwrap()).collect()
        });
        made.sort();
        made.dedup();
        assert_eq!(made.len(), 8);
        assert!(made.contains(&folder) && made.contains(&desk.path().join("ct-9")), "{made:?}");
    }

    #[test]
    fn folders_made_for_nothing_are_removed() {
        let desk = tempfile::tempdir().unwrap();
        let output =
            OutputFolder::open(Some(desk.path().join("a/b")), Overwrite::Refuse, &[]).unwrap();
        let mut stage = output.stage().unwrap();
        stage.write(&desk.path().join("a/b/x"), b"x").unwrap();
        drop(stage);
        assert_eq!(names(desk.path()), [""; 0]);
    }
}
