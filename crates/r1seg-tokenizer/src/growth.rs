//! How much the steps of a `tokenizer.json` can make of a text, found out before one of them runs.
//!
//! A few bytes of JSON can ask for more than all memory: twenty rules that put 24 letters between any
//! two make 25^20 letters of one. The `tokenizers` crate has no limits, so that the worst case of each
//! step is reckoned here, and products that no published tokenizer comes near are refused.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokenizers::{DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper};

use crate::error::Detail;
use crate::guard::guarded;
use crate::{Error, MAX_TEXT_BYTES};

/// The most that a byte of text may become. BERT's, CLIP's and Llama's steps stay below 60, and those of
/// T5, with the character rules of SentencePiece, below 1000.
const MAX_GROWTH: u64 = 1024;
/// Bytes that a text may become, at worst. Each takes some 200 in memory while it is tokenized.
const MAX_WORKING_BYTES: u64 = 4 << 20;
/// The longest text of one token. Llama-3's longest stands for 128 spaces.
const MAX_TOKEN_BYTES: u64 = 64 << 10;

/// The longest word that WordPiece looks for pieces in, which takes the cube of its length. BERT's is 100.
const MAX_WORD_CHARS: u64 = 256;

/// What a step makes of `n` bytes: at most `times * n + plus`, for `n` of at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Growth {
    times: u64,
    plus: u64,
}

impl Growth {
    const NONE: Self = Self::times(1);

    const fn times(times: u64) -> Self {
        Self { times, plus: 0 }
    }

    const fn plus(self, plus: u64) -> Self {
        Self { plus, ..self }
    }

    fn then(self, next: Self) -> Self {
        Self {
            times: self.times.saturating_mul(next.times),
            plus: self.plus.saturating_mul(next.times).saturating_add(next.plus),
        }
    }

    /// What becomes of one byte that stands alone, which is the most for each of several.
    fn most(self) -> u64 {
        self.times.saturating_add(self.plus)
    }
}

/// What a tokenizer may be given, so that it stays within the memory that real ones take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    text_bytes: usize,
    normalizing: u64,
    decoding: u64,
}

/// The parts of a `tokenizer.json` that work on texts.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
    #[serde(default)]
    model: Model,
}

#[derive(Default, Deserialize)]
struct Model {
    #[serde(default)]
    max_input_chars_per_word: Value,
}

#[derive(Deserialize)]
struct Added {
    #[serde(default)]
    content: String,
}

impl Limits {
    /// Reads the steps of a file, and refuses those that no real tokenizer has.
    pub(crate) fn of(tokenizer_json: &[u8]) -> Result<Self, Error> {
        let file: File = guarded("loading", || Ok(serde_json::from_slice(tokenizer_json)?))?;
        if file.model.max_input_chars_per_word.as_u64().is_some_and(|most| most > MAX_WORD_CHARS) {
            let what = format!("a WordPiece model for words of over {MAX_WORD_CHARS} characters");
            return Err(Detail::Unsupported { file: "tokenizer.json", what }.into());
        }
        let part = |part, growth: u64| match growth {
            growth if growth <= MAX_GROWTH => Ok(growth),
            _ => Err(Detail::Grows { part, limit: MAX_GROWTH }),
        };
        let normalizer = as_read::<NormalizerWrapper>(file.normalizer)?;
        let pre_tokenizer = as_read::<PreTokenizerWrapper>(file.pre_tokenizer)?;
        let post_processor = as_read::<PostProcessorWrapper>(file.post_processor)?;
        let decoder = as_read::<DecoderWrapper>(file.decoder)?;
        let normalizing = part("the normalizer", normalizer.map_or(1, |n| normalizing(&n).most()))?;
        let splitting = pre_tokenizer.map_or(1, |p| splitting(&p));
        // What is added once, a start and an end, counts as one more of each.
        let template = post_processor.map_or(1, |p| template(&p).times);
        let decoding = part("the decoder", decoder.map_or(1, |d| decoding(&d).most()))?;
        let product = normalizing.saturating_mul(splitting).saturating_mul(template);
        let encoding = part("normalizer, pre-tokenizer and post-processor together", product)?;
        let working = usize::try_from(MAX_WORKING_BYTES / encoding.max(1)).unwrap_or(usize::MAX);
        let limits = Self { text_bytes: working.min(MAX_TEXT_BYTES), normalizing, decoding };
        limits.check_added(file.added_tokens.iter().map(|token| token.content.as_str()))?;
        Ok(limits)
    }

