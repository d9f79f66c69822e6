//! `r1seg demo`: proves an installation, offline, against a known truth.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use r1seg::phantom::{self, CAPTION_QUESTION, Organ, Phantom};
use r1seg::volume::{Mask, Overwrite, Volume, intensity, mask_stats};
use r1seg::{
    AskOptions, CancelToken, CheckpointSource, EncodeOptions, EncodedVolume, LoadOptions,
    R1SegModel, RunContext,
};
use r1seg_results::preview::{Scene, render};
use r1seg_results::report::{MaskReport, Model, Origin, Questions, Report};
use r1seg_results::{Asked, Findings, Given, OutputFolder, Protected, StagedFiles};

use crate::args::DemoArgs;
use crate::exit::{Exit, say};
use crate::interrupt::Writing;
use crate::job;
use crate::model;
use crate::progress::Progress;

const MASK: &str = "mask.nii.gz";
const TRUTH: &str = "truth.nii.gz";
const PHANTOM: &str = "phantom.nii.gz";
const PICTURE: &str = "preview.png";
const REPORT: &str = "report.json";

pub(crate) fn run(args: &DemoArgs, cancel: CancelToken) -> Result<Exit> {
    let start = Instant::now();
    // A folder without a truth is not an earlier demo's: its masks are somebody's work.
    let replace = args.force || args.out.join(TRUTH).exists();
    let overwrite = if replace { Overwrite::Replace } else { Overwrite::Refuse };
    let files = [MASK, TRUTH, PHANTOM, PICTURE, REPORT].map(|file| args.out.join(file));
    Protected::default().check(&files)?;
    let output = OutputFolder::open(Some(args.out.clone()), overwrite, &files)?;
    let source = CheckpointSource::demo();
    let model = R1SegModel::load_with(&source, &LoadOptions::default().with_device(args.device))?;
    model::announce(&model, "demo (knows only synthetic phantoms)");

    let demo = Demo::draw(args.seed)?;
    let progress = Progress::new(false);
    progress.stage("encoding the phantom");
    let mut context = RunContext::from(&cancel);
    let encoded = model.encode_with(&demo.volume, &EncodeOptions::default(), &mut context)?;
    progress.clear();
    let options = AskOptions::default();
    if !args.json {
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "phantom {}: 32x256x256 voxels, six organs\n", args.seed)?;
    }
    progress.stage("asking for its organs");
    let (answers, found) = answers(&encoded, &options, &mut context)?;
    progress.clear();
    let (findings, masks) = demo.measure(&found)?;
    let mean = masks.iter().filter_map(|m| m.dice).sum::<f64>() / Organ::ALL.len() as f64;
    if !args.json {
        print(&answers, &masks)?;
    }

    let origin = demo.origin(&args.out.join(PHANTOM));
    let run = job::run(&model, &Model::of(&model, &source), origin, &encoded);
    let questions = Questions {
        options: &options,
        region: None,
        separator: model.separator(&options, None),
        grid: model.input_shape(),
        answers: &answers,
    };
    let mut report = Report::of_answers(run, &questions);
    // The first question is for a caption.
    (1..).zip(masks).for_each(|(index, mask)| report.add_mask(index, mask));
    report.set_folder(Some(&args.out));

    let saving = Instant::now();
    let _writing = Writing::begin();
    let mut stage = output.stage()?;
    demo.write(&mut stage, &args.out, &findings)?;
    report.finish(Vec::new(), saving.elapsed(), start.elapsed());
    let json = report.to_json()?;
    stage.write(&args.out.join(REPORT), json.as_bytes())?;
    stage.commit(&[])?;
    let mut stdout = std::io::stdout().lock();
    match args.json {
        true => stdout.write_all(json.as_bytes())?,
        false => writeln!(stdout, "mean Dice {mean:.3}")?,
    }
    say!(
        "r1seg: mask {} | picture {} | {:.1} s",
        args.out.join(MASK).display(),
        args.out.join(PICTURE).display(),
        start.elapsed().as_secs_f64()
    );
    Ok(Exit::Answered)
}

