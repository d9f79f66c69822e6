//! The vocabulary of a GPT-2 tokenizer with the tokens that R1Seg's relatives add to it.
//!
//! HSENet's authors load Phi-4-mini's tokenizer with `use_fast=False`: `vocab.json` and `merges.txt`, split as
//! GPT-2 splits words. The `tokenizer.json` beside them splits in another way, and gives other ids wherever
//! punctuation precedes a word. So another one is written.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::Error;
use crate::pickle::sanitize;
use crate::source::{json as text_of, read_small};

/// What is added, in this order; all but the last are special.
const ADDED: [&str; 4] = ["<im_patch>", "<bx_start>", "<bx_end>", "[SEG]"];

/// The ids of the tokens that are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewTokens {
    first: u64,
}

impl NewTokens {
    /// The first id, which is how many tokens there were.
    pub fn first(self) -> u64 {
        self.first
    }

    /// How many there are.
    pub fn count(self) -> u64 {
        ADDED.len() as u64
    }

    /// The id of the placeholder of an image.
    pub fn image(self) -> u64 {
        self.first
    }

    /// The id of `[SEG]`.
    pub fn seg(self) -> u64 {
        self.first + self.count() - 1
    }
}

/// The files of a GPT-2 tokenizer.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    pieces: Map<String, Value>,
    merges: Vec<Value>,
    /// By id: text, and whether it is special.
    added: BTreeMap<u64, (String, bool)>,
    config: Map<String, Value>,
    special: Map<String, Value>,
    first_new: u64,
}

impl Vocabulary {
    /// Reads a folder that holds `vocab.json` and `merges.txt`, or a `tokenizer.json` with both.
    ///
    /// # Errors
    /// [`Error::Config`] for files of another kind of tokenizer, or ids with gaps.
    pub(crate) fn read(folder: &Path) -> Result<Self, Error> {
        let wrong = |what: String| Error::Config { path: folder.to_owned(), what };
        let fast: Option<Value> = read(&folder.join("tokenizer.json"))?;
        let model = fast.as_ref().and_then(|fast| fast.get("model"));
        let pieces = match read(&folder.join("vocab.json"))? {
            Some(pieces) => Some(pieces),
            None => model.and_then(|model| model.get("vocab")?.as_object().cloned()),
        };
        let merges = match read_small(&folder.join("merges.txt"))? {
            Some(bytes) => Some(merges(&bytes).ok_or_else(|| {
                wrong("merges.txt is not text with a pair on each line".to_owned())
            })?),
            None => model.and_then(|model| model.get("merges")?.as_array().cloned()),
        };
        let (Some(pieces), Some(merges)) = (pieces, merges) else {
            return Err(wrong(
                "there is neither vocab.json with merges.txt nor a tokenizer.json with both"
                    .to_owned(),
            ));
        };
        let config: Map<String, Value> =
            read(&folder.join("tokenizer_config.json"))?.unwrap_or_default();
        let special = read(&folder.join("special_tokens_map.json"))?.unwrap_or_default();
        let mut vocabulary =
            Self { pieces, merges, added: BTreeMap::new(), config, special, first_new: 0 };
        let listed: BTreeMap<String, u64> =
            read(&folder.join("added_tokens.json"))?.unwrap_or_default();
        vocabulary.add_listed(fast.as_ref(), &listed);
        vocabulary.number(folder)?;
        Ok(vocabulary)
    }

    /// Tokens beside the pieces, from each of the files that may list them.
    fn add_listed(&mut self, fast: Option<&Value>, listed: &BTreeMap<String, u64>) {
        let is_special = |token: &Value| token["special"].as_bool().unwrap_or(true);
        let of_fast = fast.and_then(|fast| fast["added_tokens"].as_array()).into_iter().flatten();
        let of_fast = of_fast.filter_map(|token| {
            Some((token["id"].as_u64()?, token["content"].as_str()?.to_owned(), is_special(token)))
        });
        let decoder = self.config.get("added_tokens_decoder").and_then(Value::as_object);
        let of_config = decoder.into_iter().flatten().filter_map(|(id, token)| {
            Some((id.parse().ok()?, token["content"].as_str()?.to_owned(), is_special(token)))
        });
        let listed = listed.iter().map(|(token, id)| (*id, token.clone(), true));
        let all: Vec<(u64, String, bool)> = of_config.chain(of_fast).chain(listed).collect();
        for (id, token, is_special) in all {
            if !self.pieces.contains_key(&token) {
                self.added.entry(id).or_insert((token, is_special));
            }
        }
    }

    /// New tokens are numbered from the count of those that there are.
    fn number(&mut self, folder: &Path) -> Result<(), Error> {
        let wrong = |what: String| Error::Config { path: folder.to_owned(), what };
        let mut ids = BTreeSet::new();
        for (piece, id) in &self.pieces {
            let Some(id) = id.as_u64() else {
                return Err(wrong(format!("vocab.json: `{}` has no id", sanitize(piece))));
            };
            ids.insert(id);
        }
        ids.extend(self.added.keys());
        let count = (self.pieces.len() + self.added.len()) as u64;
        if let Some(token) = ADDED.iter().find(|token| {
            self.pieces.contains_key(**token)
                || self.added.values().any(|(known, _)| known == *token)
        }) {
            return Err(wrong(format!(
                "the vocabulary has `{token}` already: it is not that of the base"
            )));
        }
        match ids.last() {
            Some(last) if ids.len() as u64 == count && last + 1 == count => {
                self.first_new = count;
                Ok(())
            }
            last => Err(wrong(format!(
                "the vocabulary has {count} tokens, and ids up to {}: new ones would get ids of others",
                last.copied().unwrap_or(0)
            ))),
        }
    }

