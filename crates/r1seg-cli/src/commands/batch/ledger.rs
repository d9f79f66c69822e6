//! `results.jsonl`: a line for each finished volume, written once its files are in their places.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::append::Appender;
use super::line::Line;
use crate::args::Shard;
use crate::codes::Code;
use crate::exit::CliError;

/// The lines of a run, which it appends to.
#[derive(Debug)]
pub(super) struct Ledger {
    file: Appender<File>,
    path: PathBuf,
    /// Held as long as the run lasts.
    _lock: Option<File>,
}

/// The newest line of each volume, from the files of all parts of a batch.
pub(super) type Lines = HashMap<String, Line>;

impl Ledger {
    /// Begins to write the file of a part, or of a whole batch, after what is in it. A last line that a
    /// killed run began and did not end is removed.
    pub(super) fn open(out: &Path, shard: Option<Shard>) -> Result<Self, CliError> {
        let path = out.join(file_name(shard));
        let lock = lock(out, shard)?;
        let mut open = OpenOptions::new();
        let file = open.create(true).append(true).read(true).open(&path);
        let file = file.map_err(|e| unwritable(&path, &e))?;
        repair(&path, &file)?;
        Ok(Self { file: Appender::new(file), path, _lock: lock })
    }

    /// Adds a line, which is on storage when this returns.
    ///
    /// # Errors
    /// If it cannot be written. What was written of it is removed then; where that fails, too, every further
    /// line is refused.
    pub(super) fn append(&mut self, line: &Line) -> Result<(), CliError> {
        let text = text(line)?;
        self.file.append(text.as_bytes()).map_err(|e| unwritable(&self.path, &e))
    }

    /// Forgets all lines.
    pub(super) fn clear(&mut self) -> Result<(), CliError> {
        self.file.clear().map_err(|e| unwritable(&self.path, &e))
    }

    /// Brings the file into the order of the list, with the newest line of each volume alone. Lines of
    /// volumes that are not in the list follow.
    pub(super) fn settle(&self, order: &[&str]) -> Result<(), CliError> {
        let lines = lines(&self.path)?;
        let mut newest: HashMap<&str, usize> = HashMap::new();
        for (n, line) in lines.iter().enumerate() {
            newest.insert(&line.id, n);
        }
        let places: HashMap<&str, usize> = order.iter().copied().zip(0..).collect();
        let mut kept: Vec<usize> = newest.into_values().collect();
        kept.sort_by_key(|n| {
            (places.get(lines[*n].id.as_str()).copied().unwrap_or(usize::MAX), *n)
        });
        let mut all = String::new();
        for n in kept {
            all.push_str(&text(&lines[n])?);
        }
        replace(&self.path, all.as_bytes())
    }
}

/// `results.jsonl`, or `results.3-of-8.jsonl` of a part.
fn file_name(shard: Option<Shard>) -> String {
    match shard {
        None => "results.jsonl".to_owned(),
        Some(Shard { index, of }) => format!("results.{index}-of-{of}.jsonl"),
    }
}

/// The newest lines of all files in a folder, without their words: of a hundred thousand volumes these would
/// fill the memory, and nobody asks for them again.
pub(super) fn all(out: &Path) -> Result<Lines, CliError> {
    let mut newest = Lines::new();
    for path in files(out) {
        for mut line in lines(&path)? {
            (line.text, line.fix, line.warnings) = Default::default();
            line.answers.iter_mut().for_each(|answer| answer.answer = None);
            match newest.get(&line.id) {
                Some(known) if known.finished_unix_ms > line.finished_unix_ms => {}
                _ => drop(newest.insert(line.id.clone(), line)),
            }
        }
    }
    Ok(newest)
}

/// Of how many parts the file of this name has the results of one; 0 for a batch that was not divided, and
/// `None` for a file of something else.
fn parts(name: &str) -> Option<u64> {
    let part = name.strip_prefix("results")?.strip_suffix(".jsonl")?;
    if part.is_empty() {
        return Some(0);
    }
    let (index, of) = part.strip_prefix('.')?.split_once("-of-")?;
    index.parse::<u64>().ok()?;
    of.parse().ok()
}

fn parts_of(path: &Path) -> Option<u64> {
    path.file_name().and_then(OsStr::to_str).and_then(parts)
}

