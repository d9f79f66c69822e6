//! [`PromptTokenizer`]: one face for both kinds of tokenizers.

use std::borrow::Cow;

use crate::config::{Config, R1SEG_SEG, R1SEG_SPECIAL};
use crate::error::Detail;
use crate::fast::FastTokenizer;
use crate::slow::SlowTokenizer;
use crate::{Error, Prompt, PromptPart, Separator, StreamDecoder, TokenizerFiles};

/// Which of transformers' two implementations gives the ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenizerKind {
    /// `LlamaTokenizer` with `use_fast=False`.
    Slow,
    /// `tokenizer.json` as it is.
    Fast,
}

/// A checkpoint's tokenizer, with the authors' ids and room for an image.
///
/// Built once; `Send + Sync`, and every method takes `&self`.
#[derive(Debug, Clone)]
pub struct PromptTokenizer {
    engine: Engine,
    im_patch: u32,
    bx_start: u32,
    bx_end: u32,
    seg: u32,
    /// What prompts begin with, where the tokenizer does not see to that by itself.
    lead: Option<u32>,
}

#[derive(Debug, Clone)]
enum Engine {
    Slow(Box<SlowTokenizer>),
    Fast(Box<FastTokenizer>),
}

/// Calls a method that both kinds have.
macro_rules! either {
    ($self:expr, $engine:ident => $call:expr) => {
        match &$self.engine {
            Engine::Slow($engine) => $call,
            Engine::Fast($engine) => $call,
        }
    };
}

/// The longest text that is tokenized, in bytes: about 60 000 words of English.
pub const MAX_TEXT_BYTES: usize = 256 << 10;

/// Whether a question has words in it, and not too many for any model; it needs no tokenizer.
///
/// # Errors
/// `R-TOK-12` for an empty or blank one, `R-TOK-21` beyond
/// [`MAX_TEXT_BYTES`].
pub fn check_question(question: &str) -> Result<(), Error> {
    if question.len() > MAX_TEXT_BYTES {
        return Err(Detail::TooManyBytes { bytes: question.len(), limit: MAX_TEXT_BYTES }.into());
    }
    if is_blank(question) { Err(Detail::EmptyQuestion.into()) } else { Ok(()) }
}

pub(crate) fn is_blank(text: &str) -> bool {
    text.chars().all(|c| c.is_whitespace() || c == '\0')
}

impl PromptTokenizer {
    /// Builds the tokenizer that the files describe.
    ///
    /// `tokenizer_class: LlamaTokenizer`, or a `tokenizer.model` without a class or without a
    /// `tokenizer.json`, means slow ids; any other class means `tokenizer.json`. `<im_patch>`,
    /// `<bx_start>`, `<bx_end>` and `[SEG]` get the next free ids, in this order, where no file
    /// lists them ([`PromptTokenizer::appended_tokens`]).
    ///
    /// # Errors
    /// Every variant of [`Error`] whose [`Error::kind`] is [`Model`](crate::ErrorKind::Model): broken
    /// or unsupported files, tokens that clash, and `R-TOK-10` if `<im_patch>` or `[SEG]`
    /// is cut into several ids.
    pub fn new(files: &TokenizerFiles) -> Result<Self, Error> {
        files.check_sizes()?;
        let config = Config::parse(files)?;
        let slow = match config.tokenizer_class.as_deref() {
            Some("LlamaTokenizer") => true,
            Some(_) => files.tokenizer_json.is_none(),
            None => files.tokenizer_model.is_some(),
        };
        let engine = if slow {
            Engine::Slow(Box::new(SlowTokenizer::new(files, &config)?))
        } else {
            Engine::Fast(Box::new(FastTokenizer::new(files, &config)?))
        };
        let id = |token: &str| match &engine {
            Engine::Slow(slow) => slow.added_id(token),
            Engine::Fast(fast) => fast.added_id(token),
        };
        let id = |token: &str| {
            id(token).ok_or(Error::from(Detail::UnknownToken { token: token.to_owned() }))
        };
        let [patch, start, end] = R1SEG_SPECIAL;
        let (im_patch, bx_start, bx_end, seg) = (id(patch)?, id(start)?, id(end)?, id(R1SEG_SEG)?);
        let tokenizer = Self { engine, im_patch, bx_start, bx_end, seg, lead: None };
        tokenizer.check_atomic(patch, im_patch)?;
        tokenizer.check_atomic(R1SEG_SEG, seg)?;
        Ok(tokenizer)
    }

