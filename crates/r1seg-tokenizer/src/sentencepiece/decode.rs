//! Pieces to text: `SentencePieceProcessor::Decode` (google/sentencepiece v0.2.0).

use super::model::{Kind, SPACE, SentencePiece};

impl SentencePiece {
    /// Text of `pieces`, which need not be in the vocabulary: transformers may have cut a leading
    /// space off the first one.
    pub(crate) fn decode(&self, pieces: &[&str], dummy_prefix: bool) -> String {
        let strips_leading_space = (dummy_prefix && self.normalizer.add_dummy_prefix)
            || self.normalizer.remove_extra_whitespaces;
        let mut text = String::new();
        let mut bytes = Vec::new();
        let mut at_start = true;
        let mut stripped = false;
        for &piece in pieces {
            let id = self.id_of(piece).unwrap_or(self.unk_id);
            let kind = self.piece(id).map_or(Kind::Unknown, |piece| piece.kind);
            if let Kind::Byte(byte) = kind {
                bytes.push(byte);
                continue;
            }
            push_bytes(&mut text, &mut bytes);
            if stripped || !text.is_empty() {
                at_start = false;
            }
            stripped = false;
            match kind {
                Kind::Control => {}
                Kind::Unknown => {
                    let is_unk = self.piece(self.unk_id).is_some_and(|unk| *unk.text == *piece);
                    text.push_str(if is_unk { &self.unk_surface } else { piece });
                }
                _ => {
                    let mut piece = piece;
                    if at_start
                        && strips_leading_space
                        && let Some(rest) = piece.strip_prefix(SPACE)
                    {
                        piece = rest;
                        stripped = !self.normalizer.remove_extra_whitespaces;
                    }
                    text.extend(piece.chars().map(|c| if c == SPACE { ' ' } else { c }));
                }
            }
        }
        push_bytes(&mut text, &mut bytes);
        text
    }
}

/// Appends a run of byte pieces; every byte that is not part of a character becomes U+FFFD.
fn push_bytes(text: &mut String, bytes: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    bytes.clear();
}
