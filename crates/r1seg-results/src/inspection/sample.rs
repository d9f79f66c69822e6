//! What a part of the voxels tells about all of them.

use std::collections::HashSet;

use r1seg::volume::Volume;
use serde::Serialize;

/// Voxels looked at; more would tell no more.
const VOXELS: usize = 1 << 21;
/// A label map has no more labels than this, as far as it is told from a picture.
const MAX_LABELS: usize = 256;
/// How many neighbors that are not background are of one label; noise makes it rare in anything
/// that was measured.
const SAME_LABEL: f64 = 0.7;

/// Fractions of the voxels of a CT by their Hounsfield units, which add up to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Tissue {
    /// Below -300.
    pub air_and_lung: f64,
    /// From -300 up to 200.
    pub soft_tissue: f64,
    /// From 200: bone, contrast medium, metal.
    pub dense: f64,
}

/// Whole rows, evenly spread over a volume.
fn rows(volume: &Volume) -> impl Iterator<Item = Vec<f32>> + '_ {
    let [d, h, w] = volume.shape();
    let rows = d * h;
    // Odd: sides are often powers of two, and every slice would be seen at the same heights.
    let step = rows.div_ceil((VOXELS / w.max(1)).max(1)).max(1) | 1;
    (0..rows).step_by(step).map(move |row| {
        let mut values = Vec::with_capacity(w);
        volume.voxels().append_to(row * w..(row + 1) * w, &mut values);
        values
    })
}

/// For intensities that are Hounsfield units.
pub(super) fn tissue(volume: &Volume) -> Option<Tissue> {
    let mut counts = [0_usize; 3];
    for hu in rows(volume).flatten() {
        counts[usize::from(-300.0 <= hu) + usize::from(200.0 <= hu)] += 1;
    }
    let all = counts.iter().sum::<usize>();
    let [air_and_lung, soft_tissue, dense] = counts.map(|n| n as f64 / all as f64);
    (0 < all).then_some(Tissue { air_and_lung, soft_tissue, dense })
}

/// The number of labels, background included, if a volume is a mask or label map: two whole numbers
/// from 0, or few in blocks.
pub(super) fn labels(volume: &Volume) -> Option<usize> {
    let mut labels = HashSet::new();
    let (mut pairs, mut same) = (0_usize, 0_usize);
    for row in rows(volume) {
        let mut last = None;
        for value in row {
            if last != Some(value) {
                if value < 0.0 || value.fract() != 0.0 {
                    return None;
                }
                labels.insert(value.to_bits());
                if MAX_LABELS < labels.len() {
                    return None;
                }
            }
            // Background is alike in pictures, too.
            if let Some(last) = last.filter(|last| *last != 0.0 && value != 0.0) {
                pairs += 1;
                same += usize::from(last == value);
            }
            last = Some(value);
        }
    }
    let in_blocks = SAME_LABEL <= same as f64 / pairs as f64;
    match labels.len() {
        0 | 1 => None,
        2 => Some(2),
        n => in_blocks.then_some(n),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use r1seg::volume::Geometry;

    fn volume(value: impl Fn(usize) -> f32) -> Volume {
        let values: Vec<f32> = (0..40 * 40 * 40).map(value).collect();
        Volume::new(values, Geometry::without_affine([40; 3])).unwrap()
    }

    #[test]
    fn blocks_of_few_whole_numbers_are_labels() {
        assert_eq!(labels(&volume(|n| (n / 10 % 4) as f32)), Some(4));
        assert_eq!(labels(&volume(|n| f32::from(n % 40 == 20))), Some(2));
        // Thin structures.
        assert_eq!(labels(&volume(|n| [0.0, 1.0, 1.0, 0.0, 2.0, 2.0][n % 6])), Some(3));
    }

    #[test]
    fn pictures_and_measurements_are_no_labels() {
        let noise = |n: usize| (n * 7919 % 251) as f32;
        for not_labels in [
            volume(noise),
            volume(|n| noise(n) / 250.0),
            volume(|n| -noise(n / 10)),
            volume(|_| 0.0),
            volume(|_| 7.0),
            volume(|n| (n / 20) as f32),
        ] {
            assert_eq!(labels(&not_labels), None);
        }
    }

    #[test]
    fn tissue_is_counted_at_its_limits() {
        let values = [-1000.0, -300.1, -300.0, 0.0, 199.0, 200.0, 3000.0, 40.0];
        let tissue = tissue(&volume(|n| values[n % 8])).unwrap();
        assert_eq!(tissue, Tissue { air_and_lung: 0.25, soft_tissue: 0.5, dense: 0.25 });
    }

    #[test]
    fn a_long_volume_is_sampled_all_over() {
        let shape = [64, 512, 512];
        let voxels = shape.iter().product::<usize>();
        let bright = |n: usize| if n / (512 * 512) < 16 { 100_i16 } else { -1000 };
        let volume = Volume::new(
            (0..voxels).map(bright).collect::<Vec<_>>(),
            Geometry::without_affine(shape),
        )
        .unwrap();
        let seen: usize = rows(&volume).map(|row| row.len()).sum();
        assert!(seen <= VOXELS && VOXELS / 2 < seen, "{seen}");
        assert!((tissue(&volume).unwrap().soft_tissue - 0.25).abs() < 0.01);
    }
}
