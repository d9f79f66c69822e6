//! A hostile `tokenizer.json` can make the `tokenizers` crate panic (huggingface/tokenizers#2094,
//! #2198): every call into it goes through here.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::Error;

/// Runs `call`, and turns a panic or a refusal into an error that names `stage`.
///
/// The panic hook still runs, so that the default one prints a line to stderr; silencing it would
/// mean changing the whole process.
pub(crate) fn guarded<T>(
    stage: &'static str,
    call: impl FnOnce() -> tokenizers::Result<T>,
) -> Result<T, Error> {
    // Nothing that a panic left half-done is used again: the caller drops it, or only reads.
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Error::Tokenizer { stage, message: error.to_string() }),
        Err(_) => Err(Error::Panicked { stage }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_becomes_an_error_that_names_the_stage() {
        let result: Result<(), Error> = guarded("testing", || panic!("expected in this test"));
        assert!(matches!(result, Err(Error::Panicked { stage: "testing" })));
        let result: Result<(), Error> = guarded("testing", || Err("no".into()));
        assert!(matches!(result, Err(Error::Tokenizer { stage: "testing", .. })));
    }
}
