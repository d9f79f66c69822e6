//! Writes the inputs that fuzzing starts from: `cargo run --example seeds -- FOLDER` makes
//! `FOLDER/tokenizer`, of small parts of the tokenizers that the tests use.

use std::path::Path;
use std::{env, fs, io};

use serde_json::{Value, json};

fn main() -> io::Result<()> {
    let folder = env::args_os().nth(1).ok_or(io::Error::other("FOLDER is needed"))?;
    let folder = Path::new(&folder).join("tokenizer");
    fs::create_dir_all(&folder)?;
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data");
    let mut fast: Value = serde_json::from_slice(&fs::read(data.join("golden/tokenizer.json"))?)?;
    shorten(&mut fast);
    let fast = serde_json::to_vec(&fast)?;
    // The first pieces of a SentencePiece model, which is a list of them.
    let model = fs::read(data.join("spm/tokenizer.model"))?;
    let model = &model[..model.len().min(2000)];
    let class = |name: &str| json!({"tokenizer_class": name, "legacy": false}).to_string();
    let seeds = [
        (0, String::new(), fast.as_slice()),
        (0, class("LlamaTokenizer"), &fast),
        (0, class("LlamaTokenizerFast"), &fast),
        (2, json!({"[SEG]": 40, "<im_patch>": 41}).to_string(), &fast),
        (4, json!({"bos_token": "<s>"}).to_string(), &fast),
        (1, class("LlamaTokenizer"), model),
        (3, json!({"[SEG]": 300}).to_string(), model),
    ];
    for (number, (choice, config, vocabulary)) in seeds.into_iter().enumerate() {
        let length = u16::try_from(config.len()).map_err(io::Error::other)?.to_le_bytes();
        let bytes = [&[choice][..], &length, config.as_bytes(), vocabulary].concat();
        fs::write(folder.join(format!("seed-{number}")), bytes)?;
    }
    Ok(())
}

/// Keeps 40 tokens that need no merging.
fn shorten(tokenizer: &mut Value) {
    if let Some(vocabulary) = tokenizer["model"]["vocab"].as_object_mut() {
        vocabulary.retain(|token, id| id.as_u64() < Some(20) || token.chars().count() == 1);
        let mut next = 0;
        for id in vocabulary.values_mut() {
            *id = json!(next);
            next += 1;
        }
    }
    tokenizer["model"]["merges"] = json!([]);
    if let Some(added) = tokenizer["added_tokens"].as_array_mut() {
        added.truncate(3);
    }
}
