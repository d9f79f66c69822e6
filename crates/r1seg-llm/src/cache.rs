//! Keys and values of the positions that a decoder has already seen.

use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

/// Buffers grow to a multiple of this many positions.
const GRANULE: usize = 64;

/// The most positions that are allocated ahead of their need.
const MAX_AHEAD: usize = 1 << 17;

/// The keys and values of one sequence.
///
/// The decoder that fills it does not own it: one decoder serves many caches. Appending writes
/// into room that was allocated ahead, so a decode step copies one position, not all of them.
///
/// # Forks
///
/// A clone shares its buffers with the original until one of the two appends; the one that
/// appends first copies what it has into buffers of its own, once. So the cache of an image prefix
/// is computed once, cloned for each question, and never altered by the answers:
///
/// | operation | cost |
/// |---|---|
/// | `clone` | one reference count per layer |
/// | first append to a clone (or to an original that has live clones) | a copy of [`len`](Self::len) positions |
/// | any other append within the capacity | a copy of the new positions |
#[derive(Debug, Clone)]
pub struct KvCache {
    layers: Vec<Option<Arc<Buffers>>>,
    len: usize,
    capacity: usize,
}

/// `[1, kv_heads, capacity, head_dim]` each; rows from the cache's length on are unused.
#[derive(Debug)]
struct Buffers {
    keys: Tensor,
    values: Tensor,
}

impl KvCache {
    /// An empty cache for a decoder of `num_layers` layers that allocates room for `capacity`
    /// positions at once (and more when that is used up). The capacity is a hint: more than 131072
    /// is not allocated ahead.
    pub fn new(num_layers: usize, capacity: usize) -> Self {
        Self { layers: vec![None; num_layers], len: 0, capacity: capacity.min(MAX_AHEAD) }
    }

    /// Positions that are filled.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no position is filled.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of layers that it was made for.
    pub fn num_layers(&self) -> usize {
        self.layers.len()
    }

    /// Makes the next allocation hold `additional` positions beyond those that are filled, up to
    /// the same limit.
    pub fn reserve(&mut self, additional: usize) {
        let wanted = self.len.saturating_add(additional).min(MAX_AHEAD);
        self.capacity = self.capacity.max(wanted);
    }

