//! A tokenizer without a vocabulary: one token per byte, and the published ids for all others.

use std::ops::Range;

use serde_json::{Map, Value, json};

/// The tokens that R1Seg-3D adds, in order. `[SEG]` alone is an ordinary one.
const R1SEG: [&str; 4] = ["<im_patch>", "<bx_start>", "<bx_end>", "[SEG]"];

pub(crate) struct Vocabulary {
    /// Special tokens before the 256 bytes; unused tokens fill up to `model_size`.
    first: &'static [&'static str],
    /// Tokens of the byte-pair model; the added ones follow.
    model_size: usize,
    added: &'static [&'static str],
    /// Numbers of the reserved tokens that follow `added`.
    reserved: Range<usize>,
    pub(crate) bos: usize,
    pub(crate) eos: usize,
    /// Other tokens that end an answer, by `generation_config.json`.
    pub(crate) also_ends: &'static [usize],
    pub(crate) pad: usize,
    unk: Option<usize>,
    /// Whether every text begins with `bos`.
    adds_bos: bool,
    /// Whether it ends with `eos`.
    adds_eos: bool,
    /// Whether R1Seg-3D has added its tokens.
    is_r1seg: bool,
}

impl Vocabulary {
    /// Phi-3-mini-4k-instruct.
    pub(crate) const PHI3: Self = Self {
        first: &["<unk>", "<s>", "</s>"],
        model_size: 32000,
        added: &[
            "<|endoftext|>",
            "<|assistant|>",
            "<|placeholder1|>",
            "<|placeholder2|>",
            "<|placeholder3|>",
            "<|placeholder4|>",
            "<|system|>",
            "<|end|>",
            "<|placeholder5|>",
            "<|placeholder6|>",
            "<|user|>",
        ],
        reserved: 0..0,
        bos: 1,
        eos: 32000,
        // `<|assistant|>` and `<|end|>`.
        also_ends: &[32001, 32007],
        pad: 32000,
        unk: Some(0),
        adds_bos: false,
        adds_eos: false,
        is_r1seg: true,
    };

    /// Llama-3.1.
    pub(crate) const LLAMA3: Self = Self {
        first: &[],
        model_size: 128000,
        added: &[
            "<|begin_of_text|>",
            "<|end_of_text|>",
            "<|reserved_special_token_0|>",
            "<|reserved_special_token_1|>",
            "<|finetune_right_pad_id|>",
            "<|reserved_special_token_2|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eom_id|>",
            "<|eot_id|>",
            "<|python_tag|>",
        ],
        reserved: 3..248,
        bos: 128000,
        eos: 128001,
        also_ends: &[],
        pad: 128001,
        unk: None,
        adds_bos: true,
        adds_eos: false,
        is_r1seg: true,
    };

    /// Phi-4-mini-instruct, with as many tokens; some of the special ones have other ids.
    pub(crate) const PHI4_MINI: Self = Self {
        first: &[],
        model_size: 199_999,
        added: &[
            "<|endoftext|>",
            "<|endofprompt|>",
            "<|assistant|>",
            "<|end|>",
            "<|user|>",
            "<|system|>",
            "<|tool|>",
            "<|/tool|>",
            "<|tool_call|>",
            "<|/tool_call|>",
            "<|tool_response|>",
            "<|tag|>",
        ],
        reserved: 0..18,
        bos: 199_999,
        eos: 199_999,
        also_ends: &[],
        pad: 199_999,
        unk: None,
        adds_bos: false,
        adds_eos: false,
        is_r1seg: true,
    };

    /// CLIP's text encoder.
    pub(crate) const CLIP: Self = Self {
        first: &[],
        model_size: 49406,
        added: &["<|startoftext|>", "<|endoftext|>"],
        reserved: 0..0,
        bos: 49406,
        eos: 49407,
        also_ends: &[],
        pad: 49407,
        unk: None,
        adds_bos: true,
        adds_eos: true,
        is_r1seg: false,
    };

    /// Phi-3's first tokens, the bytes, and few others.
    pub(crate) const SMALL: Self =
        Self { model_size: 615, added: &[], eos: 2, also_ends: &[], pad: 0, ..Self::PHI3 };

    pub(crate) fn len(&self) -> usize {
        self.model_size + self.added.len() + self.reserved.len() + self.r1seg().len()
    }

