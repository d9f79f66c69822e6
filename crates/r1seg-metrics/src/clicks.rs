//! How fast a mask gets better by clicks.

use crate::Error;
use crate::error::check_length;

/// The Dice of several cases after each of their clicks.
#[derive(Debug, Clone, PartialEq)]
pub struct ClickCurves {
    cases: Vec<Vec<f64>>,
    clicks: usize,
}

impl ClickCurves {
    /// Of each case the Dice after click 1, 2 and so on; all have as many clicks.
    ///
    /// # Errors
    /// `R-MET-02` for a case with another number of clicks than the first.
    pub fn new(cases: Vec<Vec<f64>>) -> Result<Self, Error> {
        let clicks = cases.first().map_or(0, Vec::len);
        for case in &cases {
            check_length("a case", case.len(), clicks)?;
        }
        Ok(Self { cases, clicks })
    }

    /// The mean Dice after each click; none without cases.
    pub fn mean(&self) -> Vec<f64> {
        let mean = |click: usize| {
            self.cases.iter().map(|case| case[click]).sum::<f64>() / self.cases.len() as f64
        };
        (0..self.clicks).map(mean).collect()
    }

    /// Of each case how many clicks it takes to reach this Dice for the first time; `None` if none did.
    pub fn clicks_to(&self, dice: f64) -> Vec<Option<usize>> {
        let first = |case: &Vec<f64>| case.iter().position(|own| dice <= *own).map(|n| n + 1);
        self.cases.iter().map(first).collect()
    }

    /// The mean number of clicks to this Dice (NoC), where a case that does not reach it counts with all of
    /// its clicks, as is usual; and the share of cases that do not. `None` without cases or clicks.
    pub fn mean_clicks_to(&self, dice: f64) -> Option<(f64, f64)> {
        let (reached, count) = (self.clicks_to(dice), self.cases.len() as f64);
        let sum: usize = reached.iter().map(|clicks| clicks.unwrap_or(self.clicks)).sum();
        let failed = reached.iter().filter(|clicks| clicks.is_none()).count();
        (!self.cases.is_empty() && 0 < self.clicks)
            .then(|| (sum as f64 / count, failed as f64 / count))
    }

    /// The area under the mean curve between the first and the last click, by trapezoids and divided by the
    /// clicks between them, 0..1: the Dice itself if there is one click. `None` without cases or clicks.
    pub fn area(&self) -> Option<f64> {
        let mean = self.mean();
        match mean.as_slice() {
            [] => None,
            [one] => Some(*one),
            _ => {
                let sum: f64 = mean.windows(2).map(|pair| pair[0].midpoint(pair[1])).sum();
                Some(sum / (mean.len() - 1) as f64)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_have_a_mean_an_area_and_clicks_to_a_dice() {
        let curves = ClickCurves::new(vec![vec![0.5, 0.75, 1.0], vec![0.25, 0.5, 0.5]]).unwrap();
        assert_eq!(curves.mean(), [0.375, 0.625, 0.75]);
        assert_eq!(curves.area(), Some((0.5 + 0.6875) / 2.0));
        assert_eq!(curves.clicks_to(0.75), [Some(2), None]);
        assert_eq!(curves.mean_clicks_to(0.75), Some((2.5, 0.5)));
        assert_eq!(curves.clicks_to(0.25), [Some(1), Some(1)]);
    }

    #[test]
    fn cases_without_clicks_or_of_different_lengths_are_told_apart() {
        let none = ClickCurves::new(Vec::new()).unwrap();
        assert_eq!((none.mean(), none.area(), none.mean_clicks_to(0.5)), (Vec::new(), None, None));
        assert_eq!(ClickCurves::new(vec![vec![0.5]]).unwrap().area(), Some(0.5));
        let error = ClickCurves::new(vec![vec![0.5], vec![]]).unwrap_err();
        assert_eq!(error.to_string(), "a case has 0 values, 1 are needed");
    }
}
