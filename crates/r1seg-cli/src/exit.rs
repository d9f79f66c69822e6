//! Exit codes and how errors look.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use r1seg::{Error, ErrorKind};
use serde::Serialize;

use crate::{capabilities, interrupt, job};

/// Prints one line on stderr, whatever is in the names that it is made of. That nobody reads it is no
/// reason to fail, nor to panic as `eprintln`.
macro_rules! say {
    ($($arg:tt)*) => {
        $crate::exit::line(format_args!($($arg)*))
    };
}
pub(crate) use say;

pub(crate) fn line(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "{}", one_line(&text.to_string()));
}

/// Prints `warning[CODE]: text` and, on a line of its own, what to do about it.
pub(crate) fn warning(code: &str, text: &str, fix: Option<&str>) {
    lines(&format!("warning[{code}]: {}", one_line(text)), None, fix);
}

/// `text` without terminal control and on one line: a newline in the name of a file or a tensor must
/// not begin a line that reads like one of r1seg's own.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in r1seg::sanitize_terminal(text).chars() {
        match c {
            '\n' | '\t' | '\u{2028}' | '\u{2029}' => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
    line
}

/// Whether standard output is to carry one JSON object, also when the command fails.
static JSON: AtomicBool = AtomicBool::new(false);

/// Lets errors be JSON objects on standard output, besides their text on stderr.
pub(crate) fn report_in_json() {
    JSON.store(true, Ordering::SeqCst);
}

/// Context of an error whose JSON object has been printed already, as part of what was found.
#[derive(Debug)]
pub(crate) struct Reported;

impl std::fmt::Display for Reported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("already reported")
    }
}

/// The documented exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Answered; a mask may be absent.
    Answered,
    /// A mask was required and none was produced.
    NoMask,
    /// Finished, but for items that failed and were reported.
    SomeFailed,
    /// A result is not what was recorded, within its band.
    OutsideBand,
    /// Every item failed and was reported, as this code says.
    AllFailed(u8),
    /// The child that reads pickles could not tell its finding.
    ChildFailed,
}

impl Exit {
    fn code(self) -> u8 {
        match self {
            Self::Answered => 0,
            Self::NoMask => 3,
            Self::SomeFailed => 4,
            Self::OutsideBand => 5,
            Self::AllFailed(code) => code,
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
/// A fault of r1seg itself, or a computation that ended in NaN or infinity.
const INTERNAL: u8 = 70;
/// What the standard library, rayon and candle panic with where the system refuses a thread: they have no
/// other way to say so.
const NO_THREAD: [&str; 2] = ["failed to spawn", "thread pool has not been initialized"];

pub(crate) fn error_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Usage => 2,
        ErrorKind::BadData => 65,
        ErrorKind::Missing => 66,
        ErrorKind::Device => 69,
        ErrorKind::CannotCreate => 73,
        ErrorKind::Io => IO,
        ErrorKind::Temporary => TEMPORARY,
        ErrorKind::Model => 78,
        ErrorKind::Cancelled => interrupt::exit_code(),
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

impl From<&Error> for CliError {
    fn from(error: &Error) -> Self {
        Self {
            code: error.code(),
            kind: error.kind(),
            what: chain(error),
            path: error.path().map(Path::to_path_buf),
            fix: fix_of(error),
        }
    }
}

/// What to do about an error, in the words of this command line.
fn fix_of(error: &Error) -> Option<String> {
    match error {
        Error::OtherFamily { family, .. } => Some(capabilities::runs_with(*family)),
        other => other.fix(),
    }
}

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
                let failure = Failure::new("R-MEM-04", TEMPORARY, what, None, Some(fix));
                return ExitCode::from(failure.show(true));
            }
            let what = format!("r1seg failed unexpectedly: {text}");
            let fix = "please report this with the command that you ran";
            ExitCode::from(Failure::new("R-BUG-01", INTERNAL, &what, None, Some(fix)).show(true))
        }
    }
}

/// Prints `error[CODE]: what`, `-->` where, `fix`, and says the exit code.
pub(crate) fn explain(error: &anyhow::Error) -> u8 {
    // The reader of our output went away, as `head` does: nothing is wrong.
    let io = error.downcast_ref::<std::io::Error>();
    if io.is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe) {
        return 0;
    }
    Failure::of(error).show(!error.is::<Reported>())
}

