//! Where lines come from: a terminal, with editing and completion, or anything else, as it stands.

use std::cell::Cell;
use std::io::{BufRead, IsTerminal, Read};
use std::path::{Path, PathBuf};

use anyhow::Result;
use r1seg::registry::MODELS;
use r1seg::{MAX_TEXT_BYTES, terms};
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{Behavior, CompletionType, Config, Context, Editor, Helper};

use super::line::COMMANDS;
use crate::codes::Code;
use crate::exit::{CliError, say};

const PROMPT: &str = "r1seg> ";
/// The first line of a history that rustyline wrote.
const HISTORY_MARK: &[u8] = b"#V2";

/// The lines of a conversation.
pub(super) enum Lines {
    Terminal(Box<Terminal>),
    Stream,
}

/// A terminal, whose lines are edited.
pub(super) struct Terminal {
    editor: Editor<Words, FileHistory>,
    history: Option<PathBuf>,
}

/// Whether lines come from a terminal.
pub(super) fn is_terminal() -> bool {
    std::io::stdin().is_terminal()
}

impl Lines {
    /// Of standard input. `history` is a file that lines are kept in.
    pub(super) fn open(history: Option<&Path>) -> Result<Self> {
        if !is_terminal() {
            return Ok(Self::Stream);
        }
        let is_shown = std::io::stdout().is_terminal();
        let config = Config::builder()
            .auto_add_history(true)
            .history_ignore_space(true)
            .completion_type(CompletionType::List)
            // Where answers go to a file, the lines are still edited on the terminal.
            .behavior(if is_shown { Behavior::Stdio } else { Behavior::PreferTerm })
            .build();
        let mut editor = Editor::with_config(config).map_err(failed)?;
        editor.set_helper(Some(Words::default()));
        if let Some(path) = history.filter(|path| path.exists()) {
            editor.load_history(path).map_err(failed)?;
        }
        let history = history.map(Path::to_path_buf);
        Ok(Self::Terminal(Box::new(Terminal { editor, history })))
    }

    /// The next line; nothing at the end, or where the person leaves.
    pub(super) fn next(&mut self) -> Result<Option<Result<String>>> {
        match self {
            Self::Stream => next_of(std::io::stdin().lock()),
            Self::Terminal(terminal) => Ok(terminal.next()?.map(Ok)),
        }
    }
}

/// Refuses a file that was not written as a history, which could be anything.
pub(super) fn check_history(path: &Path) -> Result<()> {
    let mut head = Vec::new();
    let read = std::fs::File::open(path).map(|file| file.take(3).read_to_end(&mut head));
    if read.is_err() || head.is_empty() || head == HISTORY_MARK {
        return Ok(());
    }
    let what = "the file for the history exists, and is not a history";
    let fix = "name a new file, or one that an earlier conversation wrote";
    Err(CliError::new(Code::Arguments, what).at(path).fix(fix).into())
}

impl Terminal {
    fn next(&mut self) -> Result<Option<String>> {
        let mut wants_to_leave = false;
        loop {
            if let Some(words) = self.editor.helper() {
                words.is_empty.set(true);
            }
            match self.editor.readline(PROMPT) {
                Ok(line) => {
                    self.keep();
                    return Ok(Some(line));
                }
                Err(ReadlineError::Eof) => return Ok(None),
                Err(ReadlineError::Interrupted) => {
                    let is_empty = self.editor.helper().is_none_or(|words| words.is_empty.get());
                    if is_empty && std::mem::replace(&mut wants_to_leave, is_empty) {
                        return Ok(None);
                    }
                    if is_empty {
                        say!("r1seg: Ctrl-C once more leaves, as /quit and Ctrl-D do");
                    } else {
                        wants_to_leave = false;
                    }
                }
                Err(ReadlineError::Signal(_)) => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// A history that cannot be written is said once.
    fn keep(&mut self) {
        let Some(path) = &self.history else { return };
        if let Err(error) = self.editor.append_history(path) {
            say!("r1seg: the history cannot be written, and is not kept any more: {error}");
            self.history = None;
        }
    }
}

fn failed(error: ReadlineError) -> anyhow::Error {
    match error {
        ReadlineError::Io(error) => error.into(),
        other => std::io::Error::other(other).into(),
    }
}

/// The next line of a stream, if it is text and not longer than a prompt may be.
fn next_of(mut stream: impl BufRead) -> Result<Option<Result<String>>> {
    let mut line = Vec::new();
    let most = MAX_TEXT_BYTES as u64 + 2;
    if stream.by_ref().take(most).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    let is_whole = line.ends_with(b"\n") || (line.len() as u64) < most;
    if !is_whole {
        skip_line(&mut stream)?;
        let what = format!("the line is longer than {MAX_TEXT_BYTES} bytes");
        return Ok(Some(Err(CliError::new(Code::PromptTooLong, what).fix("shorten it").into())));
    }
    let text = String::from_utf8(line).map_err(|e| {
        let error = CliError::new(Code::PromptNotText, format!("the line is not UTF-8: {e}"));
        error.fix("give lines as UTF-8 text").into()
    });
    Ok(Some(text))
}

fn skip_line(stream: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let bytes = stream.fill_buf()?;
        let (used, is_end) = match bytes.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (bytes.len(), bytes.is_empty()),
        };
        stream.consume(used);
        if is_end {
            return Ok(());
        }
    }
}

/// What completes words, and knows whether the line is empty.
struct Words {
    files: FilenameCompleter,
    is_empty: Cell<bool>,
}

impl Default for Words {
    fn default() -> Self {
        Self { files: FilenameCompleter::new(), is_empty: Cell::new(true) }
    }
}

impl Helper for Words {}
impl Highlighter for Words {}
impl Validator for Words {}

/// Gives no hints: it is shown every change of the line.
impl Hinter for Words {
    type Hint = String;

