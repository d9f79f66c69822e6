//! A CSV file of volumes and the texts that belong to them.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Result;
use r1seg::ErrorKind;
use r1seg_results::parent;

use crate::codes::Code;
use crate::exit::CliError;

/// Volumes and texts, each once, and which belong together.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Pairs {
    pub(super) images: Vec<PathBuf>,
    pub(super) texts: Vec<String>,
    /// Indices of a volume and of its text.
    pub(super) pairs: Vec<(usize, usize)>,
}

/// The largest file of pairs that is read: twice all reports of M3D-Cap.
const MAX_BYTES: u64 = 256 << 20;
/// How much of a file is looked at before the rest of it is read.
const START: u64 = 64 << 10;

/// Reads the columns `image` and `text`; others are ignored.
pub(super) fn read(path: &Path) -> Result<Pairs> {
    let wrong = |kind: ErrorKind, what: String| {
        let error = CliError::new(Code::Pairs, what).at(path);
        let fix = "a CSV file in UTF-8 with the columns `image` and `text` is needed";
        CliError { kind, ..error.fix(fix) }
    };
    let bad = |what: String| wrong(ErrorKind::BadData, what);
    let unreadable =
        |e: std::io::Error| wrong(ErrorKind::Missing, format!("the pairs cannot be read: {e}"));
    let mut bytes = Vec::new();
    let mut file = std::fs::File::open(path).map_err(unreadable)?;
    (&mut file).take(START).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.contains(&0) {
        return Err(bad("it is not text: there are zero bytes in it".to_string()).into());
    }
    file.take(MAX_BYTES + 1 - START).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(bad(format!("the file is over {MAX_BYTES} bytes")).into());
    }
    let csv = String::from_utf8(bytes).map_err(|e| bad(format!("it is not UTF-8: {e}")))?;
    // Some programs mark UTF-8 at the start of a file.
    let mut rows = rows(csv.trim_start_matches('\u{feff}')).map_err(bad)?.into_iter();
    let (_, header) = rows.next().unwrap_or_default();
    let column = |name: &str| {
        let is_it = |field: &String| field.trim().eq_ignore_ascii_case(name);
        header.iter().position(is_it).ok_or_else(|| bad(format!("it has no column `{name}`")))
    };
    let (image, text) = (column("image")?, column("text")?);
    let mut found = Pairs::default();
    for (index, (line, row)) in rows.enumerate() {
        let field = |column: usize, name: &str| {
            let field = row.get(column).map(|field| field.trim()).filter(|f| !f.is_empty());
            field.ok_or_else(|| bad(format!("pair {} has no {name} (line {line})", index + 1)))
        };
        // An absolute path stays as it is.
        let image = parent(path).join(field(image, "image")?);
        let pair = (
            index_of(&mut found.images, image),
            index_of(&mut found.texts, field(text, "text")?.to_string()),
        );
        found.pairs.push(pair);
    }
    if found.pairs.is_empty() {
        return Err(bad("there are no pairs in it".to_string()).into());
    }
    Ok(found)
}

/// The rows of a CSV file (RFC 4180) that are not blank, each with the number of its first line:
/// fields between commas, in quotes where they hold commas, line ends or doubled quotes.
///
/// The `csv` crate, with which a test compares, takes a quote behind a blank for a character, and the
/// rest of a file for one field if a quote is never closed.
fn rows(csv: &str) -> Result<Vec<(usize, Vec<String>)>, String> {
    let (mut rows, mut row, mut field) = (Vec::new(), Vec::new(), String::new());
    let (mut line, mut start, mut opened) = (1, 1, 1);
    let mut chars = csv.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        line += usize::from(c == '\n');
        match c {
            '"' if quoted && chars.next_if_eq(&'"').is_some() => field.push('"'),
            '"' if quoted => quoted = false,
            // A quote inside a plain field is only a character.
            '"' if field.trim().is_empty() => {
                (field, quoted, opened) = (String::new(), true, line);
            }
            ',' if !quoted => row.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                row.push(std::mem::take(&mut field));
                rows.push((start, std::mem::take(&mut row)));
                start = line;
            }
            c => field.push(c),
        }
    }
    if quoted {
        return Err(format!("the quote that line {opened} opens is never closed"));
    }
    row.push(field);
    rows.push((start, row));
    rows.retain(|(_, row)| row.iter().any(|field| !field.trim().is_empty()));
    Ok(rows)
}

/// Where a value is in a list, to whose end it is added if it is new.
fn index_of<T: PartialEq>(list: &mut Vec<T>, value: T) -> usize {
    list.iter().position(|known| *known == value).unwrap_or_else(|| {
        list.push(value);
        list.len() - 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Pairs> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("pairs.csv");
        std::fs::write(&path, text)?;
        let mut pairs = read(&path)?;
        for image in &mut pairs.images {
            *image = image.strip_prefix(folder.path()).unwrap_or(image).to_path_buf();
        }
        Ok(pairs)
    }

    #[test]
    fn columns_are_found_by_name_and_values_are_listed_once() {
        let pairs = read_text(
            "\u{feff}Text,id,IMAGE\n\"A cyst, \"\"simple\"\".\",1,a.nii\nNormal.,2,/b.nii\nNormal.,3,a.nii\n",
        );
        let expected = Pairs {
            images: vec!["a.nii".into(), "/b.nii".into()],
            texts: vec!["A cyst, \"simple\".".into(), "Normal.".into()],
            pairs: vec![(0, 0), (1, 1), (0, 1)],
        };
        assert_eq!(pairs.unwrap(), expected);
    }

    #[test]
    fn a_quoted_field_may_hold_lines_and_commas() {
        let rows = rows("a, \"b,\r\nc\" ,d \"e\"\r\n\r\nf\n").unwrap();
        let plain: Vec<_> = rows.iter().map(|(line, row)| (*line, row.join("|"))).collect();
        assert_eq!(plain, [(1, "a|b,\r\nc |d \"e\"\r".into()), (4, "f".into())]);
    }

    #[test]
    fn rows_are_those_of_the_csv_crate() {
        // Every text of up to six of these, in two fields of two rows, quoted as the crate does it.
        let parts = ["a", ",", "\"", "\n", "\r\n", "b c"];
        for n in 0..parts.len().pow(6) {
            let text = |skip: u32| -> String {
                (skip..skip + 3).map(|i| parts[n / parts.len().pow(i) % parts.len()]).collect()
            };
            let written = [["x".to_string(), text(0)], [text(3), "y".to_string()]];
            let mut file = csv::Writer::from_writer(Vec::new());
            written.iter().for_each(|row| file.write_record(row).unwrap());
            let file = String::from_utf8(file.into_inner().unwrap()).unwrap();
            let ours: Vec<_> = rows(&file).unwrap().into_iter().map(|(_, row)| row).collect();
            assert_eq!(ours, written, "{file:?}");

            let mut read =
                csv::ReaderBuilder::new().has_headers(false).from_reader(file.as_bytes());
            let theirs: Vec<Vec<String>> = read.deserialize().map(Result::unwrap).collect();
            assert_eq!(ours, theirs, "{file:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        for (text, words) in [
            ("", "no column `image`"),
            ("image,report\na,b\n", "no column `text`"),
            ("image,text\n\n , \n", "no pairs"),
            ("image,text\na.nii,\"a cyst\n\n", "the quote that line 2 opens is never closed"),
            ("image,text\na.nii,\n", "pair 1 has no text (line 2)"),
            ("image,text\na,\"b\nc\"\n\na.nii\n", "pair 2 has no text (line 5)"),
        ] {
            let error = read_text(text).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
