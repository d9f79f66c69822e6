//! Exit codes and how errors look.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use r1seg::{Diagnostic, ErrorKind, Remedy};
use serde::Serialize;

use crate::codes::Code;
use crate::{hints, interrupt};

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

/// Whether such an object stands on one line, as the results before it do.
static JSON_LINES: AtomicBool = AtomicBool::new(false);

/// Lets errors be JSON objects of one line each.
pub(crate) fn report_in_json_lines() {
    JSON_LINES.store(true, Ordering::SeqCst);
    report_in_json();
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
    /// Served until a signal came, as this code says.
    Stopped(u8),
    /// The worst line of a conversation that did not come from a terminal, each of which was reported.
    WorstLine(u8),
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
            Self::AllFailed(code) | Self::Stopped(code) | Self::WorstLine(code) => code,
            Self::ChildFailed => INTERNAL,
        }
    }

    /// What the hidden child process ends with.
    pub(crate) fn of_child(has_answered: bool) -> Self {
        if has_answered { Self::Answered } else { Self::ChildFailed }
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

/// The exit code for an error, by who must act.
pub(crate) fn error_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Usage => 2,
        ErrorKind::BadData => 65,
        ErrorKind::Missing => 66,
        ErrorKind::Device => 69,
        ErrorKind::CannotCreate => 73,
        ErrorKind::Io => IO,
        ErrorKind::Resources | ErrorKind::Network => TEMPORARY,
        ErrorKind::Model => 78,
        ErrorKind::Cancelled => interrupt::exit_code(),
        ErrorKind::NotFinite | ErrorKind::Internal => INTERNAL,
    }
}

/// An error of the command line that no library knows.
#[derive(Debug, Clone)]
pub(crate) struct CliError {
    pub(crate) code: &'static str,
    pub(crate) kind: ErrorKind,
    pub(crate) what: String,
    pub(crate) path: Option<PathBuf>,
    pub(crate) fix: Option<String>,
}

impl std::fmt::Display for CliError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for CliError {}

impl Diagnostic for CliError {
    fn code(&self) -> &'static str {
        self.code
    }

    fn kind(&self) -> ErrorKind {
        self.kind
    }

    fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    fn remedy(&self) -> Option<Remedy> {
        self.fix.clone().map(Remedy::from)
    }

    fn message(&self) -> String {
        self.what.clone()
    }
}

impl From<&dyn Diagnostic> for CliError {
    fn from(error: &dyn Diagnostic) -> Self {
        Self {
            code: error.code(),
            kind: error.kind(),
            what: error.explanation(),
            path: error.path().map(Path::to_path_buf),
            fix: error.remedy().as_ref().map(hints::spoken),
        }
    }
}

impl CliError {
    /// An error that no library knows.
    pub(crate) fn new(code: Code, what: impl Into<String>) -> Self {
        Self { code: code.code(), kind: code.kind(), what: what.into(), path: None, fix: None }
    }

    /// The file or folder that it is about.
    pub(crate) fn at(self, path: impl Into<PathBuf>) -> Self {
        Self { path: Some(path.into()), ..self }
    }

    /// What to do about it.
    pub(crate) fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }

    pub(crate) fn usage(what: impl Into<String>, fix: impl Into<String>) -> anyhow::Error {
        Self::new(Code::Arguments, what).fix(fix).into()
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
                let error = CliError::new(Code::NoThread, what).fix(fix);
                return ExitCode::from(Failure::from(&error as &dyn Diagnostic).show(true));
            }
            let what = format!("r1seg failed unexpectedly: {text}");
            let fix = "please report this with the command that you ran";
            let error = CliError::new(Code::Panic, what).fix(fix);
            ExitCode::from(Failure::from(&error as &dyn Diagnostic).show(true))
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
        let error =
            CliError::new(Code::Refused, words.join(" ")).fix("run the command with --help");
        let failure = Failure::from(&error as &dyn Diagnostic);
        Failure { exit_code: code, ..failure }.print_json();
    }
    ExitCode::from(code)
}

/// What went wrong; with `--json`, as it is.
#[derive(Serialize)]
struct Failure {
    code: &'static str,
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
    fn of(error: &anyhow::Error) -> Self {
        if let Some(error) = diagnostic(error) {
            return Self::from(error);
        }
        let error = match error.downcast_ref::<std::io::Error>() {
            Some(io) => CliError::new(Code::Stream, io.to_string()),
            None => CliError::new(Code::Internal, format!("{error:#}")),
        };
        Self::from(&error as &dyn Diagnostic)
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
        let object = ErrorObject { error: self };
        let object = match JSON_LINES.load(Ordering::SeqCst) {
            true => serde_json::to_string(&object),
            false => serde_json::to_string_pretty(&object),
        };
        // A reader that is gone does not miss it.
        let _ = writeln!(std::io::stdout().lock(), "{}", object.unwrap_or_default());
    }
}

impl From<&dyn Diagnostic> for Failure {
    fn from(error: &dyn Diagnostic) -> Self {
        let path = error.path().filter(|path| !path.as_os_str().is_empty());
        Self {
            code: error.code(),
            message: one_line(&error.explanation()),
            path: path.map(|path| path.display().to_string()),
            fix: error.remedy().map(|remedy| one_line(&hints::spoken(&remedy))),
            exit_code: error_code(error.kind()),
        }
    }
}

/// Who must act, where it is an error of one of the crates whose errors reach the command line.
pub(crate) fn kind(error: &anyhow::Error) -> Option<ErrorKind> {
    diagnostic(error).map(|error| error.kind())
}

/// The error as that of one of the crates whose errors reach the command line.
fn diagnostic(error: &anyhow::Error) -> Option<&dyn Diagnostic> {
    type Downcast = for<'a> fn(&'a anyhow::Error) -> Option<&'a dyn Diagnostic>;
    fn of<E: Diagnostic + Send + Sync + 'static>(error: &anyhow::Error) -> Option<&dyn Diagnostic> {
        error.downcast_ref::<E>().map(|error| error as &dyn Diagnostic)
    }
    let known: &[Downcast] = &[
        of::<CliError>,
        of::<r1seg::Error>,
        of::<r1seg_results::Error>,
        of::<r1seg_server::Error>,
        of::<r1seg_mcp::Error>,
        of::<r1seg::volume::Error>,
        of::<r1seg::checkpoint::Error>,
        of::<r1seg::convert::Error>,
        #[cfg(feature = "hub")]
        of::<r1seg::hub::Error>,
    ];
    known.iter().find_map(|of| of(error))
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
