//! What is asked for: texts and organs, or the places of objects.

use std::sync::Arc;

use anyhow::Result;
use r1seg::registry::Family;
use r1seg::volume::{Geometry, LabelMap};
use r1seg::{AskOptions, AutomaticConfig, CheckpointSource, InferenceMode, Model, Prompt};
use r1seg_results::{Asked, OrganName};

use crate::args::SegmentArgs;
use crate::exit::{CliError, say};
use crate::prompts;

/// The texts of a run: those that were given, then those of organs.
pub(super) struct Texts {
    texts: Vec<Asked>,
}

impl Texts {
    pub(super) fn new(texts: Vec<String>, organs: Vec<OrganName>, family: Family) -> Self {
        let organs = organs.into_iter().map(|organ| Asked::of_organ(organ, family));
        Self { texts: texts.into_iter().map(Asked::of_text).chain(organs).collect() }
    }

    /// And classes.
    pub(super) fn and_classes(mut self, classes: Vec<Asked>) -> Self {
        self.texts.extend(classes);
        self
    }

    /// The labels of masks that have files of their own.
    pub(super) fn labels(&self, source: &CheckpointSource, count: usize) -> Result<Vec<u16>> {
        if self.texts.is_empty() {
            return Ok((1..=u16::try_from(count).unwrap_or(u16::MAX)).collect());
        }
        let config = AutomaticConfig::read(source)?;
        let label = |asked: &Asked| match asked.text().parse() {
            Ok(number) => Ok(number),
            Err(_) => config.classes().class(asked.text()).map(|class| class.id),
        };
        Ok(self.texts.iter().map(label).collect::<Result<_, _>>()?)
    }

    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether the model knows such prompts. Returns the mode in which it takes them.
    pub(super) fn check(&self, args: &SegmentArgs, family: Family) -> Result<InferenceMode> {
        let mode = family.mode(args.mode)?;
        family.preprocess(args.prepare.preprocess)?;
        let mut outlines = args.places.outlines();
        if outlines.is_empty() {
            outlines.push(Prompt::default());
        }
        for mut outline in outlines {
            outline.points_at_once = args.clicks.at_once;
            outline.text = self.texts.first().map(|asked| asked.text().to_string());
            if args.clicks.mask_prompt.is_some() {
                outline = outline.with_mask(Arc::new(LabelMap::new(nowhere()).label_mask(1)));
            }
            outline.check(family, mode)?;
        }
        let looks_once = mode != InferenceMode::Sliding || family.has_classes();
        if args.output.trace.is_some() && !looks_once {
            return Err(CliError::usage(
                "--trace writes the stages of one look at the whole, and sliding windows take none",
                "use --mode resize",
            ));
        }
        Ok(mode)
    }

    pub(super) fn announce(&self, quiet: bool) {
        for asked in self.texts.iter().filter(|_| !quiet) {
            if let Some(organ) = &asked.organ {
                say!("r1seg: --organ {} is the text: {}", organ.given, asked.text());
            }
        }
    }

    pub(super) fn check_texts(&self, model: &Model, mode: InferenceMode) -> Result<()> {
        let of = self.texts.len();
        for (index, asked) in self.texts.iter().enumerate() {
            // Places are left out: they were checked before the volume was read.
            asked
                .check(model, &AskOptions::default(), Some(mode))
                .map_err(|e| prompts::which("text", e, (index, of)))?;
        }
        Ok(())
    }

    /// All prompts. Places are those of the volume.
    pub(super) fn asked(self, mut places: Vec<(Option<String>, Prompt)>) -> Vec<Asked> {
        if self.texts.is_empty() {
            let named = |(name, prompt): (Option<String>, Prompt)| {
                Asked::new(name.unwrap_or_else(|| Asked::kinds(&prompt).to_string()), prompt)
            };
            return places.into_iter().map(named).collect();
        }
        // There is one text at most beside places.
        let places = places.pop().map(|(_, prompt)| prompt).unwrap_or_default();
        let with_places = |mut asked: Asked| {
            let text = asked.prompt.text.take();
            asked.prompt = places.clone();
            asked.prompt.text = text;
            asked
        };
        self.texts.into_iter().map(with_places).collect()
    }
}

/// A grid for what is only outlined.
fn nowhere() -> Geometry {
    Geometry::without_affine([1; 3])
}

/// There is one text at most beside the places of one object.
pub(super) fn check_places(args: &SegmentArgs, texts: usize) -> Result<()> {
    let objects = args.places.len();
    let bare = args.places.bare().filter(|_| args.clicks.mask_prompt.is_none());
    if let Some(name) = bare {
        return Err(CliError::usage(
            format!("--target {name} has neither points nor a box"),
            "give them behind it, or a mask to correct with --mask-prompt",
        ));
    }
    if texts > 1 && objects > 0 {
        return Err(CliError::usage(
            format!("{texts} texts, and points or a box that can belong to one only"),
            "segment one at a time",
        ));
    }
    if texts > 0 && objects > 1 {
        return Err(CliError::usage(
            format!("a text, and {objects} targets that it can belong to one of only"),
            "segment one at a time",
        ));
    }
    Ok(())
}

/// Gives each object the part of an earlier mask that is its own: the label of its number, or of one
/// object all labels.
pub(super) fn with_masks(
    mut places: Vec<(Option<String>, Prompt)>,
    earlier: &LabelMap,
    quiet: bool,
) -> Result<Vec<(Option<String>, Prompt)>> {
    if places.is_empty() {
        places.push((None, Prompt::default()));
    }
    let of = places.len();
    for (label, (name, prompt)) in (1..).zip(&mut places) {
        let mask = if of == 1 { earlier.any_label() } else { earlier.label_mask(label) };
        if mask.data().iter().all(|voxel| *voxel == 0) {
            let target = name.as_deref().map(|name| format!(", for --target {name}"));
            return Err(CliError::usage(
                match of {
                    1 => "the mask of --mask-prompt is empty".to_string(),
                    _ => format!(
                        "the mask of --mask-prompt has no label {label}{}",
                        target.unwrap_or_default()
                    ),
                },
                "of several targets, each corrects the label of its number",
            ));
        }
        prompt.mask = Some(Arc::new(mask));
    }
    if of > 1 && earlier.len() > of && !quiet {
        say!("r1seg: of {} labels of --mask-prompt the first {of} are corrected", earlier.len());
    }
    Ok(places)
}
