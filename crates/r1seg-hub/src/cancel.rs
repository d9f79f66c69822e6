use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Error;
use crate::error::Detail;

/// How often a wait looks whether it was cancelled.
pub(crate) const TICK: Duration = Duration::from_millis(50);

/// Asks the caller whether to stop; the default never stops.
#[derive(Clone, Default)]
pub struct Cancel(Option<Arc<dyn Fn() -> bool + Send + Sync>>);

impl Cancel {
    /// Stops as soon as `is_cancelled` returns true. It is asked many times a second.
    pub fn when(is_cancelled: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(is_cancelled)))
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        match &self.0 {
            Some(is_cancelled) if is_cancelled() => Err(Detail::Cancelled.into()),
            _ => Ok(()),
        }
    }

    pub(crate) fn sleep(&self, wait: Duration) -> Result<(), Error> {
        let end = Instant::now().checked_add(wait);
        loop {
            self.check()?;
            let left = end.map_or(TICK, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(TICK));
        }
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cancel(..)")
    }
}
