//! Which model is meant, how it is opened, and what is said of it.

use std::path::Path;

use anyhow::Result;
use r1seg::volume::{ChosenSeries, Warning};
use r1seg::{
    CancelToken, CheckpointSource, Error, ErrorKind, LoadOptions, R1SegModel, checkpoint, is_gguf,
    is_pickle,
};
use r1seg_results::parent;

use crate::args::{ModelArgs, RefineArgs};
use crate::exit::{self, CliError, say};
use crate::{last_words, memory, names};

/// What reports call a model.
pub(crate) struct ModelName {
    pub(crate) id: String,
    /// The commit of its repository, where the folder says it.
    pub(crate) revision: Option<String>,
}

impl ModelName {
    pub(crate) fn demo() -> Self {
        Self { id: "demo".to_string(), revision: None }
    }

    /// By the name of the folder, or by the cache of huggingface_hub that it lies in:
    /// `models--ORG--NAME/snapshots/REVISION`.
    pub(crate) fn of(folder: &Path) -> Self {
        // `.` and `models/..` have no name of their own.
        let full = folder.canonicalize().ok();
        let folder = full.as_deref().unwrap_or(folder);
        let name = |path: Option<&Path>| {
            path.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned())
        };
        let id = name(Some(folder)).unwrap_or_else(|| folder.display().to_string());
        let snapshots = folder.parent().filter(|path| path.ends_with("snapshots"));
        let repository = name(snapshots.and_then(Path::parent));
        let is_commit = id.len() == 40 && id.bytes().all(|b| b.is_ascii_hexdigit());
        match repository.as_deref().and_then(|name| name.strip_prefix("models--")) {
            Some(name) if is_commit => Self { id: name.replace("--", "/"), revision: Some(id) },
            _ => Self { id, revision: None },
        }
    }
}

/// `demo` by name, or a folder.
pub(crate) fn source(args: &ModelArgs) -> Result<(CheckpointSource, ModelName)> {
    // An empty variable is as good as none.
    let Some(model) = args.model.as_deref().filter(|path| !path.is_empty()) else {
        return Err(CliError::usage(
            "no model was named, and there is no default one",
            "--model R1Seg-3D-Phi-3-4B after `r1seg download R1Seg-3D-Phi-3-4B`, --model DIR with \
             a local checkpoint folder, or --model demo for the embedded model that knows only \
             synthetic phantoms; R1SEG_MODEL sets it once and for all",
        ));
    };
    source_of(Path::new(model))
}

/// The model of this name or in this folder.
pub(crate) fn source_of(path: &Path) -> Result<(CheckpointSource, ModelName)> {
    if path == Path::new("demo") {
        return Ok((CheckpointSource::demo(), ModelName::demo()));
    }
    if path.is_dir() {
        return Ok((CheckpointSource::Folder(path.to_path_buf()), ModelName::of(path)));
    }
    if path.exists() {
        return Err(not_a_folder(path).into());
    }
    let looks_like_a_path = path.is_absolute()
        || path.components().count() > 2
        || path.starts_with(".")
        || path.starts_with("..")
        || path.starts_with("~");
    // One word that is no short name is rather a folder that is not there.
    let name = path.to_str().filter(|_| !looks_like_a_path);
    if let Some(folder) = name.map(names::resolve).transpose()?.flatten() {
        let name = ModelName::of(&folder);
        return Ok((CheckpointSource::Folder(folder), name));
    }
    #[cfg(not(feature = "hub"))]
    if let Some(name) = name {
        return Err(names::without_hub(&format!("`{name}` is no local folder")));
    }
    if looks_like_a_path {
        return Err(Error::from(checkpoint::Error::NotFound { path: path.to_path_buf() }).into());
    }
    let unknown = Error::UnknownModel { name: path.display().to_string() };
    Err(CliError {
        code: unknown.code(),
        kind: unknown.kind(),
        what: unknown.to_string(),
        path: None,
        fix: name.and_then(names::did_you_mean).or_else(|| unknown.fix()),
    }
    .into())
}

/// Why a file is not a model.
pub(crate) fn not_a_folder(path: &Path) -> CliError {
    // One beside a config.json is the language model of that folder.
    if is_gguf(path) && !parent(path).join("config.json").is_file() {
        return (&Error::LanguageModelAlone { path: path.to_path_buf() }).into();
    }
    if let Some(file) = path.file_name().and_then(|name| name.to_str()).filter(|n| is_pickle(n)) {
        let (path, file) = (path.to_path_buf(), file.to_string());
        return (&Error::from(checkpoint::Error::Pickle { path, file })).into();
    }
    CliError {
        code: "R-MDL-08",
        kind: ErrorKind::Missing,
        what: "this is a file; a model is the whole checkpoint folder".to_string(),
        path: Some(path.to_path_buf()),
        fix: Some(format!("name the folder that it lies in: {}", parent(path).display())),
    }
}

