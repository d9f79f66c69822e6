//! Answers as they are said.

use std::io::Write;

use r1seg::Answer;

use crate::results::number;

/// Where answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    Stdout,
    /// Standard output carries a mask.
    Stderr,
    /// Standard output carries a report, or nobody wants to read.
    Nowhere,
}

/// Streams answers. A reader who leaves, as `head` does, misses the rest, but files are still
/// written.
pub(super) struct Printer {
    to: To,
    /// Of several prompts each answer begins with its number.
    numbered: bool,
    state: std::io::Result<()>,
}

impl Printer {
    pub(super) fn new(to: To, prompts: usize) -> Self {
        Self { to, numbered: prompts > 1, state: Ok(()) }
    }

    /// Begins the answer to a prompt, counted from 0.
    pub(super) fn begin(&mut self, index: usize) {
        if self.numbered {
            self.print(&number(index));
        }
    }

    pub(super) fn print(&mut self, text: &str) {
        if self.to == To::Nowhere || self.state.is_err() {
            return;
        }
        let text = r1seg::sanitize_terminal(text);
        let write =
            |mut out: Box<dyn Write>| out.write_all(text.as_bytes()).and_then(|()| out.flush());
        self.state = match self.to {
            To::Stderr => write(Box::new(std::io::stderr().lock())),
            _ => write(Box::new(std::io::stdout().lock())),
        };
    }

    /// Each distinct answer with the number of windows that gave it.
    pub(super) fn distinct(&mut self, index: usize, answer: &Answer) {
        for (text, count) in answer.distinct_answers() {
            let windows = if count == 1 { "window" } else { "windows" };
            self.begin(index);
            self.print(&format!("{text} ({count} {windows})\n"));
        }
    }

    pub(super) fn end(self) -> std::io::Result<()> {
        self.state
    }
}
