//! How many threads compute.

use std::num::NonZero;
use std::thread::available_parallelism;

use anyhow::Result;

use crate::args::threads as parse;
use crate::codes::Code;
use crate::exit::{self, CliError};

/// More threads than this for each processor only cost time and memory.
const MOST_PER_PROCESSOR: usize = 4;
/// Read by rayon and by the tensor library.
const RAYON: &str = "RAYON_NUM_THREADS";
/// Set for the second start, which changes nothing more.
pub(crate) const RESTARTED: &str = "R1SEG_RESTARTED";

/// The processors that this process may use: its affinity and the quota of its control group count.
pub(crate) fn processors() -> usize {
    available_parallelism().map_or(1, NonZero::get)
}

/// Starts the threads that compute: as many as `asked`, else as `RAYON_NUM_THREADS` says, else one for
/// each processor. Too many are lowered, with a warning unless `quiet`.
pub(crate) fn start(asked: Option<usize>, quiet: bool) -> Result<()> {
    let from_environment = || parse(&std::env::var(RAYON).ok()?).ok();
    let wanted = asked.filter(|n| *n != 0).or_else(from_environment).filter(|n| *n != 0);
    let processors = processors();
    let (count, lowered) = choose(wanted, processors);
    let is_second_start = std::env::var_os(RESTARTED).is_some();
    if !is_second_start
        && lowered
        && !quiet
        && let Some(wanted) = wanted
    {
        let text = format!("{wanted} threads were asked for, {count} are used");
        let fix = format!("--threads N with N up to {count}, four for each processor in reach");
        exit::warning("W-THREADS", &text, Some(&fix));
    }
    if !is_second_start && r1seg::tensor_threads() > count {
        restart_with(count);
    }
    rayon::ThreadPoolBuilder::new().num_threads(count).build_global().map_err(|e| {
        CliError::new(Code::Threads, format!("{count} threads cannot be started: {e}"))
            .fix("use fewer with --threads N, or raise the limits of this process: its memory, or its threads")
            .into()
    })
}

/// How many threads to start, and whether that is fewer than wanted.
fn choose(wanted: Option<usize>, processors: usize) -> (usize, bool) {
    let most = processors.saturating_mul(MOST_PER_PROCESSOR);
    let wanted = wanted.unwrap_or(processors);
    (wanted.min(most), wanted > most)
}

/// Begins again with variables that keep the tensor library to `count` threads: it takes the number
/// from the environment alone, and otherwise one for each core of the machine, whatever the quota.
/// Where that is not possible, the run goes on as it is.
#[cfg(unix)]
fn restart_with(count: usize) {
    use std::os::unix::process::CommandExt;

    /// Read by the tensor library for threads of its own, before [`RAYON`].
    const TENSORS: &str = "CANDLE_NUM_THREADS";
    let Ok(program) = std::env::current_exe() else { return };
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_else(|| "r1seg".into());
    let mut command = std::process::Command::new(program);
    command.arg0(name).args(args).env(RESTARTED, "1");
    let _ = command.env(TENSORS, count.to_string()).env(RAYON, count.to_string()).exec();
}

#[cfg(not(unix))]
fn restart_with(_: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_for_each_processor_and_at_most_four() {
        assert_eq!(choose(None, 8), (8, false));
        assert_eq!(choose(Some(1), 8), (1, false));
        assert_eq!(choose(Some(32), 8), (32, false));
        assert_eq!(choose(Some(33), 8), (32, true));
        assert_eq!(choose(Some(usize::MAX), 1), (4, true));
    }
}
