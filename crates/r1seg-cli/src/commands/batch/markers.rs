//! Which volumes were in work when a process died: a file for each while it is read or in the model.
//!
//! A volume that kills the process, or brings it over a limit of memory, cannot be told by an error. Its
//! marker stays, and the next run knows. What was in work beside it is suspected, too, so that suspects run
//! last and one at a time: whatever dies then, dies of one volume.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use r1seg::files::sha256_of;
use serde::{Deserialize, Serialize};

use super::ledger::unwritable;
use crate::exit::CliError;

/// So often a process may die of a volume before the volume is left alone.
pub(super) const DEATHS: u32 = 2;
/// Longer files are not ours.
const MAX_BYTES: u64 = 1 << 20;

/// The markers of a folder of results.
#[derive(Debug)]
pub(super) struct Markers {
    folder: PathBuf,
    /// By the names of their files, those of processes that died.
    found: HashMap<OsString, u32>,
    active: Mutex<Vec<Marker>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Marker {
    id: String,
    /// Processes that died while it was in work.
    deaths: u32,
    /// Whether it is in work.
    active: bool,
}

impl Markers {
    pub(super) fn new(out: &Path) -> Result<Self, CliError> {
        let folder = out.join(".running");
        fs::create_dir_all(&folder).map_err(|e| unwritable(&folder, &e))?;
        let entries = match fs::read_dir(&folder) {
            // Another part has ended in this moment, and nothing was in it.
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            entries => Some(entries.map_err(|e| unwritable(&folder, &e))?),
        };
        let entries = entries.into_iter().flatten().flatten();
        let found = entries.map(|entry| (entry.file_name(), deaths(&entry.path()))).collect();
        Ok(Self { folder, found, active: Mutex::default() })
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder.join(&sha256_of(id.as_bytes())[..32])
    }

    fn active(&self) -> std::sync::MutexGuard<'_, Vec<Marker>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, marker: &Marker) -> Result<(), CliError> {
        let path = self.path(&marker.id);
        let bytes = serde_json::to_vec(marker).unwrap_or_default();
        let written = match fs::write(&path, &bytes) {
            // All parts of a batch share the folder, and one that ends removes it where it is empty.
            Err(e) if e.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(&self.folder).and_then(|()| fs::write(&path, &bytes))
            }
            written => written,
        };
        written.map_err(|e| unwritable(&path, &e))
    }

    /// How many processes had died, when this one began, while this volume was in work.
    pub(super) fn deaths(&self, id: &str) -> u32 {
        let path = self.path(id);
        path.file_name().and_then(|name| self.found.get(name)).copied().unwrap_or(0)
    }

    /// Says that a volume is in work, of which `deaths` processes have died.
    pub(super) fn begin(&self, id: &str, deaths: u32) -> Result<(), CliError> {
        let marker = Marker { id: id.to_owned(), deaths, active: true };
        self.write(&marker)?;
        self.active().push(marker);
        Ok(())
    }

    /// Says that a volume is not in work, which does not mean that it is done.
    pub(super) fn pause(&self, id: &str) {
        let mut active = self.active();
        let Some(at) = active.iter().position(|marker| marker.id == id) else { return };
        let marker = active.swap_remove(at);
        self.lay_down(marker);
    }

    /// Says that nothing is in work any more: somebody asked the run to stop, and no volume is to blame.
    pub(super) fn pause_all(&self) {
        self.active().drain(..).for_each(|marker| self.lay_down(marker));
    }

    /// What others died of is remembered; all else leaves nothing.
    fn lay_down(&self, marker: Marker) {
        let rested = Marker { active: false, ..marker };
        let _ = match rested.deaths {
            0 => fs::remove_file(self.path(&rested.id)).map_err(drop),
            _ => self.write(&rested).map_err(drop),
        };
    }

    /// Forgets a volume that has a line in the results, or is to be tried anew.
    pub(super) fn forget(&self, id: &str) {
        self.active().retain(|marker| marker.id != id);
        let _ = fs::remove_file(self.path(id));
    }

    /// Removes the folder where nothing is in it.
    pub(super) fn sweep(&self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

/// What a marker of a process that is gone says.
fn deaths(path: &Path) -> u32 {
    let bytes = r1seg::files::read(path, MAX_BYTES).ok();
    match bytes.and_then(|bytes| serde_json::from_slice::<Marker>(&bytes).ok()) {
        Some(marker) => marker.deaths + u32::from(marker.active),
        // It was being written when the process died.
        None => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b2_deaths_are_counted_only_where_nobody_asked_to_stop() {
        let desk = tempfile::tempdir().unwrap();
        let run = || Markers::new(desk.path()).unwrap();
        let first = run();
        first.begin("a", 0).unwrap();
        first.begin("b", 0).unwrap();
        first.pause("b");
        // The process dies.
        let second = run();
        assert_eq!((second.deaths("a"), second.deaths("b")), (1, 0));
        second.begin("a", 1).unwrap();
        second.pause_all();
        let third = run();
        assert_eq!(third.deaths("a"), 1);
        third.begin("a", 1).unwrap();
        let fourth = run();
        assert_eq!(fourth.deaths("a"), DEATHS);
        fourth.forget("a");
        fourth.sweep();
        assert_eq!(run().deaths("a"), 0);
    }

    #[test]
    fn a_part_that_ends_does_not_stop_one_that_goes_on() {
        let desk = tempfile::tempdir().unwrap();
        let (ends, goes_on) =
            (Markers::new(desk.path()).unwrap(), Markers::new(desk.path()).unwrap());
        ends.sweep();
        assert!(!desk.path().join(".running").exists());
        goes_on.begin("a", 0).unwrap();
        // What is in work keeps the folder.
        ends.sweep();
        assert_eq!(Markers::new(desk.path()).unwrap().deaths("a"), 1);
    }

    #[test]
    fn a_marker_that_was_torn_counts_as_a_death() {
        let desk = tempfile::tempdir().unwrap();
        let path = Markers::new(desk.path()).unwrap().path("a");
        fs::write(path, "{\"id").unwrap();
        assert_eq!(Markers::new(desk.path()).unwrap().deaths("a"), 1);
    }
}