/// Explains arguments that clap refused, or prints the help that was asked for.
pub(crate) fn refused(error: &clap::Error) -> ExitCode {
    // clap writes to stderr in colors where that is a terminal.
    let _ = error.print();
    let code = u8::try_from(error.exit_code()).unwrap_or(INTERNAL);
    if error.use_stderr() && std::env::args_os().any(|arg| arg == "--json") {
        let text = error.to_string();
        let what = text.split("\n\n").next().unwrap_or_default();
        let words: Vec<&str> = what.trim_start_matches("error: ").split_whitespace().collect();
        let fix = Some("run the command with --help");
        Failure::new("R-ARG-04", code, &words.join(" "), None, fix).print_json();
    }
    ExitCode::from(code)
}

/// What went wrong; with `--json`, as it is.
#[derive(Serialize)]
struct Failure {
    code: String,
    message: String,
    path: Option<String>,
    fix: Option<String>,
    exit_code: u8,
}

/// `docs/error.schema.json` describes it.
#[derive(Serialize)]
struct ErrorObject<'a> {
    error: &'a Failure,
}

impl Failure {
    fn new(code: &str, exit_code: u8, what: &str, path: Option<&Path>, fix: Option<&str>) -> Self {
        Self {
            code: code.to_string(),
            message: one_line(what),
            path: path.filter(|p| !p.as_os_str().is_empty()).map(|p| p.display().to_string()),
            fix: fix.map(one_line),
            exit_code,
        }
    }

    fn of(error: &anyhow::Error) -> Self {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return Self::new("R-IO-01", error_code(ErrorKind::Io), &io.to_string(), None, None);
        }
        if let Some(e) = error.downcast_ref::<Error>() {
            let fix = fix_of(e);
            return Self::new(e.code(), error_code(e.kind()), &chain(e), e.path(), fix.as_deref());
        }
        if let Some(e) = error.downcast_ref::<r1seg_results::Error>() {
            let fix = match e {
                r1seg_results::Error::R1Seg(e) => e.fix(),
                _ => job::fix(e),
            };
            return Self::new(e.code(), error_code(e.kind()), &chain(e), e.path(), fix.as_deref());
        }
        if let Some(e) = error.downcast_ref::<r1seg::volume::Error>() {
            let (exit, fix) = (error_code(e.kind().into()), e.fix());
            return Self::new(e.code(), exit, &chain(e), e.path(), fix.as_deref());
        }
        #[cfg(feature = "hub")]
        if let Some(e) = error.downcast_ref::<r1seg::hub::Error>() {
            let (exit, fix) = (error_code(e.kind().into()), e.fix());
            return Self::new(e.code(), exit, &chain(e), e.path(), fix.as_deref());
        }
        if let Some(e) = error.downcast_ref::<r1seg::convert::Error>() {
            return Self::new(e.code(), error_code(e.kind().into()), &chain(e), e.path(), e.fix());
        }
        if let Some(e) = error.downcast_ref::<CliError>() {
            let exit = error_code(e.kind);
            return Self::new(e.code, exit, &e.what, e.path.as_deref(), e.fix.as_deref());
        }
        Self::new("R-BUG-02", INTERNAL, &format!("{error:#}"), None, None)
    }

    /// Prints the text and, where it is wanted, the JSON object; returns the exit code.
    fn show(&self, json: bool) -> u8 {
        let Self { code, message, path, fix, exit_code } = self;
        lines(&format!("error[{code}]: {message}"), path.as_deref(), fix.as_deref());
        if json && JSON.load(Ordering::SeqCst) {
            self.print_json();
        }
        *exit_code
    }

    fn print_json(&self) {
        let object = serde_json::to_string_pretty(&ErrorObject { error: self });
        // A reader that is gone does not miss it.
        let _ = writeln!(std::io::stdout().lock(), "{}", object.unwrap_or_default());
    }
}

/// Prints a first line, where it is about, and what to do, in one write, so that nothing comes between.
fn lines(first: &str, path: Option<&str>, fix: Option<&str>) {
    let mut text = first.to_string();
    if let Some(path) = path {
        text.push_str(&format!("\n  --> {}", one_line(path)));
    }
    if let Some(fix) = fix {
        text.push_str(&format!("\n  fix: {}", one_line(fix)));
    }
    let _ = writeln!(std::io::stderr().lock(), "{text}");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_line_whatever_is_in_a_name() {
        assert_eq!(one_line("a\n  fix: rm -r x\x1b[31m"), "a\\n  fix: rm -r x");
        assert_eq!(one_line("tab\t line\u{2028} carriage\r"), "tab\\t line\\u{2028} carriage");
        assert_eq!(one_line("die Größe 肝"), "die Größe 肝");
    }
}
