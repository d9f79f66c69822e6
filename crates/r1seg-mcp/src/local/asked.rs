//! What a call asks for, as prompts.

use std::sync::Arc;

use r1seg::registry::Family;
use r1seg::volume::{Geometry, LabelMap, Mask, ReadOptions, Region, read};
use r1seg::{BOX_PLACEHOLDER, Prompt, PromptPoint};
use r1seg_results::{Asked, OrganName};

use super::roots::Roots;
use crate::Error;
use crate::args::{AskVolume, EarlierMask, Mode, Read, SegmentVolume, Target};

/// The most prompts of a call.
const MOST_PROMPTS: usize = 64;
/// The longest answer that can be asked for, in tokens.
pub(super) const MOST_TOKENS: usize = 4096;

/// How a volume is read: as the call says, within the limits of the server.
pub(super) fn reading(read: Option<&Read>, limits: &ReadOptions) -> Result<ReadOptions, Error> {
    let Some(read) = read else { return Ok(limits.clone()) };
    if read.spacing_mm.is_some_and(|mm| mm.iter().any(|mm| !(mm.is_finite() && 0.0 < *mm))) {
        return Err(Error::arguments(
            "`read.spacing_mm` is three numbers above 0",
            "give the distances of voxels along i, j and k in mm",
        ));
    }
    Ok(read.options(limits.clone()))
}

/// The questions of a call: those that were given, then those that are written for organs.
pub(super) fn questions(args: &AskVolume, family: Family) -> Result<Vec<Asked>, Error> {
    let given = args.questions.as_deref().unwrap_or_default();
    let organs = args.organs.as_deref().unwrap_or_default();
    check_count(given.len() + organs.len(), "`questions` or `organs`")?;
    let region = args.r#box.map(region);
    if region.is_some() && args.mode == Some(Mode::Sliding) {
        return Err(Error::arguments(
            "mode sliding shows the model one window after the other, and a box is for the whole volume",
            "leave `mode` out",
        ));
    }
    if region.is_none() && given.iter().any(|question| question.contains(BOX_PLACEHOLDER)) {
        return Err(Error::arguments(
            format!("a question has {BOX_PLACEHOLDER}, and no box was given"),
            "give `box`",
        ));
    }
    let mut asked: Vec<Asked> = given.iter().map(Asked::of_text).collect();
    for given in organs {
        asked.push(Asked::of_organ(organ(given)?, family));
    }
    if let Some(region) = region {
        for asked in &mut asked {
            asked.prompt.region = Some(region);
        }
    }
    Ok(asked)
}

/// The longest answer of a call, in tokens, if that was said.
pub(super) fn max_new_tokens(args: &AskVolume) -> Result<Option<usize>, Error> {
    match args.max_new_tokens {
        Some(tokens) if !(1..=MOST_TOKENS).contains(&tokens) => Err(Error::arguments(
            format!("`max_new_tokens` is {tokens}"),
            format!("give a number from 1 to {MOST_TOKENS}, or none"),
        )),
        tokens => Ok(tokens),
    }
}

/// Whether there is something to segment for each target.
pub(super) fn check_targets(args: &SegmentVolume) -> Result<(), Error> {
    check_count(args.targets.len(), "`targets`")?;
    for (number, target) in (1..).zip(&args.targets) {
        if target.text.is_some() && target.organ.is_some() {
            return Err(Error::arguments(
                format!("target {number} has both a text and an organ"),
                "give each a target of its own",
            ));
        }
        if target.kinds().next().is_none() && target.organ.is_none() {
            return Err(Error::arguments(
                format!("target {number} says nothing to segment"),
                "give it a text, an organ, points, a box or a mask",
            ));
        }
    }
    Ok(())
}

/// The targets of a call about a volume of this geometry.
pub(super) fn targets(
    args: &SegmentVolume,
    family: Family,
    geometry: &Geometry,
    masks: &Roots,
) -> Result<Vec<Asked>, Error> {
    let asked = |(number, target): (usize, &Target)| {
        let mut asked = match (&target.organ, &target.text) {
            (Some(given), _) => Asked::of_organ(organ(given)?, family),
            (None, Some(text)) => Asked::of_text(text),
            (None, None) => Asked::new(format!("target {number}"), Prompt::default()),
        };
        if let Some(name) = target.name.as_deref().filter(|name| !name.trim().is_empty()) {
            asked = asked.with_name(name);
        }
        let points = target.points.as_deref().unwrap_or_default();
        asked.prompt.points.extend(
            points
                .iter()
                .map(|point| PromptPoint { voxel: dhw(point.voxel), positive: point.positive }),
        );
        asked.prompt.region = target.r#box.map(region);
        if let Some(earlier) = &target.mask {
            asked.prompt.mask = Some(Arc::new(mask(earlier, geometry, masks)?));
        }
        asked.prompt.check_in(geometry)?;
        Ok(asked)
    };
    (1..).zip(&args.targets).map(asked).collect()
}

/// An earlier mask, on the grid of the volume.
fn mask(earlier: &EarlierMask, geometry: &Geometry, masks: &Roots) -> Result<Mask, Error> {
    let path = masks.find(&earlier.file)?;
    let read = read(&path, &ReadOptions::default())?;
    geometry.check_same_grid(read.volume.geometry())?;
    let labels = LabelMap::from_volume(&read.volume)?;
    let mask = earlier.label.map_or_else(|| labels.any_label(), |label| labels.label_mask(label));
    if mask.data().iter().all(|voxel| *voxel == 0) {
        let which = earlier.label.map(|label| format!(" of label {label}")).unwrap_or_default();
        return Err(Error::arguments(
            format!("the earlier mask{which} has no voxel"),
            "name another label, or segment without a mask",
        ));
    }
    Ok(mask)
}

fn organ(given: &str) -> Result<OrganName, Error> {
    OrganName::find(given).map_err(|unknown| {
        let meant = unknown.suggestion().map(|meant| meant + " ").unwrap_or_default();
        let near = format!("{meant}Any term may be asked for in words, as a question or a text");
        Error::UnknownOrgan { given: unknown.given, near }
    })
}

fn check_count(prompts: usize, what: &str) -> Result<(), Error> {
    match prompts {
        0 => Err(Error::arguments("there is nothing to do", format!("give {what}"))),
        n if n > MOST_PROMPTS => Err(Error::arguments(
            format!("{n} prompts in one call"),
            format!("give at most {MOST_PROMPTS}, and the others in further calls"),
        )),
        _ => Ok(()),
    }
}

/// (i, j, k) as `[D, H, W]`.
fn dhw([i, j, k]: [usize; 3]) -> [usize; 3] {
    [k, j, i]
}

/// From the first and the last voxel, (i, j, k).
fn region([first, last]: [[usize; 3]; 2]) -> Region {
    Region { start: dhw(first), end: dhw(last).map(|voxel| voxel.saturating_add(1)) }
}
