use std::io;
use std::path::{Path, PathBuf};

use r1seg_diagnostic::{Diagnostic, ErrorKind, Remedy};

/// The cases of [`Error`](super::Error); `Display` is the message without the path.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Detail {
    /// A file of the folder exists but could not be read.
    #[error("the file cannot be read: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A file is larger than any real tokenizer.
    #[error("`{file}` is larger than {limit} bytes")]
    TooLarge {
        /// The file's name.
        file: &'static str,
        /// The most bytes accepted.
        limit: u64,
    },
    /// A pipe or a device, or a file in another encoding.
    #[error("`{file}` {source}")]
    Unusable {
        /// The file's name.
        file: &'static str,
        /// What is wrong with it.
        source: r1seg_files::Error,
    },
    /// The steps of `tokenizer.json` make far more of a text than any real tokenizer does.
    #[error("`tokenizer.json`: {part} can make a text more than {limit} times as long")]
    Grows {
        /// Which part of the file.
        part: &'static str,
        /// The most bytes or tokens that may come of one, at worst.
        limit: u64,
    },
    /// Tokens of the vocabulary are longer than those of any real tokenizer.
    #[error("the vocabulary has {what} of {bytes} bytes; at most {limit} are read")]
    LongTokens {
        /// Which tokens.
        what: &'static str,
        /// Their bytes.
        bytes: u64,
        /// The most bytes accepted.
        limit: u64,
    },
    /// A text is longer than any that a model reads. Told by its bytes, before it is tokenized.
    #[error("the text is {bytes} bytes long; at most {limit} are read")]
    TooManyBytes {
        /// Its length.
        bytes: usize,
        /// The most bytes accepted.
        limit: usize,
    },
    /// Neither `tokenizer.json` nor `tokenizer.model` was found.
    #[error("found neither `tokenizer.json` nor `tokenizer.model`")]
    NoVocabulary,
    /// None of the files that a text encoder's tokenizer is made of was found.
    #[error("found neither `tokenizer.json`, `vocab.txt`, nor `vocab.json` with `merges.txt`")]
    NoTextVocabulary,
    /// A vocabulary or a list of merges is broken.
    #[error("`{file}`: {message}")]
    Vocabulary {
        /// The file's name.
        file: &'static str,
        /// What is wrong, and where.
        message: String,
    },
    /// A JSON file does not parse, or lacks a field.
    #[error("`{file}`: {message}")]
    Json {
        /// The file's name.
        file: &'static str,
        /// Where and why.
        message: String,
    },
    /// `tokenizer.model` is not a SentencePiece model.
    #[error("`tokenizer.model` at byte {offset}: {message}")]
    SentencePiece {
        /// Where in the file.
        offset: usize,
        /// What is wrong there.
        message: &'static str,
    },
    /// The files are valid and ask for something this crate does not do.
    #[error("`{file}`: {what} is not supported")]
    Unsupported {
        /// The file's name.
        file: &'static str,
        /// The feature.
        what: String,
    },
    /// The `tokenizers` crate refused while doing `stage`.
    #[error("`tokenizer.json` while {stage}: {message}")]
    Tokenizer {
        /// What was being done.
        stage: &'static str,
        /// What the `tokenizers` crate said.
        message: String,
    },
    /// The `tokenizers` crate panicked while doing `stage`.
    #[error("`tokenizer.json` made the tokenizers crate panic while {stage}")]
    Panicked {
        /// What was being done.
        stage: &'static str,
    },
    /// Two files disagree about a token's id.
    #[error("token `{token}`: expected id {expected}, got {got}")]
    IdConflict {
        /// The token.
        token: String,
        /// The id that the files list.
        expected: u32,
        /// The id that the tokenizer gives.
        got: u32,
    },
    /// The id of a token that prompts are made of is also that of another token.
    #[error("tokens `{token}` and `{other}` both have id {id}")]
    SharedId {
        /// The token of the prompt.
        token: String,
        /// The other one.
        other: String,
        /// Their id.
        id: u32,
    },
    /// A token that must be one id is cut into several.
    #[error("token `{token}` (id {id}) is tokenized as {ids:?}")]
    NotAtomic {
        /// The token.
        token: String,
        /// Its id in the vocabulary.
        id: u32,
        /// What its text becomes.
        ids: Vec<u32>,
    },
    /// The model's embedding table has no row for a token.
    #[error("token `{token}` has id {id}, but the embedding table has {rows} rows")]
    EmbeddingRows {
        /// The token with the largest id.
        token: String,
        /// Its id.
        id: u32,
        /// Rows of the embedding table.
        rows: usize,
    },
    /// The question is empty, or blank.
    #[error("the question is empty")]
    EmptyQuestion,
    /// The text for an encoder is empty, or blank.
    #[error("the text is empty")]
    EmptyText,
    /// A text has more tokens than its encoder reads.
    #[error("the text has {tokens} tokens, and the text encoder reads at most {max_tokens}")]
    TextTooLong {
        /// Tokens of the text, start and end tokens included.
        tokens: usize,
        /// Positions of the encoder.
        max_tokens: usize,
    },
    /// A trusted prompt part names a token that the vocabulary lacks.
    #[error("`{token}` is not an added token of this tokenizer")]
    UnknownToken {
        /// The name.
        token: String,
    },
    /// The image placeholders did not come out where the splice needs them.
    #[error(
        "expected {n_image_tokens} `<im_patch>` ids at position 0 or 1, got {found} at {start}, in a prompt of {len} ids"
    )]
    PromptLayout {
        /// Placeholders asked for.
        n_image_tokens: usize,
        /// Placeholders found side by side.
        found: usize,
        /// Where the first one is.
        start: usize,
        /// Ids in the whole prompt.
        len: usize,
    },
}

