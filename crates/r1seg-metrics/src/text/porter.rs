//! The stems of English words by M. F. Porter ("An algorithm for suffix stripping", Program 14, 1980), with
//! the departures of NLTK's stemmer, which METEOR and ROUGE are computed with elsewhere.

/// Words whose stems no rule finds, as NLTK lists them.
const IRREGULAR: [(&str, &str); 12] = [
    ("skies", "sky"),
    ("sky", "sky"),
    ("dying", "die"),
    ("lying", "lie"),
    ("tying", "tie"),
    ("news", "news"),
    ("innings", "inning"),
    ("outings", "outing"),
    ("cannings", "canning"),
    ("howe", "howe"),
    ("proceed", "proceed"),
    ("exceed", "exceed"),
];
/// Those that are their own stems.
const UNCHANGED: [&str; 4] = ["inning", "outing", "canning", "succeed"];

/// Endings of step 2 and what becomes of them where the rest has a measure above 0; the first that fits
/// decides.
const STEP_2: [(&str, &str); 21] = [
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("bli", "ble"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
    ("fulli", "ful"),
];
const STEP_3: [(&str, &str); 7] = [
    ("icate", "ic"),
    ("ative", ""),
    ("alize", "al"),
    ("iciti", "ic"),
    ("ical", "ic"),
    ("ful", ""),
    ("ness", ""),
];
/// Endings of step 4 that fall where the rest has a measure above 1.
const STEP_4: [&str; 19] = [
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou",
    "ism", "ate", "iti", "ous", "ive", "ize",
];

/// The stem of a word, in lower case. Words of one or two letters are their own stems.
pub fn stem(word: &str) -> String {
    let word = word.to_lowercase();
    if let Some((_, stem)) = IRREGULAR.iter().find(|(irregular, _)| *irregular == word) {
        return (*stem).to_owned();
    }
    let chars: Vec<char> = word.chars().collect();
    if chars.len() <= 2 || UNCHANGED.contains(&word.as_str()) {
        return word;
    }
    let steps: [fn(Vec<char>) -> Vec<char>; 8] =
        [plural, past, final_y, step_2, step_3, step_4, final_e, double_l];
    steps.into_iter().fold(chars, |word, step| step(word)).into_iter().collect()
}

/// The word without an ending, if it has that.
fn without<'a>(word: &'a [char], ending: &str) -> Option<&'a [char]> {
    let length = ending.chars().count();
    let at = word.len().checked_sub(length)?;
    word[at..].iter().copied().eq(ending.chars()).then(|| &word[..at])
}

fn with(rest: &[char], ending: &str) -> Vec<char> {
    rest.iter().copied().chain(ending.chars()).collect()
}

/// Whether each letter is a consonant: none of a, e, i, o and u, nor a y behind a consonant.
fn consonants(word: &[char]) -> Vec<bool> {
    let mut flags: Vec<bool> = Vec::with_capacity(word.len());
    for letter in word {
        flags.push(match letter {
            'a' | 'e' | 'i' | 'o' | 'u' => false,
            'y' => !flags.last().copied().unwrap_or(false),
            _ => true,
        });
    }
    flags
}

/// Porter's m: how often a vowel is followed by a consonant.
fn measure(word: &[char]) -> usize {
    consonants(word).windows(2).filter(|pair| !pair[0] && pair[1]).count()
}

fn has_vowel(word: &[char]) -> bool {
    consonants(word).contains(&false)
}

fn ends_in_double_consonant(word: &[char]) -> bool {
    match word {
        [.., a, b] => a == b && consonants(word).last() == Some(&true),
        _ => false,
    }
}

/// Whether it ends in consonant, vowel, consonant, of which the last is not w, x or y; or is a vowel and a
/// consonant.
fn ends_short(word: &[char]) -> bool {
    let is_one_of_wxy = matches!(word.last(), Some('w' | 'x' | 'y'));
    match consonants(word).as_slice() {
        [false, true] => true,
        [.., true, false, true] => !is_one_of_wxy,
        _ => false,
    }
}

