//! How the next token is chosen from its logits: the warpers of transformers 4.46.3
//! (`generation/logits_process.py`), in their order.

use candle_core::{Result, bail};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::config::ConfigError;

/// The rule by which tokens are chosen.
#[derive(Debug, Clone, PartialEq)]
pub enum Sampling {
    /// The most likely token; the first of several.
    Greedy,
    /// A draw from the distribution that temperature, then top-k, then top-p leave.
    Random {
        /// Divides the logits; positive.
        temperature: f64,
        /// Keeps the so many most likely tokens and those tied with the last of them; 0 keeps all.
        top_k: usize,
        /// Keeps the most likely tokens that together reach this probability; in `(0, 1]`, and 1
        /// keeps all.
        top_p: f64,
        /// Names the sequence of draws, the same on every machine.
        seed: u64,
    },
}

/// transformers keeps 50 tokens whenever it samples, unless told otherwise.
const DEFAULT_TOP_K: usize = 50;

impl Sampling {
    /// What transformers does with `do_sample=True` and nothing else: temperature 1, top-k 50,
    /// no top-p.
    pub fn random(seed: u64) -> Self {
        Self::Random { temperature: 1.0, top_k: DEFAULT_TOP_K, top_p: 1.0, seed }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] when the temperature or top-p is out of range.
    pub fn validate(&self) -> std::result::Result<(), ConfigError> {
        let Self::Random { temperature, top_p, .. } = self else { return Ok(()) };
        let refuse = |field: &str, value: &f64, expected: &str| ConfigError::Invalid {
            field: field.to_string(),
            value: value.to_string(),
            expected: expected.to_string(),
        };
        if !(temperature.is_finite() && 0.0 < *temperature) {
            return Err(refuse("temperature", temperature, "a finite positive number"));
        }
        if !(0.0 < *top_p && *top_p <= 1.0) {
            return Err(refuse("top_p", top_p, "a number above 0 and up to 1"));
        }
        Ok(())
    }
}

/// A chosen token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampled {
    /// The token's id.
    pub id: u32,
    /// Natural logarithm of its probability by the untouched logits.
    pub logprob: f32,
}

/// A [`Sampling`] and the state of its generator.
#[derive(Debug, Clone)]
pub struct Sampler {
    sampling: Sampling,
    rng: ChaCha8Rng,
}

impl Sampler {
    /// A sampler at the start of its sequence of draws.
    ///
    /// # Errors
    /// When the sampling does not [`validate`](Sampling::validate).
    pub fn new(sampling: Sampling) -> std::result::Result<Self, ConfigError> {
        sampling.validate()?;
        let seed = match sampling {
            Sampling::Greedy => 0,
            Sampling::Random { seed, .. } => seed,
        };
        Ok(Self { sampling, rng: ChaCha8Rng::seed_from_u64(seed) })
    }

    pub(crate) fn is_greedy(&self) -> bool {
        self.sampling == Sampling::Greedy
    }

    /// Chooses a token.
    ///
    /// # Shapes
    /// - `logits`: `V` of them
    ///
    /// Returns `None` where there is no distribution: when a logit is NaN or +∞, or all are -∞.
    ///
    /// # Errors
    /// When the id of the token does not fit 32 bits.
    pub fn sample(&mut self, logits: &[f32]) -> Result<Option<Sampled>> {
        let Some((max, argmax)) = checked_max(logits) else { return Ok(None) };
        let id = match self.sampling {
            Sampling::Greedy => argmax,
            Sampling::Random { temperature, top_k, top_p, .. } => {
                let kept = warped(logits, max, temperature, top_k, top_p);
                draw(&kept, self.rng.random())
            }
        };
        let Ok(index) = u32::try_from(id) else { bail!("token id {id} does not fit 32 bits") };
        Ok(logprob(logits, id)?.map(|logprob| Sampled { id: index, logprob }))
    }
}

/// Natural logarithm of the softmax of `logits` at `id`; `None` where there is no distribution.
pub(crate) fn logprob(logits: &[f32], id: usize) -> Result<Option<f32>> {
    let Some((max, _)) = checked_max(logits) else { return Ok(None) };
    let Some(&logit) = logits.get(id) else {
        bail!("token id {id} is outside the vocabulary of {}", logits.len())
    };
    let max = f64::from(max);
    let sum: f64 = logits.iter().map(|&x| (f64::from(x) - max).exp()).sum();
    Ok(Some((f64::from(logit) - max - sum.ln()) as f32))
}

