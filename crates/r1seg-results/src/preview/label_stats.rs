//! Where the labels are.

use std::ops::Range;

use r1seg::volume::Region;

/// A cut that shows less than one in so many of the voxels that the fullest cut shows is
/// moved there.
const MEAGER_SHARE: u64 = 4;

/// Labels are counted in blocks, since most are the same as their neighbors.
const BLOCK: usize = 32;

/// The labels of an array, counted.
pub(super) struct LabelStats {
    /// Voxels of each label.
    pub(super) counts: Vec<u64>,
    /// `[D, H, W]` of the voxel that the three cuts go through.
    pub(super) center: [usize; 3],
    /// The voxels with a label lie within these, `[D, H, W]`; empty if there are none.
    pub(super) extent: [Range<usize>; 3],
}

impl LabelStats {
    /// Counts the labels (`[D, H, W]`, 0 is background) of an array of this shape.
    pub(super) fn new(shape: [usize; 3], labels: &[u16]) -> Self {
        let last = labels.iter().max().copied().unwrap_or(0);
        let mut counts = vec![0; usize::from(last) + 1];
        // For each slice along an axis, whether it has a label.
        let mut seen = shape.map(|count| vec![0; count]);
        for (d, h, row) in rows(shape, labels) {
            if is_uniform(row) && row.first() == Some(&0) {
                continue;
            }
            for block in row.chunks(BLOCK) {
                match block {
                    [label, ..] if is_uniform(block) => {
                        counts[usize::from(*label)] += block.len() as u64;
                    }
                    _ => block.iter().for_each(|label| counts[usize::from(*label)] += 1),
                }
            }
            (seen[0][d], seen[1][h]) = (1, 1);
            seen[2].iter_mut().zip(row).for_each(|(seen, label)| *seen |= label);
        }
        counts[0] = 0;

        // The first one of several that are as large.
        let largest = (1..=last).rev().max_by_key(|label| counts[usize::from(*label)]);
        let center = match largest {
            Some(label) => center_of(label, shape, labels),
            None => shape.map(|count| count / 2),
        };
        Self { counts, center, extent: seen.map(|seen| extent_of(&seen)) }
    }

    /// Without labels, the cuts go through the middle of the first of `regions` and the slices through
    /// all of them; if there are none, the cuts go through `middle`.
    pub(super) fn look_at(&mut self, regions: &[Region], middle: [usize; 3]) {
        self.center = middle;
        if let Some(Region { start, end }) = regions.first() {
            self.center = std::array::from_fn(|n| start[n] + (end[n] - start[n]) / 2);
            self.extent = std::array::from_fn(|n| {
                let [start, end] = [
                    regions.iter().map(|region| region.start[n]).min(),
                    regions.iter().map(|region| region.end[n]).max(),
                ];
                start.unwrap_or(0)..end.unwrap_or(0)
            });
        }
    }

    /// Whether no voxel has a label.
    pub(super) fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| *count == 0)
    }
}

/// The centroid of a label's voxels; on an axis where the cut through it would show next to
/// nothing (a pair of kidneys), the fullest cut instead.
fn center_of(label: u16, shape: [usize; 3], labels: &[u16]) -> [usize; 3] {
    let mut histograms = shape.map(|count| vec![0_u64; count]);
    for (d, h, row) in rows(shape, labels) {
        if !row.contains(&label) {
            continue;
        }
        let mut in_row = 0;
        for (count, voxel) in histograms[2].iter_mut().zip(row) {
            let is_label = u64::from(*voxel == label);
            *count += is_label;
            in_row += is_label;
        }
        histograms[0][d] += in_row;
        histograms[1][h] += in_row;
    }
    histograms.map(|histogram| {
        let voxels: u64 = histogram.iter().sum();
        let moment: f64 = histogram.iter().enumerate().map(|(i, n)| i as f64 * *n as f64).sum();
        // A cast from float to integer saturates.
        let centroid = (moment / voxels as f64).round() as usize;
        let fullest = (0..histogram.len()).rev().max_by_key(|i| histogram[*i]).unwrap_or(0);
        let at_centroid = histogram.get(centroid).copied().unwrap_or(0);
        let is_meager = at_centroid.saturating_mul(MEAGER_SHARE) < histogram[fullest];
        if is_meager { fullest } else { centroid }
    })
}

/// The rows along W, with their `d` and `h`.
pub(super) fn rows(
    shape: [usize; 3],
    labels: &[u16],
) -> impl Iterator<Item = (usize, usize, &[u16])> {
    let [_, h_count, w_count] = shape;
    let rows = labels.chunks_exact(w_count.max(1)).enumerate();
    rows.map(move |(i, row)| (i / h_count.max(1), i % h_count.max(1), row))
}

/// Whether all labels are the same. Without an early exit this compiles to vector
/// instructions.
fn is_uniform(labels: &[u16]) -> bool {
    let first = labels.first().copied().unwrap_or(0);
    labels.iter().fold(0, |differing, label| differing | (label ^ first)) == 0
}

/// From the first to the last slice that has a label.
fn extent_of(seen: &[u16]) -> Range<usize> {
    let first = seen.iter().position(|seen| *seen != 0);
    let last = seen.iter().rposition(|seen| *seen != 0);
    first.zip(last).map_or(0..0, |(first, last)| first..last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: [usize; 3] = [5, 6, 20];

    fn labels(label_at: impl Fn(usize, usize, usize) -> u16) -> Vec<u16> {
        let [d, h, w] = SHAPE;
        (0..d * h * w).map(|i| label_at(i / (h * w), i / w % h, i % w)).collect()
    }

    #[test]
    fn stats_of_two_labels_centers_on_the_larger_and_spans_both() {
        let labels = labels(|d, h, w| match (d, h, w) {
            (1..4, 2..5, 3..10) => 9,
            (4, 5, 19) => 2,
            _ => 0,
        });
        let stats = LabelStats::new(SHAPE, &labels);
        assert_eq!((stats.counts[9], stats.counts[2]), (63, 1));
        assert_eq!(stats.center, [2, 3, 6]);
        assert!(!stats.is_empty());
        assert_eq!(stats.extent, [1..5, 2..6, 3..20]);
    }

    #[test]
    fn stats_of_a_pair_moves_only_the_cut_between_them() {
        let labels = labels(|d, h, w| {
            u16::from(matches!((d, h, w), (1..4, 2..5, 1..4) | (1..4, 2..5, 16..19)))
        });
        assert_eq!(LabelStats::new(SHAPE, &labels).center, [2, 3, 1]);
    }

    #[test]
    fn stats_without_labels_centers_on_the_volume() {
        let stats = LabelStats::new(SHAPE, &labels(|_, _, _| 0));
        assert_eq!(stats.center, [2, 3, 10]);
        assert!(stats.extent.iter().all(Range::is_empty));
        assert!(stats.is_empty());
    }
}
