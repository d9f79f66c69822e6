//! `tokenizer_config.json`, `added_tokens.json` and `special_tokens_map.json`.
//!
//! The precedence is that of `PreTrainedTokenizerBase._from_pretrained` in transformers 4.46.3:
//! where the config has `added_tokens_decoder`, that list and the config's own special tokens hold;
//! where it has not, the two older files do. One leniency: `added_tokens.json` may name tokens that
//! `added_tokens_decoder` lacks.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Deserializer};

use crate::error::Detail;
use crate::{Error, TokenizerFiles};

/// The three tokens that R1Seg and M3D add as special, in order.
pub(crate) const R1SEG_SPECIAL: [&str; 3] = ["<im_patch>", "<bx_start>", "<bx_end>"];
/// The token that R1Seg and M3D add after them, as an ordinary one.
pub(crate) const R1SEG_SEG: &str = "[SEG]";

/// A token outside the base vocabulary's merges, with its matching rules.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct AddedToken {
    pub(crate) content: String,
    /// Eats white space on its left.
    #[serde(default)]
    pub(crate) lstrip: bool,
    /// Eats white space on its right.
    #[serde(default)]
    pub(crate) rstrip: bool,
    /// Is matched on the normalized text (fast tokenizers only).
    #[serde(default)]
    pub(crate) normalized: Option<bool>,
    /// Is matched only between spaces.
    #[serde(default)]
    pub(crate) single_word: bool,
    #[serde(default)]
    pub(crate) special: bool,
}

impl AddedToken {
    /// As `add_special_tokens` and `add_tokens` make it from a string.
    pub(crate) fn plain(content: &str, special: bool) -> Self {
        Self {
            content: content.to_owned(),
            lstrip: false,
            rstrip: false,
            normalized: Some(!special),
            single_word: false,
            special,
        }
    }
}

/// What the small JSON files say, with the class defaults filled in.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) tokenizer_class: Option<String>,
    pub(crate) legacy: bool,
    pub(crate) add_bos_token: bool,
    pub(crate) add_eos_token: bool,
    pub(crate) add_prefix_space: bool,
    pub(crate) clean_up_tokenization_spaces: bool,
    pub(crate) bos_token: Option<AddedToken>,
    pub(crate) eos_token: Option<AddedToken>,
    pub(crate) unk_token: Option<AddedToken>,
    /// `pad_token`, `sep_token`, `cls_token`, `mask_token`: special, and nothing else here.
    pub(crate) other_special: Vec<AddedToken>,
    pub(crate) additional_special_tokens: Vec<AddedToken>,
    /// By id. `None`: no file lists ids, so that `tokenizer.json` may.
    pub(crate) added_tokens: Option<BTreeMap<u32, AddedToken>>,
}

impl Config {
    pub(crate) fn parse(files: &TokenizerFiles) -> Result<Self, Error> {
        let raw: RawConfig = match &files.tokenizer_config {
            Some(bytes) => parse_json("tokenizer_config.json", bytes)?,
            None => RawConfig::default(),
        };
        if raw.split_special_tokens == Some(true) {
            let what = "`split_special_tokens: true`".to_owned();
            return Err(Detail::Unsupported { file: "tokenizer_config.json", what }.into());
        }
        let mut special = raw.special;
        if raw.added_tokens_decoder.is_none()
            && let Some(bytes) = &files.special_tokens_map
        {
            let map: SpecialTokens = parse_json("special_tokens_map.json", bytes)?;
            special.update(map);
        }
        let class = raw.tokenizer_class.as_deref();
        let defaults = ClassDefaults::of(class);
        let pick = |given: Option<Option<TokenSpec>>, default: Option<&str>| match given {
            Some(given) => given.map(TokenSpec::into_special),
            None => default.map(|default| AddedToken::plain(default, true)),
        };
        let others = [
            pick(special.pad_token, defaults.pad),
            pick(special.sep_token, None),
            pick(special.cls_token, None),
            pick(special.mask_token, None),
        ];
        let additional = special.additional_special_tokens.unwrap_or_default();
        let mut config = Self {
            // transformers takes an absent `legacy` for true; every published folder states it, and
            // a hand-made one means the ids that R1Seg was trained with.
            legacy: raw.legacy.unwrap_or(false),
            add_bos_token: raw.add_bos_token.unwrap_or(true),
            add_eos_token: raw.add_eos_token.unwrap_or(false),
            add_prefix_space: raw.add_prefix_space.unwrap_or(true),
            clean_up_tokenization_spaces: raw.clean_up_tokenization_spaces.unwrap_or(false),
            bos_token: pick(special.bos_token, defaults.bos),
            eos_token: pick(special.eos_token, defaults.eos),
            unk_token: pick(special.unk_token, defaults.unk),
            other_special: others.into_iter().flatten().collect(),
            additional_special_tokens: additional
                .into_iter()
                .map(TokenSpec::into_special)
                .collect(),
            added_tokens: None,
            tokenizer_class: raw.tokenizer_class,
        };
        config.read_added_tokens(raw.added_tokens_decoder, files)?;
        Ok(config)
    }

