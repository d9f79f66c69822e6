//! `tokenizer.json` as it is, through the `tokenizers` crate: `PreTrainedTokenizerFast` of
//! transformers 4.46.3 and its subclasses.

use std::collections::{HashMap, HashSet};

use tokenizers::decoders::DecoderWrapper;
use tokenizers::normalizer::Range;
use tokenizers::{
    Decoder, Model, NormalizedString, Normalizer, OffsetType, PreTokenizedString, PreTokenizer,
    Token, Tokenizer,
};

use crate::config::{AddedToken, Config, R1SEG_SEG, R1SEG_SPECIAL};
use crate::error::Detail;
use crate::growth::Limits;
use crate::guard::guarded;
use crate::{Error, PromptPart, TokenizerFiles, cleanup};

/// A range of the prompt, and the id if it is a token.
type Cut = (std::ops::Range<usize>, Option<u32>);

#[derive(Debug, Clone)]
pub(crate) struct FastTokenizer {
    inner: Tokenizer,
    limits: Limits,
    /// Added tokens by id, as decoding shows them. The crate's own `decode` shows the *normalized*
    /// form since 0.21, which puts a space before the `[SEG]` of Llama-style normalizers.
    added: HashMap<u32, String>,
    special: HashSet<String>,
    bos: Option<u32>,
    eos: Option<u32>,
    /// `LlamaTokenizerFast` ignores the file's post-processor for its own flags.
    own_bos_and_eos: Option<(Option<u32>, Option<u32>)>,
    clean_up: bool,
    appended: Vec<&'static str>,
    last: (u32, String),
}

