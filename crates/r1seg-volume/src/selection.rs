//! Order statistics by counting: exact, without sorting or copying the values.

use rayon::prelude::*;

use crate::voxels::Scale;

/// Values are told apart by 16 bits at a time.
const BINS: usize = 1 << 16;
const CHUNK: usize = 1 << 20;

/// An integer with the order of `f32::total_cmp`.
fn key(v: f32) -> u32 {
    let bits = v.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

fn value(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key & !(1 << 31) } else { !key })
}

/// Where percentile `percent` lies among values whose last rank is `last`: the ranks around it, and
/// the way from the first to the second.
fn around(percent: f64, last: usize) -> ([usize; 2], f64) {
    let position = percent.clamp(0.0, 100.0) / 100.0 * last as f64;
    let below = (position.floor() as usize).min(last);
    ([below, (below + 1).min(last)], position - below as f64)
}

fn between([low, high]: [f32; 2], way: f64) -> f32 {
    let (low, high) = (f64::from(low), f64::from(high));
    (low + (high - low) * way) as f32
}

/// How often each 16-bit number occurs: all that order statistics and the mean depend on.
pub(crate) struct Histogram {
    /// By the number, from `i16::MIN`.
    counts: Vec<usize>,
    scale: Scale,
}

impl Histogram {
    pub(crate) fn new(stored: &[i16], scale: Scale) -> Self {
        /// Neighboring voxels are alike, and an increment waits for the one before on the same bin.
        const TABLES: usize = 4;
        let tally = |mut counts: Vec<u32>, chunk: &[i16]| {
            let (fours, rest) = chunk.as_chunks::<TABLES>();
            for four in fours {
                for (table, v) in four.iter().enumerate() {
                    counts[table << 16 | usize::from(*v as u16)] += 1;
                }
            }
            for v in rest {
                counts[usize::from(*v as u16)] += 1;
            }
            counts
        };
        let fold = |mut sums: Vec<usize>, counts: Vec<u32>| {
            for (bin, count) in counts.into_iter().enumerate() {
                // Flipping the sign bit brings the negative numbers before the others.
                sums[(bin & 0xffff) ^ 0x8000] += count as usize;
            }
            sums
        };
        let add = |mut a: Vec<usize>, b: Vec<usize>| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
            a
        };
        let task = stored.len().div_ceil(rayon::current_num_threads()).max(CHUNK);
        let counts = stored
            .par_chunks(task)
            .map(|chunk| tally(vec![0; TABLES * BINS], chunk))
            .fold(|| vec![0; BINS], fold)
            .reduce(|| vec![0; BINS], add);
        Self { counts, scale }
    }

    /// Intensities that occur and how often, the smallest first.
    fn ascending(&self) -> impl Iterator<Item = (f32, usize)> + '_ {
        let number = |bin: usize| (bin as i32 - (1 << 15)) as i16;
        (0..BINS)
            .map(move |n| if self.scale.slope < 0.0 { BINS - 1 - n } else { n })
            .map(move |bin| (self.scale.apply(number(bin)), self.counts[bin]))
            .filter(|(_, count)| 0 < *count)
    }

    /// Mean intensity; `None` without values.
    pub(crate) fn mean(&self) -> Option<f64> {
        let voxels: usize = self.counts.iter().sum();
        let sum: f64 = self.ascending().map(|(v, count)| f64::from(v) * count as f64).sum();
        (0 < voxels).then(|| sum / voxels as f64)
    }

    /// As [`percentiles`].
    pub(crate) fn percentiles<const N: usize>(
        &self,
        keep: impl Fn(f32) -> bool,
        percents: [f64; N],
    ) -> Option<[f32; N]> {
        let kept: Vec<(f32, usize)> = self.ascending().filter(|(v, _)| keep(*v)).collect();
        let last = kept.iter().map(|(_, count)| count).sum::<usize>().checked_sub(1)?;
        let at_rank = |rank: usize| {
            let mut passed = 0;
            let holds = |(_, count): &&(f32, usize)| {
                passed += count;
                rank < passed
            };
            kept.iter().find(holds).map_or(f32::NAN, |(v, _)| *v)
        };
        Some(percents.map(|percent| {
            let (ranks, way) = around(percent, last);
            between(ranks.map(at_rank), way)
        }))
    }
}

