//! Ctrl-C and termination: stop soon, and leave nothing half-written.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use r1seg::{CancelToken, Error};

use crate::exit::explain;

/// How long a run may take to stop by itself. Models look at the token many times a second; what reads
/// a volume or draws a picture does not.
const GRACE: Duration = Duration::from_secs(1);

/// How many threads move finished results to their places, which nothing interrupts.
static WRITING: AtomicUsize = AtomicUsize::new(0);

/// Held while finished results are written.
pub(crate) struct Writing(());

impl Writing {
    pub(crate) fn begin() -> Self {
        WRITING.fetch_add(1, Ordering::SeqCst);
        Self(())
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        WRITING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// 128 and the number of the signal that came; 0 before the first one.
static EXIT_CODE: AtomicU8 = AtomicU8::new(0);
/// As after Ctrl-C: 128 and the number of SIGINT.
const INTERRUPTED: u8 = 130;

/// The exit code of a run that was cancelled: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.
pub(crate) fn exit_code() -> u8 {
    match EXIT_CODE.load(Ordering::SeqCst) {
        0 => INTERRUPTED,
        code => code,
    }
}

/// Lets the first signal stop what is being done, and a second one end the process at once.
pub(crate) fn install() -> CancelToken {
    on_first_signal(|| {
        std::thread::spawn(|| {
            // The last resort: what is still going on may be left as it is.
            std::thread::sleep(GRACE);
            while WRITING.load(Ordering::SeqCst) > 0 {
                std::thread::sleep(Duration::from_millis(20));
            }
            let code = explain(&Error::Cancelled.into());
            std::process::exit(code.into());
        });
    })
}

/// As [`install`], for a server, which takes its time to finish what it does for others.
pub(crate) fn install_for_server() -> CancelToken {
    on_first_signal(|| {})
}

fn on_first_signal(then: impl Fn() + Send + 'static) -> CancelToken {
    let cancel = CancelToken::default();
    let token = cancel.clone();
    listen(move |code| {
        EXIT_CODE.store(code, Ordering::SeqCst);
        if token.is_cancelled() {
            std::process::exit(code.into());
        }
        token.cancel();
        then();
    });
    cancel
}

/// Calls `on` with the exit code that belongs to each signal that comes. Without a handler the first
/// signal ends the process, which is nearly as good.
#[cfg(unix)]
fn listen(on: impl Fn(u8) + Send + 'static) {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

    let mut stops = vec![SIGTERM];
    // `nohup` ignores it for the programs that it starts.
    if !is_ignored(SIGHUP) {
        stops.push(SIGHUP);
    }
    // The last one: who sees that it is caught may send any of them.
    stops.push(SIGINT);
    let Ok(mut signals) = signal_hook::iterator::Signals::new(stops) else { return };
    std::thread::spawn(move || {
        for signal in signals.forever() {
            on(u8::try_from(128 + signal).unwrap_or(INTERRUPTED));
        }
    });
}

/// Which signal it was is not known there.
#[cfg(not(unix))]
fn listen(on: impl Fn(u8) + Send + 'static) {
    let _ = ctrlc::set_handler(move || on(INTERRUPTED));
}

/// Whether the process was started with this signal ignored; only Linux can tell.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
