//! The layouts of M3D-Bench, R1Seg-3D and HSENet.

use std::path::PathBuf;

use serde_json::Value;

use super::table::Table;
use super::{Cases, Fault};

/// A question about a volume, in M3D-VQA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VqaCase {
    /// The volume, as written.
    pub image: PathBuf,
    /// What the question is about.
    pub kind: VqaKind,
    /// Without its choices.
    pub question: String,
    /// A to D; of open questions, too.
    pub choices: [String; 4],
    /// The right one in words.
    pub answer: String,
    /// The right one by its letter.
    pub choice: char,
}

impl VqaCase {
    /// The question as M3D-Bench asks it with its choices.
    pub fn closed_question(&self) -> String {
        let [a, b, c, d] = &self.choices;
        format!("{} Choices: A. {a} B. {b} C. {c} D. {d}", self.question)
    }
}

/// What a question is about, as M3D-VQA numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum VqaKind {
    /// 1: the plane of the scan.
    Plane,
    /// 2: the phase of the contrast.
    Phase,
    /// 3: an organ.
    Organ,
    /// 4: an abnormality.
    Abnormality,
    /// 5: a location.
    Location,
}

impl VqaKind {
    fn of(number: &str) -> Option<Self> {
        Some(match number {
            "1" => Self::Plane,
            "2" => Self::Phase,
            "3" => Self::Organ,
            "4" => Self::Abnormality,
            "5" => Self::Location,
            _ => return None,
        })
    }
}

/// M3D-VQA: `Image Path`, `Question Type`, `Question`, `Choice A` to `Choice D`, `Answer`, `Answer Choice`.
///
/// # Errors
/// For a text without these columns.
pub fn vqa(text: &str) -> Result<Cases<VqaCase>, Fault> {
    let names = ["Choice A", "Choice B", "Choice C", "Choice D"];
    let needed = ["Image Path", "Question Type", "Question", "Answer", "Answer Choice"];
    let table = Table::read(text, &[&needed[..], &names[..]].concat())?;
    Ok(table.cases(|row| {
        let number = row.get("Question Type");
        let kind = VqaKind::of(number)
            .ok_or_else(|| row.fault(format!("question type `{number}` is none of 1 to 5")))?;
        let letter = row.get("Answer Choice").trim_end_matches('.');
        let choice = match letter {
            "A" | "B" | "C" | "D" => letter.chars().next(),
            _ => None,
        };
        Ok(VqaCase {
            image: row.needed("Image Path")?.into(),
            kind,
            question: row.needed("Question")?,
            choices: names.map(|name| row.get(name).to_owned()),
            answer: row.needed("Answer")?,
            choice: choice
                .ok_or_else(|| row.fault(format!("answer choice `{letter}` is none of A to D")))?,
        })
    }))
}

/// A volume and its report, in M3D-Cap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptionCase {
    /// The volume, as written.
    pub image: PathBuf,
    /// The file with its report, as written.
    pub text: PathBuf,
}

/// A split of M3D-Cap: `{"test": [{"image": .., "text": ..}]}`.
///
/// # Errors
/// For a text that is not JSON of splits, or has no split of this name.
pub fn captions(text: &str, split: &str) -> Result<Cases<CaptionCase>, Fault> {
    entries(text, split, ["image", "text"], |[image, text]| CaptionCase { image, text })
}

/// A volume and its masks, in M3D-Seg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentationCase {
    /// The volume, as written.
    pub image: PathBuf,
    /// The file with its masks, as written.
    pub label: PathBuf,
}

/// A split of a data set of M3D-Seg: `{"test": [{"image": .., "label": ..}]}`.
///
/// # Errors
/// As [`captions`].
pub fn segmentations(text: &str, split: &str) -> Result<Cases<SegmentationCase>, Fault> {
    entries(text, split, ["image", "label"], |[image, label]| SegmentationCase { image, label })
}