/// The first maximum and its index, if the logits are those of a distribution: none is NaN, and the
/// largest is finite.
fn checked_max(logits: &[f32]) -> Option<(f32, usize)> {
    let mut best = (f32::NEG_INFINITY, 0);
    for (i, &x) in logits.iter().enumerate() {
        if x.is_nan() {
            return None;
        }
        if x > best.0 {
            best = (x, i);
        }
    }
    best.0.is_finite().then_some(best)
}

/// The tokens that the warpers keep, by ascending id, with their probabilities.
fn warped(
    logits: &[f32],
    max: f32,
    temperature: f64,
    top_k: usize,
    top_p: f64,
) -> Vec<(usize, f64)> {
    // Shifting by the maximum first keeps tiny temperatures from overflowing.
    let score = |x: f32| (f64::from(x) - f64::from(max)) / temperature;
    let mut kept: Vec<(usize, f64)> = logits.iter().map(|&x| score(x)).enumerate().collect();
    if 0 < top_k && top_k < kept.len() {
        let mut scores: Vec<f64> = kept.iter().map(|(_, score)| *score).collect();
        let (_, kth, _) = scores.select_nth_unstable_by(top_k - 1, |a, b| b.total_cmp(a));
        let kth = *kth;
        kept.retain(|(_, score)| kth <= *score);
    }
    to_probabilities(&mut kept);
    if top_p < 1.0 {
        // Ascending and stable, so that of equal tokens the one with the lowest id goes first.
        kept.sort_by(|a, b| a.1.total_cmp(&b.1));
        let mut cumulative = 0.0;
        let mut removed = 0;
        for (_, probability) in &kept[..kept.len() - 1] {
            cumulative += probability;
            if cumulative > 1.0 - top_p {
                break;
            }
            removed += 1;
        }
        kept.drain(..removed);
        kept.sort_by_key(|(id, _)| *id);
        let sum: f64 = kept.iter().map(|(_, p)| p).sum();
        kept.iter_mut().for_each(|(_, p)| *p /= sum);
    }
    kept
}

/// Softmax of scores whose maximum is 0.
fn to_probabilities(scores: &mut [(usize, f64)]) {
    scores.iter_mut().for_each(|(_, score)| *score = score.exp());
    let sum: f64 = scores.iter().map(|(_, p)| p).sum();
    scores.iter_mut().for_each(|(_, p)| *p /= sum);
}

