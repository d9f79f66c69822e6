//! The bytes of a tokenizer folder.

use std::borrow::Cow;
use std::path::Path;

use crate::Error;
use crate::error::Detail;

/// The largest `tokenizer.json` or `tokenizer.model` that is read: seven times Llama-3's.
pub const MAX_VOCABULARY_BYTES: u64 = 64 << 20;
/// The largest of the small JSON files that is read: three hundred times Llama-3's.
pub const MAX_CONFIG_BYTES: u64 = 16 << 20;

/// The contents of the files that transformers writes next to a model, where they exist.
///
/// Built by [`TokenizerFiles::from_dir`], or by hand from embedded bytes.
#[derive(Debug, Clone, Default)]
pub struct TokenizerFiles {
    /// `tokenizer.json`: the whole pipeline in the format of the `tokenizers` crate.
    pub tokenizer_json: Option<Cow<'static, [u8]>>,
    /// `tokenizer.model`: a SentencePiece model.
    pub tokenizer_model: Option<Cow<'static, [u8]>>,
    /// `vocab.txt`: a WordPiece vocabulary, of text encoders alone.
    pub vocab_txt: Option<Cow<'static, [u8]>>,
    /// `vocab.json`: a byte-level BPE vocabulary, `{piece: id}`, of text encoders alone.
    pub vocab_json: Option<Cow<'static, [u8]>>,
    /// `merges.txt`: the merges that belong to `vocab.json`, in their order.
    pub merges_txt: Option<Cow<'static, [u8]>>,
    /// `tokenizer_config.json`: class, flags, special and added tokens.
    pub tokenizer_config: Option<Cow<'static, [u8]>>,
    /// `added_tokens.json`: `{token: id}`.
    pub added_tokens: Option<Cow<'static, [u8]>>,
    /// `special_tokens_map.json`: `{role: token}`.
    pub special_tokens_map: Option<Cow<'static, [u8]>>,
}

impl TokenizerFiles {
    /// Reads the files from `dir`; a missing one is `None`.
    ///
    /// # Errors
    /// `R-TOK-01` if `dir` is not a folder, or a file in it cannot be read, `R-TOK-02` past
    /// [`MAX_VOCABULARY_BYTES`] or [`MAX_CONFIG_BYTES`], `R-TOK-18` for pipes, devices and
    /// UTF-16.
    pub fn from_dir(dir: &Path) -> Result<Self, Error> {
        if let Err(source) = std::fs::read_dir(dir) {
            return Err(Detail::Io { path: dir.to_owned(), source }.into());
        }
        Ok(Self {
            tokenizer_json: read(dir, "tokenizer.json", MAX_VOCABULARY_BYTES)?,
            tokenizer_model: read(dir, "tokenizer.model", MAX_VOCABULARY_BYTES)?,
            vocab_txt: read(dir, "vocab.txt", MAX_VOCABULARY_BYTES)?,
            vocab_json: read(dir, "vocab.json", MAX_VOCABULARY_BYTES)?,
            merges_txt: read(dir, "merges.txt", MAX_VOCABULARY_BYTES)?,
            tokenizer_config: read(dir, "tokenizer_config.json", MAX_CONFIG_BYTES)?,
            added_tokens: read(dir, "added_tokens.json", MAX_CONFIG_BYTES)?,
            special_tokens_map: read(dir, "special_tokens_map.json", MAX_CONFIG_BYTES)?,
        })
    }

    /// Refuses files that no real tokenizer has, whichever way they came.
    pub(crate) fn check_sizes(&self) -> Result<(), Error> {
        let sizes = [
            ("tokenizer.json", &self.tokenizer_json, MAX_VOCABULARY_BYTES),
            ("tokenizer.model", &self.tokenizer_model, MAX_VOCABULARY_BYTES),
            ("vocab.txt", &self.vocab_txt, MAX_VOCABULARY_BYTES),
            ("vocab.json", &self.vocab_json, MAX_VOCABULARY_BYTES),
            ("merges.txt", &self.merges_txt, MAX_VOCABULARY_BYTES),
            ("tokenizer_config.json", &self.tokenizer_config, MAX_CONFIG_BYTES),
            ("added_tokens.json", &self.added_tokens, MAX_CONFIG_BYTES),
            ("special_tokens_map.json", &self.special_tokens_map, MAX_CONFIG_BYTES),
        ];
        for (file, bytes, limit) in sizes {
            if bytes.as_ref().is_some_and(|bytes| bytes.len() as u64 > limit) {
                return Err(Detail::TooLarge { file, limit }.into());
            }
        }
        Ok(())
    }
}

fn read(dir: &Path, file: &'static str, limit: u64) -> Result<Option<Cow<'static, [u8]>>, Error> {
    use r1seg_files::Error as Fault;
    let path = dir.join(file);
    let is_json = file.ends_with(".json");
    let read = if is_json { r1seg_files::read_utf8_json } else { r1seg_files::read };
    match read(&path, limit) {
        Ok(bytes) => Ok(Some(Cow::Owned(bytes))),
        Err(error) if error.is_not_found() => Ok(None),
        Err(Fault::Io(source)) => Err(Detail::Io { path, source }.into()),
        Err(Fault::TooLong { .. }) => Err(Detail::TooLarge { file, limit }.into()),
        Err(source) => Err(Detail::Unusable { file, source }.into()),
    }
}
