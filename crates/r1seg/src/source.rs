//! Which model is meant: a folder, a name, or the embedded one.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::{CheckpointSource, Error, checkpoint, is_gguf, is_pickle};

/// The name of the embedded demonstration model.
const DEMO: &str = "demo";

/// A model to load.
///
/// Strings and paths are names: the folder of a checkpoint, the short name of a published model
/// such as `R1Seg-3D-Phi-3-4B`, `OWNER/NAME`, both with `@REVISION` where another than the newest
/// is meant, or `demo`, the embedded model that knows only synthetic phantoms. Models on the hub
/// must have been downloaded: nothing here opens a connection.
#[derive(Debug, Clone)]
pub enum ModelSource {
    /// By path or name.
    Named(PathBuf),
    /// The checkpoint itself.
    Checkpoint(CheckpointSource),
}

/// What a model is called.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelName {
    /// `OWNER/NAME`, the name of its folder, or `demo`.
    pub id: String,
    /// The commit of its repository, where the folder tells.
    pub revision: Option<String>,
}

/// A model that was found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FoundModel {
    /// Where its files are.
    pub checkpoint: CheckpointSource,
    /// What it is called.
    pub name: ModelName,
}

macro_rules! named {
    ($($path:ty),*) => {$(
        impl From<$path> for ModelSource {
            fn from(path: $path) -> Self {
                Self::Named(PathBuf::from(path))
            }
        }
    )*};
}

named!(&str, &String, String, &OsStr, &OsString, OsString, &Path, PathBuf);

impl From<&PathBuf> for ModelSource {
    fn from(path: &PathBuf) -> Self {
        Self::Named(path.clone())
    }
}

impl From<CheckpointSource> for ModelSource {
    fn from(checkpoint: CheckpointSource) -> Self {
        Self::Checkpoint(checkpoint)
    }
}

impl From<&CheckpointSource> for ModelSource {
    fn from(checkpoint: &CheckpointSource) -> Self {
        Self::Checkpoint(checkpoint.clone())
    }
}

impl From<FoundModel> for ModelSource {
    fn from(found: FoundModel) -> Self {
        Self::Checkpoint(found.checkpoint)
    }
}

impl ModelSource {
    /// Finds the model on this machine.
    ///
    /// # Errors
    /// [`Error::UnknownModel`] and [`Error::Checkpoint`] where there is none of this name,
    /// [`Error::Hub`] where it was not downloaded or only in part, [`Error::NotAFolder`],
    /// [`Error::Checkpoint`] and [`Error::LanguageModelAlone`] for a file.
    pub fn find(self) -> Result<FoundModel, Error> {
        let path = match self {
            Self::Checkpoint(checkpoint) => return Ok(checkpoint.into()),
            Self::Named(path) => path,
        };
        if path == Path::new(DEMO) {
            return Ok(CheckpointSource::demo().into());
        }
        if path.is_dir() {
            return Ok(CheckpointSource::Folder(path).into());
        }
        if path.exists() {
            return Err(not_a_folder(&path));
        }
        let Some(name) = path.to_str().filter(|_| !looks_like_a_path(&path)) else {
            return Err(checkpoint::Error::NotFound { path }.into());
        };
        match downloaded(name)? {
            Some(folder) => Ok(CheckpointSource::Folder(folder).into()),
            None => Err(Error::UnknownModel { name: name.to_string(), similar: similar(name) }),
        }
    }
}

impl From<CheckpointSource> for FoundModel {
    fn from(checkpoint: CheckpointSource) -> Self {
        let name = match &checkpoint {
            CheckpointSource::Folder(folder) => ModelName::of(folder),
            CheckpointSource::Embedded(_) => ModelName { id: DEMO.to_string(), revision: None },
        };
        Self { checkpoint, name }
    }
}

impl ModelName {
    /// By the name of the folder, or by the cache of huggingface_hub that it lies in:
    /// `models--OWNER--NAME/snapshots/REVISION`, or a folder of that.
    pub(crate) fn of(folder: &Path) -> Self {
        // `.` and `models/..` have no name of their own.
        let full = folder.canonicalize().ok();
        let folder = full.as_deref().unwrap_or(folder);
        let name = |path: Option<&Path>| {
            path.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned())
        };
        let id = name(Some(folder)).unwrap_or_else(|| folder.display().to_string());
        fn snapshots(path: &Path) -> Option<&Path> {
            path.parent().filter(|path| path.ends_with("snapshots"))
        }
        let snapshot = folder.ancestors().take(2).find(|path| snapshots(path).is_some());
        let revision = name(snapshot).filter(|name| is_commit(name));
        let repository = name(snapshot.and_then(snapshots).and_then(Path::parent));
        match repository.as_deref().and_then(|name| name.strip_prefix("models--")) {
            Some(name) if revision.is_some() => Self { id: name.replace("--", "/"), revision },
            _ => Self { id, revision: None },
        }
    }
}

