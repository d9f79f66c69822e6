//! The volumes of a batch: from a list or from the command line, each with an id.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use r1seg_results::ids;

use super::manifest;
use super::row::{Asks, Which};
use crate::args::{BatchArgs, Shard};
use crate::candidates;
use crate::codes::Code;
use crate::exit::CliError;

/// A volume of a batch, and what it is asked for.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) id: String,
    pub(super) image: PathBuf,
    /// Of its results, relative to that of the batch.
    pub(super) folder: PathBuf,
    /// Of the list, from 1; `None` on the command line.
    pub(super) line: Option<u64>,
    pub(super) asks: Asks,
    pub(super) which: Which,
}

impl Item {
    /// Whether it is in a part of the batch.
    pub(super) fn is_in(&self, shard: Option<Shard>) -> bool {
        shard.is_none_or(|shard| shard.has(&self.id))
    }
}

/// All volumes in their order. What has no prompts of its own is asked for `defaults`.
pub(super) fn all(args: &BatchArgs, defaults: &Asks) -> Result<Vec<Item>, CliError> {
    let mut items = match &args.manifest {
        Some(list) => listed(list)?,
        None => given(&args.inputs)?,
    };
    name(&mut items);
    check_ids(&items, args.manifest.as_deref())?;
    for item in &mut items {
        if item.asks.is_empty() {
            let labels = std::mem::take(&mut item.asks.labels);
            item.asks = Asks { labels, ..defaults.clone() };
        }
        if item.asks.is_empty() {
            let what = "this volume has no prompt".to_owned();
            return Err(match (&args.manifest, item.line) {
                (Some(list), line) => manifest::wrong(list, line, what),
                (None, _) => CliError::new(Code::Arguments, what)
                    .at(&item.image)
                    .fix("say it for all: --prompt TEXT, --text TEXT or --organ NAME"),
            });
        }
    }
    Ok(items)
}

fn item(image: PathBuf) -> Item {
    Item {
        id: String::new(),
        image,
        folder: PathBuf::new(),
        line: None,
        asks: Asks::default(),
        which: Which::default(),
    }
}

fn listed(list: &Path) -> Result<Vec<Item>, CliError> {
    let rows = manifest::read(list)?.into_iter();
    let item = |listed: manifest::Listed| Item {
        id: listed.row.id.unwrap_or_default(),
        line: Some(listed.line),
        asks: listed.row.asks,
        which: listed.row.which,
        ..item(listed.row.image)
    };
    Ok(rows.map(item).collect())
}

/// Files as they are, folders as the volumes in them, and patterns as what they find.
fn given(inputs: &[PathBuf]) -> Result<Vec<Item>, CliError> {
    let mut paths = Vec::new();
    for input in inputs {
        // Something of that name may be there.
        match input.to_str().filter(|text| !input.exists() && text.contains(['*', '?', '['])) {
            Some(pattern) => paths.extend(found(pattern)?),
            None => paths.push(input.clone()),
        }
    }
    let mut items = Vec::new();
    for path in paths {
        let mut found = candidates::expand(std::slice::from_ref(&path));
        // A list with a hole would leave volumes out, and nobody would know.
        if let Some(fault) = found.faults.pop() {
            return Err(fault);
        }
        let within = path.is_dir();
        items.extend(found.paths.into_iter().map(|image| {
            // In a folder the path from there is the id, which other volumes do not change.
            let id = match image.strip_prefix(&path) {
                Ok(rest) if within && !rest.as_os_str().is_empty() => ids::within(rest, &image),
                _ => String::new(),
            };
            Item { id, ..item(image) }
        }));
    }
    Ok(items)
}

fn found(pattern: &str) -> Result<Vec<PathBuf>, CliError> {
    let wrong = |what: String| {
        CliError::new(Code::Pattern, what)
            .at(pattern)
            .fix("`*` stands for any name, `**` for any folders")
    };
    let paths =
        glob::glob(pattern).map_err(|e| wrong(format!("it is not a pattern: {}", e.msg)))?;
    let paths: Result<Vec<PathBuf>, _> = paths.collect();
    let paths = paths
        .map_err(|e| wrong(format!("`{}` cannot be read: {}", e.path().display(), e.error())))?;
    match paths.is_empty() {
        true => Err(wrong("nothing is found by this pattern".to_owned())),
        false => Ok(paths),
    }
}