fn entries<T>(
    text: &str,
    split: &str,
    names: [&str; 2],
    case: impl Fn([PathBuf; 2]) -> T,
) -> Result<Cases<T>, Fault> {
    let json: Value =
        serde_json::from_str(text).map_err(|e| Fault::new("", format!("not JSON: {e}")))?;
    let splits = json.as_object().ok_or_else(|| Fault::new("", "not an object of splits"))?;
    let Some(entries) = splits.get(split).and_then(Value::as_array) else {
        let known: Vec<&str> = splits.keys().map(String::as_str).collect();
        let what = format!("no split `{split}`; there are {}", known.join(", "));
        return Err(Fault::new("", what));
    };
    let mut cases = Cases::default();
    for (n, entry) in entries.iter().enumerate() {
        let place = || format!("{split}, entry {}", n + 1);
        let field = |name: &str| {
            let path = entry.get(name).and_then(Value::as_str).filter(|path| !path.is_empty());
            path.map(PathBuf::from).ok_or_else(|| Fault::new(place(), format!("no `{name}`")))
        };
        cases.add(field(names[0]).and_then(|first| Ok(case([first, field(names[1])?]))));
    }
    Ok(cases)
}

/// A question that is answered with a mask, in M3D-RefSeg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceCase {
    /// The volume, as written.
    pub image: PathBuf,
    /// The label map, as written.
    pub mask: PathBuf,
    /// The label that is meant.
    pub mask_id: u16,
    /// How it is asked for.
    pub kind: ReferenceKind,
    /// What is asked.
    pub question: String,
    /// The answer in words.
    pub answer: String,
    /// The description that R1Seg-3D adds.
    pub text: Option<String>,
}

/// How a question of M3D-RefSeg asks for what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReferenceKind {
    /// 0: by a description.
    Description,
    /// 1: by what follows from it.
    Reasoning,
}

/// M3D-RefSeg: `Image`, `Mask`, `Mask_ID`, `Question_Type`, `Question`, `Answer`, and perhaps `Text`.
///
/// # Errors
/// For a text without these columns.
pub fn references(text: &str) -> Result<Cases<ReferenceCase>, Fault> {
    let needed = ["Image", "Mask", "Mask_ID", "Question_Type", "Question", "Answer"];
    let table = Table::read(text, &needed)?;
    Ok(table.cases(|row| {
        let (id, kind) = (row.get("Mask_ID"), row.get("Question_Type"));
        Ok(ReferenceCase {
            image: row.needed("Image")?.into(),
            mask: row.needed("Mask")?.into(),
            mask_id: id
                .parse()
                .ok()
                .filter(|id| *id != 0)
                .ok_or_else(|| row.fault(format!("mask id `{id}` is not a label from 1 on")))?,
            kind: match kind {
                "0" => ReferenceKind::Description,
                "1" => ReferenceKind::Reasoning,
                _ => return Err(row.fault(format!("question type `{kind}` is neither 0 nor 1"))),
            },
            question: row.needed("Question")?,
            answer: row.needed("Answer")?,
            text: Some(row.get("Text").to_owned()).filter(|text| !text.is_empty()),
        })
    }))
}

/// What was found in a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// The volume, as written.
    pub volume: String,
    /// Whether each finding is there, in the order of the names.
    pub present: Vec<bool>,
}