fn is_commit(name: &str) -> bool {
    name.len() == 40 && name.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Why a file is not a model.
pub fn not_a_folder(file: &Path) -> Error {
    let path = file.to_path_buf();
    // One beside a config.json is the language model of that folder.
    if is_gguf(file) && !file.with_file_name("config.json").is_file() {
        return Error::LanguageModelAlone { path };
    }
    match file.file_name().and_then(OsStr::to_str).filter(|name| is_pickle(name)) {
        Some(name) => checkpoint::Error::Pickle { file: name.to_string(), path }.into(),
        None => Error::NotAFolder { path },
    }
}

/// Whether a path that is not there can be no name of a published model.
fn looks_like_a_path(path: &Path) -> bool {
    path.is_absolute()
        || path.components().count() > 2
        || path.starts_with(".")
        || path.starts_with("..")
        || path.starts_with("~")
}

/// The folder of a downloaded model; `None` if this is the name of none. Builds without the feature
/// `hub` know no names.
///
/// # Errors
/// [`Error::Hub`] where the model was not downloaded, or only in part.
#[cfg(feature = "hub")]
pub fn downloaded(name: &str) -> Result<Option<PathBuf>, Error> {
    let Ok(id) = crate::registry::model_id(name) else { return Ok(None) };
    Ok(Some(crate::registry::hub()?.resolve(&id)?.path))
}

/// The folder of a downloaded model; `None` if this is the name of none. Builds without the feature
/// `hub` know no names.
///
/// # Errors
/// None in this build.
#[cfg(not(feature = "hub"))]
pub fn downloaded(_name: &str) -> Result<Option<PathBuf>, Error> {
    Ok(None)
}

/// Short names of published models that look like this one.
#[cfg(feature = "hub")]
fn similar(name: &str) -> Vec<&'static str> {
    match crate::registry::model_id(name) {
        Err(error) => error.similar_names().to_vec(),
        Ok(_) => Vec::new(),
    }
}

#[cfg(not(feature = "hub"))]
fn similar(_name: &str) -> Vec<&'static str> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(source: impl Into<ModelSource>) -> &'static str {
        source.into().find().unwrap_err().code()
    }

    #[test]
    fn a_model_is_named_by_its_folder_or_by_the_cache_that_it_lies_in() {
        let desk = tempfile::tempdir().unwrap();
        let commit = "3f2a9c1d".repeat(5);
        for (folder, id, revision) in [
            ("R1Seg-3D", "R1Seg-3D", None),
            ("R1Seg-3D/sub/..", "R1Seg-3D", None),
            (&*format!("models--a--b/snapshots/{commit}"), "a/b", Some(commit.clone())),
            (&*format!("models--a--b/snapshots/{commit}/c"), "a/b", Some(commit.clone())),
            (&*format!("models--a--b/snapshots/{commit}/c/d"), "d", None),
            ("models--a--b/snapshots/main", "main", None),
            (&*format!("other/{commit}"), &*commit, None),
        ] {
            let folder = desk.path().join(folder);
            std::fs::create_dir_all(&folder).unwrap();
            let name = ModelSource::from(folder).find().unwrap().name;
            assert_eq!((name.id.as_str(), name.revision), (id, revision));
        }
    }

    #[test]
    fn what_names_no_model_is_refused_by_what_it_is() {
        let desk = tempfile::tempdir().unwrap();
        for (file, expected) in [
            ("model.safetensors", "R-MDL-08"),
            ("pytorch_model.bin", "R-WGT-02"),
            ("./absent", "R-MDL-01"),
        ] {
            let path = desk.path().join(file);
            if !file.starts_with('.') {
                std::fs::write(&path, "x").unwrap();
            }
            assert_eq!(code(&path), expected, "{file}");
        }
        assert_eq!(code("no-such-model"), "R-MDL-02");
        assert_eq!(code("./no-such-model"), "R-MDL-01");
        assert_eq!(code(String::from("a/b/c")), "R-MDL-01");
    }

    #[test]
    fn the_embedded_model_has_a_name() {
        let found = ModelSource::from("demo").find().unwrap();
        assert!(matches!(found.checkpoint, CheckpointSource::Embedded(_)));
        assert_eq!(found.name.id, "demo");
    }

    #[cfg(feature = "hub")]
    #[test]
    fn a_slip_of_the_finger_names_what_was_meant() {
        let error = ModelSource::from("R1Seg-3D-Phi3-4b-").find().unwrap_err();
        let advice = "did you mean R1Seg-3D-Phi-3-4B?".to_string();
        assert_eq!(error.remedy(), Some(advice.into()));
    }
}
