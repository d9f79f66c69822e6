//! What labels are called, and which of two maps belong together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use r1seg::files;
use r1seg::volume::{LabelMap, Volume, Warning};
use r1seg_metrics::Empties;
use serde_json::Value;

use super::sides::{Names, Side, Sides};
use crate::args::{By, CompareArgs};
use crate::codes::Code;
use crate::exit::CliError;

/// Longest file of names that is read.
const MAX_BYTES: u64 = 1 << 22;
/// The file of names that r1seg writes beside its masks.
const LABELS: &str = "labels.json";

/// Both maps in the same numbers, and what these stand for.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) truth: LabelMap,
    pub(super) predicted: LabelMap,
    /// By the number that both have here.
    pub(super) labels: BTreeMap<u16, Label>,
    pub(super) empties: &'static str,
}

/// What a number stands for.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Label {
    pub(super) name: Option<String>,
    /// Its numbers in both files; `None` where a file has no label of this name.
    pub(super) of_truth: Option<u16>,
    pub(super) of_predicted: Option<u16>,
}

impl Named {
    pub(super) fn of(
        sides: &Sides,
        args: &CompareArgs,
        warnings: &mut Vec<Warning>,
    ) -> Result<Self> {
        let empties = Empties::from(args.empty).as_str();
        let (truth, predicted) = (&sides.truth, &sides.predicted);
        if args.any_label {
            let any = |map: &LabelMap| {
                let mut any = LabelMap::new(map.geometry().clone());
                any.push(&map.any_label()).map(|_| any)
            };
            let name = Some("any label".to_owned());
            let label = Label { name, of_truth: Some(1), of_predicted: Some(1) };
            let labels = BTreeMap::from([(1, label)]);
            let (truth, predicted) = (any(&truth.labels)?, any(&predicted.labels)?);
            return Ok(Self { truth, predicted, labels, empties });
        }
        if args.labels.iter().any(|asked| asked.contains('=')) {
            return in_pairs(sides, args, empties);
        }
        match args.by {
            By::Number => {
                warnings.extend(contradiction(&truth.names, &predicted.names));
                let mut labels = BTreeMap::new();
                let numbers = numbers(&truth.labels, &truth.names);
                for number in numbers.union(&self::numbers(&predicted.labels, &predicted.names)) {
                    let name = truth.names.get(number).or(predicted.names.get(number)).cloned();
                    let both = Some(*number);
                    labels.insert(*number, Label { name, of_truth: both, of_predicted: both });
                }
                let (truth, predicted) = (truth.labels.clone(), predicted.labels.clone());
                Ok(Self { truth, predicted, labels, empties })
            }
            By::Name => by_name(sides, args, empties),
        }
    }

    /// The numbers of the labels that were asked for; `None` for all.
    pub(super) fn chosen(&self, asked: &[String]) -> Result<Option<Vec<u16>>> {
        if asked.is_empty() {
            return Ok(None);
        }
        if asked.iter().any(|asked| asked.contains('=')) {
            // Nothing else is left.
            return Ok(Some(self.labels.keys().copied().collect()));
        }
        let chosen = asked.iter().map(|asked| self.number(asked)).collect::<Result<_>>()?;
        Ok(Some(chosen))
    }

    /// These labels alone: what else there is would differ in every slice.
    pub(super) fn only(self, chosen: &[u16]) -> Result<Self> {
        let own = chosen.iter().map(|label| (*label, *label)).collect();
        let (truth, predicted) =
            (renumbered(&self.truth, &own)?, renumbered(&self.predicted, &own)?);
        Ok(Self { truth, predicted, ..self })
    }

    fn number(&self, asked: &str) -> Result<u16> {
        let known: Vec<(u16, u16, Option<&str>)> = self
            .labels
            .iter()
            .filter_map(|(number, label)| {
                let own = label.of_truth.or(label.of_predicted)?;
                Some((*number, own, label.name.as_deref()))
            })
            .collect();
        found(asked, &known).ok_or_else(|| unknown(asked, "neither A nor B has a", &known))
    }
}

/// The number of the label that is meant, by its name or by the number that its file has for it.
fn found(asked: &str, known: &[(u16, u16, Option<&str>)]) -> Option<u16> {
    let by_name =
        known.iter().find(|(_, _, name)| name.is_some_and(|name| key(name) == key(asked)));
    let number: Option<u16> = asked.trim().parse().ok();
    let by_number = || known.iter().find(|(_, own, _)| Some(*own) == number);
    by_name.or_else(by_number).map(|(number, ..)| *number)
}

fn unknown(asked: &str, who_has: &str, known: &[(u16, u16, Option<&str>)]) -> anyhow::Error {
    const SHOWN: usize = 12;
    let words = |(_, own, name): &(u16, u16, Option<&str>)| match name {
        Some(name) => format!("{own} {name}"),
        None => own.to_string(),
    };
    let shown: Vec<String> = known.iter().take(SHOWN).map(words).collect();
    let more = match known.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let error = CliError::new(Code::NoLabel, format!("{who_has} label `{asked}`"));
    error.fix(format!("one of these: {}{more}", shown.join(", "))).into()
}

