//! How far a run is.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::line::Fingerprint;

/// What is known of a volume that has begun and not ended.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) start: Instant,
    pub(super) input: Option<Fingerprint>,
    pub(super) model: Duration,
}

/// What became of the volumes of a run.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) ok: usize,
    pub(super) failed: usize,
    /// By an earlier run.
    pub(super) done_before: usize,
    /// By an earlier run, for good.
    pub(super) failed_before: usize,
    /// In the model, all together.
    pub(super) model: Duration,
}

/// What is in a lock, also after a panic of somebody who had it.
pub(super) fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
