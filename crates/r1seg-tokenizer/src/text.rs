//! [`TextTokenizer`]: texts for the CLIP and BERT encoders.

use tokenizers::Tokenizer;

use crate::growth::Limits;
use crate::guard::guarded;
use crate::tokenizer::is_blank;
use crate::{Error, MAX_VOCABULARY_BYTES};

/// The tokenizer of a text encoder: CLIP's byte-level BPE, BERT's WordPiece, or whatever else its
/// `tokenizer.json` describes.
///
/// Built once; `Send + Sync`, and every method takes `&self`.
#[derive(Debug, Clone)]
pub struct TextTokenizer {
    inner: Tokenizer,
    limits: Limits,
}

impl TextTokenizer {
    /// Builds the tokenizer that a `tokenizer.json` describes.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Grows`], [`Error::LongTokens`], and what the `tokenizers` crate
    /// refuses.
    pub fn new(tokenizer_json: &[u8]) -> Result<Self, Error> {
        if tokenizer_json.len() as u64 > MAX_VOCABULARY_BYTES {
            let file = "tokenizer.json";
            return Err(Error::TooLarge { file, limit: MAX_VOCABULARY_BYTES });
        }
        let limits = Limits::of(tokenizer_json)?;
        let mut inner = guarded("loading", || Tokenizer::from_bytes(tokenizer_json))?;
        // One text at a time has nothing to be padded to, and a text is cut where the encoder
        // ends, not where the file says.
        inner.with_padding(None);
        guarded("loading", || inner.with_truncation(None).map(|_| ()))?;
        // A text that spells `<|endoftext|>` or `[SEP]` does not end there.
        inner.set_encode_special_tokens(true);
        Ok(Self { inner, limits })
    }

    /// The ids of a text, start and end tokens included.
    ///
    /// Special tokens that the text spells become ordinary pieces, NUL characters are dropped; for
    /// any other text the ids are those of the authors' `tokenizer(text)`.
    ///
    /// # Errors
    /// [`Error::EmptyText`] for an empty or blank text, [`Error::TextTooLong`] where it has more
    /// than `max_tokens`, [`Error::TooManyBytes`], and what the `tokenizers` crate refuses.
    pub fn encode(&self, text: &str, max_tokens: usize) -> Result<Vec<u32>, Error> {
        let ids = self.encode_whole(text)?;
        if ids.len() > max_tokens {
            return Err(Error::TextTooLong { tokens: ids.len(), max_tokens });
        }
        Ok(ids)
    }

    /// The ids of a text as [`encode`](Self::encode) gives them, and how many tokens were cut off
    /// before the end token so that no more than `max_tokens` are left: transformers'
    /// `truncation=True`.
    ///
    /// # Errors
    /// [`Error::EmptyText`], [`Error::TooManyBytes`], and what the `tokenizers` crate refuses.
    pub fn encode_truncated(
        &self,
        text: &str,
        max_tokens: usize,
    ) -> Result<(Vec<u32>, usize), Error> {
        let mut ids = self.encode_whole(text)?;
        let excess = ids.len().saturating_sub(max_tokens);
        let end = ids.len().saturating_sub(1);
        ids.drain(end.saturating_sub(excess)..end);
        Ok((ids, excess))
    }

    fn encode_whole(&self, text: &str) -> Result<Vec<u32>, Error> {
        if is_blank(text) {
            return Err(Error::EmptyText);
        }
        self.limits.check_text(text.len())?;
        let text = text.replace('\0', "");
        let encoding = guarded("encoding", || self.inner.encode_fast(text, true))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The largest id plus one: the rows that the encoder's table of tokens needs.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab(true).values().max().map_or(0, |id| *id as usize + 1)
    }
}
