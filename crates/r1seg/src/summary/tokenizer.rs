//! What a checkpoint's tokenizer is.

use r1seg_tokenizer::{PromptTokenizer, TextTokenizer, TokenizerKind};
use serde_json::Value;

/// The tokenizer of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenizerSummary {
    /// `slow` ids, as R1Seg-3D is trained with, or `fast`: `tokenizer.json` as it is.
    pub kind: &'static str,
    /// The largest id plus one.
    pub vocab_size: usize,
    /// Id of the token that begins a text.
    pub bos: Option<u32>,
    /// Ids that end an answer.
    pub eos: Vec<u32>,
    /// Id of `[SEG]`, which asks for a mask; absent where no language model says it.
    pub seg: Option<u32>,
    /// Id of `<im_patch>`, which stands for a piece of the volume; likewise.
    pub im_patch: Option<u32>,
    /// Tokens of R1Seg that no file lists, and that got the next free ids.
    pub appended: Vec<&'static str>,
}

impl TokenizerSummary {
    /// `eos`: what the configuration names.
    pub(super) fn new(tokenizer: &PromptTokenizer, eos: Option<Vec<u32>>) -> Self {
        Self {
            kind: kind(tokenizer),
            vocab_size: tokenizer.vocab_size(),
            bos: tokenizer.bos_id(),
            eos: eos.unwrap_or_else(|| tokenizer.eos_id().into_iter().collect()),
            seg: Some(tokenizer.seg_token_id()),
            im_patch: Some(tokenizer.im_patch_id()),
            appended: tokenizer.appended_tokens().to_vec(),
        }
    }

    /// Of a text encoder; the ids are those of `text_config`.
    pub(super) fn of_text_encoder(tokenizer: &TextTokenizer, config: &Value) -> Self {
        let config = &config["text_config"];
        let number = |field: &str| config[field].as_u64().and_then(|n| u32::try_from(n).ok());
        Self {
            kind: "fast",
            vocab_size: tokenizer.vocab_size(),
            bos: number("bos_token_id"),
            eos: number("eos_token_id").into_iter().collect(),
            seg: None,
            im_patch: None,
            appended: Vec::new(),
        }
    }
}

fn kind(tokenizer: &PromptTokenizer) -> &'static str {
    match tokenizer.kind() {
        TokenizerKind::Slow => "slow",
        _ => "fast",
    }
}
