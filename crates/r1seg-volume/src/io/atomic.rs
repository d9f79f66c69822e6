use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::Error;
use crate::error::Detail;

/// What to do if the file to write exists already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// Leave it and report `R-OUT-01`.
    #[default]
    Refuse,
    /// Replace it.
    Replace,
}

/// Writes a file so that it is there as a whole or not at all.
///
/// `write` fills a temporary `.part` file in the same folder, which is synced to storage and then
/// renamed to `path`. After a failure nothing is left but, if the process was killed, the `.part`;
/// the program `r1seg` removes such leftovers where it writes next.
///
/// ```
/// use r1seg_volume::{Overwrite, write_atomically};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("answer.txt");
/// write_atomically(&path, Overwrite::Refuse, |out| writeln!(out, "It is the liver."))?;
/// let again = write_atomically(&path, Overwrite::Refuse, |out| writeln!(out, "Another."));
/// assert_eq!(again.unwrap_err().code(), "R-OUT-01");
/// assert_eq!(std::fs::read_to_string(&path)?, "It is the liver.\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// `R-OUT-01`, `R-OUT-03` or `R-OUT-02` before `write` runs;
/// `R-OUT-05` with what `write` returned, or if syncing fails.
pub fn write_atomically<F>(
    path: impl AsRef<Path>,
    overwrite: Overwrite,
    write: F,
) -> Result<(), Error>
where
    F: FnOnce(&mut dyn Write) -> io::Result<()>,
{
    let path = path.as_ref();
    check_target(path, overwrite)?;
    let cannot_create =
        |source| Error::from(Detail::CannotCreate { path: path.to_owned(), source });
    let failed = |source| Error::from(Detail::WriteFailed { path: path.to_owned(), source });

    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut part = r1seg_files::part_file(folder, OsStr::new(".r1seg-")).map_err(cannot_create)?;
    let mut out = BufWriter::new(part.as_file_mut());
    write(&mut out).and_then(|()| out.flush()).map_err(failed)?;
    drop(out);
    part.as_file().sync_all().map_err(failed)?;
    let persisted = match overwrite {
        Overwrite::Replace => part.persist(path),
        Overwrite::Refuse => part.persist_noclobber(path),
    };
    persisted.map_err(|e| match e.error.kind() {
        io::ErrorKind::AlreadyExists => Error::from(Detail::Exists { path: path.to_owned() }),
        _ => cannot_create(e.error),
    })?;
    // The rename itself is on storage only once the folder is; not every system can sync a folder,
    // and the file is complete in any case.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

fn check_target(path: &Path, overwrite: Overwrite) -> Result<(), Error> {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => {
            Err(Detail::NotReplaceable { path: path.to_owned() }.into())
        }
        Ok(_) if overwrite == Overwrite::Refuse => {
            Err(Detail::Exists { path: path.to_owned() }.into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        let error = write_atomically(&path, Overwrite::Refuse, |out| {
            out.write_all(b"half")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        })
        .unwrap_err();
        assert_eq!((error.code(), error.kind()), ("R-OUT-05", crate::ErrorKind::Io));
        assert_eq!(names(folder.path()), [""; 0]);
    }

    #[test]
    fn replace_replaces_and_refuse_leaves() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.txt");
        for (overwrite, text) in [(Overwrite::Refuse, "1"), (Overwrite::Replace, "2")] {
            write_atomically(&path, overwrite, |out| out.write_all(text.as_bytes())).unwrap();
        }
        let error =
            write_atomically(&path, Overwrite::Refuse, |out| out.write_all(b"3")).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::CannotCreate);
        assert_eq!(fs::read_to_string(&path).unwrap(), "2");
        assert_eq!(names(folder.path()), ["x.txt"]);
    }

    #[test]
    fn a_missing_folder_or_a_directory_as_target_cannot_be_created() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("no").join("x.txt");
        let error = write_atomically(missing, Overwrite::Replace, |_| Ok(())).unwrap_err();
        assert_eq!(error.code(), "R-OUT-02");
        let error = write_atomically(folder.path(), Overwrite::Replace, |_| Ok(())).unwrap_err();
        assert_eq!(error.code(), "R-OUT-03");
    }

    #[cfg(unix)]
    #[test]
    fn the_file_is_not_more_private_than_others() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        write_atomically(&ours, Overwrite::Refuse, |_| Ok(())).unwrap();
        fs::write(&plain, "").unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(ours), mode(plain));
    }
}
