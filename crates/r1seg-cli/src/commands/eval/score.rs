//! The scores of one prompt.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use r1seg::volume::{
    Geometry, LabelMap, ReadOptions, Region, Voxels, Warning, foreground_box, read_labels,
};
use r1seg_metrics::published::r1seg_scores;
use r1seg_metrics::surface::{Pair, SurfaceScores};
use r1seg_metrics::text::accuracy::{has_choice, is_same_text};
use r1seg_metrics::text::{Bleu, RougeTokens, Smoothing, meteor_exact_stem, rouge_l, rouge_n};
use r1seg_metrics::{Corners, Empties, Overlap, box_iou, box_iou_m3d};
use serde::Serialize;
use serde_json::Value;

use super::case::{Case, MaskTruth, TrueLabel, Truth};
use crate::commands::compare::{Grids, beside, compare_grids, key};

/// How masks are scored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scoring {
    pub(super) empties: Empties,
    pub(super) tolerance_mm: Option<f64>,
}

/// What a prompt scored. What does not apply is absent.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Scored {
    pub(super) id: String,
    pub(super) dataset: Option<String>,
    pub(super) group: String,
    pub(super) prompt: Option<String>,
    pub(super) answer: Option<String>,
    pub(super) expected: Option<String>,
    /// `found`, `empty_mask`, `not_found`, `failed` or `missing`.
    pub(super) status: String,
    /// Why there are no scores.
    pub(super) problem: Option<String>,
    /// By the names of [`METRICS`](super::metrics::METRICS).
    pub(super) scores: BTreeMap<&'static str, f64>,
    pub(super) seg_probability: Option<f64>,
    /// The picture of its volume, relative to the folder of results.
    pub(super) preview: Option<String>,
}

/// Scores what a volume got. `line` is that of `batch`, if there is one.
pub(super) fn of_case(case: &Case, line: Option<&Value>, out: &Path, how: Scoring) -> Vec<Scored> {
    let mut files = Files::default();
    let score = |(index, truth): (usize, &Truth)| {
        let mut scored = Scored {
            id: case.id.clone(),
            dataset: case.dataset.clone(),
            group: truth.group.clone(),
            expected: truth.choice.clone().or_else(|| truth.text.clone()),
            status: "missing".to_owned(),
            ..Scored::default()
        };
        let Some(line) = line else {
            scored.problem = Some("it was not run".to_owned());
            return scored;
        };
        if line["status"] != "ok" {
            let part = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
            scored.status = "failed".to_owned();
            scored.problem = Some(format!("[{}] {}", part("code"), part("text")));
            return scored;
        }
        let place = (index, case.truths.len());
        if let Err(problem) = answered(&mut scored, truth, place, line, out, how, &mut files) {
            scored.problem = Some(problem);
            scored.scores.clear();
        }
        scored
    };
    case.truths.iter().enumerate().map(score).collect()
}

/// Label maps of a case that were read.
#[derive(Default)]
pub(super) struct Files {
    read: BTreeMap<PathBuf, (LabelMap, BTreeMap<u16, String>)>,
}

impl Files {
    pub(super) fn labels(
        &mut self,
        path: &Path,
    ) -> Result<&(LabelMap, BTreeMap<u16, String>), String> {
        if !self.read.contains_key(path) {
            let options = ReadOptions::default().with_min_axis(1);
            let loaded = read_labels(path, &options).map_err(|e| e.to_string())?;
            let names = match loaded.names.is_empty() {
                true => beside(path, &mut Vec::<Warning>::new()),
                false => loaded.names,
            };
            self.read.insert(path.to_path_buf(), (loaded.labels, names));
        }
        self.read.get(path).ok_or_else(|| "the mask is gone".to_owned())
    }
}

