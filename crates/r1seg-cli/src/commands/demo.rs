//! `r1seg demo`: proves an installation, offline, against a known truth.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use r1seg::phantom::{CAPTION_QUESTION, Organ, Phantom};
use r1seg::volume::{Geometry, Mask, Overwrite, Volume, intensity, mask_stats};
use r1seg::{
    Answer, AskOptions, CancelToken, CheckpointSource, EncodeOptions, LoadOptions, R1SegModel,
    RunContext,
};
use r1seg_results::preview::{Coverage, Named, Scene, render};
use r1seg_results::report::{MaskReport, Origin, Questions, Report};
use r1seg_results::{OutputFolder, Protected, StagedFiles};

use crate::args::DemoArgs;
use crate::exit::{Exit, say};
use crate::interrupt::Writing;
use crate::job;
use crate::progress::Progress;
use crate::study;

/// mm along D, H, W: a trunk as of a person, with a liver of about 1.7 L.
const SPACING_MM: [f64; 3] = [8.0, 1.3, 1.3];

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
    let path = |file: &str| args.out.join(file);
    let files = [MASK, TRUTH, PHANTOM, PICTURE, REPORT].map(path);
    Protected::default().check(&files)?;
    let output = OutputFolder::open(Some(args.out.clone()), overwrite, &files)?;
    let source = CheckpointSource::demo();
    let model = R1SegModel::load_with(&source, &LoadOptions::default().with_device(args.device))?;
    study::announce(&model, "demo (knows only synthetic phantoms)");

    let phantom = Phantom::draw(args.seed);
    let volume = Volume::new(phantom.volume.clone(), geometry(phantom.shape)?)?;
    let progress = Progress::new(false);
    progress.stage("encoding the phantom");
    let mut run = RunContext::from(&cancel);
    let study = model.encode_with(&volume, &EncodeOptions::default(), &mut run)?;
    progress.clear();

    let range = intensity::min_max(volume.voxels());
    let mut labels = vec![0u8; phantom.truth.len()];
    let mut masks = Vec::new();
    let options = AskOptions::default();
    // Each organ is asked for in another of the ways that the model was taught.
    let ways = Organ::ALL.iter().map(|organ| organ.questions()).enumerate();
    let asked = ways.filter_map(|(n, ways)| ways.get(n % ways.len().max(1)).cloned());
    let questions: Vec<String> = [CAPTION_QUESTION.to_string()].into_iter().chain(asked).collect();
    let mut stdout = std::io::stdout().lock();
    if !args.json {
        writeln!(stdout, "phantom {}: 32x256x256 voxels, six organs\n", args.seed)?;
    }
    progress.stage("asking for its organs");
    let texts: Vec<&str> = questions.iter().map(String::as_str).collect();
    let said = study.ask_many_with(&texts, &options, &mut run)?;
    progress.clear();
    let answers: Vec<_> = questions.into_iter().zip(said).collect();
    // The caption has no mask to measure.
    let organs = std::iter::once(None).chain(Organ::ALL.into_iter().map(Some));
    for ((question, answer), organ) in answers.iter().zip(organs) {
        if !args.json {
            writeln!(stdout, "Q: {question}\nA: {}", answer.text)?;
        }
        if let Some(organ) = organ {
            let mask = answer.mask.as_ref();
            let measured = segmented(&phantom, &volume, range, organ, mask, &mut labels)?;
            let (name, dice) = (organ.name(), measured.dice.unwrap_or(0.0));
            let ml = measured.volume_ml.unwrap_or(0.0);
            if !args.json {
                writeln!(stdout, "   {name}: {ml:.0} mL, Dice {dice:.3} against the truth")?;
            }
            masks.push(measured);
        }
        if !args.json {
            writeln!(stdout)?;
        }
    }
    let mean = masks.iter().filter_map(|m| m.dice).sum::<f64>() / Organ::ALL.len() as f64;

    let origin = Origin {
        path: path(PHANTOM).display().to_string(),
        sha256: None,
        kind: "phantom",
        series: None,
        geometry: volume.geometry(),
        range,
        io: Duration::ZERO,
    };
    let run = job::run(&model, &source, origin, (&study).into());
    let questions = Questions {
        options: &options,
        separator: model.separator(&options),
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
    write(&mut stage, &path, &phantom, &volume, &labels)?;
    stage.write(&path(PICTURE), &picture(&phantom, &volume, &labels, &answers)?)?;
    report.finish(Vec::new(), saving.elapsed(), start.elapsed());
    let json = report.to_json()?;
    stage.write(&path(REPORT), json.as_bytes())?;
    stage.commit(&[])?;
    if args.json {
        stdout.write_all(json.as_bytes())?;
    }
    if !args.json {
        writeln!(stdout, "mean Dice {mean:.3}")?;
    }
    say!(
        "r1seg: mask {} | picture {} | {:.1} s",
        path(MASK).display(),
        path(PICTURE).display(),
        start.elapsed().as_secs_f64()
    );
    Ok(Exit::Answered)
}

