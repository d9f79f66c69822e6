//! The rules of the repository that no compiler checks.
//!
//! - `manifests`: which crate may depend on which, and what every manifest must say.
//! - `sources`: how long a file may be, where `unsafe` and printing may stand, and that libraries
//!   name no flag of the command line.
//! - `errors`: that an error code is not given twice, and that `docs/errors.md` lists all of them.
//! - `faults`: that tests and the list of faults name the same rows.
//! - `documents`: that README, CHANGELOG and CI speak of the code as it is.
//!
//! Each test collects all violations before it fails.

use std::error::Error;
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

mod documents;
mod errors;
mod faults;
mod manifests;
mod sources;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The text of a file, whose path is given from the root.
fn read(path: &str) -> Result<String> {
    fs::read_to_string(root().join(path)).map_err(|e| format!("{path}: {e}").into())
}

/// Fails with the rule and everything that breaks it.
fn assert_none<V: Display>(rule: &str, violations: &[V]) {
    let list: String = violations.iter().map(|v| format!("\n  {v}")).collect();
    assert!(violations.is_empty(), "{rule}{list}");
}

/// All files that git tracks or would track, as paths from the root with `/`.
///
/// Without git, as in an unpacked archive, all files outside of build folders.
fn tracked_files() -> Result<Vec<String>> {
    let listing = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output();
    let mut files = match listing {
        Ok(output) if output.status.success() => {
            String::from_utf8(output.stdout)?.split_terminator('\0').map(str::to_owned).collect()
        }
        _ => walk()?,
    };
    // A file that is deleted but not yet committed is still listed.
    files.retain(|path| root().join(path).is_file());
    files.sort();
    files.dedup();
    assert!(files.iter().any(|path| path == "Cargo.toml"), "the list of files is wrong");
    Ok(files)
}

fn walk() -> Result<Vec<String>> {
    let (mut files, mut folders) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder))? {
            let entry = entry?;
            let name = entry.file_name();
            let path = folder.join(&name);
            if !entry.file_type()?.is_dir() {
                let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
                files.push(parts.join("/"));
            } else if name != ".git" && name != "target" {
                folders.push(path);
            }
        }
    }
    Ok(files)
}

/// The tracked files with this extension, with their texts.
fn tracked_texts(extension: &str) -> Result<Vec<(String, String)>> {
    let has_extension =
        |path: &String| Path::new(path).extension().is_some_and(|found| found == extension);
    let paths = tracked_files()?.into_iter().filter(has_extension);
    paths.map(|path| read(&path).map(|text| (path, text))).collect()
}
