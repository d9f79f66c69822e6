//! What is done with a volume, stage by stage, and whom a failure concerns.

use std::panic::{AssertUnwindSafe, catch_unwind};

use r1seg::ErrorKind;

use crate::codes::Code;
use crate::exit::CliError;

/// Why a stage has no result.
#[derive(Debug)]
pub(super) enum Stop {
    /// This volume fails, and the others go on.
    Item(CliError),
    /// Every other volume would fail, too.
    Run(CliError),
    /// Somebody asked to stop.
    Cancelled,
}

/// What is done with each volume, which goes by its index.
pub(super) trait Work: Sync {
    /// A volume that was read.
    type Ready: Send;
    /// What the model made of it.
    type Found: Send;

    /// Bytes that it may have in memory, before it is read.
    fn estimate(&self, item: usize) -> u64;
    /// Bytes that it has in memory.
    fn size(&self, ready: &Self::Ready) -> u64;
    /// Reads it; `None` if there is nothing to do.
    fn read(&self, item: usize) -> Result<Option<Self::Ready>, Stop>;
    /// Runs the model. Called by one thread, the one that runs the batch.
    fn compute(&self, item: usize, ready: &Self::Ready) -> Result<Self::Found, Stop>;
    /// Writes what was found. A volume of which this fails is given to [`Self::fail`].
    fn write(&self, item: usize, done: Done<Self::Ready, Self::Found>) -> Result<(), Stop>;
    /// Records a failure after so many attempts. Says whether the run may go on.
    fn fail(&self, item: usize, error: CliError, attempts: u32) -> Result<bool, CliError>;
    /// Called many times a second by a thread that does nothing else.
    fn tick(&self, is_cancelled: bool);
}

/// A volume with what the model made of it.
#[derive(Debug)]
pub(super) struct Done<R, F> {
    pub(super) ready: R,
    pub(super) found: F,
    pub(super) attempts: u32,
}

/// How much is done at the same time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Threads that read, and as many that write.
    pub(super) threads: usize,
    /// Bytes of volumes in memory.
    pub(super) bytes: u64,
}

/// Whether no volume is at fault, so that the next one may end in the same way.
pub(super) fn is_fault(error: &CliError) -> bool {
    let is_own = [Code::ItemTimeout.code(), Code::Poisoned.code()].contains(&error.code);
    let kinds = [ErrorKind::Internal, ErrorKind::NotFinite, ErrorKind::Resources];
    kinds.contains(&error.kind) && !is_own
}

/// Whether the same might go well a moment later.
pub(super) fn is_transient(error: &CliError) -> bool {
    // Another time would be as long.
    let is_timeout = error.code == Code::ItemTimeout.code();
    matches!(error.kind, ErrorKind::Resources | ErrorKind::Network | ErrorKind::Io) && !is_timeout
}

/// Turns a panic into a failure of the volume.
pub(super) fn caught<T>(stage: impl FnOnce() -> Result<T, Stop>) -> Result<T, Stop> {
    catch_unwind(AssertUnwindSafe(stage)).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or(payload.downcast_ref::<&str>().copied()).unwrap_or_default();
        let what = format!("r1seg failed unexpectedly: {text}");
        Err(Stop::Item(
            CliError::new(Code::Panic, what).fix("please report this with the volume's format"),
        ))
    })
}
