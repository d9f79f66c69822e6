//! Amounts that are shared out and given back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::metrics::gauge::Gauge;

/// So many bytes, shared by whoever reserves some of them.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    used: Arc<AtomicU64>,
    limit: u64,
    gauge: Gauge,
}

/// Bytes of a [`Budget`], until they are dropped.
#[derive(Debug)]
pub(crate) struct Reserved {
    of: Budget,
    bytes: u64,
}

impl Budget {
    pub(crate) fn new(limit: u64, gauge: &Gauge) -> Self {
        Self { used: Arc::default(), limit, gauge: gauge.clone() }
    }

    /// Nothing yet, to which more can be [added](Reserved::grow).
    pub(crate) fn nothing(&self) -> Reserved {
        Reserved { of: self.clone(), bytes: 0 }
    }

    fn set_gauge(&self) {
        let used = self.used.load(Ordering::SeqCst);
        self.gauge.set(i64::try_from(used).unwrap_or(i64::MAX));
    }
}

impl Reserved {
    /// Reserves so many more. Whether there were as many left; otherwise nothing has changed.
    #[must_use]
    pub(crate) fn grow(&mut self, bytes: u64) -> bool {
        let more = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.of.limit);
        let grown = self.of.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok();
        if grown {
            self.bytes += bytes;
            self.of.set_gauge();
        }
        grown
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.of.used.fetch_sub(self.bytes, Ordering::SeqCst);
        self.of.set_gauge();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_shared_out_than_there_is() {
        let gauge = Gauge::default();
        let budget = Budget::new(10, &gauge);
        let (mut one, mut other) = (budget.nothing(), budget.nothing());
        assert!(one.grow(6) && other.grow(3));
        assert!(!other.grow(2) && !other.grow(u64::MAX));
        assert_eq!((gauge.get(), other.bytes()), (9, 3));
        drop(one);
        assert!(other.grow(7));
        drop(other);
        assert_eq!(gauge.get(), 0);
    }
}
