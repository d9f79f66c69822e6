//! SentencePiece's BPE with byte fallback, written from its behavior: the pieces, how text is cut
//! into them, and how they become text again.

mod bpe;
mod decode;
mod model;
mod protobuf;
mod tokenizer_json;

pub(crate) use model::{SPACE, SentencePiece, byte_of};

#[cfg(test)]
mod tests;
