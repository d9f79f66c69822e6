#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(init: r1seg_tokenizer_fuzz::let_tokenizers_panic(), |data: &[u8]| -> Corpus {
    r1seg_tokenizer_fuzz::read_and_use(data)
});
