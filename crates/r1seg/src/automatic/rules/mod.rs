//! What VISTA3D makes of clicks and logits, apart from its network: where windows around clicks lie, which
//! clicks a window sees, how they correct the logits of a class, and what they keep of their own.
//!
//! Grids are the model's: x, y and z as their `[D, H, W]`, in C order. A click lies in the middle of a
//! voxel where its coordinates are whole numbers, and is rounded to a voxel half to even.

#[cfg(test)]
mod recorded;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ops::Range;

use r1seg_mask_decoder::PointTag;
use r1seg_volume::{ConnectedComponents, Region};

use crate::Error;

/// A point in a grid or in a window of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Click {
    /// `[D, H, W]`, in voxels.
    pub(crate) at: [f64; 3],
    pub(crate) label: PointTag,
}

impl Click {
    /// The voxel of a grid of `shape` that it is in: half to even, but not beyond the last voxel, where
    /// its upper half would be rounded to. `None` outside of the grid.
    fn voxel(self, shape: [usize; 3]) -> Option<[usize; 3]> {
        let rounded = self.at.map(f64::round_ties_even);
        let is_inside = (0..3).all(|n| 0.0 <= rounded[n] && self.at[n] < shape[n] as f64);
        // Inside, so that casts cannot saturate.
        is_inside
            .then(|| std::array::from_fn(|n| (rounded[n] as usize).min(shape[n].saturating_sub(1))))
    }
}

/// The clicks in a window, in its own coordinates: those that are not placeholders and lie strictly between
/// its faces, which are at `start` and `end`. A click on a lower face, such as one in the middle of the
/// first voxel of a grid, is not seen.
pub(crate) fn clicks_in(clicks: &[Click], window: Region) -> Vec<Click> {
    let [start, end] = [window.start, window.end].map(|at| at.map(|n| n as f64));
    let is_seen = |click: &&Click| {
        let is_inside = (0..3).all(|n| start[n] < click.at[n] && click.at[n] < end[n]);
        is_inside && click.label != PointTag::None
    };
    let moved = |click: &Click| Click {
        at: std::array::from_fn(|n| click.at[n] - start[n]),
        label: click.label,
    };
    clicks.iter().filter(is_seen).map(moved).collect()
}

/// The windows around clicks, in their order, in a grid that is nowhere smaller than a window; each with
/// the number of clicks whose window it is, since logits are summed over clicks.
///
/// A window has its click in the middle, or lies at the face of the grid that would cut it. Sides are even.
/// Clicks outside of the grid, and placeholders, have windows too.
pub(crate) fn click_windows(
    clicks: &[Click],
    shape: [usize; 3],
    window: [usize; 3],
) -> Vec<(Region, usize)> {
    let mut windows: Vec<(Region, usize)> = Vec::new();
    for click in clicks {
        let axis = |n: usize| around(click.at[n], shape[n], window[n]);
        let [d, h, w] = [axis(0), axis(1), axis(2)];
        let region = Region { start: [d.0, h.0, w.0], end: [d.1, h.1, w.1] };
        match windows.iter_mut().find(|(known, _)| *known == region) {
            Some((_, clicks)) => *clicks += 1,
            None => windows.push((region, 1)),
        }
    }
    windows
}

/// Where the window of a click begins and ends along an axis of `size` voxels.
fn around(at: f64, size: usize, window: usize) -> (usize, usize) {
    let half = window / 2;
    if at - (half as f64) < 0.0 {
        (0, window.min(size))
    } else if at + half as f64 > size as f64 {
        (size.saturating_sub(window), size)
    } else {
        // At least `half`, and less than the size.
        let middle = at as usize;
        (middle.saturating_sub(half), middle + half)
    }
}

/// Lets clicks correct the logits of a class, or those of an earlier mask, in a window of `shape`: the
/// connected parts that the clicks are in, or next to, get the logits that the clicks have led to.
///
/// `logits` and `clicked` have one value per voxel. NaN in `logits` is a voxel outside of the mask, and stays
/// NaN. Clicks are those that the [window sees](clicks_in); without any nothing changes.
///
/// # Errors
/// `R-GEO-01` if there is not one logit for each voxel.
pub(crate) fn correct(
    logits: &mut [f32],
    clicked: &[f32],
    shape: [usize; 3],
    clicks: &[Click],
) -> Result<(), Error> {
    if clicks.is_empty() {
        return Ok(());
    }
    let differences = Differences::between(logits, clicked, shape, clicks)?;
    for run in differences.at(shape, clicks) {
        let (Some(logits), Some(clicked)) = (logits.get_mut(run.clone()), clicked.get(run)) else {
            continue;
        };
        for (logit, clicked) in logits.iter_mut().zip(clicked) {
            if !logit.is_nan() {
                *logit = *clicked;
            }
        }
    }
    Ok(())
}

