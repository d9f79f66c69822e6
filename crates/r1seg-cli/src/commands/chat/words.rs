//! What a conversation lists.

use std::fmt::Write;

use anyhow::Result;
use r1seg::PromptKind;
use r1seg_results::report::ijk;

use super::conversation::Conversation;
use super::line::COMMANDS;
use crate::exit::one_line;
use crate::job::number;

/// Prints on standard output. A reader that has gone misses it.
pub(super) fn print(text: &str) {
    use std::io::Write;

    let mut out = std::io::stdout().lock();
    let text = r1seg::sanitize_terminal(text);
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// What to type first.
pub(super) fn invitation(conversation: &Conversation<'_>) -> &'static str {
    let known = conversation.first.model.capabilities();
    if known.takes(PromptKind::Question) {
        "ask a question;"
    } else if known.takes(PromptKind::Text) {
        "name what to segment;"
    } else {
        "click into what to segment: /points I,J,K;"
    }
}

pub(super) fn help() -> String {
    let mut text = String::new();
    let mut line = |left: &str, right: &str| {
        let _ = writeln!(text, "  {left:<34} {right}");
    };
    line("any other line", "a question, or what to segment for a model that answers none");
    for entry in COMMANDS {
        line(&format!("/{} {}", entry.name, entry.takes), entry.does);
    }
    line("Ctrl-C", "stop what is being done; twice at an empty line leaves");
    text
}

/// Each label with its size.
pub(super) fn masks(conversation: &Conversation<'_>) -> String {
    let mut text = String::new();
    let findings = conversation.obtained.findings().prompts();
    let named = findings.iter().map(|finding| finding.name.as_str());
    let open = conversation.open.as_ref().map(|open| open.asked.name.as_str());
    for (index, name) in named.chain(open).enumerate() {
        let size = size(conversation, index + 1).unwrap_or_default();
        let saved = match conversation.unsaved.contains(&(index + 1)) {
            true => ", not saved",
            false => "",
        };
        let _ = writeln!(text, "{}{}: {size}{saved}", number(index), one_line(name));
    }
    if text.is_empty() {
        text.push_str("no mask yet\n");
    }
    text
}

/// The size of a label.
pub(super) fn size(conversation: &Conversation<'_>, label: usize) -> Result<String> {
    if let Some(size) = conversation.sizes.get(label - 1) {
        return Ok(size.clone());
    }
    match &conversation.open {
        Some(open) => conversation.size(label, &open.asked.name, open.outcome.mask.as_ref()),
        None => Ok(String::new()),
    }
}

/// The volume in a line.
pub(super) fn volume(conversation: &Conversation<'_>) -> String {
    let input = &conversation.input;
    let geometry = input.volume.geometry();
    let [i, j, k] = ijk(geometry.shape());
    let mut text = format!("{}: {i} x {j} x {k} voxels", input.path.display());
    if let Some(spacing) = geometry.spacing_mm() {
        let [x, y, z] = ijk(spacing);
        let _ = write!(text, " of {x:.2} x {y:.2} x {z:.2} mm");
    }
    if let Some(orientation) = geometry.orientation() {
        let _ = write!(text, ", {orientation}");
    }
    if let Some((low, high)) = input.range {
        let _ = write!(text, ", intensities {low} to {high}");
    }
    one_line(&text)
}

pub(super) fn info(conversation: &Conversation<'_>) -> String {
    let first = &conversation.first;
    let model = &first.model;
    let takes: Vec<&str> =
        model.capabilities().prompts.iter().map(|kind| kind_name(*kind)).collect();
    let labels = conversation.next_label() - 1 + usize::from(conversation.open.is_some());
    let mut text = format!(
        "volume   {}\nmodel    {} ({}), {} on {}; takes {}\nmode     {}\n",
        volume(conversation),
        first.named.id,
        model.family().name(),
        model.dtype_name(),
        model.device_name(),
        takes.join(", "),
        conversation.encoded.mode(),
    );
    if let Some(region) = conversation.region {
        let _ = writeln!(
            text,
            "about    {}",
            crate::job::box_line(region, conversation.input.volume.geometry())
        );
    }
    let unsaved = conversation.unsaved.len();
    let _ = writeln!(text, "so far   {labels} prompts, {unsaved} masks not saved");
    text
}

fn kind_name(kind: PromptKind) -> &'static str {
    match kind {
        PromptKind::Question => "questions",
        PromptKind::Text => "texts",
        PromptKind::Points => "points",
        PromptKind::Box => "boxes",
        PromptKind::Mask => "masks",
        _ => "other prompts",
    }
}