fn answered(
    scored: &mut Scored,
    truth: &Truth,
    (index, prompts): (usize, usize),
    line: &Value,
    out: &Path,
    how: Scoring,
    files: &mut Files,
) -> Result<(), String> {
    let answers = line["answers"].as_array().ok_or("its line has no answers")?;
    let index = position(answers, truth, index, prompts)?;
    let answer = &answers[index];
    let folder = out.join(line["folder"].as_str().unwrap_or_default());
    scored.status = answer["status"].as_str().unwrap_or_default().to_owned();
    scored.answer = answer["answer"].as_str().map(str::to_owned);
    let report = report(&folder);
    let of_report = report.as_ref().and_then(|report| report["answers"].get(index));
    scored.prompt = of_report.and_then(|of| of["prompt"].as_str()).map(str::to_owned);
    scored.seg_probability =
        of_report.and_then(|of| of["seg_token"]["logprobs"][0].as_f64()).map(f64::exp);
    let preview = folder.join("preview.png");
    if preview.is_file() {
        scored.preview = preview.strip_prefix(out).ok().map(|path| path.display().to_string());
    }
    let text = scored.answer.clone().unwrap_or_default();
    if let Some(choice) = &truth.choice {
        let is_right = has_choice(&text, choice);
        scored.scores.insert("accuracy", f64::from(u8::from(is_right)));
    }
    if let Some(expected) = &truth.text {
        of_text(scored, &text, expected);
    }
    let region = match (&truth.mask, truth.region) {
        (Some(mask), None) if truth.region_of_mask => {
            let (labels, names) = files.labels(&mask.file)?;
            let own = chosen(labels, names, mask)?;
            let voxels = Voxels::from(own.into_iter().map(i16::from).collect::<Vec<i16>>());
            foreground_box(&voxels, labels.shape(), 0.0).map_err(|e| e.to_string())?
        }
        (_, region) => region.map(region_of),
    };
    if let Some(region) = region {
        of_box(scored, of_report, region);
    }
    if let Some(mask) = truth.mask.as_ref().filter(|_| !truth.region_of_mask) {
        of_mask(scored, mask, answer, line, &folder, how, files)?;
    }
    Ok(())
}

/// Which of the answers is that of a prompt. A group of classes has several: then names tell.
fn position(
    answers: &[Value],
    truth: &Truth,
    index: usize,
    prompts: usize,
) -> Result<usize, String> {
    if answers.len() == prompts {
        return Ok(index);
    }
    let is_named = |answer: &Value| {
        let name = answer["name"].as_str().zip(truth.name.as_deref());
        name.is_some_and(|(a, b)| key(a) == key(b))
    };
    let mut named = (0..answers.len()).filter(|n| is_named(&answers[*n]));
    match (named.next(), named.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(format!(
            "there are {} answers and {prompts} prompts, and their names do not tell which is which: \
             name one class in each prompt",
            answers.len()
        )),
    }
}

