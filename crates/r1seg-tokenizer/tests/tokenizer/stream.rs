//! The streaming decoder against the whole one.

use r1seg_tokenizer::{PromptTokenizer, TokenizerFiles};

use super::{Random, Result, golden_tokenizer, load, real, spm_tokenizer};

/// Random answers, half of them out of bytes and added tokens, must stream to what they decode to.
fn check(tokenizer: &PromptTokenizer, bytes: &[u32], rounds: usize) -> Result<()> {
    let mut random = Random(42);
    let added =
        [tokenizer.seg_token_id(), tokenizer.bx_start_id(), tokenizer.eos_id().unwrap_or(0)];
    for round in 0..rounds {
        let ids: Vec<u32> = (0..random.below(if round % 4 == 0 { 160 } else { 24 }))
            .map(|_| match random.below(8) {
                0 => added[random.below(added.len())],
                1..=3 if !bytes.is_empty() => bytes[random.below(bytes.len())],
                // Some ids are beyond the vocabulary.
                _ => random.below(tokenizer.vocab_size() + 3) as u32,
            })
            .collect();
        let mut stream = tokenizer.stream_decoder();
        let mut text = String::new();
        for &id in &ids {
            text += &stream.push(id)?;
        }
        assert_eq!(stream.ids(), ids);
        text += &stream.finish()?;
        assert_eq!(text, tokenizer.decode(&ids)?, "{ids:?}");
    }
    Ok(())
}

/// `<0x00>` is id 3 in every Llama-style vocabulary.
fn byte_ids(text: &str) -> Vec<u32> {
    text.bytes().map(|byte| 3 + u32::from(byte)).collect()
}

#[test]
fn streamed_text_is_the_decoded_text_for_random_ids() -> Result<()> {
    let bytes = byte_ids("肝🫁é A\u{fffd}");
    check(&golden_tokenizer()?, &bytes, 4000)?;
    check(&spm_tokenizer()?, &bytes, 4000)
}

#[test]
fn streamed_text_is_the_decoded_text_where_spaces_are_cleaned_up() -> Result<()> {
    let model = std::fs::read(super::data("spm/tokenizer.model"))?;
    for legacy in [false, true] {
        let config = format!(r#"{{"clean_up_tokenization_spaces": true, "legacy": {legacy}}}"#);
        let tokenizer = PromptTokenizer::new(&TokenizerFiles {
            tokenizer_model: Some(model.clone().into()),
            tokenizer_config: Some(config.into_bytes().into()),
            ..TokenizerFiles::default()
        })?;
        check(&tokenizer, &byte_ids("  .,?''ntsmre"), 8000)?;
    }
    Ok(())
}

#[test]
fn streamed_text_is_the_decoded_text_for_real_vocabularies() -> Result<()> {
    for name in ["phi-3-mini", "llama3", "qwen2.5"] {
        let Some(dir) = real(name) else {
            return Ok(());
        };
        let tokenizer = load(&dir)?;
        let bytes: Vec<u32> = tokenizer.encode_raw("肝🫁é .'s \u{fffd}ﷺ")?;
        check(&tokenizer, &bytes, 1500)?;
    }
    Ok(())
}

#[test]
fn text_comes_word_by_word_and_characters_come_whole() -> Result<()> {
    let tokenizer = spm_tokenizer()?;
    let mut stream = tokenizer.stream_decoder();
    let mut pieces = Vec::new();
    let seg = tokenizer.seg_token_id();
    for id in byte_ids("肝").into_iter().chain([seg]).chain(tokenizer.encode_raw("liver")?) {
        pieces.push(stream.push(id)?);
    }
    assert_eq!(pieces[..4], ["", "", "肝", " [SEG]"]);
    assert_eq!(pieces[4..].concat(), " liver");
    assert_eq!(stream.finish()?, "");
    Ok(())
}

/// A decoder that may rewrite everything is not streamed, only finished.
#[test]
fn unknown_decoders_give_their_text_at_the_end() -> Result<()> {
    let mut files = TokenizerFiles::from_dir(&super::data("golden"))?;
    let json = files.tokenizer_json.take().unwrap_or_default();
    let mut json: serde_json::Value = serde_json::from_slice(&json)?;
    json["decoder"] = serde_json::json!({"type": "WordPiece", "prefix": "##", "cleanup": true});
    files.tokenizer_json = Some(serde_json::to_vec(&json)?.into());
    let tokenizer = PromptTokenizer::new(&files)?;
    let ids = tokenizer.encode_raw("Can you segment the liver")?;
    let mut stream = tokenizer.stream_decoder();
    for &id in &ids {
        assert_eq!(stream.push(id)?, "");
    }
    assert_eq!(stream.finish()?, tokenizer.decode(&ids)?);
    Ok(())
}