/// The labels of A that are asked for, each beside the one of B that is to be compared with it.
fn in_pairs(sides: &Sides, args: &CompareArgs, empties: &'static str) -> Result<Named> {
    let of = |side: &Side, which: &str, asked: &str| {
        let numbers = numbers(&side.labels, &side.names);
        let known: Vec<_> = numbers
            .into_iter()
            .map(|number| (number, number, side.names.get(&number).map(String::as_str)))
            .collect();
        found(asked, &known).ok_or_else(|| unknown(asked, &format!("{which} has no"), &known))
    };
    let (mut labels, mut moved) = (BTreeMap::new(), BTreeMap::new());
    for asked in &args.labels {
        let (a, b) = asked.split_once('=').unwrap_or((asked, asked));
        let (a, b) = (of(&sides.truth, "A", a)?, of(&sides.predicted, "B", b)?);
        let name = sides.truth.names.get(&a).or(sides.predicted.names.get(&b)).cloned();
        let label = Label { name, of_truth: Some(a), of_predicted: Some(b) };
        if labels.insert(a, label).is_some() || moved.insert(b, a).is_some() {
            return Err(CliError::usage(
                format!("--label {asked} names a label that another one names, too"),
                "compare one label with one other in a run",
            ));
        }
    }
    let (truth, predicted) =
        (sides.truth.labels.clone(), renumbered(&sides.predicted.labels, &moved)?);
    Ok(Named { truth, predicted, labels, empties })
}

/// Labels with voxels, and labels with names: both may be asked for.
fn numbers(map: &LabelMap, names: &Names) -> BTreeSet<u16> {
    let known = (1..=LabelMap::MAX_LABELS as u16).take(map.len());
    let mut numbers: BTreeSet<u16> = known.filter(|label| 0 < map.voxels(*label)).collect();
    numbers.extend(names.keys());
    numbers
}

/// A name as it is compared with others.
pub(crate) fn key(name: &str) -> String {
    name.trim().to_lowercase().replace([' ', '-'], "_")
}

/// That the same number is called otherwise in both files.
fn contradiction(a: &Names, b: &Names) -> Option<Warning> {
    let differs = |(number, name): &(&u16, &String)| {
        b.get(number).is_some_and(|other| key(other) != key(name))
    };
    let (number, name) = a.iter().find(differs)?;
    let other = b.get(number)?;
    let text = format!("label {number} is `{name}` in A and `{other}` in B: numbers are compared");
    Some(Warning::new("W-NAMES", text).with_remedy("--by name compares labels of the same name"))
}

/// Brings B's labels to the numbers that A has for their names, and those that A does not have behind them.
fn by_name(sides: &Sides, args: &CompareArgs, empties: &'static str) -> Result<Named> {
    let (truth, predicted) = (&sides.truth, &sides.predicted);
    for (side, which) in [(truth, "A"), (predicted, "B")] {
        if side.names.is_empty() {
            let what = format!("{which} has no names to compare labels by");
            let error = CliError::new(Code::Names, what).at(&side.path);
            let fix = "name the file with its names with --names, or compare --by number";
            return Err(error.fix(fix).into());
        }
    }
    let mut labels = BTreeMap::new();
    let mut number_of = BTreeMap::new();
    for number in numbers(&truth.labels, &truth.names) {
        let name = truth.names.get(&number).cloned();
        if let Some(name) = &name {
            number_of.entry(key(name)).or_insert(number);
        }
        labels.insert(number, Label { name, of_truth: Some(number), of_predicted: None });
    }
    let mut moved = BTreeMap::new();
    let mut next = labels.keys().next_back().copied().unwrap_or(0);
    for number in numbers(&predicted.labels, &predicted.names) {
        let name = predicted.names.get(&number).cloned();
        let same = name.as_ref().and_then(|name| number_of.get(&key(name)).copied());
        let new =
            match same.filter(|same| labels.get(same).is_some_and(|l| l.of_predicted.is_none())) {
                Some(same) => same,
                None => {
                    let free = next.checked_add(1).ok_or_else(|| {
                        CliError::new(Code::Names, "there are more names than labels")
                            .at(&args.predicted)
                    })?;
                    next = free;
                    free
                }
            };
        let label = labels.entry(new).or_insert_with(|| Label { name, ..Label::default() });
        label.of_predicted = Some(number);
        moved.insert(number, new);
    }
    let predicted = renumbered(&predicted.labels, &moved)?;
    Ok(Named { truth: truth.labels.clone(), predicted, labels, empties })
}

