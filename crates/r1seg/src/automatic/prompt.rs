//! What a prompt asks of a model with classes.

use std::sync::Arc;

use r1seg_mask_decoder::PointTag;
use r1seg_volume::{GridMap, Mask};

use super::AutomaticConfig;
use super::classes::ClassTable;
use super::rules::Click;
use crate::boxes::outside_of;
use crate::{Error, Prompt, PromptPoint};

/// Points on the first plane of a window lie on its face, which the authors' code leaves out or not by the
/// last digits of a product; a thousandth of a voxel brings them inside.
const INSIDE: f64 = 1e-3;

/// A prompt whose class is known, and whose points are on the model's grid.
#[derive(Debug, Clone)]
pub(super) struct Resolved {
    /// The classes that are looked for, of a group all of its parts; none for points alone.
    pub(super) classes: Vec<u16>,
    /// What the publisher's masks have for it.
    pub(super) label: Option<u16>,
    /// Whether the model has never seen the class that points are about.
    pub(super) zero_shot: bool,
    /// In the prepared grid, in the order in which they were clicked.
    pub(super) points: Vec<Click>,
    /// An earlier mask, in place of the class.
    pub(super) mask: Option<Arc<Mask>>,
}

/// Whether a model with classes takes prompts of this kind.
///
/// # Errors
/// [`Error::Prompt`].
pub(crate) fn check_kinds(prompt: &Prompt, name: &str) -> Result<(), Error> {
    let wrong = |message: String, fix| Err(Error::Prompt { message, fix });
    if prompt.region.is_some() {
        let fix = "give the name of a class, or points in it";
        return wrong(format!("{name} takes no boxes"), fix);
    }
    if prompt.center.is_some() || prompt.points_at_once {
        let message =
            format!("{name} runs in a window around each point, and takes all points together");
        return wrong(message, "give neither a center nor an order");
    }
    let is_clicked = !prompt.points.is_empty();
    if prompt.mask.is_some() && !is_clicked {
        let fix = "give points: positive ones where something is missing, negative ones where there \
                   is too much";
        return wrong("a mask alone does not show what to correct".to_string(), fix);
    }
    let has_base = prompt.text.is_some() || prompt.mask.is_some();
    if !has_base && !is_clicked {
        let fix = "give the name of a class, such as `liver`, or points";
        return wrong("nothing was asked for".to_string(), fix);
    }
    if !has_base && !prompt.points.iter().any(|point| point.positive) {
        let message = "every point is negative: they say where it is not".to_string();
        return wrong(message, "give a positive point, too");
    }
    Ok(())
}

/// The same, and whether its text names a class.
///
/// # Errors
/// [`Error::Prompt`].
pub(super) fn check(prompt: &Prompt, config: &AutomaticConfig) -> Result<(), Error> {
    check_kinds(prompt, config.family.name())?;
    if !config.takes_points && !prompt.points.is_empty() {
        let message = "this model was trained for classes alone, and takes no points".to_string();
        return Err(Error::Prompt { message, fix: "name a class, or use NV-Segment-CT" });
    }
    let (text, is_clicked) = (prompt.text.as_deref(), !prompt.points.is_empty());
    text.map_or(Ok(()), |text| resolve_class(text, is_clicked, config.classes).map(drop))
}

/// The classes that a text names, and the label that the publisher's masks have for it.
fn resolve_class(
    text: &str,
    is_clicked: bool,
    classes: &ClassTable,
) -> Result<(Vec<u16>, u16), Error> {
    if is_clicked {
        let id = classes.find_for_points(text)?;
        return Ok((vec![id], id));
    }
    Ok((classes.find(text)?, classes.class(text)?.id))
}

impl Resolved {
    /// # Errors
    /// As [`check`], and `R-PNT-01` for a point in a part of the volume that was cropped away.
    pub(super) fn new(
        prompt: &Prompt,
        config: &AutomaticConfig,
        map: &GridMap,
    ) -> Result<Self, Error> {
        check(prompt, config)?;
        let is_clicked = !prompt.points.is_empty();
        let named = prompt.text.as_deref();
        let named =
            named.map(|text| resolve_class(text, is_clicked, config.classes)).transpose()?;
        let (classes, label) = named.map_or((Vec::new(), None), |(ids, id)| (ids, Some(id)));
        let is_special = label.is_some_and(|id| config.special_point_classes.contains(&id));
        let shape = map.shape();
        let point = |point: &PromptPoint| {
            if map.cell_of(point.voxel).is_none() {
                let message = format!("the point {}", outside_of(map));
                return Err(r1seg_volume::Error::invalid_point(message));
            }
            let at = map.point(point.voxel.map(|n| n as f64));
            let within = |n: usize| at[n].clamp(INSIDE, (shape[n] as f64 - INSIDE).max(INSIDE));
            let label = if point.positive { PointTag::Positive } else { PointTag::Negative };
            let label = if is_special { label.special() } else { label };
            Ok(Click { at: std::array::from_fn(within), label })
        };
        let is_unknown = |id: u16| id > config.last_supported;
        let zero_shot = is_clicked && label.is_some_and(is_unknown);
        Ok(Self {
            // Only points describe a class that the model was not trained on.
            classes: if zero_shot { Vec::new() } else { classes },
            label,
            zero_shot,
            points: prompt.points.iter().map(point).collect::<Result<_, _>>()?,
            mask: prompt.mask.clone(),
        })
    }
}
