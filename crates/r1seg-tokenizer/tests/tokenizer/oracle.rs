//! Our own small SentencePiece model under many flags, on random texts and ids. Recorded by
//! transformers 4.46.3 and sentencepiece 0.2.3 after
//! `add_special_tokens({"additional_special_tokens": ["<im_patch>", "<bx_start>", "<bx_end>"]})` and
//! `add_tokens("[SEG]")`.

use std::collections::BTreeSet;
use std::fs;

use r1seg_tokenizer::{PromptTokenizer, TokenizerFiles, TokenizerKind};
use serde::Deserialize;

use super::{Result, data, json, real};

#[derive(Deserialize)]
pub(crate) struct Record {
    name: String,
    #[serde(default)]
    model: String,
    #[serde(default)]
    folder: String,
    config: serde_json::Map<String, serde_json::Value>,
    len: usize,
    texts: Vec<String>,
    ids: Vec<Vec<u32>>,
    answers: Vec<Vec<u32>>,
    decoded: Vec<String>,
    raw: Vec<String>,
}

impl Record {
    fn check(&self, tokenizer: &PromptTokenizer) -> Result<()> {
        let name = &self.name;
        assert_eq!(tokenizer.vocab_size(), self.len, "{name}");
        assert_eq!(self.texts.len(), self.ids.len());
        for (text, ids) in self.texts.iter().zip(&self.ids) {
            assert_eq!(&tokenizer.encode_raw(text)?, ids, "{name}: {text:?}");
        }
        for (answer, (text, raw)) in self.answers.iter().zip(self.decoded.iter().zip(&self.raw)) {
            assert_eq!(&tokenizer.decode(answer)?, text, "{name}: {answer:?}");
            assert_eq!(&tokenizer.decode_raw(answer)?, raw, "{name}: {answer:?}");
            let mut stream = tokenizer.stream_decoder();
            let mut streamed = String::new();
            for &id in answer {
                streamed += &stream.push(id)?;
            }
            assert_eq!(&(streamed + &stream.finish()?), text, "{name}: {answer:?}");
        }
        Ok(())
    }
}

#[test]
fn small_model_has_the_ids_of_transformers_under_every_flag() -> Result<()> {
    let records: Vec<Record> = json(&data("spm/oracle.json"))?;
    assert_eq!(records.len(), 11);
    for record in records {
        let bytes = fs::read(data("spm").join(&record.model))?.into();
        let mut files = TokenizerFiles {
            tokenizer_config: Some(serde_json::to_vec(&record.config)?.into()),
            ..TokenizerFiles::default()
        };
        if record.model.ends_with(".json") {
            files.tokenizer_json = Some(bytes);
        } else {
            files.tokenizer_model = Some(bytes);
        }
        let tokenizer = PromptTokenizer::new(&files)?;
        let fast = record.name == "fast";
        assert_eq!(tokenizer.kind() == TokenizerKind::Fast, fast, "{}", record.name);
        record.check(&tokenizer)?;
    }
    Ok(())
}

/// The `tokenizer.json` of a slow tokenizer gives slow ids too.
#[test]
fn small_model_has_the_same_slow_ids_from_tokenizer_json() -> Result<()> {
    let records: Vec<Record> = json(&data("spm/oracle.json"))?;
    let mut checked = BTreeSet::new();
    for record in records.iter().filter(|record| record.model == "tokenizer.model") {
        // A saved folder names the special tokens; the recording's did not hold them yet.
        let mut config = record.config.clone();
        let special = serde_json::json!(["<im_patch>", "<bx_start>", "<bx_end>"]);
        config.entry("additional_special_tokens").or_insert(special);
        let files = TokenizerFiles {
            tokenizer_config: Some(serde_json::to_vec(&config)?.into()),
            tokenizer_json: Some(fs::read(data("spm/tokenizer.json"))?.into()),
            ..TokenizerFiles::default()
        };
        let tokenizer = PromptTokenizer::new(&files)?;
        assert_eq!(tokenizer.kind(), TokenizerKind::Slow);
        record.check(&tokenizer)?;
        checked.insert(&record.name);
    }
    assert_eq!(checked.len(), 7, "{checked:?}");
    Ok(())
}

/// The same recordings for the real vocabularies.
#[test]
fn real_models_have_the_ids_of_transformers_on_random_texts() -> Result<()> {
    for record in json::<Vec<Record>>(&data("oracle_real.json"))? {
        let Some(dir) = real(&record.folder) else {
            return Ok(());
        };
        let mut files = TokenizerFiles::from_dir(&dir)?;
        let mut config: serde_json::Map<_, _> = match &files.tokenizer_config {
            Some(bytes) => serde_json::from_slice(bytes)?,
            None => serde_json::Map::new(),
        };
        config.extend(record.config.clone());
        files.tokenizer_config = Some(serde_json::to_vec(&config)?.into());
        record.check(&PromptTokenizer::new(&files)?)?;
        if files.tokenizer_model.is_some() && files.tokenizer_json.is_some() {
            files.tokenizer_model = None;
            record.check(&PromptTokenizer::new(&files)?)?;
        }
    }
    Ok(())
}
