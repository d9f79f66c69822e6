//! Hostile files and texts (`docs/faults.md` T1, T2, Q1, Q2, Q6).

use std::borrow::Cow;
use std::time::{Duration, Instant};

use r1seg_tokenizer::{
    ErrorKind, MAX_TEXT_BYTES, MAX_VOCABULARY_BYTES, PromptPart, PromptTokenizer, Remedy,
    Separator, TokenizerFiles,
};

use super::{Random, Result, data, golden_tokenizer, load, real, spm_tokenizer};

/// Every tokenizer that is at hand.
fn tokenizers() -> Result<Vec<(String, PromptTokenizer)>> {
    let mut all = vec![
        ("golden".to_owned(), golden_tokenizer()?),
        ("spm".to_owned(), spm_tokenizer()?),
        ("spm legacy".to_owned(), spm_with(r#"{"legacy": true}"#)?),
    ];
    for name in ["phi-3-mini", "llama3", "qwen2.5"] {
        if let Some(dir) = real(name) {
            all.push((name.to_owned(), load(&dir)?));
        }
    }
    Ok(all)
}

fn spm_with(config: &str) -> Result<PromptTokenizer> {
    Ok(PromptTokenizer::new(&TokenizerFiles {
        tokenizer_model: Some(std::fs::read(data("spm/tokenizer.model"))?.into()),
        tokenizer_config: Some(config.as_bytes().to_vec().into()),
        ..TokenizerFiles::default()
    })?)
}

#[test]
fn added_tokens_in_a_question_stay_words() -> Result<()> {
    const SPELLED: [&str; 12] = [
        "<im_patch>",
        "<bx_start>",
        "<bx_end>",
        "[SEG]",
        "<s>",
        "</s>",
        "<unk>",
        "<|end|>",
        "<|endoftext|>",
        "<|im_end|>",
        "<|begin_of_text|>",
        "<|eot_id|>",
    ];
    for (name, tokenizer) in tokenizers()? {
        let added: Vec<u32> = SPELLED.iter().filter_map(|t| tokenizer.added_token_id(t)).collect();
        assert!(added.len() >= 6, "{name}");
        for token in SPELLED {
            for question in [
                token.to_owned(),
                format!("Segment {token} please"),
                format!("{token}{token}{token}"),
                format!("a{token} b {token}c"),
            ] {
                for separator in [Separator::Space, Separator::None] {
                    let prompt = tokenizer.encode_prompt(&question, 5, separator)?;
                    let patches =
                        prompt.ids().iter().filter(|&&id| id == tokenizer.im_patch_id()).count();
                    assert_eq!(patches, 5, "{name}: {question}");
                    let tail = prompt.ids().iter().skip(6);
                    for id in tail {
                        assert!(!added.contains(id), "{name}: {question}: {:?}", prompt.ids());
                    }
                    // Nothing the user wrote is lost either.
                    let text = tokenizer.decode_raw(&prompt.ids()[5..])?;
                    let letters = |text: &str| text.replace(' ', "");
                    assert!(
                        letters(&text).ends_with(&letters(&question)),
                        "{name}: {question}: {text}"
                    );
                }
            }
        }
    }
    Ok(())
}

#[test]
fn model_vocabulary_that_holds_a_special_token_cannot_be_spelled_into_it() -> Result<()> {
    // `ignore_merges` takes a whole word from the vocabulary, special tokens included.
    let mut json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(data("golden/tokenizer.json"))?)?;
    json["model"]["ignore_merges"] = true.into();
    json["normalizer"] = serde_json::Value::Null;
    let tokenizer = PromptTokenizer::new(&TokenizerFiles {
        tokenizer_json: Some(serde_json::to_vec(&json)?.into()),
        ..TokenizerFiles::default()
    })?;
    let ids = tokenizer.encode_parts(&[PromptPart::Text("</s>")])?;
    let eos = tokenizer.added_token_id("</s>").ok_or("no eos")?;
    assert!(!ids.contains(&eos), "{ids:?}");
    assert_eq!(tokenizer.decode(&ids)?, "</s>");
    Ok(())
}

#[test]
fn plain_questions_have_the_ids_of_the_whole_text() -> Result<()> {
    const WORDS: [&str; 14] = [
        "liver",
        " ",
        "  ",
        "\n",
        "\t",
        "肝",
        "🫁",
        "\u{202e}مرحبا",
        "é",
        "▁",
        "<0x0A>",
        "SEG",
        "'s",
        ".",
    ];
    let mut random = Random(1);
    for (name, tokenizer) in tokenizers()? {
        for _ in 0..300 {
            let question: String =
                (0..random.below(8)).map(|_| WORDS[random.below(WORDS.len())]).collect();
            for separator in [Separator::Space, Separator::None] {
                let n = 1 + random.below(4);
                match tokenizer.encode_prompt(&question, n, separator) {
                    Ok(prompt) => {
                        let whole =
                            format!("{}{}{question}", "<im_patch>".repeat(n), separator.as_str());
                        let expected = tokenizer.encode_raw(&whole)?;
                        assert_eq!(prompt.ids(), expected, "{name}: {whole:?}");
                    }
                    Err(error) if error.code() == "R-TOK-12" => {
                        assert!(question.trim().is_empty());
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    Ok(())
}

#[test]
fn blank_questions_are_usage_errors_and_nul_is_dropped() -> Result<()> {
    for (_, tokenizer) in tokenizers()? {
        for question in ["", " ", "\n\t ", "\0", " \0\0\u{3000}"] {
            let error = tokenizer.encode_prompt(question, 4, Separator::Space).err();
            let error = error.ok_or("a blank question was taken")?;
            assert_eq!((error.kind(), error.code()), (ErrorKind::Usage, "R-TOK-12"));
            assert_eq!(error.remedy(), Some(Remedy::AskQuestion));
        }
        let clean = tokenizer.encode_prompt("the liver", 4, Separator::Space)?;
        let nul = tokenizer.encode_prompt("\0the\0 liv\0er\0", 4, Separator::Space)?;
        assert_eq!(clean, nul);
        assert!(
            tokenizer
                .encode_parts(&[PromptPart::Token("<nonsense>")])
                .is_err_and(|e| e.code() == "R-TOK-13")
        );
    }
    Ok(())
}

#[test]
fn the_longest_questions_take_no_time_and_longer_ones_are_refused() -> Result<()> {
    const MOST: usize = MAX_TEXT_BYTES;
    let mut random = Random(2);
    let letters: Vec<char> = "abcdefgh  liver肝🫁<[SEG]>\n".chars().collect();
    let noise: String = (0..MOST * 3 / 4).map(|_| letters[random.below(letters.len())]).collect();
    let questions = [
        "Can you segment the liver in this image? ".repeat(MOST / 41),
        "a".repeat(MOST),
        format!("{}x", " ".repeat(MOST - 1)),
        "[SEG]".repeat(MOST / 5),
        noise,
    ];
    for (name, tokenizer) in tokenizers()? {
        for question in &questions {
            let start = Instant::now();
            let prompt = tokenizer.encode_prompt(question, 256, Separator::Space)?;
            let took = start.elapsed();
            assert!(prompt.ids().len() > 1000);
            let start_of = &question[..20.min(question.len())];
            assert!(took < Duration::from_secs(5), "{name}: {start_of:?}: {took:?}");
        }
        let error = tokenizer.encode_prompt(&"a".repeat(MOST + 1), 256, Separator::Space).err();
        assert_eq!(error.map(|e| e.code()), Some("R-TOK-21"), "{name}");
    }
    Ok(())
}

#[test]
fn t1_damaged_sentencepiece_files_are_errors() -> Result<()> {
    let model = std::fs::read(data("spm/tokenizer.model"))?;
    let load = |bytes: Vec<u8>| {
        PromptTokenizer::new(&TokenizerFiles {
            tokenizer_model: Some(bytes.into()),
            ..TokenizerFiles::default()
        })
    };
    // Every length: the file is either cut within a field, or lacks what comes later.
    for len in (0..model.len()).step_by(7) {
        let error = load(model[..len].to_vec()).err().ok_or(format!("{len} bytes were taken"))?;
        assert_eq!(error.kind(), ErrorKind::Model, "{error}");
    }
    let mut random = Random(3);
    for _ in 0..3000 {
        let mut bytes = model.clone();
        for _ in 0..1 + random.below(6) {
            let at = random.below(bytes.len());
            bytes[at] = random.below(256) as u8;
        }
        if let Ok(tokenizer) = load(bytes) {
            tokenizer.encode_prompt("segment the liver肝", 4, Separator::Space)?;
            tokenizer.decode(&(0..700).collect::<Vec<_>>())?;
        }
    }
    for _ in 0..3000 {
        let noise: Vec<u8> = (0..random.below(200)).map(|_| random.below(256) as u8).collect();
        assert!(load(noise).is_err());
    }
    Ok(())
}

#[test]
fn t1_damaged_json_files_are_errors() -> Result<()> {
    let json = std::fs::read(data("golden/tokenizer.json"))?;
    let spm = std::fs::read(data("spm/tokenizer.json"))?;
    let load = |bytes: Vec<u8>, class: &str| {
        PromptTokenizer::new(&TokenizerFiles {
            tokenizer_json: Some(bytes.into()),
            tokenizer_config: Some(
                format!(r#"{{"tokenizer_class": "{class}"}}"#).into_bytes().into(),
            ),
            ..TokenizerFiles::default()
        })
    };
    let mut random = Random(4);
    for (bytes, class) in [(json, "PreTrainedTokenizerFast"), (spm, "LlamaTokenizer")] {
        for len in (0..bytes.len() - 1).step_by(499) {
            assert!(load(bytes[..len].to_vec(), class).is_err());
        }
        for _ in 0..400 {
            let mut bytes = bytes.clone();
            for _ in 0..1 + random.below(3) {
                let at = random.below(bytes.len());
                bytes[at] = b" {}[]\",:019ax"[random.below(13)];
            }
            if let Ok(tokenizer) = load(bytes, class) {
                let _ = tokenizer.encode_prompt("segment the liver肝", 4, Separator::Space);
                let _ = tokenizer.decode(&(0..700).collect::<Vec<_>>());
            }
        }
    }
    Ok(())
}

#[test]
fn t1_tokenizer_json_that_panics_is_an_error() -> Result<()> {
    let golden = std::fs::read(data("golden/tokenizer.json"))?;
    let with = |key: &str, value: serde_json::Value| -> Result<_> {
        let mut json: serde_json::Value = serde_json::from_slice(&golden)?;
        json[key] = value;
        let files = TokenizerFiles {
            tokenizer_json: Some(serde_json::to_vec(&json)?.into()),
            ..TokenizerFiles::default()
        };
        let tokenizer = PromptTokenizer::new(&files);
        Ok(tokenizer.and_then(|t| t.encode_prompt("x", 2, Separator::None)))
    };
    // A post-processor that names a token it does not define; a pattern that no engine takes; a
    // truncation to less than nothing; padding without end.
    let template = serde_json::json!({
        "type": "TemplateProcessing", "pair": [], "special_tokens": {},
        "single": [{"SpecialToken": {"id": "<gone>", "type_id": 0}}]
    });
    let pattern = serde_json::json!({
        "type": "Split", "pattern": {"Regex": "(((("}, "behavior": "Isolated", "invert": false
    });
    let truncation = serde_json::json!({
        "direction": "Right", "max_length": 0, "strategy": "LongestFirst", "stride": 5
    });
    let padding = serde_json::json!({
        "strategy": {"Fixed": 1u64 << 40}, "direction": "Left", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>"
    });
    assert!(with("post_processor", template)?.is_err());
    assert!(with("pre_tokenizer", pattern)?.is_err());
    for (key, value) in [("truncation", truncation), ("padding", padding)] {
        // Either refused or, as in the authors' call, without effect.
        if let Ok(prompt) = with(key, value)? {
            assert!(prompt.ids().len() < 10);
        }
    }
    Ok(())
}

#[test]
fn slow_tokenizer_with_a_foreign_pipeline_is_refused() -> Result<()> {
    let spm = std::fs::read(data("spm/tokenizer.json"))?;
    for (key, value) in [
        ("normalizer", serde_json::json!({"type": "NFC"})),
        ("pre_tokenizer", serde_json::json!({"type": "ByteLevel", "add_prefix_space": false})),
    ] {
        let mut json: serde_json::Value = serde_json::from_slice(&spm)?;
        json[key] = value;
        let files = TokenizerFiles {
            tokenizer_json: Some(serde_json::to_vec(&json)?.into()),
            tokenizer_config: Some(br#"{"tokenizer_class": "LlamaTokenizer"}"#.to_vec().into()),
            ..TokenizerFiles::default()
        };
        assert!(PromptTokenizer::new(&files).is_err_and(|e| e.code() == "R-TOK-06"), "{key}");
    }
    Ok(())
}

#[test]
fn t1_missing_oversized_and_contradicting_files_are_told_apart() -> Result<()> {
    let empty = TokenizerFiles::default();
    assert!(PromptTokenizer::new(&empty).is_err_and(|e| e.code() == "R-TOK-03"));
    let files = TokenizerFiles::from_dir(&data(""))?;
    assert!(PromptTokenizer::new(&files).is_err_and(|e| e.code() == "R-TOK-03"));
    let huge = Cow::Owned(vec![b' '; MAX_VOCABULARY_BYTES as usize + 1]);
    let huge = TokenizerFiles { tokenizer_json: Some(huge), ..TokenizerFiles::default() };
    let error = PromptTokenizer::new(&huge).err().ok_or("accepted")?;
    assert!(error.code() == "R-TOK-02" && error.message().starts_with("`tokenizer.json`"));
    let nowhere = TokenizerFiles::from_dir(&data("nowhere"));
    assert!(nowhere.is_err_and(|e| e.code() == "R-TOK-01"));
    // A directory where a file should be.
    let dir = std::env::temp_dir().join(format!("r1seg-tokenizer-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("tokenizer.model"))?;
    let error = TokenizerFiles::from_dir(&dir);
    std::fs::remove_dir_all(&dir)?;
    assert_eq!(error.err().map(|e| e.code()), Some("R-TOK-18"));

    let mut files = TokenizerFiles::from_dir(&data("golden"))?;
    files.added_tokens = Some(br#"{"[SEG]": 618, "<im_patch>": 700}"#.to_vec().into());
    files.tokenizer_config = None;
    let error = PromptTokenizer::new(&files).err().ok_or("accepted")?;
    assert_eq!(error.message(), "token `<im_patch>`: expected id 700, got 615");
    Ok(())
}

fn golden_with(key: &str, value: serde_json::Value) -> Result<TokenizerFiles> {
    let mut files = TokenizerFiles::from_dir(&data("golden"))?;
    let golden = files.tokenizer_json.as_ref().ok_or("no tokenizer.json")?;
    let mut json: serde_json::Value = serde_json::from_slice(golden)?;
    json[key] = value;
    files.tokenizer_json = Some(serde_json::to_vec(&json)?.into());
    Ok(files)
}

#[test]
fn t5_steps_that_multiply_what_they_are_given_are_refused_at_load() -> Result<()> {
    use serde_json::json;
    let replace =
        json!({"type": "Replace", "pattern": {"String": ""}, "content": "aaaaaaaaaaaaaaaa"});
    let prepend = json!({"type": "Prepend", "prepend": "a".repeat(2000)});
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
        "use_regex": true});
    let text = json!({"Sequence": {"id": "A", "type_id": 0}});
    let special = json!({"SpecialToken": {"id": "x", "type_id": 0}});
    for (key, value) in [
        ("normalizer", json!({"type": "Sequence", "normalizers": vec![replace.clone(); 3]})),
        ("normalizer", prepend),
        ("pre_tokenizer", json!({"type": "Sequence", "pretokenizers": vec![bytes; 8]})),
        ("decoder", json!({"type": "Sequence", "decoders": vec![replace; 3]})),
        (
            "post_processor",
            json!({"type": "TemplateProcessing", "single": vec![text.clone(); 2000],
            "pair": [text], "special_tokens": {}}),
        ),
        (
            "post_processor",
            json!({"type": "TemplateProcessing", "single": vec![special; 200],
            "pair": [], "special_tokens": {"x": {"id": "x", "ids": vec![1; 2000],
            "tokens": vec!["x"; 2000]}}}),
        ),
    ] {
        let error = PromptTokenizer::new(&golden_with(key, value)?).err().ok_or("accepted")?;
        assert!(error.code() == "R-TOK-19", "{key}: {error}");
        assert_eq!(error.kind(), ErrorKind::Model);
    }
    Ok(())
}

#[test]
fn t5_tokens_that_are_longer_than_real_ones_are_refused_at_load() -> Result<()> {
    let token = serde_json::json!({"id": 700, "content": "a".repeat(5 << 20), "special": false,
        "single_word": false, "lstrip": false, "rstrip": false, "normalized": true});
    let files = golden_with("added_tokens", serde_json::json!([token]))?;
    let error = PromptTokenizer::new(&files).err().ok_or("accepted")?;
    assert!(error.code() == "R-TOK-20", "{error}");
    let config = format!(
        r#"{{"added_tokens_decoder": {{"700": {{"content": "{}"}}}}}}"#,
        "a".repeat(5 << 20)
    );
    let mut files = TokenizerFiles::from_dir(&data("golden"))?;
    files.tokenizer_config = Some(config.into_bytes().into());
    let error = PromptTokenizer::new(&files).err().ok_or("accepted")?;
    assert!(error.code() == "R-TOK-20", "{error}");
    Ok(())
}

/// A fuzzer's find: answers would have said `[SEG]` with every `l`.
#[test]
fn t2_seg_token_with_the_id_of_another_is_refused_at_load() -> Result<()> {
    let golden = std::fs::read(data("golden/tokenizer.json"))?;
    let mut json: serde_json::Value = serde_json::from_slice(&golden)?;
    // Without the prompt's own tokens, and the last of the others where `[SEG]` will be appended.
    json["added_tokens"] = serde_json::json!([]);
    let vocabulary = json["model"]["vocab"].as_object_mut().ok_or("no vocabulary")?;
    let last = vocabulary.len() - 1;
    let id = |(_, id): &(&String, &serde_json::Value)| id.as_u64() == Some(last as u64);
    let last = vocabulary.iter().find(id).ok_or("no last token")?.0.clone();
    vocabulary[&last] = serde_json::json!(vocabulary.len() + 3);
    let files = TokenizerFiles {
        tokenizer_json: Some(serde_json::to_vec(&json)?.into()),
        ..TokenizerFiles::default()
    };
    let error = PromptTokenizer::new(&files).err().ok_or("accepted")?;
    let shared = format!("tokens `[SEG]` and `{last}` both have id ");
    assert!(error.message().starts_with(&shared), "{error}");

    let config = r#"{"added_tokens_decoder": {"300": {"content": "[SEG]"}}}"#;
    let error = spm_with(config).err().ok_or("accepted")?;
    assert!(error.to_string().starts_with("tokens `[SEG]` and `"), "{error}");
    assert!(error.to_string().ends_with("both have id 300"), "{error}");
    Ok(())
}

#[test]
fn t2_seg_token_that_is_cut_up_is_refused_at_load() -> Result<()> {
    // The space that Llama's tokenizer puts in front of a text makes a `single_word` token a part
    // of the word.
    let config = r#"{"added_tokens_decoder": {
        "640": {"content": "[SEG]", "single_word": true, "lstrip": false, "rstrip": false}}}"#;
    let files = TokenizerFiles {
        tokenizer_model: Some(std::fs::read(data("spm/tokenizer.model"))?.into()),
        tokenizer_config: Some(config.as_bytes().to_vec().into()),
        ..TokenizerFiles::default()
    };
    let error = PromptTokenizer::new(&files).err().ok_or("accepted")?;
    assert!(error.message().starts_with("token `[SEG]` (id 640) is tokenized as"), "{error}");
    Ok(())
}

#[test]
fn t2_embedding_table_without_a_row_names_the_token() -> Result<()> {
    let tokenizer = golden_tokenizer()?;
    tokenizer.check_embedding_rows(619)?;
    tokenizer.check_embedding_rows(640)?;
    let error = tokenizer.check_embedding_rows(618).err().ok_or("accepted")?;
    assert_eq!(error.to_string(), "token `[SEG]` has id 618, but the embedding table has 618 rows");
    assert_eq!(error.kind(), ErrorKind::Model);
    Ok(())
}

#[test]
fn tokenizer_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<PromptTokenizer>();
}
