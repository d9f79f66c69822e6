//! `summary.csv`: a row for each mask, in the order of the list.

use std::path::Path;

use super::ledger::{self, Lines};
use super::line::{AnswerLine, Line, MaskLine, Status};
use crate::codes::Code;
use crate::exit::CliError;

const NAME: &str = "summary.csv";
const COLUMNS: [&str; 11] = [
    "id",
    "label",
    "name",
    "status",
    "voxels",
    "volume_ml",
    "mean_hu",
    "centroid_x_mm",
    "centroid_y_mm",
    "centroid_z_mm",
    "file",
];

/// Writes the file anew, from the lines of all parts of a batch. Parts that end at the same time take
/// turns, so that the last one writes what all have done.
pub(super) fn write(out: &Path, order: &[&str]) -> Result<(), CliError> {
    let path = out.join(NAME);
    let lock = std::fs::File::create(out.join(".summary.lock"));
    let lock = lock.map_err(|e| ledger::unwritable(&path, &e))?;
    // Where locks do not work, the file may lack what ended at the same moment.
    let _ = lock.lock();
    let lines = ledger::all(out)?;
    let text = text(order, &lines).map_err(|e| {
        CliError::new(Code::Internal, format!("the summary cannot be encoded: {e}"))
    })?;
    ledger::replace(&path, &text)
}

fn text(order: &[&str], lines: &Lines) -> Result<Vec<u8>, csv::Error> {
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(COLUMNS)?;
    for line in order.iter().filter_map(|id| lines.get(*id)) {
        for row in rows(line) {
            table.write_record(row)?;
        }
    }
    table.into_inner().map_err(|e| csv::Error::from(e.into_error()))
}

/// A row for each mask, and one for each prompt that has none. A volume that failed has one in all.
fn rows(line: &Line) -> Vec<[String; COLUMNS.len()]> {
    if line.status == Status::Failed {
        let code = line.code.clone().unwrap_or_default();
        return vec![row(&line.id, None, &code, "failed", None, None)];
    }
    let row = |answer: &AnswerLine| {
        let label = answer.label;
        let mask = line.masks.iter().find(|mask| mask.label == label);
        row(&line.id, Some(label), &answer.name, &answer.status, mask, line.folder.as_deref())
    };
    line.answers.iter().map(row).collect()
}

fn row(
    id: &str,
    label: Option<u16>,
    name: &str,
    status: &str,
    mask: Option<&MaskLine>,
    folder: Option<&str>,
) -> [String; COLUMNS.len()] {
    let number = |number: Option<f64>| number.map(|n| n.to_string()).unwrap_or_default();
    let [x, y, z] = match mask.and_then(|mask| mask.centroid_mm) {
        Some(centroid) => centroid.map(|mm| mm.to_string()),
        None => Default::default(),
    };
    let file = mask.and_then(|mask| mask.file.as_deref());
    let file = file.map(|file| folder.map_or(file.to_owned(), |folder| format!("{folder}/{file}")));
    [
        id.to_owned(),
        label.map(|label| label.to_string()).unwrap_or_default(),
        mask.map_or(name, |mask| &mask.name).to_owned(),
        status.to_owned(),
        mask.map(|mask| mask.voxels.to_string()).unwrap_or_default(),
        number(mask.and_then(|mask| mask.volume_ml)),
        number(mask.and_then(|mask| mask.mean_hu)),
        x,
        y,
        z,
        file.unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_row_for_each_mask_and_for_what_has_none() {
        let mask = MaskLine {
            label: 2,
            name: "spleen, \"left\"".to_owned(),
            voxels: 5,
            volume_ml: Some(0.25),
            mean_hu: None,
            centroid_mm: Some([1.0, -2.5, 3.0]),
            file: Some("mask.nii.gz".to_owned()),
        };
        let answer = |label: u16, name: &str, status: &str| AnswerLine {
            label,
            name: name.to_owned(),
            status: status.to_owned(),
            answer: None,
        };
        let found = Line {
            folder: Some("aa/bb/a".to_owned()),
            answers: vec![answer(1, "liver", "not_found"), answer(2, "spleen", "found")],
            masks: vec![mask],
            ..Line::new("a", Path::new("a.nii"))
        };
        let failed = Line {
            status: Status::Failed,
            code: Some("R-IN-01".to_owned()),
            ..Line::new("b", Path::new("b"))
        };
        let lines = [("b".to_owned(), failed), ("a".to_owned(), found)].into();
        let text = String::from_utf8(text(&["b", "none", "a"], &lines).unwrap()).unwrap();
        assert_eq!(
            text,
            "id,label,name,status,voxels,volume_ml,mean_hu,centroid_x_mm,centroid_y_mm,centroid_z_mm,file\n\
             b,,R-IN-01,failed,,,,,,,\n\
             a,1,liver,not_found,,,,,,,\n\
             a,2,\"spleen, \"\"left\"\"\",found,5,0.25,,1,-2.5,3,aa/bb/a/mask.nii.gz\n"
        );
    }
}
