//! Points, alone or beside a class or an earlier mask: a window around each of them.

use std::time::Instant;

use candle_core::{Device, Tensor};
use r1seg_mask_decoder::ObjectPoints;
use r1seg_segresnet::Branches;
use r1seg_volume::{NearestMode, Region, Warning};

use super::encoded::{AutomaticVolume, PromptRun};
use super::prompt::Resolved;
use super::rules::{Click, click_windows, clicks_in, correct, keep_clicked};
use crate::{Error, Event, Outcome};

/// Features of windows up to this size are kept for further points.
const KEPT_BYTES: usize = 1 << 30;

/// The logit of an object in a window with neither points nor a class, as in the authors' code.
const NOTHING: f32 = -9999.0;

/// The features of a window around a point.
#[derive(Debug)]
pub(super) struct Looked {
    start: [usize; 3],
    /// `[1, F, D, H, W]`
    point: Tensor,
    /// Those that classes are compared with, once a class was asked for.
    class: Option<Tensor>,
}

impl Looked {
    fn bytes(&self) -> usize {
        let of = |tensor: &Tensor| tensor.elem_count() * tensor.dtype().size_in_bytes();
        of(&self.point) + self.class.as_ref().map_or(0, of)
    }
}

impl AutomaticVolume {
    /// What is known already of the window that begins at `start`.
    fn looked_at(&self, start: [usize; 3]) -> Option<(Tensor, Option<Tensor>)> {
        let looked = self.looked.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = looked.iter().find(|known| known.start == start)?;
        Some((known.point.clone(), known.class.clone()))
    }

    /// Keeps the features of a window, and drops those of the oldest ones that there is no room for.
    fn keep(&self, looked: Looked) {
        let mut all = self.looked.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        all.retain(|known| known.start != looked.start);
        all.push(looked);
        while all.iter().map(Looked::bytes).sum::<usize>() > KEPT_BYTES && !all.is_empty() {
            all.remove(0);
        }
    }
}

impl PromptRun<'_, '_> {
    /// The outcome of a prompt with points.
    pub(super) fn click_outcome(&mut self, prompt: &Resolved) -> Result<Outcome, Error> {
        let volume = self.volume;
        let (shape, inner) = (volume.prepared.shape(), volume.padding.inner);
        let first = inner.start.map(|n| n as f64);
        let padded = |click: &Click| Click {
            at: std::array::from_fn(|n| click.at[n] + first[n]),
            label: click.label,
        };
        let clicks: Vec<Click> = prompt.points.iter().map(padded).collect();
        let patch = volume.model.config().patch_size;
        let windows = click_windows(&clicks, volume.padding.shape, patch);
        let earlier = self.earlier(prompt)?;
        let mut sums = vec![f32::NAN; shape.iter().product()];
        for (index, (window, times)) in windows.iter().enumerate() {
            self.context.emit(Event::Window { index, of: windows.len() });
            let seen = clicks_in(&clicks, *window);
            let logits = self.window_logits(prompt, *window, &seen, earlier.as_deref())?;
            add(&mut sums, &logits, *window, inner, *times as f32);
        }
        if let Some(trace) = &mut self.trace {
            let [d, h, w] = shape;
            trace.insert("logits", Tensor::from_slice(&sums, (1, d, h, w), &Device::Cpu)?);
        }
        let start = Instant::now();
        // Voxels outside of all windows keep the earlier mask.
        for (sum, inside) in sums.iter_mut().zip(earlier.iter().flatten()) {
            if sum.is_nan() {
                *sum = if *inside == 0 { -1.0 } else { 1.0 };
            }
        }
        if prompt.label.is_none() && earlier.is_none() {
            keep_clicked(&mut sums, shape, &prompt.points)?;
        }
        let unseen = sums.iter().filter(|logit| logit.is_nan()).count();
        // A comparison with NaN is false.
        let mask: Vec<u8> = sums.iter().map(|logit| u8::from(0.0 < *logit)).collect();
        drop(sums);
        let mask = volume.setup.map.mask_to_source(&mask, NearestMode::NearestExact)?;
        self.timings.postprocess += start.elapsed();
        let warnings = (unseen > 0).then(|| unseen_part(unseen, shape)).into_iter().collect();
        self.outcome(prompt, mask, windows.len(), warnings)
    }

    /// The logits of the object in one window.
    fn window_logits(
        &mut self,
        prompt: &Resolved,
        window: Region,
        seen: &[Click],
        earlier: Option<&[u8]>,
    ) -> Result<Vec<f32>, Error> {
        let (model, size) = (&self.volume.model, window.shape());
        let asks_class = earlier.is_none() && !prompt.classes.is_empty();
        let (features, class) = self.look_at(window, asks_class)?;
        let start = Instant::now();
        let voxels: usize = size.iter().product();
        let base = match (earlier, class) {
            (Some(earlier), _) => Some(self.earlier_logits(earlier, window)),
            (None, Some(class)) => {
                let mut probe = self.context.probe(self.trace.as_mut());
                let embedding = model.class_embeddings(&prompt.classes, &mut probe)?;
                Some(model.class_logits(&class, &embedding)?)
            }
            (None, None) => None,
        };
        let logits = match (seen.is_empty(), base) {
            (true, base) => base.unwrap_or_else(|| vec![NOTHING; voxels]),
            (false, base) => {
                let tagged = |click: &Click| (click.at.map(|n| n as f32), click.label);
                let object = ObjectPoints {
                    points: seen.iter().map(tagged).collect(),
                    zero_shot: prompt.zero_shot,
                };
                let mut probe = self.context.probe(self.trace.as_mut());
                let clicked = model.point_logits(&features, &object, &mut probe)?;
                match base {
                    None => clicked,
                    Some(mut base) => {
                        correct(&mut base, &clicked, size, seen)?;
                        base
                    }
                }
            }
        };
        self.timings.mask += start.elapsed();
        Ok(logits)
    }

