//! A plain manifest: one case a line.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::table::Table;
use super::{Cases, Fault};

/// The names of columns and fields.
const FIELDS: [&str; 7] = ["id", "image", "truth", "label", "question", "answer", "choice"];

/// A case that anybody can write down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestCase {
    /// By which it is told apart.
    pub id: String,
    /// The volume, as written.
    pub image: PathBuf,
    /// The true mask or label map, as written.
    pub truth: Option<PathBuf>,
    /// Which label of it is meant; all of them together without one.
    pub label: Option<TrueLabel>,
    /// What is asked.
    pub question: Option<String>,
    /// The true answer.
    pub answer: Option<String>,
    /// The letter of the right choice of a closed question.
    pub choice: Option<char>,
}

/// A label of a true label map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrueLabel {
    /// By its number.
    Number(u16),
    /// By its name, which the file or one beside it has.
    Name(String),
}

/// CSV with a line of names, or JSON lines, which begin with a brace: `id` and `image`, and of `truth`,
/// `label`, `question`, `answer` and `choice` what there is. A case needs a truth or an answer. An id that
/// another case has had is a fault of the second.
///
/// # Errors
/// For a table without `id` or `image`, or with a column of another name.
pub fn manifest(text: &str) -> Result<Cases<ManifestCase>, Fault> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut first_lines = BTreeMap::new();
    let mut once = |case: ManifestCase, place: &str| match first_lines.get(&case.id) {
        Some(first) => Err(Fault::new(place, format!("the id `{}` is that of {first}", case.id))),
        None => {
            first_lines.insert(case.id.clone(), place.to_owned());
            Ok(case)
        }
    };
    if text.trim_start().starts_with('{') {
        let mut cases = Cases::default();
        for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let place = format!("line {}", n + 1);
            cases.add(of_json(line, &place).and_then(|case| once(case, &place)));
        }
        return Ok(cases);
    }
    let table = Table::read(text, &["id", "image"])?;
    if let Some(unknown) = table.names().iter().find(|name| !FIELDS.contains(&name.as_str())) {
        let what = format!("there is no column `{unknown}`; known are {}", FIELDS.join(", "));
        return Err(Fault::new("", what));
    }
    Ok(table.cases(|row| {
        let place = row.fault("").place;
        let fields = FIELDS.map(|name| Some(row.get(name).to_owned()).filter(|v| !v.is_empty()));
        case(fields, &place).and_then(|case| once(case, &place))
    }))
}

fn of_json(line: &str, place: &str) -> Result<ManifestCase, Fault> {
    let fields: Map<String, Value> = serde_json::from_str(line)
        .map_err(|e| Fault::new(place, format!("not a JSON object: {e}")))?;
    if let Some(unknown) = fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        let what = format!("there is no field `{unknown}`; known are {}", FIELDS.join(", "));
        return Err(Fault::new(place, what));
    }
    let text = |name: &str| match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(_) => Err(Fault::new(place, format!("`{name}` is not a text"))),
    };
    let mut values: [Option<String>; 7] = Default::default();
    for (value, name) in values.iter_mut().zip(FIELDS) {
        *value = text(name)?;
    }
    case(values, place)
}

/// The fields in the order of [`FIELDS`].
fn case(fields: [Option<String>; 7], place: &str) -> Result<ManifestCase, Fault> {
    let [id, image, truth, label, question, answer, choice] = fields;
    let needed = |value: Option<String>, name: &str| {
        value.ok_or_else(|| Fault::new(place, format!("`{name}` is empty")))
    };
    let (id, image) = (needed(id, "id")?, needed(image, "image")?);
    if truth.is_none() && answer.is_none() && choice.is_none() {
        let what = "there is nothing to compare with: give a truth, an answer or a choice";
        return Err(Fault::new(place, what));
    }
    if label.is_some() && truth.is_none() {
        return Err(Fault::new(place, "a label without a truth that it is in"));
    }
    let choice = match choice.as_deref().map(str::trim) {
        None => None,
        Some(text) => {
            let mut chars = text.chars();
            let letter = chars.next().filter(|c| c.is_ascii_uppercase() && chars.next().is_none());
            Some(letter.ok_or_else(|| Fault::new(place, format!("choice `{text}` is no letter")))?)
        }
    };
    let label = label.map(|label| match label.parse() {
        Ok(number) => TrueLabel::Number(number),
        Err(_) => TrueLabel::Name(label),
    });
    let (image, truth) = (image.into(), truth.map(PathBuf::from));
    Ok(ManifestCase { id, image, truth, label, question, answer, choice })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_read_as_a_table_and_as_json_lines() {
        let csv = "id,image,truth,label,question,answer\n\
                   a,ct.nii.gz,m.nii.gz,3,Where?,\n\
                   b,ct.nii.gz,m.nii.gz,liver,,\n";
        let json = "{\"id\": \"a\", \"image\": \"ct.nii.gz\", \"truth\": \"m.nii.gz\", \"label\": 3, \"question\": \"Where?\"}\n\n\
                    {\"id\": \"b\", \"image\": \"ct.nii.gz\", \"truth\": \"m.nii.gz\", \"label\": \"liver\", \"answer\": null}\n";
        let (table, lines) = (manifest(csv).unwrap(), manifest(json).unwrap());
        assert_eq!(table, lines);
        assert_eq!(table.cases[0].label, Some(TrueLabel::Number(3)));
        assert_eq!(table.cases[1].label, Some(TrueLabel::Name("liver".into())));
    }

    #[test]
    fn a_bad_row_costs_itself() {
        let csv = "id,image,truth,label,answer,choice\n\
                   a,ct,m,,,\n\
                   a,ct,m,,,\n\
                   b,,m,,,\n\
                   c,ct,,,,\n\
                   d,ct,,liver,x,\n\
                   e,ct,,,x,AB\n\
                   f,ct,,,x,B\n";
        let read = manifest(csv).unwrap();
        assert_eq!(read.cases.iter().map(|case| case.id.as_str()).collect::<Vec<_>>(), ["a", "f"]);
        let faults: Vec<String> = read.faults.iter().map(ToString::to_string).collect();
        assert_eq!(
            faults,
            [
                "line 3: the id `a` is that of line 2",
                "line 4: `image` is empty",
                "line 5: there is nothing to compare with: give a truth, an answer or a choice",
                "line 6: a label without a truth that it is in",
                "line 7: choice `AB` is no letter",
            ]
        );
        let json =
            "{\"id\": \"a\"}\n{\"id\": 1, \"image\": \"x\", \"answer\": \"y\"}\n{\n{\"idd\": 1}\n";
        let read = manifest(json).unwrap();
        assert_eq!((read.cases.len(), read.cases[0].id.as_str(), read.faults.len()), (1, "1", 3));
    }

    #[test]
    fn a_table_with_other_columns_is_none() {
        let error = manifest("id,image,mask\na,b,c\n").unwrap_err().to_string();
        assert!(error.starts_with("there is no column `mask`; known are id, image"), "{error}");
        assert!(manifest("image\n").unwrap_err().to_string().contains("columns id are missing"));
        assert_eq!(manifest("id,image\n").unwrap(), Cases::default());
    }
}
