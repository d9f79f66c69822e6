//! What a person sees while waiting: only on a terminal, only on stderr.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::exit::one_line;

/// `1.2 GB`, or smaller units for less.
pub(crate) fn gigabytes(bytes: u64) -> String {
    let (value, unit) = match bytes {
        1_000_000_000.. => (bytes as f64 / 1e9, "GB"),
        1_000_000.. => (bytes as f64 / 1e6, "MB"),
        _ => (bytes as f64 / 1e3, "kB"),
    };
    format!("{value:.1} {unit}")
}

/// `1 file`, `2 files`.
pub(crate) fn counted(count: u64, [one, many]: [&str; 2]) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// `34 % of 1.2 GB`.
pub(crate) fn share(done: u64, total: Option<u64>) -> String {
    match total {
        Some(total @ 1..) => {
            format!("{} % of {}", u128::from(done) * 100 / u128::from(total), gigabytes(total))
        }
        _ => gigabytes(done),
    }
}

/// A spinner with a message, or nothing.
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    /// Shows progress if stderr is a terminal and nobody asked for quiet.
    pub(crate) fn new(quiet: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if quiet || dumb || !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(Some(bar))
    }

    /// The same anew: a line that was cleared does not come back.
    pub(crate) fn again(&self) -> Self {
        Self::new(self.0.is_none())
    }

    /// Says what is being done now.
    pub(crate) fn stage(&self, message: impl Into<String>) {
        if let Some(bar) = &self.0 {
            // Names of files and tensors are a stranger's.
            bar.set_message(one_line(&message.into()));
        }
    }

    /// Clears the line, for text that follows.
    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_counted_in_the_singular() {
        let matrices = |n| counted(n, ["matrix", "matrices"]);
        assert_eq!([0, 1, 2].map(matrices), ["0 matrices", "1 matrix", "2 matrices"]);
    }

    #[test]
    fn sizes_are_in_units_that_people_read() {
        assert_eq!(gigabytes(0), "0.0 kB");
        assert_eq!(gigabytes(7_640_000_000), "7.6 GB");
        assert_eq!(share(1_500_000, Some(3_000_000)), "50 % of 3.0 MB");
        assert_eq!(share(1_500_000, None), "1.5 MB");
        assert_eq!(share(0, Some(0)), "0.0 kB");
    }
}