    /// Added tokens are normalized when they are added, all of them.
    pub(crate) fn check_added<'a>(
        &self,
        tokens: impl Iterator<Item = &'a str>,
    ) -> Result<(), Error> {
        let bytes: u64 = tokens.map(|token| token.len() as u64).sum();
        let limit = MAX_WORKING_BYTES / self.normalizing.max(1);
        if bytes > limit {
            return Err(Detail::LongTokens { what: "added tokens", bytes, limit }.into());
        }
        Ok(())
    }

    /// Any token may be in an answer, many times.
    pub(crate) fn check_vocabulary<'a>(
        &self,
        tokens: impl Iterator<Item = &'a String>,
    ) -> Result<(), Error> {
        let bytes = tokens.map(String::len).max().unwrap_or(0) as u64;
        let limit = MAX_TOKEN_BYTES / self.decoding.max(1);
        if bytes > limit {
            return Err(Detail::LongTokens { what: "a token", bytes, limit }.into());
        }
        Ok(())
    }

    /// The text of a user, before anything is made of it.
    pub(crate) fn check_text(&self, bytes: usize) -> Result<(), Error> {
        if bytes > self.text_bytes {
            return Err(Detail::TooManyBytes { bytes, limit: self.text_bytes }.into());
        }
        Ok(())
    }
}

/// A part of the file as the crate understands it, written again: the crate also takes steps without a
/// `type`, and under other names.
fn as_read<T: DeserializeOwned + serde::Serialize>(part: Value) -> Result<Option<Value>, Error> {
    if part.is_null() {
        return Ok(None);
    }
    guarded("loading", || Ok(Some(serde_json::to_value(T::deserialize(part)?)?)))
}

fn kind(step: &Value) -> &str {
    step["type"].as_str().unwrap_or_default()
}

fn steps<'a>(sequence: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    sequence[name].as_array().into_iter().flatten()
}

fn length(text: &Value) -> u64 {
    text.as_str().map_or(0, |text| text.len() as u64)
}

fn in_turn<'a>(steps: impl Iterator<Item = &'a Value>, of: fn(&Value) -> Growth) -> Growth {
    steps.fold(Growth::NONE, |growth, step| growth.then(of(step)))
}

/// Factors are of UTF-8. Unicode (UAX 15, table 11): three times as much in NFC and NFD, eleven times in
/// NFKC and NFKD; lower case makes three bytes of two.
fn normalizing(step: &Value) -> Growth {
    match kind(step) {
        "Sequence" => in_turn(steps(step, "normalizers"), normalizing),
        "Strip" | "StripAccents" | "Nmt" => Growth::NONE,
        "Lowercase" | "ByteLevel" => Growth::times(2),
        "NFC" | "NFD" => Growth::times(3),
        "NFKC" | "NFKD" => Growth::times(11),
        // Spaces around ideographs, decomposition, lower case.
        "BertNormalizer" => Growth::times(2 * 3 * 2),
        "Prepend" => Growth::NONE.plus(length(&step["prepend"])),
        "Replace" => replacing(step),
        "Precompiled" => Growth::times(longest_rule(&step["precompiled_charsmap"]).max(1)),
        _ => Growth::times(u64::MAX),
    }
}

/// `content` for each `pattern`.
fn replacing(step: &Value) -> Growth {
    let content = length(&step["content"]);
    match length(&step["pattern"]["String"]) {
        // An expression, or an empty text, can match at every place and replace nothing.
        0 => Growth::times(content.saturating_add(1)).plus(content),
        pattern => Growth::times(content.div_ceil(pattern).max(1)),
    }
}

/// Pieces may be cut again between two steps, and each piece gets what a step puts in front.
fn splitting(step: &Value) -> u64 {
    match kind(step) {
        "Sequence" => steps(step, "pretokenizers")
            .fold(1, |growth: u64, step| growth.saturating_mul(splitting(step))),
        "ByteLevel" if step["add_prefix_space"] == Value::Bool(false) => 2,
        "ByteLevel" => 4,
        "Metaspace" => length(&step["replacement"]).saturating_mul(2).max(1),
        "BertPreTokenizer" | "CharDelimiterSplit" | "Digits" | "FixedLength" | "Punctuation"
        | "Split" | "UnicodeScripts" | "Whitespace" | "WhitespaceSplit" => 1,
        _ => u64::MAX,
    }
}

