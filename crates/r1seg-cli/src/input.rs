//! Where a volume comes from: a file or folder, standard input, or a pipe of the shell.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use r1seg::volume::{Loaded, ReadOptions, read, read_from};
use r1seg_results::{Input, Protected};

/// Whether the volume comes from standard input.
pub(crate) fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Reads a volume, and the hash of its bytes.
pub(crate) fn open(path: &Path, options: &ReadOptions) -> Result<Input, r1seg::volume::Error> {
    match stream(path)? {
        Some(stream) => Input::read_stream(stream, (path, stream_name(path)), options),
        None => Input::read(path, options),
    }
}

/// Reads a volume from a file, a folder, standard input or a pipe.
pub(crate) fn load(path: &Path, options: &ReadOptions) -> Result<Loaded, r1seg::volume::Error> {
    match stream(path)? {
        Some(stream) => read_from(stream, stream_name(path), options),
        None => read(path, options),
    }
}

/// Protects a volume from being replaced. Standard input cannot be.
pub(crate) fn protect(inputs: Protected, what: &'static str, path: &Path) -> Protected {
    if is_stdin(path) { inputs } else { inputs.volume(what, path) }
}

/// What can be read once only, from its beginning to its end: standard input, or a pipe that a shell
/// made for this process, as bash does for `<(zcat ct.nii.gz)`.
///
/// A pipe with a name in a folder is not read: it may wait for a writer that never comes.
fn stream(path: &Path) -> Result<Option<Box<dyn Read>>, r1seg::volume::Error> {
    if is_stdin(path) {
        return Ok(Some(Box::new(io::stdin().lock())));
    }
    if !is_own_pipe(path) {
        return Ok(None);
    }
    let unreadable = |source| r1seg::volume::Error::unreadable(path, source);
    Ok(Some(Box::new(File::open(path).map_err(unreadable)?)))
}

fn stream_name(path: &Path) -> &'static str {
    if is_stdin(path) { "standard input" } else { "the pipe" }
}

/// Whether `path` is a pipe that this process has open already.
#[cfg(unix)]
pub(crate) fn is_own_pipe(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;

    let is_pipe = || path.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo());
    let is_descriptor = || {
        let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
        let folders = ["/dev/fd", "/proc/self/fd"].map(|own| Path::new(own).canonicalize().ok());
        path == Path::new("/dev/stdin") || folder.is_some() && folders.contains(&folder)
    };
    is_pipe() && is_descriptor()
}

#[cfg(not(unix))]
pub(crate) fn is_own_pipe(_: &Path) -> bool {
    false
}
