//! Pickles are read in a child process that can do nothing but read one open file.
//!
//! A library cannot start itself, so that a program lends it a hidden command: the program calls
//! [`sandbox_main`] there, and names it in a [`Sandbox`]. The child gets the file as its standard
//! input and no path; it limits its memory, its time and its files before it reads the first byte,
//! and answers in JSON. The parent trusts nothing of the answer and checks it against the file.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::pickle::PickleError;
use crate::torch::{TorchIndex, read_index};

/// Memory that the child may map: 64 MiB of pickle at most, and what is built of it.
#[cfg(unix)]
const MAX_MEMORY: u64 = 2 << 30;
/// Seconds of computing; the largest checkpoints need less than one.
#[cfg(unix)]
const MAX_SECONDS: u64 = 60;
/// The longest answer that is read: 100 000 tensors take a fifth of it.
const MAX_ANSWER: u64 = 256 << 20;

/// A command that ends up in [`sandbox_main`].
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// The program, usually [`std::env::current_exe`].
    pub program: PathBuf,
    /// The hidden command.
    pub arguments: Vec<OsString>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Index(TorchIndex),
    Refused(PickleError),
}

/// Why there is no answer from the child.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// It did not start, or the pipe broke.
    #[error("the process that reads pickles cannot be started")]
    Start(#[source] std::io::Error),
    /// It was stopped, usually by one of its limits.
    #[error("the process that reads pickles was stopped ({status}), usually by its limits")]
    Stopped {
        /// Its exit status.
        status: String,
    },
    /// It said what no child of this version says.
    #[error("the process that reads pickles gave no answer that can be read")]
    Answer,
}

/// The whole work of the child: limits itself, reads the file on its standard input, and writes the
/// answer. Returns whether an answer was written; a refused pickle is an answer too.
///
/// Call it first in `main`, before threads, logging or configuration. On Windows there are no limits.
pub fn sandbox_main() -> bool {
    // In this order: the limits forbid new descriptors.
    let Some(mut file) = standard_input() else {
        return false;
    };
    if limit_process().is_none() {
        return false;
    }
    let caught = std::panic::catch_unwind(move || read_index(&mut file));
    let answer = match caught {
        Ok(Ok(index)) => Answer::Index(index),
        Ok(Err(refused)) => Answer::Refused(refused),
        Err(_) => Answer::Refused(panicked()),
    };
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, &answer).is_ok() && out.flush().is_ok()
}

fn panicked() -> PickleError {
    PickleError::Container { what: "the file makes the reader panic".to_owned() }
}

#[cfg(unix)]
fn limit_process() -> Option<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limits = [
        (Resource::As, MAX_MEMORY),
        (Resource::Cpu, MAX_SECONDS),
        // No file grows, no process is forked, no core is dumped, nothing more is opened.
        (Resource::Fsize, 0),
        (Resource::Nproc, 0),
        (Resource::Core, 0),
        (Resource::Nofile, 0),
    ];
    for (resource, most) in limits {
        // No limit can be raised beyond one that the caller set.
        let most = getrlimit(resource).maximum.map_or(most, |hard| hard.min(most));
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        let set = setrlimit(resource, limit);
        // macOS knows no limit of the address space.
        if set.is_err() && (cfg!(target_os = "linux") || resource != Resource::As) {
            return None;
        }
    }
    Some(())
}

#[cfg(not(unix))]
fn limit_process() -> Option<()> {
    Some(())
}

#[cfg(unix)]
fn standard_input() -> Option<File> {
    use std::os::fd::AsFd;
    std::io::stdin().as_fd().try_clone_to_owned().ok().map(File::from)
}

#[cfg(windows)]
fn standard_input() -> Option<File> {
    use std::os::windows::io::AsHandle;
    std::io::stdin().as_handle().try_clone_to_owned().ok().map(File::from)
}

/// Reads the index of `file` in a child, and checks what it says.
pub(crate) fn read_index_in_child(
    sandbox: &Sandbox,
    file: &File,
    file_bytes: u64,
) -> Result<Result<TorchIndex, PickleError>, SandboxError> {
    let input = file.try_clone().map_err(SandboxError::Start)?;
    let mut command = Command::new(&sandbox.program);
    command
        .args(&sandbox.arguments)
        .env_clear()
        .stdin(Stdio::from(input))
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    if let Some(root) = Path::new("/").canonicalize().ok().filter(|_| cfg!(unix)) {
        command.current_dir(root);
    }
    let mut child = command.spawn().map_err(SandboxError::Start)?;
    let mut answer = Vec::new();
    let read = match child.stdout.take() {
        Some(out) => out.take(MAX_ANSWER + 1).read_to_end(&mut answer),
        None => Ok(0),
    };
    // A child that says too much blocks on its pipe; it is not waited for.
    if read.is_err() || answer.len() as u64 > MAX_ANSWER {
        let _ = child.kill();
    }
    let status = child.wait().map_err(SandboxError::Start)?;
    read.map_err(SandboxError::Start)?;
    if !status.success() {
        return Err(SandboxError::Stopped { status: status.to_string() });
    }
    match serde_json::from_slice(&answer).map_err(|_| SandboxError::Answer)? {
        Answer::Refused(refused) => Ok(Err(refused)),
        Answer::Index(index) => Ok(index.check(file_bytes).map(|()| index)),
    }
}

/// Reads the index of `file` in this process, where no program lends a child.
pub(crate) fn read_index_here(file: &File) -> Result<TorchIndex, PickleError> {
    let mut file = file.try_clone().map_err(|e| PickleError::Io { what: e.to_string() })?;
    std::panic::catch_unwind(move || read_index(&mut file)).unwrap_or_else(|_| Err(panicked()))
}
