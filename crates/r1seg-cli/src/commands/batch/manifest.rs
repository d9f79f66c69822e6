//! A list of volumes: JSON lines or CSV, in a file or on standard input.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use r1seg_results::parent;
use serde_json::{Map, Value};

use super::row::{self, Lists, Row};
use crate::codes::Code;
use crate::exit::CliError;
use crate::input::is_stdin;

/// The largest list, which is in memory as a whole: some millions of rows.
const MAX_BYTES: u64 = 1 << 30;
/// The longest line: far more than any prompts are.
const MAX_LINE: usize = 16 << 20;

/// A row, and where it is from.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    /// Counted from 1.
    pub(super) line: u64,
    pub(super) row: Row,
}

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    JsonLines,
    Csv,
}

/// Reads a list. The paths of its images are those that this process can open.
pub(super) fn read(path: &Path) -> Result<Vec<Listed>, CliError> {
    let mut rows = if is_stdin(path) {
        parse(path, std::io::stdin().lock(), None)?
    } else {
        let file = r1seg::files::open_regular(path).map_err(|e| {
            let error =
                CliError::new(Code::ListUnreadable, format!("the list cannot be read: {e}"));
            error.at(path).fix("check its path; `-` reads a list from standard input")
        })?;
        parse(path, file, by_name(path))?
    };
    let folder = if is_stdin(path) { PathBuf::new() } else { parent(path).to_path_buf() };
    if folder != Path::new(".") {
        for listed in &mut rows {
            // An absolute path stays as it is.
            listed.row.image = folder.join(&listed.row.image);
        }
    }
    Ok(rows)
}

fn by_name(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "csv" => Some(Format::Csv),
        "jsonl" | "ndjson" | "json" => Some(Format::JsonLines),
        _ => None,
    }
}

/// Where no name says the format, the first character does: only JSON begins with a brace.
fn parse(path: &Path, from: impl Read, format: Option<Format>) -> Result<Vec<Listed>, CliError> {
    let mut lines = BufReader::new(Bounded { from, line: 0, all: 0 });
    let mut start = lines.fill_buf().map_err(|e| unreadable(path, &e))?;
    if let Some(rest) = start.strip_prefix("\u{feff}".as_bytes()) {
        // Some programs mark UTF-8 at the start of a file.
        let mark = start.len() - rest.len();
        lines.consume(mark);
        start = lines.buffer();
    }
    let format = format.unwrap_or(match start.trim_ascii_start().first() {
        Some(b'{') => Format::JsonLines,
        _ => Format::Csv,
    });
    let rows = match format {
        Format::JsonLines => json_lines(path, lines)?,
        Format::Csv => csv_rows(path, lines)?,
    };
    match rows.is_empty() {
        true => Err(wrong(path, None, "there are no volumes in the list")),
        false => Ok(rows),
    }
}

fn json_lines(path: &Path, mut from: impl BufRead) -> Result<Vec<Listed>, CliError> {
    let (mut rows, mut bytes) = (Vec::new(), Vec::new());
    for line in 1.. {
        bytes.clear();
        if from.read_until(b'\n', &mut bytes).map_err(|e| unreadable(path, &e))? == 0 {
            break;
        }
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        let fields: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|e| {
            wrong(path, Some(line), format!("this is not a JSON object: {}", plain(&e)))
        })?;
        let row = row::row(fields, Lists::Arrays).map_err(|what| wrong(path, Some(line), what))?;
        rows.push(Listed { line, row });
    }
    Ok(rows)
}

fn csv_rows(path: &Path, from: impl BufRead) -> Result<Vec<Listed>, CliError> {
    // Its own rule of line ends counts lines that end as on Windows one too low; `trim` takes the rest.
    let mut reader = csv::ReaderBuilder::new()
        .terminator(csv::Terminator::Any(b'\n'))
        .trim(csv::Trim::All)
        .from_reader(from);
    let bad = |error: csv::Error| {
        let line = error.position().map(csv::Position::line);
        match error.kind() {
            csv::ErrorKind::Io(e) => unreadable(path, e),
            csv::ErrorKind::Utf8 { .. } => wrong(path, line, "it is not UTF-8"),
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => wrong(
                path,
                line,
                format!("it has {len} fields, and the first line has {expected_len}"),
            ),
            _ => wrong(path, line, error.to_string()),
        }
    };
    let names: Vec<String> =
        reader.headers().map_err(&bad)?.iter().map(|name| name.to_ascii_lowercase()).collect();
    if !names.is_empty() && !names.iter().any(|name| name == "image") {
        let near = names.iter().find(|name| row::unknown(name).contains("mean `image`"));
        let near = near.map(|name| format!("; did you mean `image` by `{name}`?"));
        return Err(wrong(
            path,
            Some(1),
            format!("it has no column `image`{}", near.unwrap_or_default()),
        ));
    }
    if let Some(twice) = (1..names.len()).find(|n| names[..*n].contains(&names[*n])) {
        return Err(wrong(path, Some(1), format!("it has two columns `{}`", names[twice])));
    }
    let mut rows = Vec::new();
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).map_err(&bad)? {
        let line = record.position().map_or(0, csv::Position::line);
        let cells = record.iter().map(|cell| Value::String(cell.to_owned()));
        let fields: Map<String, Value> = names.iter().cloned().zip(cells).collect();
        let row = row::row(fields, Lists::Bars).map_err(|what| wrong(path, Some(line), what))?;
        rows.push(Listed { line, row });
    }
    Ok(rows)
}

