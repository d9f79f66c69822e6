//! CLIP's and BERT's ids, with the tokenizers of the recorded checkpoints.

use std::collections::BTreeMap;
use std::path::PathBuf;

use r1seg_tokenizer::{Error, ErrorKind, MAX_VOCABULARY_BYTES, TextTokenizer, TokenizerFiles};
use serde_json::Value;

use super::{Result, data};

fn tokenizer_json(case: &str) -> Result<Vec<u8>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let path = path.join("../../tests/data").join(case).join("tokenizer.json");
    Ok(std::fs::read(path)?)
}

fn from_json(json: Vec<u8>) -> Result<TextTokenizer, Error> {
    let tokenizer_json = Some(json.into());
    TextTokenizer::new(&TokenizerFiles { tokenizer_json, ..TokenizerFiles::default() })
}

fn load(case: &str) -> Result<TextTokenizer> {
    Ok(from_json(tokenizer_json(case)?)?)
}

/// BERT's tokenizer as it is published: a piece per line.
fn vocab_txt() -> Result<Vec<u8>> {
    let json: Value = serde_json::from_slice(&tokenizer_json("m3d-clip")?)?;
    let ids: BTreeMap<String, u32> = serde_json::from_value(json["model"]["vocab"].clone())?;
    let pieces: BTreeMap<u32, &String> = ids.iter().map(|(piece, id)| (*id, piece)).collect();
    Ok(pieces.values().flat_map(|piece| format!("{piece}\n").into_bytes()).collect())
}

fn bert(config: &str) -> Result<TextTokenizer> {
    Ok(TextTokenizer::new(&TokenizerFiles {
        vocab_txt: Some(vocab_txt()?.into()),
        tokenizer_config: Some(config.as_bytes().to_vec().into()),
        ..TokenizerFiles::default()
    })?)
}

/// CLIP's tokenizer as its slow class saves it.
fn vocabulary_and_merges() -> Result<TokenizerFiles> {
    let json: Value = serde_json::from_slice(&tokenizer_json("r1seg-3dsam")?)?;
    let merges: Vec<String> = serde_json::from_value(json["model"]["merges"].clone())?;
    let lines = format!("#version: 0.2\n{}\n", merges.join("\n"));
    Ok(TokenizerFiles {
        vocab_json: Some(json["model"]["vocab"].to_string().into_bytes().into()),
        merges_txt: Some(lines.into_bytes().into()),
        ..TokenizerFiles::default()
    })
}

#[derive(serde::Deserialize)]
struct Recorded {
    text: String,
    bert: Vec<u32>,
    clip: Vec<u32>,
}

/// `BertTokenizer` and `CLIPTokenizerFast` of transformers 4.46.3, on texts made to be difficult.
fn recorded() -> Result<Vec<Recorded>> {
    Ok(serde_json::from_slice(&std::fs::read(data("text_encoders.json"))?)?)
}

/// A text that the encoders are never given: it is refused before.
fn is_blank(text: &str) -> bool {
    text.chars().all(char::is_whitespace)
}

#[test]
fn vocab_txt_gives_the_ids_of_the_slow_bert_tokenizer() -> Result<()> {
    let (lines, json) = (bert("{}")?, load("m3d-clip")?);
    assert_eq!(lines.vocab_size(), 30522);
    let texts = recorded()?;
    assert_eq!(texts.len(), 200);
    for Recorded { text, bert, .. } in texts.iter().filter(|recorded| !is_blank(&recorded.text)) {
        assert_eq!(&lines.encode(text, 512)?, bert, "{text:?}");
        assert_eq!(&json.encode(text, 512)?, bert, "{text:?}");
    }
    Ok(())
}

#[test]
fn vocab_json_and_merges_give_the_ids_of_the_clip_tokenizer() -> Result<()> {
    let (parts, json) = (TextTokenizer::new(&vocabulary_and_merges()?)?, load("r1seg-3dsam")?);
    assert_eq!(parts.vocab_size(), 49408);
    for Recorded { text, clip, .. } in recorded()?.iter().filter(|r| !is_blank(&r.text)) {
        assert_eq!(&parts.encode(text, 512)?, clip, "{text:?}");
        assert_eq!(&json.encode(text, 512)?, clip, "{text:?}");
    }
    Ok(())
}

