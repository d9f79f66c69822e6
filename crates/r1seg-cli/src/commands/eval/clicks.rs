//! SAM-Med3D's protocol: each label of the truth is clicked, once, twice and so on.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::UNIX_EPOCH;

use anyhow::Result;
use r1seg::files::sha256_of;
use r1seg::registry::Family;
use r1seg::simulate::RandomState;
use r1seg::volume::{LabelMap, read};
use r1seg::{
    CancelToken, CheckpointSource, EncodeOptions, InferenceMode, Model, PromptKind, RunContext,
};
use serde::{Deserialize, Serialize};

use super::case::{Case, MaskTruth};
use super::score::{Files, Scored, Scoring, number_of, scores_of};
use crate::args::EvalArgs;
use crate::codes::Code;
use crate::commands::batch;
use crate::exit::{CliError, say};
use crate::model;

/// What each label of a volume came to: a line of clicks.jsonl.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Clicked {
    id: String,
    /// The hash of what the scores depend on: the case, its files, the model, and all options.
    basis: String,
    labels: Vec<OfLabel>,
    problem: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct OfLabel {
    group: String,
    /// Dice after each click.
    dice: Vec<f64>,
    scores: BTreeMap<String, f64>,
}

/// The name of the file that a run goes on with.
pub(super) const NAME: &str = "clicks.jsonl";

/// Checks that clicks can be simulated for this model, and returns the mode to run it in.
pub(super) fn check(args: &EvalArgs, family: Family) -> Result<InferenceMode> {
    let mode = family.mode(args.mode)?;
    let looks_at_crops = matches!(mode, InferenceMode::Crop | InferenceMode::Grow);
    if !family.capabilities().takes(PromptKind::Points) || !looks_at_crops {
        return Err(CliError::usage(
            format!("--clicks simulates clicks in crops, which {} does not take", family.name()),
            "use it with SAM-Med3D or NeuroSAM3D, in mode crop or grow",
        ));
    }
    if args.order.shard.is_some() {
        return Err(CliError::usage(
            "--shard divides a batch, and --clicks runs none",
            "give each part a list of its own",
        ));
    }
    Ok(mode)
}

/// Clicks every label of every truth. Returns scores, and the mean Dice after each click.
pub(super) fn run(
    args: &EvalArgs,
    cases: &[Case],
    clicks: u16,
    how: Scoring,
    cancel: &CancelToken,
) -> Result<(Vec<Scored>, Vec<f64>)> {
    let (source, name) = model::source(&args.model)?;
    let mode = check(args, source.family()?)?;
    let path = args.out.join(NAME);
    let continues = args.order.resume || args.score_only;
    let bases = Bases::new(args, &source, (mode, clicks), how)?;
    let mut lines = match continues {
        true => read_back(&path),
        false => BTreeMap::new(),
    };
    let before = lines.len();
    for case in cases {
        if lines.get(&case.id).is_some_and(|line| line.basis != bases.of(case)) {
            lines.remove(&case.id);
        }
    }
    if args.score_only && lines.len() < before {
        return Err(CliError::usage(
            "clicks are scored while they are simulated, and these were with other options, files or weights",
            "run it again without --score-only, or with the options of that run",
        ));
    }
    let todo: Vec<&Case> = cases.iter().filter(|case| !lines.contains_key(&case.id)).collect();
    if !todo.is_empty() && !args.score_only {
        let options = model::refined(model::load_options(&args.model.load, 0), &args.refine);
        let loaded = r1seg::load(&source, &options.with_cancel(cancel.clone()))?;
        if !args.order.quiet {
            model::announce(&loaded, &name.id);
        }
        let mut open = File::options();
        let open = open.create(true).write(true).append(continues).truncate(!continues);
        let unwritable = |e: std::io::Error| {
            let what = format!("the results cannot be written: {e}");
            CliError::new(Code::BatchUnwritable, what).at(&path)
        };
        let mut file = open.open(&path).map_err(unwritable)?;
        for (number, case) in (1..).zip(&todo) {
            // Before the files are read: a file that changes meanwhile is clicked again.
            let basis = bases.of(case);
            let (labels, problem) = match of_case(&loaded, case, (args, mode, clicks, how), cancel)
            {
                Ok(labels) => (labels, None),
                Err(error) => {
                    cancel.check()?;
                    (Vec::new(), Some(error.to_string()))
                }
            };
            let clicked = Clicked { id: case.id.clone(), basis, labels, problem };
            if !args.order.quiet {
                say!("r1seg: {number} of {}: {}", todo.len(), words(&clicked));
            }
            let line = serde_json::to_string(&clicked)? + "\n";
            file.write_all(line.as_bytes()).map_err(unwritable)?;
            lines.insert(case.id.clone(), clicked);
        }
    }
    Ok(scored(cases, &lines, clicks))
}

fn words(clicked: &Clicked) -> String {
    match &clicked.problem {
        Some(problem) => format!("{}: {problem}", clicked.id),
        None => {
            let last = |of: &OfLabel| of.dice.last().map_or(0.0, |dice| *dice);
            let all: Vec<String> =
                clicked.labels.iter().map(|of| format!("{} {:.3}", of.group, last(of))).collect();
            format!("{}: Dice {}", clicked.id, all.join(", "))
        }
    }
}

/// What scores of clicks depend on.
struct Bases {
    options: String,
}

