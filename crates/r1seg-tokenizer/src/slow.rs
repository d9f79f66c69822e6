//! `LlamaTokenizer` with `use_fast=False`: the ids that R1Seg was trained and evaluated with.
//!
//! Written from the behavior of transformers 4.46.3, `models/llama/tokenization_llama.py` and
//! `tokenization_utils.py`. What sets it apart from `tokenizer.json`: text behind an added token
//! gets no leading space of its own (unless `legacy`), and the space in front of a text that begins
//! with a special token is dropped.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::added::AddedTokens;
use crate::config::{AddedToken, Config, R1SEG_SEG, R1SEG_SPECIAL};
use crate::error::Detail;
use crate::sentencepiece::{SPACE, SentencePiece};
use crate::{Error, PromptPart, TokenizerFiles, cleanup};

#[derive(Debug, Clone)]
pub(crate) struct SlowTokenizer {
    model: SentencePiece,
    added: AddedTokens,
    /// `all_special_tokens`: by role, whatever `special` flag a token has.
    special: HashSet<String>,
    /// Added tokens that decoding keeps out of SentencePiece's hands (`legacy_added_tokens`).
    apart: HashSet<String>,
    unk_token: String,
    /// Pieces of the unknown token's own text.
    unk_token_len: usize,
    bos: Option<u32>,
    eos: Option<u32>,
    add_bos: bool,
    add_eos: bool,
    legacy: bool,
    add_prefix_space: bool,
    clean_up: bool,
    /// R1Seg tokens that no file lists.
    appended: Vec<&'static str>,
}

impl SlowTokenizer {
    pub(crate) fn new(files: &TokenizerFiles, config: &Config) -> Result<Self, Error> {
        let (mut model, listed) = match (&files.tokenizer_model, &files.tokenizer_json) {
            (Some(bytes), _) => (SentencePiece::from_model_file(bytes)?, Vec::new()),
            (None, Some(bytes)) => SentencePiece::from_tokenizer_json(bytes)?,
            (None, None) => return Err(Detail::NoVocabulary.into()),
        };
        let mut added = Additions { model: &model, added: AddedTokens::default(), next: 0 };
        match &config.added_tokens {
            Some(tokens) => {
                for (&id, token) in tokens {
                    added.insert_listed(id, token.clone())?;
                }
            }
            None => {
                for (id, token) in listed {
                    added.insert_listed(id, token)?;
                }
            }
        }
        for token in config.special_tokens() {
            added.append(token.clone())?;
        }
        let mut additional: Vec<String> =
            config.additional_special_tokens.iter().map(|token| token.content.clone()).collect();
        let mut appended = Vec::new();
        for token in R1SEG_SPECIAL {
            if added.append(AddedToken::plain(token, true))? {
                appended.push(token);
            }
        }
        if !appended.is_empty() {
            // `add_special_tokens` replaces the list of additional special tokens.
            additional = R1SEG_SPECIAL.map(str::to_owned).to_vec();
        }
        if added.append(AddedToken::plain(R1SEG_SEG, false))? {
            appended.push(R1SEG_SEG);
        }
        let added = added.added;
        for token in R1SEG_SPECIAL.into_iter().chain([R1SEG_SEG]) {
            let Some(id) = added.id(token) else { continue };
            if let Some(piece) = model.piece(id).filter(|piece| &*piece.text != token) {
                let (token, other) = (token.to_owned(), piece.text.to_string());
                return Err(Detail::SharedId { token, other, id }.into());
            }
        }

        let roles = [&config.bos_token, &config.eos_token, &config.unk_token];
        let mut special: HashSet<String> =
            roles.into_iter().flatten().map(|token| token.content.clone()).collect();
        special.extend(config.other_special.iter().map(|token| token.content.clone()));
        special.extend(additional.iter().cloned());
        let mut apart = added.contents(|_, token| !special.contains(&token.content));
        apart.extend(
            additional
                .into_iter()
                .filter(|token| added.id(token).is_some_and(|id| id as usize >= model.len())),
        );

        model.reserved = added.iter().filter_map(|(_, t)| model.id_of(&t.content)).collect();
        let token = |token: &Option<AddedToken>| token.as_ref().map(|token| token.content.clone());
        let id = |name: Option<String>| name.and_then(|name| added.id(&name));
        let unk_token = token(&config.unk_token).unwrap_or_default();
        Ok(Self {
            unk_token_len: model.encode(&unk_token, false).len(),
            unk_token,
            bos: id(token(&config.bos_token)),
            eos: id(token(&config.eos_token)),
            add_bos: config.add_bos_token,
            add_eos: config.add_eos_token,
            legacy: config.legacy,
            add_prefix_space: config.add_prefix_space,
            clean_up: config.clean_up_tokenization_spaces,
            model,
            added,
            special,
            apart,
            appended,
        })
    }

