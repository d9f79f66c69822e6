//! A line on standard output for each volume that is finished.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use super::line::{AnswerLine, Line, MaskLine};
use crate::exit::one_line;

/// Prints results. A reader who leaves, as `head` does, misses the rest, which is written to files all the
/// same.
#[derive(Debug)]
pub(super) struct Printer {
    json: bool,
    has_left: AtomicBool,
}

impl Printer {
    pub(super) fn new(json: bool) -> Self {
        Self { json, has_left: AtomicBool::new(false) }
    }

    /// Prints nothing.
    pub(super) fn silent() -> Self {
        Self { json: false, has_left: AtomicBool::new(true) }
    }

    pub(super) fn print(&self, line: &Line) {
        let text = match self.json {
            true => serde_json::to_string(line).unwrap_or_default(),
            false => one_line(&words(line)),
        };
        let mut out = std::io::stdout().lock();
        if !self.has_left.load(Ordering::Relaxed)
            && writeln!(out, "{text}").and_then(|()| out.flush()).is_err()
        {
            self.has_left.store(true, Ordering::Relaxed);
        }
    }
}

/// `p1: liver 1520.3 mL, spleen not found`, or why it failed.
fn words(line: &Line) -> String {
    if let Some(code) = &line.code {
        let fix = line.fix.as_ref().map(|fix| format!(" (fix: {fix})")).unwrap_or_default();
        let text = line.text.as_deref().unwrap_or_default();
        return format!("{}: failed [{code}]: {text}{fix}", line.id);
    }
    let of = |answer: &AnswerLine| {
        let mask = line.masks.iter().find(|mask| mask.label == answer.label);
        let mask = mask.filter(|mask| mask.voxels > 0);
        match mask {
            Some(mask) => format!("{} {}", answer.name, size(mask)),
            None => format!("{} {}", answer.name, answer.status.replace('_', " ")),
        }
    };
    let all: Vec<String> = line.answers.iter().map(of).collect();
    format!("{}: {}", line.id, all.join(", "))
}

fn size(mask: &MaskLine) -> String {
    match mask.volume_ml {
        Some(ml) => format!("{ml:.1} mL"),
        None => format!("{} voxels", mask.voxels),
    }
}
