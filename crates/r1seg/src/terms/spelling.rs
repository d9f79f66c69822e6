//! Spellings that are the same word.

/// Longer texts are not compared with spellings to find what was meant.
const LONGEST_TYPO: usize = 64;

/// Lowercase, with single spaces for whitespace, underscores and hyphens, and without punctuation
/// around it.
pub(crate) fn normalize(text: &str) -> String {
    let is_gap =
        |c: char| c.is_whitespace() || matches!(c, '_' | '-' | '\u{2010}' | '\u{2019}' | '\'');
    let lower = text.to_lowercase();
    let words: Vec<&str> = lower.split(is_gap).filter(|word| !word.is_empty()).collect();
    let is_word = |c: char| c.is_alphanumeric() || ('\u{300}'..='\u{36f}').contains(&c);
    words.join(" ").trim_matches(|c| !is_word(c)).to_string()
}

/// A normalized text without accents, with `oe`, `ae` and `ss` for single letters.
pub(crate) fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            'à' | 'á' | 'â' | 'ã' | 'ä' | 'å' => folded.push('a'),
            'ç' => folded.push('c'),
            'è' | 'é' | 'ê' | 'ë' => folded.push('e'),
            'ì' | 'í' | 'î' | 'ï' => folded.push('i'),
            'ñ' => folded.push('n'),
            'ò' | 'ó' | 'ô' | 'õ' | 'ö' => folded.push('o'),
            'ù' | 'ú' | 'û' | 'ü' => folded.push('u'),
            'œ' => folded.push_str("oe"),
            'æ' => folded.push_str("ae"),
            'ß' => folded.push_str("ss"),
            // Accents that are characters of their own.
            '\u{300}'..='\u{36f}' => {}
            c => folded.push(c),
        }
    }
    folded
}

/// A normalized German text as it is typed without umlauts: `ae` for `ä`.
pub(super) fn umlauts_spelled_out(text: &str) -> String {
    let text = text.replace('ä', "ae").replace('ö', "oe").replace('ü', "ue");
    fold(&text)
}

/// Chinese characters, which Japanese has, too.
pub(super) fn is_han(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}')
}

/// Korean syllables.
pub(super) fn is_hangul(c: char) -> bool {
    ('\u{ac00}'..='\u{d7a3}').contains(&c)
}

/// What the spellings lead to that a typed one is near to, the nearest first. All are [folded](fold).
pub(crate) fn nearest<'a, T: Ord>(
    typed: &str,
    spellings: impl Iterator<Item = (&'a str, T)>,
) -> Vec<T> {
    let typed: Vec<char> = typed.chars().take(LONGEST_TYPO + 1).collect();
    if typed.len() > LONGEST_TYPO {
        return Vec::new();
    }
    let mut found: Vec<(usize, T)> = spellings
        .map(|(spelling, target)| (spelling.chars().collect::<Vec<_>>(), target))
        .filter(|(spelling, _)| spelling.len().abs_diff(typed.len()) * 3 <= spelling.len())
        .map(|(spelling, target)| (distance(&typed, &spelling), spelling.len(), target))
        .filter(|(distance, length, _)| distance * 3 <= *length)
        .map(|(distance, _, target)| (distance, target))
        .collect();
    found.sort_unstable();
    found.into_iter().map(|(_, target)| target).collect()
}

/// Levenshtein's distance. (That of the hub's client is absent from builds without the hub.)
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (y, above) in b.iter().zip(row.iter_mut().skip(1)) {
            let edit = (diagonal + usize::from(x != y)).min(left + 1).min(*above + 1);
            diagonal = std::mem::replace(above, edit);
            left = edit;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_single_edits() {
        let of = |a: &str, b: &str| {
            distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>())
        };
        assert_eq!((of("", "abc"), of("abc", ""), of("abc", "abc")), (3, 3, 0));
        assert_eq!((of("kitten", "sitting"), of("flaw", "lawn")), (3, 2));
    }

    #[test]
    fn spellings_lose_case_gaps_punctuation_and_accents() {
        assert_eq!(normalize(" (Kidney__LEFT)! "), "kidney left");
        assert_eq!(normalize("l'estomac"), "l estomac");
        assert_eq!(fold(&normalize("ŒSOPHAGE")), "oesophage");
        assert_eq!(fold("lebergefäße"), "lebergefasse");
        assert_eq!(umlauts_spelled_out("lebergefäße"), "lebergefaesse");
    }
}
