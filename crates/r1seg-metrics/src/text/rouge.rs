//! ROUGE-N and ROUGE-L of one reference, as `rouge_score` computes them.

use std::collections::HashMap;

use super::{Score, stem, tokens::words};

/// How texts become words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RougeTokens {
    /// Letters and digits in lower case.
    #[default]
    Plain,
    /// The same, and words of more than three letters are stemmed (`use_stemmer=True`).
    Stemmed,
}

impl RougeTokens {
    fn of(self, text: &str) -> Vec<String> {
        let words = words(text);
        match self {
            Self::Plain => words,
            Self::Stemmed => words
                .into_iter()
                .map(|word| if word.len() > 3 { stem(&word) } else { word })
                .collect(),
        }
    }
}

/// ROUGE-N: runs of `order` words that both have.
pub fn rouge_n(prediction: &str, reference: &str, order: usize, tokens: RougeTokens) -> Score {
    let (prediction, reference) = (tokens.of(prediction), tokens.of(reference));
    let order = order.max(1);
    let mut left: HashMap<&[String], usize> = HashMap::new();
    reference.windows(order).for_each(|run| *left.entry(run).or_default() += 1);
    let is_match = |run: &&[String]| {
        let count = left.get_mut(*run).filter(|count| **count > 0);
        count.map(|count| *count -= 1).is_some()
    };
    let matches = prediction.windows(order).filter(is_match).count();
    let runs = |words: &[String]| (words.len() + 1).saturating_sub(order);
    Score::of(matches, runs(&prediction), runs(&reference))
}

/// ROUGE-L: the longest sequence of words, not necessarily next to each other, that both have in the same
/// order. Line ends mean nothing.
pub fn rouge_l(prediction: &str, reference: &str, tokens: RougeTokens) -> Score {
    let (prediction, reference) = (tokens.of(prediction), tokens.of(reference));
    let mut lengths = vec![0; reference.len() + 1];
    for word in &prediction {
        let mut before = 0;
        for (n, other) in reference.iter().enumerate() {
            let above = lengths[n + 1];
            lengths[n + 1] = if word == other { before + 1 } else { above.max(lengths[n]) };
            before = above;
        }
    }
    Score::of(lengths.last().copied().unwrap_or(0), prediction.len(), reference.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_sequences_are_counted() {
        let (prediction, reference) = ("the cat was on the mat", "the cat sat on a mat");
        let one = rouge_n(prediction, reference, 1, RougeTokens::Plain);
        assert_eq!((one.precision, one.recall), (4.0 / 6.0, 4.0 / 6.0));
        let two = rouge_n(prediction, reference, 2, RougeTokens::Plain);
        assert_eq!(two.precision, 1.0 / 5.0);
        assert_eq!(rouge_l(prediction, reference, RougeTokens::Plain).recall, 4.0 / 6.0);
        assert_eq!(rouge_l("on the mat the cat", reference, RougeTokens::Plain).recall, 2.0 / 6.0);
    }

    #[test]
    fn stems_match_where_words_do_not() {
        let score = |tokens| rouge_n("nodules", "nodule", 1, tokens).f1;
        assert_eq!((score(RougeTokens::Plain), score(RougeTokens::Stemmed)), (0.0, 1.0));
    }

    #[test]
    fn nothing_is_0_and_not_a_division_by_0() {
        for (prediction, reference) in [("", ""), ("", "a"), ("a", ""), ("!", "?")] {
            assert_eq!(rouge_n(prediction, reference, 1, RougeTokens::Plain), Score::default());
            assert_eq!(rouge_l(prediction, reference, RougeTokens::Plain), Score::default());
        }
        assert_eq!(rouge_n("a", "a", 2, RougeTokens::Plain), Score::default());
    }
}
