//! What every error of r1seg carries, whichever crate it comes from.
//!
//! | to | use |
//! |---|---|
//! | read the code, kind, path and remedy of an error | [`Diagnostic`] |
//! | choose an exit code or an HTTP status | [`ErrorKind`] |
//! | word what to do about it | [`Remedy`] |
//! | begin an error's `Display` with its path | [`At`] |
//! | call these without the trait in scope | [`diagnostic_methods`] |
//! | hide the cases of a crate's errors behind one type | [`opaque_error`] |
//!
//! An error's `Display` names the file at fault and what is wrong with it, so that it stands on its
//! own in a log. A program that prints the path elsewhere uses [`Diagnostic::message`].
//!
//! Libraries name no flag and no subcommand: a [`Remedy`] says what to do, and the command line, a
//! server or a binding finds its own words for it.

mod opaque;
mod remedy;

use std::fmt;
use std::path::Path;

pub use remedy::{Purpose, Remedy, Rephrasing};

/// Who must act on an error, so that a program can choose an exit code or a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// An argument or option is wrong; no file is at fault.
    Usage,
    /// The input was read and cannot be used.
    BadData,
    /// The input or the model is missing or may not be read.
    Missing,
    /// The requested device is missing, or cannot run this build.
    Device,
    /// The output exists already or cannot be created.
    CannotCreate,
    /// The storage failed while reading or writing, or a connection is not secure.
    Io,
    /// Not enough memory, or no further thread, at the moment.
    Resources,
    /// The network or a server fails at the moment.
    Network,
    /// The model, its configuration or its tokenizer is broken or unknown.
    Model,
    /// A computation ended in NaN or infinity, with weights that are finite.
    NotFinite,
    /// The caller cancelled.
    Cancelled,
    /// A fault of r1seg itself.
    Internal,
}

/// An error that a program can act on and a person can look up.
pub trait Diagnostic: std::error::Error {
    /// The stable code, such as `R-NII-07`. `docs/errors.md` lists all of them.
    fn code(&self) -> &'static str;

    /// Who must act.
    fn kind(&self) -> ErrorKind;

    /// The file or folder at fault, where there is one.
    fn path(&self) -> Option<&Path> {
        None
    }

    /// What to do about it, where something can be done.
    fn remedy(&self) -> Option<Remedy> {
        None
    }

    /// What is wrong, without the path that `Display` begins with.
    fn message(&self) -> String {
        let text = self.to_string();
        let prefix = self.path().map(|path| At(path).to_string()).unwrap_or_default();
        text.strip_prefix(&prefix).unwrap_or(&text).to_owned()
    }

    /// The [message](Self::message) and, after colons, why: the causes that it does not name itself.
    fn explanation(&self) -> String {
        let mut text = self.message();
        let mut source = self.source();
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
}

/// The path at the beginning of an error's `Display`, with a colon; nothing for an empty path.
pub struct At<'a>(pub &'a Path);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_os_str().is_empty() {
            true => Ok(()),
            false => write!(f, "`{}`: ", self.0.display()),
        }
    }
}
