//! The keys and values of an image, which are the same for every question about it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::Tensor;
use r1seg_llm::{DecoderInput, KvCache, RopeScaling};
use r1seg_nn::Probe;
use r1seg_tokenizer::Prompt;

use crate::vision::ImageFeatures;
use crate::{Error, R1SegModel};

/// What they depend on beside the image: the token in front of it, and longrope's regime.
pub(crate) type Key = (u32, bool);

/// Caches of `[E0, V..]`, each for one question at a time, which writes its own positions behind
/// and gives the cache back. There are as many as there were questions at a time.
#[derive(Debug)]
pub(crate) struct ImageCache {
    /// Positions that belong to the image.
    len: usize,
    idle: Mutex<Vec<(Key, KvCache)>>,
}

impl ImageCache {
    /// # Shapes
    /// - `visual_tokens`: `[1, n, hidden]`
    pub(crate) fn new(visual_tokens: &Tensor) -> candle_core::Result<Self> {
        Ok(Self { len: 1 + visual_tokens.dim(1)?, idle: Mutex::default() })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Key, KvCache)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, key: Key) -> Option<KvCache> {
        let mut idle = self.idle();
        let at = idle.iter().position(|(k, _)| *k == key)?;
        Some(idle.swap_remove(at).1)
    }

    /// Keeps the image's part of a cache, if a pass got so far. Those of another key are forgotten.
    pub(crate) fn give(&self, key: Key, mut cache: KvCache) {
        if cache.len() >= self.len {
            cache.truncate(self.len);
            let mut idle = self.idle();
            idle.retain(|(k, _)| *k == key);
            idle.push((key, cache));
        }
    }

    /// Forgets all: they are by far the largest part of an image's features.
    pub(crate) fn clear(&self) {
        self.idle().clear();
    }
}

/// How a question begins: what is still to be read, `[1, L, hidden]`, and a cache of what is not.
impl R1SegModel {
    pub(crate) fn cache_key(&self, prompt: &Prompt) -> Key {
        let long = match &self.config().decoder.rope.scaling {
            RopeScaling::LongRope(scaling) => {
                prompt.ids().len() > scaling.original_max_position_embeddings
            }
            _ => false,
        };
        (prompt.head(), long)
    }

    /// Of a question that comes alone. The first one is read in the same pass over the weights as
    /// the image.
    pub(crate) fn begin(
        &self,
        image: &ImageFeatures,
        prompt: &Prompt,
    ) -> Result<(Tensor, KvCache), Error> {
        if let Some(cache) = image.cache.take(self.cache_key(prompt)) {
            return self.after(image, prompt, cache);
        }
        let decoder = self.decoder();
        let mut parts = vec![decoder.embed(&[prompt.head()])?, image.visual_tokens.clone()];
        if !prompt.tail().is_empty() {
            parts.push(decoder.embed(prompt.tail())?);
        }
        let inputs_embeds = Tensor::cat(&parts, 1)?;
        let cache = decoder.new_cache(inputs_embeds.dim(1)?);
        Ok((inputs_embeds, cache))
    }

    /// Of one of several questions, which read the image once, from `shared`.
    pub(crate) fn begin_beside(
        &self,
        image: &ImageFeatures,
        prompt: &Prompt,
        shared: &mut Option<(Key, KvCache)>,
        probe: &dyn Probe,
    ) -> Result<(Tensor, KvCache), Error> {
        let key = self.cache_key(prompt);
        let cache = match shared {
            Some((k, cache)) if *k == key => cache.fork(),
            _ => {
                let cache = match image.cache.take(key) {
                    Some(cache) => cache,
                    None => self.read_image(image, prompt, probe)?,
                };
                shared.insert((key, cache)).1.fork()
            }
        };
        self.after(image, prompt, cache)
    }

    fn after(
        &self,
        image: &ImageFeatures,
        prompt: &Prompt,
        mut cache: KvCache,
    ) -> Result<(Tensor, KvCache), Error> {
        let rest = match prompt.tail() {
            // A question of one token that the image overwrites: its last visual token is fed
            // again, to predict from.
            [] => {
                cache.truncate(image.cache.len - 1);
                image.visual_tokens.narrow(1, image.visual_tokens.dim(1)? - 1, 1)?
            }
            tail => self.decoder().embed(tail)?,
        };
        Ok((rest, cache))
    }

    fn read_image(
        &self,
        image: &ImageFeatures,
        prompt: &Prompt,
        probe: &dyn Probe,
    ) -> Result<KvCache, Error> {
        let decoder = self.decoder();
        let head = decoder.embed(&[prompt.head()])?;
        let inputs_embeds = Tensor::cat(&[&head, &image.visual_tokens], 1)?;
        let mut cache = decoder.new_cache(inputs_embeds.dim(1)?);
        let sequence_length = prompt.ids().len();
        let input = DecoderInput { inputs_embeds: &inputs_embeds, sequence_length };
        decoder.forward_last(&mut [(input, &mut cache)], probe)?;
        self.device().synchronize()?;
        Ok(cache)
    }
}
