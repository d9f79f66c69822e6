//! What the fuzz target does with its bytes: it reads them as the files of a tokenizer and, where
//! that succeeds, goes the way of a question and its answer.

use libfuzzer_sys::Corpus;
use r1seg_tokenizer::{PromptTokenizer, Separator, TokenizerFiles};

/// Image tokens of a prompt.
const IMAGES: usize = 3;

/// The tokenizers crate may panic on hostile files; that is caught and becomes an error. libFuzzer's
/// own hook would end the process; a panic that is not caught still does. To be called once.
pub fn let_tokenizers_panic() {
    drop(std::panic::take_hook());
    std::panic::set_hook(Box::new(|_| {}));
}

/// Reads one byte of choices, two of length, a `tokenizer_config.json` of that length and a
/// `tokenizer.json` or `tokenizer.model`, and uses what comes out.
pub fn read_and_use(bytes: &[u8]) -> Corpus {
    let Some((&[choice, low, high], rest)) = bytes.split_first_chunk::<3>() else {
        return Corpus::Reject;
    };
    let length = usize::from(u16::from_le_bytes([low, high]));
    let Some((config, vocabulary)) = rest.split_at_checked(length) else {
        return Corpus::Reject;
    };
    let given = |bytes: &[u8]| Some(bytes.to_vec().into());
    let mut files = TokenizerFiles::default();
    match choice % 2 {
        0 => files.tokenizer_json = given(vocabulary),
        _ => files.tokenizer_model = given(vocabulary),
    }
    match choice / 2 % 4 {
        0 => files.tokenizer_config = given(config),
        1 => files.added_tokens = given(config),
        2 => files.special_tokens_map = given(config),
        _ => {}
    }
    match PromptTokenizer::new(&files) {
        Ok(tokenizer) => use_tokenizer(&tokenizer),
        Err(error) => assert!(!error.code().is_empty()),
    }
    Corpus::Keep
}

fn use_tokenizer(tokenizer: &PromptTokenizer) {
    let question = "Segment the [SEG] liver\u{809d}</s><im_patch>";
    if let Ok(prompt) = tokenizer.encode_prompt(question, IMAGES, Separator::Space) {
        let (ids, patch) = (prompt.ids(), tokenizer.im_patch_id());
        // Without a BOS the splice begins behind the first placeholder, as the authors' does.
        let start = ids.iter().position(|id| *id == patch).expect("a placeholder");
        assert!(start <= 1 && ids[start..][..IMAGES].iter().all(|id| *id == patch));
        assert_eq!(prompt.image_span().len(), IMAGES);
        assert!(!prompt.tail().contains(&tokenizer.seg_token_id()));
        assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocab_size()));
        let _ = tokenizer.decode(ids);
    }
    let ids: Vec<u32> = (0..64).collect();
    let _ = tokenizer.decode(&ids);
    let mut stream = tokenizer.stream_decoder();
    for id in ids {
        let _ = stream.push(id);
    }
}