/// Gives ids to those that have none, and folders to all.
fn name(items: &mut [Item]) {
    let known: Vec<&str> =
        items.iter().map(|item| item.id.as_str()).filter(|id| !id.is_empty()).collect();
    let unnamed: Vec<usize> = (0..items.len()).filter(|n| items[*n].id.is_empty()).collect();
    let paths: Vec<&Path> = unnamed.iter().map(|n| items[*n].image.as_path()).collect();
    let ids = ids::of_paths(&paths, &known);
    for (n, id) in unnamed.into_iter().zip(ids) {
        items[n].id = id;
    }
    items.iter_mut().for_each(|item| item.folder = ids::folder(&item.id));
}

fn check_ids(items: &[Item], list: Option<&Path>) -> Result<(), CliError> {
    let mut seen: HashMap<&str, &Item> = HashMap::with_capacity(items.len());
    for item in items {
        let Some(first) = seen.insert(&item.id, item) else { continue };
        let error = match (list, first.line, item.line) {
            (Some(list), Some(first), Some(second)) => {
                let what =
                    format!("line {second}: the id `{}` is that of line {first}, too", item.id);
                CliError::new(Code::SameId, what).at(list)
            }
            _ => CliError::new(Code::SameId, format!("the id `{}` is given twice", item.id))
                .at(&item.image),
        };
        return Err(error.fix("give every volume an id of its own, and each of them once"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(desk: &Path, names: &[&str]) {
        for name in names {
            let path = desk.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
    }

    fn named(inputs: &[PathBuf]) -> Result<Vec<String>, CliError> {
        let mut items = given(inputs)?;
        name(&mut items);
        check_ids(&items, None)?;
        Ok(items.into_iter().map(|item| item.id).collect())
    }

    #[test]
    fn a_folder_gives_ids_that_no_other_volume_changes() {
        let desk = tempfile::tempdir().unwrap();
        touch(desk.path(), &["in/p1/ct.nii.gz", "in/p2/ct.nii", "in/b.npy", "in/series/1.dcm"]);
        let ids = named(&[desk.path().join("in")]).unwrap();
        assert_eq!(ids, ["b", "p1/ct", "p2/ct", "series"]);
        // A study that is given itself has its own name.
        assert_eq!(named(&[desk.path().join("in/series")]).unwrap(), ["series"]);
        // Beside others of the same path in their folders.
        touch(desk.path(), &["other/p1/ct.nii"]);
        let error = named(&[desk.path().join("in"), desk.path().join("other")]).unwrap_err();
        assert_eq!(error.code, "R-BAT-03");
    }

    #[test]
    fn patterns_are_expanded_and_refused_where_they_find_nothing() {
        let desk = tempfile::tempdir().unwrap();
        touch(desk.path(), &["p1/ct.nii", "p2/ct.nii", "p2/mr.nii", "odd[1].nii"]);
        assert_eq!(named(&[desk.path().join("*/ct.nii")]).unwrap(), ["p1/ct", "p2/ct"]);
        assert_eq!(named(&[desk.path().join("odd[1].nii")]).unwrap(), ["odd[1]"]);
        for pattern in ["*/pet.nii", "a[", "**x"] {
            assert_eq!(
                named(&[desk.path().join(pattern)]).unwrap_err().code,
                "R-BAT-11",
                "{pattern}"
            );
        }
    }

    #[test]
    fn ids_that_are_given_twice_are_refused_with_both_lines() {
        let desk = tempfile::tempdir().unwrap();
        let list = desk.path().join("list.jsonl");
        std::fs::write(&list, "{\"image\": \"a.nii\"}\n\n{\"id\": \"b\", \"image\": \"x\"}\n{\"id\": \"b\", \"image\": \"y\"}\n")
            .unwrap();
        let mut items = listed(&list).unwrap();
        name(&mut items);
        assert_eq!(items[0].id, "a");
        let error = check_ids(&items, Some(&list)).unwrap_err();
        assert!(error.what.contains("line 4: the id `b` is that of line 3"), "{}", error.what);
    }

    #[test]
    fn parts_have_every_volume_once() {
        for of in [1, 3, 7] {
            for n in 0..100 {
                let item = Item { id: format!("case{n}"), ..item(PathBuf::new()) };
                let parts = (0..of).filter(|index| item.is_in(Some(Shard { index: *index, of })));
                assert_eq!(parts.count(), 1);
            }
        }
    }
}
