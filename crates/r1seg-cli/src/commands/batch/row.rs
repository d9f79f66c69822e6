//! A row of a list of volumes: which fields it may have, and what they mean.

use std::path::PathBuf;

use r1seg::volume::ReadOptions;
use serde_json::{Map, Value};

use crate::args::{PlaceTexts, Places};

/// All fields that a row may have.
const FIELDS: [&str; 20] = [
    "id",
    "image",
    "prompt",
    "prompts",
    "text",
    "texts",
    "organ",
    "organs",
    "class",
    "classes",
    "points",
    "points_mm",
    "box",
    "box_mm",
    "center",
    "label",
    "labels",
    "series",
    "frame",
    "key",
];

/// A volume and what it is asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    pub(super) id: Option<String>,
    /// As given.
    pub(super) image: PathBuf,
    pub(super) asks: Asks,
    pub(super) which: Which,
}

/// What a volume is asked for, as typed.
#[derive(Debug, Clone, Default)]
pub(super) struct Asks {
    pub(super) questions: Vec<String>,
    pub(super) texts: Vec<String>,
    pub(super) organs: Vec<String>,
    pub(super) classes: Vec<String>,
    /// Of one object at most.
    pub(super) places: Places,
    /// The same as the row has it.
    pub(super) typed_places: PlaceTexts,
    /// Names of labels: one for each prompt, or none.
    pub(super) labels: Vec<String>,
}

impl Asks {
    pub(super) fn is_empty(&self) -> bool {
        let lists = [&self.questions, &self.texts, &self.organs, &self.classes];
        lists.iter().all(|list| list.is_empty()) && self.places.len() == 0
    }
}

/// Which volume of a file is meant.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Which {
    series: Option<String>,
    frame: Option<usize>,
    key: Option<String>,
}

impl Which {
    /// The options for all volumes with what is said of this one.
    pub(super) fn apply(&self, mut options: ReadOptions) -> ReadOptions {
        if let Some(series) = &self.series {
            options = options.with_series(series);
        }
        if let Some(frame) = self.frame {
            options = options.with_frame(frame);
        }
        if let Some(key) = &self.key {
            options = options.with_key(key);
        }
        options
    }
}

/// How a list of texts is written in one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lists {
    /// As an array; a text alone is a list of one.
    Arrays,
    /// With `|` between, as in a cell of a table.
    Bars,
}

/// The row that these fields make.
pub(super) fn row(fields: Map<String, Value>, lists: Lists) -> Result<Row, String> {
    if let Some(name) = fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        return Err(unknown(name));
    }
    let mut fields = Fields { values: fields, lists };
    let image = fields.text("image")?.ok_or("it has no `image`")?;
    let places = PlaceTexts {
        points: fields.points("points")?,
        points_mm: fields.points("points_mm")?,
        voxels: fields.numbers("box")?,
        box_mm: fields.numbers("box_mm")?,
        center: fields.numbers("center")?,
    };
    let frame = fields.text("frame")?;
    let frame = frame.map(|text| {
        text.parse().map_err(|_| format!("`frame` is {text}; a whole number is needed"))
    });
    Ok(Row {
        id: fields.text("id")?,
        image: image.into(),
        asks: Asks {
            questions: fields.one_or_many("prompt", "prompts")?,
            texts: fields.one_or_many("text", "texts")?,
            organs: fields.one_or_many("organ", "organs")?,
            classes: fields.one_or_many("class", "classes")?,
            places: places.places()?,
            typed_places: places,
            labels: fields.one_or_many("label", "labels")?,
        },
        which: Which {
            series: fields.text("series")?,
            frame: frame.transpose()?,
            key: fields.text("key")?,
        },
    })
}

/// Why a field is not one, with the one that was meant.
pub(super) fn unknown(name: &str) -> String {
    let near = FIELDS.into_iter().map(|field| (strsim::damerau_levenshtein(name, field), field));
    match near.min().filter(|(distance, field)| *distance <= field.len().min(name.len()) / 2) {
        Some((_, field)) => format!("`{name}` is not a field: did you mean `{field}`?"),
        None => format!("`{name}` is not a field; the fields are {}", FIELDS.join(", ")),
    }
}