/// The files of results in a folder, by name.
pub(crate) fn files(out: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(out).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| parts_of(path).is_some()).collect();
    paths.sort();
    paths
}

/// Whether a batch that was divided into another number of parts, or was not divided, left results.
pub(super) fn has_others(out: &Path, shard: Option<Shard>) -> bool {
    let of = shard.map_or(0, |shard| shard.of);
    files(out).iter().any(|path| parts_of(path) != Some(of) && has_bytes(path))
}

/// Whether there are results of this part of a batch, or of the whole one.
pub(super) fn has_lines(out: &Path, shard: Option<Shard>) -> bool {
    has_bytes(&out.join(file_name(shard)))
}

fn has_bytes(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.len() > 0)
}

/// The lines of a file. One that has no end is being written, or was when its run was killed.
fn lines(path: &Path) -> Result<Vec<Line>, CliError> {
    let unreadable = |e: &std::io::Error| {
        CliError::new(Code::BatchResults, format!("the results cannot be read: {e}")).at(path)
    };
    let mut from = BufReader::new(File::open(path).map_err(|e| unreadable(&e))?);
    let (mut lines, mut bytes) = (Vec::new(), Vec::new());
    for number in 1.. {
        bytes.clear();
        from.read_until(b'\n', &mut bytes).map_err(|e| unreadable(&e))?;
        if bytes.last() != Some(&b'\n') {
            break;
        }
        lines.push(serde_json::from_slice(&bytes).map_err(|e| {
            let what = format!("line {number} is not a result of a batch: {e}");
            let fix = "move the file away, or choose another folder with --out DIR";
            CliError::new(Code::BatchResults, what).at(path).fix(fix)
        })?);
    }
    Ok(lines)
}

/// Cuts off what a killed run, or a power cut, left of a line.
fn repair(path: &Path, file: &File) -> Result<(), CliError> {
    let (mut from, mut bytes, mut whole) = (BufReader::new(file), Vec::new(), 0_u64);
    loop {
        bytes.clear();
        let count = from.read_until(b'\n', &mut bytes).map_err(|e| unwritable(path, &e))?;
        // After a power cut a file may have its full length, with zeros where bytes were not written yet.
        if bytes.last() != Some(&b'\n') || bytes.first() == Some(&0) {
            break;
        }
        whole += count as u64;
    }
    if file.metadata().map_err(|e| unwritable(path, &e))?.len() > whole {
        file.set_len(whole).and_then(|()| file.sync_all()).map_err(|e| unwritable(path, &e))?;
    }
    Ok(())
}

/// Lets no second run write the same file. Where locks do not work, nobody can tell.
fn lock(out: &Path, shard: Option<Shard>) -> Result<Option<File>, CliError> {
    let path = out.join(format!(".{}.lock", file_name(shard)));
    let file = File::create(&path).map_err(|e| unwritable(&path, &e))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::Error(_)) => Ok(None),
        Err(fs::TryLockError::WouldBlock) => {
            let what = "another batch is writing to this folder";
            let fix = "wait until it ends, or let each write a part: --shard 0/2 and --shard 1/2";
            Err(CliError::new(Code::BatchRunning, what).at(out).fix(fix))
        }
    }
}

fn text(line: &Line) -> Result<String, CliError> {
    let text = serde_json::to_string(line)
        .map_err(|e| CliError::new(Code::Internal, format!("a result cannot be encoded: {e}")))?;
    Ok(text + "\n")
}

/// Puts a whole file in the place of another.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    use r1seg::volume::{Overwrite, write_atomically};
    write_atomically(path, Overwrite::Replace, |out| out.write_all(bytes)).map_err(|e| {
        CliError::new(Code::BatchUnwritable, format!("the results cannot be written: {e}")).at(path)
    })
}