/// Text whose lines fit into memory, each and all together.
struct Bounded<R> {
    from: R,
    /// Bytes since the last line ended.
    line: usize,
    all: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.from.read(buffer)?;
        let bytes = buffer.get(..count).unwrap_or_default();
        self.line = match bytes.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => count - end - 1,
            None => self.line + count,
        };
        self.all += count as u64;
        let too_long =
            |what: String| Err(std::io::Error::new(std::io::ErrorKind::InvalidData, what));
        match () {
            () if self.line > MAX_LINE => too_long(format!("a line is over {MAX_LINE} bytes long")),
            () if self.all > MAX_BYTES => too_long(format!("it is over {MAX_BYTES} bytes long")),
            () => Ok(count),
        }
    }
}

/// What serde_json says, without the place in the line, which is not a line of the file.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_owned()
}

/// What is wrong with a list, or with one of its lines.
pub(super) fn wrong(path: &Path, line: Option<u64>, what: impl Into<String>) -> CliError {
    let what = what.into();
    let what = match line {
        Some(line) => format!("line {line}: {what}"),
        None => what,
    };
    let fix = "a row is {\"id\": .., \"image\": .., \"prompt\": ..}, or in CSV the same under a line of names; \
               docs/batch.md lists the fields";
    CliError::new(Code::List, what).at(path).fix(fix)
}

fn unreadable(path: &Path, error: &std::io::Error) -> CliError {
    if error.kind() == std::io::ErrorKind::InvalidData {
        return wrong(path, None, error.to_string());
    }
    CliError::new(Code::ListUnreadable, format!("the list cannot be read: {error}")).at(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, format: Option<Format>) -> Result<Vec<Listed>, CliError> {
        parse(Path::new("list"), text.as_bytes(), format)
    }

    #[test]
    fn a_table_and_lines_of_json_say_the_same() {
        let lines = "{\"id\": \"a\", \"image\": \"a.nii\", \"organs\": [\"liver\", \"spleen\"]}\n\n\
                     {\"image\": \"b, c.nii\", \"points\": [[1, 2, 3], \"4,5,6:neg\"]}\n";
        let table = "\u{feff}ID,image,organs,points\r\na,a.nii,liver|spleen,\r\n\
                     ,\"b, c.nii\",,\"1,2,3|4,5,6:neg\"\r\n";
        let (lines, table) = (parsed(lines, None).unwrap(), parsed(table, None).unwrap());
        assert_eq!(format!("{:?}", lines[0].row), format!("{:?}", table[0].row));
        assert_eq!(format!("{:?}", lines[1].row), format!("{:?}", table[1].row));
        assert_eq!(lines.iter().map(|listed| listed.line).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(table.iter().map(|listed| listed.line).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let (csv, json) = (Some(Format::Csv), Some(Format::JsonLines));
        for (text, format, says) in [
            ("", None, "no volumes"),
            ("image\n", csv, "no volumes"),
            ("{\"image\": \"a\"}\n{\"image\": \"b\"\n", None, "line 2: this is not a JSON object"),
            ("[1]\n", json, "line 1: this is not a JSON object"),
            (
                "{\"image\": \"a\", \"prompz\": \"x\"}",
                json,
                "line 1: `prompz` is not a field: did you mean",
            ),
            ("id,prompt\na,b\n", csv, "line 1: it has no column `image`"),
            ("id,imgae\na,b\n", csv, "did you mean `image` by `imgae`?"),
            ("image,organ,organ\na,b,c\n", csv, "two columns `organ`"),
            ("image,organ\na,b\nc\n", csv, "line 3: it has 1 fields, and the first line has 2"),
            ("image,orgam\na,b\n", csv, "line 2: `orgam` is not a field: did you mean `organ`?"),
        ] {
            let error = parsed(text, format).unwrap_err();
            assert_eq!(error.code, "R-BAT-01");
            assert!(error.what.contains(says), "{text}: {}", error.what);
        }
        let error = parse(Path::new("x"), &b"image\n\xff\xfe\n"[..], csv).unwrap_err();
        assert!(error.what.contains("not UTF-8"), "{}", error.what);
    }

    #[test]
    fn b3_an_endless_line_is_refused_before_it_is_in_memory() {
        for start in [&b"{\"image\": \""[..], b"image\n"] {
            let endless = start.chain(std::io::repeat(b'x').take(4 * MAX_LINE as u64));
            let error = parse(Path::new("x"), endless, None).unwrap_err();
            assert!(error.what.contains("a line is over"), "{}", error.what);
        }
    }

    #[test]
    fn images_are_found_from_the_folder_of_the_list() {
        let desk = tempfile::tempdir().unwrap();
        let path = desk.path().join("list.csv");
        std::fs::write(&path, "image\nct.nii\n/data/ct.nii\n").unwrap();
        let rows = read(&path).unwrap();
        assert_eq!(rows[0].row.image, desk.path().join("ct.nii"));
        assert_eq!(rows[1].row.image, Path::new("/data/ct.nii"));
        assert_eq!(read(&desk.path().join("none")).unwrap_err().code, "R-BAT-02");
    }
}