/// Tokens of tokens: how often a template repeats the text.
fn template(step: &Value) -> Growth {
    match kind(step) {
        "Sequence" => in_turn(steps(step, "processors"), template),
        "BertProcessing" | "RobertaProcessing" | "ByteLevel" => Growth::NONE,
        "TemplateProcessing" => {
            let ids = |piece: &Value| {
                let token = piece["SpecialToken"]["id"].as_str().unwrap_or_default();
                step["special_tokens"][token]["ids"].as_array().map_or(0, |ids| ids.len() as u64)
            };
            let is_text = |piece: &&Value| piece.get("Sequence").is_some();
            let texts = steps(step, "single").filter(is_text).count() as u64;
            let special = steps(step, "single").map(ids).fold(0, u64::saturating_add);
            // A few tokens around the text are what a template is for.
            Growth::times(texts.saturating_add(special / 64).max(1))
        }
        _ => Growth::times(u64::MAX),
    }
}

fn decoding(step: &Value) -> Growth {
    match kind(step) {
        "Sequence" => in_turn(steps(step, "decoders"), decoding),
        "Fuse" | "Strip" | "Metaspace" => Growth::NONE,
        // A space in front of the token.
        "WordPiece" => Growth::NONE.plus(1),
        // U+FFFD for each byte that is not text.
        "ByteLevel" | "ByteFallback" => Growth::times(3),
        // A space for each mark, which may be empty and then stands everywhere.
        "BPEDecoder" | "CTC" => Growth::times(2).plus(1),
        "Replace" => replacing(step),
        _ => Growth::times(u64::MAX),
    }
}

/// The longest text that a rule of SentencePiece puts in the place of a character: behind a table whose
/// length comes first, they stand with zeros between them.
fn longest_rule(charsmap: &Value) -> u64 {
    let bytes = base64(charsmap.as_str().unwrap_or_default());
    let table = bytes.first_chunk().map_or(0, |length| u32::from_le_bytes(*length) as usize);
    let rules = bytes.get(table.saturating_add(4)..).unwrap_or_default();
    rules.split(|byte| *byte == 0).map(<[u8]>::len).max().unwrap_or(0) as u64
}

fn base64(text: &str) -> Vec<u8> {
    let digits = text.bytes().filter_map(|digit| match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    });
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for digit in digits {
        bits = bits << 6 | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn growth(normalizer: Value) -> Result<u64, Error> {
        let file = json!({ "normalizer": normalizer, "model": {"type": "BPE", "vocab": {}} });
        Limits::of(file.to_string().as_bytes()).map(|limits| limits.normalizing)
    }

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (text, bytes) in [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9vYmFy", "foobar")] {
            assert_eq!(base64(text), bytes.as_bytes());
        }
        assert_eq!(longest_rule(&json!("BAAAAAAAAABhAGFiYwBhYg==")), 3);
    }

    #[test]
    fn a_rule_that_matches_everywhere_counts_at_every_place() {
        let replace =
            |pattern: Value| json!({"type": "Replace", "pattern": pattern, "content": "aaaa"});
        assert_eq!(growth(replace(json!({"String": ""}))).unwrap(), 9);
        assert_eq!(growth(replace(json!({"Regex": "x*"}))).unwrap(), 9);
        assert_eq!(growth(replace(json!({"String": "a"}))).unwrap(), 4);
        assert_eq!(growth(replace(json!({"String": "aaaaa"}))).unwrap(), 1);
    }

    #[test]
    fn steps_without_a_type_count_as_the_crate_reads_them() {
        let replace = json!({"pattern": {"String": ""}, "content": "aaaa"});
        let sequence = json!({"normalizers": vec![replace; 5]});
        let error = growth(sequence).unwrap_err();
        assert!(error.code() == "R-TOK-19", "{error}");
    }

    #[test]
    fn growth_is_at_least_what_the_crate_makes_of_a_text() {
        use tokenizers::{NormalizedString, Normalizer};
        let texts = ["a", "aaa", " ", "ΐ", "ﷺ", "İ", "肝", "é", "Ａ b"];
        for steps in [
            json!([{"type": "NFD"}, {"type": "Lowercase"}]),
            json!([{"type": "NFKC"}, {"type": "Prepend", "prepend": "▁"}]),
            json!([{"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": ""}, "content": "xy"},
                {"type": "Replace", "pattern": {"Regex": "."}, "content": "abc"}]),
            json!([{"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                "strip_accents": null, "lowercase": true}]),
            json!([{"type": "ByteLevel"}]),
        ] {
            let sequence = json!({"type": "Sequence", "normalizers": steps});
            let most = growth(sequence.clone()).unwrap();
            let normalizer = NormalizerWrapper::deserialize(sequence).unwrap();
            for text in texts {
                let mut normalized = NormalizedString::from(text);
                normalizer.normalize(&mut normalized).unwrap();
                let got = normalized.get().len() as u64;
                assert!(got <= most * text.len() as u64, "{text}: {got} > {most} * {}", text.len());
            }
        }
    }
}
