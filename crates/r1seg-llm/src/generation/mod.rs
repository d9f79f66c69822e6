//! From prompts to answers, a pass at a time: each answer gets a token of it, and those of a draft
//! that prove right.

mod answering;

use std::time::{Duration, Instant};

use candle_core::{Result, Tensor};
use r1seg_nn::{FEW_ROWS, Probe};

use crate::cache::KvCache;
use crate::chooser::choose_all;
use crate::decoder::{Decoder, Positions};
use crate::drafts::Drafts;
use crate::sampling::Sampling;

use answering::Answering;

/// Rows of several prompts that one pass reads at most: beyond them reading the weights once more
/// is a small part of its time, and its activations only take memory.
const MAX_STACKED_ROWS: usize = 512;

/// What a caller decides about an answer.
#[derive(Debug, Clone)]
pub struct GenerationOptions {
    /// Longest answer in tokens, the end token included.
    pub max_new_tokens: usize,
    /// Tokens that end the answer (see [`eos_token_ids`](crate::eos_token_ids)).
    pub eos_token_ids: Vec<u32>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Tokens that are taken in place of the chosen ones, from the first on: a benchmark of random
    /// weights says with them what a trained model would say.
    pub forced: Vec<u32>,
    /// Keeps the token logits of every step.
    pub keep_logits: bool,
    /// From what the next tokens are guessed, so that one pass checks several of them; `None` for a pass
    /// for each token. The answer is the same to the last bit.
    ///
    /// For greedy answers, where the decoder [checks them](Decoder::checks_drafts).
    pub drafts: Option<Drafts>,
}

impl Default for GenerationOptions {
    /// A greedy answer of up to 256 tokens that no token ends.
    fn default() -> Self {
        Self {
            max_new_tokens: 256,
            eos_token_ids: Vec::new(),
            sampling: Sampling::Greedy,
            forced: Vec::new(),
            keep_logits: false,
            drafts: None,
        }
    }
}

/// A token, as soon as it is known.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// Its index in the answer.
    pub index: usize,
    /// Its id.
    pub id: u32,
    /// Natural logarithm of its probability by the untouched logits.
    pub logprob: f32,
    /// `[V]`, f32: what it was chosen from, when
    /// [`keep_logits`](GenerationOptions::keep_logits) is set.
    pub logits: Option<&'a Tensor>,
    /// Why the answer ends with it, if it does.
    pub finish_reason: Option<FinishReason>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// The model generated an end token.
    Stop,
    /// The answer reached its longest length.
    Length,
}