/// What clicks would add to a mask and remove from it.
struct Differences {
    add: ConnectedComponents,
    remove: ConnectedComponents,
}

impl Differences {
    fn between(
        logits: &[f32],
        clicked: &[f32],
        shape: [usize; 3],
        clicks: &[Click],
    ) -> Result<Self, Error> {
        let is_set = |voxel: [usize; 3]| {
            let at = (voxel[0] * shape[1] + voxel[1]) * shape[2] + voxel[2];
            logits.get(at).is_some_and(|logit| 0.0 < *logit)
        };
        // Whether what is added may run through what the mask has already.
        let is_one_inside = clicks.iter().filter_map(|c| c.voxel(shape)).any(is_set);
        let both = || logits.iter().map(|v| 0.0 < *v).zip(clicked.iter().map(|v| 0.0 < *v));
        let add: Vec<bool> =
            both().map(|(set, wanted)| wanted && (!set || is_one_inside)).collect();
        let remove: Vec<bool> = both().map(|(set, wanted)| set && !wanted).collect();
        let components = |mask: &[bool]| ConnectedComponents::of(mask, shape, |v| v);
        Ok(Self { add: components(&add)?, remove: components(&remove)? })
    }

    /// The voxels of those that clicks are in or next to: positive clicks of what would be added, negative
    /// ones of what would be removed. As runs of indices in C order.
    fn at(&self, shape: [usize; 3], clicks: &[Click]) -> Vec<Range<usize>> {
        let chosen = |components: &ConnectedComponents, counts: fn(PointTag) -> bool| {
            let voxels = clicks.iter().filter(|c| counts(c.label)).filter_map(|c| c.voxel(shape));
            let numbers: BTreeSet<usize> =
                voxels.filter_map(|voxel| component_near(components, voxel)).collect();
            let runs = components.runs().filter(move |(number, _)| numbers.contains(number));
            runs.map(|(_, run)| run).collect::<Vec<_>>()
        };
        let mut runs = chosen(&self.add, PointTag::is_positive);
        runs.extend(chosen(&self.remove, PointTag::is_negative));
        runs
    }
}

/// The component of a voxel, or else of those next to it, or else of those at most two away: the one with
/// the highest number, which need not be the nearest.
fn component_near(components: &ConnectedComponents, voxel: [usize; 3]) -> Option<usize> {
    (0..=2).find_map(|margin| {
        let [d, h, w] = voxel.map(|n| n.saturating_sub(margin)..=n + margin);
        let rows = d.flat_map(|z| h.clone().map(move |y| (z, y)));
        let voxels = rows.flat_map(|(z, y)| w.clone().map(move |x| [z, y, x]));
        voxels.filter_map(|voxel| components.number_at(voxel)).max()
    })
}

/// Keeps those connected parts of `logit > 0` that a positive click is in. The other logits above 0 become
/// the mean of all logits outside of the parts that are kept, NaN excepted. Without a positive click
/// nothing changes.
///
/// # Errors
/// `R-GEO-01` if there is not one logit for each voxel of `shape`.
pub(crate) fn keep_clicked(
    logits: &mut [f32],
    shape: [usize; 3],
    clicks: &[Click],
) -> Result<(), Error> {
    if !clicks.iter().any(|click| click.label.is_positive()) {
        return Ok(());
    }
    let parts = ConnectedComponents::of(logits, shape, |logit| 0.0 < logit)?;
    let positive = clicks.iter().filter(|click| click.label.is_positive());
    let kept: BTreeSet<usize> =
        positive.filter_map(|click| parts.number_at(click.voxel(shape)?)).collect();
    let total = |values: &[f32]| {
        let numbers = values.iter().filter(|value| !value.is_nan());
        numbers.fold((0.0, 0_usize), |(sum, count), value| (sum + f64::from(*value), count + 1))
    };
    let (mut sum, mut count) = total(logits);
    for (_, run) in parts.runs().filter(|(number, _)| kept.contains(number)) {
        let (of_run, voxels) = total(logits.get(run).unwrap_or_default());
        (sum, count) = (sum - of_run, count - voxels);
    }
    let mean = (sum / count as f64) as f32;
    for (_, run) in parts.runs().filter(|(number, _)| !kept.contains(number)) {
        if let Some(removed) = logits.get_mut(run) {
            removed.fill(mean);
        }
    }
    Ok(())
}
