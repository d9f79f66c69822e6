//! `r1seg segment`: one volume, and what texts, points or a box say of it.

use std::io::Write;
use std::time::Instant;

use anyhow::Result;
use r1seg::volume::Warning;
use r1seg::{
    CancelToken, Event, MaskStatus, Orient, PromptableConfig, PromptableModel, PromptedVolume,
    SegmentMode, SegmentOptions, SegmentPrompt, phrasing,
};

use crate::args::SegmentArgs;
use crate::exit::{CliError, Exit, one_line, say};
use crate::input::Input;
use crate::organs::{self, Organ};
use crate::progress::Progress;
use crate::prompts;
use crate::report::{Asked, Origin, SegmentReport};
use crate::results::{self, Finding, Outputs, Request, Results, number};
use crate::study;

pub(crate) fn run(args: &SegmentArgs, cancel: CancelToken) -> Result<Exit> {
    let request = Request {
        image: &args.image,
        affine_from: args.volume.affine_from.as_deref(),
        prompts: ("--text -", &args.text),
        has_answers: false,
        output: &args.output,
    };
    results::check_args(&request)?;
    let (source, name) = study::source(&args.model)?;
    study::verify(&args.model, &cancel)?;
    let mut texts = texts(args)?;
    let organs = organs::organs(&args.organ, "--text")?;
    check_places(args, texts.len() + organs.len())?;
    let count = (texts.len() + organs.len()).max(1);
    prompts::check_number(count)?;
    results::check_count(&request, count)?;
    // Before anything large is read, what is asked for is compared with what the model knows.
    let config = PromptableConfig::read(&source)?;
    let mode = args.mode.unwrap_or(config.mode);
    let mut outline = args.places.outline();
    let sentence = |organ: &Organ| phrasing::sentence(config.family, organ.term);
    texts.extend(organs.iter().map(|organ| (organ.term.to_string(), sentence(organ))));
    outline.text = texts.first().map(|(_, text)| text.clone());
    outline.check(&config, mode)?;
    if args.output.trace.is_some() && mode == SegmentMode::Sliding {
        return Err(CliError::usage(
            "--trace writes the stages of one look at the whole, and sliding windows take none",
            "use --mode resize",
        ));
    }
    let quiet = args.output.quiet;

    let start = Instant::now();
    let progress = Progress::new(quiet);
    progress.stage("reading the volume");
    let mut input = Input::read(&args.image, &args.volume.read_options())?;
    args.volume.orient.axes(input.volume.geometry()).map_err(r1seg::Error::from)?;
    let places = args.places.prompt(input.volume.geometry())?;
    let (outputs, output) = Outputs::open(&request, &source, &input, count)?;
    let to_stdout = outputs.mask_to_stdout;

    progress.stage("loading the model");
    let reserved = working_memory(mode, args.volume.orient, &input, count);
    let load = study::refined(study::load_options(&args.model, reserved), &args.refine);
    let model = PromptableModel::load_with(source, &load)?;
    progress.clear();
    if !quiet {
        study::announce(&model, &name.id);
        study::announce_series(input.series.as_ref());
        for organ in &organs {
            say!("r1seg: --organ {} is the text: {}", organ.given, sentence(organ));
        }
    }
    for (index, (_, text)) in texts.iter().enumerate() {
        model.check_text(text).map_err(|e| prompts::which("text", e, (index, texts.len())))?;
    }

    let mut options = SegmentOptions::default()
        .with_preprocess(args.prepare.preprocess)
        .with_orient(args.volume.orient)
        .with_mode(mode)
        .with_cancel(cancel);
    if args.output.trace.is_some() {
        options = options.with_trace();
    }
    let mut warnings = std::mem::take(&mut input.warnings);
    let sha256 = input.sha256();
    let origin = Origin::of(&input, sha256);
    let study = model.encode(&input.volume, &options)?;
    let asked = ask_all(&study, named(texts, &places), quiet)?;
    warnings.extend(study.warnings().iter().cloned());
    for (index, (_, _, found)) in asked.iter().enumerate() {
        if found.status() == MaskStatus::Empty {
            let which = if count > 1 { format!("text {}: ", index + 1) } else { String::new() };
            warnings.push(Warning::new("W-EMPTY", format!("{which}nothing was found")));
        }
    }
    let report = SegmentReport::new(&model, &name, &origin, &study, &asked);
    let findings: Vec<Finding<'_>> = asked
        .iter()
        .enumerate()
        .map(|(index, (name, _, found))| Finding {
            name: results::label_name(&args.output, index, name),
            mask: Some(&found.mask),
            boxes: Vec::new(),
            why_no_mask: "nothing was found",
        })
        .collect();
    let results = Results {
        request: &request,
        outputs,
        input: &input,
        findings: &findings,
        asked_box: places.region,
        asked_points: &places.points,
        answer: String::new(),
        trace: asked.first().and_then(|(_, _, found)| found.trace.as_ref()),
    };
    let written = results.write(&output, report, warnings, start)?;

    if !quiet {
        written.warnings.iter().for_each(study::warn);
    }
    if to_stdout {
        results::print_mask(written.stdout_mask.as_ref())?;
    } else if args.output.json {
        std::io::stdout().write_all(written.json.as_bytes())?;
    } else {
        let mut out = std::io::stdout().lock();
        for (index, (name, _, _)) in asked.iter().enumerate() {
            let which = if count > 1 { number(index) } else { String::new() };
            writeln!(out, "{which}{}: {}", one_line(name), written.sizes[index])?;
        }
    }
    if !quiet {
        written.summary.iter().for_each(|line| say!("r1seg: {line}"));
    }
    let found = asked.iter().all(|(_, _, found)| found.status() == MaskStatus::Found);
    Ok(if args.output.require_mask && !found { Exit::NoMask } else { Exit::Answered })
}

