use std::collections::BTreeSet;

use crate::error::Detail;
use crate::{DownloadOptions, Error, ModelId, listing::Listing};

/// Small files that r1seg or a reader of the model needs, by name without case.
const COMPANIONS: &[&str] = &[
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
];
/// Files with the terms of use, likewise.
const STATEMENTS: &[&str] =
    &["license", "license.txt", "license.md", "notice", "notice.txt", "readme.md"];
/// How the names of indexes of shards end, of safetensors and of pickles.
const INDEXES: [&str; 2] = [".safetensors.index.json", ".bin.index.json"];
/// What a training leaves beside the weights.
const TRAINING: &[&str] = &["training_args", "optimizer", "scheduler", "rng_state", "scaler"];

/// Whether a name is one of a kind.
type IsNamed = fn(&str) -> bool;

/// The files of `listing` to download.
///
/// Without patterns of the caller: the [`COMPANIONS`], the [`STATEMENTS`] and the weights at the top of
/// the repository, where pickles count only if there are no safetensors, and Lightning's `.ckpt` only
/// if there is nothing else: beside a model it is an encoder or a step of its training. A repository
/// that keeps its weights in a folder, and has none at its top, is that folder and the statements.
/// Python files are never downloaded.
pub(crate) fn select(
    id: &ModelId,
    listing: &Listing,
    options: &DownloadOptions,
) -> Result<BTreeSet<String>, Error> {
    let all = || listing.files.iter().map(|file| file.name.as_str());
    let [of_safetensors, of_pickles] = INDEXES;
    let kinds: [(IsNamed, &str); 3] =
        [(is_safetensors, of_safetensors), (is_model_pickle, of_pickles), (is_pickle, of_pickles)];
    let home = home(all());
    let kind = kinds.iter().find(|(is, _)| all().filter_map(|name| within(home, name)).any(is));
    let is_weights = |name: &str| kind.is_some_and(|(is, index)| is(name) || name.ends_with(index));
    let wanted = |name: &str| match &options.allow {
        Some(patterns) => patterns.iter().any(|pattern| matches(pattern, name)),
        None => {
            let belongs = |name: &str| {
                is_one_of(COMPANIONS, name) || is_one_of(STATEMENTS, name) || is_weights(name)
            };
            is_one_of(STATEMENTS, name) || within(home, name).is_some_and(belongs)
        }
    };
    let ignored = |name: &str| options.ignore.iter().any(|pattern| matches(pattern, name));
    let chosen: BTreeSet<String> = all()
        .filter(|name| wanted(name) && !ignored(name) && !is_code(name))
        .map(str::to_owned)
        .collect();
    let has_weights = chosen.iter().any(|name| is_safetensors(name) || is_pickle(name));
    if options.allow.is_none() && !has_weights {
        return Err(Detail::NoWeights { id: Box::new(id.clone()) }.into());
    }
    Ok(chosen)
}

fn is_top(name: &str) -> bool {
    !name.contains('/')
}

/// The name of a file without the folder, of which it must be one.
fn within<'a>(folder: &str, name: &'a str) -> Option<&'a str> {
    name.strip_prefix(folder).filter(|name| is_top(name))
}

fn is_one_of(known: &[&str], name: &str) -> bool {
    known.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Where the weights among these files are: at the top, which is nowhere else, or in a folder of it,
/// the only one with weights, named with its slash.
pub(crate) fn home<'a>(names: impl Iterator<Item = &'a str>) -> &'a str {
    let folder_of_weights = |name: &'a str| {
        let (folder, file) = name.split_at(name.rfind('/').map_or(0, |slash| slash + 1));
        let is_index = INDEXES.iter().any(|index| file.ends_with(index));
        (is_safetensors(file) || is_pickle(file) || is_index).then_some(folder)
    };
    let folders: BTreeSet<&str> = names.filter_map(folder_of_weights).collect();
    match folders.first() {
        Some(only) if folders.len() == 1 && only.matches('/').count() == 1 => only,
        _ => "",
    }
}

pub(crate) fn is_safetensors(name: &str) -> bool {
    name.ends_with(".safetensors")
}

/// Whether a name is that of pickled weights, and not of what a training leaves beside them.
pub(crate) fn is_pickle(name: &str) -> bool {
    is_model_pickle(name) || name.ends_with(".ckpt")
}

/// As [`is_pickle`], but for what Lightning saves.
fn is_model_pickle(name: &str) -> bool {
    [".bin", ".pth", ".pt"].iter().any(|end| name.ends_with(end))
        && !TRAINING.iter().any(|prefix| name.starts_with(prefix))
}

/// Code of the repository, which r1seg never runs and so never fetches.
fn is_code(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [".py", ".pyc", ".pyi", ".so", ".dll", ".dylib", ".exe", ".sh"]
        .iter()
        .any(|end| name.ends_with(end))
}

