//! An answer's text while it is being generated.

use crate::cleanup::{clean_up, settled_prefix};
use crate::{Error, PromptTokenizer};

/// Ids that are decoded again at every step before the decoder looks for a new anchor.
const WINDOW: usize = 32;

/// Turns ids into text piece by piece; the pieces put together are
/// [`PromptTokenizer::decode`] of all ids.
///
/// Text comes as soon as no later id can change it: bytes of an unfinished character wait, and so
/// does a word whose spaces may still be cleaned up.
#[derive(Debug, Clone)]
pub struct StreamDecoder<'a> {
    tokenizer: &'a PromptTokenizer,
    ids: Vec<u32>,
    /// The settled text before cleaning up.
    text: String,
    /// Bytes of the cleaned text that are out.
    written: usize,
    /// Where decoding starts: an id whose text stands by itself, so that what follows it decodes as
    /// it would behind all ids. At first simply the beginning.
    anchor: Anchor,
}

#[derive(Debug, Clone, Copy, Default)]
struct Anchor {
    /// Index of the id.
    at: usize,
    /// Bytes of the text up to and with that id.
    text_len: usize,
    /// Bytes that the id decodes to when it comes first, where a leading space may be missing.
    own_len: usize,
}

impl<'a> StreamDecoder<'a> {
    pub(crate) fn new(tokenizer: &'a PromptTokenizer) -> Self {
        let (ids, text, anchor) = (Vec::new(), String::new(), Anchor::default());
        Self { tokenizer, ids, text, written: 0, anchor }
    }

    /// Takes the next id, and returns the text that became certain; often none.
    ///
    /// # Errors
    /// As [`PromptTokenizer::decode`].
    pub fn push(&mut self, id: u32) -> Result<String, Error> {
        self.ids.push(id);
        let window = self.tokenizer.decode_settled(&self.ids[self.anchor.at..])?;
        self.text.truncate(self.anchor.text_len);
        self.text.push_str(window.get(self.anchor.own_len..).unwrap_or_default());
        if self.ids.len() - self.anchor.at > WINDOW
            && let Some(own_len) = self.tokenizer.stands_alone(id)?
        {
            self.anchor = Anchor { at: self.ids.len() - 1, text_len: self.text.len(), own_len };
        }
        let settled = self.text.trim_end_matches(char::REPLACEMENT_CHARACTER);
        let piece = if self.tokenizer.cleans_up() {
            self.unwritten(&clean_up(settled_prefix(settled)))
        } else {
            self.unwritten(settled)
        };
        self.written += piece.len();
        Ok(piece)
    }

    /// The rest of the text, once the answer is complete.
    ///
    /// # Errors
    /// As [`PromptTokenizer::decode`].
    pub fn finish(self) -> Result<String, Error> {
        let text = self.tokenizer.decode(&self.ids)?;
        Ok(self.unwritten(&text))
    }

    /// The ids taken so far.
    #[must_use]
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    fn unwritten(&self, text: &str) -> String {
        text.get(self.written..).unwrap_or_default().to_owned()
    }
}
