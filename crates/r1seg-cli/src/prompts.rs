//! Questions and other texts, from the command line, from files and from standard input.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Result;
use r1seg::{Diagnostic, MAX_TEXT_BYTES};
use r1seg_results::Protected;

use crate::codes::Code;
use crate::exit::CliError;

/// The longest file of questions or texts.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// With so many labels, masks are files of bytes, which every viewer reads. A label map holds
/// [more](r1seg::volume::LabelMap::MAX_LABELS).
const MAX_PROMPTS: usize = 255;

/// All questions in the order in which they were given, each of them with words in it.
pub(crate) fn questions(given: &[OsString]) -> Result<Vec<String>> {
    let prompts = several(given, "--prompt")?;
    for (index, prompt) in prompts.iter().enumerate() {
        r1seg::check_question(prompt).map_err(|e| which("prompt", e, (index, prompts.len())))?;
    }
    Ok(prompts)
}

/// All texts of `flag`, of which a mask has a label for each.
pub(crate) fn several(given: &[OsString], flag: &str) -> Result<Vec<String>> {
    let prompts = texts(given, flag)?;
    check_number(prompts.len())?;
    Ok(prompts)
}

/// Refuses more prompts than a mask has labels for.
pub(crate) fn check_number(prompts: usize) -> Result<()> {
    if prompts > MAX_PROMPTS {
        return Err(CliError::usage(
            format!("{prompts} prompts; a mask has labels for {MAX_PROMPTS}"),
            "ask them in several runs",
        ));
    }
    Ok(())
}

/// All texts of `flag` in the order in which they were given.
pub(crate) fn texts(given: &[OsString], flag: &str) -> Result<Vec<String>> {
    let mut prompts = Vec::new();
    let mut stdin_is_read = false;
    for text in given {
        if text == "-" {
            if std::mem::replace(&mut stdin_is_read, true) {
                return Err(CliError::usage(
                    format!("{flag} - is given twice, but standard input can be read once only"),
                    format!("use {flag} - once, or {flag} @FILE"),
                ));
            }
            let mut question = utf8(all(std::io::stdin().lock(), None)?, None)?;
            // A newline that a shell or an editor ends a text with is not part of the question.
            while question.ends_with(['\n', '\r']) {
                question.pop();
            }
            prompts.push(question);
        } else if let Some(path) = file(text) {
            if path.as_os_str().is_empty() {
                return Err(CliError::usage(
                    format!("{flag} @ names no file"),
                    format!("write the name right behind it: {flag} @FILE"),
                ));
            }
            prompts.extend(lines(&path)?);
        } else {
            prompts.push(utf8(text.as_encoded_bytes().to_vec(), None)?);
        }
    }
    check_lengths(&prompts)?;
    Ok(prompts)
}

/// Before a model is loaded or anything is tokenized, which would take a multiple of the memory.
fn check_lengths(texts: &[String]) -> Result<()> {
    let exceeds = |text: &String| text.len() > MAX_TEXT_BYTES;
    let Some((index, text)) = texts.iter().enumerate().find(|(_, text)| exceeds(text)) else {
        return Ok(());
    };
    let which = match texts.len() {
        1 => "the prompt".to_string(),
        of => format!("prompt {} of {of}", index + 1),
    };
    let bytes = text.len();
    Err(too_long(format!("{which} is {bytes} bytes long; at most {MAX_TEXT_BYTES} are read"), None))
}

fn too_long(what: String, path: Option<&Path>) -> anyhow::Error {
    let error = CliError::new(Code::PromptTooLong, what);
    about(error, path).fix("shorten it; a file holds one prompt a line").into()
}

/// Protects the files that questions are read from from being replaced.
pub(crate) fn protect(inputs: Protected, given: &[OsString]) -> Protected {
    let files = given.iter().filter_map(|text| file(text));
    files.fold(inputs, |inputs, path| inputs.file("a prompt file", &path))
}

/// An error of one prompt or text, with its number where there are several.
pub(crate) fn which(noun: &str, error: r1seg::Error, (index, of): (usize, usize)) -> anyhow::Error {
    if of == 1 {
        return error.into();
    }
    let error = CliError::from(&error as &dyn Diagnostic);
    CliError { what: format!("{noun} {} of {of}: {}", index + 1, error.what), ..error }.into()
}

/// The path behind an `@`, which need not be UTF-8.
fn file(text: &OsStr) -> Option<PathBuf> {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        text.as_bytes().strip_prefix(b"@").map(|path| PathBuf::from(OsStr::from_bytes(path)))
    }
    #[cfg(not(unix))]
    text.to_str()?.strip_prefix('@').map(PathBuf::from)
}

/// A text a line; blank lines are none.
pub(crate) fn lines(path: &Path) -> Result<Vec<String>> {
    let file = std::fs::File::open(path).map_err(|e| unreadable(&e, path))?;
    let text = utf8(all(file, Some(path))?, Some(path))?;
    // Some editors mark UTF-8 at the start of a file.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines: Vec<String> =
        text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_string).collect();
    if lines.is_empty() {
        let error = CliError::new(Code::PromptsEmpty, "the file has no text in it");
        return Err(error.at(path).fix("write one per line").into());
    }
    check_lengths(&lines)?;
    Ok(lines)
}

/// All bytes, if they are not too many for a question.
fn all(reader: impl Read, path: Option<&Path>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = reader.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|e| match path {
        Some(path) => unreadable(&e, path),
        None => e.into(),
    })?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(too_long(format!("the prompt is over {MAX_FILE_BYTES} bytes long"), path));
    }
    Ok(bytes)
}

fn unreadable(error: &std::io::Error, path: &Path) -> anyhow::Error {
    let what = format!("the prompt cannot be read: {error}");
    CliError::new(Code::PromptUnreadable, what).at(path).fix("check the path of the file").into()
}

fn utf8(bytes: Vec<u8>, path: Option<&Path>) -> Result<String> {
    String::from_utf8(bytes).map_err(|e| bad(format!("the prompt is not UTF-8: {e}"), path))
}

fn bad(what: String, path: Option<&Path>) -> anyhow::Error {
    about(CliError::new(Code::PromptNotText, what), path)
        .fix("give the question as UTF-8 text")
        .into()
}

/// Of the file of a prompt, where it is in one.
fn about(error: CliError, path: Option<&Path>) -> CliError {
    match path {
        Some(path) => error.at(path),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<String>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("q.txt");
        std::fs::write(&path, text)?;
        let mut at = OsString::from("@");
        at.push(&path);
        questions(&["First?".into(), at])
    }

    #[test]
    fn every_line_of_a_file_that_is_not_blank_is_a_question() {
        let prompts = read_text("\u{feff}Liver? \r\n\r\n  \t\n\u{3000}Spleen?\nKidney?").unwrap();
        assert_eq!(prompts, ["First?", "Liver?", "Spleen?", "Kidney?"]);
    }

    #[test]
    fn a_file_without_a_question_is_an_error() {
        let error = read_text(" \n\n").unwrap_err();
        assert_eq!(error.downcast_ref::<CliError>().unwrap().code, "R-PRM-04");
    }

    #[test]
    fn there_are_no_more_prompts_than_labels() {
        assert_eq!(read_text(&"Liver?\n".repeat(254)).unwrap().len(), 255);
        let error = read_text(&"Liver?\n".repeat(255)).unwrap_err();
        assert_eq!(error.to_string(), "256 prompts; a mask has labels for 255");
    }
}
