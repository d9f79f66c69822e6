//! The crate's error type.

mod detail;

pub use r1seg_diagnostic::ErrorKind;

pub(crate) use self::detail::Detail;

r1seg_diagnostic::opaque_error! {
    /// Everything that can go wrong between a tokenizer folder and token ids.
    pub struct Error(Detail);
}

impl Error {
    /// Whether the folder has none of the files that a vocabulary is read from (`R-TOK-03`,
    /// `R-TOK-22`).
    pub fn is_missing_vocabulary(&self) -> bool {
        matches!(*self.0, Detail::NoVocabulary | Detail::NoTextVocabulary)
    }

    pub(crate) fn into_detail(self) -> Detail {
        *self.0
    }
}