/// The fields of a row, each of which is taken once.
struct Fields {
    values: Map<String, Value>,
    lists: Lists,
}

impl Fields {
    /// Null and a text without a character are as good as no value.
    fn value(&mut self, name: &str) -> Option<Value> {
        self.values.remove(name).filter(|value| match value {
            Value::Null => false,
            Value::String(text) => !text.trim().is_empty(),
            _ => true,
        })
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, String> {
        self.value(name).map(|value| scalar(name, &value)).transpose()
    }

    fn list(&mut self, name: &str) -> Result<Vec<String>, String> {
        match self.value(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(values)) => values.iter().map(|value| scalar(name, value)).collect(),
            Some(Value::String(text)) if self.lists == Lists::Bars => {
                Ok(text.split('|').map(|part| part.trim().to_owned()).collect())
            }
            Some(value) => Ok(vec![scalar(name, &value)?]),
        }
    }

    fn one_or_many(&mut self, one: &str, many: &str) -> Result<Vec<String>, String> {
        let list = self.list(many)?;
        match self.text(one)? {
            Some(_) if !list.is_empty() => Err(format!("it has both `{one}` and `{many}`")),
            Some(text) => Ok(vec![text]),
            None => Ok(list),
        }
    }

    /// Numbers with commas between, from such a text or from an array.
    fn numbers(&mut self, name: &str) -> Result<Option<String>, String> {
        match self.value(name) {
            Some(Value::Array(numbers)) => Ok(Some(joined(name, &numbers)?)),
            Some(value) => scalar(name, &value).map(Some),
            None => Ok(None),
        }
    }

    /// Points in the order in which they are clicked, each as `i,j,k` or `i,j,k:neg`.
    fn points(&mut self, name: &str) -> Result<Vec<String>, String> {
        let values = match self.value(name) {
            Some(Value::Array(values)) => values,
            Some(Value::String(text)) => {
                return Ok(text.split('|').map(|part| part.trim().to_owned()).collect());
            }
            Some(_) => return Err(format!("`{name}` is not a list of points")),
            None => return Ok(Vec::new()),
        };
        // One point need not be in a list of its own.
        if values.iter().all(Value::is_number) {
            return Ok(vec![joined(name, &values)?]);
        }
        values.iter().map(|value| point(name, value)).collect()
    }
}

/// `[i, j, k]`, `"i,j,k:neg"` or `{"voxel": [i, j, k], "positive": false}`, as reports have it.
fn point(name: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::Array(numbers) => joined(name, numbers),
        Value::String(text) => Ok(text.clone()),
        Value::Object(point) => {
            let at = point.get("voxel").or(point.get("mm")).and_then(Value::as_array);
            let at =
                joined(name, at.ok_or_else(|| format!("a point of `{name}` has no `voxel`"))?)?;
            match point.get("positive").is_none_or(|positive| *positive == Value::Bool(true)) {
                true => Ok(at),
                false => Ok(format!("{at}:neg")),
            }
        }
        _ => Err(format!("a point of `{name}` is not a list of three numbers")),
    }
}

fn joined(name: &str, numbers: &[Value]) -> Result<String, String> {
    let number = |value: &Value| match value {
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(format!("`{name}` has something other than numbers in it")),
    };
    Ok(numbers.iter().map(number).collect::<Result<Vec<_>, _>>()?.join(","))
}

fn scalar(name: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(format!("`{name}` is neither a text nor a number")),
    }
}

#[cfg(test)]
mod tests {
    use r1seg::volume::Geometry;
    use serde_json::json;

    use super::*;

    fn read(value: Value, lists: Lists) -> Result<Row, String> {
        let Value::Object(fields) = value else { return Err("not an object".to_owned()) };
        row(fields, lists)
    }