pub(super) fn unwritable(path: &Path, error: &std::io::Error) -> CliError {
    let what = format!("the results cannot be written: {error}");
    let fix = "make room, or give another folder with --out DIR";
    CliError::new(Code::BatchUnwritable, what).at(path).fix(fix)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn line(id: &str, at: u64) -> Line {
        Line { finished_unix_ms: at, ..Line::new(id, Path::new("x.nii")) }
    }

    fn ids(path: &Path) -> Vec<String> {
        lines(path).unwrap().into_iter().map(|line| line.id).collect()
    }

    #[test]
    fn a_line_that_was_torn_is_cut_off_and_the_others_stay() {
        let desk = tempfile::tempdir().unwrap();
        let path = desk.path().join("results.jsonl");
        for torn in ["{\"schema_ver", "\0\0\0\0", "\0\0\n", ""] {
            let mut ledger = Ledger::open(desk.path(), None).unwrap();
            ledger.clear().unwrap();
            ledger.append(&line("a", 1)).unwrap();
            drop(ledger);
            OpenOptions::new()
                .append(true)
                .open(&path)
                .unwrap()
                .write_all(torn.as_bytes())
                .unwrap();
            let mut ledger = Ledger::open(desk.path(), None).unwrap();
            ledger.append(&line("b", 2)).unwrap();
            assert_eq!(ids(&path), ["a", "b"], "{torn:?}");
        }
    }

    #[test]
    fn the_newest_line_of_a_volume_counts_in_whichever_file_it_is() {
        let desk = tempfile::tempdir().unwrap();
        let mut whole = Ledger::open(desk.path(), None).unwrap();
        whole.append(&line("a", 1)).unwrap();
        whole.append(&line("b", 5)).unwrap();
        let mut part = Ledger::open(desk.path(), Some(Shard { index: 0, of: 2 })).unwrap();
        part.append(&line("a", 4)).unwrap();
        part.append(&line("b", 2)).unwrap();
        fs::write(desk.path().join("results.old.jsonl"), "mine").unwrap();
        let all = all(desk.path()).unwrap();
        assert_eq!((all["a"].finished_unix_ms, all["b"].finished_unix_ms, all.len()), (4, 5, 2));
    }

    #[test]
    fn results_of_another_division_are_found_and_those_of_other_parts_are_not_among_them() {
        let desk = tempfile::tempdir().unwrap();
        let part = |index, of| Some(Shard { index, of });
        Ledger::open(desk.path(), part(0, 3)).unwrap().append(&line("a", 1)).unwrap();
        // A file without a line, and one of something else.
        Ledger::open(desk.path(), part(0, 2)).unwrap();
        fs::write(desk.path().join("results.old.jsonl"), "mine").unwrap();
        assert!(!has_others(desk.path(), part(0, 3)) && !has_others(desk.path(), part(1, 3)));
        assert!(has_others(desk.path(), part(1, 2)) && has_others(desk.path(), None));
        fs::remove_file(desk.path().join("results.0-of-3.jsonl")).unwrap();
        assert!(!has_others(desk.path(), part(1, 2)));
        Ledger::open(desk.path(), None).unwrap().append(&line("a", 1)).unwrap();
        assert!(has_others(desk.path(), part(1, 2)) && !has_others(desk.path(), None));
    }

    #[test]
    fn a_settled_file_is_in_the_order_of_the_list() {
        let desk = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(desk.path(), None).unwrap();
        for (id, at) in [("gone", 0), ("c", 1), ("a", 2), ("b", 3), ("a", 4)] {
            ledger.append(&line(id, at)).unwrap();
        }
        ledger.settle(&["a", "b", "c", "d"]).unwrap();
        let path = desk.path().join("results.jsonl");
        assert_eq!(ids(&path), ["a", "b", "c", "gone"]);
        assert_eq!(lines(&path).unwrap()[0].finished_unix_ms, 4);
    }

    #[test]
    fn b1_two_runs_do_not_write_one_file() {
        let desk = tempfile::tempdir().unwrap();
        let first = Ledger::open(desk.path(), None).unwrap();
        assert_eq!(Ledger::open(desk.path(), None).unwrap_err().code, "R-BAT-04");
        Ledger::open(desk.path(), Some(Shard { index: 1, of: 2 })).unwrap();
        drop(first);
        Ledger::open(desk.path(), None).unwrap();
    }

    #[test]
    fn a_file_of_something_else_is_refused_with_its_line() {
        let desk = tempfile::tempdir().unwrap();
        let path = desk.path().join("results.jsonl");
        fs::write(&path, "{\"id\": 1}\n").unwrap();
        let error = all(desk.path()).unwrap_err();
        assert_eq!(error.code, "R-BAT-06");
        assert!(error.what.contains("line 1 is not a result"), "{}", error.what);
    }
}
