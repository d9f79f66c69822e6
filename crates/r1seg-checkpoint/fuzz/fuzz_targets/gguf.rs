#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|data: &[u8]| -> Corpus { r1seg_checkpoint_fuzz::read_gguf(data) });
