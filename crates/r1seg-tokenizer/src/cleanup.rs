//! `clean_up_tokenization` of transformers 4.46.3 (`tokenization_utils_base.py`), and how much of
//! a growing text it leaves alone.

/// Spaces before punctuation and English contractions are removed, in this order.
const RULES: [(&str, &str); 10] = [
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
];

/// Applies the rules one after the other to the whole text.
pub(crate) fn clean_up(text: &str) -> String {
    RULES.iter().fold(text.to_owned(), |text, (from, to)| {
        if text.contains(from) { text.replace(from, to) } else { text }
    })
}

/// The longest prefix of `text` that can be cleaned up by itself whatever follows: it ends before
/// a space, and with a character that no rule can join to what comes behind that space.
///
/// Rules only remove spaces, so that the last character stays; behind it come a space, or what a
/// rule leaves of one (`.?!,'n`). A prefix must not end with a space or `'` (they begin rules) nor
/// with `n` (`n'` is in the middle of one).
pub(crate) fn settled_prefix(text: &str) -> &str {
    let cut = text
        .char_indices()
        .rev()
        .filter(|&(_, c)| c == ' ')
        .find(|&(at, _)| at > 0 && !text[..at].ends_with([' ', '\'', 'n']))
        .map_or(0, |(at, _)| at);
    &text[..cut]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_up_applies_the_rules_in_order() {
        // python3: PreTrainedTokenizerBase.clean_up_tokenization(text)
        for (text, clean) in [
            ("a . b ? c ! d , e", "a. b? c! d, e"),
            ("do n't I 'm it 's we 've you 're", "don't I'm it's we've you're"),
            ("a ' b", "a'b"),
            ("a ' .", "a '."),
            ("x  .", "x ."),
            ("n ' t", "n't"),
        ] {
            assert_eq!(clean_up(text), clean, "{text}");
        }
    }

    #[test]
    fn settled_prefix_is_settled_for_every_short_text() {
        // All texts of up to seven characters over the letters that the rules are made of.
        const LETTERS: [char; 7] = [' ', '.', '\'', 'n', 't', 's', 'x'];
        let mut text = String::new();
        let mut checked = 0;
        for mut number in 0..LETTERS.len().pow(7) {
            text.clear();
            for _ in 0..7 {
                text.push(LETTERS[number % LETTERS.len()]);
                number /= LETTERS.len();
            }
            let clean = clean_up(&text);
            for end in 1..text.len() {
                let settled = settled_prefix(&text[..end]);
                let expected = clean_up(settled);
                assert!(clean.starts_with(&expected), "{text:?} {settled:?}");
                checked += usize::from(!settled.is_empty());
            }
        }
        assert!(checked > 400_000);
    }
}
