//! CLIP's and BERT's ids, with the tokenizers of the recorded checkpoints.

use std::path::PathBuf;

use r1seg_tokenizer::{Error, ErrorKind, MAX_VOCABULARY_BYTES, TextTokenizer};

use super::Result;

fn load(case: &str) -> Result<TextTokenizer> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let path = path.join("../../tests/data").join(case).join("tokenizer.json");
    Ok(TextTokenizer::new(&std::fs::read(path)?)?)
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
    let error = TextTokenizer::new(&serde_json::to_vec(&json)?).err().ok_or("accepted")?;
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
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
    assert!(matches!(error, Error::TextTooLong { tokens: 78, max_tokens: 77 }), "{error}");
    assert_eq!((error.kind(), error.code()), (ErrorKind::Usage, "R-TOK-16"));
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
        let error = TextTokenizer::new(json.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Model, "{json}: {error}");
    }
    let huge = vec![b' '; MAX_VOCABULARY_BYTES as usize + 1];
    assert!(matches!(TextTokenizer::new(&huge), Err(Error::TooLarge { .. })));
    Ok(())
}
