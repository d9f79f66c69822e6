//! The pieces of a SentencePiece model and its normalizer.
//!
//! Field numbers are those of `sentencepiece_model.proto` (google/sentencepiece v0.2.0).

use std::collections::{HashMap, HashSet};

use super::protobuf::{Fields, Value};
use crate::Error;
use crate::error::Detail;

/// What SentencePiece writes for a space.
pub(crate) const SPACE: char = '\u{2581}';

/// The score of a piece that no pair of pieces makes up: it is decoded, and never merged.
pub(crate) const NOT_MERGED: f32 = f32::NEG_INFINITY;

/// Longer than any piece of a real vocabulary, any of which may be in an answer many times.
const MAX_PIECE_BYTES: usize = 64 << 10;

/// How a piece takes part in tokenization; `ModelProto.SentencePiece.Type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte(u8),
}

#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) text: Box<str>,
    pub(crate) score: f32,
    pub(crate) kind: Kind,
}

/// The flags of `NormalizerSpec`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Normalizer {
    pub(crate) add_dummy_prefix: bool,
    pub(crate) remove_extra_whitespaces: bool,
    pub(crate) escape_whitespaces: bool,
    pub(crate) whitespace_as_suffix: bool,
}

/// A SentencePiece BPE model.
#[derive(Debug, Clone)]
pub(crate) struct SentencePiece {
    pub(crate) pieces: Vec<Piece>,
    /// All pieces by text.
    pub(crate) ids: HashMap<Box<str>, u32>,
    /// Ids of the 256 bytes; `None`: no byte fallback.
    pub(crate) bytes: Option<Box<[u32; 256]>>,
    pub(crate) unk_id: u32,
    /// What an unknown piece decodes to.
    pub(crate) unk_surface: Box<str>,
    pub(crate) normalizer: Normalizer,
    /// User-defined pieces, longest first: they are cut out before any merge.
    pub(crate) user_defined: Vec<u32>,
    pub(crate) has_unused: bool,
    /// Characters that stand before a space within some piece. In Llama's vocabulary that is the
    /// space alone, so that a text falls into words.
    pub(crate) before_space: HashSet<char>,
    /// Added tokens, which no merge may produce, so that text cannot spell them.
    pub(crate) reserved: HashSet<u32>,
}

/// What the parts of a `ModelProto` say, before it is checked.
pub(crate) struct Parts {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) byte_fallback: bool,
    pub(crate) unk_surface: Box<str>,
    pub(crate) normalizer: Normalizer,
}

impl SentencePiece {
    /// Reads a `tokenizer.model`.
    pub(crate) fn from_model_file(file: &[u8]) -> Result<Self, Error> {
        let mut parts = Parts {
            pieces: Vec::new(),
            byte_fallback: false,
            unk_surface: " \u{2047} ".into(),
            normalizer: Normalizer {
                add_dummy_prefix: true,
                remove_extra_whitespaces: true,
                escape_whitespaces: true,
                whitespace_as_suffix: false,
            },
        };
        // The enum's default, UNIGRAM, holds where the file is silent.
        let mut model_type = 1;
        let mut fields = Fields::new(file, 0);
        while let Some((number, value)) = fields.next()? {
            match (number, value) {
                (1, Value::Bytes { at, bytes }) => parts.pieces.push(piece(bytes, at)?),
                (2, Value::Bytes { at, bytes }) => trainer(bytes, at, &mut parts, &mut model_type)?,
                (3, Value::Bytes { at, bytes }) => normalizer(bytes, at, &mut parts.normalizer)?,
                (1..=3, _) => return Err(fields.error("wrong wire type")),
                _ => {}
            }
        }
        if parts.pieces.is_empty() {
            return Err(Detail::SentencePiece { offset: 0, message: "no pieces" }.into());
        }
        if model_type != 2 {
            let what = match model_type {
                1 => "a unigram model".to_owned(),
                other => format!("model type {other}"),
            };
            return Err(Detail::Unsupported { file: "tokenizer.model", what }.into());
        }
        Self::from_parts(parts)
    }

