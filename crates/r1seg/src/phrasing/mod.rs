//! Questions as the models were trained on them, and which of them to try when an answer is missing.
//!
//! The models answer in the wording of their training: a bare "pancreas" ends M3D-LaMed's answer at
//! once, where "Can you segment the pancreas in this image?" gets a mask. Nothing here rewrites a
//! question.

mod question;

pub use question::{Intent, asks_for_mask, intent, subject};

use crate::registry::Family;

/// What a question is to bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Aim {
    /// The mask of something that is named.
    Segment,
    /// The name and the mask of something that is described.
    Reason,
    /// The box of something that is named.
    Locate,
    /// What is in a box.
    Region,
    /// A report of the whole image.
    Describe,
    /// An answer in words.
    Ask,
    /// The text of a model that takes no questions.
    Text,
}

impl Aim {
    /// In a word or two.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Segment => "segment",
            Self::Reason => "reasoning",
            Self::Locate => "find with box",
            Self::Region => "region",
            Self::Describe => "describe",
            Self::Ask => "question",
            Self::Text => "text",
        }
    }
}

/// A question with a place for what it is about: `{organ}`, `{description}` or `{box}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Phrasing {
    /// What it is to bring.
    pub aim: Aim,
    /// The words.
    pub template: &'static str,
    /// What the model's authors use it for.
    pub used_in: &'static str,
}

impl Phrasing {
    /// The question about an organ.
    pub fn about(&self, organ: &str) -> String {
        self.template.replace("{organ}", organ)
    }
}

const BOTH: &str = "training and evaluation";
const TRAINING: &str = "training";

const fn phrasing(aim: Aim, used_in: &'static str, template: &'static str) -> Phrasing {
    Phrasing { aim, template, used_in }
}

pub(crate) const R1SEG_3D: &[Phrasing] = &[
    phrasing(Aim::Segment, BOTH, "Can you segment the {organ} in this image?"),
    phrasing(Aim::Segment, BOTH, "Please segment the {organ} in this image."),
    phrasing(Aim::Segment, BOTH, "What is {organ} in this image? Please output segmentation mask."),
    phrasing(Aim::Reason, BOTH, "{description} Please answer and segment."),
    phrasing(
        Aim::Reason,
        BOTH,
        "Description: {description} Please answer and segment based on the above description.",
    ),
    phrasing(Aim::Describe, TRAINING, "What abnormalities are present in this medical image?"),
    phrasing(Aim::Ask, TRAINING, "Is the {organ} visible in the input radiograph?"),
];

pub(crate) const M3D_LAMED: &[Phrasing] = &[
    phrasing(Aim::Segment, BOTH, "Can you segment the {organ} in this image?"),
    phrasing(Aim::Segment, BOTH, "Please segment the {organ} in this image."),
    phrasing(Aim::Segment, BOTH, "What is {organ} in this image? Please output segmentation mask."),
    phrasing(Aim::Reason, BOTH, "{description} Please answer and segment."),
    phrasing(
        Aim::Reason,
        BOTH,
        "Description: {description} Please answer and segment based on the above description.",
    ),
    phrasing(Aim::Locate, BOTH, "Where is {organ} in this image? Please output the box."),
    phrasing(Aim::Locate, BOTH, "Can you find the {organ} in this image? Give coordinates."),
    phrasing(Aim::Region, BOTH, "What's in the region {box}?"),
    phrasing(Aim::Describe, BOTH, "Please generate a medical report based on this image."),
    phrasing(Aim::Describe, BOTH, "Describe the findings of the medical image you see."),
    phrasing(Aim::Ask, BOTH, "Which organ is enlarged?"),
];

pub(crate) const R1SEG_3D_SAM: &[Phrasing] =
    &[phrasing(Aim::Text, BOTH, "A computerized tomography of a {organ}.")];

pub(crate) const SEGVOL: &[Phrasing] = &[phrasing(Aim::Text, BOTH, "{organ}")];

pub(crate) const M3D_CLIP: &[Phrasing] = &[phrasing(Aim::Text, BOTH, "{description}")];

pub(crate) const HSENET: &[Phrasing] = &[
    phrasing(Aim::Describe, BOTH, "Can you summarize with findings the images presented?"),
    phrasing(Aim::Ask, BOTH, "Where is the {description} located in the image?"),
    phrasing(Aim::Ask, BOTH, "What is the precise location of the {description} in the image?"),
    phrasing(Aim::Ask, BOTH, "Where exactly within the image does the {description} present?"),
];

/// The phrasings of a model, the best of each aim first.
pub fn of(family: Family) -> &'static [Phrasing] {
    family.entry().phrasings
}

/// The sentence with which a model is asked for the mask of an organ; the bare name where it has none.
pub fn sentence(family: Family, organ: &str) -> String {
    let mut phrasings = of(family).iter();
    let of_mask = phrasings.find(|p| matches!(p.aim, Aim::Segment | Aim::Text));
    of_mask.map_or_else(|| organ.to_string(), |phrasing| phrasing.about(organ))
}

/// What to try in place of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Suggestion {
    /// Questions that the model was trained with, one at least.
    pub questions: Vec<String>,
    /// Whether they are about another thing, since the question does not name its subject.
    pub is_example: bool,
}

