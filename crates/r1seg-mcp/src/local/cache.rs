//! Volumes that a model has encoded, kept for further calls.

use std::sync::{Mutex, PoisonError};

use r1seg::volume::{Geometry, ReadOptions, Volume};
use r1seg::{EncodedVolume, InferenceMode, Orient};
use r1seg_results::Input;
use sha2::{Digest, Sha256};

/// What an encoded volume depends on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Key {
    /// The index of the model.
    pub(super) model: usize,
    /// Of the file, or of the voxels and the geometry.
    pub(super) content: String,
    pub(super) read: ReadOptions,
    pub(super) mode: Option<InferenceMode>,
    pub(super) orient: Option<Orient>,
}

/// The volumes that were encoded last, the latest at the end.
#[derive(Debug)]
pub(super) struct EncodedVolumes {
    kept: Mutex<Vec<(Key, EncodedVolume)>>,
    most: usize,
}

impl EncodedVolumes {
    pub(super) fn new(most: usize) -> Self {
        Self { kept: Mutex::default(), most }
    }

    pub(super) fn get(&self, key: &Key) -> Option<EncodedVolume> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let index = kept.iter().position(|(known, _)| known == key)?;
        let entry = kept.remove(index);
        let encoded = entry.1.clone();
        kept.push(entry);
        Some(encoded)
    }

    pub(super) fn put(&self, key: Key, encoded: EncodedVolume) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push((key, encoded));
        let surplus = kept.len().saturating_sub(self.most);
        kept.drain(..surplus);
    }

    /// Lets all of them go; they keep their models in memory.
    pub(super) fn clear(&self) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A hash of what was read: of the file, or where that is several, of the voxels and where they lie.
pub(super) fn content(input: &Input) -> String {
    input.sha256().unwrap_or_else(|| of_voxels(&input.volume))
}

fn of_voxels(volume: &Volume) -> String {
    /// Numbers at a time.
    const CHUNK: usize = 1 << 16;
    let mut hash = Sha256::new();
    let mut values = Vec::with_capacity(CHUNK);
    let count = volume.voxels().len();
    for start in (0..count).step_by(CHUNK) {
        values.clear();
        volume.voxels().append_to(start..(start + CHUNK).min(count), &mut values);
        for value in &values {
            hash.update(value.to_le_bytes());
        }
    }
    hash.update(position(volume.geometry()));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn position(geometry: &Geometry) -> String {
    format!("{:?} {:?}", geometry.shape(), geometry.affine())
}

#[cfg(test)]
mod tests {
    use r1seg::phantom::Phantom;

    use super::*;

    #[test]
    fn the_volumes_that_were_used_last_are_kept() {
        let model = r1seg::R1SegModel::demo().unwrap();
        let phantom = Phantom::draw(7);
        let geometry = Geometry::without_affine(phantom.shape);
        let volume = Volume::new(phantom.volume, geometry).unwrap();
        let encoded = model.encode(&volume).unwrap();
        let key = |content: &str| Key {
            model: 0,
            content: content.to_string(),
            read: ReadOptions::default(),
            mode: None,
            orient: None,
        };
        let kept = EncodedVolumes::new(2);
        kept.put(key("a"), encoded.clone());
        kept.put(key("b"), encoded.clone());
        assert!(kept.get(&key("a")).is_some());
        kept.put(key("c"), encoded);
        let found = ["a", "b", "c"].map(|content| kept.get(&key(content)).is_some());
        assert_eq!(found, [true, false, true]);
        let turned = Key { orient: Some(Orient::Stored), ..key("a") };
        assert!(kept.get(&turned).is_none());
        kept.clear();
        assert!(kept.get(&key("a")).is_none());
    }

    #[test]
    fn voxels_and_their_place_make_the_content() {
        let volume = |value: f32, mm: f64| {
            let geometry = Geometry::with_spacing([4; 3], [mm, 1.0, 1.0]).unwrap();
            Volume::new(vec![value; 64], geometry).unwrap()
        };
        assert_eq!(of_voxels(&volume(1.0, 1.0)), of_voxels(&volume(1.0, 1.0)));
        assert_ne!(of_voxels(&volume(1.0, 1.0)), of_voxels(&volume(2.0, 1.0)));
        assert_ne!(of_voxels(&volume(1.0, 1.0)), of_voxels(&volume(1.0, 2.0)));
    }
}
