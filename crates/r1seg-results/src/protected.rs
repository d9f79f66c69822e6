//! What a run reads. Outputs never replace it, not even where files may be replaced.

use std::fs;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use r1seg::CheckpointSource;
use r1seg::files::open_regular;

use crate::Error;

/// Headers of `.nhdr` files are shorter.
const MAX_HEADER_BYTES: u64 = 1 << 16;

/// The inputs of a run, which none of its outputs may change.
#[derive(Debug, Clone, Default)]
pub struct Protected(Vec<Input>);

#[derive(Debug, Clone)]
struct Input {
    /// In words: `the image`.
    what: &'static str,
    /// As given.
    path: PathBuf,
    /// Where it lies once all links are followed.
    place: PathBuf,
    extent: Extent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    File,
    /// The files that a folder has. Others may be added.
    Files,
    /// A folder that is kept as it is.
    Folder,
}

impl Protected {
    /// A volume: a file, or the files of a folder. Of a volume in two files both. `what` names it in
    /// errors, such as `the image`.
    #[must_use]
    pub fn volume(mut self, what: &'static str, path: &Path) -> Self {
        let extent = if path.is_dir() { Extent::Files } else { Extent::File };
        self.add(what, path, extent);
        for other in companions(path) {
            self.add(what, &other, Extent::File);
        }
        self
    }

    /// A file that is not a volume.
    #[must_use]
    pub fn file(mut self, what: &'static str, path: &Path) -> Self {
        self.add(what, path, Extent::File);
        self
    }

    /// A model: its folder, and what links in it lead to.
    #[must_use]
    pub fn model(self, source: &CheckpointSource) -> Self {
        match source {
            CheckpointSource::Folder(folder) => self.checkpoint("the model", folder),
            CheckpointSource::Embedded(_) => self,
        }
    }

    /// A checkpoint: a folder as [`Self::model`], or a file.
    #[must_use]
    pub fn checkpoint(mut self, what: &'static str, path: &Path) -> Self {
        if !path.is_dir() {
            return self.file(what, path);
        }
        self.add(what, path, Extent::Folder);
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                self.add(what, &entry.path(), Extent::File);
            }
        }
        self
    }

    fn add(&mut self, what: &'static str, path: &Path, extent: Extent) {
        // What does not exist cannot be lost.
        if let Ok(place) = path.canonicalize() {
            self.0.push(Input { what, path: path.to_path_buf(), place, extent });
        }
    }

    /// Refuses to write or remove `files` where that would change an input, or a model in the cache
    /// of downloads, whether this run reads it or not.
    ///
    /// # Errors
    /// [`Error::Protected`].
    pub fn check(&self, files: &[PathBuf]) -> Result<(), Error> {
        for file in files {
            let mut places = vec![place_of(file)];
            places.extend(file.canonicalize());
            let exists = file.symlink_metadata().is_ok();
            for input in &self.0 {
                if places.iter().any(|place| input.is_hit(place, exists)) {
                    return Err(input.refusal(file, exists));
                }
            }
            if let Some(repository) = places.iter().find_map(|place| downloaded(place)) {
                let what = "would be written into a model in the cache of downloads";
                return Err(refused(file, what, repository));
            }
        }
        Ok(())
    }

    /// [`Self::check`] for a folder that is written, or replaced, as a whole.
    ///
    /// # Errors
    /// [`Error::Protected`].
    pub fn check_folder(&self, folder: &Path) -> Result<(), Error> {
        let place = resolved(folder);
        let inside = |input: &&Input| input.place.starts_with(&place);
        if let Some(input) = self.0.iter().find(inside) {
            return Err(refused(folder, &format!("would replace {}", input.what), &input.path));
        }
        self.check(&[folder.to_path_buf()])
    }
}

impl Input {
    /// Whether a file at `place` would change this input.
    fn is_hit(&self, place: &Path, exists: bool) -> bool {
        match self.extent {
            Extent::File => *place == self.place || exists && is_same_file(place, &self.place),
            Extent::Files => exists && place.starts_with(&self.place),
            Extent::Folder => place.starts_with(&self.place),
        }
    }

    fn refusal(&self, file: &Path, exists: bool) -> Error {
        let what = match (self.extent, exists) {
            (Extent::File, _) => format!("would replace {}", self.what),
            (Extent::Files | Extent::Folder, true) => {
                format!("would replace a file of {}", self.what)
            }
            (_, false) => format!("would be written into the folder of {}", self.what),
        };
        refused(file, &what, &self.path)
    }
}