impl Diagnostic for Detail {
    fn code(&self) -> &'static str {
        match self {
            Detail::Io { .. } => "R-TOK-01",
            Detail::TooLarge { .. } => "R-TOK-02",
            Detail::NoVocabulary => "R-TOK-03",
            Detail::Json { .. } => "R-TOK-04",
            Detail::SentencePiece { .. } => "R-TOK-05",
            Detail::Unsupported { .. } => "R-TOK-06",
            Detail::Tokenizer { .. } => "R-TOK-07",
            Detail::Panicked { .. } => "R-TOK-08",
            Detail::IdConflict { .. } => "R-TOK-09",
            Detail::NotAtomic { .. } => "R-TOK-10",
            Detail::EmbeddingRows { .. } => "R-TOK-11",
            Detail::EmptyQuestion => "R-TOK-12",
            Detail::UnknownToken { .. } => "R-TOK-13",
            Detail::PromptLayout { .. } => "R-TOK-14",
            Detail::EmptyText => "R-TOK-15",
            Detail::TextTooLong { .. } => "R-TOK-16",
            Detail::SharedId { .. } => "R-TOK-17",
            Detail::Unusable { .. } => "R-TOK-18",
            Detail::Grows { .. } => "R-TOK-19",
            Detail::LongTokens { .. } => "R-TOK-20",
            Detail::TooManyBytes { .. } => "R-TOK-21",
            Detail::NoTextVocabulary => "R-TOK-22",
            Detail::Vocabulary { .. } => "R-TOK-23",
        }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Detail::Io { source, .. } if source.kind() == io::ErrorKind::OutOfMemory => {
                ErrorKind::Resources
            }
            Detail::Io { .. } => ErrorKind::Missing,
            Detail::EmptyQuestion | Detail::EmptyText => ErrorKind::Usage,
            Detail::TextTooLong { .. } | Detail::TooManyBytes { .. } => ErrorKind::BadData,
            _ => ErrorKind::Model,
        }
    }

    fn path(&self) -> Option<&Path> {
        match self {
            Detail::Io { path, .. } => Some(path),
            _ => None,
        }
    }

    fn remedy(&self) -> Option<Remedy> {
        let advice = match self {
            Detail::Io { source, .. } if source.kind() == io::ErrorKind::OutOfMemory => {
                return Some(Remedy::RaiseMemoryLimit);
            }
            Detail::Io { .. } => "check that the file exists and is readable",
            Detail::Unusable { source: r1seg_files::Error::Utf16, .. } => "save the file as UTF-8",
            Detail::TooLarge { .. }
            | Detail::Unusable { .. }
            | Detail::Grows { .. }
            | Detail::LongTokens { .. }
            | Detail::Panicked { .. } => "take the tokenizer files from the model's own publisher",
            Detail::NoVocabulary => {
                "copy the tokenizer files next to the weights; a folder with vocab.json and merges.txt \
                 needs tokenizer.json too: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"
            }
            Detail::NoTextVocabulary => {
                "copy the tokenizer files of the model's text encoder next to the weights: \
                     tokenizer.json of openai/clip-vit-base-patch32 for SegVol and R1Seg-3D-SAM, \
                     vocab.txt of bert-base-uncased for M3D-CLIP"
            }
            Detail::Json { .. }
            | Detail::Vocabulary { .. }
            | Detail::SentencePiece { .. }
            | Detail::Tokenizer { .. } => "copy the file again: it is damaged or cut short",
            Detail::Unsupported { .. } => {
                "save the tokenizer as tokenizer.json with transformers' PreTrainedTokenizerFast"
            }
            Detail::IdConflict { .. } | Detail::SharedId { .. } | Detail::NotAtomic { .. } => {
                "take all tokenizer files from the same checkpoint, as save_pretrained wrote them"
            }
            Detail::EmbeddingRows { .. } => {
                "tokenizer and weights belong to different checkpoints: take both from one"
            }
            Detail::EmptyQuestion => return Some(Remedy::AskQuestion),
            Detail::EmptyText => "name what to look for, for example \"liver\"",
            Detail::TextTooLong { .. } | Detail::TooManyBytes { .. } => "use fewer words",
            Detail::UnknownToken { .. } | Detail::PromptLayout { .. } => return None,
        };
        Some(advice.into())
    }
}
