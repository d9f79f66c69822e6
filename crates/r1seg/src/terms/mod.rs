//! Names of organs: the English terms that the models were trained with, common synonyms,
//! TotalSegmentator's names, and those of a few other languages.
//!
//! The table is `organs.tsv`. Nothing here rewrites a question: a term is looked up where somebody
//! asks for it, or to suggest a question that the model was trained with.

pub(crate) mod spelling;

use std::collections::HashMap;
use std::sync::LazyLock;

use spelling::{fold, is_han, is_hangul, normalize, umlauts_spelled_out};

const TABLE: &str = include_str!("organs.tsv");
/// English, synonyms, German, French, Spanish, Chinese, Japanese, Korean.
const COLUMNS: usize = 8;
const GERMAN: usize = 2;

/// More words than any spelling in the table has.
const LONGEST_IN_WORDS: usize = 6;
/// More characters than any spelling without spaces between its words has.
const LONGEST_IN_CHARS: usize = 12;

/// Words of French that mean something else in English; they count behind an article only.
const FALSE_FRIENDS: [&str; 4] = ["rate", "rein", "reins", "lien"];
/// What stands before a name in the languages of the table.
const ARTICLES: [&str; 14] =
    ["the", "a", "an", "der", "die", "das", "den", "le", "la", "les", "l", "el", "los", "las"];
/// Korean particles that are written behind a name without a space.
const PARTICLES: [char; 11] = ['을', '를', '이', '가', '은', '는', '의', '에', '과', '와', '도'];

/// An organ, a vessel, a bone or a lesion that the models were trained to segment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Term {
    /// The English term of the training data, such as `left kidney`.
    pub english: &'static str,
    /// Other spellings, of all languages.
    pub spellings: Vec<&'static str>,
    /// Those of them that are German.
    german: Vec<&'static str>,
}

/// Where each spelling leads.
struct Index {
    terms: Vec<Term>,
    /// By the normalized spelling.
    exact: HashMap<String, usize>,
    /// By the spelling without accents.
    folded: HashMap<String, usize>,
}

static INDEX: LazyLock<Index> = LazyLock::new(|| {
    let terms: Vec<Term> = rows().filter_map(|columns| term(&columns)).collect();
    let (mut exact, mut folded) = (HashMap::new(), HashMap::new());
    for (index, term) in terms.iter().enumerate() {
        for spelling in [term.english].iter().chain(&term.spellings) {
            let spelling = normalize(spelling);
            folded.entry(fold(&spelling)).or_insert(index);
            exact.entry(spelling).or_insert(index);
        }
        for spelling in &term.german {
            folded.entry(umlauts_spelled_out(&normalize(spelling))).or_insert(index);
        }
    }
    Index { terms, exact, folded }
});

impl Index {
    /// The term of a spelling that is normalized already.
    fn get(&self, spelling: &str) -> Option<&Term> {
        let found = self.exact.get(spelling).or_else(|| self.folded.get(&fold(spelling)));
        found.and_then(|&index| self.terms.get(index))
    }
}

/// The rows of the table, without its comment and its header.
fn rows() -> impl Iterator<Item = Vec<&'static str>> {
    let lines = TABLE.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.skip(1).map(|line| line.split('\t').collect())
}

fn term(columns: &[&'static str]) -> Option<Term> {
    let (english, others) = columns.split_first().filter(|_| columns.len() == COLUMNS)?;
    let spellings = others.iter().flat_map(|column| alternatives(column)).collect();
    Some(Term { english, spellings, german: alternatives(columns[GERMAN]).collect() })
}

fn alternatives(column: &'static str) -> impl Iterator<Item = &'static str> {
    column.split(';').map(str::trim).filter(|spelling| !spelling.is_empty())
}

/// All terms, in the order of the table.
pub fn all() -> &'static [Term] {
    &INDEX.terms
}

/// The term that `text` names: in any of the languages, in any case, with or without accents and an
/// article, or as TotalSegmentator spells it (`kidney_left`).
pub fn lookup(text: &str) -> Option<&'static Term> {
    let text = normalize(text);
    let without_article =
        || text.split_once(' ').filter(|(first, _)| ARTICLES.contains(first)).map(|(_, rest)| rest);
    INDEX.get(&text).or_else(|| INDEX.get(without_article()?))
}

