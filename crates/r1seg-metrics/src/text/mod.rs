//! Scores of texts: BLEU, ROUGE, METEOR and accuracy, as the published evaluations of CT models use them.
//!
//! | score | as in | what differs |
//! |---|---|---|
//! | [`Bleu`] | sacrebleu, tokenizer 13a; the same of Hugging Face's `evaluate` | one reference a text |
//! | [`rouge_n`], [`rouge_l`] | `rouge_score` | nothing; its stemmer is [`RougeTokens::Stemmed`] |
//! | [`meteor_exact_stem`] | NLTK's METEOR | no synonyms, which need WordNet, and words as 13a splits them |
//! | [`accuracy`] | M3D-Bench, HSENet | nothing |
//!
//! BERTScore is not here: it is the output of a network, and depends on its weights.

pub mod accuracy;
mod bleu;
mod meteor;
mod porter;
mod rouge;
mod tokens;

pub use bleu::{Bleu, MAX_ORDER, Smoothing};
pub use meteor::{Meteor, meteor_exact_stem, meteor_of_tokens};
pub use porter::stem;
pub use rouge::{RougeTokens, rouge_l, rouge_n};
pub use tokens::{tokens_13a, words};

/// Precision, recall and their harmonic mean, 0..1.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Score {
    /// The share of the prediction that is right.
    pub precision: f64,
    /// The share of the reference that was found.
    pub recall: f64,
    /// 2 P R / (P + R), and 0 where both are.
    pub f1: f64,
}

impl Score {
    /// Of so many matches; 0 where there is nothing to match.
    fn of(matches: usize, predicted: usize, reference: usize) -> Self {
        let share = |whole: usize| if whole == 0 { 0.0 } else { matches as f64 / whole as f64 };
        let (precision, recall) = (share(predicted), share(reference));
        let sum = precision + recall;
        let f1 = if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 };
        Self { precision, recall, f1 }
    }
}
