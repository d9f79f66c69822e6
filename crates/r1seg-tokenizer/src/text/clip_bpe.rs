//! CLIP's byte-level BPE from `vocab.json` and `merges.txt`.
//!
//! The pipeline of transformers' `CLIPTokenizerFast` (4.46.3, `convert_slow_tokenizer.CLIPConverter`):
//! white space joined, letters in lower case, words cut by a pattern, and bytes merged in the order of
//! the file, with `</w>` at the end of each word.

use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::replace::{Replace, ReplacePattern};
use tokenizers::normalizers::{Lowercase, NFC, Sequence};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};

use super::{Options, id_of, parse, spelled};
use crate::Error;
use crate::error::Detail;
use crate::guard::guarded;

const VOCABULARY: &str = "vocab.json";
const MERGES: &str = "merges.txt";

/// The class whose pipeline this is.
const CLASS: &str = "CLIPTokenizer";

/// What a word is: a contraction's ending, letters, one digit, or other characters.
const WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// Builds the tokenizer of a vocabulary and its merges.
pub(super) fn build(
    vocabulary: &[u8],
    merges: &[u8],
    options: &Options,
) -> Result<Tokenizer, Error> {
    let class = options.tokenizer_class.as_deref().unwrap_or(CLASS);
    if class.trim_end_matches("Fast") != CLASS {
        // GPT-2's and RoBERTa's vocabularies have the same two names, and other pipelines.
        let what = format!("`{class}` from vocab.json and merges.txt");
        return Err(Detail::Unsupported { file: "tokenizer_config.json", what }.into());
    }
    let ids = parse::<Vocab>(VOCABULARY, Some(vocabulary))?.unwrap_or_default();
    let merges = pairs(merges)?;
    let special = &options.special;
    let start = spelled(special.bos_token.as_ref(), "<|startoftext|>");
    let end = spelled(special.eos_token.as_ref(), "<|endoftext|>");
    let unknown = spelled(special.unk_token.as_ref(), &end);

    let model = guarded("loading", || {
        BPE::builder()
            .vocab_and_merges(ids, merges)
            .unk_token(unknown)
            .continuing_subword_prefix(String::new())
            .end_of_word_suffix("</w>".to_owned())
            .build()
    })?;
    let mut tokenizer = Tokenizer::new(model);
    let start = (start.clone(), id_of(&tokenizer, &start, VOCABULARY)?);
    let end = (end.clone(), id_of(&tokenizer, &end, VOCABULARY)?);
    let known = [
        AddedToken::from(start.0.clone(), true).normalized(true),
        AddedToken::from(end.0.clone(), true).normalized(false),
    ];
    guarded("loading", || {
        let blanks = Replace::new(ReplacePattern::Regex(r"\s+".to_owned()), " ")?;
        let normalizer = Sequence::new(vec![NFC.into(), blanks.into(), Lowercase.into()]);
        tokenizer.with_normalizer(Some(normalizer))?;
        let words = SplitPattern::Regex(WORDS.to_owned());
        let words = Split::new(words, SplitDelimiterBehavior::Removed, /* invert */ true)?;
        let bytes = ByteLevel::new(
            /* add_prefix_space */ false, /* trim_offsets */ true,
            /* use_regex */ true,
        );
        let pre_tokenizers = PreTokenizers::new(vec![words.into(), bytes.into()]);
        tokenizer.with_pre_tokenizer(Some(pre_tokenizers));
        let ends = RobertaProcessing::new(end, start).trim_offsets(false).add_prefix_space(false);
        tokenizer.with_post_processor(Some(ends));
        tokenizer.add_special_tokens(known).map(|_| ())
    })?;
    Ok(tokenizer)
}

/// Two pieces per line; the first line may be the version of the format.
fn pairs(merges: &[u8]) -> Result<Merges, Error> {
    let broken = |message: String| Error::from(Detail::Vocabulary { file: MERGES, message });
    let text = std::str::from_utf8(merges).map_err(|e| broken(e.to_string()))?;
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| !line.starts_with("#version") && !line.is_empty())
        .map(|(index, line)| match line.split_once(' ') {
            Some((left, right)) if !right.contains(' ') => Ok((left.to_owned(), right.to_owned())),
            _ => Err(broken(format!("line {} is not two pieces", index + 1))),
        })
        .collect()
}
