//! Tokenizer files of each published kind, with the ids of a recorded `tokenizer.json`.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use super::repository::Repository;
use crate::data;

/// A file of a recorded checkpoint.
fn recorded(case: &str, name: &str) -> Value {
    serde_json::from_slice(&fs::read(data(&format!("{case}/{name}"))).unwrap()).unwrap()
}

/// Pieces of a recorded vocabulary in the order of their ids.
fn pieces(case: &str) -> Vec<String> {
    let json = recorded(case, "tokenizer.json");
    let ids: BTreeMap<String, u32> =
        serde_json::from_value(json["model"]["vocab"].clone()).unwrap();
    let by_id: BTreeMap<u32, String> = ids.into_iter().map(|(piece, id)| (id, piece)).collect();
    assert!(by_id.keys().copied().eq(0..by_id.len() as u32), "ids without a piece");
    by_id.into_values().collect()
}

/// BERT: a piece a line, and what its slow class saves beside them.
pub(super) fn vocab_txt(case: &str) -> Repository {
    let lines: String = pieces(case).into_iter().map(|piece| piece + "\n").collect();
    let special = json!({
        "cls_token": "[CLS]", "mask_token": "[MASK]", "pad_token": "[PAD]", "sep_token": "[SEP]",
        "unk_token": "[UNK]",
    });
    let mut config = json!({
        "clean_up_tokenization_spaces": true, "do_basic_tokenize": true, "do_lower_case": true,
        "model_max_length": 512, "never_split": null, "padding_side": "right",
        "strip_accents": null, "tokenize_chinese_chars": true, "tokenizer_class": "BertTokenizer",
    });
    for (role, token) in special.as_object().unwrap() {
        config[role] = token.clone();
    }
    Repository::default()
        .put("vocab.txt", lines)
        .json("tokenizer_config.json", &config)
        .json("special_tokens_map.json", &special)
}

/// CLIP as its slow class saves it.
pub(super) fn vocab_and_merges(case: &str) -> Repository {
    let json = recorded(case, "tokenizer.json");
    let merges: Vec<String> = serde_json::from_value(json["model"]["merges"].clone()).unwrap();
    Repository::default()
        .put("vocab.json", json["model"]["vocab"].to_string())
        .put("merges.txt", format!("#version: 0.2\n{}\n", merges.join("\n")))
}

/// A SentencePiece model whose ids are those of a recorded BPE: each merge makes one piece, and its
/// rank is the piece's score.
pub(super) fn tokenizer_model(case: &str) -> Vec<u8> {
    let json = recorded(case, "tokenizer.json");
    let merges: Vec<[String; 2]> = serde_json::from_value(json["model"]["merges"].clone()).unwrap();
    let ranks: BTreeMap<String, usize> =
        merges.iter().enumerate().rev().map(|(rank, pair)| (pair.concat(), rank)).collect();
    let mut model = Vec::new();
    for piece in pieces(case) {
        let kind = match piece.as_str() {
            "<unk>" => 2,
            "<s>" | "</s>" => 3,
            byte if byte.len() == 6 && byte.starts_with("<0x") => 6,
            _ => 1,
        };
        // Single characters come after all that is merged.
        let score = -(ranks.get(&piece).copied().unwrap_or(merges.len()) as f32);
        let score = [&[0x15][..], &score.to_le_bytes()].concat();
        let message = [field(1, piece.as_bytes()), score, vec![0x18, kind]].concat();
        model.extend(field(1, &message));
    }
    // model_type BPE, byte_fallback; add_dummy_prefix, and spaces stay as they are.
    model.extend(field(2, &[0x18, 2, 0x98, 0x02, 1]));
    model.extend(field(3, &[&field(1, b"identity")[..], &[0x18, 1, 0x20, 0, 0x28, 1]].concat()));
    model
}

/// A field of protobuf that holds bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length > 127 {
        out.push((length & 127) as u8 | 128);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend(bytes);
    out
}

/// `{"<im_patch>": 615, ..}`.
pub(super) fn added_tokens(case: &str) -> Value {
    let config = recorded(case, "tokenizer_config.json");
    let listed = config["added_tokens_decoder"].as_object().unwrap();
    let own = listed.iter().filter(|(id, _)| id.parse::<u32>().unwrap() > 2);
    own.map(|(id, token)| {
        (token["content"].as_str().unwrap().to_owned(), json!(id.parse::<u32>().unwrap()))
    })
    .collect()
}

/// `tokenizer_config.json` as Llama's slow class saves it.
pub(super) fn slow_config(case: &str) -> Value {
    let mut config = recorded(case, "tokenizer_config.json");
    let fields = json!({
        "add_bos_token": true, "add_eos_token": false, "add_prefix_space": null, "legacy": false,
        "sp_model_kwargs": {}, "spaces_between_special_tokens": false,
        "tokenizer_class": "LlamaTokenizer", "use_default_system_prompt": false,
    });
    for (field, value) in fields.as_object().unwrap() {
        config[field] = value.clone();
    }
    config
}

/// What `save_pretrained` of a slow Llama tokenizer writes: no `tokenizer.json`.
pub(super) fn slow(case: &str) -> Repository {
    Repository::default()
        .put("tokenizer.model", tokenizer_model(case))
        .json("added_tokens.json", &added_tokens(case))
        .json("tokenizer_config.json", &slow_config(case))
        .copy(case, "special_tokens_map.json")
}

/// What that of a fast one writes.
pub(super) fn fast(case: &str) -> Repository {
    let names = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"];
    names.iter().fold(Repository::default(), |files, name| files.copy(case, name))
}
