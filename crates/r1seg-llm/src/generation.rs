//! From prompts to answers, one token of each at a time.

use std::time::{Duration, Instant};

use candle_core::{Result, Tensor, bail};
use r1seg_nn::{FEW_ROWS, Probe};

use crate::cache::KvCache;
use crate::chooser::{Chooser, choose_all};
use crate::decoder::{Decoder, DecoderInput};
use crate::sampling::{Sampled, Sampling};

/// Tokens for which room is made before they are generated: more than most answers have, and little
/// enough to waste on a GPU.
const MAX_TOKENS_AHEAD: usize = 1024;

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
    /// together; more take turns, and an answer that has ended leaves its place. `on_token` is told
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
            going.sort_by_key(|answering| answering.rows);
            let mut rest = going.as_mut_slice();
            while !rest.is_empty() {
                let (pass, later) = rest.split_at_mut(pass_len(rest.iter().map(|a| a.rows)));
                self.next_tokens(pass, probe, on_token)?;
                rest = later;
            }
        }
        Ok(answers.into_iter().map(Answering::finish).collect::<Result<_>>()?)
    }

    /// One pass, and the token after it for each answer.
    fn next_tokens(
        &self,
        answers: &mut [&mut Answering<'_>],
        probe: &dyn Probe,
        on_token: &mut dyn FnMut(usize, Step<'_>),
    ) -> std::result::Result<(), GenerationError> {
        let start = Instant::now();
        let rows: usize = answers.iter().map(|answering| answering.rows).sum();
        let mut batch: Vec<_> = answers.iter_mut().map(|answering| answering.input()).collect();
        let states = self.forward_last(&mut batch, probe)?;
        let states = match states.as_slice() {
            [state] => vec![state.flatten_all()?],
            // Copies, so that a row does not keep those of other answers alive.
            states => {
                let row = |state: &Tensor| state.flatten_all()?.force_contiguous();
                states.iter().map(row).collect::<Result<_>>()?
            }
        };
        let logits = self.logits(&Tensor::stack(&states, 0)?)?;
        let own_rows: Vec<usize> = answers.iter().map(|answering| answering.rows).collect();
        let mut choosers: Vec<_> = answers.iter_mut().map(|a| &mut a.chooser).collect();
        let chosen = choose_all(&mut choosers, &logits)?;
        for (i, ((answering, state), chosen)) in
            answers.iter_mut().zip(states).zip(chosen).enumerate()
        {
            let id = answering.take(state, chosen, &logits.get(i)?, on_token)?;
            if answering.finished.is_none() {
                (answering.inputs_embeds, answering.rows) = (self.embed(&[id])?, 1);
            }
        }
        let took = start.elapsed();
        for (answering, own) in answers.iter_mut().zip(own_rows) {
            answering.spend(took.mul_f64(own as f64 / rows as f64));
        }
        Ok(())
    }
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

/// An answer on its way.
struct Answering<'a> {
    /// Index of the prompt.
    index: usize,
    cache: &'a mut KvCache,
    options: &'a GenerationOptions,
    chooser: Chooser,
    /// `[1, rows, hidden]`: what the next pass reads.
    inputs_embeds: Tensor,
    rows: usize,
    finished: Option<FinishReason>,
    answer: Generated,
    kept_logits: Vec<Tensor>,
}

impl<'a> Answering<'a> {
    fn new(index: usize, request: Request<'a>) -> Result<Self> {
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
            rows,
            finished: (options.max_new_tokens == 0).then_some(FinishReason::Length),
            answer: Generated {
                token_ids: Vec::new(),
                logprobs: Vec::new(),
                hidden_states: Vec::new(),
                logits: None,
                finish_reason: FinishReason::Length,
                prefill: Duration::ZERO,
                decode: Duration::ZERO,
            },
            kept_logits: Vec::new(),
        })
    }

    /// Itself, unless it has ended.
    fn going(&mut self) -> Option<&mut Self> {
        self.finished.is_none().then_some(self)
    }

    fn input(&mut self) -> (DecoderInput<'_>, &mut KvCache) {
        let sequence_length = self.cache.len() + self.rows;
        (DecoderInput { inputs_embeds: &self.inputs_embeds, sequence_length }, self.cache)
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

    /// Counts the time of the last token.
    fn spend(&mut self, time: Duration) {
        match self.answer.token_ids.len() {
            1 => self.answer.prefill += time,
            _ => self.answer.decode += time,
        }
    }

    fn finish(self) -> Result<Generated> {
        let mut answer = self.answer;
        if let Some(reason) = self.finished {
            answer.finish_reason = reason;
        }
        if !self.kept_logits.is_empty() {
            answer.logits = Some(Tensor::stack(&self.kept_logits, 0)?);
        }
        Ok(answer)
    }
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
