//! Files and folders in the making: they lie beside their final places under names of their own,
//! and a lock on each tells whether the process that makes it still lives.

use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use tempfile::{Builder, NamedTempFile, TempDir};

/// What the names end in.
const SUFFIX: &str = ".part";
/// Random characters between the beginning and the end of a name.
const RANDOM: usize = 6;

/// A folder in the making. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct PartFolder {
    // Removed before the lock goes: fields are dropped in this order.
    folder: TempDir,
    lock: Option<File>,
}

impl PartFolder {
    /// Makes a folder in `parent`, named `prefix`, random characters and `.part`, that other users
    /// may not look into.
    ///
    /// # Errors
    /// The error of the operating system.
    pub fn private(parent: &Path, prefix: &OsStr) -> io::Result<Self> {
        let mut builder = named(prefix);
        // Without this, the umask alone would say who may look into it.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
        Self::create(parent, &builder)
    }

    /// Makes the same as any folder that a user makes, to be kept under another name.
    ///
    /// # Errors
    /// The error of the operating system.
    pub fn shared(parent: &Path, prefix: &OsStr) -> io::Result<Self> {
        let mut builder = named(prefix);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
        Self::create(parent, &builder)
    }

    fn create(parent: &Path, builder: &Builder<'_, '_>) -> io::Result<Self> {
        loop {
            let folder = builder.tempdir_in(parent)?;
            match hold(folder.path(), || File::open(folder.path())) {
                Held::Yes(lock) => return Ok(Self { folder, lock: Some(lock) }),
                Held::CannotTell => return Ok(Self { folder, lock: None }),
                Held::Gone => {}
            }
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves the folder where it is, or where it was moved to.
    pub fn keep(self) {
        let _ = self.folder.keep();
        drop(self.lock);
    }
}

/// Makes a file in `parent`, named `prefix`, random characters and `.part`, which other users may
/// read as any file that a user makes.
///
/// # Errors
/// The error of the operating system.
pub fn part_file(parent: &Path, prefix: &OsStr) -> io::Result<NamedTempFile> {
    let mut builder = named(prefix);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    loop {
        let file = builder.tempfile_in(parent)?;
        match hold(file.path(), || file.as_file().try_clone()) {
            // The lock belongs to both descriptors.
            Held::Yes(_) | Held::CannotTell => return Ok(file),
            Held::Gone => {}
        }
    }
}

/// Removes what [`PartFolder`] and [`part_file`] of processes that were killed left in `parent`.
///
/// What a living process holds stays, and so does everything where locks do not work: on some network
/// drives, and folders on Windows. Failures are not reported: the leftovers cost space, not
/// correctness.
pub fn sweep(parent: &Path, prefix: &OsStr) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_kept = entry.file_type().map_or(true, |t| !t.is_dir() && !t.is_file());
        if is_kept || !is_part(&entry.file_name(), prefix) {
            continue;
        }
        let path = entry.path();
        let Ok(lock) = File::open(&path) else { continue };
        if lock.try_lock().is_err() {
            continue;
        }
        let is_folder = lock.metadata().is_ok_and(|metadata| metadata.is_dir());
        let _ = if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
    }
}

fn named<'a>(prefix: &'a OsStr) -> Builder<'a, 'static> {
    let mut builder = Builder::new();
    builder.prefix(prefix).suffix(SUFFIX).rand_bytes(RANDOM);
    builder
}

/// Whether a name is one that is given here; another target's prefix may begin in the same way.
fn is_part(name: &OsStr, prefix: &OsStr) -> bool {
    let middle = name
        .as_encoded_bytes()
        .strip_prefix(prefix.as_encoded_bytes())
        .and_then(|rest| rest.strip_suffix(SUFFIX.as_bytes()));
    middle.is_some_and(|m| m.len() == RANDOM && m.iter().all(u8::is_ascii_alphanumeric))
}

enum Held {
    Yes(File),
    /// Locks do not work here, so that nobody removes it either.
    CannotTell,
    /// Another process took it for a leftover before it was locked.
    Gone,
}

fn hold(path: &Path, open: impl FnOnce() -> io::Result<File>) -> Held {
    let Ok(file) = open() else {
        return if path.exists() { Held::CannotTell } else { Held::Gone };
    };
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Held::Gone,
        Err(TryLockError::Error(_)) => Held::CannotTell,
        Ok(()) if path.exists() => Held::Yes(file),
        Ok(()) => Held::Gone,
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    const PREFIX: &str = ".model.";

    fn names(folder: &Path) -> Vec<OsString> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    #[cfg(unix)]
    #[test]
    fn what_a_dead_process_left_is_swept_and_what_a_living_one_holds_stays() {
        let desk = tempfile::tempdir().unwrap();
        let dead = desk.path().join(".model.a1B2c3.part");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join("weights"), "half").unwrap();
        fs::write(desk.path().join(".model.zzzzzz.part"), "half").unwrap();
        let folder = PartFolder::private(desk.path(), PREFIX.as_ref()).unwrap();
        let file = part_file(desk.path(), PREFIX.as_ref()).unwrap();
        fs::write(folder.path().join("weights"), "whole").unwrap();
        sweep(desk.path(), PREFIX.as_ref());
        let mut alive = [folder.path(), file.path()].map(|p| p.file_name().unwrap().to_owned());
        alive.sort();
        assert_eq!(names(desk.path()), alive);
        assert!(folder.path().join("weights").is_file());
        drop((folder, file));
        assert_eq!(names(desk.path()), [""; 0]);
    }

    #[cfg(unix)]
    #[test]
    fn a_private_folder_is_for_this_user_alone() {
        use std::os::unix::fs::PermissionsExt;
        let desk = tempfile::tempdir().unwrap();
        let folder = PartFolder::private(desk.path(), PREFIX.as_ref()).unwrap();
        let mode = folder.path().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn names_that_are_not_given_here_are_never_swept() {
        let desk = tempfile::tempdir().unwrap();
        let others =
            [".model.part", ".model.v2.a1B2c3.part", ".model.abc.part", "model.a1B2c3.part"];
        for name in others {
            fs::write(desk.path().join(name), "").unwrap();
        }
        #[cfg(unix)]
        std::os::unix::fs::symlink("elsewhere", desk.path().join(".model.zzzzzz.part")).unwrap();
        let before = names(desk.path());
        sweep(desk.path(), PREFIX.as_ref());
        assert_eq!(names(desk.path()), before);
    }

    #[test]
    fn a_folder_that_is_kept_under_another_name_stays() {
        let desk = tempfile::tempdir().unwrap();
        let part = PartFolder::shared(desk.path(), PREFIX.as_ref()).unwrap();
        let target = desk.path().join("model");
        fs::rename(part.path(), &target).unwrap();
        part.keep();
        assert_eq!(names(desk.path()), ["model"]);
    }
}
