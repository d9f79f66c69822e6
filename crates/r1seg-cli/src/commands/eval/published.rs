//! The layouts in which M3D and R1Seg publish their data.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use r1seg::phrasing::Aim;
use serde_json::{Map, Value, json};

use super::case::{Case, Cases, MaskTruth, TrueLabel, Truth};
use super::questions::Questions;
use crate::args::Layout;

/// What a published file is read with.
pub(super) struct Reader<'a> {
    pub(super) layout: Layout,
    pub(super) split: &'a str,
    /// Where its paths begin.
    pub(super) root: &'a Path,
    /// Names of classes by data set and number.
    pub(super) names: &'a BTreeMap<String, BTreeMap<String, String>>,
    pub(super) questions: &'a mut Questions,
    /// Whether the model is asked in words; otherwise it is given the name of what to segment.
    pub(super) answers: bool,
}

impl Reader<'_> {
    /// The cases of a file of JSON: `{"test": [{"image": .., "label": ..}]}`.
    pub(super) fn json(&mut self, value: &Value) -> Result<Cases, String> {
        let entries = value.get(self.split).and_then(Value::as_array).ok_or_else(|| {
            let known = value.as_object().map(|all| all.keys().cloned().collect::<Vec<_>>());
            let known = known.unwrap_or_default().join(", ");
            format!("it has no list `{}`; it has {known}", self.split)
        })?;
        let mut cases = Cases::default();
        for (line, entry) in (1..).zip(entries) {
            let case = match self.layout {
                Layout::M3dCap => self.report(line, entry),
                _ => self.mask(line, entry),
            };
            cases.push(line, case);
        }
        Ok(cases)
    }

    /// The cases of a table.
    pub(super) fn table(
        &mut self,
        rows: impl Iterator<Item = (u64, Result<BTreeMap<String, String>, String>)>,
    ) -> Cases {
        let mut cases = Cases::default();
        for (line, row) in rows {
            let case = row.and_then(|row| match self.layout {
                Layout::M3dRefseg => self.referred(line, &row),
                _ => self.asked(line, &row),
            });
            cases.push(line, case);
        }
        cases
    }

    /// An image of M3D-Seg and the mask of one class: `0003/.../mask_1.npy`.
    fn mask(&mut self, line: u64, entry: &Value) -> Result<Case, String> {
        let image = path(entry, "image")?;
        let label = path(entry, "label")?;
        let class = label
            .file_stem()
            .and_then(|name| name.to_str()?.strip_prefix("mask_").map(str::to_owned))
            .ok_or_else(|| format!("`{}` is not a mask_N.npy", label.display()))?;
        let parts: Vec<&str> = label.iter().filter_map(|part| part.to_str()).collect();
        let dataset = parts.iter().find(|part| part.len() == 4 && part.parse::<u16>().is_ok());
        let dataset = dataset.ok_or("its path names no data set, such as 0003")?.to_string();
        let name =
            self.names.get(&dataset).and_then(|names| names.get(&class)).ok_or_else(|| {
                format!("class {class} of data set {dataset} has no name: give --class-names")
            })?;
        let mut truth = Truth {
            group: name.clone(),
            mask: Some(MaskTruth { file: self.root.join(&label), label: TrueLabel::Any }),
            ..Truth::default()
        };
        let organ = name.replace('_', " ");
        let mut row = self.row(&image);
        match self.layout {
            Layout::M3dRec => {
                truth.region_of_mask = true;
                row.insert("prompt".to_owned(), self.questions.about(Aim::Locate, &organ)?.into());
            }
            Layout::M3dReg => {
                // The answers of the authors' templates are beside the point: the name is what counts.
                truth.region_of_mask = true;
                truth.text = Some(organ.clone());
                row.insert("prompt".to_owned(), self.questions.about(Aim::Region, &organ)?.into());
            }
            Layout::M3dRes => {
                let question = self.questions.described(&organ)?;
                row.insert("prompt".to_owned(), question.into());
            }
            _ if self.answers => {
                row.insert("prompt".to_owned(), self.questions.about(Aim::Segment, &organ)?.into());
            }
            _ => {
                row.insert("text".to_owned(), organ.clone().into());
            }
        }
        row.insert("label".to_owned(), organ.into());
        let id = format!("{line}-{}", without_ending(&label));
        row.insert("id".to_owned(), id.clone().into());
        Ok(Case { id, dataset: Some(dataset), row, truths: vec![truth] })
    }

    /// An image of M3D-Cap and its report, which may be in a file.
    fn report(&mut self, line: u64, entry: &Value) -> Result<Case, String> {
        let image = path(entry, "image")?;
        let text = entry.get("text").and_then(Value::as_str).ok_or("it has no `text`")?;
        let file = self.root.join(text);
        let text = match text.len() < 1024 && file.is_file() {
            true => {
                std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?
            }
            false => text.to_owned(),
        };
        let mut row = self.row(&image);
        if self.answers {
            row.insert("prompt".to_owned(), self.questions.about(Aim::Describe, "")?.into());
        }
        let truth = Truth {
            group: "report".to_owned(),
            text: Some(text.trim().to_owned()),
            ..Truth::default()
        };
        self.case(line, &image, row, truth)
    }

    /// A row of M3D-RefSeg.
    fn referred(&mut self, line: u64, row: &BTreeMap<String, String>) -> Result<Case, String> {
        let image = PathBuf::from(cell(row, "Image")?);
        let label: u16 = cell(row, "Mask_ID")?.parse().map_err(|_| "`Mask_ID` is not a number")?;
        let group = match row.get("Question_Type").map(String::as_str) {
            Some("1") => "reasoning",
            _ => "description",
        };
        let file = self.root.join(cell(row, "Mask")?);
        let truth = Truth {
            group: group.to_owned(),
            mask: Some(MaskTruth { file, label: TrueLabel::Number(label) }),
            text: row.get("Answer").cloned().filter(|answer| !answer.is_empty()),
            ..Truth::default()
        };
        let mut asked = self.row(&image);
        asked.insert("prompt".to_owned(), cell(row, "Question")?.into());
        self.case(line, &image, asked, truth)
    }

    /// A row of M3D-VQA.
    fn asked(&mut self, line: u64, row: &BTreeMap<String, String>) -> Result<Case, String> {
        let image = PathBuf::from(cell(row, "Image Path")?);
        let group = match row.get("Question Type").map(String::as_str) {
            Some("1") => "plane",
            Some("2") => "phase",
            Some("3") => "organ",
            Some("4") => "abnormality",
            Some("5") => "location",
            other => other.unwrap_or("question"),
        };
        let mut question = cell(row, "Question")?.to_owned();
        let mut truth = Truth { group: group.to_owned(), ..Truth::default() };
        if self.layout == Layout::M3dVqaClosed {
            let choice = |letter: &str| cell(row, &format!("Choice {letter}"));
            question = format!(
                "{question} Choices: A. {} B. {} C. {} D. {}",
                choice("A")?,
                choice("B")?,
                choice("C")?,
                choice("D")?
            );
            truth.choice = Some(cell(row, "Answer Choice")?.to_owned());
        } else {
            truth.text = Some(cell(row, "Answer")?.to_owned());
        }
        let mut asked = self.row(&image);
        asked.insert("prompt".to_owned(), question.into());
        self.case(line, &image, asked, truth)
    }

    fn case(
        &self,
        line: u64,
        image: &Path,
        mut row: Map<String, Value>,
        truth: Truth,
    ) -> Result<Case, String> {
        let id = format!("{line}-{}", without_ending(image));
        row.insert("id".to_owned(), id.clone().into());
        Ok(Case { id, dataset: None, row, truths: vec![truth] })
    }

    fn row(&self, image: &Path) -> Map<String, Value> {
        let image = self.root.join(image).display().to_string();
        Map::from_iter([("image".to_owned(), json!(image))])
    }
}