impl Bases {
    fn new(
        args: &EvalArgs,
        source: &CheckpointSource,
        (mode, clicks): (InferenceMode, u16),
        how: Scoring,
    ) -> Result<Self> {
        let model = batch::of_model(source)?;
        let options = format!(
            "{} {model} {:?} {mode} {clicks} {how:?} {:?} {:?} {:?}",
            env!("CARGO_PKG_VERSION"),
            args.model.load.dtype,
            args.prepare,
            args.volume,
            args.refine,
        );
        Ok(Self { options })
    }

    /// The hash of a case.
    fn of(&self, case: &Case) -> String {
        let image = case.row.get("image").and_then(|path| path.as_str()).unwrap_or_default();
        let truths =
            case.truths.iter().filter_map(|truth| Some(truth.mask.as_ref()?.file.as_path()));
        let mut text = format!("{}\n{case:?}\n", self.options);
        for file in std::iter::once(Path::new(image)).chain(truths) {
            let state = file.metadata().ok().map(|file| {
                let time = file.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
                (file.len(), time)
            });
            text.push_str(&format!("{state:?}\n"));
        }
        sha256_of(text.as_bytes())
    }
}

/// The lines of an earlier run, the last one of each volume.
fn read_back(path: &Path) -> BTreeMap<String, Clicked> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Clicked>(line).ok());
    lines.filter(|line| line.problem.is_none()).map(|line| (line.id.clone(), line)).collect()
}

fn of_case(
    model: &Model,
    case: &Case,
    (args, mode, clicks, how): (&EvalArgs, InferenceMode, u16, Scoring),
    cancel: &CancelToken,
) -> Result<Vec<OfLabel>> {
    let image = case.row.get("image").and_then(|path| path.as_str()).unwrap_or_default();
    let volume = read(image, &args.volume.read_options())?.volume;
    let options = EncodeOptions::default().with_preprocess(args.prepare.preprocess).with_mode(mode);
    let options = args.volume.with_orient(options);
    let encoded = model.encode_with(&volume, &options, &mut RunContext::from(cancel))?;
    let mut all = Vec::new();
    let mut files = Files::default();
    for truth in &case.truths {
        let Some(mask) = &truth.mask else { continue };
        let (labels, names) = files.labels(&mask.file).map_err(anyhow::Error::msg)?;
        let chosen = chosen(labels, names, mask, &truth.group).map_err(anyhow::Error::msg)?;
        for (number, group) in chosen {
            let own = labels.label_mask(number);
            let (mut dice, mut last) = (Vec::new(), Scored::default());
            for count in 1..=usize::from(clicks) {
                // The first clicks of a sequence are the same however long it is.
                let mut random = RandomState::new(0);
                let mut run = RunContext::from(cancel);
                let of = encoded.simulate_clicks(&own, count, &mut random, &mut run)?;
                let none = vec![0; own.data().len()];
                let predicted =
                    of.outcome.mask.as_ref().map_or(none.as_slice(), |mask| mask.data());
                let is_last = count == usize::from(clicks);
                let how = Scoring { tolerance_mm: how.tolerance_mm.filter(|_| is_last), ..how };
                last = Scored::default();
                scores_of(&mut last, own.data(), predicted, own.geometry(), how)
                    .map_err(anyhow::Error::msg)?;
                dice.push(last.scores.get("dice").copied().unwrap_or(0.0));
            }
            let scores = last.scores.into_iter().map(|(name, score)| (name.to_owned(), score));
            all.push(OfLabel { group, dice, scores: scores.collect() });
        }
    }
    Ok(all)
}

/// The labels that a truth is about; of a whole map, each of its own.
fn chosen(
    labels: &LabelMap,
    names: &BTreeMap<u16, String>,
    truth: &MaskTruth,
    group: &str,
) -> Result<Vec<(u16, String)>, String> {
    let there = (1..=u16::MAX).take(labels.len()).filter(|label| labels.voxels(*label) > 0);
    let chosen: Vec<(u16, String)> = match number_of(names, truth)? {
        Some(number) => {
            there.filter(|label| *label == number).map(|label| (label, group.to_owned())).collect()
        }
        None => {
            let name = |label| names.get(&label).cloned();
            there.map(|label| (label, name(label).unwrap_or(format!("label {label}")))).collect()
        }
    };
    match chosen.is_empty() {
        true => {
            Err(format!("the truth `{}` has no voxel of what is asked for", truth.file.display()))
        }
        false => Ok(chosen),
    }
}

fn scored(
    cases: &[Case],
    lines: &BTreeMap<String, Clicked>,
    clicks: u16,
) -> (Vec<Scored>, Vec<f64>) {
    let mut all = Vec::new();
    let mut curves: Vec<Vec<f64>> = vec![Vec::new(); usize::from(clicks)];
    for case in cases {
        let base =
            Scored { id: case.id.clone(), dataset: case.dataset.clone(), ..Scored::default() };
        let Some(line) = lines.get(&case.id) else {
            let problem = Some("it was not run".to_owned());
            all.push(Scored { status: "missing".to_owned(), problem, ..base });
            continue;
        };
        if line.problem.is_some() {
            let problem = line.problem.clone();
            all.push(Scored { status: "failed".to_owned(), problem, ..base });
            continue;
        }
        for of in &line.labels {
            for (curve, dice) in curves.iter_mut().zip(&of.dice) {
                curve.push(*dice);
            }
            let known = super::metrics::METRICS.iter().map(|metric| metric.name);
            let scores = known.filter_map(|name| Some((name, *of.scores.get(name)?))).collect();
            let (group, status) = (of.group.clone(), "found".to_owned());
            all.push(Scored { group, status, scores, ..base.clone() });
        }
    }
    let mean = |values: &Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    let curve = curves.iter().filter(|values| !values.is_empty()).map(mean).collect();
    (all, curve)
}
