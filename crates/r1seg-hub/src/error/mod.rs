//! The crate's error type.

mod detail;

use std::time::Duration;

pub use r1seg_diagnostic::ErrorKind;

pub(crate) use self::detail::{Detail, reading, writing};

r1seg_diagnostic::opaque_error! {
    /// Everything that can go wrong in this crate.
    ///
    /// `Display` says which file is at fault and what is wrong, with numbers. No text that a server
    /// sent enters a message, and never a token.
    pub struct Error(Detail);
}

impl Error {
    /// Names of published models that look like the one that was not found or is not valid.
    pub fn similar_names(&self) -> &[&'static str] {
        match &*self.0 {
            Detail::ModelId { similar_names, .. }
            | Detail::NotFound { similar_names, .. }
            | Detail::Unauthorized { similar_names, .. } => similar_names,
            _ => &[],
        }
    }

    /// Whether another attempt may succeed.
    pub(crate) fn is_transient(&self) -> bool {
        self.kind() == ErrorKind::Network
    }

    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(*self.0, Detail::Connect { .. })
    }

    /// How long the server asks to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match &*self.0 {
            Detail::RateLimited { retry_after } | Detail::Server { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }
}
