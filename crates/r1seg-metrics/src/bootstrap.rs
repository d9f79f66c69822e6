//! How sure a mean over cases is.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A statistic of a sample and the interval that it is expected in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The statistic of all cases.
    pub value: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// How an interval is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    /// How often as many cases are drawn with replacement.
    pub draws: usize,
    /// The share of draws within the interval, such as 0.95.
    pub confidence: f64,
    /// The same seed draws the same cases, on every machine.
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { draws: 2000, confidence: 0.95, seed: 0 }
    }
}

impl Bootstrap {
    /// The mean of the values that are there, and its percentile interval; `None` without any.
    ///
    /// ```
    /// use r1seg_metrics::Bootstrap;
    ///
    /// let dice = [0.91, 0.88, 0.95, 0.60, 0.93, 0.90];
    /// let interval = Bootstrap::default().mean(dice.map(Some)).unwrap();
    /// assert!(interval.low < interval.value && interval.value < interval.high);
    /// ```
    pub fn mean(&self, values: impl IntoIterator<Item = Option<f64>>) -> Option<Interval> {
        let values: Vec<f64> = values.into_iter().flatten().collect();
        self.statistic(&values, |values| values.iter().sum::<f64>() / values.len() as f64)
    }

    /// Any statistic of cases, which is asked for as many cases as there are, some of them more than once.
    pub fn statistic<T: Copy>(&self, cases: &[T], of: impl Fn(&[T]) -> f64) -> Option<Interval> {
        if cases.is_empty() {
            return None;
        }
        let value = of(cases);
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        let mut drawn = cases.to_vec();
        let mut values: Vec<f64> = (0..self.draws.max(1))
            .map(|_| {
                // u64, so that machines of 32 bits draw the same.
                let count = cases.len() as u64;
                for place in &mut drawn {
                    let at = usize::try_from(random.random_range(0..count)).unwrap_or(0);
                    *place = cases[at];
                }
                of(&drawn)
            })
            .collect();
        values.sort_by(f64::total_cmp);
        let end = |share: f64| {
            let at = share.clamp(0.0, 1.0) * (values.len() - 1) as f64;
            let (low, high) = (at.floor() as usize, at.ceil() as usize);
            values[low] + (values[high] - values[low]) * (at - at.floor())
        };
        let outside = (1.0 - self.confidence) / 2.0;
        Some(Interval { value, low: end(outside), high: end(1.0 - outside) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_interval_and_another_one_another() {
        let values: Vec<Option<f64>> = (0..40).map(|n| Some(f64::from(n % 7))).collect();
        let of = |seed| Bootstrap { seed, ..Bootstrap::default() }.mean(values.clone()).unwrap();
        assert_eq!(of(3), of(3));
        assert_ne!(of(3), of(4));
    }

    #[test]
    fn the_interval_of_a_mean_is_about_the_normal_one() {
        // 400 values of mean 0.5 and deviation 0.5: the error of the mean is 0.025.
        let values = (0..400).map(|n| Some(f64::from(n % 2)));
        let interval = Bootstrap::default().mean(values).unwrap();
        assert_eq!(interval.value, 0.5);
        assert!((interval.low - (0.5 - 1.96 * 0.025)).abs() < 0.005, "{interval:?}");
        assert!((interval.high - (0.5 + 1.96 * 0.025)).abs() < 0.005, "{interval:?}");
    }

    #[test]
    fn values_that_are_none_are_left_out() {
        let interval = Bootstrap::default().mean([None, Some(0.5), None]).unwrap();
        assert_eq!(interval, Interval { value: 0.5, low: 0.5, high: 0.5 });
        assert_eq!(Bootstrap::default().mean([None, None]), None);
    }
}