    /// The same with prompts that begin with the config's `bos_token`, as a text does that spells it.
    ///
    /// # Errors
    /// `R-TOK-13` where there is none.
    pub fn with_leading_bos(self) -> Result<Self, Error> {
        let token = || Error::from(Detail::UnknownToken { token: "bos_token".to_owned() });
        let bos = self.bos_id().ok_or_else(token)?;
        Ok(Self { lead: Some(bos), ..self })
    }

    /// A token that is cut up would shift the image, or never be found in an answer.
    fn check_atomic(&self, token: &str, id: u32) -> Result<(), Error> {
        let ids = self.encode_raw(token)?;
        // At most BOS, a space, the token, EOS.
        if ids.iter().filter(|&&got| got == id).count() == 1 && ids.len() <= 4 {
            return Ok(());
        }
        Err(Detail::NotAtomic { token: token.to_owned(), id, ids }.into())
    }

    /// Which implementation's ids these are.
    #[must_use]
    pub fn kind(&self) -> TokenizerKind {
        match self.engine {
            Engine::Slow(_) => TokenizerKind::Slow,
            Engine::Fast(_) => TokenizerKind::Fast,
        }
    }

    /// Id of `[SEG]`, which asks for a mask.
    #[must_use]
    pub fn seg_token_id(&self) -> u32 {
        self.seg
    }

    /// Id of `<im_patch>`, the image placeholder.
    #[must_use]
    pub fn im_patch_id(&self) -> u32 {
        self.im_patch
    }

    /// Id of `<bx_start>`.
    #[must_use]
    pub fn bx_start_id(&self) -> u32 {
        self.bx_start
    }

    /// Id of `<bx_end>`.
    #[must_use]
    pub fn bx_end_id(&self) -> u32 {
        self.bx_end
    }

    /// Id of the config's `bos_token`; having one does not mean that prompts begin with it.
    #[must_use]
    pub fn bos_id(&self) -> Option<u32> {
        either!(self, engine => engine.bos())
    }

    /// Id of the config's `eos_token`; a model's `generation_config.json` may name others.
    #[must_use]
    pub fn eos_id(&self) -> Option<u32> {
        either!(self, engine => engine.eos())
    }

