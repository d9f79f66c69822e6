//! An answer on its way: what its next pass reads, and what it takes from it.

use std::time::Duration;

use candle_core::{Result, Tensor, bail};

use super::{FinishReason, Generated, GenerationError, GenerationOptions, Request, Step};
use crate::cache::KvCache;
use crate::chooser::Chooser;
use crate::decoder::{Decoder, DecoderInput};
use crate::sampling::Sampled;

/// Tokens for which room is made before they are generated: more than most answers have, and little
/// enough to waste on a GPU.
const MAX_TOKENS_AHEAD: usize = 1024;

/// After so many drafts in a row of which nothing was right, an answer is unlike those that are known, and
/// further ones would only cost their rows.
const MAX_REJECTED: usize = 2;

/// An answer on its way.
pub(super) struct Answering<'a> {
    /// Index of the prompt.
    index: usize,
    cache: &'a mut KvCache,
    options: &'a GenerationOptions,
    pub(super) chooser: Chooser,
    /// `[1, rows, hidden]`: what the next pass reads.
    inputs_embeds: Tensor,
    /// Rows of the prompt until it is read, then one for the last token.
    known_rows: usize,
    /// Guesses that the next pass checks.
    pub(super) draft: Vec<u32>,
    /// Drafts in a row of which nothing was right.
    rejected: usize,
    finished: Option<FinishReason>,
    answer: Generated,
    kept_logits: Vec<Tensor>,
}

impl<'a> Answering<'a> {
    pub(super) fn new(index: usize, request: Request<'a>) -> Result<Self> {
        let Request { prompt, cache, options } = request;
        let (batch, rows, _) = prompt.dims3()?;
        if batch != 1 {
            bail!("an answer needs one prompt, got a batch of {batch}")
        }
        cache.reserve(rows.saturating_add(options.max_new_tokens.min(MAX_TOKENS_AHEAD)));
        Ok(Self {
            index,
            cache,
            options,
            chooser: Chooser::new(options.sampling.clone(), options.forced.clone())?,
            inputs_embeds: prompt.clone(),
            known_rows: rows,
            draft: Vec::new(),
            rejected: 0,
            finished: (options.max_new_tokens == 0).then_some(FinishReason::Length),
            answer: Generated {
                token_ids: Vec::new(),
                logprobs: Vec::new(),
                hidden_states: Vec::new(),
                logits: None,
                finish_reason: FinishReason::Length,
                drafted: 0,
                accepted: 0,
                prefill: Duration::ZERO,
                decode: Duration::ZERO,
            },
            kept_logits: Vec::new(),
        })
    }

    /// Itself, unless it has ended.
    pub(super) fn going(&mut self) -> Option<&mut Self> {
        self.finished.is_none().then_some(self)
    }

    /// Rows that the next pass reads.
    pub(super) fn rows(&self) -> usize {
        self.known_rows + self.draft.len()
    }

    /// Of these, the last ones, from which tokens are chosen.
    pub(super) fn chosen_rows(&self) -> usize {
        1 + self.draft.len()
    }

    /// Up to `most` tokens that the answer probably goes on with, each of which would be worth a row.
    pub(super) fn propose(&self, decoder: &Decoder, most: usize) -> Vec<u32> {
        let Some(drafts) = self.options.drafts.as_ref().filter(|_| self.chooser.is_greedy()) else {
            return Vec::new();
        };
        let answer = &self.answer.token_ids;
        if answer.is_empty() || self.rejected == MAX_REJECTED {
            return Vec::new();
        }
        let most = most
            // The last token that fits is chosen from a row, and read in none.
            .min(self.options.max_new_tokens.saturating_sub(answer.len() + 1))
            .min(decoder.alike_beyond(self.cache.len() + 1));
        let mut proposed = drafts.propose(answer, most);
        let is_read = |id: &u32| !self.options.eos_token_ids.contains(id) && decoder.knows(*id);
        proposed.truncate(proposed.iter().take_while(|id| is_read(id)).count());
        proposed
    }

    /// Makes the next pass read the last token and the draft behind it; a prompt stays as it is.
    pub(super) fn embed(&mut self, decoder: &Decoder) -> Result<()> {
        if let Some(&last) = self.answer.token_ids.last() {
            let ids: Vec<u32> = std::iter::once(last).chain(self.draft.iter().copied()).collect();
            self.inputs_embeds = decoder.embed(&ids)?;
        }
        Ok(())
    }

