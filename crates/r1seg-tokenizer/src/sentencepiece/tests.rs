//! Merging by score against merging by rank, as the `tokenizers` crate does it: the same ids wherever a
//! model has no unused pieces, which ranks cannot express.

use std::path::{Path, PathBuf};

use tokenizers::{Model, Tokenizer};

use super::{SPACE, SentencePiece};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The small model beside the tests, and where `R1SEG_DATA` is set that of Phi-3.
fn files() -> Vec<PathBuf> {
    let small = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/spm/tokenizer.json");
    let large = std::env::var_os("R1SEG_DATA");
    let large = large.map(|data| PathBuf::from(data).join("tokenizers/phi-3-mini/tokenizer.json"));
    [small].into_iter().chain(large).collect()
}

/// The recorded texts, and random ones of their characters and of any others.
fn texts() -> Result<Vec<String>> {
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/spm/oracle.json");
    let recorded: serde_json::Value = serde_json::from_slice(&std::fs::read(recorded)?)?;
    let mut texts: Vec<String> = Vec::new();
    for case in recorded.as_array().ok_or("no list of cases")? {
        texts.extend(serde_json::from_value::<Vec<String>>(case["texts"].clone())?);
    }
    assert!(500 < texts.len());
    let characters: Vec<char> = texts.concat().chars().collect();
    let mut state = 1_u64;
    let mut below = |end: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % end
    };
    for _ in 0..2000 {
        let length = below(60);
        let character = |below: &mut dyn FnMut(usize) -> usize| match below(8) {
            0 => char::from_u32(below(0x11_0000) as u32).unwrap_or('\u{301}'),
            _ => characters[below(characters.len())],
        };
        texts.push((0..length).map(|_| character(&mut below)).collect());
    }
    texts.push("a".repeat(20_000));
    texts.push("liver ".repeat(5_000));
    Ok(texts)
}

#[test]
fn ids_are_those_of_the_tokenizers_crate_merging_by_rank() -> Result<()> {
    for file in files() {
        let bytes = std::fs::read(&file)?;
        let (ours, _) = SentencePiece::from_tokenizer_json(&bytes)?;
        let theirs = Tokenizer::from_bytes(&bytes).map_err(|error| error.to_string())?;
        for text in texts()? {
            let normalized = text.replace(' ', &SPACE.to_string());
            let tokens = theirs.get_model().tokenize(&normalized).map_err(|e| e.to_string())?;
            let expected: Vec<u32> = tokens.iter().map(|token| token.id).collect();
            let start: String = text.chars().take(60).collect();
            assert!(ours.encode(&text, false) == expected, "{}: {start:?}", file.display());
        }
    }
    Ok(())
}
