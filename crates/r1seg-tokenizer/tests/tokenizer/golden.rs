//! Prompts and answers of the golden checkpoints (`tests/data/golden/cases.json`).

use r1seg_tokenizer::{PromptPart, Separator, TokenizerKind};
use serde::Deserialize;

use super::{Result, data, golden_tokenizer, json};

#[derive(Deserialize)]
struct Case {
    case: String,
    prompt: String,
    n_image_tokens: usize,
    input_ids: Vec<u32>,
    output_ids: Vec<u32>,
    text: String,
    raw: Option<String>,
}

#[test]
fn golden_prompts_have_the_recorded_ids() -> Result<()> {
    let tokenizer = golden_tokenizer()?;
    assert_eq!(tokenizer.kind(), TokenizerKind::Fast);
    let cases: Vec<Case> = json(&data("golden/cases.json"))?;
    assert_eq!(cases.len(), 41);
    for case in cases {
        let n = case.n_image_tokens;
        let prompt = tokenizer.encode_prompt(&case.prompt, n, Separator::None)?;
        assert_eq!(prompt.ids(), case.input_ids, "{}", case.case);
        assert_eq!(prompt.head(), tokenizer.bos_id().expect("golden BOS"));
        assert_eq!(prompt.image_span(), 1..n + 1);
        assert!(prompt.ids()[prompt.image_span()].iter().all(|&id| id == tokenizer.im_patch_id()));
        assert_eq!(prompt.tail(), &case.input_ids[n + 1..]);
        let whole = format!("{}{}", "<im_patch>".repeat(n), case.prompt);
        assert_eq!(tokenizer.encode_raw(&whole)?, case.input_ids, "{}", case.case);
    }
    Ok(())
}

#[test]
fn golden_answers_decode_to_the_recorded_texts() -> Result<()> {
    let tokenizer = golden_tokenizer()?;
    for case in json::<Vec<Case>>(&data("golden/cases.json"))? {
        assert_eq!(tokenizer.decode(&case.output_ids)?, case.text, "{}", case.case);
        if let Some(raw) = case.raw {
            assert_eq!(tokenizer.decode_raw(&case.output_ids)?, raw, "{}", case.case);
        }
        let mut stream = tokenizer.stream_decoder();
        let mut text = String::new();
        for &id in &case.output_ids {
            text += &stream.push(id)?;
        }
        assert_eq!(text + &stream.finish()?, case.text, "{}", case.case);
    }
    Ok(())
}

#[test]
fn golden_ids_are_those_of_the_files() -> Result<()> {
    let tokenizer = golden_tokenizer()?;
    assert_eq!(tokenizer.im_patch_id(), 615);
    assert_eq!(tokenizer.bx_start_id(), 616);
    assert_eq!(tokenizer.bx_end_id(), 617);
    assert_eq!(tokenizer.seg_token_id(), 618);
    assert_eq!((tokenizer.bos_id(), tokenizer.eos_id()), (Some(1), Some(2)));
    assert_eq!(tokenizer.vocab_size(), 619);
    assert!(tokenizer.appended_tokens().is_empty());
    Ok(())
}

#[test]
fn trusted_parts_are_tokens_and_words_around_them_are_not() -> Result<()> {
    let tokenizer = golden_tokenizer()?;
    let parts = [
        PromptPart::Text("What is at "),
        PromptPart::Token("<bx_start>"),
        PromptPart::Text("[0.1, 0.2"),
        PromptPart::Text(", 0.3, 0.4, 0.5, 0.6]"),
        PromptPart::Token("<bx_end>"),
        PromptPart::Text("?"),
    ];
    let prompt = tokenizer.encode_prompt_parts(&parts, 3, Separator::Space)?;
    let whole = "<im_patch><im_patch><im_patch> What is at <bx_start>\
                 [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]<bx_end>?";
    assert_eq!(prompt.ids(), tokenizer.encode_raw(whole)?);
    Ok(())
}
