//! BERT's WordPiece from `vocab.txt`.
//!
//! The pipeline of transformers' `BertTokenizer` (4.46.3, `convert_slow_tokenizer.BertConverter`):
//! control characters dropped, CJK characters apart, accents stripped and letters in lower case unless
//! the configuration says otherwise, words cut at white space and punctuation, then the longest pieces
//! of the vocabulary from the left.

use tokenizers::models::bpe::Vocab;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::{AddedToken, Tokenizer};

use super::{Options, id_of, spelled};
use crate::Error;
use crate::error::Detail;
use crate::guard::guarded;

const FILE: &str = "vocab.txt";

/// Longer words become one unknown token (`WordpieceTokenizer.max_input_chars_per_word`).
const MAX_WORD_CHARS: usize = 100;

/// Builds the tokenizer of a vocabulary with one piece per line, whose ids are the lines' numbers.
pub(super) fn build(vocabulary: &[u8], options: &Options) -> Result<Tokenizer, Error> {
    let broken = |message: String| Error::from(Detail::Vocabulary { file: FILE, message });
    if !options.do_basic_tokenize {
        // Words would be cut at white space alone, without any normalization.
        let what = "`do_basic_tokenize` = false".to_owned();
        return Err(Detail::Unsupported { file: "tokenizer_config.json", what }.into());
    }
    let text = std::str::from_utf8(vocabulary).map_err(|e| broken(e.to_string()))?;
    let mut pieces = Vocab::default();
    for (id, piece) in text.lines().enumerate() {
        let id = u32::try_from(id).map_err(|e| broken(e.to_string()))?;
        // Of equal pieces the last one counts, as in Python's dictionary.
        pieces.insert(piece.to_owned(), id);
    }
    let special = &options.special;
    let unknown = spelled(special.unk_token.as_ref(), "[UNK]");
    let (separator, class) = (
        spelled(special.sep_token.as_ref(), "[SEP]"),
        spelled(special.cls_token.as_ref(), "[CLS]"),
    );
    let others = [(&special.pad_token, "[PAD]"), (&special.mask_token, "[MASK]")];
    let others = others.map(|(token, default)| spelled(token.as_ref(), default));

    let model = guarded("loading", || {
        let builder = WordPiece::builder().vocab(pieces);
        builder.unk_token(unknown.clone()).max_input_chars_per_word(MAX_WORD_CHARS).build()
    })?;
    let mut tokenizer = Tokenizer::new(model);
    id_of(&tokenizer, &unknown, FILE)?;
    let ends = [separator, class].map(|token| {
        let id = id_of(&tokenizer, &token, FILE)?;
        Ok::<_, Error>((token, id))
    });
    let [separator, class] = ends;
    let (separator, class) = (separator?, class?);
    let known: Vec<AddedToken> = [&unknown, &separator.0, &class.0]
        .into_iter()
        .chain(&others)
        .filter(|token| tokenizer.token_to_id(token).is_some())
        .map(|token| AddedToken::from(token.clone(), true))
        .collect();
    let normalizer = BertNormalizer::new(
        /* clean_text */ true,
        options.tokenize_chinese_chars,
        options.strip_accents,
        options.do_lower_case,
    );
    guarded("loading", || {
        tokenizer.with_normalizer(Some(normalizer))?;
        tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
        tokenizer.with_post_processor(Some(BertProcessing::new(separator, class)));
        tokenizer.add_special_tokens(known).map(|_| ())
    })?;
    Ok(tokenizer)
}
