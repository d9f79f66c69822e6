//! The plain layout: rows of `batch` with truths.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::case::{Case, Cases, MaskTruth, Rows, TrueLabel, Truth};

/// Fields of a row that are not those of `batch`.
const TRUTHS: [&str; 10] = [
    "dataset",
    "group",
    "groups",
    "truth",
    "truth_label",
    "truth_labels",
    "answer",
    "answers",
    "choices",
    "truth_boxes",
];

/// Fields of a row of `batch` that may hold several values.
const PLURALS: [&str; 7] =
    ["prompts", "texts", "organs", "classes", "labels", "points", "points_mm"];

/// The cases of rows with their line numbers. Paths are relative to `folder`.
pub(super) fn cases(rows: Rows, folder: &Path) -> Cases {
    let mut cases = Cases::default();
    for (line, row) in rows {
        cases.push(line, row.and_then(|row| case(line, row, folder)));
    }
    cases
}

fn case(line: u64, mut row: Map<String, Value>, folder: &Path) -> Result<Case, String> {
    let mut own = Map::new();
    for name in TRUTHS {
        if let Some(value) = row.remove(name).filter(|value| !value.is_null()) {
            own.insert(name.to_owned(), value);
        }
    }
    // A cell of a table; the list that `batch` reads has arrays.
    for name in PLURALS {
        if let Some(Value::String(text)) = row.get(name)
            && text.contains('|')
        {
            let parts: Vec<Value> = text.split('|').map(|part| part.trim().into()).collect();
            row.insert(name.to_owned(), parts.into());
        }
    }
    let image = row.get("image").and_then(Value::as_str).ok_or("it has no `image`")?;
    let image = folder.join(image);
    let id = match row.get("id") {
        Some(Value::String(id)) if !id.is_empty() => id.clone(),
        Some(id) if id.is_number() => id.to_string(),
        _ => format!("{line}-{}", stem(&image)),
    };
    row.insert("id".to_owned(), id.clone().into());
    row.insert("image".to_owned(), image.display().to_string().into());
    let names = names(&row);
    let count = names.len().max(usize::from(has_places(&row)));
    if count == 0 {
        return Err(
            "it asks nothing: give prompts, texts, organs, classes, points or a box".to_owned()
        );
    }
    let groups = texts(&own, "group", "groups", count)?;
    let labels = one_or_many(&own, "truth_label", "truth_labels");
    check_count(labels.len(), count, "truth_labels")?;
    let answers = texts(&own, "answer", "answers", count)?;
    let choices = texts(&own, "choices", "choices", count)?;
    let boxes = one_or_many(&own, "truth_boxes", "truth_boxes");
    check_count(boxes.len(), count, "truth_boxes")?;
    let file =
        own.get("truth").map(|file| file.as_str().ok_or("`truth` must be a path")).transpose()?;
    let truth = |index: usize| -> Result<Truth, String> {
        let name = names.get(index).cloned();
        let group = groups.get(index).cloned().or_else(|| name.clone());
        let label = match labels.get(index) {
            Some(Value::Number(number)) => {
                let number = number.as_u64().and_then(|n| u16::try_from(n).ok());
                TrueLabel::Number(number.ok_or("a label must be a number from 0 to 65535")?)
            }
            Some(Value::String(name)) => match name.parse() {
                Ok(number) => TrueLabel::Number(number),
                Err(_) => TrueLabel::Name(name.clone()),
            },
            Some(_) => return Err("a label must be a number or a name".to_owned()),
            None if count == 1 => TrueLabel::Any,
            None => TrueLabel::Name(name.ok_or("several masks need `truth_labels`")?),
        };
        Ok(Truth {
            name: names.get(index).cloned(),
            group: group.unwrap_or_else(|| "all".to_owned()),
            mask: file.map(|file| MaskTruth { file: folder.join(file), label }),
            text: answers.get(index).cloned(),
            choice: choices.get(index).cloned(),
            region: boxes.get(index).map(region).transpose()?,
            region_of_mask: false,
        })
    };
    let truths: Vec<Truth> = (0..count).map(truth).collect::<Result<_, _>>()?;
    let says = |truth: &Truth| {
        truth.mask.is_some()
            || truth.text.is_some()
            || truth.choice.is_some()
            || truth.region.is_some()
    };
    if !truths.iter().any(says) {
        return Err(
            "it has no truth: give `truth`, `answer`, `choices` or `truth_boxes`".to_owned()
        );
    }
    let dataset = own.get("dataset").and_then(Value::as_str).map(str::to_owned);
    Ok(Case { id, dataset, row, truths })
}

/// What the prompts of a row are called, in the order in which `batch` numbers them.
fn names(row: &Map<String, Value>) -> Vec<String> {
    let labels = one_or_many(row, "label", "labels");
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if !labels.is_empty() {
        return labels.iter().map(text).collect();
    }
    [("prompt", "prompts"), ("text", "texts"), ("class", "classes"), ("organ", "organs")]
        .into_iter()
        .flat_map(|(one, many)| one_or_many(row, one, many))
        .map(|value| text(&value))
        .collect()
}

fn has_places(row: &Map<String, Value>) -> bool {
    ["points", "points_mm", "box", "box_mm"].iter().any(|name| row.contains_key(*name))
}

