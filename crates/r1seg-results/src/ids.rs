//! Ids of volumes: made of names where none are given, and turned into names of folders.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use r1seg::files::sha256_of;

use crate::study_name;

/// The longest name of a folder that is made of an id; file systems take 255 bytes.
const MAX_NAME: usize = 200;
/// Names that Windows keeps for devices.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "com", "lpt"];

/// The folder of an id, relative to that of the results: `aa/bb/NAME`, where `aa` and `bb` are the first
/// four digits of its SHA-256, so that no folder grows too large to be listed.
pub fn folder(id: &str) -> PathBuf {
    let hash = sha256_of(id.as_bytes());
    Path::new(&hash[..2]).join(&hash[2..4]).join(name(id, &hash))
}

/// A number that is the same on all machines, from which the part of a batch follows: the first eight
/// bytes of the id's SHA-256, the first one the most significant.
pub fn number(id: &str) -> u64 {
    let hash = sha256_of(id.as_bytes());
    u64::from_str_radix(&hash[..16], 16).unwrap_or_default()
}

/// An id as a name that every file system takes, different for different ids: what may not be in one is
/// written as `%2F`, and a long one ends in a part of its hash.
fn name(id: &str, hash: &str) -> String {
    let is_kept =
        |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '+' | '=' | '@' | ',');
    let mut name = String::with_capacity(id.len());
    for (at, c) in id.char_indices() {
        // A dot at the start hides a folder, and Windows drops one at the end.
        let is_dot_at_end = c == '.' && (at == 0 || at + 1 == id.len());
        if is_kept(c) && !is_dot_at_end {
            name.push(c);
            continue;
        }
        let mut bytes = [0; 4];
        for byte in c.encode_utf8(&mut bytes).bytes() {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    let lower = name.to_ascii_lowercase();
    let stem = lower.split('.').next().unwrap_or_default();
    if DEVICES.contains(&stem.trim_end_matches(|c: char| c.is_ascii_digit())) {
        name.push('%');
    }
    if name.len() > MAX_NAME {
        let end = (0..=MAX_NAME).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
        name.truncate(end);
        name.push_str(&format!("~{}", &hash[..16]));
    }
    name
}

/// Ids for volumes that have none: the name of the file or folder without its ending and, where several
/// would be the same, with as many of the folders around them as tell them apart. `known` are ids that
/// others have.
pub fn of_paths(paths: &[&Path], known: &[&str]) -> Vec<String> {
    let parts: Vec<Vec<String>> = paths.iter().map(|path| parts(path)).collect();
    let mut depth = vec![1; paths.len()];
    loop {
        let ids: Vec<String> =
            parts.iter().zip(&depth).map(|(parts, depth)| last(parts, *depth)).collect();
        let mut counts: HashMap<&str, usize> = known.iter().map(|id| (*id, 1)).collect();
        ids.iter().for_each(|id| *counts.entry(id).or_default() += 1);
        let is_same = |n: &usize| counts.get(ids[*n].as_str()).is_some_and(|count| *count > 1);
        let longer: Vec<usize> =
            (0..ids.len()).filter(|n| is_same(n) && depth[*n] < parts[*n].len()).collect();
        if longer.is_empty() {
            // Two files that differ in their endings alone, or one that is given twice.
            let whole = |n: usize| {
                format!("{}-{}", ids[n], &sha256_of(paths[n].as_os_str().as_encoded_bytes())[..8])
            };
            return (0..ids.len())
                .map(|n| if is_same(&n) { whole(n) } else { ids[n].clone() })
                .collect();
        }
        longer.into_iter().for_each(|n| depth[n] += 1);
    }
}

/// The id of a volume in a folder: the path from there, without its ending.
pub fn within(rest: &Path, image: &Path) -> String {
    named(rest, image).join("/")
}

/// The folders of a path, from the root on, and its name without ending.
fn parts(path: &Path) -> Vec<String> {
    // As given: a link has a name and a place of its own.
    let full = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    match named(&full, path) {
        parts if parts.is_empty() => vec!["volume".to_owned()],
        parts => parts,
    }
}

/// The names that `path` is made of, the last one without the ending that belongs to a file.
fn named(path: &Path, image: &Path) -> Vec<String> {
    let text = |name: &OsStr| name.to_string_lossy().into_owned();
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name),
        _ => None,
    });
    let mut parts: Vec<String> = names.map(text).collect();
    if let Some(last) = parts.last_mut().filter(|_| !image.is_dir()) {
        *last = text(&study_name(OsStr::new(last.as_str())));
    }
    parts
}

fn last(parts: &[String], depth: usize) -> String {
    parts[parts.len().saturating_sub(depth)..].join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(paths: &[&str], known: &[&str]) -> Vec<String> {
        of_paths(&paths.iter().map(Path::new).collect::<Vec<_>>(), known)
    }

    #[test]
    fn names_tell_volumes_apart_and_folders_where_names_do_not() {
        assert_eq!(ids(&["/no/a.nii.gz", "/no/b.npy", "/no/c"], &[]), ["a", "b", "c"]);
        let found = ids(&["/no/p1/ct.nii", "/no/p2/ct.nii", "/no/p2/mr.nii"], &[]);
        assert_eq!(found, ["p1/ct", "p2/ct", "mr"]);
        assert_eq!(ids(&["/no/x/p/ct.nii", "/no/y/p/ct.nii"], &[]), ["x/p/ct", "y/p/ct"]);
        assert_eq!(ids(&["/no/p1/ct.nii"], &["ct"]), ["p1/ct"]);
        let same = ids(&["/no/ct.nii", "/no/ct.nrrd"], &[]);
        assert!(same[0] != same[1] && same.iter().all(|id| id.starts_with("no/ct-")), "{same:?}");
        // One of them given twice keeps one id, which is refused elsewhere.
        let twice = ids(&["/no/ct.nii", "/no/ct.nii"], &[]);
        assert_eq!(twice[0], twice[1]);
    }

    #[test]
    fn a_folder_has_a_name_that_every_file_system_takes() {
        let name = |id: &str| folder(id).file_name().unwrap().to_str().unwrap().to_owned();
        for (id, expected) in [
            ("case_1.5-a", "case_1.5-a"),
            ("p1/ct", "p1%2Fct"),
            ("..", "%2E%2E"),
            (".hidden", "%2Ehidden"),
            ("a b\n", "a%20b%0A"),
            ("100%", "100%25"),
            ("Größe", "Größe"),
            ("CON", "CON%"),
            ("com1.x", "com1.x%"),
            ("a\\b:c*d", "a%5Cb%3Ac%2Ad"),
        ] {
            assert_eq!(name(id), expected, "{id:?}");
        }
        let long = ["x".repeat(5000), "é".repeat(5000)];
        assert!(long.iter().all(|id| name(id).len() <= MAX_NAME + 17));
        assert_ne!(name(&long[0]), name(&format!("{}y", long[0])));
        assert_eq!(folder("a").iter().count(), 3);
    }

    #[test]
    fn the_number_of_an_id_is_the_same_everywhere() {
        // The first 16 digits that `printf %s abc | sha256sum` prints.
        assert_eq!(number("abc"), 0xba78_16bf_8f01_cfea);
        assert_eq!(folder("abc"), Path::new("ba/78/abc"));
    }
}
