//! What a person should know about what prompts got, and what to ask instead.

use r1seg::registry::Family;
use r1seg::volume::Warning;
use r1seg::{FinishReason, MaskStatus, Outcome, OutputKind, Purpose, Remedy, Rephrasing, phrasing};

use crate::Given;
use crate::findings::one_line;

/// Whether an answer has a `[SEG]` that stands too early to be used.
pub fn begins_with_seg(answer: &Outcome) -> bool {
    answer.text.trim_start().starts_with("[SEG]")
}

impl Given {
    /// What a person should know about what this prompt got, and what to ask instead.
    pub fn doubts(&self, family: Family) -> Vec<Warning> {
        doubts(family, std::slice::from_ref(self))
    }
}

/// Doubts about what the prompts got, each with its number or name where there are several.
pub(crate) fn doubts(family: Family, given: &[Given]) -> Vec<Warning> {
    let answers = family.capabilities().purpose() == Purpose::Answer;
    let several = given.len() > 1;
    let mut doubts = Vec::new();
    for (index, given) in given.iter().enumerate() {
        let which = match (several, answers, &given.asked.prompt.text) {
            (false, ..) => String::new(),
            (true, true, _) => format!("prompt {}: ", index + 1),
            (true, false, Some(_)) if !family.has_classes() => format!("text {}: ", index + 1),
            (true, false, _) => format!("{}: ", one_line(&given.asked.name)),
        };
        let own = if answers { of_answer(family, given) } else { of_mask(given) };
        doubts.extend(own.into_iter().chain(given.outcome.warnings.iter().cloned()).map(
            |mut warning| {
                warning.text.insert_str(0, &which);
                warning
            },
        ));
    }
    doubts
}

fn of_mask(given: &Given) -> Vec<Warning> {
    let is_empty = given.status == MaskStatus::Empty;
    is_empty.then(|| Warning::new("W-EMPTY", "nothing was found")).into_iter().collect()
}

fn of_answer(family: Family, given: &Given) -> Vec<Warning> {
    let Given { asked, outcome: answer, status } = given;
    let (prompt, is_missing) = (asked.text(), *status == MaskStatus::NotFound);
    let with_fix = |warning: Warning, fix: Option<Remedy>| match fix {
        Some(fix) => warning.with_remedy(fix),
        None => warning,
    };
    let mut doubts = Vec::new();
    if *status == MaskStatus::Empty {
        let text = "the answer has [SEG], but no voxel of its mask is positive";
        doubts.push(Warning::new("W-EMPTY", text));
    }
    let is_cut = answer.finish_reason == Some(FinishReason::Length);
    if is_cut {
        let rephrase = is_missing.then(|| instead(family, prompt)).flatten().map(Box::new);
        let text = "the answer was cut at its longest length";
        let fix = Remedy::AllowLongerAnswer { rephrase };
        doubts.push(Warning::new("W-LENGTH", text).with_remedy(fix));
    }
    if !is_missing || is_cut {
        return doubts;
    }
    if answer.text.trim().is_empty() {
        let text = "the answer is empty: the model ended it at once";
        doubts.push(with_fix(Warning::new("W-NOANSWER", text), instead(family, prompt)));
    } else if phrasing::asks_for_mask(prompt) && !family.capabilities().gives(OutputKind::Mask) {
        let text = format!("the question asks for a mask, and {} draws none", family.name());
        doubts.push(Warning::new("W-NOSEG", text).with_remedy("use a model that segments"));
    } else if phrasing::asks_for_mask(prompt) {
        doubts.push(if begins_with_seg(answer) {
            let text = "the answer begins with [SEG], which the authors' code ignores";
            Warning::new("W-NOSEG", text).with_remedy(Remedy::UseLeadingSeg)
        } else {
            let text = "the question asks for a mask, and the answer has no [SEG]";
            with_fix(Warning::new("W-NOSEG", text), instead(family, prompt))
        });
    }
    doubts
}

/// To ask as the model was trained.
fn instead(family: Family, prompt: &str) -> Option<Remedy> {
    let suggestion = phrasing::suggest(family, prompt)?;
    let how = if suggestion.is_example {
        Rephrasing::Example
    } else if phrasing::is_trained(family, prompt) {
        Rephrasing::Trained
    } else {
        Rephrasing::Same
    };
    Some(Remedy::Rephrase { questions: suggestion.questions.to_vec(), how })
}
