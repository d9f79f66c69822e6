//! The next tokens: forced, or chosen where the logits are.

use candle_core::{Error, Result, Tensor};
use r1seg_nn::greedy;

use crate::sampling::{Sampled, Sampler, Sampling, logprob};

/// Forced tokens first, then the sampler's.
pub(crate) struct Chooser {
    sampler: Sampler,
    forced: std::vec::IntoIter<u32>,
}

impl Chooser {
    /// # Errors
    /// When the sampling does not validate.
    pub(crate) fn new(sampling: Sampling, forced: Vec<u32>) -> Result<Self> {
        let sampler = Sampler::new(sampling).map_err(Error::wrap)?;
        Ok(Self { sampler, forced: forced.into_iter() })
    }

    /// Whether nothing is drawn at random.
    pub(crate) fn is_greedy(&self) -> bool {
        self.sampler.is_greedy()
    }

    /// The next token from logits that are on a CPU, as [`choose_all`] chooses it.
    ///
    /// # Shapes
    /// - `logits`: `[V]`, f32
    pub(crate) fn next(&mut self, logits: &Tensor) -> Result<Option<Sampled>> {
        let forced = self.forced.next();
        self.choose(forced, &logits.to_vec1::<f32>()?)
    }

    /// The next token from logits on a CPU; `None` where they are not those of a distribution.
    fn choose(&mut self, forced: Option<u32>, logits: &[f32]) -> Result<Option<Sampled>> {
        match forced {
            None => self.sampler.sample(logits),
            Some(id) => Ok(logprob(logits, index(id)?)?.map(|logprob| Sampled { id, logprob })),
        }
    }
}

/// The next token of each sequence; `None` where its logits are not those of a distribution. Logits
/// leave a GPU only to be drawn from; for everything else the host waits once for all sequences.
///
/// # Shapes
/// - `logits`: `[choosers, V]`, f32
pub(crate) fn choose_all(
    choosers: &mut [&mut Chooser],
    logits: &Tensor,
) -> Result<Vec<Option<Sampled>>> {
    let forced: Vec<_> = choosers.iter_mut().map(|chooser| chooser.forced.next()).collect();
    let drawn =
        |(chooser, forced): (&&mut Chooser, &Option<u32>)| forced.is_none() && !chooser.is_greedy();
    if logits.device().is_cpu() || choosers.iter().zip(&forced).any(drawn) {
        let rows = logits.to_vec2::<f32>()?;
        let sequences = choosers.iter_mut().zip(forced).zip(rows);
        return sequences.map(|((chooser, forced), row)| chooser.choose(forced, &row)).collect();
    }
    let chosen = greedy(logits, &forced)?.into_iter();
    Ok(chosen.map(|chosen| chosen.map(|(id, logprob)| Sampled { id, logprob })).collect())
}

fn index(id: u32) -> Result<usize> {
    usize::try_from(id).map_err(Error::wrap)
}
