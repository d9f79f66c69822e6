//! What tells whether a result is still that of its model, input and prompts.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use r1seg::CheckpointSource;
use r1seg::checkpoint::{MANIFEST, MAX_MANIFEST_BYTES};
use r1seg::files::{sha256_of, sha256_of_file};
use r1seg_results::companions;

use super::line::Fingerprint;

/// Files of a model up to this size are hashed whole; of larger ones the start, which has the headers of
/// weights, and the length.
const MAX_HASHED: u64 = 64 << 20;
/// Of the start of a larger one.
const START: u64 = 16 << 20;
/// A file that changed so shortly before it was hashed may have changed again within the same tick of its
/// clock.
const RACY_NS: u64 = 2_000_000_000;

/// The hash of a model: of the manifest of a converted folder, which holds the hashes of all files, or else
/// of names, lengths and contents, of large files only the start.
///
/// # Errors
/// The error of the operating system.
pub(crate) fn of_model(source: &CheckpointSource) -> io::Result<String> {
    let mut list = String::new();
    match source {
        CheckpointSource::Embedded(files) => {
            for (name, bytes) in *files {
                list.push_str(&entry(name, bytes.len() as u64, &sha256_of(bytes)));
            }
        }
        CheckpointSource::Folder(folder) => {
            if let Ok(manifest) = r1seg::files::read(&folder.join(MANIFEST), MAX_MANIFEST_BYTES) {
                return Ok(sha256_of(&manifest));
            }
            for path in files_of(folder)?.into_iter().filter(|path| path.parent() == Some(folder)) {
                let bytes = path.metadata()?.len();
                let hash = match bytes > MAX_HASHED {
                    true => sha256_of_start(&path)?,
                    false => sha256_of_file(&path)?,
                };
                list.push_str(&entry(&relative(&path, folder), bytes, &hash));
            }
        }
    }
    Ok(sha256_of(list.as_bytes()))
}

fn sha256_of_start(path: &Path) -> io::Result<String> {
    use std::io::Read;
    let mut start = Vec::new();
    std::fs::File::open(path)?.take(START).read_to_end(&mut start)?;
    Ok(sha256_of(&start))
}

/// The files that an input is made of.
#[derive(Debug)]
pub(super) struct InputFiles {
    /// The folder that names are relative to.
    root: PathBuf,
    is_folder: bool,
    files: Vec<PathBuf>,
    bytes: u64,
    modified_ns: u64,
}

impl InputFiles {
    /// Of a file, of a folder with all that is in it, or of a header with its voxels beside it.
    ///
    /// # Errors
    /// The error of the operating system.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let is_folder = path.is_dir();
        let (root, mut files) = match is_folder {
            true => (path.to_path_buf(), files_of(path)?),
            false => {
                let others = companions(path).into_iter().filter(|other| other != path);
                let files = std::iter::once(path.to_path_buf()).chain(others);
                (r1seg_results::parent(path).to_path_buf(), files.collect())
            }
        };
        files.sort();
        let (mut bytes, mut modified_ns) = (0, 0);
        for file in &files {
            let metadata = file.metadata()?;
            bytes += metadata.len();
            modified_ns = modified_ns.max(modified(&metadata));
        }
        Ok(Self { root, is_folder, files, bytes, modified_ns })
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether nothing has changed since `known` was made at `finished_ns`, as far as sizes and times tell.
    pub(super) fn look_like(&self, known: &Fingerprint, finished_ns: u64) -> bool {
        let is_settled = known.modified_ns.saturating_add(RACY_NS) < finished_ns;
        is_settled && (self.bytes, self.modified_ns) == (known.bytes, known.modified_ns)
    }

    /// With the hash, which `known` gives where somebody has hashed the one file already.
    ///
    /// # Errors
    /// The error of the operating system.
    pub(super) fn fingerprint(&self, known: Option<String>) -> io::Result<Fingerprint> {
        let sha256 = match (&self.files[..], known) {
            (_, Some(known)) => known,
            ([file], None) if !self.is_folder => sha256_of_file(file)?,
            (files, None) => {
                let mut list = String::new();
                for file in files {
                    let bytes = file.metadata()?.len();
                    list.push_str(&entry(
                        &relative(file, &self.root),
                        bytes,
                        &sha256_of_file(file)?,
                    ));
                }
                sha256_of(list.as_bytes())
            }
        };
        Ok(Fingerprint { sha256, bytes: self.bytes, modified_ns: self.modified_ns })
    }
}