/// The texts that were given, each its own name.
fn texts(args: &SegmentArgs) -> Result<Vec<(String, String)>> {
    let texts = prompts::several(&args.text, "--text")?;
    Ok(texts.into_iter().map(|text| (text.clone(), text)).collect())
}

/// There is one text at most beside points and boxes.
fn check_places(args: &SegmentArgs, texts: usize) -> Result<()> {
    if texts > 1 && args.places.is_given() {
        return Err(CliError::usage(
            format!("{texts} texts, and points or a box that can belong to one only"),
            "segment one at a time",
        ));
    }
    Ok(())
}

/// Each prompt with a name.
fn named(texts: Vec<(String, String)>, places: &SegmentPrompt) -> Vec<(String, SegmentPrompt)> {
    if texts.is_empty() {
        let name = match (places.points.len(), places.region) {
            (0, _) => "box",
            (1, None) => "point",
            (_, None) => "points",
            (_, Some(_)) => "points and box",
        };
        return vec![(name.to_string(), places.clone())];
    }
    let prompt = |(name, text): (String, String)| {
        let mut prompt = places.clone();
        prompt.text = Some(text);
        (name, prompt)
    };
    texts.into_iter().map(prompt).collect()
}

fn ask_all(
    study: &PromptedVolume,
    prompts: Vec<(String, SegmentPrompt)>,
    quiet: bool,
) -> Result<Vec<Asked>> {
    let of = prompts.len();
    let progress = Progress::new(quiet);
    let mut asked = Vec::with_capacity(of);
    for (index, (name, prompt)) in prompts.into_iter().enumerate() {
        let which = if of > 1 { format!("text {} of {of}: ", index + 1) } else { String::new() };
        progress.stage(format!("{which}encoding the volume"));
        let found = study.segment_with(&prompt, &mut |event| match event {
            Event::Window { index, of } => {
                progress.stage(format!("{which}window {} of {of}", index + 1));
            }
            Event::Mask => progress.stage(format!("{which}drawing the mask")),
            _ => {}
        })?;
        asked.push((name, prompt, found));
    }
    progress.clear();
    Ok(asked)
}

/// Bytes beside the volume itself and the model, for what is made of the volume.
fn working_memory(mode: SegmentMode, orient: Orient, input: &Input, prompts: usize) -> u64 {
    // In windows: sums of logits, their number and their mean, all f32.
    let grids = match mode {
        SegmentMode::Resize => 0,
        SegmentMode::Zoom | SegmentMode::Sliding => 3,
    };
    // A mask a prompt and one on its way, one that joins them, and a layer of the segmentation for
    // each at the worst.
    // While a mask is turned back to the stored grid, there are two of it.
    let turned = u64::from(orient != Orient::Stored);
    let bytes_a_voxel = 4 * grids + 2 * prompts as u64 + 2 + turned;
    bytes_a_voxel.saturating_mul(input.volume.voxels().len() as u64)
}