    pub(crate) fn from_parts(parts: Parts) -> Result<Self, Error> {
        let invalid = |message| Error::from(Detail::SentencePiece { offset: 0, message });
        let mut ids = HashMap::with_capacity(parts.pieces.len());
        let mut bytes = [None; 256];
        if parts.unk_surface.len() > MAX_PIECE_BYTES {
            return Err(invalid("the text of the unknown piece is longer than any real one"));
        }
        let mut unk_id = None;
        let mut user_defined = Vec::new();
        for (id, piece) in (0u32..).zip(&parts.pieces) {
            if piece.text.is_empty() {
                return Err(invalid("a piece is empty"));
            }
            if piece.text.len() > MAX_PIECE_BYTES {
                return Err(invalid("a piece is longer than any real one"));
            }
            if ids.insert(piece.text.clone(), id).is_some() {
                return Err(invalid("a piece occurs twice"));
            }
            match piece.kind {
                Kind::Unknown if unk_id.replace(id).is_some() => {
                    return Err(invalid("two unknown pieces"));
                }
                Kind::Byte(byte) => bytes[usize::from(byte)] = Some(id),
                Kind::UserDefined => user_defined.push(id),
                _ => {}
            }
        }
        let bytes = if parts.byte_fallback {
            let mut table = Box::new([0; 256]);
            for (slot, id) in table.iter_mut().zip(bytes) {
                *slot = id.ok_or(invalid("byte fallback without all 256 bytes"))?;
            }
            Some(table)
        } else {
            None
        };
        let pairs = parts.pieces.iter().flat_map(|p| p.text.chars().zip(p.text.chars().skip(1)));
        let before_space = pairs.filter(|pair| pair.1 == SPACE).map(|pair| pair.0).collect();
        let length = |id: &u32| parts.pieces.get(*id as usize).map_or(0, |piece| piece.text.len());
        user_defined.sort_by_key(|id| std::cmp::Reverse(length(id)));
        Ok(Self {
            has_unused: parts.pieces.iter().any(|piece| piece.kind == Kind::Unused),
            unk_id: unk_id.ok_or(invalid("no unknown piece"))?,
            pieces: parts.pieces,
            ids,
            bytes,
            unk_surface: parts.unk_surface,
            normalizer: parts.normalizer,
            user_defined,
            before_space,
            reserved: HashSet::new(),
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// The id of any piece, control and byte pieces included.
    pub(crate) fn id_of(&self, piece: &str) -> Option<u32> {
        self.ids.get(piece).copied()
    }

    /// True for pieces that decode to their own text.
    pub(crate) fn is_text(&self, id: u32) -> bool {
        let kind = self.piece(id).map(|piece| piece.kind);
        matches!(kind, Some(Kind::Normal | Kind::UserDefined | Kind::Unused))
    }

    pub(crate) fn piece(&self, id: u32) -> Option<&Piece> {
        self.pieces.get(usize::try_from(id).ok()?)
    }
}

fn piece(bytes: &[u8], at: usize) -> Result<Piece, Error> {
    let mut fields = Fields::new(bytes, at);
    let (mut text, mut score, mut kind) = ("", 0.0, 1);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, Value::Bytes { bytes, at }) => {
                text = std::str::from_utf8(bytes).map_err(|_| {
                    Error::from(Detail::SentencePiece {
                        offset: at,
                        message: "a piece is not UTF-8",
                    })
                })?;
            }
            (2, Value::Fixed32(bits)) => score = f32::from_bits(bits),
            (3, Value::Varint(value)) => kind = value,
            (1..=3, _) => return Err(fields.error("wrong wire type in a piece")),
            _ => {}
        }
    }
    let kind = match kind {
        1 => Kind::Normal,
        2 => Kind::Unknown,
        3 => Kind::Control,
        4 => Kind::UserDefined,
        5 => Kind::Unused,
        6 => Kind::Byte(
            byte_of(text).ok_or_else(|| fields.error("a byte piece is not of the form <0x00>"))?,
        ),
        _ => return Err(fields.error("unknown piece type")),
    };
    Ok(Piece { text: text.into(), score, kind })
}

/// The byte that `<0x1F>` stands for.
pub(crate) fn byte_of(piece: &str) -> Option<u8> {
    let hex = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    (hex.len() == 2 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .then(|| u8::from_str_radix(hex, 16).ok())?
}

fn trainer(bytes: &[u8], at: usize, parts: &mut Parts, model_type: &mut u64) -> Result<(), Error> {
    let mut fields = Fields::new(bytes, at);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (3, Value::Varint(value)) => *model_type = value,
            (24, Value::Varint(value)) => parts.normalizer.whitespace_as_suffix = value != 0,
            (35, Value::Varint(value)) => parts.byte_fallback = value != 0,
            (44, Value::Bytes { bytes, .. }) => {
                parts.unk_surface = String::from_utf8_lossy(bytes).into();
            }
            _ => {}
        }
    }
    Ok(())
}

fn normalizer(bytes: &[u8], at: usize, normalizer: &mut Normalizer) -> Result<(), Error> {
    let mut fields = Fields::new(bytes, at);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (2, Value::Bytes { bytes, .. }) if !bytes.is_empty() => {
                let what = "a normalizer with character rules (only `identity` is)".to_owned();
                return Err(Detail::Unsupported { file: "tokenizer.model", what }.into());
            }
            (3, Value::Varint(value)) => normalizer.add_dummy_prefix = value != 0,
            (4, Value::Varint(value)) => normalizer.remove_extra_whitespaces = value != 0,
            (5, Value::Varint(value)) => normalizer.escape_whitespaces = value != 0,
            _ => {}
        }
    }
    Ok(())
}