fn path(entry: &Value, name: &str) -> Result<PathBuf, String> {
    let text =
        entry.get(name).and_then(Value::as_str).ok_or_else(|| format!("it has no `{name}`"))?;
    Ok(PathBuf::from(text))
}

fn cell<'a>(row: &'a BTreeMap<String, String>, name: &str) -> Result<&'a str, String> {
    let cell = row.get(name).map(|cell| cell.trim()).filter(|cell| !cell.is_empty());
    cell.ok_or_else(|| format!("it has no `{name}`"))
}

/// The last folder and the name, which tell most files apart.
fn without_ending(path: &Path) -> String {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let folder = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    if folder.is_empty() { name.into_owned() } else { format!("{folder}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader<'a>(
        layout: Layout,
        questions: &'a mut Questions,
        names: &'a BTreeMap<String, BTreeMap<String, String>>,
    ) -> Reader<'a> {
        Reader { layout, split: "test", root: Path::new("/m3d"), names, questions, answers: true }
    }

    #[test]
    fn masks_of_m3d_seg_are_asked_for_by_the_names_of_their_classes() {
        let names = BTreeMap::from([(
            "0003".to_owned(),
            BTreeMap::from([("1".to_owned(), "right_kidney".to_owned())]),
        )]);
        let mut questions = Questions::of(r1seg::registry::Family::M3dLamed, 1);
        let data = json!({"test": [
            {"image": "M3D_Seg/0003/0003/12/image.npy", "label": "M3D_Seg/0003/0003/12/mask_1.npy"},
            {"image": "M3D_Seg/0003/0003/12/image.npy", "label": "M3D_Seg/0003/0003/12/mask_2.npy"},
            {"image": "a.npy"},
        ]});
        let found = reader(Layout::M3dSeg, &mut questions, &names).json(&data).unwrap();
        let [case] = found.cases.as_slice() else { panic!("{found:?}") };
        assert_eq!(case.dataset.as_deref(), Some("0003"));
        assert!(case.row["prompt"].as_str().unwrap().contains("right kidney"), "{:?}", case.row);
        assert_eq!(case.row["image"], "/m3d/M3D_Seg/0003/0003/12/image.npy");
        assert_eq!(case.truths[0].group, "right_kidney");
        let why: Vec<&str> = found.refused.iter().map(|refused| refused.why.as_str()).collect();
        assert!(why[0].contains("class 2 of data set 0003"), "{why:?}");
        assert_eq!(why[1], "it has no `label`");
        let error = reader(Layout::M3dSeg, &mut questions, &names).json(&json!({"train": []}));
        assert_eq!(error.unwrap_err(), "it has no list `test`; it has train");
    }

    #[test]
    fn questions_of_m3d_vqa_have_choices_or_an_answer() {
        let row: BTreeMap<String, String> = [
            ("Image Path", "a/1.npy"),
            ("Question Type", "3"),
            ("Question", "Which organ?"),
            ("Choice A", "liver"),
            ("Choice B", "spleen"),
            ("Choice C", "kidney"),
            ("Choice D", "heart"),
            ("Answer", "spleen"),
            ("Answer Choice", "B"),
        ]
        .map(|(name, cell)| (name.to_owned(), cell.to_owned()))
        .into();
        let names = BTreeMap::new();
        let mut questions = Questions::of(r1seg::registry::Family::M3dLamed, 1);
        let rows = || [(2, Ok(row.clone()))].into_iter();
        let closed = reader(Layout::M3dVqaClosed, &mut questions, &names).table(rows());
        assert_eq!(
            closed.cases[0].row["prompt"],
            "Which organ? Choices: A. liver B. spleen C. kidney D. heart"
        );
        assert_eq!(closed.cases[0].truths[0].choice.as_deref(), Some("B"));
        let open = reader(Layout::M3dVqaOpen, &mut questions, &names).table(rows());
        assert_eq!(open.cases[0].truths[0].text.as_deref(), Some("spleen"));
        assert_eq!(open.cases[0].truths[0].group, "organ");
    }
}