    pub(super) fn input(&mut self) -> (DecoderInput<'_>, &mut KvCache) {
        let sequence_length = self.cache.len() + self.rows();
        (DecoderInput { inputs_embeds: &self.inputs_embeds, sequence_length }, self.cache)
    }

    /// Takes the tokens that a pass has led to: the one that was chosen from its first row, and for each
    /// guess that this proves right, one more. The cache forgets the other guesses.
    ///
    /// # Shapes
    /// - `states`: `[hidden]` for each row that tokens are chosen from    - `logits`: `[rows, V]`
    pub(super) fn accept(
        &mut self,
        states: Vec<Tensor>,
        first: Option<Sampled>,
        logits: &Tensor,
        on_token: &mut dyn FnMut(usize, Step<'_>),
    ) -> std::result::Result<(), GenerationError> {
        let draft = std::mem::take(&mut self.draft);
        let before = self.answer.accepted;
        let outcome = self.take_while_right(&draft, states, first, logits, on_token);
        let accepted = self.answer.accepted - before;
        self.cache.truncate(self.cache.len() - (draft.len() - accepted));
        self.known_rows = 1;
        self.answer.drafted += draft.len();
        self.rejected = match (draft.len(), accepted) {
            (0, _) => self.rejected,
            (_, 0) => self.rejected + 1,
            _ => 0,
        };
        outcome
    }

    /// Drops a draft that a pass has read and nothing was chosen from.
    pub(super) fn forget_draft(&mut self) {
        self.cache.truncate(self.cache.len() - self.draft.len());
        self.draft.clear();
    }

    fn take_while_right(
        &mut self,
        draft: &[u32],
        states: Vec<Tensor>,
        first: Option<Sampled>,
        logits: &Tensor,
        on_token: &mut dyn FnMut(usize, Step<'_>),
    ) -> std::result::Result<(), GenerationError> {
        let mut chosen = first;
        for (row, state) in states.into_iter().enumerate() {
            let logits = logits.get(row)?;
            if row > 0 {
                self.answer.accepted += 1;
                chosen = self.chooser.next(&logits)?;
            }
            let id = self.take(state, chosen, &logits, on_token)?;
            if self.finished.is_some() || draft.get(row) != Some(&id) {
                break;
            }
        }
        Ok(())
    }

    /// Takes the token that was chosen.
    ///
    /// # Shapes
    /// - `state`: `[hidden]`    - `logits`: `[V]`
    fn take(
        &mut self,
        state: Tensor,
        chosen: Option<Sampled>,
        logits: &Tensor,
        on_token: &mut dyn FnMut(usize, Step<'_>),
    ) -> std::result::Result<u32, GenerationError> {
        let Self { options, answer, .. } = self;
        let index = answer.token_ids.len();
        let Some(Sampled { id, logprob }) = chosen else {
            return Err(GenerationError::NotFinite { index });
        };
        answer.token_ids.push(id);
        answer.logprobs.push(logprob);
        answer.hidden_states.push(state);
        self.finished = if options.eos_token_ids.contains(&id) {
            Some(FinishReason::Stop)
        } else {
            (index + 1 == options.max_new_tokens).then_some(FinishReason::Length)
        };
        let shown = options.keep_logits.then_some(logits);
        let step = Step { index, id, logprob, logits: shown, finish_reason: self.finished };
        on_token(self.index, step);
        if options.keep_logits {
            self.kept_logits.push(logits.clone());
        }
        Ok(id)
    }

    /// Counts the time of a pass: the first one reads the prompt, and gives a single token.
    pub(super) fn spend(&mut self, time: Duration) {
        match self.answer.token_ids.len() {
            1 => self.answer.prefill += time,
            _ => self.answer.decode += time,
        }
    }

    pub(super) fn finish(self) -> Result<Generated> {
        let mut answer = self.answer;
        if let Some(reason) = self.finished {
            answer.finish_reason = reason;
        }
        if !self.kept_logits.is_empty() {
            answer.logits = Some(Tensor::stack(&self.kept_logits, 0)?);
        }
        if let Some(drafts) = &self.options.drafts {
            drafts.seen.remember(&answer.token_ids, 1);
        }
        Ok(answer)
    }
}