    fn hint(&self, line: &str, _: usize, _: &Context<'_>) -> Option<String> {
        self.is_empty.set(line.is_empty());
        None
    }
}

impl Completer for Words {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let Some(command) = line.get(..pos).and_then(|typed| typed.strip_prefix('/')) else {
            return Ok((pos, Vec::new()));
        };
        let Some((name, rest)) = command.split_once(' ') else {
            return Ok((0, commands(command)));
        };
        match name {
            "save" | "preview" | "image" | "mask" => self.files.complete_path(line, pos),
            "model" | "refine" => {
                let word = rest.rsplit(' ').next().unwrap_or_default();
                let (start, mut found) = self.files.complete_path(line, pos)?;
                if start == pos - word.len() {
                    found.splice(0..0, models(word));
                }
                Ok((start, found))
            }
            "organ" => {
                let word = rest.rsplit(',').next().unwrap_or_default().trim_start();
                Ok((pos - word.len(), organs(word)))
            }
            _ => Ok((pos, Vec::new())),
        }
    }
}

fn pair(text: impl Into<String>) -> Pair {
    let text = text.into();
    Pair { display: text.clone(), replacement: text }
}

fn commands(begun: &str) -> Vec<Pair> {
    let of = COMMANDS.iter().filter(|entry| entry.name.starts_with(begun));
    of.map(|entry| {
        let end = if entry.takes.is_empty() { "" } else { " " };
        let name = format!("/{}", entry.name);
        Pair { replacement: format!("{name}{end}"), display: name }
    })
    .collect()
}

fn models(begun: &str) -> Vec<Pair> {
    let begins =
        |name: &&str| name.get(..begun.len()).is_some_and(|head| head.eq_ignore_ascii_case(begun));
    let published = MODELS.iter().flat_map(|entry| entry.published).map(|of| of.alias);
    std::iter::once("demo").chain(published).filter(begins).map(pair).collect()
}

fn organs(begun: &str) -> Vec<Pair> {
    let begun = begun.to_lowercase();
    let names = terms::all().iter().map(|term| term.english);
    names.filter(|name| name.starts_with(&begun)).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use rustyline::history::MemHistory;

    use super::*;

    fn completed(line: &str) -> (usize, Vec<String>) {
        let history = MemHistory::new();
        let (start, found) =
            Words::default().complete(line, line.len(), &Context::new(&history)).unwrap();
        (start, found.into_iter().map(|pair| pair.replacement).collect())
    }

    fn words(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn commands_models_organs_and_files_are_completed() {
        assert_eq!(completed("/po"), (0, words(&["/points ", "/points-mm "])));
        assert_eq!(completed("/u"), (0, words(&["/undo"])));
        assert_eq!(completed("Is the li"), (9, Vec::new()));
        assert_eq!(completed("/organ spleen,left kid"), (14, words(&["left kidney"])));
        let (start, found) = completed("/model sam-");
        assert!(start == 7 && found.contains(&"SAM-Med3D".to_owned()), "{start} {found:?}");
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("liver.png"), "").unwrap();
        let typed = format!("/preview {}/li", folder.path().display());
        assert_eq!(completed(&typed).1, [format!("{}/liver.png", folder.path().display())]);
    }

    #[test]
    fn lines_of_a_stream_fail_alone() {
        let long = "x".repeat(MAX_TEXT_BYTES + 9);
        let bytes = [b"one\n\xff\n".as_slice(), long.as_bytes(), b"\nlast"].concat();
        let mut stream = bytes.as_slice();
        let mut next = || next_of(&mut stream).unwrap().map(|line| line.ok());
        assert_eq!(next(), Some(Some("one\n".to_owned())));
        assert_eq!((next(), next()), (Some(None), Some(None)));
        assert_eq!((next(), next()), (Some(Some("last".to_owned())), None));
    }

    #[test]
    fn a_file_that_is_no_history_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history");
        assert!(check_history(&path).is_ok());
        std::fs::write(&path, "#V2\nIs the liver visible?\n").unwrap();
        assert!(check_history(&path).is_ok());
        std::fs::write(&path, "dear diary").unwrap();
        assert!(check_history(&path).is_err());
    }
}
