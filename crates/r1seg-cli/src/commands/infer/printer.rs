//! Answers as they are generated.

use std::io::Write;

use r1seg::Outcome;

use crate::job::{Job, number};

/// Where answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    Stdout,
    /// Standard output carries a mask.
    Stderr,
    /// Standard output carries a report, or nobody wants to read.
    Nowhere,
}

impl To {
    pub(super) fn of(job: &Job<'_>) -> Self {
        let (to_stdout, out) = (job.mask_to_stdout(), job.output);
        match to_stdout {
            _ if out.json => Self::Nowhere,
            true if out.quiet => Self::Nowhere,
            true => Self::Stderr,
            false => Self::Stdout,
        }
    }
}

/// Streams answers. A reader who leaves, as `head` does, misses the rest, but files are still
/// written.
pub(crate) struct Printer {
    to: To,
    /// Of several prompts each answer begins with its number.
    numbered: bool,
    state: std::io::Result<()>,
}

impl Printer {
    pub(crate) fn new(to: To, prompts: usize) -> Self {
        Self { to, numbered: prompts > 1, state: Ok(()) }
    }

    pub(crate) fn print(&mut self, text: &str) {
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
    pub(crate) fn distinct(&mut self, index: usize, answer: &Outcome) {
        for (text, count) in answer.distinct_answers() {
            let windows = if count == 1 { "window" } else { "windows" };
            let number = if self.numbered { number(index) } else { String::new() };
            self.print(&format!("{number}{text} ({count} {windows})\n"));
        }
    }

    pub(super) fn end(self) -> std::io::Result<()> {
        self.state
    }
}

/// Answers that are generated at the same time, in the order of their prompts: of those that are not
/// complete the first is shown as it is generated, and the others wait.
pub(super) struct InOrder {
    /// Words that wait, and whether they are the last.
    waiting: Vec<(String, bool)>,
    /// The prompt whose answer is shown, counted from 0.
    shown: usize,
    begun: bool,
}

impl InOrder {
    pub(super) fn new(prompts: usize) -> Self {
        Self { waiting: vec![(String::new(), false); prompts], shown: 0, begun: false }
    }

    /// Takes more of an answer, and returns what is to be printed now.
    pub(super) fn text(&mut self, index: usize, text: &str) -> String {
        if let Some((waiting, _)) = self.waiting.get_mut(index) {
            waiting.push_str(text);
        }
        self.ready()
    }

    /// Takes that an answer is complete, and returns what is to be printed now.
    pub(super) fn done(&mut self, index: usize) -> String {
        if let Some((_, complete)) = self.waiting.get_mut(index) {
            *complete = true;
        }
        self.ready()
    }

    fn ready(&mut self) -> String {
        let (mut ready, numbered) = (String::new(), self.waiting.len() > 1);
        while let Some((text, complete)) = self.waiting.get_mut(self.shown) {
            if text.is_empty() && !*complete {
                break;
            }
            if !std::mem::replace(&mut self.begun, true) && numbered {
                ready.push_str(&number(self.shown));
            }
            ready.push_str(&std::mem::take(text));
            if !*complete {
                break;
            }
            ready.push('\n');
            (self.shown, self.begun) = (self.shown + 1, false);
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_generated_at_once_are_shown_one_after_the_other() {
        let mut words = InOrder::new(3);
        assert_eq!(words.text(1, "two"), "");
        assert_eq!(words.text(0, "on"), "[1] on");
        assert_eq!(words.done(1), "");
        assert_eq!(words.text(2, "thr"), "");
        assert_eq!(words.text(0, "e"), "e");
        assert_eq!(words.done(0), "\n[2] two\n[3] thr");
        assert_eq!(words.text(2, "ee"), "ee");
        assert_eq!(words.done(2), "\n");
    }

    #[test]
    fn one_answer_has_no_number_and_an_empty_one_has_a_line() {
        let mut words = InOrder::new(1);
        assert_eq!(words.text(0, "") + &words.text(0, "a") + &words.done(0), "a\n");
        let mut words = InOrder::new(2);
        assert_eq!(words.done(0) + &words.done(1), "[1] \n[2] \n");
    }
}