fn renumbered(map: &LabelMap, moved: &BTreeMap<u16, u16>) -> Result<LabelMap> {
    if map.overlap() > 0 {
        let mut renumbered = LabelMap::new(map.geometry().clone());
        for (from, to) in moved {
            renumbered.push_as(*to, &map.label_mask(*from))?;
        }
        return Ok(renumbered);
    }
    let to = |label: &u16| f32::from(moved.get(label).copied().unwrap_or(0));
    let labels: Vec<f32> = map.labels().iter().map(to).collect();
    Ok(LabelMap::from_volume(&Volume::new(labels, map.geometry().clone())?)?)
}

/// The names in a file that was named.
pub(super) fn read(path: &Path) -> Result<Names> {
    let bytes = files::read(path, MAX_BYTES).map_err(|error| {
        CliError::new(Code::NamesUnreadable, error.to_string()).at(path).fix("check the path")
    })?;
    of_json(&bytes, None).ok_or_else(|| {
        let what = "not a file of label names";
        let fix = "give a JSON object such as {\"1\": \"liver\", \"2\": \"spleen\"}";
        CliError::new(Code::Names, what).at(path).fix(fix).into()
    })
}

/// The names in a labels.json beside a file, if they are those of that file. One that cannot be used gives a
/// warning.
pub(crate) fn beside(path: &Path, warnings: &mut Vec<Warning>) -> Names {
    let names = path.with_file_name(LABELS);
    if !names.is_file() {
        return Names::new();
    }
    let bytes = files::read(&names, MAX_BYTES).ok();
    let file = path.file_name().and_then(|name| name.to_str());
    bytes.and_then(|bytes| of_json(&bytes, file)).unwrap_or_else(|| {
        let text = "the labels.json beside it has no names that can be used";
        warnings.push(Warning::new("W-NAMES", text).with_remedy("name another with --names"));
        Names::new()
    })
}

/// Names by number out of what r1seg, nnU-Net, MONAI and TotalSegmentator write: an object of numbers with
/// names or with objects that have one, or of names with numbers, which may be the field `labels` of
/// another one. Entries that belong to another file than this one are left out.
fn of_json(bytes: &[u8], file: Option<&str>) -> Option<Names> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let entries = value.get("labels").unwrap_or(&value).as_object()?;
    let number = |value: &Value| value.as_u64().and_then(|n| u16::try_from(n).ok());
    let mut names = Names::new();
    for (key, value) in entries {
        let entry = match key.parse::<u16>() {
            Ok(label) => match value {
                Value::String(name) => Some((label, name.clone())),
                Value::Object(fields) => {
                    let of_other = |own: &str| file.is_some_and(|file| own != file);
                    if fields.get("file").and_then(Value::as_str).is_some_and(of_other) {
                        continue;
                    }
                    fields.get("name").and_then(Value::as_str).map(|name| (label, name.to_owned()))
                }
                _ => None,
            },
            // Regions of several labels, which nnU-Net has as well, are not labels.
            Err(_) if value.is_array() => continue,
            Err(_) => match value {
                Value::String(text) => text.parse().ok().map(|label| (label, key.clone())),
                value => number(value).map(|label| (label, key.clone())),
            },
        };
        let (label, name) = entry?;
        if label != 0 && !name.trim().is_empty() {
            names.insert(label, name);
        }
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_out_of_every_layout() {
        let names = |json: &str| of_json(json.as_bytes(), Some("mask.nii.gz"));
        let expected = Names::from([(1, "liver".to_owned()), (2, "spleen".to_owned())]);
        for json in [
            r#"{"1": "liver", "2": "spleen"}"#,
            r#"{"1": {"name": "liver", "file": null}, "2": {"name": "spleen", "file": "mask.nii.gz"}}"#,
            r#"{"liver": 1, "spleen": 2}"#,
            r#"{"labels": {"background": 0, "liver": 1, "spleen": 2, "whole": [1, 2]}}"#,
            r#"{"labels": {"0": "background", "1": "liver", "2": "spleen"}}"#,
            r#"{"labels": {"liver": "1", "spleen": "2"}}"#,
            r#"{"1": "liver", "2": "spleen", "3": {"name": "x", "file": "mask_3.nii.gz"}}"#,
        ] {
            assert_eq!(names(json).as_ref(), Some(&expected), "{json}");
        }
        for json in ["", "[]", "1", r#"{"1": 5}"#, r#"{"liver": -1}"#, r#"{"liver": 70000}"#] {
            assert_eq!(names(json), None, "{json}");
        }
    }

    #[test]
    fn names_are_compared_without_case_and_with_any_separator() {
        assert_eq!(key(" Left Kidney"), key("left-kidney"));
        let (a, b) = (Names::from([(3, "liver".into())]), Names::from([(3, "Liver".into())]));
        assert_eq!(contradiction(&a, &b), None);
        let b = Names::from([(3, "spleen".into())]);
        assert!(contradiction(&a, &b).is_some_and(|w| w.text.contains("`spleen` in B")));
    }
}
