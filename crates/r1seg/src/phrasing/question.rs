//! What a question asks for, as far as its words tell.

use crate::terms;

/// What a question is to bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Intent {
    /// A mask: it says so, or is a bare name.
    Mask,
    /// Where something is.
    Place,
    /// A caption or a report.
    Description,
    /// Anything else.
    Other,
}

/// Words that ask for a mask wherever they are.
const MASK_WORDS: [&str; 19] = [
    "segmentation",
    "segmentations",
    "segmented",
    "segmenting",
    "mask",
    "masks",
    "segmentierung",
    "segmentiere",
    "segmentieren",
    "maske",
    "segmenter",
    "segmentez",
    "segmente",
    "masque",
    "segmentar",
    "segmenta",
    "segmentación",
    "máscara",
    "delineate",
];
/// The same in languages without spaces between words.
const MASK_PARTS: [&str; 9] =
    ["分割", "掩码", "掩膜", "遮罩", "マスク", "セグメン", "분할", "마스크", "세그멘"];
/// Verbs that are nouns as well: a liver has segments, and a kidney has a contour.
const VERBS: [&str; 3] = ["segment", "outline", "contour"];
/// What stands before a verb, and not before a noun.
const BEFORE_VERBS: [&str; 14] = [
    "please", "you", "to", "and", "then", "kindly", "just", "now", "me", "us", "s", "also", "or",
    "help",
];
/// What stands before a noun, and not before a verb.
const BEFORE_NOUNS: [&str; 10] =
    ["which", "what", "the", "a", "this", "that", "each", "every", "one", "of"];
const BEHIND_VERBS: [&str; 7] = ["the", "all", "both", "any", "it", "them", "every"];
const NEGATIONS: [&str; 5] = ["no", "not", "without", "don", "never"];

const BOX_WORDS: [&str; 5] = ["box", "boxes", "bounding", "coordinates", "coordinate"];
const PLACE_WORDS: [&str; 9] =
    ["where", "locate", "location", "find", "wo", "où", "dónde", "donde", "localize"];
const PLACE_PARTS: [&str; 5] = ["哪里", "在哪", "どこ", "어디", "위치"];

const DESCRIPTION_WORDS: [&str; 24] = [
    "describe",
    "description",
    "caption",
    "report",
    "findings",
    "finding",
    "impression",
    "summary",
    "summarize",
    "diagnosis",
    "diagnose",
    "abnormality",
    "abnormalities",
    "abnormal",
    "anomalies",
    "beschreibe",
    "befund",
    "beschreiben",
    "décris",
    "décrivez",
    "rapport",
    "describa",
    "informe",
    "hallazgos",
];

/// Words that no bare name has.
const NO_NAME: [&str; 34] = [
    "what", "which", "who", "how", "why", "when", "is", "are", "was", "does", "do", "did", "can",
    "could", "would", "should", "will", "please", "explain", "tell", "hello", "hi", "test", "yes",
    "no", "help", "list", "count", "compare", "measure", "normal", "healthy", "image", "scan",
];
/// Words behind which a question names what it is about.
const NAMING: [&str; 9] = [
    "segment",
    "outline",
    "contour",
    "delineate",
    "identify",
    "isolate",
    "extract",
    "locate",
    "find",
];
/// Words of a name's surroundings: before it ..
const BEFORE_NAMES: [&str; 9] = ["the", "a", "an", "all", "any", "out", "both", "every", "each"];
/// .. and behind it.
const BEHIND_NAMES: [&str; 26] = [
    "in",
    "from",
    "on",
    "at",
    "and",
    "or",
    "with",
    "please",
    "based",
    "here",
    "for",
    "it",
    "them",
    "this",
    "that",
    "accordingly",
    "according",
    "is",
    "are",
    "as",
    "near",
    "by",
    "of",
    "to",
    "now",
    "everything",
];
/// The longest bare name, in words and in characters.
const LONGEST_NAME: (usize, usize) = (4, 40);

