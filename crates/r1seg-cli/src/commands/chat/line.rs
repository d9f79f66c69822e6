//! What a line says: a question or a text, or a command with its arguments.

use std::path::PathBuf;

use crate::args::TypedPlace;

/// A line as typed.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Line {
    Blank,
    /// A question, or a text to segment.
    Words(String),
    Command(Command),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Command {
    Help,
    /// Masks in a list; with a number one of them, and with a file it is written there.
    Mask {
        number: Option<usize>,
        file: Option<PathBuf>,
    },
    /// Points or a box in what is sought, in the order in which they were typed.
    Places(Vec<TypedPlace>),
    Organ(String),
    Refine {
        number: Option<usize>,
        model: String,
    },
    Undo,
    Reset,
    Save(Option<PathBuf>),
    Preview(PathBuf),
    Image(PathBuf),
    Model(String),
    Forget,
    Info,
    Quit,
}

/// What a command takes, and what it does, for the help and for completion.
pub(super) struct Entry {
    pub(super) name: &'static str,
    pub(super) takes: &'static str,
    pub(super) does: &'static str,
}

const fn entry(name: &'static str, takes: &'static str, does: &'static str) -> Entry {
    Entry { name, takes, does }
}

/// Every command.
pub(super) const COMMANDS: &[Entry] = &[
    entry("help", "", "this list"),
    entry(
        "organ",
        "NAME[,NAME ..]",
        "segment organs, in the words that the model was trained with",
    ),
    entry(
        "points",
        "I,J,K[:neg] ..",
        "segment by voxels in what is sought, and beside it with :neg",
    ),
    entry("points-mm", "X,Y,Z[:neg] ..", "the same in mm (RAS+)"),
    entry("box", "I0,J0,K0,I1,J1,K1", "a box around what is sought, or that questions are about"),
    entry("box-mm", "X0,Y0,Z0,X1,Y1,Z1", "the same in mm (RAS+)"),
    entry("undo", "", "take the last points or box back"),
    entry("reset", "", "keep the object that was clicked, and begin another"),
    entry("refine", "[N] MODEL", "draw mask N, or the last one, again with a promptable model"),
    entry("mask", "[N] [FILE]", "list the masks, show mask N, or write it to a file"),
    entry("preview", "FILE.png", "write a picture of all masks"),
    entry("save", "[DIR]", "write masks, labels, picture, answers and report to a folder"),
    entry("image", "PATH", "go on with another volume"),
    entry("model", "NAME|DIR", "go on with another model, and the same volume"),
    entry("forget", "", "drop all answers and masks"),
    entry("info", "", "what is known of the volume, the model and the conversation"),
    entry("quit", "", "leave, as Ctrl-D does"),
];

/// Why a line cannot be used, and what to do.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Unusable {
    pub(super) what: String,
    pub(super) fix: String,
}

fn unusable<T>(what: impl Into<String>, fix: impl Into<String>) -> Result<T, Unusable> {
    Err(Unusable { what: what.into(), fix: fix.into() })
}

/// Reads a line.
pub(super) fn parse(line: &str) -> Result<Line, Unusable> {
    let line = line.trim();
    let Some(command) = line.strip_prefix('/') else {
        return Ok(if line.is_empty() { Line::Blank } else { Line::Words(line.to_owned()) });
    };
    let (name, rest) = match command.split_once(char::is_whitespace) {
        Some((name, rest)) => (name, rest.trim()),
        None => (command, ""),
    };
    let name = name.to_ascii_lowercase();
    let Some(entry) = COMMANDS.iter().find(|entry| entry.name == name) else {
        return unknown(&name);
    };
    match (entry.takes.is_empty(), rest.is_empty()) {
        (true, false) => unusable(format!("/{name} takes nothing"), format!("type /{name} alone")),
        (false, true) if !entry.takes.starts_with('[') => {
            unusable(format!("/{name} is not complete"), format!("type /{name} {}", entry.takes))
        }
        _ => command_of(&name, rest).map(Line::Command),
    }
}

fn unknown<T>(name: &str) -> Result<T, Unusable> {
    let begins = |entry: &&Entry| !name.is_empty() && entry.name.starts_with(name);
    let near = COMMANDS.iter().filter(begins).map(|entry| format!("/{}", entry.name));
    let near: Vec<String> = near.collect();
    let fix = match near.as_slice() {
        [] => "/help lists the commands; a line without / at its start is a question".to_owned(),
        near => format!("did you mean {}?", near.join(" or ")),
    };
    unusable(format!("/{name}: no such command"), fix)
}

fn command_of(name: &str, rest: &str) -> Result<Command, Unusable> {
    Ok(match name {
        "mask" => {
            let (number, rest) = numbered(rest);
            Command::Mask { number, file: (!rest.is_empty()).then(|| path(rest)) }
        }
        "refine" => match numbered(rest) {
            (_, "") => return unusable("/refine names no model", "type /refine [N] MODEL"),
            (number, model) => Command::Refine { number, model: model.to_owned() },
        },
        "points" | "points-mm" | "box" | "box-mm" => Command::Places(places(name, rest)?),
        "organ" => Command::Organ(rest.to_owned()),
        "undo" => Command::Undo,
        "reset" => Command::Reset,
        "save" => Command::Save((!rest.is_empty()).then(|| path(rest))),
        "preview" => Command::Preview(path(rest)),
        "image" => Command::Image(path(rest)),
        "model" => Command::Model(path(rest).to_string_lossy().into_owned()),
        "forget" => Command::Forget,
        "info" => Command::Info,
        "quit" => Command::Quit,
        _ => Command::Help,
    })
}

