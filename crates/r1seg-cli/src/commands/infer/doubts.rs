//! What a person should know about an answer, and what to ask instead.

use r1seg::registry::Family;
use r1seg::volume::Warning;
use r1seg::{Answer, FinishReason, MaskStatus, phrasing};
use r1seg_results::report::Answered;

/// Whether an answer has a `[SEG]` that stands too early to be used.
pub(super) fn begins_with_seg(answer: &Answer) -> bool {
    answer.text.trim_start().starts_with("[SEG]")
}

/// Doubts about an answer, by its number from 0 where there are several.
pub(super) fn doubts(family: Family, answered: &Answered, index: Option<usize>) -> Vec<Warning> {
    let Answered { question: prompt, answer, status } = answered;
    let status = *status;
    let which = index.map(|index| format!("prompt {}: ", index + 1)).unwrap_or_default();
    let warning = |code, text: &str| Warning::new(code, format!("{which}{text}"));
    let with_fix = |warning: Warning, fix: Option<String>| match fix {
        Some(fix) => warning.with_remedy(fix),
        None => warning,
    };
    let mut doubts = Vec::new();
    if status == MaskStatus::Empty {
        let text = "the answer has [SEG], but no voxel of its mask is positive";
        doubts.push(warning("W-EMPTY", text));
    }
    let is_cut = answer.finish_reason == FinishReason::Length;
    if is_cut {
        let text = "the answer was cut at its longest length";
        let instead = (status == MaskStatus::NotFound).then(|| instead(family, prompt)).flatten();
        let instead = instead.map(|instead| format!(", or {instead}")).unwrap_or_default();
        let fix = format!("raise --max-new-tokens{instead}");
        doubts.push(warning("W-LENGTH", text).with_remedy(fix));
    }
    if status != MaskStatus::NotFound || is_cut {
        return doubts;
    }
    if answer.text.trim().is_empty() {
        let text = "the answer is empty: the model ended it at once";
        doubts.push(with_fix(warning("W-NOANSWER", text), instead(family, prompt)));
    } else if phrasing::asks_for_mask(prompt) {
        doubts.push(if begins_with_seg(answer) {
            let text = "the answer begins with [SEG], which the authors' code ignores";
            warning("W-NOSEG", text).with_remedy("--first-seg makes a mask of it")
        } else {
            let text = "the question asks for a mask, and the answer has no [SEG]";
            with_fix(warning("W-NOSEG", text), instead(family, prompt))
        });
    }
    doubts
}

/// A question that the model was trained with, to paste into the shell.
fn instead(family: Family, prompt: &str) -> Option<String> {
    let suggestion = phrasing::suggest(family, prompt)?;
    let options: Vec<String> =
        suggestion.questions.iter().map(|question| format!("-p {}", quoted(question))).collect();
    let options = options.join(" or ");
    Some(if suggestion.is_example {
        format!("ask as the model was trained, for example {options}")
    } else if phrasing::is_trained(family, prompt) {
        format!("try {options}; the model may also see none")
    } else {
        format!("try {options}")
    })
}

/// As a shell reads it as one argument.
fn quoted(text: &str) -> String {
    let is_special = |c: char| matches!(c, '"' | '$' | '`' | '\\' | '!');
    match text.contains(is_special) {
        true => format!("'{}'", text.replace('\'', r"'\''")),
        false => format!("\"{text}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suggestion_survives_the_shell() {
        assert_eq!(quoted("What's in it?"), "\"What's in it?\"");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
    }

    #[test]
    fn a_trained_question_without_a_mask_may_be_about_something_absent() {
        let text = instead(Family::M3dLamed, "Can you segment the pancreas in this image?");
        assert_eq!(
            text.as_deref(),
            Some(
                "try -p \"Please segment the pancreas in this image.\"; the model may also see none"
            )
        );
        let text = instead(Family::M3dLamed, "Segment it.").unwrap();
        assert!(text.starts_with("ask as the model was trained, for example -p \"Can"), "{text}");
    }
}