/// Shell patterns as Python's `fnmatch`: `*` is any text, also with slashes, `?` any character.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where the last `*` stands, and how much of the name it takes.
    let mut star: Option<(usize, usize)> = None;
    while let Some(c) = name.get(n) {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(x) if *x == '?' || x == c => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listing::RemoteFile;

    fn chosen(names: &[&str], options: &DownloadOptions) -> Result<Vec<String>, Error> {
        let file = |name: &&str| RemoteFile { name: (*name).into(), size: None, digest: None };
        let files = names.iter().map(file).collect();
        let listing = Listing { commit: String::new(), files, wanted: BTreeSet::new() };
        let id = ModelId::parse("BAAI/SegVol").unwrap();
        Ok(select(&id, &listing, options)?.into_iter().collect())
    }

    #[test]
    fn w11_safetensors_and_companions_are_chosen_and_code_never() {
        let names = [
            ".gitattributes",
            "LICENSE",
            "README.md",
            "added_tokens.json",
            "config.json",
            "configuration_m3d_lamed.py",
            "generation_config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.bin",
            "model.safetensors.index.json",
            "modeling_m3d_lamed.py",
            "onnx/model.safetensors",
            "pretrained_ViT.bin",
            "tokenizer.model",
        ];
        let expected = [
            "LICENSE",
            "README.md",
            "added_tokens.json",
            "config.json",
            "generation_config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "tokenizer.model",
        ];
        assert_eq!(chosen(&names, &DownloadOptions::default()).unwrap(), expected);
        let everything = DownloadOptions { allow: Some(vec!["*".into()]), ..Default::default() };
        let all = chosen(&names, &everything).unwrap();
        assert_eq!(all.len(), names.len() - 2);
        assert!(all.iter().all(|name| !name.ends_with(".py")));
    }

    #[test]
    fn pickles_are_chosen_where_there_are_no_safetensors() {
        let names =
            ["config.json", "pytorch_model.bin", "SegVol_v1.pth", "training_args.bin", "x.npy"];
        let expected = ["SegVol_v1.pth", "config.json", "pytorch_model.bin"];
        assert_eq!(chosen(&names, &DownloadOptions::default()).unwrap(), expected);
        let ignore = DownloadOptions { ignore: vec!["*.pth".into()], ..Default::default() };
        assert_eq!(chosen(&names, &ignore).unwrap(), ["config.json", "pytorch_model.bin"]);
        // Of an encoder, and of a model that has nothing else.
        let beside = ["config.json", "pytorch_model.bin", "vit_pretrain.ckpt"];
        let expected = ["config.json", "pytorch_model.bin"];
        assert_eq!(chosen(&beside, &DownloadOptions::default()).unwrap(), expected);
        let alone = ["README.md", "last.ckpt", "optimizer.pt", "x.npy"];
        assert_eq!(
            chosen(&alone, &DownloadOptions::default()).unwrap(),
            ["README.md", "last.ckpt"]
        );
        let none = chosen(&["config.json", "a.py"], &DownloadOptions::default());
        assert_eq!(none.unwrap_err().code(), "R-HUB-25");
    }

    #[test]
    fn a_repository_with_its_weights_in_a_folder_is_that_folder() {
        let names = [
            "LICENSE",
            "README.md",
            "config.json",
            "scripts/evaluator.py",
            "weights/README.md",
            "weights/config.json",
            "weights/model.pt",
            "weights/model.safetensors",
            "weights/old/model.safetensors.txt",
            "weights/optimizer.pt",
        ];
        let pickle = ["LICENSE", "README.md", "weights/README.md", "weights/config.json"];
        let chosen = |names: &[&str]| chosen(names, &DownloadOptions::default());
        let expected = [&pickle[..], &["weights/model.safetensors"]].concat();
        assert_eq!(chosen(&names).unwrap(), expected);
        let names: Vec<&str> =
            names.into_iter().filter(|name| !name.ends_with(".safetensors")).collect();
        assert_eq!(chosen(&names).unwrap(), [&pickle[..], &["weights/model.pt"]].concat());
        // With two folders, or two levels down, it is not clear which is meant.
        for other in ["other/pytorch_model.bin", "weights/deep/model.bin"] {
            let error = chosen(&[&names[..], &[other]].concat()).unwrap_err();
            assert_eq!(error.code(), "R-HUB-25", "{other}");
        }
        assert_eq!(chosen(&["a/b/model.bin"]).unwrap_err().code(), "R-HUB-25");
        // Beside a model at the top, a folder is something else.
        assert_eq!(chosen(&["model.bin", "a/model.safetensors"]).unwrap(), ["model.bin"]);
    }

    #[test]
    fn patterns_are_those_of_fnmatch() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*.bin", "a/b.bin", true),
            ("*.bin", "a.bin.x", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a*b*c", "aXbXbXc", true),
            ("", "a", false),
            ("ab", "abc", false),
            ("*a*a*a*a*a*a*a*b", &"a".repeat(900), false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
