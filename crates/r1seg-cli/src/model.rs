//! The model of a command: which one is meant, how it is loaded, and what is printed about it.

use std::path::{Path, PathBuf};

use anyhow::Result;
pub(crate) use r1seg::ModelName;
use r1seg::volume::{ChosenSeries, Warning};
use r1seg::{
    CancelToken, CheckpointSource, Drafts, Error, FoundModel, LoadOptions, LoadedModel, ModelSource,
};

use crate::args::{DraftArgs, LoadArgs, ModelArgs, RefineArgs, Remembering};
use crate::exit::{self, CliError, say};
use crate::{hints, last_words};

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
    match ModelSource::from(path).find() {
        Ok(FoundModel { checkpoint, name, .. }) => Ok((checkpoint, name)),
        #[cfg(not(feature = "hub"))]
        Err(Error::UnknownModel { name, .. }) => {
            Err(crate::names::without_hub(&format!("`{name}` is not a local folder")))
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether the embedded model was named.
pub(crate) fn is_demo(args: &ModelArgs) -> bool {
    args.model.as_deref().is_some_and(|model| model == "demo")
}

/// Hashes the model's files, if that was asked for.
pub(crate) fn verify(args: &ModelArgs, cancel: &CancelToken) -> Result<()> {
    if let Some(model) = args.model.as_deref().filter(|_| args.load.verify && !is_demo(args)) {
        crate::commands::verify::check(model, false, cancel.clone())?;
    }
    Ok(())
}

/// How a model is loaded, if there is memory for it beside `reserved` bytes that the work needs.
pub(crate) fn load_options(args: &LoadArgs, reserved: u64) -> LoadOptions {
    let mut options = LoadOptions::default().with_device(args.device).with_dtype(args.dtype);
    if args.no_mmap {
        options = options.with_mmap(false);
    } else {
        last_words::weights_are_mapped();
    }
    match r1seg::available_memory() {
        Some(available) => options.with_memory_limit(available.saturating_sub(reserved)),
        None => options,
    }
}

/// The same with the passes of the mask decoder that were asked for.
pub(crate) fn refined(mut options: LoadOptions, refine: &RefineArgs) -> LoadOptions {
    options.num_clicks = refine.num_clicks;
    options
}

/// The same, remembering answers for as long as was asked for.
pub(crate) fn drafting(options: LoadOptions, args: DraftArgs) -> LoadOptions {
    options.with_drafts(match args.drafts {
        Remembering::Keep => kept_answers().map_or(Drafts::InMemory, Drafts::Kept),
        Remembering::Memory => Drafts::InMemory,
        Remembering::Off => Drafts::Off,
    })
}

/// The folder of the answers that are kept, beside that of the models; `None` where no home is known.
#[cfg(feature = "hub")]
pub(crate) fn kept_answers() -> Option<PathBuf> {
    let hub = r1seg::registry::hub().ok()?;
    Some(hub.config().cache.parent()?.join("r1seg"))
}

/// Builds without a cache of models keep no answers either.
#[cfg(not(feature = "hub"))]
fn kept_answers() -> Option<PathBuf> {
    None
}

/// The first line on stderr: notice, device, dtype and model; and why it is not on a GPU, if it should
/// be.
pub(crate) fn announce(model: &LoadedModel, name: &str) {
    let (device, dtype) = (model.device_name(), model.dtype_name());
    let computed = match (device.as_str(), dtype) {
        ("cpu", "f32") => "f32".to_string(),
        ("cpu", dtype) => format!("{dtype} weights, f32 sums"),
        (_, dtype) => dtype.to_string(),
    };
    say!(
        "r1seg: research use only, not a medical device. device={device} ({computed}), model {name}"
    );
    if let Some(error) = model.device_fallback() {
        // What to do about a device that is not there, `auto` has done.
        let remedy = error.remedy().filter(|_| matches!(error, Error::DeviceUnfit { .. }));
        let fix = remedy.as_ref().map(hints::words);
        exit::warning(
            "W-DEV",
            &format!("computing on the CPU: {}", error.message()),
            fix.as_deref(),
        );
    }
}

/// Which DICOM series was read, so that a log says it, too.
pub(crate) fn announce_series(series: Option<&ChosenSeries>) {
    if let Some(ChosenSeries { number, of, id, .. }) = series {
        say!("r1seg: DICOM series {number} of {of}, id {id}");
    }
}

pub(crate) fn warn(warning: &Warning) {
    let fix = warning.remedy.as_ref().map(hints::spoken);
    exit::warning(warning.code, &warning.text, fix.as_deref());
}
