//! What a fuzz target does with its bytes: it reads them as an array and, where that succeeds, writes the
//! array and reads it again.
//!
//! A target fails on a panic, a hang, too much memory, and on any of the promises asserted here.

use libfuzzer_sys::Corpus;
use r1seg_viewers::{Array, Error, nnia, vxa2};

/// Inputs are small, and so is what may be made of them.
const LIMIT: u64 = 1 << 22;

/// Reads `bytes` in nnInteractive's framing.
pub fn read_nnia(mut bytes: &[u8]) -> Corpus {
    check(nnia::read(&mut bytes, LIMIT))
}

/// Reads `bytes` in VoxTell's framing.
pub fn read_vxa2(mut bytes: &[u8]) -> Corpus {
    check(vxa2::read(&mut bytes, LIMIT))
}

fn check(read: Result<Array, Error>) -> Corpus {
    match read {
        Ok(array) => {
            let count: usize = array.shape().iter().product();
            assert_eq!(array.bytes().len(), count * array.element().size());
            assert!(array.bytes().len() as u64 <= LIMIT);
            let _ = array.to_labels();
            let (mut one, mut other) = (Vec::new(), Vec::new());
            nnia::write(&mut one, &array).expect("memory takes everything");
            vxa2::write(&mut other, &array).expect("memory takes everything");
            assert_eq!(nnia::read(&mut one.as_slice(), LIMIT).expect("written here"), array);
            assert_eq!(vxa2::read(&mut other.as_slice(), LIMIT).expect("written here"), array);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    Corpus::Keep
}