/// Questions that a model with a language model was trained with and that are closest to `question`;
/// `None` for other models.
pub fn suggest(family: Family, question: &str) -> Option<Suggestion> {
    let subject = subject(question);
    let description = question::description(question);
    let (aims, is_example): (&[Aim], bool) = match intent(question) {
        Intent::Mask if subject.is_none() && description.is_some() => (&[Aim::Reason], false),
        Intent::Mask => (&[Aim::Segment], subject.is_none()),
        Intent::Place => (&[Aim::Segment, Aim::Locate], subject.is_none()),
        Intent::Other if subject.is_some() => (&[Aim::Segment], false),
        Intent::Description | Intent::Other => (&[Aim::Describe], false),
    };
    let organ = subject.as_deref().unwrap_or("liver");
    let fill = |phrasing: &Phrasing| {
        let text = phrasing.about(organ);
        text.replace("{description}", description.as_deref().unwrap_or_default())
    };
    let first_other = |aim: &Aim| {
        let mut own = of(family).iter().filter(|phrasing| phrasing.aim == *aim).map(fill);
        own.find(|text| !question::is_same(text, question))
    };
    let questions: Vec<String> = aims.iter().filter_map(first_other).collect();
    (!questions.is_empty()).then_some(Suggestion { questions, is_example })
}

/// Whether a question is one that the model was trained with, about any organ.
pub fn is_trained(family: Family, question: &str) -> bool {
    let Some(subject) = subject(question) else { return false };
    of(family).iter().any(|phrasing| question::is_same(&phrasing.about(&subject), question))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PromptKind;
    use crate::registry::MODELS;

    fn suggestions(family: Family, question: &str) -> Vec<String> {
        suggest(family, question).map(|found| found.questions).unwrap_or_default()
    }

    #[test]
    fn a_suggestion_is_about_what_the_question_is_about() {
        let masked = "Can you segment the spleen in this image?";
        for question in ["spleen", "Milz", "segment spleen", "Segment the spleen.", "脾脏"] {
            assert_eq!(suggestions(Family::R1Seg3d, question), [masked], "{question}");
        }
        assert_eq!(suggestions(Family::R1Seg3d, "Where is the spleen?"), [masked]);
        let boxed = "Where is spleen in this image? Please output the box.";
        assert_eq!(suggestions(Family::M3dLamed, "Where is the spleen?"), [masked, boxed]);
        assert_eq!(
            suggestions(Family::M3dLamed, "Segment the appendix"),
            ["Can you segment the appendix in this image?"]
        );
        assert_eq!(
            suggestions(Family::R1Seg3d, "Which organ makes bile? Segment it."),
            ["Which organ makes bile? Please answer and segment."]
        );
        assert_eq!(
            suggestions(Family::M3dLamed, "Write a report."),
            ["Please generate a medical report based on this image."]
        );
    }

    #[test]
    fn prompts_that_m3d_lamed_gave_no_mask_lead_to_one_that_it_was_trained_with() {
        for question in [
            "pancreas",
            "segment pancreas",
            "identify pancreas",
            "isolate pancreas",
            "extract pancreatic tissue",
            "[TASK] segmentation\n[ORGAN] pancreas",
            "task: segmentation\norgan: pancreas\noutput: mask",
            "ORGAN=pancreas\nTASK=segmentation",
            "Where is the pancreas?",
            "췌장을 분할해 주세요.",
        ] {
            let found = suggestions(Family::M3dLamed, question);
            assert_eq!(
                found.first().map(String::as_str),
                Some("Can you segment the pancreas in this image?"),
                "{question}"
            );
            assert!(question.starts_with("Where") || asks_for_mask(question), "{question}");
        }
    }

    #[test]
    fn the_question_itself_is_not_suggested() {
        let asked = "can you segment the spleen in this image";
        assert_eq!(
            suggestions(Family::R1Seg3d, asked),
            ["Please segment the spleen in this image."]
        );
        assert!(is_trained(Family::R1Seg3d, asked));
        assert!(!is_trained(Family::R1Seg3d, "segment spleen"));
    }

    #[test]
    fn what_is_about_nothing_gets_an_example() {
        let found = suggest(Family::R1Seg3d, "Segment it.").unwrap();
        assert_eq!(found.questions, ["Can you segment the liver in this image?"]);
        assert!(found.is_example);
        assert!(!suggest(Family::R1Seg3d, "spleen").unwrap().is_example);
    }

    #[test]
    fn every_model_has_phrasings_of_known_places() {
        for entry in MODELS {
            let own = of(entry.family);
            let prompts = entry.capabilities.prompts;
            let takes_words =
                prompts.contains(&PromptKind::Question) || prompts.contains(&PromptKind::Text);
            // Names of classes are no sentences.
            let takes_words = takes_words && !entry.has_classes();
            assert_eq!(!own.is_empty(), takes_words, "{}", entry.name);
            for phrasing in own {
                let left = phrasing.template.replace("{organ}", "").replace("{description}", "");
                let left = left.replace(crate::BOX_PLACEHOLDER, "");
                assert!(!left.contains(['{', '}']), "{}", phrasing.template);
            }
            for task in entry.tasks.iter().filter(|task| task.name == "segmentation") {
                let sentence = sentence(entry.family, "liver");
                assert_eq!(task.example.text, Some(&*sentence), "{}", entry.name);
            }
        }
        assert_eq!(sentence(Family::SegVol, "liver"), "liver");
        assert_eq!(sentence(Family::R1Seg3dSam, "liver"), "A computerized tomography of a liver.");
    }

    #[test]
    fn the_demonstration_model_was_taught_the_sentence() {
        for organ in r1seg_phantom::Organ::ALL {
            assert!(organ.questions().contains(&sentence(Family::R1Seg3d, organ.name())));
        }
    }
}