    fn read_added_tokens(
        &mut self,
        decoder: Option<BTreeMap<String, AddedToken>>,
        files: &TokenizerFiles,
    ) -> Result<(), Error> {
        let mut added = BTreeMap::new();
        let listed = decoder.is_some() || files.added_tokens.is_some();
        for (id, token) in decoder.unwrap_or_default() {
            let id: u32 = id.parse().map_err(|_| {
                Error::from(Detail::Json {
                    file: "tokenizer_config.json",
                    message: format!("added_tokens_decoder: `{id}` is not a token id"),
                })
            })?;
            added.insert(id, token);
        }
        if let Some(bytes) = &files.added_tokens {
            let ids: BTreeMap<String, u32> = parse_json("added_tokens.json", bytes)?;
            if added.is_empty() && self.additional_special_tokens.is_empty() {
                // The file has no flags; without special_tokens_map.json nothing else has them either,
                // and an image token that is not special would begin with a space.
                let listed = R1SEG_SPECIAL.iter().filter(|token| ids.contains_key(**token));
                self.additional_special_tokens =
                    listed.map(|token| AddedToken::plain(token, true)).collect();
            }
            let known: HashSet<String> = added.values().map(|t| t.content.clone()).collect();
            let roles: HashSet<String> = self.special_tokens().map(|t| t.content.clone()).collect();
            for (content, id) in ids {
                if known.contains(&content) {
                    continue;
                }
                if let Some(other) = added.get(&id) {
                    let token = format!("{content}` and `{}", other.content);
                    return Err(Detail::IdConflict { token, expected: id, got: id }.into());
                }
                added.insert(id, AddedToken::plain(&content, roles.contains(&content)));
            }
        }
        // A special token is the added token of that name, flags included.
        let by_content: HashMap<&str, &AddedToken> =
            added.values().map(|token| (token.content.as_str(), token)).collect();
        [&mut self.bos_token, &mut self.eos_token, &mut self.unk_token]
            .into_iter()
            .flatten()
            .chain(&mut self.other_special)
            .chain(&mut self.additional_special_tokens)
            .for_each(|token| {
                if let Some(&listed) = by_content.get(token.content.as_str()) {
                    *token = listed.clone();
                }
            });
        self.added_tokens = listed.then_some(added);
        Ok(())
    }

    /// All special tokens, in transformers' order.
    pub(crate) fn special_tokens(&self) -> impl Iterator<Item = &AddedToken> {
        [&self.bos_token, &self.eos_token, &self.unk_token]
            .into_iter()
            .flatten()
            .chain(&self.other_special)
            .chain(&self.additional_special_tokens)
    }
}

/// Special tokens of a class's constructor, where the config has no such key.
struct ClassDefaults {
    bos: Option<&'static str>,
    eos: Option<&'static str>,
    unk: Option<&'static str>,
    pad: Option<&'static str>,
}

