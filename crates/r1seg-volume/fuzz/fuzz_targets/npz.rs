#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(init: r1seg_volume_fuzz::stay_on_this_thread(), |data: &[u8]| -> Corpus {
    r1seg_volume_fuzz::read_and_use(data)
});
