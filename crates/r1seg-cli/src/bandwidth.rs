//! How fast this machine reads memory: what a token costs at least.

use std::time::Instant;

use rayon::prelude::*;

/// Larger than the last cache of a processor, whose speed is not that of memory.
const BUFFER: usize = 512 << 20;
const PASSES: usize = 5;

/// Gigabytes that all threads read in a second, or `None` where `working_set` fits into caches, so
/// that the rate would say nothing about it.
pub(crate) fn of_reading(working_set: u64) -> Option<f64> {
    (BUFFER as u64 <= working_set).then(|| rate(BUFFER, PASSES))
}

/// The best of some passes over a buffer of so many bytes.
fn rate(bytes: usize, passes: usize) -> f64 {
    // Not zeros, which the system may back by one page.
    let words: Vec<u64> = (0..bytes / size_of::<u64>()).into_par_iter().map(|i| i as u64).collect();
    let seconds = (0..passes).map(|_| {
        let start = Instant::now();
        let sum = words.par_chunks(1 << 17).map(|chunk| chunk.iter().fold(0, |a, b| a ^ b));
        std::hint::black_box(sum.reduce(|| 0, |a, b| a ^ b));
        start.elapsed().as_secs_f64()
    });
    size_of_val(words.as_slice()) as f64 / 1e9 / seconds.fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_at_a_rate() {
        let rate = rate(8 << 20, 2);
        // A tape is slower, no memory faster.
        assert!(0.01 < rate && rate < 1e5, "{rate}");
    }

    #[test]
    fn what_fits_into_a_cache_is_not_measured() {
        assert_eq!(of_reading(BUFFER as u64 - 1), None);
    }
}