/// The first term that a text contains in whole words; of several that begin there the longest.
pub fn find_in(text: &str) -> Option<&'static Term> {
    let text = normalize(text);
    let words: Vec<&str> = text
        .split(|c: char| !(c.is_alphanumeric() || is_combining(c)))
        .filter(|w| !w.is_empty())
        .collect();
    (0..words.len()).find_map(|start| at_word(&words, start).or_else(|| within_word(words[start])))
}

fn is_combining(c: char) -> bool {
    ('\u{300}'..='\u{36f}').contains(&c)
}

/// The longest term that begins with this word.
fn at_word(words: &[&str], start: usize) -> Option<&'static Term> {
    let before = start.checked_sub(1).and_then(|index| words.get(index));
    let most = LONGEST_IN_WORDS.min(words.len() - start);
    (1..=most).rev().find_map(|count| {
        let spelling = words[start..start + count].join(" ");
        let is_alone = count == words.len();
        let is_led = before.is_some_and(|word| ARTICLES.contains(word));
        if FALSE_FRIENDS.contains(&spelling.as_str()) && !is_alone && !is_led {
            return None;
        }
        INDEX.get(&spelling).or_else(|| INDEX.get(spelling.strip_suffix(PARTICLES)?))
    })
}

/// The first term in a run of Chinese, Japanese or Korean, which has no spaces between its words.
/// Single characters are parts of many words, so they count only where no such character is beside
/// them.
fn within_word(word: &str) -> Option<&'static Term> {
    let chars: Vec<char> = word.chars().collect();
    let is_cjk = |c: &char| is_han(*c) || is_hangul(*c);
    (0..chars.len()).filter(|&start| is_cjk(&chars[start])).find_map(|start| {
        let most = LONGEST_IN_CHARS.min(chars.len() - start);
        (1..=most).rev().find_map(|count| {
            let end = start + count;
            let before = start.checked_sub(1).and_then(|index| chars.get(index));
            if count == 1 && [before, chars.get(end)].into_iter().flatten().any(is_cjk) {
                return None;
            }
            let spelling: String = chars[start..end].iter().collect();
            INDEX.exact.get(&spelling).and_then(|&index| INDEX.terms.get(index))
        })
    })
}

