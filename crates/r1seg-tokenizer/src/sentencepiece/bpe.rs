//! Text to pieces: normalization, then merges by score.
//!
//! Behavior of `src/normalizer.cc`, `src/bpe_model.cc` and
//! `SentencePieceProcessor::PopulateSentencePieceText` (google/sentencepiece v0.2.0): among all
//! neighbors that together are a piece, the pair whose piece scores best is merged, the leftmost
//! of equals first. A heap of candidate pairs makes it `O(n log n)`.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use super::model::{Kind, NOT_MERGED, SPACE, SentencePiece};

/// A run of the text that is one piece, or becomes part of one. Linked: merges unlink the right one.
#[derive(Debug, Clone, Copy)]
struct Symbol {
    start: usize,
    /// Zero after the symbol was merged into its left neighbor.
    len: usize,
    prev: usize,
    next: usize,
    /// User-defined pieces never merge.
    frozen: bool,
}

/// No neighbor.
const NONE: usize = usize::MAX;

/// A possible merge of two neighbors, valid while both still have the lengths they had.
#[derive(Debug, PartialEq)]
struct Candidate {
    score: f32,
    left: usize,
    right: usize,
    len: usize,
}

impl Eq for Candidate {}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then_with(|| other.left.cmp(&self.left))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl SentencePiece {
    /// Ids of `text`; `dummy_prefix` adds SentencePiece's own leading space where the model asks
    /// for one (transformers switches it off unless the tokenizer is a legacy one).
    pub(crate) fn encode(&self, text: &str, dummy_prefix: bool) -> Vec<u32> {
        let text = self.normalize(text, dummy_prefix && self.normalizer.add_dummy_prefix);
        let mut ids = Vec::with_capacity(text.len() / 3 + 4);
        let mut previous_unknown = false;
        for (piece, id) in self.pieces_of(&text) {
            previous_unknown = match (id, &self.bytes) {
                (Some(id), _) if id != self.unk_id => {
                    ids.push(id);
                    false
                }
                (_, Some(bytes)) => {
                    ids.extend(piece.bytes().map(|byte| bytes[usize::from(byte)]));
                    false
                }
                (_, None) => {
                    // A run of unknown pieces is one unknown token.
                    if !previous_unknown {
                        ids.push(self.unk_id);
                    }
                    true
                }
            };
        }
        ids
    }