/// The token at which the cumulative probability passes `at`, in `0..1`.
fn draw(kept: &[(usize, f64)], at: f64) -> usize {
    let mut cumulative = 0.0;
    let mut last = 0;
    for &(id, probability) in kept.iter().filter(|(_, p)| *p > 0.0) {
        last = id;
        cumulative += probability;
        if at < cumulative {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use candle_core::Error;

    use super::*;

    const LOGITS: [f32; 8] = [1.0, 2.0, 3.0, 3.0, -1.0, 0.5, 2.5, 4.0];

    // Softmax of TemperatureLogitsWarper, TopKLogitsWarper and TopPLogitsWarper of transformers
    // 4.46.3 on LOGITS.
    #[test]
    fn warped_distributions_equal_those_of_transformers() {
        for (temperature, top_k, top_p, expected) in [
            (
                1.0,
                0,
                1.0,
                [
                    0.0228282, 0.0620535, 0.1686788, 0.1686788, 0.0030895, 0.0138460, 0.1023089,
                    0.4585164,
                ],
            ),
            (0.7, 50, 0.9, [0.0, 0.0, 0.1500988, 0.1500988, 0.0, 0.0, 0.0734796, 0.6263227]),
            (1.0, 2, 1.0, [0.0, 0.0, 0.2119416, 0.2119416, 0.0, 0.0, 0.0, 0.5761169]),
            (2.0, 4, 0.5, [0.0, 0.0, 0.0, 0.3775407, 0.0, 0.0, 0.0, 0.6224594]),
            (1.0, 3, 0.8, [0.0, 0.0, 0.2119416, 0.2119416, 0.0, 0.0, 0.0, 0.5761169]),
            (0.25, 0, 0.3, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]),
            (
                1.0,
                0,
                0.999,
                [
                    0.0228282, 0.0620535, 0.1686788, 0.1686788, 0.0030895, 0.0138460, 0.1023089,
                    0.4585164,
                ],
            ),
            (1.0, 0, 0.01, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]),
        ] {
            let mut got = [0.0; 8];
            for (id, p) in warped(&LOGITS, 4.0, temperature, top_k, top_p) {
                got[id] = p;
            }
            for (got, expected) in got.iter().zip(expected) {
                assert!(
                    (got - expected).abs() < 1e-6 && (*got == 0.0) == (expected == 0.0),
                    "{temperature} {top_k} {top_p}: {got} {expected}"
                );
            }
        }
    }

    #[test]
    fn greedy_takes_the_first_maximum_and_its_untouched_probability() -> Result<()> {
        let mut sampler = Sampler::new(Sampling::Greedy).map_err(Error::wrap)?;
        let sampled = sampler.sample(&[1.0, 3.0, 3.0, f32::NEG_INFINITY])?.unwrap();
        assert_eq!(sampled.id, 1);
        let expected = -(2.0 + (-2f64).exp()).ln();
        assert!((f64::from(sampled.logprob) - expected).abs() < 1e-7);
        Ok(())
    }

    #[test]
    fn draws_follow_the_warped_distribution_and_report_the_untouched_one() -> Result<()> {
        let sampling = Sampling::Random { temperature: 1.0, top_k: 2, top_p: 1.0, seed: 7 };
        let mut sampler = Sampler::new(sampling).map_err(Error::wrap)?;
        let mut counts = [0; 8];
        for _ in 0..20_000 {
            let sampled = sampler.sample(&LOGITS)?.unwrap();
            let index = usize::try_from(sampled.id).unwrap();
            counts[index] += 1;
            assert_eq!(Some(sampled.logprob), logprob(&LOGITS, index)?);
        }
        for (count, p) in
            counts.into_iter().zip([0.0, 0.0, 0.2119416, 0.2119416, 0.0, 0.0, 0.0, 0.5761169])
        {
            // Five standard deviations of 20000 draws stay below 0.018.
            assert!((f64::from(count) / 20_000.0 - p).abs() < 0.018, "{counts:?}");
        }
        Ok(())
    }

    #[test]
    fn a_seed_names_one_sequence_of_draws() -> Result<()> {
        let draws = |seed: u64| -> Result<Vec<u32>> {
            let mut sampler = Sampler::new(Sampling::random(seed)).map_err(Error::wrap)?;
            (0..12).map(|_| Ok(sampler.sample(&LOGITS)?.unwrap().id)).collect()
        };
        assert_eq!(draws(1)?, draws(1)?);
        assert_ne!(draws(1)?, draws(2)?);
        Ok(())
    }

    #[test]
    fn logits_without_a_distribution_give_no_token() {
        for sampling in [Sampling::Greedy, Sampling::random(0)] {
            let mut sampler = Sampler::new(sampling).unwrap();
            for bad in
                [vec![0.0, f32::NAN], vec![f32::INFINITY, 0.0], vec![f32::NEG_INFINITY; 3], vec![]]
            {
                assert_eq!(sampler.sample(&bad).unwrap(), None, "{bad:?}");
            }
        }
    }

    #[test]
    fn extreme_temperatures_stay_within_the_vocabulary() -> Result<()> {
        for temperature in [f64::MIN_POSITIVE, 1e-40, 1e300] {
            let sampling = Sampling::Random { temperature, top_k: 0, top_p: 0.9, seed: 3 };
            let mut sampler = Sampler::new(sampling).map_err(Error::wrap)?;
            let sampled = sampler.sample(&LOGITS)?.unwrap();
            assert!(temperature > 1.0 || sampled.id == 7);
        }
        Ok(())
    }

    #[test]
    fn options_out_of_range_are_refused_by_name() {
        let random = |temperature: f64, top_p: f64| Sampling::Random {
            temperature,
            top_k: 50,
            top_p,
            seed: 0,
        };
        for (sampling, field) in [
            (random(0.0, 1.0), "temperature"),
            (random(-1.0, 1.0), "temperature"),
            (random(f64::NAN, 1.0), "temperature"),
            (random(f64::INFINITY, 1.0), "temperature"),
            (random(1.0, 0.0), "top_p"),
            (random(1.0, 1.1), "top_p"),
            (random(1.0, f64::NAN), "top_p"),
        ] {
            let error = Sampler::new(sampling).unwrap_err().to_string();
            assert!(error.contains(&format!("`{field}`")), "{error}");
        }
        assert!(Sampling::random(0).validate().is_ok());
    }
}