impl FastTokenizer {
    pub(crate) fn new(files: &TokenizerFiles, config: &Config) -> Result<Self, Error> {
        let bytes = files.tokenizer_json.as_ref().ok_or(Error::from(Detail::NoVocabulary))?;
        let limits = Limits::of(bytes)?;
        let mut inner = guarded("loading", || Tokenizer::from_bytes(bytes))?;
        // The authors' call neither truncates nor pads, whatever the file says.
        inner.with_padding(None);
        guarded("loading", || inner.with_truncation(None).map(|_| ()))?;

        let known: HashSet<String> =
            inner.get_added_vocabulary().get_vocab().keys().cloned().collect();
        let listed = config.added_tokens.iter().flatten().map(|(_, token)| token);
        let missing = listed.chain(config.special_tokens());
        let missing: Vec<_> = missing.filter(|t| !known.contains(&t.content)).cloned().collect();
        limits.check_added(missing.iter().map(|token| token.content.as_str()))?;
        add(&mut inner, &missing)?;
        let mut appended = Vec::new();
        for token in R1SEG_SPECIAL.into_iter().chain([R1SEG_SEG]) {
            if inner.get_added_vocabulary().get_vocab().contains_key(token) {
                continue;
            }
            let is_new = inner.token_to_id(token).is_none();
            add(&mut inner, &[AddedToken::plain(token, token != R1SEG_SEG)])?;
            if is_new {
                appended.push(token);
            }
        }
        for (&expected, token) in config.added_tokens.iter().flatten() {
            let got = inner.token_to_id(&token.content).unwrap_or(expected);
            let ours = R1SEG_SPECIAL.contains(&&*token.content) || token.content == R1SEG_SEG;
            if ours && got != expected {
                return Err(
                    Detail::IdConflict { token: token.content.clone(), expected, got }.into()
                );
            }
        }

        let id = |token: &Option<AddedToken>| inner.token_to_id(&token.as_ref()?.content);
        let (bos, eos) = (id(&config.bos_token), id(&config.eos_token));
        let is_llama = config.tokenizer_class.as_deref() == Some("LlamaTokenizerFast");
        let own_bos_and_eos = is_llama.then_some((
            bos.filter(|_| config.add_bos_token),
            eos.filter(|_| config.add_eos_token),
        ));
        let added: HashMap<u32, String> = inner
            .get_added_vocabulary()
            .get_added_tokens_decoder()
            .iter()
            .map(|(&id, token)| (id, token.content.clone()))
            .collect();
        let is_special = |token: &String| inner.get_added_vocabulary().is_special_token(token);
        let special = added.values().filter(|token| is_special(token)).cloned().collect();
        let vocabulary = guarded("listing the vocabulary", || Ok(inner.get_vocab(true)))?;
        limits.check_vocabulary(vocabulary.keys())?;
        // An appended token gets the number of tokens as its id, which is another's where ids have
        // gaps.
        for token in R1SEG_SPECIAL.into_iter().chain([R1SEG_SEG]) {
            let id = inner.token_to_id(token);
            let other = vocabulary.iter().find(|(t, i)| Some(**i) == id && *t != token);
            if let Some((other, &id)) = other {
                let (token, other) = (token.to_owned(), other.clone());
                return Err(Detail::SharedId { token, other, id }.into());
            }
        }
        let last = vocabulary.into_iter().map(|(token, id)| (id, token)).max().unwrap_or_default();
        Ok(Self {
            clean_up: config.clean_up_tokenization_spaces,
            inner,
            limits,
            added,
            special,
            bos,
            eos,
            own_bos_and_eos,
            appended,
            last,
        })
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn appended(&self) -> &[&'static str] {
        &self.appended
    }

    pub(crate) fn added_id(&self, token: &str) -> Option<u32> {
        self.inner.get_added_vocabulary().get_vocab().get(token).copied()
    }

    pub(crate) fn bos(&self) -> Option<u32> {
        self.bos
    }

    pub(crate) fn eos(&self) -> Option<u32> {
        self.eos
    }

    pub(crate) fn last_token(&self) -> (u32, String) {
        self.last.clone()
    }

    pub(crate) fn cleans_up(&self) -> bool {
        self.clean_up
    }

    /// `tokenizer(text).input_ids`.
    pub(crate) fn encode_raw(&self, text: &str) -> Result<Vec<u32>, Error> {
        let add_special_tokens = self.own_bos_and_eos.is_none();
        let encoding = guarded("encoding", || self.inner.encode_fast(text, add_special_tokens))?;
        Ok(self.with_own_bos_and_eos(encoding.get_ids()))
    }

    /// The same for a text whose added tokens are those of `parts` and no others.
    ///
    /// The whole text goes through the pipeline at once, cut by hand where the added vocabulary
    /// would have cut it: pre-tokenizers look at a piece's place in the whole.
    pub(crate) fn encode_parts(&self, parts: &[PromptPart<'_>]) -> Result<Vec<u32>, Error> {
        let (text, cuts) = self.layout(parts)?;
        let encoding = guarded("encoding", || {
            let mut pieces = PreTokenizedString::from(text.as_str());
            pieces.split(|_, whole| {
                cuts.iter()
                    .map(|(range, token)| {
                        let piece = whole
                            .slice(Range::Original(range.clone()))
                            .ok_or("a prompt part is not a slice of the prompt")?;
                        let token = token.map(|id| vec![Token::new(id, String::new(), (0, 0))]);
                        Ok((piece, token))
                    })
                    .collect::<tokenizers::Result<Vec<(NormalizedString, _)>>>()
            })?;
            if let Some(normalizer) = self.inner.get_normalizer() {
                pieces.normalize(|piece| normalizer.normalize(piece))?;
            }
            if let Some(pre_tokenizer) = self.inner.get_pre_tokenizer() {
                pre_tokenizer.pre_tokenize(&mut pieces)?;
            }
            pieces.tokenize(|piece| self.tokenize_plain(piece.get()))?;
            let encoding = pieces.into_encoding(None, 0, OffsetType::None)?;
            self.inner.post_process(encoding, None, self.own_bos_and_eos.is_none())
        })?;
        Ok(self.with_own_bos_and_eos(encoding.get_ids()))
    }

    /// The parts as one text, and the ranges that are tokens or text, white space given to the
    /// tokens that eat it.
    fn layout(&self, parts: &[PromptPart<'_>]) -> Result<(String, Vec<Cut>), Error> {
        let mut text = String::new();
        let mut cuts: Vec<Cut> = Vec::new();
        for part in parts {
            let start = text.len();
            let (PromptPart::Text(content) | PromptPart::Token(content)) = *part;
            text.push_str(content);
            let id = match part {
                PromptPart::Text(_) => None,
                PromptPart::Token(token) => Some(self.added_id(token).ok_or_else(|| {
                    Error::from(Detail::UnknownToken { token: (*token).to_owned() })
                })?),
            };
            match cuts.last_mut() {
                Some((range, None)) if id.is_none() => range.end = text.len(),
                _ => cuts.push((start..text.len(), id)),
            }
        }
        let vocabulary = self.inner.get_added_vocabulary().get_added_tokens_decoder();
        for at in 0..cuts.len() {
            let Some(token) = cuts[at].1.and_then(|id| vocabulary.get(&id)) else {
                continue;
            };
            if let Some(left) = at.checked_sub(1).filter(|&l| token.lstrip && cuts[l].1.is_none()) {
                let kept = text[cuts[left].0.clone()].trim_end().len();
                cuts[left].0.end = cuts[left].0.start + kept;
                cuts[at].0.start = cuts[left].0.end;
            }
            if token.rstrip && cuts.get(at + 1).is_some_and(|next| next.1.is_none()) {
                let next = cuts[at + 1].0.clone();
                cuts[at + 1].0.start = next.end - text[next.clone()].trim_start().len();
                cuts[at].0.end = cuts[at + 1].0.start;
            }
        }
        Ok((text, cuts))
    }

    /// Tokens of one pre-tokenized piece. Where the model's own vocabulary holds an added token
    /// that the text spells, it is cut into characters instead.
    fn tokenize_plain(&self, piece: &str) -> tokenizers::Result<Vec<Token>> {
        let model = self.inner.get_model();
        let spells = |token: &Token, text: &str| {
            let covered = text.get(token.offsets.0..token.offsets.1);
            self.added.get(&token.id).is_some_and(|added| covered == Some(added.as_str()))
        };
        let tokens = model.tokenize(piece)?;
        if !tokens.iter().any(|token| spells(token, piece)) {
            return Ok(tokens);
        }
        let mut plain = Vec::with_capacity(tokens.len() + 8);
        for token in tokens {
            if !spells(&token, piece) {
                plain.push(token);
                continue;
            }
            for c in token.value.chars() {
                let c = c.to_string();
                plain.extend(model.tokenize(&c)?.into_iter().filter(|token| !spells(token, &c)));
            }
        }
        Ok(plain)
    }

    fn with_own_bos_and_eos(&self, ids: &[u32]) -> Vec<u32> {
        let (bos, eos) = self.own_bos_and_eos.unwrap_or_default();
        bos.into_iter().chain(ids.iter().copied()).chain(eos).collect()
    }

    /// `batch_decode`; ids that the vocabulary lacks are left out.
    pub(crate) fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, Error> {
        let text = self.decode_without_clean_up(ids, skip_special_tokens)?;
        Ok(if self.clean_up { cleanup::clean_up(&text) } else { text })
    }

    pub(crate) fn decode_without_clean_up(
        &self,
        ids: &[u32],
        skip_special_tokens: bool,
    ) -> Result<String, Error> {
        guarded("decoding", || {
            let tokens = ids.iter().filter_map(|&id| self.token(id));
            let tokens: Vec<String> = tokens
                .filter(|token| !(skip_special_tokens && self.special.contains(token)))
                .collect();
            match self.inner.get_decoder() {
                Some(decoder) => decoder.decode(tokens),
                None => Ok(tokens.join(" ")),
            }
        })
    }

    fn token(&self, id: u32) -> Option<String> {
        self.added.get(&id).cloned().or_else(|| self.inner.get_model().id_to_token(id))
    }

    /// True for a token of ordinary text.
    pub(crate) fn is_plain(&self, id: u32) -> bool {
        !self.added.contains_key(&id) && !self.joins_bytes(id)
    }

    /// True if the token's text depends on its neighbors: it is one byte, or it is not shown.
    pub(crate) fn joins_bytes(&self, id: u32) -> bool {
        self.token(id).is_none_or(|token| {
            self.special.contains(&token) || crate::sentencepiece::byte_of(&token).is_some()
        })
    }

    /// True if text once decoded stays, but for bytes of an unfinished character, when more ids
    /// follow. Unknown kinds of decoders may rewrite all of it.
    pub(crate) fn decodes_forward(&self) -> bool {
        let Some(decoder) = self.inner.get_decoder() else {
            return true;
        };
        let one = std::slice::from_ref(decoder);
        let steps = if let DecoderWrapper::Sequence(sequence) = decoder {
            sequence.get_decoders()
        } else {
            one
        };
        // Once all is one string, a step sees the end of the text and may change it.
        let mut fused = false;
        steps.iter().all(|step| match step {
            DecoderWrapper::Replace(_)
            | DecoderWrapper::Metaspace(_)
            | DecoderWrapper::ByteFallback(_) => !fused,
            DecoderWrapper::Fuse(_) | DecoderWrapper::ByteLevel(_) => {
                !std::mem::replace(&mut fused, true)
            }
            DecoderWrapper::Strip(strip) => strip.stop == 0,
            _ => false,
        })
    }
}

/// `add_tokens`: tokens of the model's vocabulary keep their id, others follow the last one.
fn add(inner: &mut Tokenizer, tokens: &[AddedToken]) -> Result<(), Error> {
    if tokens.is_empty() {
        return Ok(());
    }
    let tokens: Vec<_> = tokens
        .iter()
        .map(|token| {
            tokenizers::AddedToken::from(token.content.clone(), token.special)
                .lstrip(token.lstrip)
                .rstrip(token.rstrip)
                .single_word(token.single_word)
                .normalized(token.normalized.unwrap_or(!token.special))
        })
        .collect();
    guarded("adding tokens", || inner.add_tokens(tokens).map(|_| ()))
}