    pub(crate) fn appended(&self) -> &[&'static str] {
        &self.appended
    }

    pub(crate) fn added_id(&self, token: &str) -> Option<u32> {
        self.added.id(token)
    }

    pub(crate) fn bos(&self) -> Option<u32> {
        self.bos
    }

    pub(crate) fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The largest id and its token.
    pub(crate) fn last_token(&self) -> (u32, String) {
        let base = self.model.len().saturating_sub(1) as u32;
        let added = self.added.iter().last().filter(|(id, _)| *id >= base);
        let base_text = || self.model.piece(base).map_or(String::new(), |p| p.text.to_string());
        added.map_or_else(|| (base, base_text()), |(id, token)| (id, token.content.clone()))
    }

    /// True for a piece of ordinary text.
    pub(crate) fn is_plain(&self, id: u32) -> bool {
        self.added.token(id).is_none() && self.model.is_text(id)
    }

    pub(crate) fn cleans_up(&self) -> bool {
        self.clean_up
    }

    /// `tokenizer(text).input_ids`: added tokens in `text` are found.
    pub(crate) fn encode_raw(&self, text: &str) -> Vec<u32> {
        let text = match self.prefixed(text, text.is_empty()) {
            (true, text) => Cow::Owned(format!("{SPACE}{text}")),
            (false, text) => text,
        };
        let mut parts = self.added.split(&text);
        self.added.apply_flags(&mut parts, |_| true);
        self.encode_segments(parts.iter().map(|part| (part.as_str(), self.added.id(part))))
    }

    /// The same for a text whose added tokens are those of `parts` and no others.
    pub(crate) fn encode_parts(&self, parts: &[PromptPart<'_>]) -> Result<Vec<u32>, Error> {
        // (text, is a token); neighboring texts are one.
        let mut texts: Vec<String> = Vec::with_capacity(parts.len() + 1);
        let mut is_token = Vec::with_capacity(parts.len() + 1);
        let empty = parts.iter().all(|part| matches!(part, PromptPart::Text("")));
        if let (true, _) = self.prefixed("", empty) {
            texts.push(SPACE.to_string());
            is_token.push(false);
        }
        for part in parts {
            match *part {
                PromptPart::Token(token) => {
                    if self.added.id(token).is_none() {
                        return Err(Detail::UnknownToken { token: token.to_owned() }.into());
                    }
                    texts.push(token.to_owned());
                    is_token.push(true);
                }
                PromptPart::Text(text) => {
                    let (_, text) = self.prefixed(text, empty);
                    match (texts.last_mut(), is_token.last()) {
                        (Some(last), Some(false)) => last.push_str(&text),
                        _ => {
                            texts.push(text.into_owned());
                            is_token.push(false);
                        }
                    }
                }
            }
        }
        self.added.apply_flags(&mut texts, |at| is_token[at]);
        Ok(self.encode_segments(
            texts
                .iter()
                .zip(is_token)
                .map(|(text, is_token)| (text.as_str(), self.added.id(text).filter(|_| is_token))),
        ))
    }

    /// Ids of texts, and of tokens that have theirs, with BOS and EOS around them.
    fn encode_segments<'a>(
        &self,
        segments: impl Iterator<Item = (&'a str, Option<u32>)>,
    ) -> Vec<u32> {
        let mut ids: Vec<u32> = self.bos.filter(|_| self.add_bos).into_iter().collect();
        let start = ids.len();
        for (text, token) in segments {
            let Some(id) = token else {
                ids.extend(self.encode_plain(text));
                continue;
            };
            // A lone space in front of a special token is dropped.
            let lone = ids.get(start..).filter(|ids| ids.len() == 1 && !self.legacy);
            if lone.is_some_and(|ids| self.is_space(ids[0])) && self.special.contains(text) {
                ids.truncate(start);
            }
            ids.push(id);
        }
        ids.extend(self.eos.filter(|_| self.add_eos));
        ids
    }

    fn is_space(&self, id: u32) -> bool {
        self.model.piece(id).is_some_and(|piece| piece.text.chars().eq([SPACE]))
    }

    /// `LlamaTokenizer.tokenize`: whether a space goes in front, and the text with typed
    /// SentencePiece spaces made plain. Legacy tokenizers leave both to SentencePiece.
    fn prefixed<'a>(&self, text: &'a str, empty: bool) -> (bool, Cow<'a, str>) {
        if self.legacy || empty {
            return (false, Cow::Borrowed(text));
        }
        let text = if text.contains(SPACE) {
            Cow::Owned(text.replace(SPACE, " "))
        } else {
            Cow::Borrowed(text)
        };
        (self.add_prefix_space, text)
    }