/// English terms that may have been meant by a text that names none, the best first; three at most.
pub fn nearest(text: &str) -> Vec<&'static str> {
    let mut near: Vec<&'static str> = find_in(text).map(|term| term.english).into_iter().collect();
    let spellings = INDEX.folded.iter().map(|(spelling, &index)| (spelling.as_str(), index));
    let meant = spelling::nearest(&fold(&normalize(text)), spellings);
    near.extend(meant.into_iter().filter_map(|index| INDEX.terms.get(index)).map(|t| t.english));
    let mut best: Vec<&'static str> = Vec::new();
    for term in near {
        if best.len() < 3 && !best.contains(&term) {
            best.push(term);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn english(text: &str) -> Option<&'static str> {
        lookup(text).map(|term| term.english)
    }

    fn within(text: &str) -> Option<&'static str> {
        find_in(text).map(|term| term.english)
    }

    #[test]
    fn every_row_has_eight_columns_and_a_word_of_each_language() {
        let count = rows().count();
        assert!(count > 80);
        assert_eq!(all().len(), count);
        for row in rows() {
            assert_eq!(row.len(), COLUMNS, "{row:?}");
            for (index, column) in row.iter().enumerate() {
                // Synonyms may be missing.
                assert!(index == 1 || alternatives(column).count() > 0, "{row:?}");
                assert_eq!(*column, column.trim(), "{row:?}");
                assert!(column.split(';').count() == 1 || !column.contains(";;"), "{row:?}");
            }
        }
    }

    #[test]
    fn no_spelling_leads_to_two_terms() {
        let mut owner: HashMap<String, &str> = HashMap::new();
        for term in all() {
            let own = [term.english].into_iter().chain(term.spellings.iter().copied());
            for spelling in own {
                assert_eq!(english(spelling), Some(term.english), "{spelling}");
                let spelling = normalize(spelling);
                assert!(spelling.split(' ').count() <= LONGEST_IN_WORDS, "{spelling}");
                for spelling in [fold(&spelling), umlauts_spelled_out(&spelling), spelling] {
                    let first = *owner.entry(spelling.clone()).or_insert(term.english);
                    assert_eq!(first, term.english, "`{spelling}`");
                }
            }
        }
    }

    #[test]
    fn a_term_is_found_in_any_case_language_and_spelling() {
        for (text, term) in [
            ("Milz", "spleen"),
            ("MILZ.", "spleen"),
            ("die Leber", "liver"),
            ("la rate", "spleen"),
            ("rate", "spleen"),
            ("higado", "liver"),
            ("pa\u{301}ncreas", "pancreas"),
            ("Pancréas", "pancreas"),
            ("oesophage", "esophagus"),
            ("Duenndarm", "small bowel"),
            ("Lebergefaesse", "hepatic vessel"),
            ("LEBERGEFÄSSE", "hepatic vessel"),
            ("kidney_left", "left kidney"),
            ("portal_vein_and_splenic_vein", "portal vein and splenic vein"),
            ("Niere", "kidney"),
            ("  linke   Niere ", "left kidney"),
            ("肝脏", "liver"),
            ("膵臓", "pancreas"),
            ("췌장", "pancreas"),
            ("왼쪽 신장", "left kidney"),
            ("ilio-psoas gauche", "left iliopsoas"),
        ] {
            assert_eq!(english(text), Some(term), "{text}");
        }
        for text in ["", " ", "spleeen", "heart rate", "the", "liver and spleen"] {
            assert_eq!(english(text), None, "{text}");
        }
    }

    #[test]
    fn the_first_term_of_a_text_is_found_and_of_those_that_begin_there_the_longest() {
        for (text, term) in [
            ("Where is the spleen?", Some("spleen")),
            ("Segment the left kidney, please", Some("left kidney")),
            ("liver near the gallbladder", Some("liver")),
            ("Segment the liver tumour.", Some("liver tumor")), // spellchecker:disable-line
            ("Segment the retroperitoneal pancreas.", Some("pancreas")),
            ("Wo ist die Bauchspeicheldrüse?", Some("pancreas")),
            ("Où est la rate ?", Some("spleen")),
            ("Rate the image quality.", None),
            ("What is the respiratory rate?", None),
            ("请分割胰腺。", Some("pancreas")),
            ("左肾在哪里?", Some("left kidney")),
            ("胃を分割してください", Some("stomach")),
            ("图像中心", None),
            ("췌장을 분할해 주세요", Some("pancreas")),
            ("왼쪽 신장을 분할해 주세요", Some("left kidney")),
            ("위치를 알려 주세요", None),
            ("livers of the delivery", None),
            ("Describe the findings.", None),
        ] {
            assert_eq!(within(text), term, "{text}");
        }
    }

    #[test]
    fn a_slip_of_the_finger_leads_to_the_nearest_terms() {
        assert_eq!(nearest("pancras").first(), Some(&"pancreas"));
        assert_eq!(nearest("spleeen"), ["spleen"]);
        assert_eq!(nearest("liver and spleen").first(), Some(&"liver"));
        assert_eq!(nearest("Leberr").first(), Some(&"liver"));
        assert!(nearest("xylophone").is_empty());
        assert!(nearest("").is_empty());
        assert!(nearest(&"liver".repeat(1000)).is_empty());
    }
}