fn refused(output: &Path, conflict: &str, input: &Path) -> Error {
    Error::Protected {
        output: output.to_path_buf(),
        input: input.to_path_buf(),
        conflict: conflict.to_string(),
    }
}

/// The files of a volume that is a header with its voxels beside it, where both are needed: for one in a
/// single file none. The header itself may be among them.
pub fn companions(path: &Path) -> Vec<PathBuf> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Vec::new() };
    let lower = name.to_ascii_lowercase();
    if lower.ends_with(".nhdr") {
        return data_file(path).map(|name| path.with_file_name(name)).into_iter().collect();
    }
    let pair = |name: &str| {
        let name = name.to_ascii_lowercase();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        let stem = name.strip_suffix(".hdr").or_else(|| name.strip_suffix(".img"));
        stem.map(str::to_string)
    };
    let Some(stem) = pair(name) else { return Vec::new() };
    let folder = crate::atomic_folder::parent(path);
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_half = |name: &std::ffi::OsStr| pair(&name.to_string_lossy()).as_ref() == Some(&stem);
    entries.filter(|entry| is_half(&entry.file_name())).map(|entry| entry.path()).collect()
}

/// The file that a detached NRRD header names.
fn data_file(header: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    open_regular(header).ok()?.take(MAX_HEADER_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    text.lines().find_map(|line| {
        let (field, value) = line.split_once(':')?;
        let field = field.trim().to_ascii_lowercase();
        ["data file", "datafile"].contains(&field.as_str()).then(|| value.trim().to_string())
    })
}

/// The repository of the cache of huggingface_hub that a path lies in: `models--ORG--NAME`.
fn downloaded(place: &Path) -> Option<&Path> {
    let is_repository = |folder: &&Path| {
        let name = folder.file_name().unwrap_or_default();
        name.as_encoded_bytes().starts_with(b"models--") && folder.join("snapshots").is_dir()
    };
    place.ancestors().find(is_repository)
}

/// Where a file lies, or would lie: links of its folders are followed, one in its own place is not.
fn place_of(path: &Path) -> PathBuf {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => resolved(parent).join(name),
        _ => resolved(path),
    }
}

/// A path without links, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    let mut place = std::env::current_dir().unwrap_or_default();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                place.pop();
            }
            part => place.push(part),
        }
        // Step by step, since `..` behind a link leaves the folder that the link leads to.
        place = place.canonicalize().unwrap_or(place);
    }
    place
}

/// Whether two names are hard links to one file.
#[cfg(unix)]
fn is_same_file(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |path: &Path| path.metadata().ok().map(|file| (file.dev(), file.ino()));
    id(a).is_some_and(|a| Some(a) == id(b))
}

#[cfg(not(unix))]
fn is_same_file(_a: &Path, _b: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_of_a_volume_are_kept() {
        let desk = tempfile::tempdir().unwrap();
        let path = |name: &str| desk.path().join(name);
        for name in ["ct.hdr", "CT.IMG.gz", "other.img", "voxels.raw"] {
            fs::write(path(name), "x").unwrap();
        }
        fs::write(path("a.nhdr"), "NRRD0004\ntype: short\nData File: voxels.raw\n").unwrap();
        for (image, kept) in [("ct.hdr", "CT.IMG.gz"), ("a.nhdr", "voxels.raw")] {
            let inputs = Protected::default().volume("the image", &path(image));
            let error = inputs.check(&[path("other.img"), path(kept)]).unwrap_err().to_string();
            assert!(error.contains(kept) && error.contains("would replace the image"), "{error}");
            inputs.check(&[path("other.img")]).unwrap();
        }
    }

    #[test]
    fn a_folder_that_does_not_exist_yet_is_found_inside_of_the_model() {
        let desk = tempfile::tempdir().unwrap();
        let path = |name: &str| desk.path().join(name);
        fs::create_dir(path("model")).unwrap();
        let inputs = Protected::default().checkpoint("the model", &path("model"));
        for inside in ["model/new/mask.npy", "none/../model/x", "model/../model/x"] {
            let error = inputs.check(&[path(inside)]).unwrap_err().to_string();
            assert!(error.contains("into the folder of the model"), "{error}");
        }
        inputs.check(&[path("model2/x"), path("model/../x")]).unwrap();
        assert!(inputs.check_folder(desk.path()).is_err());
        assert!(inputs.check_folder(&path("model")).is_err());
        assert!(inputs.check_folder(&path("model/out")).is_err());
        inputs.check_folder(&path("out")).unwrap();
    }
}