/// Whether the embedded model was named.
pub(crate) fn is_demo(args: &ModelArgs) -> bool {
    args.model.as_deref().is_some_and(|model| model == "demo")
}

/// Hashes the model's files, if that was asked for.
pub(crate) fn verify(args: &ModelArgs, cancel: &CancelToken) -> Result<()> {
    if let Some(model) = args.model.as_deref().filter(|_| args.verify && !is_demo(args)) {
        crate::commands::verify::check(model, false, cancel.clone())?;
    }
    Ok(())
}

/// Loads a model if there is memory for it and so many questions, beside so many bytes that the work
/// needs.
pub(crate) fn load(
    source: CheckpointSource,
    args: &ModelArgs,
    refine: &RefineArgs,
    (questions, reserved): (usize, u64),
    cancel: &CancelToken,
) -> Result<R1SegModel> {
    let mut builder =
        R1SegModel::builder(source).device(args.device).dtype(args.dtype).cancel(cancel.clone());
    if args.no_mmap {
        builder = builder.mmap(false);
    } else {
        last_words::weights_are_mapped();
    }
    if let Some(num_clicks) = refine.num_clicks {
        builder = builder.num_clicks(num_clicks);
    }
    if let Some(available) = memory::available() {
        builder = builder.memory_limit(available.saturating_sub(reserved)).questions(questions);
    }
    Ok(builder.build()?)
}

/// How a model without a language model is loaded, if there is memory for it beside `reserved` bytes
/// that the work needs.
pub(crate) fn load_options(args: &ModelArgs, reserved: u64) -> LoadOptions {
    let mut options = LoadOptions::default().with_device(args.device).with_dtype(args.dtype);
    if args.no_mmap {
        options = options.with_mmap(false);
    } else {
        last_words::weights_are_mapped();
    }
    match memory::available() {
        Some(available) => options.with_memory_limit(available.saturating_sub(reserved)),
        None => options,
    }
}

/// The first line on stderr: notice, device, dtype and model.
pub(crate) fn announce(model: &R1SegModel, name: &str) {
    announce_on(&model.device_name(), model.dtype_name(), name, model.device_fallback());
}

/// [`announce`] for any model, by where it computes, how its weights are kept, and why it is not on
/// a GPU, if it should be.
pub(crate) fn announce_on(device: &str, dtype: &str, name: &str, fallback: Option<&Error>) {
    let computed = match (device, dtype) {
        ("cpu", "f32") => "f32".to_string(),
        ("cpu", "bf16") => "bf16 weights and products, f32 sums".to_string(),
        ("cpu", dtype) => format!("{dtype} weights, f32 sums"),
        (_, dtype) => dtype.to_string(),
    };
    say!(
        "r1seg: research use only, not a medical device. device={device} ({computed}), model {name}"
    );
    if let Some(error) = fallback {
        // What to do about a device that is not there, `auto` has done.
        let fix = error.fix().filter(|_| matches!(error, Error::DeviceUnfit { .. }));
        exit::warning("W-DEV", &format!("computing on the CPU: {error}"), fix.as_deref());
    }
}

/// Which DICOM series was read, so that a log says it, too.
pub(crate) fn announce_series(series: Option<&ChosenSeries>) {
    if let Some(ChosenSeries { number, of, id, .. }) = series {
        say!("r1seg: DICOM series {number} of {of}, id {id}");
    }
}

pub(crate) fn warn(warning: &Warning) {
    exit::warning(warning.code, &warning.text, warning.fix.as_deref());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_named_by_its_folder_or_by_the_cache_that_it_lies_in() {
        let desk = tempfile::tempdir().unwrap();
        let commit = "3f2a9c1d".repeat(5);
        for (folder, id, revision) in [
            ("R1Seg-3D", "R1Seg-3D", None),
            ("R1Seg-3D/sub/..", "R1Seg-3D", None),
            (&*format!("models--a--b/snapshots/{commit}"), "a/b", Some(commit.clone())),
            ("models--a--b/snapshots/main", "main", None),
            (&*format!("other/{commit}"), &*commit, None),
        ] {
            let folder = desk.path().join(folder);
            std::fs::create_dir_all(&folder).unwrap();
            let name = ModelName::of(&folder);
            assert_eq!((name.id.as_str(), name.revision), (id, revision));
        }
    }
}