/// A line that no other file has.
fn entry(name: &str, bytes: u64, sha256: &str) -> String {
    format!("{name}\0{bytes}\0{sha256}\n")
}

fn relative(path: &Path, root: &Path) -> String {
    let rest = path.strip_prefix(root).unwrap_or(path);
    rest.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// All regular files below a folder, sorted.
fn files_of(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            // Of the entry itself: a link to a folder above would lead in circles.
            match entry.file_type()? {
                kind if kind.is_dir() => folders.push(entry.path()),
                _ if entry.path().is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Nanoseconds since 1970.
fn modified(metadata: &Metadata) -> u64 {
    let since = metadata.modified().unwrap_or(UNIX_EPOCH).duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn fingerprint(path: &Path) -> Fingerprint {
        InputFiles::of(path).unwrap().fingerprint(None).unwrap()
    }

    #[test]
    fn the_hash_of_a_folder_is_that_of_names_and_contents() {
        let desk = tempfile::tempdir().unwrap();
        let folder = desk.path().join("series");
        fs::create_dir_all(folder.join("sub")).unwrap();
        fs::write(folder.join("1.dcm"), "a").unwrap();
        let one = fingerprint(&folder);
        fs::write(folder.join("sub/2.dcm"), "b").unwrap();
        let two = fingerprint(&folder);
        fs::rename(folder.join("sub/2.dcm"), folder.join("3.dcm")).unwrap();
        let three = fingerprint(&folder);
        fs::write(folder.join("3.dcm"), "c").unwrap();
        let four = fingerprint(&folder);
        let hashes = [one.sha256, two.sha256, three.sha256, four.sha256];
        assert!((1..4).all(|n| !hashes[..n].contains(&hashes[n])), "{hashes:?}");
        assert_eq!((one.bytes, four.bytes), (1, 2));
    }

    #[test]
    fn the_hash_of_a_file_is_its_own_and_of_a_header_that_of_both() {
        let desk = tempfile::tempdir().unwrap();
        let path = |name: &str| desk.path().join(name);
        fs::write(path("a.nii"), "abc").unwrap();
        assert_eq!(fingerprint(&path("a.nii")).sha256, sha256_of(b"abc"));
        fs::write(path("b.hdr"), "abc").unwrap();
        fs::write(path("b.img"), "1").unwrap();
        let first = fingerprint(&path("b.hdr"));
        fs::write(path("b.img"), "2").unwrap();
        assert_ne!(fingerprint(&path("b.hdr")).sha256, first.sha256);
        assert_eq!(first.bytes, 4);
    }

    #[test]
    fn sizes_and_times_tell_what_need_not_be_hashed() {
        let desk = tempfile::tempdir().unwrap();
        let path = desk.path().join("a.nii");
        fs::write(&path, "abc").unwrap();
        let known = fingerprint(&path);
        let files = InputFiles::of(&path).unwrap();
        let later = known.modified_ns + 2 * RACY_NS;
        assert!(files.look_like(&known, later));
        // It may have changed again since.
        assert!(!files.look_like(&known, known.modified_ns + 1));
        fs::write(&path, "abcd").unwrap();
        assert!(!InputFiles::of(&path).unwrap().look_like(&known, later));
    }

    #[test]
    fn another_model_has_another_hash() {
        let desk = tempfile::tempdir().unwrap();
        let source = CheckpointSource::Folder(desk.path().to_path_buf());
        let hash = || of_model(&source).unwrap();
        fs::write(desk.path().join("config.json"), "{}").unwrap();
        let first = hash();
        fs::write(desk.path().join("model.safetensors"), "weights").unwrap();
        let second = hash();
        fs::write(desk.path().join("model.safetensors"), "Weights").unwrap();
        let third = hash();
        fs::write(desk.path().join(MANIFEST), "[]").unwrap();
        let fourth = hash();
        assert_eq!(fourth, sha256_of(b"[]"));
        assert!(first != second && second != third && third != fourth);
        assert_ne!(of_model(&CheckpointSource::demo()).unwrap(), first);
    }
}