/// The values of a field and of its plural, which may be a list.
fn one_or_many(row: &Map<String, Value>, one: &str, many: &str) -> Vec<Value> {
    let mut values: Vec<Value> = Vec::new();
    let fields = if one == many { vec![one] } else { vec![one, many] };
    for field in fields {
        match row.get(field) {
            Some(Value::Array(several)) => values.extend(several.iter().cloned()),
            Some(Value::Null) | None => {}
            // A cell of a table.
            Some(Value::String(text)) if field == many && text.contains('|') => {
                values.extend(text.split('|').map(|part| Value::from(part.trim())));
            }
            Some(value) => values.push(value.clone()),
        }
    }
    values
}

fn texts(
    row: &Map<String, Value>,
    one: &str,
    many: &str,
    count: usize,
) -> Result<Vec<String>, String> {
    let values = one_or_many(row, one, many);
    check_count(values.len(), count, many)?;
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    Ok(values.into_iter().map(text).collect())
}

fn check_count(got: usize, prompts: usize, what: &str) -> Result<(), String> {
    match got {
        0 => Ok(()),
        n if n == prompts => Ok(()),
        n => Err(format!("it has {n} `{what}`, and the number of prompts is {prompts}")),
    }
}

/// `i0,j0,k0,i1,j1,k1`, or six numbers.
fn region(value: &Value) -> Result<[[usize; 3]; 2], String> {
    let numbers: Option<Vec<usize>> = match value {
        Value::String(text) => text.split(',').map(|n| n.trim().parse().ok()).collect(),
        Value::Array(numbers) => {
            numbers.iter().map(|n| n.as_u64().and_then(|n| usize::try_from(n).ok())).collect()
        }
        _ => None,
    };
    match numbers.as_deref() {
        Some(&[i0, j0, k0, i1, j1, k1]) if i0 <= i1 && j0 <= j1 && k0 <= k1 => {
            Ok([[i0, j0, k0], [i1, j1, k1]])
        }
        _ => Err("a box of `truth_boxes` is six voxel indices, i0,j0,k0,i1,j1,k1".to_owned()),
    }
}

fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    PathBuf::from(name.trim_end_matches(".gz")).with_extension("").display().to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(row: Value) -> Result<Case, String> {
        case(3, row.as_object().unwrap().clone(), Path::new("/data"))
    }

    #[test]
    fn a_row_has_a_truth_for_each_prompt() {
        let case = of(json!({
            "image": "a/ct.nii.gz", "organs": ["liver", "spleen"], "truth": "a/truth.nii.gz",
            "truth_labels": [5, "spleen"], "dataset": "x"
        }))
        .unwrap();
        assert_eq!((case.id.as_str(), case.dataset.as_deref()), ("3-ct", Some("x")));
        assert_eq!(case.row["image"], "/data/a/ct.nii.gz");
        assert!(!case.row.contains_key("truth"));
        let labels: Vec<_> =
            case.truths.iter().map(|truth| truth.mask.clone().unwrap().label).collect();
        assert_eq!(labels, [TrueLabel::Number(5), TrueLabel::Name("spleen".to_owned())]);
        assert_eq!(case.truths[0].group, "liver");
    }

    #[test]
    fn one_prompt_is_compared_with_all_labels_and_several_by_name() {
        let one = of(json!({"image": "a", "prompt": "x?", "truth": "t"})).unwrap();
        assert_eq!(one.truths[0].mask.as_ref().unwrap().label, TrueLabel::Any);
        let two = of(json!({"image": "a", "organs": "liver|Milz", "truth": "t"})).unwrap();
        let label = &two.truths[1].mask.as_ref().unwrap().label;
        assert_eq!(*label, TrueLabel::Name("Milz".to_owned()));
    }

    #[test]
    fn texts_choices_and_boxes_are_truths_too() {
        let case = of(json!({
            "id": 7, "image": "a", "prompts": ["x?", "y?"], "answers": ["one", "two"],
            "choices": "A|B", "truth_boxes": ["1,2,3,4,5,6", [0, 0, 0, 1, 1, 1]]
        }))
        .unwrap();
        assert_eq!(case.id, "7");
        assert_eq!(case.truths[1].text.as_deref(), Some("two"));
        assert_eq!(case.truths[1].choice.as_deref(), Some("B"));
        assert_eq!(case.truths[0].region, Some([[1, 2, 3], [4, 5, 6]]));
    }

    #[test]
    fn what_is_wrong_with_a_row_is_said() {
        for (row, why) in [
            (json!({"prompt": "x"}), "no `image`"),
            (json!({"image": "a", "truth": "t"}), "asks nothing"),
            (json!({"image": "a", "prompt": "x"}), "no truth"),
            (
                json!({"image": "a", "prompt": "x", "truth_labels": [1, 2], "truth": "t"}),
                "2 `truth_labels`",
            ),
            (json!({"image": "a", "prompt": "x", "truth_boxes": ["1,2"]}), "six voxel indices"),
        ] {
            let error = of(row.clone()).unwrap_err();
            assert!(error.contains(why), "{row}: {error}");
        }
    }
}