impl FinishReason {
    /// As reports and OpenAI's form write it: `stop` or `length`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerationError {
    /// The logits of a token are not those of a distribution: one is NaN, or the largest is infinite.
    #[error("the logits of token {index} of the answer are NaN or infinite")]
    NotFinite {
        /// The index of the token in its answer.
        index: usize,
    },
    /// A prompt is not one sequence, a sampling does not validate, a forced token is not in the
    /// vocabulary, the backend cannot run an operation, or the probe ended a pass
    /// ([`Cancelled`](r1seg_nn::Cancelled)).
    #[error(transparent)]
    Compute(#[from] candle_core::Error),
}

impl From<GenerationError> for candle_core::Error {
    fn from(error: GenerationError) -> Self {
        match error {
            GenerationError::Compute(error) => error,
            other => Self::wrap(other),
        }
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Generated {
    /// Token ids, the end token included.
    pub token_ids: Vec<u32>,
    /// Natural logarithm of each token's probability by the untouched logits.
    pub logprobs: Vec<f32>,
    /// `[hidden]` for each token: the state after the final norm that predicted it, in the
    /// activation dtype.
    pub hidden_states: Vec<Tensor>,
    /// `[T, V]`, f32: row k scores token k. Only when asked for, and when there is a token.
    pub logits: Option<Tensor>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Tokens that were guessed and checked.
    pub drafted: usize,
    /// Of these, how many were right: so many passes fewer than without guesses.
    pub accepted: usize,
    /// Time to the first token: its share of the pass that read its prompt. The time of a pass is
    /// divided among the answers in it by their rows, so that the times of all answers add up.
    pub prefill: Duration,
    /// Time for the tokens after the first, shared in the same way.
    pub decode: Duration,
}

/// A prompt to answer.
#[derive(Debug)]
pub struct Request<'a> {
    /// `[1, L, hidden]`: the positions that follow those in the cache.
    pub prompt: &'a Tensor,
    /// May already hold a prefix; afterwards it holds the prompt and every token of the answer but
    /// the last, which no pass has seen.
    pub cache: &'a mut KvCache,
    /// How it is answered.
    pub options: &'a GenerationOptions,
}

impl Decoder {
    /// Answers a prompt: [`generate_many`](Self::generate_many) of one.
    ///
    /// `cache` may already hold a prefix; afterwards it holds the prompt and every token of the
    /// answer but the last, which no pass has seen.
    ///
    /// # Shapes
    /// - `prompt`: `[1, L, hidden]`, the positions that follow those in the cache
    ///
    /// # Errors
    /// As [`generate_many`](Self::generate_many).
    pub fn generate(
        &self,
        prompt: &Tensor,
        cache: &mut KvCache,
        options: &GenerationOptions,
        probe: &dyn Probe,
        on_token: &mut dyn FnMut(Step<'_>),
    ) -> std::result::Result<Generated, GenerationError> {
        let request = Request { prompt, cache, options };
        let mut answers =
            self.generate_many(vec![request], probe, &mut |_, step| on_token(step))?;
        let answer = answers.pop();
        answer.ok_or_else(|| candle_core::Error::msg("one prompt has one answer").into())
    }

    /// Answers several prompts at once, in their order.
    ///
    /// Generating a token is bound by reading the weights, and up to [`FEW_ROWS`] answers read them
    /// together; more take turns, and an answer that has ended leaves its place. Rows that are left over check
    /// guesses of what comes next ([`GenerationOptions::drafts`]). `on_token` is given
    /// the index of the prompt. Only a prompt's last position goes through the output layer, and
    /// what crosses from a GPU for a greedy token is its id and its probability.
    ///
    /// An answer does not depend on the others, up to the order of f32 sums: each has its own
    /// sampler, and what one prompt's rows alone would not round is not rounded among others'.
    ///
    /// `probe` can end all of them, before each token and within a pass. The caches are then as they were
    /// before that pass.
    ///
    /// # Errors
    /// [`GenerationError::NotFinite`] where the model computed no distribution, and
    /// [`GenerationError::Compute`] for everything else.
    pub fn generate_many(
        &self,
        requests: Vec<Request<'_>>,
        probe: &dyn Probe,
        on_token: &mut dyn FnMut(usize, Step<'_>),
    ) -> std::result::Result<Vec<Generated>, GenerationError> {
        let requests = requests.into_iter().enumerate();
        let mut answers =
            requests.map(|(i, request)| Answering::new(i, request)).collect::<Result<Vec<_>>>()?;
        loop {
            let mut going: Vec<&mut Answering<'_>> =
                answers.iter_mut().filter_map(Answering::going).collect();
            if going.is_empty() {
                break;
            }
            going.sort_by_key(|answering| answering.rows());
            let mut rest = going.as_mut_slice();
            while !rest.is_empty() {
                let (pass, later) = rest.split_at_mut(pass_len(rest.iter().map(|a| a.rows())));
                self.next_tokens(pass, probe, on_token)?;
                rest = later;
            }
        }
        Ok(answers.into_iter().map(Answering::finish).collect::<Result<_>>()?)
    }

    /// One pass, and the tokens of each answer that follow from it.
    fn next_tokens(
        &self,
        answers: &mut [&mut Answering<'_>],
        probe: &dyn Probe,
        on_token: &mut dyn FnMut(usize, Step<'_>),
    ) -> std::result::Result<(), GenerationError> {
        let start = Instant::now();
        if self.checks_drafts() {
            self.draft(answers);
        }
        for answering in answers.iter_mut() {
            answering.embed(self)?;
        }
        let own_rows: Vec<usize> = answers.iter().map(|answering| answering.rows()).collect();
        let drafted = answers.iter().any(|answering| answering.chosen_rows() > 1);
        let positions = if drafted { Positions::All } else { Positions::Last };
        let mut batch: Vec<_> = answers.iter_mut().map(|answering| answering.input()).collect();
        let states = self.forward_positions(&mut batch, positions, probe)?;
        let outcome = self.choose(answers, &states, on_token);
        // Of answers that a failure has left where they were; those that went on have none.
        answers.iter_mut().for_each(|answering| answering.forget_draft());
        outcome?;
        let took = start.elapsed();
        let rows: usize = own_rows.iter().sum();
        for (answering, own) in answers.iter_mut().zip(own_rows) {
            answering.spend(took.mul_f64(own as f64 / rows as f64));
        }
        Ok(())
    }

    /// The tokens that a pass leads to.
    ///
    /// # Shapes
    /// - `states`: `[1, L_i, hidden]` of each answer, of which the last rows are chosen from
    fn choose(
        &self,
        answers: &mut [&mut Answering<'_>],
        states: &[Tensor],
        on_token: &mut dyn FnMut(usize, Step<'_>),
    ) -> std::result::Result<(), GenerationError> {
        let rows: Vec<usize> = answers.iter().map(|answering| answering.chosen_rows()).collect();
        let states = match states {
            [state] if state.dim(1)? == 1 => vec![state.flatten_all()?],
            // Copies, so that a row does not keep those of other answers alive.
            states => last_rows(states, &rows)?,
        };
        let logits = self.logits(&Tensor::stack(&states, 0)?)?;
        let mut first = 0;
        let own = rows.iter().map(|&rows| {
            first += rows;
            logits.narrow(0, first - rows, rows)
        });
        let own = own.collect::<Result<Vec<_>>>()?;
        let firsts = match rows.iter().all(|rows| *rows == 1) {
            true => logits.clone(),
            false => {
                let firsts = own.iter().map(|logits| logits.narrow(0, 0, 1));
                Tensor::cat(&firsts.collect::<Result<Vec<_>>>()?, 0)?
            }
        };
        let mut choosers: Vec<_> = answers.iter_mut().map(|a| &mut a.chooser).collect();
        let chosen = choose_all(&mut choosers, &firsts)?;
        let mut states = states.into_iter();
        for ((answering, chosen), logits) in answers.iter_mut().zip(chosen).zip(own) {
            let states = states.by_ref().take(answering.chosen_rows()).collect();
            answering.accept(states, chosen, &logits, on_token)?;
        }
        Ok(())
    }

    /// Deals out the rows that a pass of a few rows has left to guesses of what its answers say next, in turns:
    /// the first guess of an answer is more likely to be right than the second of another.
    fn draft(&self, answers: &mut [&mut Answering<'_>]) {
        let rows: usize = answers.iter().map(|answering| answering.rows()).sum();
        let mut left = FEW_ROWS.saturating_sub(rows);
        let proposed = answers.iter().map(|answering| answering.propose(self, left).into_iter());
        let mut proposed: Vec<_> = proposed.collect();
        while left > 0 {
            let before = left;
            for (answering, proposed) in answers.iter_mut().zip(&mut proposed) {
                if let Some(id) = proposed.next().filter(|_| left > 0) {
                    answering.draft.push(id);
                    left -= 1;
                }
            }
            if left == before {
                break;
            }
        }
    }
}

/// The last of each sequence's rows, so many of it.
///
/// # Shapes
/// - `states`: `[1, L_i, hidden]` each    - returns: `[hidden]` for each of the rows
fn last_rows(states: &[Tensor], rows: &[usize]) -> Result<Vec<Tensor>> {
    let mut last = Vec::with_capacity(rows.iter().sum());
    for (states, &rows) in states.iter().zip(rows) {
        let (_, len, _) = states.dims3()?;
        for i in len - rows..len {
            last.push(states.narrow(1, i, 1)?.flatten_all()?.force_contiguous()?);
        }
    }
    Ok(last)
}

/// How many of those that wait, by their rows in ascending order, go into the next pass: at most
/// [`FEW_ROWS`], for the output layer, and in such a way that what is a few rows alone stays so.
fn pass_len(waiting: impl Iterator<Item = usize>) -> usize {
    let (mut total, mut limit) = (0, None);
    let fits = |rows: &usize| {
        total += rows;
        let limit = *limit.get_or_insert(match *rows <= FEW_ROWS {
            true => FEW_ROWS,
            false => MAX_STACKED_ROWS.max(*rows),
        });
        total <= limit
    };
    waiting.take(FEW_ROWS).take_while(fits).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(rows: &[usize]) -> Vec<&[usize]> {
        let (mut rest, mut passes) = (rows, Vec::new());
        while !rest.is_empty() {
            let (pass, later) = rest.split_at(pass_len(rest.iter().copied()));
            passes.push(pass);
            rest = later;
        }
        passes
    }

    #[test]
    fn a_few_rows_alone_are_a_few_rows_in_company() {
        let tokens = [1; FEW_ROWS + 2];
        assert_eq!(passes(&tokens), [&tokens[..FEW_ROWS], &tokens[FEW_ROWS..]]);
        assert_eq!(passes(&[1, 2, 3, 4, 7, 9]), [&[1, 2, 3][..], &[4], &[7, 9]]);
        assert_eq!(passes(&[FEW_ROWS, FEW_ROWS + 1]), [[FEW_ROWS], [FEW_ROWS + 1]]);
    }

    #[test]
    fn long_prompts_are_stacked_up_to_a_limit_and_a_longer_one_goes_alone() {
        assert_eq!(passes(&[7, 505, 506]), [&[7, 505][..], &[506]]);
        assert_eq!(passes(&[20; 8]), [&[20; 6][..], &[20; 2]]);
        assert_eq!(passes(&[400, 5000]), [[400], [5000]]);
        assert_eq!(passes(&[5000]), [[5000]]);
    }
}