impl ClassDefaults {
    fn of(class: Option<&str>) -> Self {
        const END: Option<&str> = Some("<|endoftext|>");
        match class {
            // No class named: only a SentencePiece folder uses these.
            None | Some("LlamaTokenizer" | "LlamaTokenizerFast") => {
                Self { bos: Some("<s>"), eos: Some("</s>"), unk: Some("<unk>"), pad: None }
            }
            Some("Qwen2Tokenizer" | "Qwen2TokenizerFast") => {
                Self { bos: None, eos: END, unk: END, pad: END }
            }
            Some("GPT2Tokenizer" | "GPT2TokenizerFast") => {
                Self { bos: END, eos: END, unk: END, pad: None }
            }
            Some(_) => Self { bos: None, eos: None, unk: None, pad: None },
        }
    }
}

#[derive(Debug, Default, Deserialize)]
struct RawConfig {
    tokenizer_class: Option<String>,
    legacy: Option<bool>,
    add_bos_token: Option<bool>,
    add_eos_token: Option<bool>,
    add_prefix_space: Option<bool>,
    clean_up_tokenization_spaces: Option<bool>,
    split_special_tokens: Option<bool>,
    added_tokens_decoder: Option<BTreeMap<String, AddedToken>>,
    #[serde(flatten)]
    special: SpecialTokens,
}

/// The outer `Option` tells an absent key (class default) from `null` (no such token).
#[derive(Debug, Default, Deserialize)]
struct SpecialTokens {
    #[serde(default, deserialize_with = "present")]
    bos_token: Option<Option<TokenSpec>>,
    #[serde(default, deserialize_with = "present")]
    eos_token: Option<Option<TokenSpec>>,
    #[serde(default, deserialize_with = "present")]
    unk_token: Option<Option<TokenSpec>>,
    #[serde(default, deserialize_with = "present")]
    pad_token: Option<Option<TokenSpec>>,
    #[serde(default, deserialize_with = "present")]
    sep_token: Option<Option<TokenSpec>>,
    #[serde(default, deserialize_with = "present")]
    cls_token: Option<Option<TokenSpec>>,
    #[serde(default, deserialize_with = "present")]
    mask_token: Option<Option<TokenSpec>>,
    additional_special_tokens: Option<Vec<TokenSpec>>,
}

impl SpecialTokens {
    /// Keys of `newer` win.
    fn update(&mut self, newer: Self) {
        let take = |old: &mut Option<Option<TokenSpec>>, new: Option<Option<TokenSpec>>| {
            if new.is_some() {
                *old = new;
            }
        };
        take(&mut self.bos_token, newer.bos_token);
        take(&mut self.eos_token, newer.eos_token);
        take(&mut self.unk_token, newer.unk_token);
        take(&mut self.pad_token, newer.pad_token);
        take(&mut self.sep_token, newer.sep_token);
        take(&mut self.cls_token, newer.cls_token);
        take(&mut self.mask_token, newer.mask_token);
        if let Some(newer) = newer.additional_special_tokens {
            let list = self.additional_special_tokens.get_or_insert_default();
            let mut known: HashSet<String> = list.iter().map(|t| t.content().to_owned()).collect();
            list.extend(newer.into_iter().filter(|token| known.insert(token.content().to_owned())));
        }
    }
}

/// A token is a string, or an object with its flags.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum TokenSpec {
    Text(String),
    Full(AddedToken),
}

impl TokenSpec {
    fn content(&self) -> &str {
        match self {
            TokenSpec::Text(content) => content,
            TokenSpec::Full(token) => &token.content,
        }
    }

    fn into_special(self) -> AddedToken {
        match self {
            TokenSpec::Text(content) => AddedToken::plain(&content, true),
            TokenSpec::Full(token) => AddedToken { special: true, ..token },
        }
    }
}

fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// Parses JSON, with or without a byte order mark.
pub(crate) fn parse_json<'a, T: Deserialize<'a>>(
    file: &'static str,
    bytes: &'a [u8],
) -> Result<T, Error> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    serde_json::from_slice(bytes)
        .map_err(|error| Error::from(Detail::Json { file, message: error.to_string() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(config: &str) -> Result<Config, Error> {
        let files = TokenizerFiles {
            tokenizer_config: Some(config.as_bytes().to_vec().into()),
            special_tokens_map: Some(br#"{"bos_token": {"content": "<map>"}}"#.to_vec().into()),
            added_tokens: Some(br#"{"[SEG]": 9, "<map>": 8}"#.to_vec().into()),
            ..TokenizerFiles::default()
        };
        Config::parse(&files)
    }

    #[test]
    fn silent_config_takes_the_class_defaults() -> Result<(), Error> {
        let config = parse(r#"{"added_tokens_decoder": {}}"#)?;
        assert!(!config.legacy && config.add_bos_token && !config.clean_up_tokenization_spaces);
        let name = |token: &Option<AddedToken>| token.as_ref().map(|t| t.content.clone());
        assert_eq!(name(&config.bos_token).as_deref(), Some("<s>"));
        let config = parse(r#"{"added_tokens_decoder": {}, "tokenizer_class": "Qwen2Tokenizer"}"#)?;
        assert_eq!(name(&config.bos_token), None);
        assert_eq!(name(&config.eos_token).as_deref(), Some("<|endoftext|>"));
        let config = parse(r#"{"added_tokens_decoder": {}, "eos_token": null}"#)?;
        assert_eq!(name(&config.eos_token), None);
        Ok(())
    }

    #[test]
    fn older_files_count_where_the_config_lists_no_tokens() -> Result<(), Error> {
        let config = parse("{}")?;
        let added = config.added_tokens.as_ref().expect("listed");
        assert_eq!(config.bos_token.as_ref().map(|t| t.content.as_str()), Some("<map>"));
        assert!(added[&8].special && !added[&9].special);
        // The token list of the config wins, and added_tokens.json may complete it.
        let decoder = r#"{"7": {"content": "[SEG]", "rstrip": true, "special": false}}"#;
        let config = parse(&format!(r#"{{"added_tokens_decoder": {decoder}}}"#))?;
        let added = config.added_tokens.expect("listed");
        assert_eq!(added.keys().copied().collect::<Vec<_>>(), [7, 8]);
        assert_eq!(config.bos_token.map(|t| t.content).as_deref(), Some("<s>"));
        Ok(())
    }

    #[test]
    fn image_tokens_that_only_a_list_of_ids_names_are_special() -> Result<(), Error> {
        let added = br#"{"<im_patch>": 4, "<bx_start>": 5, "<bx_end>": 6, "[SEG]": 7}"#;
        let files = |map: Option<&'static [u8]>| TokenizerFiles {
            added_tokens: Some(added.to_vec().into()),
            special_tokens_map: map.map(Into::into),
            ..TokenizerFiles::default()
        };
        let special = |map| -> Result<Vec<u32>, Error> {
            let added = Config::parse(&files(map))?.added_tokens.expect("listed");
            Ok(added.iter().filter(|(_, token)| token.special).map(|(id, _)| *id).collect())
        };
        assert_eq!(special(None)?, [4, 5, 6]);
        // Where a file says which are special, it is right.
        assert_eq!(special(Some(br#"{"additional_special_tokens": ["<im_patch>"]}"#))?, [4]);
        Ok(())
    }

    #[test]
    fn config_that_contradicts_itself_is_refused() {
        let twice = r#"{"added_tokens_decoder": {"9": {"content": "x"}}}"#;
        assert!(parse(twice).is_err_and(|e| e.message().contains("expected id 9, got")));
        let no_id = r#"{"added_tokens_decoder": {"-1": {"content": "x"}}}"#;
        assert!(parse(no_id).is_err_and(|e| e.code() == "R-TOK-04"));
        assert!(parse(r#"{"split_special_tokens": true}"#).is_err_and(|e| e.code() == "R-TOK-06"));
        assert!(parse("[1").is_err_and(|e| e.message().starts_with("`tokenizer_config.json`: ")));
    }
}
