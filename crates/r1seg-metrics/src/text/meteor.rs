//! METEOR without synonyms: words match exactly or by their stems.

use std::collections::HashMap;

use super::{stem, tokens::tokens_13a};

/// The parameters of METEOR; the default are those of NLTK.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Meteor {
    /// How much more precision counts than recall in their mean: P R / (alpha P + (1 - alpha) R).
    pub alpha: f64,
    /// The power of the penalty for matches that are apart.
    pub beta: f64,
    /// The largest penalty.
    pub gamma: f64,
}

impl Default for Meteor {
    fn default() -> Self {
        Self { alpha: 0.9, beta: 3.0, gamma: 0.5 }
    }
}

/// METEOR of exact matches and stems, 0..1, over the tokens of 13a in lower case.
///
/// NLTK's METEOR, which M3D-Bench and HSENet use, also takes synonyms out of WordNet for matches, and splits
/// words as the Penn Treebank does; its numbers are somewhat higher. On the same tokens and without WordNet
/// they are these.
pub fn meteor_exact_stem(prediction: &str, reference: &str) -> f64 {
    meteor_of_tokens(&tokens_13a(prediction), &tokens_13a(reference), Meteor::default())
}

/// The same over tokens, whose case does not matter.
pub fn meteor_of_tokens(prediction: &[String], reference: &[String], meteor: Meteor) -> f64 {
    let lower = |words: &[String]| -> Vec<Option<String>> {
        words.iter().map(|word| Some(word.to_lowercase())).collect()
    };
    let (mut left, mut right) = (lower(prediction), lower(reference));
    let mut matches = matched(&mut left, &mut right);
    for word in left.iter_mut().chain(&mut right).flatten() {
        *word = stem(word);
    }
    matches.append(&mut matched(&mut left, &mut right));
    matches.sort_unstable();
    let count = matches.len() as f64;
    if matches.is_empty() {
        return 0.0;
    }
    let (precision, recall) = (count / prediction.len() as f64, count / reference.len() as f64);
    let mean = precision * recall / (meteor.alpha * precision + (1.0 - meteor.alpha) * recall);
    let is_next =
        |pair: &[(usize, usize)]| pair[1].0 == pair[0].0 + 1 && pair[1].1 == pair[0].1 + 1;
    let chunks = 1 + matches.windows(2).filter(|pair| !is_next(pair)).count();
    mean * (1.0 - meteor.gamma * (chunks as f64 / count).powf(meteor.beta))
}

/// Pairs of equal words, each from the last to the first with the last of the other text that is free. They
/// are taken out of both texts.
fn matched(left: &mut [Option<String>], right: &mut [Option<String>]) -> Vec<(usize, usize)> {
    let mut places: HashMap<String, Vec<usize>> = HashMap::new();
    for (n, word) in right.iter().enumerate() {
        if let Some(word) = word {
            places.entry(word.clone()).or_default().push(n);
        }
    }
    let mut pairs = Vec::new();
    for n in (0..left.len()).rev() {
        let place = left[n].as_ref().and_then(|word| places.get_mut(word)?.pop());
        if let Some(place) = place {
            pairs.push((n, place));
            (left[n], right[place]) = (None, None);
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_has_one_chunk_and_stems_match() {
        assert_eq!(meteor_exact_stem("a b c d", "A b c d"), 1.0 - 0.5 / 64.0);
        let score = meteor_exact_stem("calcified nodules", "calcified nodule");
        assert_eq!(score, 1.0 - 0.5 / 8.0);
        assert_eq!(meteor_exact_stem("d c b a", "a b c d"), 0.5);
    }

    #[test]
    fn texts_without_matches_or_words_are_0() {
        for (prediction, reference) in [("", ""), ("a", ""), ("", "a"), ("a", "b")] {
            assert_eq!(meteor_exact_stem(prediction, reference), 0.0);
        }
    }
}
