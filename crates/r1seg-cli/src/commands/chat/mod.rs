//! `r1seg chat`: a conversation about one volume, line by line.
//!
//! [`lines`] says where lines come from, [`line`] what they say, [`conversation`] what is known so far,
//! [`asking`] runs them, [`saving`] writes, and [`words`] lists.

mod asking;
mod conversation;
mod line;
mod lines;
mod saving;
mod words;

use anyhow::Result;
use r1seg::{CancelToken, ErrorKind};

use crate::args::ChatArgs;
use crate::exit::{self, CliError, Exit, say};
use crate::hints;
use crate::input::is_stdin;
use crate::interrupt::{self, Stops};
use conversation::Conversation;
use line::{Line, parse};
use lines::Lines;

pub(crate) fn run(args: &ChatArgs) -> Result<Exit> {
    if is_stdin(&args.image) {
        return Err(CliError::usage(
            "the lines of a conversation are read from standard input, and so would be the image",
            "give the image as a file",
        ));
    }
    hints::speak_of_lines();
    let stops = Signals::install();
    if let Some(path) = &args.history {
        lines::check_history(path)?;
    }
    let mut conversation = Conversation::open(args, &stops.begin())?;
    stops.end();
    if let Some(path) = &args.history {
        conversation.protects(path)?;
        say!("r1seg: lines are kept in {}, whatever they say of a patient", path.display());
    }
    conversation.announce(lines::is_terminal());
    let mut lines = Lines::open(args.history.as_deref())?;
    let mut worst = 0;
    while let Some(line) = lines.next()? {
        let cancel = stops.begin();
        let done = line.and_then(|line| one(&mut conversation, &line, &cancel));
        stops.end();
        match done {
            Ok(Next::Leave) => break,
            Ok(Next::Stay) => {}
            Err(error) => worst = worst.max(explain(&error, &stops)?),
        }
    }
    conversation.end();
    Ok(match lines::is_terminal() {
        true => Exit::Answered,
        false => Exit::WorstLine(worst),
    })
}

/// What is to be done after a line.
enum Next {
    Stay,
    Leave,
}

fn one(conversation: &mut Conversation<'_>, line: &str, cancel: &CancelToken) -> Result<Next> {
    match parse(line).map_err(|line::Unusable { what, fix }| CliError::usage(what, fix))? {
        Line::Blank => {}
        Line::Command(line::Command::Quit) => return Ok(Next::Leave),
        Line::Words(words) => conversation.ask(words, cancel)?,
        Line::Command(command) => conversation.run(command, cancel)?,
    }
    Ok(Next::Stay)
}

/// Says what was wrong with a line, and returns its exit code. On a terminal, a line that was stopped is
/// no error.
fn explain(error: &anyhow::Error, stops: &Signals) -> Result<u8> {
    let is_cancelled = exit::kind(error) == Some(ErrorKind::Cancelled);
    match stops {
        Signals::OfProgram(_) if is_cancelled => Err(r1seg::Error::Cancelled.into()),
        Signals::OfLines(_) if is_cancelled => {
            say!("r1seg: stopped; nothing of this line is kept");
            Ok(0)
        }
        _ => Ok(exit::explain(error)),
    }
}

/// What signals stop: on a terminal a line, otherwise the program.
enum Signals {
    OfLines(Stops),
    OfProgram(CancelToken),
}

impl Signals {
    fn install() -> Self {
        match lines::is_terminal() {
            true => Self::OfLines(Stops::install(terminal_as_it_is())),
            false => Self::OfProgram(interrupt::install()),
        }
    }

    fn begin(&self) -> CancelToken {
        match self {
            Self::OfLines(stops) => stops.begin(),
            Self::OfProgram(cancel) => cancel.clone(),
        }
    }

    fn end(&self) {
        if let Self::OfLines(stops) = self {
            stops.end();
        }
    }
}

/// What gives the terminal back as it is now: a line that is being edited is shown by the program.
#[cfg(unix)]
fn terminal_as_it_is() -> impl Fn() + Send + 'static {
    use std::io::Write;

    use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

    let before = tcgetattr(std::io::stdin()).ok();
    move || {
        if let Some(before) = &before {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
            // Editing asks for marks around what is pasted.
            let _ = std::io::stdout().write_all(b"\x1b[?2004l");
        }
    }
}

#[cfg(not(unix))]
fn terminal_as_it_is() -> impl Fn() + Send + 'static {
    || {}
}
