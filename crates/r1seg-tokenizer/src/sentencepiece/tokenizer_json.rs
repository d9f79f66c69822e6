//! The same model from a `tokenizer.json` that transformers made of a `tokenizer.model`.
//!
//! That conversion lists, for every piece and in the order of the scores, all pairs of pieces that
//! make it up. A piece's score is therefore the rank of its first pair, and merging by piece gives
//! back SentencePiece's ids, which merging by pair does too: the differences between slow and fast
//! ids come from what happens around the merges.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;

use super::model::{Kind, NOT_MERGED, Normalizer, Parts, Piece, SentencePiece, byte_of};
use crate::Error;
use crate::config::{AddedToken, parse_json};
use crate::error::Detail;

const FILE: &str = "tokenizer.json";

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<Listed>,
    normalizer: Option<Step>,
    pre_tokenizer: Option<Step>,
    model: Model,
}

/// A step of the pipeline: only its kind matters here.
#[derive(Deserialize)]
struct Step {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    normalizers: Vec<Step>,
}

impl Step {
    /// The first step that is none of those that SentencePiece's own flags stand for.
    fn foreign(&self) -> Option<&str> {
        match self.kind.as_str() {
            "Sequence" if !self.normalizers.is_empty() => {
                self.normalizers.iter().find_map(Step::foreign)
            }
            "Prepend" | "Replace" | "Metaspace" => None,
            kind => Some(kind),
        }
    }
}

#[derive(Deserialize)]
struct Listed {
    id: u32,
    #[serde(flatten)]
    token: AddedToken,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type")]
    model_type: Option<String>,
    #[serde(default)]
    vocab: serde_json::Value,
    #[serde(default)]
    merges: Vec<Merge>,
    unk_token: Option<String>,
    #[serde(default)]
    byte_fallback: bool,
}

/// `"a b"`, or `["a", "b"]` since tokenizers 0.20.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Text(String),
}

impl SentencePiece {
    /// Reads the pieces, and the file's own list of added tokens with their ids.
    pub(crate) fn from_tokenizer_json(
        file: &[u8],
    ) -> Result<(Self, Vec<(u32, AddedToken)>), Error> {
        let file: File = parse_json(FILE, file)?;
        let json = |message: String| Error::from(Detail::Json { file: FILE, message });
        let unsupported = |what: String| Error::from(Detail::Unsupported { file: FILE, what });
        let model = file.model;
        if model.model_type.as_deref().is_some_and(|model_type| model_type != "BPE") {
            let what = model.model_type.unwrap_or_default();
            return Err(unsupported(format!("a LlamaTokenizer with a {what} model")));
        }
        let steps = [&file.normalizer, &file.pre_tokenizer].into_iter().flatten();
        if let Some(kind) = steps.filter_map(Step::foreign).next() {
            return Err(unsupported(format!("a LlamaTokenizer with a {kind} step")));
        }
        let vocab: HashMap<String, u32> = serde_json::from_value(model.vocab)
            .map_err(|error| json(format!("model.vocab: {error}")))?;

        let mut scores = HashMap::with_capacity(model.merges.len());
        for (rank, merge) in model.merges.into_iter().enumerate() {
            let merged = match merge {
                Merge::Pair(left, right) => left + &right,
                Merge::Text(pair) => pair.replacen(' ', "", 1),
            };
            // Exact: a file of an accepted size holds fewer than 2^24 merges.
            scores.entry(merged).or_insert(-(rank as f32));
        }

        let added: Vec<_> = file.added_tokens.into_iter().map(|t| (t.id, t.token)).collect();
        let control: HashSet<&str> = added.iter().map(|(_, token)| &*token.content).collect();
        let mut pieces: Vec<Option<Piece>> = vec![None; vocab.len()];
        for (text, id) in vocab {
            let kind = if Some(&text) == model.unk_token.as_ref() {
                Kind::Unknown
            } else if let Some(byte) = byte_of(&text).filter(|_| model.byte_fallback) {
                Kind::Byte(byte)
            } else if control.contains(text.as_str()) {
                Kind::Control
            } else {
                Kind::Normal
            };
            let score = scores.get(&text).copied().unwrap_or(NOT_MERGED);
            let slot = usize::try_from(id).ok().and_then(|id| pieces.get_mut(id));
            let slot = slot.ok_or_else(|| json(format!("model.vocab: id {id} leaves a hole")))?;
            if slot.is_some() {
                return Err(json(format!("model.vocab: id {id} occurs twice")));
            }
            *slot = Some(Piece { text: text.into(), score, kind });
        }
        let parts = Parts {
            pieces: pieces.into_iter().flatten().collect(),
            byte_fallback: model.byte_fallback,
            unk_surface: " \u{2047} ".into(),
            // Llama's flags: the file says the same in other words (Prepend and Replace).
            normalizer: Normalizer {
                add_dummy_prefix: true,
                remove_extra_whitespaces: false,
                escape_whitespaces: true,
                whitespace_as_suffix: false,
            },
        };
        let model = Self::from_parts(parts).map_err(|error| match error.into_detail() {
            Detail::SentencePiece { message, .. } => json(format!("model: {message}")),
            other => Error::from(other),
        })?;
        Ok((model, added))
    }
}