    /// Forgets every position from `len` on; does nothing when there is none.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        if self.len == 0 {
            // What is forgotten takes no memory.
            self.layers.fill(None);
        }
    }

    /// An independent continuation of the same positions: what [`Clone`] does, under the name of
    /// its purpose.
    #[must_use]
    pub fn fork(&self) -> Self {
        self.clone()
    }

    /// Room for the keys and values of `new` positions of one layer behind the filled ones. The
    /// positions count as filled only after [`advance`](Self::advance), so that a pass that fails
    /// half-way leaves the cache as it was.
    ///
    /// # Shapes
    /// - `like`: a tensor of the dtype and on the device of the keys and values
    /// - returns: two of `[1, kv_heads, capacity, head_dim]`, with `capacity >= len + new`
    pub(crate) fn room(
        &mut self,
        layer: usize,
        new: usize,
        (kv_heads, head_dim): (usize, usize),
        like: &Tensor,
    ) -> Result<(&Tensor, &Tensor)> {
        let (len, end) = (self.len, self.len + new);
        let num_layers = self.layers.len();
        let Some(slot) = self.layers.get_mut(layer) else {
            bail!("a cache of {num_layers} layers was given to layer {layer}")
        };
        let unshared = slot.as_mut().and_then(Arc::get_mut);
        let room = match &unshared {
            Some(buffers) => buffers.keys.dim(2)?,
            None => 0,
        };
        if room < end {
            // Doubling bounds the copies of a sequence whose length was not foretold.
            let capacity = end.max(self.capacity).max(2 * room).next_multiple_of(GRANULE);
            let shape = (1, kv_heads, capacity, head_dim);
            let grown = |filled: Option<&Tensor>| -> Result<Tensor> {
                let buffer = Tensor::zeros(shape, like.dtype(), like.device())?;
                if let Some(filled) = filled.filter(|_| len > 0) {
                    buffer.slice_set(&filled.narrow(2, 0, len)?.contiguous()?, 2, 0)?;
                }
                Ok(buffer)
            };
            let buffers = Buffers {
                keys: grown(slot.as_ref().map(|b| &b.keys))?,
                values: grown(slot.as_ref().map(|b| &b.values))?,
            };
            *slot = Some(Arc::new(buffers));
        }
        let Some(buffers) = slot else { bail!("layer {layer} of the cache has no buffers") };
        Ok((&buffers.keys, &buffers.values))
    }

    /// Counts `new` positions, which every layer has appended, as filled.
    pub(crate) fn advance(&mut self, new: usize) {
        self.len += new;
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn filled(value: f32, len: usize) -> Tensor {
        Tensor::full(value, (1, 2, len, 4), &Device::Cpu).unwrap()
    }

    /// Appends `len` positions of `value` and returns the first number of each position.
    fn push(cache: &mut KvCache, value: f32, len: usize) -> Vec<f32> {
        let past = cache.len();
        let (keys, values) = cache.room(0, len, (2, 4), &filled(value, len)).unwrap();
        keys.slice_set(&filled(value, len), 2, past).unwrap();
        values.slice_set(&filled(value + 0.5, len), 2, past).unwrap();
        let [keys, values] = [keys, values].map(|rows| rows.narrow(2, 0, past + len).unwrap());
        cache.advance(len);
        let shift = (values - &keys).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(shift.iter().all(|s| *s == 0.5));
        let heads = keys.narrow(3, 0, 1).unwrap().squeeze(3).unwrap().squeeze(0).unwrap();
        let heads = heads.to_vec2::<f32>().unwrap();
        assert_eq!(heads[0], heads[1]);
        heads[0].clone()
    }

    #[test]
    fn appends_keep_what_is_filled_across_growth() {
        let mut cache = KvCache::new(1, 3);
        let mut expected = Vec::new();
        for (i, len) in [2, 1, 61, 1, 1, 200, 7].into_iter().enumerate() {
            expected.extend(vec![i as f32; len]);
            assert_eq!(push(&mut cache, i as f32, len), expected);
        }
        assert_eq!(cache.len(), expected.len());
    }

    #[test]
    fn an_absurd_capacity_is_only_a_hint() {
        let mut cache = KvCache::new(1, usize::MAX);
        cache.reserve(usize::MAX);
        assert_eq!(push(&mut cache, 1.0, 1), [1.0]);
    }

    #[test]
    fn appends_within_the_capacity_reuse_the_buffer() {
        let mut cache = KvCache::new(1, 100);
        push(&mut cache, 0.0, 5);
        let before = Arc::as_ptr(cache.layers[0].as_ref().unwrap());
        for _ in 0..95 {
            push(&mut cache, 1.0, 1);
        }
        assert_eq!(Arc::as_ptr(cache.layers[0].as_ref().unwrap()), before);
    }

    #[test]
    fn forks_and_originals_never_see_each_others_appends() {
        let mut prefix = KvCache::new(1, 64);
        push(&mut prefix, 1.0, 2);
        let mut first = prefix.fork();
        let mut second = prefix.fork();
        assert_eq!(push(&mut first, 2.0, 1), [1.0, 1.0, 2.0]);
        assert_eq!(push(&mut second, 3.0, 1), [1.0, 1.0, 3.0]);
        assert_eq!(push(&mut prefix, 4.0, 1), [1.0, 1.0, 4.0]);
        assert_eq!(push(&mut first, 5.0, 1), [1.0, 1.0, 2.0, 5.0]);
        prefix.truncate(1);
        assert_eq!(push(&mut prefix, 6.0, 2), [1.0, 6.0, 6.0]);
        assert_eq!(push(&mut second, 7.0, 1), [1.0, 1.0, 3.0, 7.0]);
    }

    #[test]
    fn a_truncated_original_does_not_overwrite_its_fork() {
        let mut cache = KvCache::new(1, 64);
        push(&mut cache, 1.0, 3);
        let mut fork = cache.fork();
        cache.truncate(1);
        assert_eq!(push(&mut cache, 2.0, 2), [1.0, 2.0, 2.0]);
        assert_eq!(push(&mut fork, 3.0, 1), [1.0, 1.0, 1.0, 3.0]);
    }

    #[test]
    fn truncation_forgets_and_an_empty_cache_keeps_no_buffers() {
        let mut cache = KvCache::new(1, 8);
        push(&mut cache, 1.0, 4);
        cache.truncate(9);
        assert_eq!(cache.len(), 4);
        cache.truncate(2);
        assert_eq!(push(&mut cache, 2.0, 1), [1.0, 1.0, 2.0]);
        assert!(cache.room(1, 1, (2, 4), &filled(3.0, 1)).is_err());
        assert_eq!(push(&mut cache, 3.0, 1), [1.0, 1.0, 2.0, 3.0]);
        cache.truncate(0);
        assert!(cache.is_empty() && cache.layers[0].is_none());
    }
}
