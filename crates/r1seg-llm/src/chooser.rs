//! The next token: forced, or sampled where the logits are.

use candle_core::{D, Error, Result, Tensor};

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

    /// The next token; `None` where the logits are not those of a distribution.
    ///
    /// # Shapes
    /// - `logits`: `[V]`, f32
    pub(crate) fn choose(&mut self, logits: &Tensor) -> Result<Option<Sampled>> {
        let forced = self.forced.next();
        if logits.device().is_cpu() {
            let logits = logits.to_vec1::<f32>()?;
            return match forced {
                None => self.sampler.sample(&logits),
                Some(id) => {
                    Ok(logprob(&logits, index(id)?)?.map(|logprob| Sampled { id, logprob }))
                }
            };
        }
        let id = match forced {
            Some(id) => id,
            None if self.sampler.is_greedy() => logits.argmax(D::Minus1)?.to_scalar::<u32>()?,
            None => return self.sampler.sample(&logits.to_vec1::<f32>()?),
        };
        Ok(logprob_on_device(logits, id)?.map(|logprob| Sampled { id, logprob }))
    }
}

fn index(id: u32) -> Result<usize> {
    usize::try_from(id).map_err(Error::wrap)
}

/// [`logprob`] without moving the logits off their device.
fn logprob_on_device(logits: &Tensor, id: u32) -> Result<Option<f32>> {
    let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?)?;
    let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let logprob = (shifted.narrow(0, index(id)?, 1)? - log_sum)?.squeeze(0)?.to_scalar::<f32>()?;
    Ok((!logprob.is_nan()).then_some(logprob))
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
            let [there, here] = [logprob_on_device(&logits, id)?, logprob(&values, index(id)?)?];
            let gap = there.unwrap() - here.unwrap();
            assert!(gap.abs() < 1e-5, "{gap}");
        }
        assert!(logprob_on_device(&logits, 500).is_err());
        let broken = Tensor::new(&[0f32, f32::NAN], &Device::Cpu)?;
        assert_eq!(logprob_on_device(&broken, 0)?, None);
        Ok(())
    }
}
