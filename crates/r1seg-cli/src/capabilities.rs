//! What a model can do, in the words of this command line.

use r1seg::registry::{Example, ModelEntry};
use r1seg::volume::Region;
use r1seg::{Capabilities, OutputKind, PromptKind};

use crate::hints;

/// The subcommand that runs such models.
pub(crate) fn command(capabilities: &Capabilities) -> &'static str {
    hints::command(capabilities.purpose())
}

/// The option of that subcommand that takes the words of a prompt, or the points of a model that reads
/// no words.
pub(crate) fn prompt_option(capabilities: &Capabilities) -> &'static str {
    match capabilities {
        _ if capabilities.takes(PromptKind::Question) => "--prompt",
        _ if capabilities.takes(PromptKind::Text) => "--text",
        _ => "--point",
    }
}

/// A prompt as it is given: options where there are several kinds, otherwise the words alone.
pub(crate) fn example(capabilities: &Capabilities, example: &Example) -> String {
    let words = example.text.unwrap_or_default();
    if command(capabilities) != "segment" {
        return words.to_string();
    }
    let text = example.text.map(|text| match text.contains(' ') {
        true => format!("--text \"{text}\""),
        false => format!("--text {text}"),
    });
    // Options have voxels in the order of viewers, i, j, k.
    let points = example.points.iter().map(|point| {
        let [k, j, i] = point.voxel;
        format!("--point {i},{j},{k}{}", if point.positive { "" } else { ":neg" })
    });
    let region = example.region.map(|Region { start: [k0, j0, i0], end }| {
        let [k1, j1, i1] = end.map(|end| end.saturating_sub(1));
        format!("--box {i0},{j0},{k0},{i1},{j1},{k1}")
    });
    text.into_iter().chain(points).chain(region).collect::<Vec<_>>().join(" ")
}

/// How to word prompts for a model.
pub(crate) fn note(entry: &ModelEntry) -> String {
    if let Some(bare_names) = entry.bare_names {
        return format!("Ask in whole sentences: {bare_names}. --organ NAME writes one.");
    }
    if entry.capabilities.takes(PromptKind::Question) {
        return "Ask in whole sentences: it answers in words, and draws no masks.".to_string();
    }
    if entry.capabilities.gives(OutputKind::Embedding) {
        return "Takes no questions: it compares volumes with sentences of a radiology report."
            .to_string();
    }
    if entry.family.has_classes() {
        return "Takes no questions: --class takes the name or the number of one of its classes."
            .to_string();
    }
    if !entry.capabilities.takes(PromptKind::Text) {
        return "Takes no words: points on what is meant, and beside it, say where it is."
            .to_string();
    }
    let wanted = match entry.sentence {
        ["", ""] => "this whole sentence, which --organ NAME writes",
        _ => "the bare name, which is set into the sentence of its training",
    };
    format!("Takes no questions: --text wants {wanted}.")
}