fn report(folder: &Path) -> Option<Value> {
    let bytes = r1seg::files::read(&folder.join("report.json"), 64 << 20).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn of_text(scored: &mut Scored, answer: &str, expected: &str) {
    let same = is_same_text(answer, expected);
    scored.scores.insert("same_text", f64::from(u8::from(same)));
    let bleu = Bleu::of(answer, expected);
    for (name, order) in [("bleu_1", 1), ("bleu_2", 2), ("bleu_3", 3), ("bleu_4", 4)] {
        scored.scores.insert(name, bleu.score(order, Smoothing::None));
    }
    let tokens = RougeTokens::Plain;
    scored.scores.insert("rouge_1", rouge_n(answer, expected, 1, tokens).f1);
    scored.scores.insert("rouge_2", rouge_n(answer, expected, 2, tokens).f1);
    scored.scores.insert("rouge_l", rouge_l(answer, expected, tokens).f1);
    scored.scores.insert("meteor", meteor_exact_stem(answer, expected));
}

fn of_box(scored: &mut Scored, of_report: Option<&Value>, truth: Region) {
    let boxes = of_report.and_then(|of| of["boxes"].as_array());
    let corners = boxes
        .into_iter()
        .flatten()
        .find_map(|found| serde_json::from_value::<[[usize; 3]; 2]>(found["voxels"].clone()).ok());
    let (iou, m3d) = match corners.map(region_of) {
        Some(found) => {
            let (a, b) = (Corners::of(truth), Corners::of(found));
            (box_iou(&a, &b), box_iou_m3d(&a, &b))
        }
        None => (0.0, r1seg_metrics::NO_BOX),
    };
    scored.scores.insert("box_iou", iou);
    scored.scores.insert("box_iou_m3d", m3d);
}

/// From the first and the last voxel, (i, j, k).
fn region_of([first, last]: [[usize; 3]; 2]) -> Region {
    let [i, j, k] = last.map(|index| index.saturating_add(1));
    Region { start: [first[2], first[1], first[0]], end: [k, j, i] }
}

fn of_mask(
    scored: &mut Scored,
    truth: &MaskTruth,
    answer: &Value,
    line: &Value,
    folder: &Path,
    how: Scoring,
    files: &mut Files,
) -> Result<(), String> {
    let label = answer["label"].as_u64().and_then(|n| u16::try_from(n).ok()).unwrap_or(0);
    let masks = line["masks"].as_array();
    let mask =
        masks.into_iter().flatten().find(|mask| mask["label"].as_u64() == Some(label.into()));
    let predicted = match mask.and_then(|mask| mask["file"].as_str()) {
        Some(file) => {
            let (labels, _) = files.labels(&folder.join(file))?;
            // A mask in a file of its own may have its own number.
            Some((labels.label_mask(label).into_parts().0, labels.geometry().clone()))
        }
        None => None,
    };
    let (labels, names) = files.labels(&truth.file)?;
    let own = chosen(labels, names, truth)?;
    let geometry = labels.geometry();
    let predicted = match predicted {
        Some((voxels, of_mask)) => {
            if let Grids::Different(what) = compare_grids(geometry, &of_mask) {
                return Err(format!("the truth is not on the grid of the volume: {what}"));
            }
            voxels
        }
        None => vec![0; own.len()],
    };
    scores_of(scored, &own, &predicted, geometry, how)
}

/// The scores of a mask.
pub(super) fn scores_of(
    scored: &mut Scored,
    truth: &[u8],
    predicted: &[u8],
    geometry: &Geometry,
    how: Scoring,
) -> Result<(), String> {
    let overlap = Overlap::of(truth, predicted).map_err(|e| e.to_string())?;
    let of_r1seg = r1seg_scores(&overlap);
    let both = 2.0 * overlap.both as f64;
    let known = [
        ("dice", overlap.dice(how.empties)),
        ("iou", overlap.iou(how.empties)),
        ("precision", overlap.precision(how.empties)),
        ("recall", overlap.recall(how.empties)),
        ("volume_error", overlap.relative_volume_error().map(f64::abs)),
        ("m3d_dice", Some(both / (overlap.truth as f64 + overlap.predicted as f64 + 1.0))),
        ("r1seg_dice", of_r1seg.has_truth.then_some(of_r1seg.dice)),
        ("r1seg_iou", of_r1seg.has_truth.then_some(of_r1seg.iou)),
    ];
    let surface = surface(truth, predicted, geometry, how)?;
    let of_surface = surface.map(|surface: SurfaceScores| {
        [
            ("surface_dice", surface.surface_dice),
            ("hd95_mm", surface.hd95_directed_mm),
            ("hd95_pooled_mm", surface.hd95_pooled_mm),
            ("hausdorff_mm", surface.hausdorff_mm),
            ("assd_mm", surface.assd_mm),
        ]
    });
    let all = known.into_iter().chain(of_surface.into_iter().flatten());
    let finite =
        all.filter_map(|(name, score)| Some((name, score.filter(|score| score.is_finite())?)));
    scored.scores.extend(finite);
    Ok(())
}

/// Distances, where millimeters are known.
fn surface(
    truth: &[u8],
    predicted: &[u8],
    geometry: &Geometry,
    how: Scoring,
) -> Result<Option<SurfaceScores>, String> {
    let Some((mm, tolerance)) = geometry.spacing_mm().zip(how.tolerance_mm) else {
        return Ok(None);
    };
    let pair = Pair::new(truth, predicted, geometry.shape(), mm).map_err(|e| e.to_string())?;
    Ok(Some(pair.scores(tolerance, how.empties)))
}

/// The voxels of the label that is meant.
fn chosen(
    labels: &LabelMap,
    names: &BTreeMap<u16, String>,
    truth: &MaskTruth,
) -> Result<Vec<u8>, String> {
    Ok(match number_of(names, truth)? {
        None => labels.any_label().into_parts().0,
        Some(number) => labels.label_mask(number).into_parts().0,
    })
}

/// The number of the label that is meant; `None` where all are one.
pub(super) fn number_of(
    names: &BTreeMap<u16, String>,
    truth: &MaskTruth,
) -> Result<Option<u16>, String> {
    match &truth.label {
        TrueLabel::Any => Ok(None),
        TrueLabel::Number(number) => Ok(Some(*number)),
        TrueLabel::Name(name) => {
            let found = names.iter().find(|(_, known)| key(known) == key(name));
            let number = found.map(|(number, _)| *number).ok_or_else(|| {
                let file = truth.file.display();
                format!("the truth `{file}` has no label `{name}`: give `truth_labels`")
            })?;
            Ok(Some(number))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_is_found_by_its_place_and_in_a_group_of_classes_by_its_name() {
        let named = |name: &str| Truth { name: Some(name.to_owned()), ..Truth::default() };
        let two = [json!({"name": "liver"}), json!({"name": "liver"})];
        assert_eq!(position(&two, &named("liver"), 1, 2), Ok(1));
        let three = [json!({"name": "left lung"}), json!({"name": "liver"}), json!({"name": "a"})];
        assert_eq!(position(&three, &named("Liver"), 0, 2), Ok(1));
        assert!(position(&three, &named("lungs"), 0, 2).unwrap_err().contains("3 answers"));
        assert!(position(&two, &named("liver"), 0, 1).is_err());
    }
}
