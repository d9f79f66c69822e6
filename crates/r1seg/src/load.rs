//! Loading a model: open, check memory, compare, and only then build. [`load`] does all of it for a
//! model that has no language model.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{DType, Device};
use r1seg_nn::Weights;

use crate::checkpoint::{
    Found, LoadReport, ModelWeights, NumberFormat, WeightFiles, dominant_format, dry_load,
};
use crate::device::Opened;
use crate::finite::FiniteCheck;
use crate::options::Dtypes;
use crate::{CancelToken, CheckpointSource, DtypeChoice, Error, LoadOptions};

/// A model's parts, and how they were loaded.
#[derive(Debug)]
pub(crate) struct Loaded<P> {
    pub(crate) parts: P,
    pub(crate) device: Device,
    /// Why it is the CPU, where `DeviceChoice::Auto` would have had a GPU.
    pub(crate) fallback: Option<Error>,
    /// Of activations.
    pub(crate) activation: DType,
    /// Of the weights, as reports call it.
    pub(crate) dtype: &'static str,
    pub(crate) report: LoadReport,
    pub(crate) time: Duration,
    pub(crate) finite: FiniteCheck,
}

/// What is particular to a model.
pub(crate) struct Plan<'a, P> {
    /// Takes every tensor from the root of a checkpoint.
    pub(crate) build: &'a dyn Fn(&Weights) -> candle_core::Result<P>,
    /// Tensors that the authors' code never reads.
    pub(crate) never_used: &'a dyn Fn(&str) -> bool,
    /// Bytes for weights of so many bytes and for the work with them on a CPU.
    pub(crate) needed: &'a dyn Fn(u64) -> u64,
}

/// Loads a model whose configuration and tokenizer have been read.
///
/// # Errors
/// As [`M3dClip::open`](crate::M3dClip::open).
pub(crate) fn load<P>(
    source: &CheckpointSource,
    options: &LoadOptions,
    plan: &Plan<'_, P>,
) -> Result<Loaded<P>, Error> {
    let start = Instant::now();
    let Opened { device, fallback } = options.device.open()?;
    source.check_manifest()?;
    let files = Arc::new(source.open_weights(options.mmap, 0)?);
    let found = files.found();
    let keep = options.dtype == DtypeChoice::Auto && device.is_cpu();
    let stored = dominant_format(&files).filter(|_| keep);
    let dtypes = Dtypes::new(options.dtype, DtypeChoice::Auto, device.is_cpu());
    let dtype = dtypes.weights;
    let cancel = options.cancel.clone();
    let checked = Checked { source, files, found: &found, device: &device, keep, dtype, cancel };
    let (weights, report) = checked.weights(options.memory_limit, plan)?;
    let kept = stored.map_or(dtype.as_str(), NumberFormat::name);
    Ok(Loaded {
        parts: (plan.build)(&weights)?,
        activation: dtypes.activation,
        device,
        fallback,
        dtype: kept,
        report,
        time: start.elapsed(),
        finite: FiniteCheck::new(source, kept),
    })
}

/// The files of a checkpoint, to be compared with what a model asks for.
pub(crate) struct Checked<'a> {
    pub(crate) source: &'a CheckpointSource,
    pub(crate) files: Arc<WeightFiles>,
    pub(crate) found: &'a BTreeMap<String, Found>,
    pub(crate) device: &'a Device,
    /// Whether a CPU uses the weights in the dtypes in which they are stored.
    pub(crate) keep: bool,
    /// What they are converted to otherwise.
    pub(crate) dtype: DType,
    /// Stops between two tensors.
    pub(crate) cancel: CancelToken,
}

impl Checked<'_> {
    /// The weights, if they are those that the model asks for and memory can hold them: `limit` is
    /// in bytes, and counts on a CPU.
    ///
    /// # Errors
    /// [`Error::NotEnoughMemory`], [`Error::Weights`] and [`Error::Config`], before a tensor is read.
    pub(crate) fn weights<P>(
        self,
        limit: Option<u64>,
        plan: &Plan<'_, P>,
    ) -> Result<(Weights, LoadReport), Error> {
        let Self { source, files, found, device, keep, dtype, cancel } = self;
        if let Some(limit) = limit.filter(|_| device.is_cpu()) {
            let kept = |tensor: &Found| match keep {
                true => tensor.bytes,
                false => tensor.bytes_as(dtype.size_in_bytes() as u64),
            };
            let used = found.iter().filter(|(name, _)| !(plan.never_used)(name));
            let weights = used.map(|(_, tensor)| kept(tensor)).fold(0, u64::saturating_add);
            let needed = (plan.needed)(weights);
            if limit < needed {
                return Err(Error::NotEnoughMemory { path: source.path(), needed, limit });
            }
        }
        // Before a tensor is read: what is missing is not made up, in whatever size.
        let build = |weights: &Weights| (plan.build)(weights).map(drop);
        let report = dry_load(&build, plan.never_used, found, source)?;
        if !report.is_clean() {
            let (path, report) = (source.path(), Box::new(report));
            return Err(Error::Weights { path, report });
        }
        let weights = ModelWeights { files, keep, cancel };
        Ok((Weights::new(Arc::new(weights), dtype, device.clone()), report))
    }
}