/// The phantom lies as a CT does: W runs to the left, H to the back, D to the head.
fn geometry(shape: [usize; 3]) -> Result<Geometry> {
    let [d, h, w] = SPACING_MM;
    let affine = [
        [-w, 0.0, 0.0, w * (shape[2] as f64 - 1.0) / 2.0],
        [0.0, -h, 0.0, h * (shape[1] as f64 - 1.0) / 2.0],
        [0.0, 0.0, d, 0.0],
        [0.0, 0.0, 0.0, 1.0],
    ];
    Ok(Geometry::with_affine(shape, affine)?)
}

/// Adds an organ's mask to the labels and measures it.
fn segmented(
    phantom: &Phantom,
    volume: &Volume,
    range: Option<(f32, f32)>,
    organ: Organ,
    mask: Option<&Mask>,
    labels: &mut [u8],
) -> Result<MaskReport> {
    let empty;
    let mask = match mask {
        Some(mask) => mask,
        None => {
            empty = Mask::new(vec![0; labels.len()], volume.geometry().clone())?;
            &empty
        }
    };
    for (label, _) in labels.iter_mut().zip(mask.data()).filter(|(_, v)| **v == 1) {
        *label = organ.label();
    }
    Ok(MaskReport {
        path: Some(MASK.to_string()),
        dice: Some(phantom.dice(mask.data(), organ).unwrap_or(0.0)),
        ..MaskReport::new(organ.label(), organ.name(), &mask_stats(mask, 1, volume)?, range)
    })
}

fn write(
    stage: &mut StagedFiles<'_>,
    path: &impl Fn(&str) -> PathBuf,
    phantom: &Phantom,
    volume: &Volume,
    labels: &[u8],
) -> Result<()> {
    let geometry = volume.geometry();
    let mask = Mask::new(labels.to_vec(), geometry.clone())?;
    stage.write_mask(&path(MASK), &mask)?;
    let truth = Mask::new(phantom.truth.clone(), geometry.clone())?;
    stage.write_mask(&path(TRUTH), &truth)?;
    stage.write_volume(&path(PHANTOM), volume)?;
    Ok(())
}

/// Draws the labels; the answer about the caption comes before those about the organs.
fn picture(
    phantom: &Phantom,
    volume: &Volume,
    labels: &[u8],
    answers: &[(String, Answer)],
) -> Result<Vec<u8>> {
    let organs = Organ::ALL.iter().zip(answers.iter().skip(1));
    let names: Vec<Named> = organs
        .map(|(organ, (_, answer))| Named {
            name: organ.name().to_string(),
            mask: answer.mask.as_ref().map(|m| Coverage::of(m.data(), organ.label(), labels)),
        })
        .collect();
    let title = format!("phantom {}: what the demo model found", phantom.seed);
    let (names, title) = (&names, &title);
    Ok(render(&Scene { labels, names, title, ..Scene::of(volume) }).png()?)
}
