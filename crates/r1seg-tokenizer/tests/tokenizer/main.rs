//! The crate through its public face, against ids recorded from transformers 4.46.3.
//!
//! - `golden`: prompts and answers of the golden checkpoints.
//! - `oracle`: our own small SentencePiece model under many flags, and random texts; the scripts'
//!   outputs lie in `tests/data`.
//! - `vectors`: the real tokenizers, only where `R1SEG_DATA` names the folder that holds
//!   `tokenizers/`.
//! - `adversarial`: hostile files and texts.
//! - `stream`: the streaming decoder against the whole one.

mod adversarial;
mod golden;
mod oracle;
mod stream;
mod text;
mod vectors;

use std::path::{Path, PathBuf};

use r1seg_tokenizer::{Error, PromptTokenizer, TokenizerFiles};
use serde::de::DeserializeOwned;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// A file of `tests/data`.
fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// `$R1SEG_DATA/tokenizers/<name>`, or a line that says what is skipped.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn real(name: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("R1SEG_DATA") else {
        eprintln!("skipped: set R1SEG_DATA to the folder that holds tokenizers/{name}");
        return None;
    };
    Some(Path::new(&folder).join("tokenizers").join(name))
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(serde_json::from_slice(&bytes)?)
}

fn load(dir: &Path) -> Result<PromptTokenizer, Error> {
    PromptTokenizer::new(&TokenizerFiles::from_dir(dir)?)
}

/// The golden checkpoints' tokenizer (fast, Llama-style normalizer, BOS).
fn golden_tokenizer() -> Result<PromptTokenizer, Error> {
    load(&data("golden"))
}

/// Our small SentencePiece model as a slow tokenizer (BOS, not legacy).
fn spm_tokenizer() -> Result<PromptTokenizer, Box<dyn std::error::Error>> {
    let model = std::fs::read(data("spm/tokenizer.model"))?;
    Ok(PromptTokenizer::new(&TokenizerFiles {
        tokenizer_model: Some(model.into()),
        ..TokenizerFiles::default()
    })?)
}

/// A small generator, so that random cases are the same on every run (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }
}