    fn normalize<'a>(&self, text: &'a str, dummy_prefix: bool) -> Cow<'a, str> {
        let flags = self.normalizer;
        let text = if flags.remove_extra_whitespaces { text.trim_matches(' ') } else { text };
        if text.is_empty() {
            return Cow::Borrowed(text);
        }
        let space = if flags.escape_whitespaces { SPACE } else { ' ' };
        let mut normalized = String::with_capacity(text.len() + text.len() / 2);
        if dummy_prefix && !flags.whitespace_as_suffix {
            normalized.push(space);
        }
        let mut after_space = false;
        for c in text.chars() {
            if c == ' ' {
                if !(after_space && flags.remove_extra_whitespaces) {
                    normalized.push(space);
                }
                after_space = true;
            } else {
                normalized.push(c);
                after_space = false;
            }
        }
        if flags.remove_extra_whitespaces {
            // It is the escaped spaces that SentencePiece trims at the end, typed ones included.
            let trimmed = normalized.trim_end_matches(space).len();
            normalized.truncate(trimmed);
        }
        if dummy_prefix && flags.whitespace_as_suffix {
            normalized.push(space);
        }
        Cow::Owned(normalized)
    }

    /// The pieces of normalized text with their ids, `None` for what the vocabulary lacks.
    fn pieces_of<'a>(&self, text: &'a str) -> Vec<(&'a str, Option<u32>)> {
        let mut pieces = Vec::new();
        // Words that no piece can join are merged one by one, which changes nothing but the time.
        // The splits of unused pieces are remembered across the whole text.
        let (mut start, mut previous) = (0, SPACE);
        for (at, c) in text.char_indices() {
            if c == SPACE && at > 0 && !self.before_space.contains(&previous) && !self.has_unused {
                self.merge_word(&text[start..at], &mut pieces);
                start = at;
            }
            previous = c;
        }
        self.merge_word(&text[start..], &mut pieces);
        pieces
    }

    fn merge_word<'a>(&self, text: &'a str, pieces: &mut Vec<(&'a str, Option<u32>)>) {
        let mut symbols = self.symbols(text);
        let mut heap = BinaryHeap::with_capacity(symbols.len());
        let mut unused_splits = HashMap::new();
        for right in 1..symbols.len() {
            self.propose(text, &symbols, right - 1, right, &mut heap, &mut unused_splits);
        }
        while let Some(Candidate { left, right, len, .. }) = heap.pop() {
            let (l, r) = (symbols[left], symbols[right]);
            if l.len == 0 || r.len == 0 || l.len + r.len != len {
                continue;
            }
            symbols[left].len = len;
            symbols[left].next = r.next;
            symbols[right].len = 0;
            if r.next != NONE {
                symbols[r.next].prev = left;
                self.propose(text, &symbols, left, r.next, &mut heap, &mut unused_splits);
            }
            if l.prev != NONE {
                self.propose(text, &symbols, l.prev, left, &mut heap, &mut unused_splits);
            }
        }
        // Merges only ever append to a symbol, so that what is left stands in text order.
        for symbol in symbols.iter().filter(|symbol| symbol.len > 0) {
            let piece = &text[symbol.start..symbol.start + symbol.len];
            self.push_used(piece, &unused_splits, pieces);
        }
    }

    /// One symbol per user-defined piece and per remaining character.
    fn symbols(&self, text: &str) -> Vec<Symbol> {
        let mut symbols: Vec<Symbol> = Vec::with_capacity(text.len());
        let mut start = 0;
        while let Some(c) = text[start..].chars().next() {
            let user_defined = self
                .user_defined
                .iter()
                .filter(|&id| !self.reserved.contains(id))
                .filter_map(|&id| self.piece(id))
                .find(|piece| text[start..].starts_with(&*piece.text));
            let len = user_defined.map_or(c.len_utf8(), |piece| piece.text.len());
            let at = symbols.len();
            symbols.push(Symbol {
                start,
                len,
                prev: at.checked_sub(1).unwrap_or(NONE),
                next: at + 1,
                frozen: user_defined.is_some(),
            });
            start += len;
        }
        if let Some(last) = symbols.last_mut() {
            last.next = NONE;
        }
        symbols
    }

    /// Enters the pair into the heap if it is a piece that merges may produce.
    fn propose<'a>(
        &self,
        text: &'a str,
        symbols: &[Symbol],
        left: usize,
        right: usize,
        heap: &mut BinaryHeap<Candidate>,
        unused_splits: &mut HashMap<&'a str, usize>,
    ) {
        let (l, r) = (symbols[left], symbols[right]);
        if l.frozen || r.frozen {
            return;
        }
        let len = l.len + r.len;
        let merged = &text[l.start..l.start + len];
        let Some((id, piece)) = self.id_of(merged).and_then(|id| Some((id, self.piece(id)?)))
        else {
            return;
        };
        let mergeable = matches!(piece.kind, Kind::Normal | Kind::UserDefined | Kind::Unused);
        if !mergeable || piece.score == NOT_MERGED || self.reserved.contains(&id) {
            return;
        }
        heap.push(Candidate { score: piece.score, left, right, len });
        if piece.kind == Kind::Unused {
            unused_splits.insert(merged, l.len);
        }
    }

    /// Unused pieces help merging; in the result they fall apart again.
    fn push_used<'a>(
        &self,
        piece: &'a str,
        unused_splits: &HashMap<&str, usize>,
        pieces: &mut Vec<(&'a str, Option<u32>)>,
    ) {
        let mut todo = vec![piece];
        while let Some(piece) = todo.pop() {
            let id = self.id_of(piece);
            let unused = self.has_unused
                && id.and_then(|id| self.piece(id)).is_some_and(|p| p.kind == Kind::Unused);
            match unused_splits.get(piece) {
                Some(&left) if unused => {
                    let (left, right) = piece.split_at(left);
                    todo.extend([right, left]);
                }
                _ => pieces.push((piece, id)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{Normalizer, Parts, Piece};
    use super::*;

    const LLAMA: Normalizer = Normalizer {
        add_dummy_prefix: true,
        remove_extra_whitespaces: false,
        escape_whitespaces: true,
        whitespace_as_suffix: false,
    };

    fn model(normalizer: Normalizer, byte_fallback: bool) -> SentencePiece {
        let piece = |text: &str, score: f32, kind| Piece { text: text.into(), score, kind };
        let mut pieces = vec![
            piece("<unk>", 0.0, Kind::Unknown),
            piece("<s>", 0.0, Kind::Control),
            piece("<u>", 0.0, Kind::UserDefined),
        ];
        for (text, score) in [("\u{2581}", 0.0), ("a", 0.0), ("b", 0.0), ("s", 0.0), ("<", 0.0)] {
            pieces.push(piece(text, score, Kind::Normal));
        }
        pieces.push(piece("ab", -1.0, Kind::Unused));
        pieces.push(piece("aba", -3.0, Kind::Normal));
        pieces.push(piece("ba", -2.0, Kind::Normal));
        if byte_fallback {
            for byte in 0..=255u8 {
                pieces.push(piece(&format!("<0x{byte:02X}>"), 0.0, Kind::Byte(byte)));
            }
        }
        let parts = Parts { pieces, byte_fallback, unk_surface: "?".into(), normalizer };
        SentencePiece::from_parts(parts).expect("valid")
    }

    fn pieces(model: &SentencePiece, text: &str) -> Vec<String> {
        let ids = model.encode(text, true);
        ids.iter().map(|&id| model.pieces[id as usize].text.to_string()).collect()
    }

    #[test]
    fn best_score_merges_first_and_unused_pieces_fall_apart() {
        let model = model(LLAMA, false);
        assert_eq!(pieces(&model, "ab"), ["▁", "a", "b"]);
        assert_eq!(pieces(&model, "aba"), ["▁", "aba"]);
        assert_eq!(pieces(&model, "bab"), ["▁", "b", "a", "b"]);
        assert_eq!(pieces(&model, "ba"), ["▁", "ba"]);
    }

    #[test]
    fn unknown_characters_are_one_token_or_bytes() {
        assert_eq!(pieces(&model(LLAMA, false), "xéa"), ["▁", "<unk>", "a"]);
        let bytes = pieces(&model(LLAMA, true), "éa");
        assert_eq!(bytes, ["▁", "<0xC3>", "<0xA9>", "a"]);
    }

    #[test]
    fn control_pieces_cannot_be_spelled_and_user_defined_ones_can() {
        let model = model(LLAMA, true);
        let spelled = pieces(&model, "<s><u>a");
        assert_eq!(spelled, ["▁", "<", "s", "<0x3E>", "<u>", "a"]);
    }

    #[test]
    fn whitespace_follows_the_normalizer_flags() {
        let model_with = |normalizer| model(normalizer, true);
        assert_eq!(pieces(&model_with(LLAMA), " a  s "), ["▁", "▁", "a", "▁", "▁", "s", "▁"]);
        let extra = Normalizer { remove_extra_whitespaces: true, ..LLAMA };
        assert_eq!(pieces(&model_with(extra), "  a  s▁ "), ["▁", "a", "▁", "s"]);
        assert!(pieces(&model_with(extra), "  ").is_empty());
        assert!(pieces(&model_with(LLAMA), "").is_empty());
        assert!(model_with(LLAMA).encode(" a", false).len() == 2);
    }
}