    fn r1seg(&self) -> &'static [&'static str] {
        if self.is_r1seg { &R1SEG } else { &[] }
    }

    /// The id of `[SEG]`, the last one.
    pub(crate) fn seg(&self) -> usize {
        self.len() - 1
    }

    /// The tokens of the byte-pair model with their ids.
    fn model_tokens(&self) -> Map<String, Value> {
        // GPT-2's alphabet: a printable character for each byte, printable bytes first.
        let bytes = ('!'..='~').chain('¡'..='¬').chain('®'..='ÿ').chain('Ā'..='Ń');
        let named =
            self.first.iter().map(|token| (*token).to_owned()).chain(bytes.map(String::from));
        let unused = (0..).map(|number| format!("<|unused_{number}|>"));
        named.chain(unused).take(self.model_size).zip((0_usize..).map(Value::from)).collect()
    }

    /// The tokens that are found in text before bytes are, with their ids.
    fn added_tokens(&self) -> Vec<(usize, String)> {
        let reserved = self.reserved.clone().map(|n| format!("<|reserved_special_token_{n}|>"));
        let added = self.added.iter().map(|token| (*token).to_owned());
        let r1seg = self.r1seg().iter().map(|token| (*token).to_owned());
        let first = self.first.iter().map(|token| (*token).to_owned());
        let after = added.chain(reserved).chain(r1seg);
        (0..).zip(first).chain((self.model_size..).zip(after)).collect()
    }
}

/// The files of a `PreTrainedTokenizerFast`, with their names.
pub(crate) fn files(vocabulary: &Vocabulary) -> [(&'static str, Value); 3] {
    let added = vocabulary.added_tokens();
    let special = vocabulary.r1seg().split_last().map_or(&[][..], |(_, special)| special);
    let token = |id: usize| added.iter().find(|(added, _)| *added == id).map(|(_, token)| token);
    let mut special_tokens_map = json!({
        "additional_special_tokens": special.iter().map(|token| flags(token)).collect::<Value>(),
        "bos_token": token(vocabulary.bos),
        "eos_token": token(vocabulary.eos),
        "pad_token": token(vocabulary.pad),
    });
    let mut tokenizer_config = json!({
        "added_tokens_decoder": added
            .iter()
            .map(|(id, content)| (id.to_string(), with_special(content)))
            .collect::<Value>(),
        "additional_special_tokens": special,
        "bos_token": token(vocabulary.bos),
        "eos_token": token(vocabulary.eos),
        "pad_token": token(vocabulary.pad),
        "clean_up_tokenization_spaces": false,
        "model_max_length": 512,
        "padding_side": "right",
        "tokenizer_class": "PreTrainedTokenizerFast",
    });
    if let Some(unk) = vocabulary.unk {
        special_tokens_map["unk_token"] = json!(token(unk));
        tokenizer_config["unk_token"] = json!(token(unk));
    }
    [
        ("tokenizer.json", tokenizer_json(vocabulary, &added)),
        ("tokenizer_config.json", tokenizer_config),
        ("special_tokens_map.json", special_tokens_map),
    ]
}

fn tokenizer_json(vocabulary: &Vocabulary, added: &[(usize, String)]) -> Value {
    let find = |id: usize, adds: bool| added.iter().find(|(found, _)| *found == id && adds);
    let bos = find(vocabulary.bos, vocabulary.adds_bos);
    let eos = find(vocabulary.eos, vocabulary.adds_eos);
    let byte_level = json!({
        "type": "ByteLevel",
        "add_prefix_space": false,
        "trim_offsets": true,
        "use_regex": true,
    });
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added
            .iter()
            .map(|(id, content)| {
                let mut token = with_special(content);
                token["id"] = json!(id);
                token
            })
            .collect::<Value>(),
        "normalizer": null,
        "pre_tokenizer": byte_level,
        "post_processor": bos.map(|bos| around_text(bos, eos)),
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": vocabulary.model_tokens(),
            "merges": [],
        },
    })
}

/// A post-processor that puts a token before every text, and another one behind it.
fn around_text(before: &(usize, String), after: Option<&(usize, String)>) -> Value {
    let special =
        |token: &str, type_id: u8| json!({ "SpecialToken": { "id": token, "type_id": type_id } });
    let text = |name: &str, type_id: u8| {
        let text = json!({ "Sequence": { "id": name, "type_id": type_id } });
        let end = after.map(|(_, token)| special(token, type_id));
        [Some(special(&before.1, type_id)), Some(text), end].into_iter().flatten()
    };
    let tokens = [Some(before), after].into_iter().flatten();
    json!({
        "type": "TemplateProcessing",
        "single": text("A", 0).collect::<Value>(),
        "pair": text("A", 0).chain(text("B", 1)).collect::<Value>(),
        "special_tokens": tokens
            .map(|(id, token)| {
                (token.clone(), json!({ "id": token, "ids": [id], "tokens": [token] }))
            })
            .collect::<Value>(),
    })
}

fn with_special(content: &str) -> Value {
    let mut token = flags(content);
    token["special"] = json!(content != "[SEG]");
    token
}

/// As `add_tokens` and `add_special_tokens` of transformers set them.
fn flags(content: &str) -> Value {
    json!({
        "content": content,
        "lstrip": false,
        "normalized": content == "[SEG]",
        "rstrip": false,
        "single_word": false,
    })
}