    /// The largest id plus one.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        either!(self, engine => engine.last_token()).0 as usize + 1
    }

    /// The R1Seg tokens that no file listed and that were given the next free ids.
    #[must_use]
    pub fn appended_tokens(&self) -> &[&'static str] {
        either!(self, engine => engine.appended())
    }

    /// The id of an added token, by its text.
    #[must_use]
    pub fn added_token_id(&self, token: &str) -> Option<u32> {
        either!(self, engine => engine.added_id(token))
    }

    /// Checks that every id has a row in an embedding table of `rows` rows. More rows than ids are
    /// normal (Phi-3 pads to 32064).
    ///
    /// # Errors
    /// `R-TOK-11`, which names the token with the largest id.
    pub fn check_embedding_rows(&self, rows: usize) -> Result<(), Error> {
        let (id, token) = either!(self, engine => engine.last_token());
        if (id as usize) < rows {
            Ok(())
        } else {
            Err(Detail::EmbeddingRows { token, id, rows }.into())
        }
    }

    /// Tokenizes `"<im_patch>" * n_image_tokens + separator + question`, the question as plain text.
    ///
    /// The question is not trimmed; NUL characters in it are dropped. Added tokens that it spells
    /// (`[SEG]`, `</s>`, `<|end|>`) become ordinary pieces. For a question that spells none the ids
    /// are those of the authors' `tokenizer(prompt)`.
    ///
    /// # Errors
    /// `R-TOK-12` for an empty or blank question, `R-TOK-21` for one beyond
    /// [`MAX_TEXT_BYTES`] or what this tokenizer can take, `R-TOK-14` if the tokenizer
    /// puts more than one id in front of the image, and what the `tokenizers` crate refuses.
    pub fn encode_prompt(
        &self,
        question: &str,
        n_image_tokens: usize,
        separator: Separator,
    ) -> Result<Prompt, Error> {
        self.encode_prompt_parts(&[PromptPart::Text(question)], n_image_tokens, separator)
    }

    /// [`encode_prompt`](Self::encode_prompt) for a question with tokens that the program put in:
    /// a box between `<bx_start>` and `<bx_end>`.
    ///
    /// # Errors
    /// As [`encode_prompt`](Self::encode_prompt), and `R-TOK-13`.
    pub fn encode_prompt_parts(
        &self,
        question: &[PromptPart<'_>],
        n_image_tokens: usize,
        separator: Separator,
    ) -> Result<Prompt, Error> {
        let is_empty = |part: &PromptPart<'_>| match part {
            PromptPart::Text(text) => is_blank(text),
            PromptPart::Token(_) => false,
        };
        if question.iter().all(is_empty) {
            return Err(Detail::EmptyQuestion.into());
        }
        self.check_parts(question)?;
        let mut parts = vec![PromptPart::Token(R1SEG_SPECIAL[0]); n_image_tokens];
        parts.push(PromptPart::Text(separator.as_str()));
        parts.extend_from_slice(question);
        let mut ids = self.encode_checked_parts(&parts)?;
        if let Some(bos) = self.lead.filter(|bos| ids.first() != Some(bos)) {
            ids.insert(0, bos);
        }
        Prompt::new(ids, n_image_tokens, self.im_patch)
    }

    /// Ids of `parts` put together, BOS and EOS as the tokenizer adds them. Only
    /// [`PromptPart::Token`]s become added tokens; NUL characters in texts are dropped.
    ///
    /// # Errors
    /// `R-TOK-13`, `R-TOK-21` where the texts have more than
    /// [`MAX_TEXT_BYTES`] together, or than this tokenizer can take, and what the `tokenizers` crate
    /// refuses.
    pub fn encode_parts(&self, parts: &[PromptPart<'_>]) -> Result<Vec<u32>, Error> {
        self.check_parts(parts)?;
        self.encode_checked_parts(parts)
    }

    fn encode_checked_parts(&self, parts: &[PromptPart<'_>]) -> Result<Vec<u32>, Error> {
        let has_nul =
            |part: &PromptPart<'_>| matches!(part, PromptPart::Text(t) if t.contains('\0'));
        if !parts.iter().any(has_nul) {
            return self.encode_clean_parts(parts);
        }
        let cleaned: Vec<Cow<'_, str>> = parts
            .iter()
            .map(|part| match *part {
                PromptPart::Text(text) => Cow::Owned(text.replace('\0', "")),
                PromptPart::Token(token) => Cow::Borrowed(token),
            })
            .collect();
        let parts: Vec<PromptPart<'_>> = parts
            .iter()
            .zip(&cleaned)
            .map(|(part, text)| match part {
                PromptPart::Text(_) => PromptPart::Text(text),
                PromptPart::Token(_) => PromptPart::Token(text),
            })
            .collect();
        self.encode_clean_parts(&parts)
    }

    /// Before anything is made of a text, whose memory is a multiple of it.
    fn check_bytes(&self, bytes: usize) -> Result<(), Error> {
        match &self.engine {
            Engine::Slow(_) if bytes > MAX_TEXT_BYTES => {
                Err(Detail::TooManyBytes { bytes, limit: MAX_TEXT_BYTES }.into())
            }
            Engine::Slow(_) => Ok(()),
            Engine::Fast(fast) => fast.limits().check_text(bytes),
        }
    }

    fn check_parts(&self, parts: &[PromptPart<'_>]) -> Result<(), Error> {
        let bytes = |part: &PromptPart<'_>| match part {
            PromptPart::Text(text) => text.len(),
            PromptPart::Token(_) => 0,
        };
        self.check_bytes(parts.iter().map(bytes).sum())
    }

    fn encode_clean_parts(&self, parts: &[PromptPart<'_>]) -> Result<Vec<u32>, Error> {
        either!(self, engine => engine.encode_parts(parts))
    }

    /// The authors' `tokenizer(text).input_ids`: added tokens in `text` are found. For comparisons
    /// and for answers that the program itself writes; a user's words go to
    /// [`encode_prompt`](Self::encode_prompt).
    ///
    /// # Errors
    /// `R-TOK-21`, and what the `tokenizers` crate refuses.
    pub fn encode_raw(&self, text: &str) -> Result<Vec<u32>, Error> {
        self.check_bytes(text.len())?;
        match &self.engine {
            Engine::Slow(slow) => Ok(slow.encode_raw(text)),
            Engine::Fast(fast) => fast.encode_raw(text),
        }
    }

    /// `tokenizer.batch_decode([ids], skip_special_tokens=True)[0]`: `<im_patch>`, box marks, BOS
    /// and EOS vanish, `[SEG]` stays. Ids that the vocabulary lacks are left out.
    ///
    /// # Errors
    /// What the `tokenizers` crate refuses; slow tokenizers refuse nothing.
    pub fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        self.decode_with(ids, true)
    }

    /// [`decode`](Self::decode) with the special tokens left in.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_raw(&self, ids: &[u32]) -> Result<String, Error> {
        self.decode_with(ids, false)
    }

    fn decode_with(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, Error> {
        match &self.engine {
            Engine::Slow(slow) => Ok(slow.decode(ids, skip_special_tokens)),
            Engine::Fast(fast) => fast.decode(ids, skip_special_tokens),
        }
    }

    /// A decoder for one answer that arrives id by id.
    #[must_use]
    pub fn stream_decoder(&self) -> StreamDecoder<'_> {
        StreamDecoder::new(self)
    }

    /// For [`StreamDecoder`]: the text so far that later ids cannot change, but for U+FFFD at its
    /// end and for cleaning up.
    pub(crate) fn decode_settled(&self, ids: &[u32]) -> Result<String, Error> {
        match &self.engine {
            Engine::Slow(slow) => Ok(slow.decode_without_clean_up(ids, true)),
            Engine::Fast(fast) if !fast.decodes_forward() => Ok(String::new()),
            Engine::Fast(fast) => {
                // One invalid byte spoils its whole run of byte tokens, which may still grow.
                let pending = ids.iter().rev().take_while(|&&id| fast.joins_bytes(id)).count();
                fast.decode_without_clean_up(&ids[..ids.len() - pending], true)
            }
        }
    }

    /// For [`StreamDecoder`]: the length of the id's own text, if that is whole characters which
    /// neither join their neighbors nor vanish.
    pub(crate) fn stands_alone(&self, id: u32) -> Result<Option<usize>, Error> {
        let is_plain = either!(self, engine => engine.is_plain(id));
        let text = if is_plain { self.decode_settled(&[id])? } else { String::new() };
        let whole = !text.is_empty() && !text.contains(char::REPLACEMENT_CHARACTER);
        Ok(whole.then_some(text.len()))
    }

    pub(crate) fn cleans_up(&self) -> bool {
        either!(self, engine => engine.cleans_up())
    }
}