/// Percentiles, interpolated linearly, of the values that `keep` keeps; `None` if there are none.
pub(crate) fn percentiles<const N: usize>(
    data: &[f32],
    keep: impl Fn(f32) -> bool + Sync,
    percents: [f64; N],
) -> Option<[f32; N]> {
    let counts = count(data, BINS, |v| keep(v).then(|| (key(v) >> 16) as usize));
    let last = counts.iter().sum::<usize>().checked_sub(1)?;

    // The value at each rank lies in one high bin; the low bits tell it apart within the bin.
    let ranks: Vec<usize> = percents.iter().flat_map(|p| around(*p, last).0).collect();
    let highs: Vec<(usize, usize)> = ranks.iter().map(|rank| find(&counts, *rank)).collect();
    let mut wanted: Vec<usize> = highs.iter().map(|(bin, _)| *bin).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let lows = count(data, wanted.len() * BINS, |v| {
        let key = key(v);
        let bin = wanted.binary_search(&((key >> 16) as usize)).ok()?;
        keep(v).then_some(bin * BINS + (key & 0xffff) as usize)
    });
    let at_rank = |n: usize| {
        let (high, rank) = highs[n];
        let block = wanted.partition_point(|bin| *bin < high) * BINS;
        let (low, _) = find(&lows[block..block + BINS], rank);
        value((high << 16 | low) as u32)
    };
    Some(std::array::from_fn(|n| {
        between([at_rank(2 * n), at_rank(2 * n + 1)], around(percents[n], last).1)
    }))
}

fn count(data: &[f32], bins: usize, bin: impl Fn(f32) -> Option<usize> + Sync) -> Vec<usize> {
    let tally = |mut counts: Vec<usize>, chunk: &[f32]| {
        for bin in chunk.iter().filter_map(|v| bin(*v)) {
            counts[bin] += 1;
        }
        counts
    };
    let add = |mut a: Vec<usize>, b: Vec<usize>| {
        a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        a
    };
    data.par_chunks(CHUNK).fold(|| vec![0; bins], tally).reduce(|| vec![0; bins], add)
}

/// The bin that holds the value of this rank, and the value's rank within the bin.
fn find(counts: &[usize], mut rank: usize) -> (usize, usize) {
    for (bin, count) in counts.iter().enumerate() {
        if rank < *count {
            return (bin, rank);
        }
        rank -= count;
    }
    (counts.len().saturating_sub(1), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_the_order_and_the_value() {
        let sorted = [-f32::MAX, -1.5, -1e-40, -0.0, 0.0, 1e-40, 1.0, 1.000_000_1, f32::MAX];
        assert!(sorted.map(key).is_sorted_by(|a, b| a < b));
        assert!(sorted.iter().all(|v| value(key(*v)).to_bits() == v.to_bits()));
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_values() {
        let data: Vec<f32> =
            (0..5000_u32).map(|n| (n * 7919 % 5003) as f32 * 0.37 - 900.0).collect();
        let mut sorted: Vec<f32> = data.iter().copied().filter(|v| -100.0 < *v).collect();
        sorted.sort_unstable_by(f32::total_cmp);
        let percents = [0.0, 0.05, 12.3, 50.0, 99.95, 100.0];
        let got = percentiles(&data, |v| -100.0 < v, percents).unwrap();
        for (percent, got) in percents.into_iter().zip(got) {
            let position = percent / 100.0 * (sorted.len() - 1) as f64;
            let [a, b] = [position.floor(), position.ceil()].map(|n| f64::from(sorted[n as usize]));
            assert_eq!(got, (a + (b - a) * position.fract()) as f32, "{percent}");
        }
    }

    #[test]
    fn a_histogram_says_what_the_values_themselves_say() {
        let stored: Vec<i16> =
            (0..5001_i32).map(|n| (n * 7919 % 5003 * 13 - 32_500) as i16).collect();
        for (slope, inter) in [(1.0, 0.0), (-0.37, 12.5), (1e-3, -7.0)] {
            let scale = Scale { slope, inter };
            let values: Vec<f32> = stored.iter().map(|v| scale.apply(*v)).collect();
            let histogram = Histogram::new(&stored, scale);
            let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / 5001.0;
            assert!((histogram.mean().unwrap() / mean - 1.0).abs() < 1e-12);
            let keep = |v| mean < f64::from(v);
            let percents = [0.0, 0.05, 33.3, 99.95, 100.0];
            assert_eq!(histogram.percentiles(keep, percents), percentiles(&values, keep, percents));
        }
        assert_eq!(Histogram::new(&[], Scale::IDENTITY).mean(), None);
        assert_eq!(Histogram::new(&[3], Scale::IDENTITY).percentiles(|_| false, [1.0]), None);
    }

    #[test]
    fn one_value_and_no_value() {
        assert_eq!(percentiles(&[3.0], |_| true, [0.0, 50.0, 100.0]), Some([3.0; 3]));
        assert_eq!(percentiles(&[3.0], |_| false, [50.0]), None);
    }
}