    /// `LlamaTokenizer._tokenize`: text without added tokens.
    fn encode_plain(&self, text: &str) -> Vec<u32> {
        if self.legacy || !text.starts_with([SPACE, ' ']) {
            return self.model.encode(text, self.legacy);
        }
        // SentencePiece strips leading spaces under some flags, so that transformers puts the
        // unknown token's text in front, and takes its pieces off again.
        let mut ids = self.model.encode(&format!("{}{text}", self.unk_token), false);
        if ids.len() >= self.unk_token_len {
            ids.drain(..self.unk_token_len);
        }
        ids
    }

    /// `batch_decode`; ids that the vocabulary lacks are left out.
    pub(crate) fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> String {
        let text = self.decode_without_clean_up(ids, skip_special_tokens);
        if self.clean_up { cleanup::clean_up(&text) } else { text }
    }

    /// `PreTrainedTokenizer._decode`: runs of pieces and added tokens, joined with spaces.
    pub(crate) fn decode_without_clean_up(&self, ids: &[u32], skip_special_tokens: bool) -> String {
        let tokens = ids.iter().filter_map(|&id| match self.added.token(id) {
            Some(token) => Some(&*token.content),
            None => self.model.piece(id).map(|piece| &*piece.text),
        });
        let mut texts: Vec<Cow<'_, str>> = Vec::new();
        let mut run: Vec<&str> = Vec::new();
        for token in tokens {
            if skip_special_tokens && self.special.contains(token) {
                continue;
            }
            if self.apart.contains(token) {
                if !run.is_empty() {
                    let text = self.run_to_string(&run);
                    if !text.is_empty() {
                        texts.push(Cow::Owned(text));
                    }
                    run.clear();
                }
                texts.push(Cow::Borrowed(token));
            } else {
                run.push(token);
            }
        }
        if !run.is_empty() {
            texts.push(Cow::Owned(self.run_to_string(&run)));
        }
        texts.join(" ")
    }

    /// `LlamaTokenizer.convert_tokens_to_string`.
    fn run_to_string(&self, tokens: &[&str]) -> String {
        let mut text = String::new();
        let mut pieces: Vec<&str> = Vec::with_capacity(tokens.len());
        let mut after_special = false;
        for (at, &token) in tokens.iter().enumerate() {
            let token = match token.strip_prefix(SPACE) {
                Some(rest) if at == 0 && self.add_prefix_space => rest,
                _ => token,
            };
            if self.special.contains(token) {
                if !after_special && at != 0 && self.legacy {
                    text.push(' ');
                }
                text.push_str(&self.model.decode(&pieces, self.legacy));
                text.push_str(token);
                pieces.clear();
                after_special = true;
            } else {
                if after_special && at == 1 && self.add_prefix_space && !token.starts_with(SPACE) {
                    text.push(' ');
                }
                pieces.push(token);
                after_special = false;
            }
        }
        text.push_str(&self.model.decode(&pieces, self.legacy));
        text
    }
}

/// `_add_tokens` on top of a base vocabulary.
struct Additions<'a> {
    model: &'a SentencePiece,
    added: AddedTokens,
    /// Added tokens outside the base vocabulary: `len(tokenizer)` is the base plus these.
    next: usize,
}

impl Additions<'_> {
    fn insert_listed(&mut self, id: u32, token: AddedToken) -> Result<(), Error> {
        let outside = self.model.id_of(&token.content).is_none();
        let new = self.added.id(&token.content).is_none() && !token.content.is_empty();
        self.next += usize::from(outside && new);
        self.added.insert(id, token)
    }

    /// Gives `token` an id if no file does. True if that id is new.
    fn append(&mut self, token: AddedToken) -> Result<bool, Error> {
        if token.content.is_empty() || self.added.id(&token.content).is_some() {
            return Ok(false);
        }
        if let Some(id) = self.model.id_of(&token.content) {
            self.added.insert(id, token)?;
            return Ok(false);
        }
        let id = u32::try_from(self.model.len() + self.next).unwrap_or(u32::MAX);
        self.next += 1;
        self.added.insert(id, token)?;
        Ok(true)
    }
}