    #[test]
    fn a_row_says_what_is_asked_of_which_volume() {
        let given = json!({"id": 17, "image": "a.nii", "prompts": ["Liver?", "Spleen?"], "organ": "Milz",
            "labels": ["l", "s", "m"], "series": 2, "frame": "3", "key": null, "text": " "});
        let row = read(given, Lists::Arrays).unwrap();
        assert_eq!((row.id.as_deref(), row.image.to_str()), (Some("17"), Some("a.nii")));
        assert_eq!(row.asks.questions, ["Liver?", "Spleen?"]);
        assert_eq!((row.asks.organs, row.asks.labels.len()), (vec!["Milz".to_owned()], 3));
        assert!(row.asks.texts.is_empty() && row.asks.places.len() == 0);
        let options = row.which.apply(ReadOptions::default());
        assert_eq!((options.series.as_deref(), options.frame), (Some("2"), Some(3)));
    }

    #[test]
    fn points_and_boxes_mean_the_same_in_every_form() {
        let prompt = |value: Value, lists| {
            let row = read(value, lists).unwrap();
            row.asks.places.prompts(&Geometry::without_affine([9; 3])).unwrap().remove(0).1
        };
        let arrays = json!({"image": "a", "box": [0, 1, 2, 3, 4, 5],
            "points": [[1, 2, 3], "4,5,6:neg", {"voxel": [7, 8, 0], "positive": false}]});
        let cells =
            json!({"image": "a", "box": "0,1,2,3,4,5", "points": "1,2,3 | 4,5,6:neg|7,8,0:neg"});
        let expected = prompt(arrays, Lists::Arrays);
        assert_eq!(prompt(cells, Lists::Bars), expected);
        assert_eq!((expected.points.len(), expected.points[2].voxel), (3, [0, 8, 7]));
        let one = prompt(json!({"image": "a", "points": [1, 2, 3]}), Lists::Arrays);
        assert_eq!(one.points, expected.points[..1]);
    }

    #[test]
    fn a_bar_divides_cells_and_no_json() {
        let given = json!({"image": "a", "prompts": "Liver? | Spleen?"});
        assert_eq!(read(given.clone(), Lists::Bars).unwrap().asks.questions, ["Liver?", "Spleen?"]);
        assert_eq!(read(given, Lists::Arrays).unwrap().asks.questions, ["Liver? | Spleen?"]);
        let one = read(json!({"image": "a", "prompt": "This|that?"}), Lists::Bars).unwrap();
        assert_eq!(one.asks.questions, ["This|that?"]);
    }

    #[test]
    fn what_a_row_cannot_be_is_said() {
        for (given, says) in [
            (json!({"id": "a"}), "it has no `image`"),
            (json!({"image": ""}), "it has no `image`"),
            (
                json!({"image": "a", "prompz": "x"}),
                "`prompz` is not a field: did you mean `prompt`?",
            ),
            (json!({"image": "a", "point": [1, 2, 3]}), "did you mean `points`?"),
            (json!({"image": "a", "zzzzzzzzzzz": 1}), "the fields are id, image, prompt"),
            (json!({"image": "a", "text": "x", "texts": ["y"]}), "both `text` and `texts`"),
            (json!({"image": ["a"]}), "`image` is neither a text nor a number"),
            (json!({"image": "a", "prompts": [["x"]]}), "`prompts` is neither"),
            (json!({"image": "a", "points": 3}), "`points` is not a list of points"),
            (json!({"image": "a", "points": [[1, 2]]}), "2 were given"),
            (json!({"image": "a", "points": [[1, 2, "x"]]}), "other than numbers"),
            (json!({"image": "a", "points": [{"at": 1}]}), "has no `voxel`"),
            (json!({"image": "a", "box": [5, 0, 0, 1, 1, 1]}), "the box is reversed"),
            (json!({"image": "a", "box": "0,0,0,1,1,1", "box_mm": "0,0,0,1,1,1"}), "one box"),
            (json!({"image": "a", "frame": "first"}), "`frame` is first"),
        ] {
            let error = read(given.clone(), Lists::Arrays).unwrap_err();
            assert!(error.contains(says), "{given}: {error}");
        }
    }
}
