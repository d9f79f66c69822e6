//! A hostile `tokenizer.json` can make the `tokenizers` crate panic (huggingface/tokenizers#2094,
//! #2198): every call into it goes through here.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::Error;
use crate::error::Detail;

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
        Ok(Err(error)) => Err(Detail::Tokenizer { stage, message: error.to_string() }.into()),
        Err(_) => Err(Detail::Panicked { stage }.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_becomes_an_error_that_names_the_stage() {
        let result: Result<(), Error> = guarded("testing", || panic!("expected in this test"));
        assert!(result.is_err_and(|e| e.code() == "R-TOK-08" && e.message().ends_with(" testing")));
        let result: Result<(), Error> = guarded("testing", || Err("no".into()));
        assert!(
            result.is_err_and(|e| e.code() == "R-TOK-07" && e.message().contains(" testing: "))
        );
    }
}
