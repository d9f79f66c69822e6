//! Order statistics by counting: exact, without sorting or copying the values.

use rayon::prelude::*;

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

/// Percentiles, interpolated linearly, of the values that `keep` keeps; `None` if there are none.
pub(crate) fn percentiles<const N: usize>(
    data: &[f32],
    keep: impl Fn(f32) -> bool + Sync,
    percents: [f64; N],
) -> Option<[f32; N]> {
    let counts = count(data, BINS, |v| keep(v).then(|| (key(v) >> 16) as usize));
    let last = counts.iter().sum::<usize>().checked_sub(1)?;
    let position = |percent: f64| percent.clamp(0.0, 100.0) / 100.0 * last as f64;
    let below = |percent: f64| (position(percent).floor() as usize).min(last);

    // The value at each rank lies in one high bin; the low bits tell it apart within the bin.
    let ranks: Vec<usize> =
        percents.iter().flat_map(|p| [below(*p), (below(*p) + 1).min(last)]).collect();
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
        f64::from(value((high << 16 | low) as u32))
    };
    Some(std::array::from_fn(|n| {
        let (low, high) = (at_rank(2 * n), at_rank(2 * n + 1));
        (low + (high - low) * (position(percents[n]) - below(percents[n]) as f64)) as f32
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
    fn one_value_and_no_value() {
        assert_eq!(percentiles(&[3.0], |_| true, [0.0, 50.0, 100.0]), Some([3.0; 3]));
        assert_eq!(percentiles(&[3.0], |_| false, [50.0]), None);
    }
}