/// What a question asks for.
pub fn intent(question: &str) -> Intent {
    let words = words(question);
    let has = |list: &[&str]| words.iter().any(|word| list.contains(&word.as_str()));
    let contains = |parts: &[&str]| parts.iter().any(|part| question.contains(part));
    let is_description = has(&DESCRIPTION_WORDS);
    let has_box = has(&BOX_WORDS);
    if asks_by_word(&words, is_description || has_box) || contains(&MASK_PARTS) {
        Intent::Mask
    } else if has_box || has(&PLACE_WORDS) || contains(&PLACE_PARTS) {
        Intent::Place
    } else if is_description {
        Intent::Description
    } else if bare_name(question, &words).is_some() {
        Intent::Mask
    } else {
        Intent::Other
    }
}

/// Whether a question asks for a mask: by a word such as "segment", or as a bare name.
pub fn asks_for_mask(question: &str) -> bool {
    intent(question) == Intent::Mask
}

/// What a question is about: the English term of an organ in it, where it asks for a mask before
/// anywhere else, what a word such as "segment" stands before, or a bare name itself.
pub fn subject(question: &str) -> Option<String> {
    let mut clauses = question.split(['.', '?', '!', ';', ':', ',']);
    let asking = clauses.clone().filter(|clause| asks_by_word(&words(clause), false));
    let mut texts = asking.chain([question]);
    if let Some(term) = texts.find_map(terms::find_in) {
        return Some(term.english.to_string());
    }
    clauses.find_map(|clause| named(&words(clause))).or_else(|| {
        let words = words(question);
        let is_verb =
            |word: &String| NAMING.contains(&word.as_str()) || MASK_WORDS.contains(&word.as_str());
        bare_name(question, &words).filter(|_| !words.iter().any(is_verb))
    })
}

/// The sentences of a question that do not ask for a mask, if they say anything.
pub(super) fn description(question: &str) -> Option<String> {
    let sentences = question.split_inclusive(['.', '?', '!']).map(str::trim);
    let told: Vec<&str> =
        sentences.filter(|s| words(s).len() > 1 && !asks_by_word(&words(s), false)).collect();
    let told: Vec<&str> = told.iter().flat_map(|sentence| sentence.split_whitespace()).collect();
    (!told.is_empty()).then(|| told.join(" "))
}

/// Whether two questions have the same words.
pub(super) fn is_same(a: &str, b: &str) -> bool {
    words(a) == words(b)
}

