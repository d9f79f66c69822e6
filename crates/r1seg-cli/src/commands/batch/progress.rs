//! What a person sees of a batch: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::exit::{one_line, say};

/// How often a line is printed where there is no terminal.
const EVERY: Duration = Duration::from_secs(10);
/// Of an id, on the line of a terminal.
const MAX_ID: usize = 40;

pub(super) struct Progress {
    /// `None` where nothing is shown.
    shown: Option<Shown>,
    total: usize,
    start: Instant,
    state: Mutex<State>,
}

enum Shown {
    Bar(ProgressBar),
    Lines,
}

#[derive(Debug, Default)]
struct State {
    /// Finished by this run, failed ones too.
    finished: usize,
    failed: usize,
    /// Done by an earlier run.
    skipped: usize,
    current: Vec<String>,
    last: Option<Instant>,
}

impl Progress {
    pub(super) fn new(total: usize, quiet: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let shown = match (quiet, std::io::stderr().is_terminal() && !dumb) {
            (true, _) => None,
            (false, false) => Some(Shown::Lines),
            (false, true) => Some(Shown::Bar(bar(total))),
        };
        Self { shown, total, start: Instant::now(), state: Mutex::default() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self, id: &str) {
        self.state().current.push(id.to_owned());
        self.draw();
    }

    pub(super) fn end(&self, id: &str) {
        self.state().current.retain(|current| current != id);
    }

    pub(super) fn skipped(&self) {
        self.state().skipped += 1;
        self.draw();
    }

    pub(super) fn finished(&self, has_failed: bool) {
        let mut state = self.state();
        state.finished += 1;
        state.failed += usize::from(has_failed);
        drop(state);
        self.draw();
    }

    /// Lets `print` write to a terminal that the bar may be on.
    pub(super) fn beside<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.shown {
            Some(Shown::Bar(bar)) => bar.suspend(print),
            _ => print(),
        }
    }

    /// Prints a line, if it is time for one.
    pub(super) fn tick(&self) {
        let Some(Shown::Lines) = &self.shown else { return };
        let mut state = self.state();
        let last = state.last.unwrap_or(self.start);
        if last.elapsed() < EVERY {
            return;
        }
        state.last = Some(Instant::now());
        let text = state.text(self.total, self.start.elapsed());
        drop(state);
        say!("r1seg: {text}");
    }

    fn draw(&self) {
        let Some(Shown::Bar(bar)) = &self.shown else { return };
        let state = self.state();
        let current: Vec<String> = state.current.iter().map(|id| short(id)).collect();
        bar.set_position((state.finished + state.skipped) as u64);
        bar.set_message(format!(
            "{} {}",
            state.speed(self.total, self.start.elapsed()),
            current.join(", ")
        ));
    }

    pub(super) fn clear(&self) {
        if let Some(Shown::Bar(bar)) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

impl State {
    fn text(&self, total: usize, elapsed: Duration) -> String {
        let done = self.finished + self.skipped;
        format!("{done} of {total} volumes, {}", self.speed(total, elapsed))
    }

    /// How many failed, how fast it goes, and how long it will take.
    fn speed(&self, total: usize, elapsed: Duration) -> String {
        let failed = format!("{} failed", self.failed);
        let seconds = elapsed.as_secs_f64();
        if self.finished == 0 || seconds <= 0.0 {
            return failed;
        }
        let rate = self.finished as f64 / seconds;
        let left = total.saturating_sub(self.finished + self.skipped) as f64 / rate;
        let rate = match rate {
            1.0.. => format!("{rate:.1} a second"),
            _ => format!("{:.1} s each", 1.0 / rate),
        };
        format!("{failed}, {rate}, {} left", time(left))
    }
}

/// `4 h 05 min`, `3 min 20 s` or `8 s`.
fn time(seconds: f64) -> String {
    let all = seconds.min(1e9) as u64;
    let (hours, minutes, seconds) = (all / 3600, all / 60 % 60, all % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds} s"),
        (0, _) => format!("{minutes} min {seconds:02} s"),
        _ => format!("{hours} h {minutes:02} min"),
    }
}

fn short(id: &str) -> String {
    let line = one_line(id);
    match line.char_indices().nth(MAX_ID) {
        Some((end, _)) => format!("{}..", &line[..end]),
        None => line,
    }
}

fn bar(total: usize) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos} of {len}\n{msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_rest_are_told_in_units_that_people_read() {
        let state = |finished, skipped| State { finished, skipped, failed: 1, ..State::default() };
        let text = |state: State, seconds| state.text(100, Duration::from_secs(seconds));
        assert_eq!(text(state(0, 0), 5), "0 of 100 volumes, 1 failed");
        assert_eq!(text(state(20, 30), 10), "50 of 100 volumes, 1 failed, 2.0 a second, 25 s left");
        assert_eq!(
            text(state(10, 0), 1000),
            "10 of 100 volumes, 1 failed, 100.0 s each, 2 h 30 min left"
        );
        assert_eq!([3.0, 63.0, 3661.0].map(time), ["3 s", "1 min 03 s", "1 h 01 min"]);
    }

    #[test]
    fn a_strangers_id_stays_on_its_line() {
        assert_eq!(short("a\nb\x1b[2J"), "a\\nb");
        assert_eq!(short(&"é".repeat(50)), format!("{}..", "é".repeat(40)));
    }
}
