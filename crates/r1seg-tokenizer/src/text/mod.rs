//! [`TextTokenizer`]: texts for the CLIP and BERT encoders.
//!
//! Publishers save such a tokenizer in one of two forms: as `tokenizer.json`, which describes the whole
//! pipeline, or as a vocabulary whose pipeline is that of a Python class. [`wordpiece`] and
//! [`clip_bpe`] build the pipelines of the second form from the parts of the `tokenizers` crate, as
//! transformers' converters do.

mod clip_bpe;
mod wordpiece;

use tokenizers::Tokenizer;

use crate::error::Detail;
use crate::growth::Limits;
use crate::guard::guarded;
use crate::tokenizer::is_blank;
use crate::{Error, TokenizerFiles};

/// The tokenizer of a text encoder: CLIP's byte-level BPE, BERT's WordPiece, or whatever else a
/// `tokenizer.json` describes.
///
/// Built once; `Send + Sync`, and every method takes `&self`.
#[derive(Debug, Clone)]
pub struct TextTokenizer {
    inner: Tokenizer,
    limits: Limits,
}

impl TextTokenizer {
    /// Builds the tokenizer from `tokenizer.json`, else from `vocab.txt` (BERT), else from
    /// `vocab.json` and `merges.txt` (CLIP).
    ///
    /// # Errors
    /// `R-TOK-22` where none of these is there, `R-TOK-02`, `R-TOK-04` and
    /// `R-TOK-23` for files that are broken, `R-TOK-19`, `R-TOK-20`, and
    /// what the `tokenizers` crate refuses.
    pub fn new(files: &TokenizerFiles) -> Result<Self, Error> {
        files.check_sizes()?;
        if let Some(json) = &files.tokenizer_json {
            let limits = Limits::of(json)?;
            return Self::with(guarded("loading", || Tokenizer::from_bytes(json))?, limits);
        }
        let inner = if let Some(vocabulary) = &files.vocab_txt {
            wordpiece::build(vocabulary, &Options::read(files)?)?
        } else if let (Some(vocabulary), Some(merges)) = (&files.vocab_json, &files.merges_txt) {
            clip_bpe::build(vocabulary, merges, &Options::read(files)?)?
        } else {
            return Err(Detail::NoTextVocabulary.into());
        };
        let json = guarded("loading", || inner.to_string(/* pretty */ false))?;
        Self::with(inner, Limits::of(json.as_bytes())?)
    }

    fn with(mut inner: Tokenizer, limits: Limits) -> Result<Self, Error> {
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
    /// `R-TOK-15` for an empty or blank text, `R-TOK-16` where it has more
    /// than `max_tokens`, `R-TOK-21`, and what the `tokenizers` crate refuses.
    pub fn encode(&self, text: &str, max_tokens: usize) -> Result<Vec<u32>, Error> {
        let ids = self.encode_whole(text)?;
        if ids.len() > max_tokens {
            return Err(Detail::TextTooLong { tokens: ids.len(), max_tokens }.into());
        }
        Ok(ids)
    }

    /// The ids of a text as [`encode`](Self::encode) gives them, and how many tokens were cut off
    /// before the end token so that no more than `max_tokens` are left: transformers'
    /// `truncation=True`.
    ///
    /// # Errors
    /// `R-TOK-15`, `R-TOK-21`, and what the `tokenizers` crate refuses.
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
            return Err(Detail::EmptyText.into());
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

/// The fields of `tokenizer_config.json` that shape a tokenizer; an absent one has the default of
/// transformers' class.
#[derive(Debug, serde::Deserialize)]
#[serde(default)]
struct Options {
    tokenizer_class: Option<String>,
    do_lower_case: bool,
    do_basic_tokenize: bool,
    tokenize_chinese_chars: bool,
    strip_accents: Option<bool>,
    #[serde(flatten)]
    special: Special,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tokenizer_class: None,
            do_lower_case: true,
            do_basic_tokenize: true,
            tokenize_chinese_chars: true,
            strip_accents: None,
            special: Special::default(),
        }
    }
}

/// Special tokens by role, of `tokenizer_config.json` or `special_tokens_map.json`.
#[derive(Debug, Default, serde::Deserialize)]
struct Special {
    unk_token: Option<Spelled>,
    bos_token: Option<Spelled>,
    eos_token: Option<Spelled>,
    sep_token: Option<Spelled>,
    cls_token: Option<Spelled>,
    pad_token: Option<Spelled>,
    mask_token: Option<Spelled>,
}

/// A token as either file may hold it: its text, or an object with its text and flags.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(untagged)]
enum Spelled {
    Text(String),
    Token { content: String },
}

impl Options {
    fn read(files: &TokenizerFiles) -> Result<Self, Error> {
        let mut options: Self =
            parse("tokenizer_config.json", files.tokenizer_config.as_deref())?.unwrap_or_default();
        if let Some(map) =
            parse::<Special>("special_tokens_map.json", files.special_tokens_map.as_deref())?
        {
            options.special.fill(map);
        }
        Ok(options)
    }
}

impl Special {
    /// Takes the tokens that are missing here from `other`.
    fn fill(&mut self, other: Self) {
        let pairs = [
            (&mut self.unk_token, other.unk_token),
            (&mut self.bos_token, other.bos_token),
            (&mut self.eos_token, other.eos_token),
            (&mut self.sep_token, other.sep_token),
            (&mut self.cls_token, other.cls_token),
            (&mut self.pad_token, other.pad_token),
            (&mut self.mask_token, other.mask_token),
        ];
        for (token, other) in pairs {
            *token = token.take().or(other);
        }
    }
}

/// The text of a special token, or the one that transformers' class gives it.
fn spelled(token: Option<&Spelled>, default: &str) -> String {
    match token {
        Some(Spelled::Text(content) | Spelled::Token { content }) => content.clone(),
        None => default.to_owned(),
    }
}

fn parse<T: serde::de::DeserializeOwned>(
    file: &'static str,
    bytes: Option<&[u8]>,
) -> Result<Option<T>, Error> {
    let parsed = bytes.map(serde_json::from_slice).transpose();
    parsed.map_err(|e| Error::from(Detail::Json { file, message: e.to_string() }))
}

/// The id of a special token, which a pipeline cannot do without.
fn id_of(tokenizer: &Tokenizer, token: &str, file: &'static str) -> Result<u32, Error> {
    tokenizer.token_to_id(token).ok_or_else(|| {
        Error::from(Detail::Vocabulary {
            file,
            message: format!("the special token `{token}` is missing"),
        })
    })
}
