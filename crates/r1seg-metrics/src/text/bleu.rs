//! BLEU of one reference a text.

use std::collections::HashMap;

use super::tokens::tokens_13a;

/// Most words that are matched together.
pub const MAX_ORDER: usize = 4;

/// What becomes of a precision of 0, which would make the whole score 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Smoothing {
    /// The score is 0; as Hugging Face's `evaluate`, and M3D-Bench with it.
    #[default]
    None,
    /// The n-th precision that is 0 becomes 1 / (2^n times its count); what sacrebleu does by default.
    Exponential,
}

/// Matches of runs of 1 to 4 words, of one text or summed over many.
///
/// A corpus has one score, of sums: the mean of the scores of its texts is another number.
///
/// ```
/// use r1seg_metrics::text::{Bleu, Smoothing};
///
/// let bleu = Bleu::of("The liver is enlarged.", "The liver is normal.");
/// assert_eq!(bleu.precision(1), 0.8);
/// assert_eq!(bleu.score(1, Smoothing::None), 0.8);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bleu {
    matches: [usize; MAX_ORDER],
    counts: [usize; MAX_ORDER],
    predicted: usize,
    reference: usize,
}

impl Bleu {
    /// Of a prediction and its reference, as the tokenizer 13a splits them.
    pub fn of(prediction: &str, reference: &str) -> Self {
        Self::of_tokens(&tokens_13a(prediction), &tokens_13a(reference))
    }

    /// Of tokens.
    pub fn of_tokens(prediction: &[String], reference: &[String]) -> Self {
        let (predicted_words, reference_words) = (prediction.len(), reference.len());
        let mut bleu =
            Self { predicted: predicted_words, reference: reference_words, ..Self::default() };
        for order in 1..=MAX_ORDER {
            let counts = counted(reference, order);
            let matches = counted(prediction, order)
                .into_iter()
                .map(|(run, count)| count.min(counts.get(run).copied().unwrap_or(0)));
            bleu.matches[order - 1] = matches.sum();
            bleu.counts[order - 1] = (predicted_words + 1).saturating_sub(order);
        }
        bleu
    }

    /// Adds the counts of another text.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        for order in 0..MAX_ORDER {
            self.matches[order] += other.matches[order];
            self.counts[order] += other.counts[order];
        }
        self.predicted += other.predicted;
        self.reference += other.reference;
        self
    }

    /// The share of the runs of `order` words (1 to 4) that the reference has too, 0..1; 0 where there are
    /// none. HSENet reports these of single texts, averaged, as BLEU-1 to BLEU-4.
    pub fn precision(&self, order: usize) -> f64 {
        let n = order.clamp(1, MAX_ORDER) - 1;
        if self.counts[n] == 0 { 0.0 } else { self.matches[n] as f64 / self.counts[n] as f64 }
    }

    /// What a prediction that is shorter than its reference is multiplied with: exp(1 - r / p). 0 for one
    /// without words, where others divide by 0.
    pub fn brevity_penalty(&self) -> f64 {
        match self.predicted {
            0 => 0.0,
            predicted if predicted < self.reference => {
                (1.0 - self.reference as f64 / predicted as f64).exp()
            }
            _ => 1.0,
        }
    }

    /// BLEU of runs of up to `order` words (1 to 4), 0..1; sacrebleu prints it times 100.
    pub fn score(&self, order: usize, smoothing: Smoothing) -> f64 {
        let order = order.clamp(1, MAX_ORDER);
        // Nothing at all matches: smoothing does not help.
        if self.matches.iter().all(|matches| *matches == 0) {
            return 0.0;
        }
        let (mut logs, mut smoothed) = (0.0, 1.0);
        for n in 0..order {
            let precision = match (self.matches[n], self.counts[n], smoothing) {
                (_, 0, _) | (0, _, Smoothing::None) => return 0.0,
                (0, count, Smoothing::Exponential) => {
                    smoothed *= 2.0;
                    1.0 / (smoothed * count as f64)
                }
                (matches, count, _) => matches as f64 / count as f64,
            };
            logs += f64::ln(precision);
        }
        self.brevity_penalty() * (logs / order as f64).exp()
    }
}

/// How often each run of so many words is there.
fn counted(words: &[String], order: usize) -> HashMap<&[String], usize> {
    let mut counts = HashMap::new();
    for run in words.windows(order) {
        *counts.entry(run).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_matches_no_more_often_than_the_reference_has_it() {
        let bleu = Bleu::of("the the the the", "the cat the mat");
        assert_eq!((bleu.precision(1), bleu.precision(2)), (0.5, 0.0));
        assert_eq!(bleu.score(2, Smoothing::None), 0.0);
        assert!(bleu.score(2, Smoothing::Exponential) > 0.0);
    }

    #[test]
    fn short_predictions_are_penalized_and_empty_ones_are_0() {
        let bleu = Bleu::of("no lesion", "no lesion is seen");
        assert_eq!(bleu.score(1, Smoothing::None), (-1.0_f64).exp());
        for (prediction, reference) in [("", "a"), ("a", ""), ("", "")] {
            let bleu = Bleu::of(prediction, reference);
            assert_eq!(bleu.score(1, Smoothing::Exponential), 0.0, "{prediction:?} {reference:?}");
        }
    }

    #[test]
    fn a_corpus_is_scored_by_its_sums() {
        let (one, two) = (Bleu::of("a b c d e", "a b c d e"), Bleu::of("x y", "x z z"));
        let both = one.and(&two);
        assert_eq!(both.precision(1), 6.0 / 7.0);
        assert_eq!(both.brevity_penalty(), (1.0_f64 - 8.0 / 7.0).exp());
    }
}