/// A table of volumes and their findings, 0 or 1, behind their names. Returns the names of the findings, too.
///
/// # Errors
/// For a text that is not a table with a finding.
pub fn findings(text: &str) -> Result<(Vec<String>, Cases<Findings>), Fault> {
    let table = Table::read(text, &[])?;
    let names: Vec<String> = table.names().iter().skip(1).cloned().collect();
    if names.is_empty() {
        return Err(Fault::new(
            "",
            "there is no finding: a name and columns of 0 and 1 are needed",
        ));
    }
    let cases = table.cases(|row| {
        let first = table.names().first().map(String::as_str).unwrap_or_default();
        let present = row.rest().map(|value| match value {
            "0" | "0.0" => Ok(false),
            "1" | "1.0" => Ok(true),
            other => Err(row.fault(format!("`{other}` is neither 0 nor 1"))),
        });
        Ok(Findings { volume: row.needed(first)?, present: present.collect::<Result<_, _>>()? })
    });
    Ok((names, cases))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m3d_vqa_is_read_and_a_bad_row_costs_itself() {
        let text = "Image Path,Text,Question Type,Question,Choice A,Choice B,Choice C,Choice D,Answer,Answer Choice\n\
                    a/1.npy,x,2,\"Which phase, exactly?\",Arterial,Venous,Delayed,None,Venous,B\n\
                    a/2.npy,x,9,Q,a,b,c,d,a,A\n\
                    a/3.npy,x,1,Q,a,b,c,d,a,E\n\
                    a/4.npy,x,1,Q\n\
                    a/5.npy,x,1,,a,b,c,d,a,A\n";
        let read = vqa(text).unwrap();
        let [case] = read.cases.as_slice() else { panic!("{read:?}") };
        assert_eq!((case.kind, case.choice), (VqaKind::Phase, 'B'));
        assert_eq!(
            case.closed_question(),
            "Which phase, exactly? Choices: A. Arterial B. Venous C. Delayed D. None"
        );
        let faults: Vec<String> = read.faults.iter().map(ToString::to_string).collect();
        assert_eq!(
            faults,
            [
                "line 3: question type `9` is none of 1 to 5",
                "line 4: answer choice `E` is none of A to D",
                "line 5: 4 fields, 10 are needed",
                "line 6: `Question` is empty",
            ]
        );
        let error = vqa("Image Path,Question\n").unwrap_err().to_string();
        assert!(error.starts_with("the columns Question Type, Answer"), "{error}");
    }

    #[test]
    fn splits_of_m3d_are_read_by_name() {
        let text =
            r#"{"train": [], "test": [{"image": "a.npy", "text": "a.txt"}, {"image": "b.npy"}]}"#;
        let read = captions(text, "test").unwrap();
        assert_eq!(read.cases, [CaptionCase { image: "a.npy".into(), text: "a.txt".into() }]);
        assert_eq!(read.faults[0].to_string(), "test, entry 2: no `text`");
        let error = captions(text, "test1k").unwrap_err().to_string();
        assert_eq!(error, "no split `test1k`; there are test, train");
        assert!(captions("[", "test").unwrap_err().to_string().starts_with("not JSON"));
        let text = r#"{"test": [{"image": "i.npy", "label": "m.npz"}]}"#;
        assert_eq!(segmentations(text, "test").unwrap().cases.len(), 1);
    }

    #[test]
    fn m3d_refseg_is_read_with_and_without_the_text_of_r1seg() {
        let text = "Image,Mask,Mask_ID,Question_Type,Question,Answer\n\
                    i.nii.gz,m.nii.gz,3,1,Where?,There [SEG].\n\
                    i.nii.gz,m.nii.gz,0,1,Where?,There.\n\
                    i.nii.gz,m.nii.gz,2,7,Where?,There.\n";
        let read = references(text).unwrap();
        assert_eq!((read.cases[0].mask_id, read.cases[0].kind), (3, ReferenceKind::Reasoning));
        assert_eq!((read.cases[0].text.as_ref(), read.faults.len()), (None, 2));
        let text =
            "\u{feff}image,mask,mask_id,question_type,question,answer,text\ni,m,1,0,q,a,a cyst\n";
        assert_eq!(references(text).unwrap().cases[0].text.as_deref(), Some("a cyst"));
    }

    #[test]
    fn findings_are_zeros_and_ones() {
        let (names, read) =
            findings("VolumeName,Cyst,Nodule\na.nii.gz,0,1\nb.nii.gz,1.0,0.0\nc.nii.gz,2,0\n")
                .unwrap();
        assert_eq!(names, ["cyst", "nodule"]);
        assert_eq!(read.cases[1].present, [true, false]);
        assert_eq!(read.faults[0].to_string(), "line 4: `2` is neither 0 nor 1");
        assert!(findings("VolumeName\na\n").is_err());
    }
}
