//! Texts as words.

/// The tokens of BLEU's tokenizer 13a (`mteval-v13a`), which splits off most punctuation and keeps case.
///
/// ```
/// use r1seg_metrics::text::tokens_13a;
///
/// let tokens = tokens_13a("A 3.5-cm cyst (liver), likely benign.");
/// assert_eq!(tokens, ["A", "3.5", "-", "cm", "cyst", "(", "liver", ")", ",", "likely", "benign", "."]);
/// ```
pub fn tokens_13a(text: &str) -> Vec<String> {
    let text = text.replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    let text = text
        .replace("&quot;", "\"")
        .replace("&amp;", "&")
        .replace("&lt;", "<")
        .replace("&gt;", ">");
    let text = format!(" {text} ");
    // In this order, each over the whole text, as the rules of mteval stand.
    let text = spaced(&text);
    let text =
        pairs(&text, |a, b| (!a.is_ascii_digit() && is_stop(b)).then(|| format!("{a} {b} ")));
    let text =
        pairs(&text, |a, b| (is_stop(a) && !b.is_ascii_digit()).then(|| format!(" {a} {b}")));
    let text = pairs(&text, |a, b| (a.is_ascii_digit() && b == '-').then(|| format!("{a} {b} ")));
    text.split_whitespace().map(str::to_owned).collect()
}

/// Spaces around each symbol but apostrophe, comma, hyphen and period.
fn spaced(text: &str) -> String {
    let mut out = String::with_capacity(2 * text.len());
    for c in text.chars() {
        let is_symbol =
            matches!(c, '{'..='~' | '['..='`' | ' '..='&' | '('..='+' | ':'..='@' | '/');
        match is_symbol {
            true => out.extend([' ', c, ' ']),
            false => out.push(c),
        }
    }
    out
}

fn is_stop(c: char) -> bool {
    matches!(c, '.' | ',')
}

/// Replaces pairs of characters from left to right; a pair that is replaced is passed over as a whole.
fn pairs(text: &str, replaced: impl Fn(char, char) -> Option<String>) -> String {
    let mut out = String::with_capacity(2 * text.len());
    let mut chars = text.chars().peekable();
    while let Some(a) = chars.next() {
        match chars.peek().and_then(|b| replaced(a, *b)) {
            Some(pair) => {
                out.push_str(&pair);
                chars.next();
            }
            None => out.push(a),
        }
    }
    out
}

/// The words of `rouge_score`: runs of a..z and 0..9 in lower case.
pub fn words(text: &str) -> Vec<String> {
    let text = text.to_lowercase();
    let is_inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.split(|c| !is_inside(c)).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_line_ends_and_skipped_parts_are_replaced_first() {
        assert_eq!(tokens_13a("a&lt;b &amp; c"), ["a", "<", "b", "&", "c"]);
        assert_eq!(tokens_13a("calci-\nfication\nleft <skipped>"), ["calcification", "left"]);
        assert!(tokens_13a(" \n ").is_empty());
    }

    #[test]
    fn periods_and_commas_between_digits_stay() {
        assert_eq!(tokens_13a("1,000.5 mm. x.y"), ["1,000.5", "mm", ".", "x", ".", "y"]);
        assert_eq!(tokens_13a("don't T2-weighted"), ["don't", "T2", "-", "weighted"]);
    }

    #[test]
    fn words_are_letters_and_digits_in_lower_case() {
        assert_eq!(words("The L4/5 disc: 3.2 cm!"), ["the", "l4", "5", "disc", "3", "2", "cm"]);
        assert_eq!(words("Ödem"), ["dem"]);
    }
}
