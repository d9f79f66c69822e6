//! From a prompt to an answer, one token at a time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use candle_core::{D, Error, Result, Tensor, bail};

use crate::cache::KvCache;
use crate::decoder::{Decoder, DecoderInput};
use crate::sampling::{Sampled, Sampler, Sampling, logprob};

/// Tokens for which room is made before they are said: more than most answers have, and little
/// enough to waste on a GPU.
const MAX_TOKENS_AHEAD: usize = 1024;

/// What a caller decides about an answer.
#[derive(Debug, Clone)]
pub struct GenerationOptions<'a> {
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
    /// Read before every token; once true the answer ends there.
    pub cancel: Option<&'a AtomicBool>,
}

impl Default for GenerationOptions<'_> {
    /// A greedy answer of up to 256 tokens that no token ends.
    fn default() -> Self {
        Self {
            max_new_tokens: 256,
            eos_token_ids: Vec::new(),
            sampling: Sampling::Greedy,
            forced: Vec::new(),
            keep_logits: false,
            cancel: None,
        }
    }
}

impl GenerationOptions<'_> {
    fn cancelled(&self) -> bool {
        self.cancel.is_some_and(|flag| flag.load(Ordering::Relaxed))
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
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// The model said an end token.
    Stop,
    /// The answer reached its longest length.
    Length,
    /// The caller cancelled it.
    Cancelled,
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
    /// From the start to the first token.
    pub prefill: Duration,
    /// From the first token to the last.
    pub decode: Duration,
}

impl Decoder {
    /// Answers a prompt.
    ///
    /// Only the prompt's last position goes through the output layer. Each new token costs one
    /// pass over one position, and what crosses from a GPU for a greedy token is its id and
    /// its probability. `cache` may already hold a prefix; afterwards it holds the prompt and
    /// every token of the answer but the last, which no pass has seen.
    ///
    /// # Shapes
    /// - `prompt`: `[1, L, hidden]`, the positions that follow those in the cache
    ///
    /// # Errors
    /// When the prompt is no single sequence, the sampling does not validate, a logit is NaN, a
    /// forced token is not in the vocabulary, or the backend cannot run an operation.
    pub fn generate(
        &self,
        prompt: &Tensor,
        cache: &mut KvCache,
        options: &GenerationOptions<'_>,
        on_token: &mut dyn FnMut(Step<'_>),
    ) -> Result<Generated> {
        let (batch, l, _) = prompt.dims3()?;
        if batch != 1 {
            bail!("an answer needs one prompt, got a batch of {batch}")
        }
        let mut chooser = Chooser {
            sampler: Sampler::new(options.sampling.clone()).map_err(Error::wrap)?,
            forced: options.forced.clone().into_iter(),
        };
        cache.reserve(l.saturating_add(options.max_new_tokens.min(MAX_TOKENS_AHEAD)));
        let start = Instant::now();
        let mut first_token = None;
        let mut answer = Generated {
            token_ids: Vec::new(),
            logprobs: Vec::new(),
            hidden_states: Vec::new(),
            logits: None,
            finish_reason: FinishReason::Length,
            prefill: Duration::ZERO,
            decode: Duration::ZERO,
        };
        let mut kept_logits = Vec::new();
        let mut inputs_embeds = prompt.clone();
        for index in 0..options.max_new_tokens {
            if options.cancelled() {
                answer.finish_reason = FinishReason::Cancelled;
                break;
            }
            let hidden = self.last_hidden_state(&inputs_embeds, cache)?;
            let logits = self.logits(&hidden.unsqueeze(0)?)?.squeeze(0)?;
            let Sampled { id, logprob } = chooser.choose(&logits)?;
            first_token.get_or_insert_with(Instant::now);
            answer.token_ids.push(id);
            answer.logprobs.push(logprob);
            answer.hidden_states.push(hidden);
            let shown = options.keep_logits.then_some(&logits);
            on_token(Step { index, id, logprob, logits: shown });
            if options.keep_logits {
                kept_logits.push(logits);
            }
            if options.eos_token_ids.contains(&id) {
                answer.finish_reason = FinishReason::Stop;
                break;
            }
            if index + 1 < options.max_new_tokens {
                inputs_embeds = self.embed(&[id])?;
            }
        }
        let end = Instant::now();
        let first_token = first_token.unwrap_or(end);
        answer.prefill = first_token - start;
        answer.decode = end - first_token;
        if !kept_logits.is_empty() {
            answer.logits = Some(Tensor::stack(&kept_logits, 0)?);
        }
        Ok(answer)
    }

    /// # Shapes
    /// - `inputs_embeds`: `[1, L, hidden]`    - returns: `[hidden]`
    fn last_hidden_state(&self, inputs_embeds: &Tensor, cache: &mut KvCache) -> Result<Tensor> {
        let l = inputs_embeds.dim(1)?;
        let sequence_length = cache.len() + l;
        let hidden_states = self.forward(DecoderInput { inputs_embeds, sequence_length }, cache)?;
        // A copy, so that the row does not keep the whole prompt's states alive.
        hidden_states.narrow(1, l - 1, 1)?.flatten_all()?.force_contiguous()
    }
}

/// Forced tokens first, then the sampler's.
struct Chooser {
    sampler: Sampler,
    forced: std::vec::IntoIter<u32>,
}

impl Chooser {
    /// # Shapes
    /// - `logits`: `[V]`, f32
    fn choose(&mut self, logits: &Tensor) -> Result<Sampled> {
        let forced = self.forced.next();
        if logits.device().is_cpu() {
            let logits = logits.to_vec1::<f32>()?;
            return match forced {
                None => self.sampler.sample(&logits),
                Some(id) => Ok(Sampled { id, logprob: logprob(&logits, index(id)?)? }),
            };
        }
        let id = match forced {
            Some(id) => id,
            None if self.sampler.is_greedy() => logits.argmax(D::Minus1)?.to_scalar::<u32>()?,
            None => return self.sampler.sample(&logits.to_vec1::<f32>()?),
        };
        Ok(Sampled { id, logprob: logprob_on_device(logits, id)? })
    }
}

fn index(id: u32) -> Result<usize> {
    usize::try_from(id).map_err(Error::wrap)
}

/// [`logprob`] without moving the logits off their device.
fn logprob_on_device(logits: &Tensor, id: u32) -> Result<f32> {
    let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?)?;
    let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let logprob = (shifted.narrow(0, index(id)?, 1)? - log_sum)?.squeeze(0)?.to_scalar::<f32>()?;
    if logprob.is_nan() {
        bail!("a logit is NaN or infinite: there is no distribution")
    }
    Ok(logprob)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn logprobs_on_the_device_equal_those_of_the_sampler() -> Result<()> {
        let logits = Tensor::randn(0f32, 3.0, 500, &Device::Cpu)?;
        let values = logits.to_vec1::<f32>()?;
        for id in [0, 7, 499] {
            let gap = logprob_on_device(&logits, id)? - logprob(&values, index(id)?)?;
            assert!(gap.abs() < 1e-5, "{gap}");
        }
        assert!(logprob_on_device(&logits, 500).is_err());
        assert!(logprob_on_device(&Tensor::new(&[0f32, f32::NAN], &Device::Cpu)?, 0).is_err());
        Ok(())
    }
}
