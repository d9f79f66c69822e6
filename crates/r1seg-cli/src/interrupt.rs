//! Ctrl-C and termination: stop soon, and leave nothing half-written.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

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
        std::thread::spawn(|| end_after(GRACE));
    })
}

/// The last resort: what is still going on then may be left as it is.
fn end_after(grace: Duration) {
    std::thread::sleep(grace);
    while WRITING.load(Ordering::SeqCst) > 0 {
        std::thread::sleep(Duration::from_millis(20));
    }
    let code = explain(&Error::Cancelled.into());
    std::process::exit(code.into());
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

/// Signals of a conversation on a terminal: Ctrl-C stops the line that is being worked on, and not the
/// program.
#[derive(Clone)]
pub(crate) struct Stops(Arc<Mutex<Option<Working>>>);

/// A line that is being worked on.
struct Working {
    cancel: CancelToken,
    /// When it was asked to stop.
    asked: Option<Instant>,
}

impl Stops {
    /// Listens. `restore` is called before a signal ends the program.
    pub(crate) fn install(restore: impl Fn() + Send + 'static) -> Self {
        let stops = Self(Arc::default());
        let heard = stops.clone();
        listen(move |code| {
            let is_working = heard.stop();
            if code == INTERRUPTED && is_working != Some(Stuck(true)) {
                return;
            }
            EXIT_CODE.store(code, Ordering::SeqCst);
            restore();
            let grace = if is_working == Some(Stuck(false)) { GRACE } else { Duration::ZERO };
            std::thread::spawn(move || end_after(grace));
        });
        stops
    }

    /// Begins a line; the token stops it.
    pub(crate) fn begin(&self) -> CancelToken {
        let cancel = CancelToken::default();
        *self.working() = Some(Working { cancel: cancel.clone(), asked: None });
        cancel
    }

    /// Ends a line.
    pub(crate) fn end(&self) {
        *self.working() = None;
    }

    /// Asks the line that is being worked on to stop, and says whether it has not heeded that for long.
    fn stop(&self) -> Option<Stuck> {
        let mut working = self.working();
        let Working { cancel, asked } = working.as_mut()?;
        cancel.cancel();
        Some(Stuck(asked.get_or_insert_with(Instant::now).elapsed() > GRACE))
    }

    fn working(&self) -> std::sync::MutexGuard<'_, Option<Working>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether work goes on though it was asked to stop.
#[derive(PartialEq, Eq)]
struct Stuck(bool);

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
