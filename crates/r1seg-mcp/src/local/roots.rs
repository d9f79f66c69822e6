//! Which paths may be read.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use r1seg_results::is_whole;

use crate::Error;

/// Folders, and everything within them: links are followed first, and what they lead to counts.
#[derive(Debug, Clone)]
pub(super) struct Roots(Vec<PathBuf>);

/// Where a path leads.
enum Place {
    /// To something within a root.
    Inside(PathBuf),
    /// To nothing, but within a root.
    Missing,
    /// Elsewhere, whether there is anything or not.
    Outside,
}

impl Roots {
    /// Folders that exist.
    pub(super) fn new(folders: &[PathBuf]) -> Result<Self, Error> {
        let root = |folder: &PathBuf| {
            let root = |source| Error::Root { path: folder.clone(), source };
            let full = folder.canonicalize().map_err(root)?;
            // That it may be read is known now, and not at the first call.
            fs::read_dir(&full).map_err(root)?;
            Ok(full)
        };
        folders.iter().map(root).collect::<Result<_, _>>().map(Self)
    }

    /// The same and a folder that need not exist yet.
    pub(super) fn with(mut self, folder: PathBuf) -> Self {
        self.0.push(folder);
        self
    }

    /// All of them, as a client reads it.
    pub(super) fn listed(&self) -> String {
        match self.0.as_slice() {
            [] => "no folder".to_string(),
            [one] => one.display().to_string(),
            several => {
                let all: Vec<String> =
                    several.iter().map(|path| path.display().to_string()).collect();
                all.join(" or ")
            }
        }
    }

    /// The file or folder that a client names: absolute, or relative to a root.
    ///
    /// # Errors
    /// [`Error::Outside`] for what does not lie within a root, also where it only links to elsewhere and
    /// whether it exists or not; [`Error::Missing`] for what would lie within one.
    pub(super) fn find(&self, given: &str) -> Result<PathBuf, Error> {
        let path = Path::new(given);
        if given.is_empty() {
            return Err(Error::arguments("the path is empty", "name a file or a folder"));
        }
        let candidates: Vec<PathBuf> = match path.is_absolute() {
            true => vec![path.to_path_buf()],
            false => self.0.iter().map(|root| root.join(path)).collect(),
        };
        let mut is_missing = false;
        for candidate in candidates {
            match self.place(&candidate) {
                Place::Inside(full) if self.keeps_inside(&full) => return Ok(full),
                Place::Missing => is_missing = true,
                Place::Inside(_) | Place::Outside => {}
            }
        }
        let path = path.to_path_buf();
        match is_missing {
            true => Err(Error::Missing { path }),
            false => Err(Error::Outside { path, served: self.listed() }),
        }
    }

    fn place(&self, path: &Path) -> Place {
        let mut existing = path;
        loop {
            if let Ok(full) = existing.canonicalize() {
                return match self.contains(&full) {
                    true if existing == path => Place::Inside(full),
                    true => Place::Missing,
                    false => Place::Outside,
                };
            }
            // What cannot be followed is judged by the folder that it would be in.
            match existing.parent() {
                Some(parent) => existing = parent,
                None => return Place::Outside,
            }
        }
    }

    /// `full` has no links in it.
    fn contains(&self, full: &Path) -> bool {
        self.0.iter().any(|root| {
            // A folder that did not exist at the start may since.
            full.starts_with(root) || root.canonicalize().is_ok_and(|root| full.starts_with(root))
        })
    }

    /// Whether what is read along with a volume lies within the roots, too: the files of a folder, and those
    /// beside a header without voxels.
    fn keeps_inside(&self, full: &Path) -> bool {
        if full.is_dir() {
            return self.tree_keeps_inside(full);
        }
        is_whole(full)
            || full.parent().is_none_or(|folder| self.entries_keep_inside(folder, &mut Vec::new()))
    }

    fn tree_keeps_inside(&self, folder: &Path) -> bool {
        let mut seen = HashSet::new();
        let mut folders = vec![folder.to_path_buf()];
        while let Some(folder) = folders.pop() {
            if seen.insert(folder.clone()) && !self.entries_keep_inside(&folder, &mut folders) {
                return false;
            }
        }
        true
    }

