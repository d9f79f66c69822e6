//! Texts are scored as sacrebleu 2.6, `rouge_score` 0.1.2 and NLTK 3.10 score them. NLTK's METEOR was
//! recorded without WordNet: with it, synonyms would match, too.

use r1seg_metrics::text::{
    Bleu, RougeTokens, Score, Smoothing, meteor_exact_stem, rouge_l, rouge_n, stem, tokens_13a,
};
use serde_json::Value;

use crate::{F64, assert_close, recorded};

fn pairs(check: impl Fn(&str, &str, &Value)) {
    let recorded = recorded("text.json");
    let pairs = recorded["pairs"].as_array().unwrap();
    assert!(pairs.len() > 10);
    for pair in pairs {
        let text = |name: &str| pair[name].as_str().unwrap();
        check(text("prediction"), text("reference"), pair);
    }
}

#[test]
fn tokens_are_those_of_13a() {
    pairs(|prediction, _, pair| {
        let expected: Vec<String> = serde_json::from_value(pair["tokens"].clone()).unwrap();
        assert_eq!(tokens_13a(prediction), expected, "{prediction}");
    });
}

const SMOOTHINGS: [(Smoothing, &str); 2] =
    [(Smoothing::None, "none"), (Smoothing::Exponential, "exp")];

#[test]
fn bleu_is_that_of_sacrebleu_for_texts_and_for_a_corpus() {
    let mut corpus = Bleu::default();
    pairs(|prediction, reference, pair| {
        let bleu = Bleu::of(prediction, reference);
        for (order, n) in (1..=4).zip(0..) {
            assert_close(Some(bleu.precision(order)), &pair["precisions"][n], F64, prediction);
            for (smoothing, name) in SMOOTHINGS {
                let expected = &pair["bleu"][name][n];
                assert_close(Some(bleu.score(order, smoothing)), expected, F64, prediction);
            }
        }
    });
    let recorded = recorded("text.json");
    for pair in recorded["pairs"].as_array().unwrap() {
        let text = |name: &str| pair[name].as_str().unwrap();
        if !text("prediction").is_empty() && !text("reference").is_empty() {
            corpus = corpus.and(&Bleu::of(text("prediction"), text("reference")));
        }
    }
    for (smoothing, name) in SMOOTHINGS {
        for order in 1..=4 {
            let expected = &recorded["corpus"][name][order - 1];
            assert_close(Some(corpus.score(order, smoothing)), expected, F64, name);
        }
    }
}

#[test]
fn rouge_is_that_of_rouge_score_with_and_without_stems() {
    pairs(|prediction, reference, pair| {
        for (tokens, name) in [(RougeTokens::Plain, "plain"), (RougeTokens::Stemmed, "stemmed")] {
            let found = [
                ("rouge1", rouge_n(prediction, reference, 1, tokens)),
                ("rouge2", rouge_n(prediction, reference, 2, tokens)),
                ("rougeL", rouge_l(prediction, reference, tokens)),
            ];
            for (kind, Score { precision, recall, f1 }) in found {
                for (n, value) in [precision, recall, f1].into_iter().enumerate() {
                    assert_close(Some(value), &pair[name][kind][n], F64, prediction);
                }
            }
        }
    });
}

#[test]
fn meteor_is_that_of_nltk_without_wordnet() {
    pairs(|prediction, reference, pair| {
        let found = meteor_exact_stem(prediction, reference);
        assert_close(Some(found), &pair["meteor"], F64, prediction);
    });
}

#[test]
fn stems_are_those_of_nltk() {
    let recorded = recorded("text.json");
    let stems = recorded["stems"].as_object().unwrap();
    assert!(stems.len() > 250);
    for (word, expected) in stems {
        assert_eq!(&stem(word), expected, "{word}");
    }
}