    /// The features of a window for points, and those for classes where they are asked for.
    fn look_at(
        &mut self,
        window: Region,
        asks_class: bool,
    ) -> Result<(Tensor, Option<Tensor>), Error> {
        let volume = self.volume;
        let known = volume.looked_at(window.start);
        if let Some((point, class)) = &known
            && (class.is_some() || !asks_class)
        {
            return Ok((point.clone(), class.clone().filter(|_| asks_class)));
        }
        let start = Instant::now();
        let model = &volume.model;
        let values = volume.zero_padded(window)?;
        let mut probe = self.context.probe(self.trace.as_mut());
        let branches = match (&known, asks_class) {
            (Some(_), _) => Branches::Classes,
            (None, true) => Branches::Both,
            (None, false) => Branches::Points,
        };
        let decoded = model.features(values, window.shape(), branches, &mut probe)?;
        let class = decoded.classes.map(|features| model.class_features(features, &mut probe));
        let class = class.transpose()?;
        let missing = || Error::from(candle_core::Error::msg("no features for points"));
        let point = known.map(|(point, _)| point).or(decoded.points).ok_or_else(missing)?;
        volume.keep(Looked { start: window.start, point: point.clone(), class: class.clone() });
        self.timings.vit += start.elapsed();
        Ok((point, class))
    }

    /// An earlier mask on the prepared grid.
    fn earlier(&self, prompt: &Resolved) -> Result<Option<Vec<u8>>, Error> {
        let on_grid = |mask: &std::sync::Arc<r1seg_volume::Mask>| {
            self.volume.setup.map.gather(mask.data(), NearestMode::NearestExact)
        };
        Ok(prompt.mask.as_ref().map(on_grid).transpose()?)
    }

    /// An earlier mask as logits in a window: 1 where it is, and -1 elsewhere.
    fn earlier_logits(&self, earlier: &[u8], window: Region) -> Vec<f32> {
        let inner = self.volume.padding.inner;
        let mut logits = vec![-1.0; window.shape().iter().product()];
        for (from, to) in shared(window, inner) {
            for (logit, inside) in logits[from].iter_mut().zip(&earlier[to]) {
                *logit = if *inside == 0 { -1.0 } else { 1.0 };
            }
        }
        logits
    }
}

/// Adds the logits of a window to those of the prepared grid, as far as it is in that; the first ones take
/// the place of NaN.
fn add(sums: &mut [f32], logits: &[f32], window: Region, inner: Region, times: f32) {
    for (from, to) in shared(window, inner) {
        for (sum, logit) in sums[to].iter_mut().zip(&logits[from]) {
            *sum = if sum.is_nan() { logit * times } else { *sum + logit * times };
        }
    }
}

/// Rows of voxels that a window and the volume in the middle of its padding have in common: where they are
/// in the window, and where in the volume.
fn shared(
    window: Region,
    inner: Region,
) -> impl Iterator<Item = (std::ops::Range<usize>, std::ops::Range<usize>)> {
    let start: [usize; 3] = std::array::from_fn(|n| window.start[n].max(inner.start[n]));
    let end: [usize; 3] = std::array::from_fn(|n| window.end[n].min(inner.end[n]).max(start[n]));
    let at = move |grid: Region, z: usize, y: usize| {
        let [_, h, w] = grid.shape();
        let row = ((z - grid.start[0]) * h + y - grid.start[1]) * w + start[2] - grid.start[2];
        row..row + end[2] - start[2]
    };
    (start[0]..end[0])
        .flat_map(move |z| (start[1]..end[1]).map(move |y| (at(window, z, y), at(inner, z, y))))
}

fn unseen_part(unseen: usize, shape: [usize; 3]) -> Warning {
    let share = (100.0 * unseen as f64 / shape.iter().product::<usize>() as f64).ceil();
    let text = format!(
        "the model ran only in windows around the points: {share:.0} % of the volume lies outside them, and \
         is not in the mask"
    );
    Warning::new("W-UNSEEN", text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_of_windows_are_summed_where_the_volume_is() {
        let inner = Region { start: [0, 0, 1], end: [1, 2, 4] };
        let mut sums = vec![f32::NAN; 6];
        let window = Region { start: [0; 3], end: [1, 2, 3] };
        add(&mut sums, &[9.0, 1.0, 2.0, 9.0, 3.0, 4.0], window, inner, 2.0);
        assert_eq!(sums[..2], [2.0, 4.0]);
        assert!(sums[2].is_nan() && sums[5].is_nan());
        let window = Region { start: [0, 0, 2], end: [1, 2, 5] };
        add(&mut sums, &[1.0, 1.0, 9.0, 1.0, 1.0, 9.0], window, inner, 1.0);
        assert_eq!(sums, [2.0, 5.0, 1.0, 6.0, 9.0, 1.0]);
    }
}
