//! Added tokens of a slow tokenizer, and finding them in text.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::Error;
use crate::config::AddedToken;
use crate::error::Detail;

/// Added tokens by id and by text (`_added_tokens_decoder`, `_added_tokens_encoder`, `tokens_trie`
/// of `PreTrainedTokenizer`).
#[derive(Debug, Clone, Default)]
pub(crate) struct AddedTokens {
    by_id: BTreeMap<u32, AddedToken>,
    ids: HashMap<String, u32>,
    /// Texts by first character.
    by_first: HashMap<char, Vec<String>>,
}

impl AddedTokens {
    pub(crate) fn insert(&mut self, id: u32, token: AddedToken) -> Result<(), Error> {
        let Some(first) = token.content.chars().next() else {
            return Ok(());
        };
        if let Some(other) = self.by_id.get(&id)
            && other.content != token.content
        {
            let token = format!("{}` and `{}", other.content, token.content);
            return Err(Detail::IdConflict { token, expected: id, got: id }.into());
        }
        if let Some(&other) = self.ids.get(&token.content) {
            if other != id {
                return Err(
                    Detail::IdConflict { token: token.content, expected: other, got: id }.into()
                );
            }
        } else {
            self.by_first.entry(first).or_default().push(token.content.clone());
            self.ids.insert(token.content.clone(), id);
        }
        self.by_id.insert(id, token);
        Ok(())
    }

    pub(crate) fn id(&self, content: &str) -> Option<u32> {
        self.ids.get(content).copied()
    }

    pub(crate) fn token(&self, id: u32) -> Option<&AddedToken> {
        self.by_id.get(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &AddedToken)> {
        self.by_id.iter().map(|(&id, token)| (id, token))
    }

    /// Cuts `text` at every added token, leftmost and longest first, keeping all of it.
    ///
    /// `Trie.split` of transformers does the same, but for a look-ahead past a stale match that
    /// needs one added token inside the beginning of another; no R1Seg vocabulary has such a pair.
    pub(crate) fn split(&self, text: &str) -> Vec<String> {
        let mut parts = Vec::new();
        let (mut from, mut at) = (0, 0);
        while let Some(c) = text[at..].chars().next() {
            let texts = self.by_first.get(&c).map_or(&[][..], Vec::as_slice);
            let found = texts.iter().filter(|token| text[at..].starts_with(token.as_str()));
            match found.max_by_key(|token| token.len()) {
                Some(token) => {
                    if from < at {
                        parts.push(text[from..at].to_owned());
                    }
                    parts.push(token.clone());
                    at += token.len();
                    from = at;
                }
                None => at += c.len_utf8(),
            }
        }
        if from < text.len() {
            parts.push(text[from..].to_owned());
        }
        parts
    }

    /// Lets the tokens among `parts` eat white space, or lose to a word they touch, as
    /// `PreTrainedTokenizer.tokenize` does. `is_token` tells a token from text that spells one.
    pub(crate) fn apply_flags(&self, parts: &mut [String], is_token: impl Fn(usize) -> bool) {
        for at in 0..parts.len() {
            let token = self.id(&parts[at]).and_then(|id| self.token(id));
            let Some(token) = token.filter(|_| is_token(at)) else {
                continue;
            };
            let left = at.checked_sub(1).filter(|&left| !parts[left].is_empty());
            let right =
                Some(at + 1).filter(|&right| parts.get(right).is_some_and(|p| !p.is_empty()));
            let touches_left = left.is_some_and(|left| !parts[left].ends_with(' '));
            let touches_right = right.is_some_and(|right| !parts[right].starts_with(' '));
            if let Some(right) = right.filter(|_| token.rstrip) {
                parts[right] = parts[right].trim_start_matches(is_python_space).to_owned();
            }
            if let Some(left) = left.filter(|_| token.lstrip) {
                parts[left].truncate(parts[left].trim_end_matches(is_python_space).len());
            }
            if token.single_word {
                let content = token.content.clone();
                if let Some(left) = left.filter(|_| touches_left) {
                    parts[left].push_str(&content);
                    parts[at].clear();
                } else if let Some(right) = right.filter(|_| touches_right) {
                    parts[right].insert_str(0, &content);
                    parts[at].clear();
                }
            }
        }
    }

    /// The contents of the tokens for which `keep` holds.
    pub(crate) fn contents(&self, keep: impl Fn(u32, &AddedToken) -> bool) -> HashSet<String> {
        self.iter().filter(|(id, token)| keep(*id, token)).map(|(_, t)| t.content.clone()).collect()
    }
}

/// `str.isspace` of Python, which counts four separators of ASCII that Unicode does not.
fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    type SetFlags = fn(&mut AddedToken);

    fn tokens(flags: &[(&str, SetFlags)]) -> Result<AddedTokens, Error> {
        let mut added = AddedTokens::default();
        for (id, (content, flag)) in (7..).zip(flags) {
            let mut token = AddedToken::plain(content, false);
            flag(&mut token);
            added.insert(id, token)?;
        }
        Ok(added)
    }

    #[test]
    fn split_takes_the_leftmost_longest_token() -> Result<(), Error> {
        let added =
            tokens(&[("id_1", |_| ()), ("id_100", |_| ()), ("[C]", |_| ()), ("C", |_| ())])?;
        assert_eq!(added.split("[C] xid_100id_1é"), ["[C]", " x", "id_100", "id_1", "é"]);
        assert_eq!(added.split("[CC"), ["[", "C", "C"]);
        assert!(added.split("").is_empty());
        Ok(())
    }

    #[test]
    fn tokens_eat_white_space_where_their_flags_say() -> Result<(), Error> {
        let added = tokens(&[
            ("<l>", |t| t.lstrip = true),
            ("<r>", |t| t.rstrip = true),
            ("<w>", |t| t.single_word = true),
        ])?;
        let flagged = |text: &str| {
            let mut parts = added.split(text);
            added.apply_flags(&mut parts, |_| true);
            parts
        };
        assert_eq!(flagged("a \t<l> b <r>\u{1c}\n c"), ["a", "<l>", " b ", "<r>", "c"]);
        assert_eq!(flagged("a<w> b"), ["a<w>", "", " b"]);
        assert_eq!(flagged("a <w>b"), ["a ", "", "<w>b"]);
        assert_eq!(flagged("a <w> b"), ["a ", "<w>", " b"]);
        Ok(())
    }

    #[test]
    fn two_tokens_cannot_share_an_id_nor_one_token_have_two() -> Result<(), Error> {
        let mut added = tokens(&[("x", |_| ())])?;
        assert!(added.insert(7, AddedToken::plain("y", false)).is_err());
        assert!(added.insert(8, AddedToken::plain("x", false)).is_err());
        assert!(added.insert(7, AddedToken::plain("x", true)).is_ok());
        Ok(())
    }
}
