//! How the program runs, whatever the command.

use clap::{ArgAction, Args};
use r1seg::{DeviceChoice, DtypeChoice};

#[derive(Debug, Args)]
#[command(next_help_heading = "Running")]
pub(crate) struct RunningArgs {
    /// Number of threads to compute with [default: the number of processors that this process may use,
    /// or RAYON_NUM_THREADS]. Counts above four threads a processor are lowered.
    #[arg(long, global = true, env = "R1SEG_THREADS", value_name = "N", value_parser = threads)]
    pub(crate) threads: Option<usize>,
    /// Report on stderr how long each stage takes; -vv also reports when each begins.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// A number of threads, however large; 0 leaves the choice to the program, as an empty variable does.
pub(crate) fn threads(text: &str) -> Result<usize, String> {
    match text.trim() {
        "" => Ok(0),
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => {
            Ok(digits.parse().unwrap_or(usize::MAX))
        }
        _ => Err("a whole number is needed, such as 4".to_string()),
    }
}

/// A device as typed; an empty variable leaves the choice to the program.
pub(super) fn device(text: &str) -> Result<DeviceChoice, r1seg::Error> {
    if text.is_empty() { Ok(DeviceChoice::Auto) } else { text.parse() }
}

/// As [`device`], for the dtype of weights.
pub(super) fn dtype(text: &str) -> Result<DtypeChoice, r1seg::Error> {
    if text.is_empty() { Ok(DtypeChoice::Auto) } else { text.parse() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_counts_may_be_of_any_size_and_an_empty_variable_is_none() {
        let huge = "9".repeat(40);
        for (text, count) in [("4", 4), (" 2 ", 2), ("0", 0), ("", 0), (&huge, usize::MAX)] {
            assert_eq!(threads(text), Ok(count), "{text}");
        }
        for text in ["-1", "x", "1.5", "4 threads"] {
            assert!(threads(text).is_err(), "{text}");
        }
    }
}