#[test]
fn tokenizer_config_shapes_a_word_piece_tokenizer() -> Result<()> {
    let published = bert(
        r#"{"do_lower_case": true, "model_max_length": 512, "padding_side": "right",
            "strip_accents": null, "tokenize_chinese_chars": true, "tokenizer_class": "BertTokenizer",
            "cls_token": "[CLS]", "sep_token": {"content": "[SEP]", "lstrip": false}}"#,
    )?;
    let text = "Größe 肝 Liver";
    assert_eq!(published.encode(text, 512)?, load("m3d-clip")?.encode(text, 512)?);
    // Letters in upper case are in no piece of this vocabulary: `Liver` is unknown.
    let cased = bert(r#"{"do_lower_case": false}"#)?;
    assert_eq!(cased.encode("Liver liver", 512)?, [101, 100, 11290, 102]);
    let accents = bert(r#"{"strip_accents": false}"#)?;
    assert_ne!(accents.encode("Größe", 512)?, published.encode("Größe", 512)?);
    let error = TextTokenizer::new(&TokenizerFiles {
        vocab_txt: Some(vocab_txt()?.into()),
        tokenizer_config: Some(br#"{"do_basic_tokenize": false}"#.to_vec().into()),
        ..TokenizerFiles::default()
    });
    assert!(error.is_err_and(|e| e.code() == "R-TOK-06"));
    Ok(())
}

#[test]
fn broken_vocabularies_name_their_file_and_what_is_wrong() -> Result<()> {
    let lines = |text: &[u8]| TokenizerFiles {
        vocab_txt: Some(text.to_vec().into()),
        ..TokenizerFiles::default()
    };
    let mut foreign = vocabulary_and_merges()?;
    foreign.tokenizer_config = Some(br#"{"tokenizer_class": "GPT2Tokenizer"}"#.to_vec().into());
    let mut no_pairs = vocabulary_and_merges()?;
    no_pairs.merges_txt = Some(b"#version: 0.2\ni n t\n".to_vec().into());
    let mut no_json = vocabulary_and_merges()?;
    no_json.vocab_json = Some(b"{".to_vec().into());
    let mut half = vocabulary_and_merges()?;
    half.merges_txt = None;
    for (files, says) in [
        (lines(b""), "`[UNK]` is missing"),
        (lines(b"[UNK]\n[CLS]\nliver\n"), "`[SEP]` is missing"),
        (lines(b"\xff\xfe"), "`vocab.txt`: invalid utf-8"),
        (foreign, "`GPT2Tokenizer`"),
        (no_pairs, "`merges.txt`: line 2 is not two pieces"),
        (no_json, "`vocab.json`"),
        (half, "found neither"),
        (TokenizerFiles::default(), "found neither"),
    ] {
        let error = TextTokenizer::new(&files).unwrap_err();
        assert!(error.to_string().contains(says), "{error}, expected {says}");
        assert_eq!(error.kind(), ErrorKind::Model);
    }
    Ok(())
}

#[test]
fn word_pieces_do_not_spell_special_tokens() -> Result<()> {
    let ids = bert("{}")?.encode("a [SEP] b [PAD]", 77)?;
    assert_eq!(ids.iter().filter(|id| [0, 102].contains(*id)).count(), 1, "{ids:?}");
    let ids = TextTokenizer::new(&vocabulary_and_merges()?)?.encode("a<|endoftext|>b", 77)?;
    assert_eq!(ids.iter().filter(|id| **id == 49407).count(), 1, "{ids:?}");
    Ok(())
}

#[test]
fn clip_ids_are_those_of_transformers() -> Result<()> {
    let clip = load("r1seg-3dsam")?;
    assert_eq!(clip.vocab_size(), 49408);
    // A computerized tomography of a liver.
    let ids = [49406, 320, 11639, 704, 7690, 999, 22399, 539, 320, 12639, 269, 49407];
    for text in
        ["A computerized tomography of a liver.", "a  COMPUTERIZED\ntomography of a liver . \0"]
    {
        assert_eq!(clip.encode(text, 77)?, ids, "{text:?}");
    }
    Ok(())
}

#[test]
fn t5_words_that_take_the_cube_of_their_length_are_refused_at_load() -> Result<()> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/m3d-clip");
    let bert = std::fs::read(path.join("tokenizer.json"))?;
    let mut json: serde_json::Value = serde_json::from_slice(&bert)?;
    json["model"]["max_input_chars_per_word"] = 100_000.into();
    let error = from_json(serde_json::to_vec(&json)?).err().ok_or("accepted")?;
    assert!(error.code() == "R-TOK-06", "{error}");
    Ok(())
}

#[test]
fn published_text_tokenizers_take_texts_of_fifty_kilobytes() -> Result<()> {
    for case in ["r1seg-3dsam", "m3d-clip", "segvol"] {
        let (_, cut) = load(case)?.encode_truncated(&"liver ".repeat(8000), 77)?;
        assert_eq!(cut, 8000 + 2 - 77, "{case}");
    }
    Ok(())
}

#[test]
fn bert_ids_are_those_of_the_recording() -> Result<()> {
    let bert = load("m3d-clip")?;
    assert_eq!(bert.vocab_size(), 30522);
    let ids = [101, 2053, 19470, 3012, 2003, 2464, 1999, 1996, 11867, 24129, 1012, 102];
    assert_eq!(bert.encode("No abnormality is seen in the spleen.", 512)?, ids);
    // A character of no word piece, and an accent that BERT strips.
    assert_eq!(bert.encode("Größe 肝", 512)?, [101, 24665, 2080, 17499, 100, 102]);
    Ok(())
}

#[test]
fn a_text_cannot_spell_a_special_token() -> Result<()> {
    let clip = load("r1seg-3dsam")?;
    let ids = clip.encode("a<|endoftext|>b", 77)?;
    assert_eq!(ids.iter().filter(|id| **id == 49407).count(), 1, "{ids:?}");
    let bert = load("m3d-clip")?;
    let ids = bert.encode("a [SEP] b [PAD]", 77)?;
    assert_eq!(ids.iter().filter(|id| [0, 102].contains(*id)).count(), 1, "{ids:?}");
    Ok(())
}

#[test]
fn a_text_over_77_tokens_is_refused_with_the_numbers() -> Result<()> {
    let clip = load("r1seg-3dsam")?;
    let text = |words: usize| vec!["liver"; words].join(" ");
    assert_eq!(clip.encode(&text(75), 77)?.len(), 77);
    let error = clip.encode(&text(76), 77).unwrap_err();
    let says = "the text has 78 tokens, and the text encoder reads at most 77";
    assert_eq!(error.message(), says);
    assert_eq!((error.kind(), error.code()), (ErrorKind::BadData, "R-TOK-16"));
    Ok(())
}

#[test]
fn a_text_is_cut_before_its_end_token() -> Result<()> {
    let bert = load("m3d-clip")?;
    let whole = bert.encode("The liver is enlarged.", 512)?;
    assert_eq!(bert.encode_truncated("The liver is enlarged.", 512)?, (whole.clone(), 0));
    let (cut, dropped) = bert.encode_truncated("The liver is enlarged.", 5)?;
    assert_eq!((cut.len(), dropped), (5, whole.len() - 5));
    assert_eq!((&cut[..4], cut[4]), (&whole[..4], 102));
    Ok(())
}

#[test]
fn an_empty_text_is_refused() -> Result<()> {
    let clip = load("r1seg-3dsam")?;
    for text in ["", " \n\t", "\0"] {
        let error = clip.encode(text, 77).unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Usage, "R-TOK-15"), "{text:?}");
    }
    Ok(())
}

#[test]
fn files_that_are_no_tokenizer_are_refused() -> Result<()> {
    for json in ["", "{}", "[]", "{\"version\":\"1.0\",\"model\":{\"type\":\"BPE\"}}"] {
        let error = from_json(json.as_bytes().to_vec()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Model, "{json}: {error}");
    }
    let huge = vec![b' '; MAX_VOCABULARY_BYTES as usize + 1];
    assert!(from_json(huge).is_err_and(|e| e.code() == "R-TOK-02"));
    Ok(())
}