/// Asks for a caption, then for each organ in another of the ways that the model was taught.
fn answers(
    encoded: &EncodedVolume,
    options: &AskOptions,
    context: &mut RunContext<'_>,
) -> Result<(Vec<Given>, Vec<Option<Mask>>)> {
    let ways = Organ::ALL.iter().map(|organ| organ.questions()).enumerate();
    let asked = ways.filter_map(|(n, ways)| ways.get(n % ways.len().max(1)).cloned());
    let questions: Vec<String> = [CAPTION_QUESTION.to_string()].into_iter().chain(asked).collect();
    let texts: Vec<&str> = questions.iter().map(String::as_str).collect();
    let answers = encoded.ask_many_with(&texts, options, context)?;
    let given = |(question, answer)| Given::new(Asked::of_text(question), answer);
    Ok(questions.into_iter().zip(answers).map(given).collect())
}

/// Prints each question with its answer and, behind those about organs, what was measured.
fn print(answers: &[Given], masks: &[MaskReport]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    // The caption has no mask to measure.
    let masks = std::iter::once(None).chain(masks.iter().map(Some));
    for (Given { asked, outcome, .. }, mask) in answers.iter().zip(masks) {
        writeln!(stdout, "Q: {}\nA: {}", asked.text(), outcome.text)?;
        if let Some(MaskReport { name, volume_ml, dice, .. }) = mask {
            let (ml, dice) = (volume_ml.unwrap_or(0.0), dice.unwrap_or(0.0));
            writeln!(stdout, "   {name}: {ml:.0} mL, Dice {dice:.3} against the truth")?;
        }
        writeln!(stdout)?;
    }
    Ok(())
}

/// A phantom as a volume.
struct Demo {
    phantom: Phantom,
    volume: Volume,
    range: Option<(f32, f32)>,
}

impl Demo {
    fn draw(seed: u64) -> Result<Self> {
        let phantom = Phantom::draw(seed);
        let volume = phantom::volume(&phantom)?;
        Ok(Self { range: intensity::min_max(volume.voxels()), phantom, volume })
    }

    fn origin(&self, path: &Path) -> Origin<'_> {
        Origin {
            path: path.display().to_string(),
            sha256: None,
            kind: "phantom",
            series: None,
            geometry: self.volume.geometry(),
            range: self.range,
            io: Duration::ZERO,
        }
    }

    /// The masks of the organs, joined and measured.
    fn measure(&self, found: &[Option<Mask>]) -> Result<(Findings, Vec<MaskReport>)> {
        let mut findings = Findings::new(self.volume.geometry());
        let mut masks = Vec::new();
        for (organ, found) in Organ::ALL.into_iter().zip(found.iter().skip(1)) {
            findings.push(organ.name(), found.as_ref(), Vec::new(), None)?;
            let label = u16::from(organ.label());
            let mask = findings.labels().label_mask(label);
            let stats = mask_stats(&mask, 1, &self.volume)?;
            masks.push(MaskReport {
                path: Some(MASK.to_string()),
                dice: Some(self.phantom.dice(mask.data(), organ).unwrap_or(0.0)),
                ..MaskReport::new(label, organ.name(), &stats, self.range)
            });
        }
        Ok((findings, masks))
    }

    /// Writes all files but the report.
    fn write(&self, stage: &mut StagedFiles<'_>, folder: &Path, findings: &Findings) -> Result<()> {
        stage.write_labels(&folder.join(MASK), findings.labels())?;
        let geometry = self.volume.geometry().clone();
        let truth = Mask::new(self.phantom.truth.clone(), geometry)?;
        stage.write_mask(&folder.join(TRUTH), &truth)?;
        stage.write_volume(&folder.join(PHANTOM), &self.volume)?;
        let scene = Scene {
            labels: findings.labels().labels(),
            names: &findings.captions(),
            title: &format!("phantom {}: what the demo model found", self.phantom.seed),
            ..Scene::of(&self.volume)
        };
        stage.write(&folder.join(PICTURE), &render(&scene).png()?)?;
        Ok(())
    }
}