    pub(crate) fn new_tokens(&self) -> NewTokens {
        NewTokens { first: self.first_new }
    }

    /// The files of the joined tokenizer, by name.
    ///
    /// # Errors
    /// Never on tokens that were read.
    pub(crate) fn files(&self) -> Result<Vec<(&'static str, Vec<u8>)>, Error> {
        let new = (self.first_new..).zip(ADDED).map(|(id, token)| (id, token, token != "[SEG]"));
        let old = self.added.iter().map(|(id, (token, special))| (*id, token.as_str(), *special));
        let added: Vec<(u64, &str, bool)> = old.chain(new).collect();
        let token = |(id, content, special): &(u64, &str, bool), with_id: bool| {
            let mut token = json!({
                "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": !special, "special": special,
            });
            if with_id {
                token["id"] = (*id).into();
            }
            token
        };
        let byte_level = |add_prefix_space: bool, trim_offsets: bool| {
            json!({
                "type": "ByteLevel", "add_prefix_space": add_prefix_space,
                "trim_offsets": trim_offsets, "use_regex": true,
            })
        };
        let fast = json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": added.iter().map(|of| token(of, true)).collect::<Vec<_>>(),
            "normalizer": null,
            "pre_tokenizer": byte_level(false, true),
            "post_processor": byte_level(true, false),
            "decoder": byte_level(true, true),
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null,
                "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": false,
                "byte_fallback": false, "ignore_merges": false,
                "vocab": self.pieces, "merges": self.merges,
            },
        });
        let mut config = self.config.clone();
        let decoder: Map<String, Value> =
            added.iter().map(|of| (of.0.to_string(), token(of, false))).collect();
        let special = Value::from(&ADDED[..3]);
        config.insert("added_tokens_decoder".to_owned(), decoder.into());
        config.insert("additional_special_tokens".to_owned(), special.clone());
        config.insert("tokenizer_class".to_owned(), "GPT2Tokenizer".into());
        config.remove("auto_map");
        let mut map = self.special.clone();
        map.insert("additional_special_tokens".to_owned(), special);
        let file = |name: &'static str, value: &Value| {
            let mut bytes = serde_json::to_vec_pretty(value)
                .map_err(|e| Error::Write { path: PathBuf::from(name), source: e.into() })?;
            bytes.push(b'\n');
            Ok((name, bytes))
        };
        Ok(vec![
            file("tokenizer.json", &fast)?,
            file("tokenizer_config.json", &config.into())?,
            file("special_tokens_map.json", &map.into())?,
        ])
    }
}

/// A JSON file of a folder, where there is one.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let Some(bytes) = read_small(path)? else { return Ok(None) };
    serde_json::from_slice(text_of(path, &bytes)?).map(Some).map_err(|error| Error::Config {
        path: path.to_owned(),
        what: format!("is not the JSON of a tokenizer, line {}", error.line()),
    })
}

/// The pairs of a `merges.txt`, as `tokenizer.json` lists them.
fn merges(bytes: &[u8]) -> Option<Vec<Value>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let lines = text.lines().filter(|line| !line.is_empty());
    let pairs = lines.enumerate().filter(|(n, line)| *n > 0 || !line.starts_with("#version"));
    let pair = |(_, line): (usize, &str)| {
        let (left, right) = line.split_once(' ')?;
        (!right.contains(' ')).then(|| json!([left, right]))
    };
    pairs.map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    const VOCAB: (&str, &str) = ("vocab.json", r#"{"a": 0, "b": 1, "ab": 2}"#);
    const MERGES: (&str, &str) = ("merges.txt", "#version: 0.2\na b\n");

    #[test]
    fn new_tokens_follow_those_that_any_file_lists() {
        let listed = ("added_tokens.json", r#"{"<end>": 3}"#);
        let config = (
            "tokenizer_config.json",
            r#"{"added_tokens_decoder": {"3": {"content": "<end>", "special": true}}, "auto_map": 1}"#,
        );
        for files in [
            &[VOCAB, MERGES, listed][..],
            &[VOCAB, MERGES, config],
            &[VOCAB, MERGES, listed, config],
        ] {
            let vocabulary = Vocabulary::read(folder(files).path()).unwrap();
            let new = vocabulary.new_tokens();
            assert_eq!((new.first(), new.image(), new.seg(), new.count()), (4, 4, 7, 4));
            let written = vocabulary.files().unwrap();
            let fast: Value = serde_json::from_slice(&written[0].1).unwrap();
            assert_eq!(fast["added_tokens"].as_array().unwrap().len(), 5);
            assert_eq!(fast["added_tokens"][4]["content"], "[SEG]");
            assert_eq!(fast["added_tokens"][4]["special"], false);
            assert_eq!(fast["model"]["merges"], json!([["a", "b"]]));
            assert!(!String::from_utf8_lossy(&written[1].1).contains("auto_map"));
        }
    }

    #[test]
    fn a_vocabulary_that_new_tokens_would_clash_with_is_refused() {
        let gap = ("added_tokens.json", r#"{"<end>": 7}"#);
        let there = ("added_tokens.json", r#"{"[SEG]": 3}"#);
        let broken = ("merges.txt", "a b c\n");
        for (files, said) in [
            (&[VOCAB, MERGES, gap][..], "ids up to 7"),
            (&[VOCAB, MERGES, there], "has `[SEG]` already"),
            (&[VOCAB, broken], "merges.txt"),
            (&[VOCAB], "neither vocab.json"),
        ] {
            let error = Vocabulary::read(folder(files).path()).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