/// The number that a text begins with, and what follows it.
fn numbered(text: &str) -> (Option<usize>, &str) {
    let (first, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    match first.parse() {
        Ok(number) => (Some(number), rest.trim()),
        Err(_) => (None, text),
    }
}

fn places(name: &str, rest: &str) -> Result<Vec<TypedPlace>, Unusable> {
    let texts: Vec<&str> = match name.starts_with("box") {
        true => vec![rest],
        false => rest.split_whitespace().collect(),
    };
    let place = |text: &str| {
        let fix = format!("as in /{name} {}", example(name));
        TypedPlace::parse(name, text).map_err(|what| Unusable { what, fix })
    };
    texts.into_iter().map(place).collect()
}

fn example(name: &str) -> &'static str {
    match name {
        "points" => "210,180,40 150,180,40:neg",
        "points-mm" => "-31.5,12,1040 20,12,1040:neg",
        "box" => "41,60,9,88,121,17",
        _ => "-140,-80,910,60,90,1080",
    }
}

/// The name of a file, as it stands, in quotes, or with backslashes as completion writes them.
fn path(text: &str) -> PathBuf {
    for quote in ['"', '\''] {
        let inner = text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
        if let Some(inner) = inner.filter(|inner| !inner.is_empty()) {
            return PathBuf::from(inner);
        }
    }
    // On Windows a backslash parts the names of folders.
    let escape = cfg!(unix).then_some('\\');
    PathBuf::from(rustyline::completion::unescape(text, escape).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(line: &str) -> Command {
        match parse(line) {
            Ok(Line::Command(command)) => command,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn unusable(line: &str) -> String {
        let Unusable { what, fix } = parse(line).unwrap_err();
        format!("{what}: {fix}")
    }

    #[test]
    fn a_line_without_a_slash_at_its_start_is_a_question() {
        assert_eq!(parse("  \t"), Ok(Line::Blank));
        let words = "Is 1/2 of the liver visible? /mask";
        assert_eq!(parse(&format!(" {words} ")), Ok(Line::Words(words.to_owned())));
    }

    #[test]
    fn every_command_is_known_in_any_case_and_says_what_it_lacks() {
        for Entry { name, takes, .. } in COMMANDS {
            let line = format!("/{}", name.to_uppercase());
            match takes.is_empty() || takes.starts_with('[') && *name != "refine" {
                true => assert!(matches!(parse(&line), Ok(Line::Command(_))), "{line}"),
                false => assert!(unusable(&line).contains(name), "{line}"),
            }
        }
        assert_eq!(command("/quit"), Command::Quit);
        assert_eq!(unusable("/undo 2"), "/undo takes nothing: type /undo alone");
        assert_eq!(unusable("/pre"), "/pre: no such command: did you mean /preview?");
        assert!(unusable("/").contains("/help"));
    }

    #[test]
    fn masks_are_named_by_number_and_file() {
        let mask =
            |number, file: Option<&str>| Command::Mask { number, file: file.map(PathBuf::from) };
        assert_eq!(command("/mask"), mask(None, None));
        assert_eq!(command("/mask 2"), mask(Some(2), None));
        assert_eq!(command("/mask 2 my liver.nii.gz"), mask(Some(2), Some("my liver.nii.gz")));
        assert_eq!(command("/mask liver.nii.gz"), mask(None, Some("liver.nii.gz")));
        let refine = Command::Refine { number: Some(1), model: "./SAM-Med3D".to_owned() };
        assert_eq!(command("/refine 1 ./SAM-Med3D"), refine);
        assert!(unusable("/refine 1").contains("no model"));
    }

    #[test]
    fn names_of_files_may_be_in_quotes_or_as_completion_writes_them() {
        for (typed, expected) in
            [("a b.png", "a b.png"), ("\"a b.png\"", "a b.png"), ("'a b.png'", "a b.png")]
        {
            assert_eq!(command(&format!("/preview {typed}")), Command::Preview(expected.into()));
        }
        #[cfg(unix)]
        assert_eq!(command(r"/save a\ b"), Command::Save(Some("a b".into())));
    }

    #[test]
    fn points_and_boxes_are_told_apart_from_what_is_none() {
        let Command::Places(places) = command("/points 1,2,3  4,5,6:neg") else { panic!() };
        assert_eq!(places.len(), 2);
        let Command::Places(places) = command("/box-mm -1, 2, 3, 4, 5, 6.5") else { panic!() };
        assert_eq!(places.len(), 1);
        for (line, says) in [
            ("/points 1,2", "2 were given: as in /points 210,180,40"),
            ("/points 1,2,3:maybe", "neither pos nor neg"),
            ("/points-mm 1,2,x", "`x` is not a finite number"),
            ("/box 1,2,3", "six numbers"),
        ] {
            assert!(unusable(line).contains(says), "{}", unusable(line));
        }
    }
}