fn words(text: &str) -> Vec<String> {
    let words =
        text.split(|c: char| !(c.is_alphanumeric() || ('\u{300}'..='\u{36f}').contains(&c)));
    words.filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

/// `is_other` says that it asks for a box or a description, too, which may have outlines and contours.
fn asks_by_word(words: &[String], is_other: bool) -> bool {
    let is_in =
        |list: &[&str], word: Option<&String>| word.is_some_and(|w| list.contains(&w.as_str()));
    words.iter().enumerate().any(|(index, word)| {
        let negated = &words[index.saturating_sub(3)..index];
        if negated.iter().any(|word| is_in(&NEGATIONS, Some(word))) {
            return false;
        }
        if is_in(&MASK_WORDS, Some(word)) {
            return true;
        }
        if !is_in(&VERBS, Some(word)) || (is_other && word != "segment") {
            return false;
        }
        let before = index.checked_sub(1).and_then(|index| words.get(index));
        let leads = before.is_none_or(|word| word.ends_with("ly")) || is_in(&BEFORE_VERBS, before);
        leads || (is_in(&BEHIND_VERBS, words.get(index + 1)) && !is_in(&BEFORE_NOUNS, before))
    })
}

/// A text that is nothing but a name.
fn bare_name(text: &str, words: &[String]) -> Option<String> {
    let text = text.trim().trim_end_matches(['.', '。']).replace('_', " ");
    let is_plain = |c: char| {
        c.is_alphanumeric() || c == ' ' || c == '-' || ('\u{300}'..='\u{36f}').contains(&c)
    };
    let (most_words, most_chars) = LONGEST_NAME;
    let is_name = (1..=most_words).contains(&words.len())
        && text.chars().count() <= most_chars
        && text.chars().all(is_plain)
        && text.chars().any(char::is_alphabetic)
        && !words.iter().any(|word| {
            NO_NAME.contains(&word.as_str()) || DESCRIPTION_WORDS.contains(&word.as_str())
        });
    is_name.then_some(text)
}

/// The name behind a verb, in the words of one clause.
fn named(words: &[String]) -> Option<String> {
    let is_in = |list: &[&str], word: &str| list.contains(&word);
    let behind = |verb: usize| {
        let name: Vec<&str> = words[verb + 1..]
            .iter()
            .map(String::as_str)
            .skip_while(|word| is_in(&BEFORE_NAMES, word))
            .take_while(|word| !is_in(&BEHIND_NAMES, word) && !is_in(&NAMING, word))
            .collect();
        (1..=LONGEST_NAME.0).contains(&name.len()).then(|| name.join(" "))
    };
    (0..words.len()).filter(|&index| is_in(&NAMING, &words[index])).find_map(behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_for_a_mask_are_told_by_their_words() {
        for question in [
            "Can you segment the liver in this image?",
            "Segment the pancreas near the spleen.",
            "segment pancreas",
            "I need the spleen segmented from this image.",
            "Which organ makes bile? Please answer and segment.",
            "What is liver in this image? Please output the segmentation mask.",
            "Now, carefully outline the aorta.",
            "Please contour both kidneys.",
            "Delineate the left lung.",
            "task: segmentation target: pancreas",
            "Where is the spleen? Segment it.",
            "Let's segment the heart.",
            "Segmentiere die Leber.",
            "Segmenta el hígado, por favor.",
            "请分割胰腺。",
            "췌장을 분할해 주세요.",
            "膵臓をセグメンテーションしてください",
            "pancreas",
            "Pancreas.",
            "kidney_left",
            "identify pancreas",
            "extract pancreatic tissue",
            "appendix",
            "肝脏",
            "Describe the liver and segment it.",
        ] {
            assert!(asks_for_mask(question), "{question}");
        }
    }

    #[test]
    fn questions_for_words_do_not_ask_for_a_mask() {
        for question in [
            "Please generate a medical report based on this image.",
            "Can you provide a caption consists of findings for this medical image?",
            "Describe the findings of the medical image you see.",
            "Describe the contour of the left kidney.",
            "Is the outline of the liver smooth?",
            "Outline the findings.",
            "Please provide a detailed caption outlining the findings of this image.",
            "Please outline the liver with a bounding box in this image.",
            "Which segment of the liver is affected?",
            "Which liver segment contains the lesion?",
            "Is there a lesion in segment IV?",
            "How many bowel segments are dilated?",
            "Describe the segment the lesion lies in.",
            "What abnormalities are present in this medical image?",
            "Is the liver enlarged?",
            "Which organ is enlarged?",
            "Where is the spleen?",
            "Where is liver in this image? Please output the box.",
            "What's in the region {box}?",
            "Describe the liver without a mask.",
            "Do not segment anything; what do you see?",
            "What do you see?",
            "findings",
            "Is there segmental atelectasis?",
        ] {
            assert!(!asks_for_mask(question), "{question}");
        }
    }

    #[test]
    fn places_and_descriptions_are_told_apart() {
        assert_eq!(intent("Where is the spleen?"), Intent::Place);
        assert_eq!(intent("脾脏在哪里?"), Intent::Place);
        assert_eq!(intent("Find the liver and give its bounding box."), Intent::Place);
        assert_eq!(intent("Write a report."), Intent::Description);
        assert_eq!(intent("Is the liver enlarged?"), Intent::Other);
    }

    #[test]
    fn the_subject_is_a_term_or_what_is_named() {
        for (question, expected) in [
            ("Where is the spleen?", Some("spleen")),
            ("Where is the spleen? Segment it.", Some("spleen")),
            ("Find the stomach. Segment the pancreas behind it.", Some("pancreas")),
            ("Milz", Some("spleen")),
            ("appendix", Some("appendix")),
            ("left_ureter.", Some("left ureter")),
            ("Please segment the appendix in this image.", Some("appendix")),
            ("Identify and segment all lymph nodes, please.", Some("lymph nodes")),
            ("Please segment it.", None),
            ("Which organ makes bile? Please answer and segment based on this.", None),
            ("What do you see?", None),
            ("segment $(reboot) \"x\"", Some("reboot x")),
        ] {
            assert_eq!(subject(question).as_deref(), expected, "{question}");
        }
    }
}