fn plural(word: Vec<char>) -> Vec<char> {
    if let Some(rest) = without(&word, "ies") {
        return with(rest, if word.len() == 4 { "ie" } else { "i" });
    }
    if let Some(rest) = without(&word, "sses") {
        return with(rest, "ss");
    }
    match without(&word, "s") {
        Some(rest) if without(&word, "ss").is_none() => rest.to_vec(),
        _ => word,
    }
}

fn past(word: Vec<char>) -> Vec<char> {
    if let Some(rest) = without(&word, "ied") {
        return with(rest, if word.len() == 4 { "ie" } else { "i" });
    }
    if let Some(rest) = without(&word, "eed") {
        return if measure(rest) > 0 { with(rest, "ee") } else { word };
    }
    let ending = ["ed", "ing"].into_iter().filter_map(|ending| without(&word, ending));
    let Some(rest) = ending.into_iter().find(|rest| has_vowel(rest)) else { return word };
    for ending in ["at", "bl", "iz"] {
        if without(rest, ending).is_some() {
            return with(rest, "e");
        }
    }
    match rest {
        [shorter @ .., last] if ends_in_double_consonant(rest) => {
            if matches!(last, 'l' | 's' | 'z') { rest.to_vec() } else { shorter.to_vec() }
        }
        _ if measure(rest) == 1 && ends_short(rest) => with(rest, "e"),
        _ => rest.to_vec(),
    }
}

fn final_y(word: Vec<char>) -> Vec<char> {
    match without(&word, "y") {
        Some(rest) if rest.len() > 1 && consonants(rest).last() == Some(&true) => with(rest, "i"),
        _ => word,
    }
}

fn step_2(word: Vec<char>) -> Vec<char> {
    if let Some(rest) = without(&word, "alli").filter(|rest| measure(rest) > 0) {
        return step_2(with(rest, "al"));
    }
    for (ending, replaced) in STEP_2 {
        if let Some(rest) = without(&word, ending) {
            return if measure(rest) > 0 { with(rest, replaced) } else { word };
        }
    }
    match without(&word, "logi") {
        // The l counts as a part of the rest.
        Some(_) if measure(&word[..word.len() - 3]) > 0 => word[..word.len() - 1].to_vec(),
        _ => word,
    }
}

fn step_3(word: Vec<char>) -> Vec<char> {
    for (ending, replaced) in STEP_3 {
        if let Some(rest) = without(&word, ending) {
            return if measure(rest) > 0 { with(rest, replaced) } else { word };
        }
    }
    word
}

fn step_4(word: Vec<char>) -> Vec<char> {
    for ending in STEP_4 {
        if let Some(rest) = without(&word, ending) {
            let is_allowed = ending != "ion" || matches!(rest.last(), Some('s' | 't'));
            return if measure(rest) > 1 && is_allowed { rest.to_vec() } else { word };
        }
    }
    word
}

fn final_e(word: Vec<char>) -> Vec<char> {
    match without(&word, "e") {
        Some(rest) if measure(rest) > 1 || measure(rest) == 1 && !ends_short(rest) => rest.to_vec(),
        _ => word,
    }
}

fn double_l(word: Vec<char>) -> Vec<char> {
    match word.as_slice() {
        [rest @ .., 'l', 'l'] if measure(&word[..=rest.len()]) > 1 => word[..=rest.len()].to_vec(),
        _ => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_paper_have_its_stems() {
        for (word, expected) in [
            ("caresses", "caress"),
            ("ponies", "poni"),
            ("cats", "cat"),
            ("feed", "feed"),
            ("agreed", "agre"),
            ("plastered", "plaster"),
            ("bled", "bled"),
            ("motoring", "motor"),
            ("sing", "sing"),
            ("troubled", "troubl"),
            ("hopping", "hop"),
            ("falling", "fall"),
            ("filing", "file"),
            ("happy", "happi"),
            ("relational", "relat"),
            ("generalizations", "gener"),
            ("adoption", "adopt"),
            ("probate", "probat"),
            ("rate", "rate"),
            ("controll", "control"),
            ("roll", "roll"),
            ("A", "a"),
            ("Dying", "die"),
            ("yyyy", "yyyi"),
        ] {
            assert_eq!(stem(word), expected, "{word}");
        }
    }
}
