//! Boxes in the source and in the target.

use super::step::Step;
use super::{GridMap, NearestMode};
use crate::crop::Region;

/// Which cells of the target belong to a box of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegionRule {
    /// All that a part of the box falls on.
    Touched,
    /// Those that take their value from the box when labels are resampled: the box around what a mask
    /// of the box becomes. There may be none.
    Sampled(NearestMode),
    /// The same, or the cell that holds the middle of the box, where it is thinner than the distance
    /// between two samples.
    SampledOrMiddle(NearestMode),
}

/// A box along one axis, by its edges, and its middle.
#[derive(Debug, Clone, Copy)]
struct Span {
    low: f64,
    middle: f64,
    high: f64,
}

impl Span {
    fn new(low: f64, high: f64) -> Self {
        Self { low, middle: (low + high) / 2.0, high }
    }

    /// What of it lies in an axis of `size` cells.
    fn within(self, size: usize) -> Option<Self> {
        let (first, last) = (-0.5, size as f64 - 0.5);
        if first <= self.low && self.high <= last {
            return (self.low < self.high).then_some(self);
        }
        let (low, high) = (self.low.max(first), self.high.min(last));
        (low < high).then(|| Self::new(low, high))
    }

    fn through(self, step: Step, n: usize) -> Self {
        let [a, middle, b] = [self.low, self.middle, self.high].map(|at| step.target(n, at));
        Self { low: a.min(b), middle, high: a.max(b) }
    }
}

impl GridMap {
    /// The box of the target that a box of the source becomes; `None` where nothing of it reaches the
    /// target, or no cell belongs to it.
    pub fn region(&self, region: Region, rule: RegionRule) -> Option<Region> {
        let spans = self.spans(region)?;
        let touched = |n: usize| {
            let last = self.shape()[n];
            // Both are inside, so that casts cannot saturate.
            let low = (spans[n].low + 0.5).floor().max(0.0) as usize;
            let high = (spans[n].high + 0.5).ceil().max(0.0) as usize;
            (low.min(last), high.min(last))
        };
        let holding_middle = |n: usize| {
            let cell = (spans[n].middle + 0.5).floor().max(0.0) as usize;
            let cell = cell.min(self.shape()[n].saturating_sub(1));
            (cell, cell + 1)
        };
        let ends: [Option<(usize, usize)>; 3] = match rule {
            RegionRule::Touched => std::array::from_fn(|n| Some(touched(n))),
            RegionRule::Sampled(mode) => self.sampled(region, mode),
            RegionRule::SampledOrMiddle(mode) => {
                let sampled = self.sampled(region, mode);
                std::array::from_fn(|n| sampled[n].or_else(|| Some(holding_middle(n))))
            }
        };
        let [d, h, w] = ends;
        let ends = [d?, h?, w?];
        Some(Region { start: ends.map(|(start, _)| start), end: ends.map(|(_, end)| end) })
    }

    /// Where a box lies in the target, as far as every grid on the way reaches.
    fn spans(&self, region: Region) -> Option<[Span; 3]> {
        let span = |n: usize| {
            let span = Span::new(region.start[n] as f64 - 0.5, region.end[n] as f64 - 0.5);
            span.within(self.source[n])
        };
        let mut spans = [span(0)?, span(1)?, span(2)?];
        for step in &self.steps {
            let next = |n: usize| spans[step.source_axis(n)].through(*step, n).within(step.to[n]);
            spans = [next(0)?, next(1)?, next(2)?];
        }
        Some(spans)
    }

    /// By axis of the target, the first cell that takes its value from a box, and the one behind the
    /// last.
    fn sampled(&self, region: Region, mode: NearestMode) -> [Option<(usize, usize)>; 3] {
        let sources = self.sources(mode);
        std::array::from_fn(|n| {
            let (axis, cells) = (sources.axes[n], &sources.cells[n]);
            let within = region.start[axis]..region.end[axis];
            let is_within = |cell: &Option<usize>| cell.is_some_and(|cell| within.contains(&cell));
            let (first, last) =
                (cells.iter().position(is_within)?, cells.iter().rposition(is_within)?);
            Some((first, last + 1))
        })
    }
}
