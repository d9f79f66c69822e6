//! Memory for volumes in flight, counted in bytes.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How often a thread that waits looks whether the run has stopped.
const LOOK: Duration = Duration::from_millis(50);

/// So many bytes for volumes that were read and are not written yet.
#[derive(Debug)]
pub(super) struct Budget {
    limit: u64,
    used: Mutex<u64>,
    freed: Condvar,
}

/// A part of the bytes, which is given back when it is dropped.
#[derive(Debug)]
pub(super) struct Reserved<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Budget {
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, used: Mutex::default(), freed: Condvar::new() }
    }

    /// Waits until so many bytes are free, or all of them: a volume that is larger than the limit is alone.
    /// `None` once the run has stopped.
    pub(super) fn reserve(
        &self,
        bytes: u64,
        has_stopped: &dyn Fn() -> bool,
    ) -> Option<Reserved<'_>> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if has_stopped() {
                return None;
            }
            if *used == 0 || used.saturating_add(bytes) <= self.limit {
                *used = used.saturating_add(bytes);
                return Some(Reserved { budget: self, bytes });
            }
            let waited = self.freed.wait_timeout(used, LOOK);
            used = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn change(&self, from: u64, to: u64) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        *used = used.saturating_sub(from).saturating_add(to);
        self.freed.notify_all();
    }
}

impl Reserved<'_> {
    /// Counts what it is, in place of what it was thought to be. Does not wait: it is in memory already.
    pub(super) fn resize(&mut self, bytes: u64) {
        self.budget.change(self.bytes, bytes);
        self.bytes = bytes;
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.budget.change(self.bytes, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn no_more_is_in_flight_than_the_limit_but_for_one_alone() {
        let budget = Budget::new(10);
        let large = budget.reserve(25, &|| false).unwrap();
        assert!(budget.reserve(1, &|| true).is_none());
        drop(large);
        let (now, most) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let mut reserved = budget.reserve(4, &|| false).unwrap();
                        most.fetch_max(now.fetch_add(4, Ordering::SeqCst) + 4, Ordering::SeqCst);
                        std::thread::yield_now();
                        now.fetch_sub(4, Ordering::SeqCst);
                        reserved.resize(2);
                    }
                });
            }
        });
        assert!(most.into_inner() <= 12);
        assert_eq!(*budget.used.lock().unwrap(), 0);
    }
}
