//! Exit codes and how errors look.

use std::io::Write;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use r1seg::{Error, ErrorKind};

/// Prints a line on stderr. That nobody reads it is no reason to fail, nor to panic as `eprintln`.
macro_rules! say {
    ($($arg:tt)*) => {
        $crate::exit::line(format_args!($($arg)*))
    };
}
pub(crate) use say;

pub(crate) fn line(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// The documented exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Answered; a mask may be absent.
    Answered,
    /// A mask was required and none was produced.
    NoMask,
    /// The child that reads pickles could not tell its finding.
    ChildFailed,
}

impl Exit {
    fn code(self) -> u8 {
        match self {
            Self::Answered => 0,
            Self::NoMask => 3,
            Self::ChildFailed => INTERNAL,
        }
    }

    /// What the hidden child process ends with.
    pub(crate) fn of_child(told: bool) -> Self {
        if told { Self::Answered } else { Self::ChildFailed }
    }
}

/// The storage failed.
pub(crate) const IO: u8 = 74;
/// There is not enough memory, or a server does not answer.
pub(crate) const TEMPORARY: u8 = 75;
/// A fault of r1seg itself.
const INTERNAL: u8 = 70;
/// What the standard library, rayon and candle panic with where the system refuses a thread: they have no
/// other way to say so.
const NO_THREAD: [&str; 2] = ["failed to spawn", "thread pool has not been initialized"];
/// Stopped by a signal.
pub(crate) const CANCELLED: u8 = 130;

fn error_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Usage => 2,
        ErrorKind::BadData => 65,
        ErrorKind::Missing => 66,
        ErrorKind::Device => 69,
        ErrorKind::CannotCreate => 73,
        ErrorKind::Io => IO,
        ErrorKind::Temporary => TEMPORARY,
        ErrorKind::Model => 78,
        ErrorKind::Cancelled => CANCELLED,
        _ => INTERNAL,
    }
}

/// An error of the command line that no library knows.
#[derive(Debug)]
pub(crate) struct CliError {
    pub(crate) code: &'static str,
    pub(crate) kind: ErrorKind,
    pub(crate) what: String,
    pub(crate) path: Option<std::path::PathBuf>,
    pub(crate) fix: Option<String>,
}

impl std::fmt::Display for CliError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for CliError {}

impl CliError {
    pub(crate) fn usage(what: impl Into<String>, fix: impl Into<String>) -> anyhow::Error {
        Self {
            code: "R-ARG-03",
            kind: ErrorKind::Usage,
            what: what.into(),
            path: None,
            fix: Some(fix.into()),
        }
        .into()
    }
}

/// Runs a command; turns its errors, and a panic, into a message and an exit code.
pub(crate) fn guard(
    run: impl FnOnce() -> anyhow::Result<Exit> + std::panic::UnwindSafe,
) -> ExitCode {
    // Kept, not printed: libraries catch panics of others, and those become ordinary errors.
    static PANIC: Mutex<Option<String>> = Mutex::new(None);
    let panic = || PANIC.lock().unwrap_or_else(PoisonError::into_inner);
    std::panic::set_hook(Box::new(move |info| *panic() = Some(info.to_string())));
    match std::panic::catch_unwind(run) {
        Ok(Ok(exit)) => ExitCode::from(exit.code()),
        Ok(Err(error)) => ExitCode::from(explain(&error)),
        Err(_) => {
            let text = panic().take().unwrap_or_default();
            if NO_THREAD.iter().any(|words| text.contains(words)) {
                let what =
                    "a thread could not be started: memory or processes are limited too much";
                let fix = "raise the limits of the process (`ulimit -v`, `ulimit -u`) or of its container";
                show("R-MEM-04", what, None, Some(fix));
                return ExitCode::from(TEMPORARY);
            }
            let what = format!("r1seg failed unexpectedly: {text}");
            let fix = "please report this with the command that you ran";
            show("R-BUG-01", &what, None, Some(fix));
            ExitCode::from(INTERNAL)
        }
    }
}

/// Prints `error[CODE]: what`, `-->` where, `fix`, and says the exit code.
pub(crate) fn explain(error: &anyhow::Error) -> u8 {
    if let Some(io) = error.downcast_ref::<std::io::Error>() {
        // The reader of our output went away, as `head` does: nothing is wrong.
        if io.kind() == std::io::ErrorKind::BrokenPipe {
            return 0;
        }
        show("R-IO-01", &io.to_string(), None, None);
        return error_code(ErrorKind::Io);
    }
    if let Some(e) = error.downcast_ref::<Error>() {
        show(e.code(), &chain(e), e.path(), e.fix().as_deref());
        return error_code(e.kind());
    }
    if let Some(e) = error.downcast_ref::<r1seg::volume::Error>() {
        show(e.code(), &chain(e), e.path(), e.fix().as_deref());
        return error_code(e.kind().into());
    }
    #[cfg(feature = "hub")]
    if let Some(e) = error.downcast_ref::<r1seg::hub::Error>() {
        show(e.code(), &chain(e), e.path(), e.fix().as_deref());
        return error_code(e.kind().into());
    }
    if let Some(e) = error.downcast_ref::<r1seg::convert::Error>() {
        show(e.code(), &chain(e), e.path(), e.fix());
        return error_code(e.kind().into());
    }
    if let Some(e) = error.downcast_ref::<CliError>() {
        show(e.code, &e.what, e.path.as_deref(), e.fix.as_deref());
        return error_code(e.kind);
    }
    show("R-BUG-02", &format!("{error:#}"), None, None);
    INTERNAL
}

/// What is wrong and, after colons, why.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

fn show(code: &str, what: &str, path: Option<&std::path::Path>, fix: Option<&str>) {
    // One write, so that nothing comes between the lines.
    let mut text = format!("error[{code}]: {}", r1seg::sanitize_terminal(what));
    if let Some(path) = path {
        let path = path.display().to_string();
        text.push_str(&format!("\n  --> {}", r1seg::sanitize_terminal(&path)));
    }
    if let Some(fix) = fix {
        text.push_str(&format!("\n  fix: {fix}"));
    }
    say!("{text}");
}
