//! Volumes that models have encoded, the latest used first.

use std::sync::Mutex;

use prometheus_client::metrics::gauge::Gauge;
use r1seg::{EncodedVolume, InferenceMode};

use crate::keys::Owner;
use crate::shelf::lock;

/// Which volume, of whom, and how it was encoded. Owners never share an entry, so that nobody learns by
/// time what another one has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CacheKey {
    pub(crate) content: [u8; 32],
    pub(crate) owner: Owner,
    pub(crate) model: usize,
    pub(crate) mode: Option<InferenceMode>,
}

#[derive(Debug)]
struct Entry {
    key: CacheKey,
    encoded: EncodedVolume,
    bytes: u64,
}

/// Encoded volumes within a bound of memory.
#[derive(Debug)]
pub(crate) struct Cache {
    /// The least recently used first.
    entries: Mutex<Vec<Entry>>,
    limit: u64,
    gauge: Gauge,
}

impl Cache {
    pub(crate) fn new(limit: u64, gauge: &Gauge) -> Self {
        Self { entries: Mutex::default(), limit, gauge: gauge.clone() }
    }

    pub(crate) fn get(&self, key: &CacheKey) -> Option<EncodedVolume> {
        let mut entries = lock(&self.entries);
        let index = entries.iter().position(|entry| entry.key == *key)?;
        let entry = entries.remove(index);
        let encoded = entry.encoded.clone();
        entries.push(entry);
        Some(encoded)
    }

    /// Keeps one of about so many bytes, and lets go of others until it fits. What is larger than all of
    /// the cache is not kept.
    pub(crate) fn put(&self, key: CacheKey, encoded: EncodedVolume, bytes: u64) {
        let mut entries = lock(&self.entries);
        entries.retain(|entry| entry.key != key);
        if bytes <= self.limit {
            entries.push(Entry { key, encoded, bytes });
        }
        while used(&entries) > self.limit && !entries.is_empty() {
            entries.remove(0);
        }
        self.count(&entries);
    }

    /// Lets go of one, if it is there.
    pub(crate) fn remove(&self, key: &CacheKey) {
        let mut entries = lock(&self.entries);
        entries.retain(|entry| entry.key != *key);
        self.count(&entries);
    }

    /// Lets go of all that was made of a volume.
    pub(crate) fn forget(&self, content: &[u8; 32], owner: Owner) {
        let mut entries = lock(&self.entries);
        entries.retain(|entry| entry.key.content != *content || entry.key.owner != owner);
        self.count(&entries);
    }

    fn count(&self, entries: &[Entry]) {
        self.gauge.set(i64::try_from(used(entries)).unwrap_or(i64::MAX));
    }
}

fn used(entries: &[Entry]) -> u64 {
    entries.iter().map(|entry| entry.bytes).sum()
}

#[cfg(test)]
mod tests {
    use r1seg::volume::{Geometry, Volume};

    use super::*;

    #[test]
    fn the_least_recently_used_goes_first_and_owners_share_nothing() {
        let model = r1seg::R1SegModel::demo().unwrap();
        let volume = Volume::new(vec![0.5_f32; 512], Geometry::without_affine([8; 3])).unwrap();
        let encoded = model.encode(&volume).unwrap();
        let gauge = Gauge::default();
        let cache = Cache::new(10, &gauge);
        let owner = Owner::default();
        let key = |n: u8| CacheKey { content: [n; 32], owner, model: 0, mode: None };
        cache.put(key(1), encoded.clone(), 4);
        cache.put(key(2), encoded.clone(), 4);
        assert!(cache.get(&key(1)).is_some());
        cache.put(key(3), encoded.clone(), 4);
        assert!(cache.get(&key(2)).is_none() && cache.get(&key(1)).is_some());
        cache.put(key(4), encoded.clone(), 11);
        assert!(cache.get(&key(4)).is_none());
        let keys = crate::Keys::of_lines("0123456789abcdef").unwrap();
        let other = keys.owner(Some(b"Bearer 0123456789abcdef")).unwrap();
        assert!(cache.get(&CacheKey { owner: other, ..key(1) }).is_none());
        cache.put(key(5), encoded, 2);
        cache.remove(&key(5));
        assert!(cache.get(&key(5)).is_none() && cache.get(&key(3)).is_some());
        cache.forget(&[1; 32], owner);
        assert!(cache.get(&key(1)).is_none() && cache.get(&key(3)).is_some());
        assert_eq!(gauge.get(), 4);
    }
}