    /// Adds the folders among the entries to `folders`, without links in their paths.
    fn entries_keep_inside(&self, folder: &Path, folders: &mut Vec<PathBuf>) -> bool {
        let Ok(entries) = fs::read_dir(folder) else { return true };
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                folders.push(entry.path());
            }
            // A broken link leads nowhere.
            let Some(full) = kind.is_symlink().then(|| entry.path().canonicalize().ok()).flatten()
            else {
                continue;
            };
            if !self.contains(&full) {
                return false;
            }
            if full.is_dir() {
                folders.push(full);
            }
        }
        true
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// `served/ct.nii` within `served`, and `secret/ct.nii` beside it.
    fn desk() -> (tempfile::TempDir, Roots) {
        let desk = tempfile::tempdir().unwrap();
        for folder in ["served", "secret"] {
            fs::create_dir(desk.path().join(folder)).unwrap();
            fs::write(desk.path().join(folder).join("ct.nii"), "x").unwrap();
        }
        let roots = Roots::new(&[desk.path().join("served")]).unwrap();
        (desk, roots)
    }

    fn code(roots: &Roots, path: impl AsRef<Path>) -> &'static str {
        roots.find(path.as_ref().to_str().unwrap()).map_or_else(|e| e.code(), |_| "found")
    }

    #[test]
    fn a_path_is_found_within_a_root_alone() {
        let (desk, roots) = desk();
        let at = |path: &str| desk.path().join(path);
        for (path, expected) in [
            ("ct.nii", "found"),
            ("./ct.nii", "found"),
            ("../served/ct.nii", "found"),
            ("absent.nii", "R-MCP-03"),
            ("absent/../../secret/ct.nii", "R-MCP-03"),
            ("ct.nii/x", "R-MCP-03"),
            ("../secret/ct.nii", "R-MCP-02"),
            ("../secret/absent.nii", "R-MCP-02"),
            ("../absent", "R-MCP-02"),
            ("..", "R-MCP-02"),
            ("/etc/passwd", "R-MCP-02"),
            ("/etc/absent", "R-MCP-02"),
            ("/", "R-MCP-02"),
            ("", "R-MCP-01"),
            ("~/ct.nii", "R-MCP-03"),
        ] {
            assert_eq!(code(&roots, path), expected, "{path}");
        }
        assert_eq!(code(&roots, at("served/ct.nii")), "found");
        assert_eq!(code(&roots, at("served/../secret/ct.nii")), "R-MCP-02");
        // A name that only begins like a root's.
        fs::create_dir(at("served2")).unwrap();
        assert_eq!(code(&roots, at("served2")), "R-MCP-02");
    }

    #[test]
    fn what_a_link_leads_to_counts() {
        let (desk, roots) = desk();
        let at = |path: &str| desk.path().join(path);
        symlink(at("secret/ct.nii"), at("served/file.nii")).unwrap();
        symlink(at("secret"), at("served/folder")).unwrap();
        symlink(at("served/ct.nii"), at("served/own.nii")).unwrap();
        symlink(at("served/round.nii"), at("served/round.nii")).unwrap();
        for (path, expected) in [
            ("file.nii", "R-MCP-02"),
            ("folder/ct.nii", "R-MCP-02"),
            ("folder/absent", "R-MCP-02"),
            ("own.nii", "found"),
            ("round.nii", "R-MCP-03"),
        ] {
            assert_eq!(code(&roots, path), expected, "{path}");
        }
    }

    #[test]
    fn a_volume_of_several_files_has_all_of_them_within_a_root() {
        let (desk, roots) = desk();
        let at = |path: &str| desk.path().join(path);
        fs::create_dir_all(at("served/study/deep")).unwrap();
        fs::write(at("served/study/1.dcm"), "x").unwrap();
        assert_eq!(code(&roots, "study"), "found");
        symlink(at("secret/ct.nii"), at("served/study/deep/2.dcm")).unwrap();
        assert_eq!(code(&roots, "study"), "R-MCP-02");
        // Also where a link within the root leads to it.
        fs::create_dir(at("served/other")).unwrap();
        symlink(at("served/study"), at("served/other/study")).unwrap();
        assert_eq!(code(&roots, "other"), "R-MCP-02");

        fs::create_dir(at("served/pair")).unwrap();
        fs::write(at("served/pair/ct.hdr"), "x").unwrap();
        symlink(at("secret/ct.nii"), at("served/pair/ct.img")).unwrap();
        assert_eq!(code(&roots, "pair/ct.hdr"), "R-MCP-02");
    }

    #[test]
    fn a_root_is_a_folder_that_exists() {
        let (desk, _) = desk();
        for path in ["absent", "served/ct.nii"] {
            assert_eq!(Roots::new(&[desk.path().join(path)]).unwrap_err().code(), "R-MCP-08");
        }
    }
}
