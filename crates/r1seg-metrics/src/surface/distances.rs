//! What two surfaces' distances from each other come to.

use rayon::prelude::*;

use super::nearest::Point;

/// The distances of all points of one surface from the other, in mm, ascending, each with its weight.
#[derive(Debug, Clone, Default)]
pub struct Directed {
    points: Vec<Point>,
    weight: f64,
}

impl Directed {
    pub(super) fn new(mut points: Vec<Point>) -> Self {
        points
            .par_sort_unstable_by(|a, b| a.mm.total_cmp(&b.mm).then(a.weight.total_cmp(&b.weight)));
        let weight = total(points.iter().map(|point| point.weight));
        Self { points, weight }
    }

    /// Number of points.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// The sum of all weights: mm² where points stand for areas, their number otherwise.
    pub fn weight(&self) -> f64 {
        self.weight
    }

    /// The weight of the points that are no farther away than this.
    pub fn weight_within(&self, tolerance_mm: f64) -> f64 {
        let within = self.points.partition_point(|point| point.mm <= tolerance_mm);
        total(self.points[..within].iter().map(|point| point.weight))
    }

    /// The mean distance by weight; `None` without points.
    pub fn mean_mm(&self) -> Option<f64> {
        (!self.is_empty()).then(|| self.sum() / self.weight)
    }

    /// The largest distance; `None` without points.
    pub fn max_mm(&self) -> Option<f64> {
        self.points.last().map(|point| point.mm)
    }

    /// The least distance that points of so many percent of the weight do not exceed, as surface-distance
    /// takes it; `None` without points.
    pub fn weighted_percentile_mm(&self, percent: f64) -> Option<f64> {
        let mut sum = 0.0;
        let reaches = |point: &&Point| {
            sum += point.weight;
            percent / 100.0 <= sum / self.weight
        };
        self.points.iter().find(reaches).or(self.points.last()).map(|point| point.mm)
    }

    /// The percentile between the two nearest of the distances, whatever they weigh, as numpy and torch
    /// interpolate it by default; `None` without points.
    pub fn percentile_mm(&self, percent: f64) -> Option<f64> {
        percentile(&self.points, percent)
    }

    fn sum(&self) -> f64 {
        total(self.points.iter().map(|point| point.mm * point.weight))
    }
}

/// The distances of two surfaces from each other.
#[derive(Debug, Clone, Default)]
pub struct SurfaceDistances {
    /// From the truth to what is compared with it.
    pub from_truth: Directed,
    /// From what is compared to the truth.
    pub from_predicted: Directed,
}

impl SurfaceDistances {
    /// The surface Dice at a tolerance (NSD): the weight of the parts of both surfaces that lie within it of
    /// each other, of all of their weight. 0 if one of the two has no surface, `None` if neither has.
    pub fn surface_dice(&self, tolerance_mm: f64) -> Option<f64> {
        let [a, b] = [&self.from_truth, &self.from_predicted];
        let all = a.weight() + b.weight();
        let within = a.weight_within(tolerance_mm) + b.weight_within(tolerance_mm);
        (0.0 < all).then(|| within / all)
    }

    /// The Hausdorff distance: the farthest that a point of one is from the other.
    pub fn hausdorff_mm(&self) -> Option<f64> {
        self.larger(Directed::max_mm)
    }

    /// The percentile of the distances by weight, the larger one of both directions: surface-distance's
    /// robust Hausdorff distance.
    pub fn weighted_hausdorff_mm(&self, percent: f64) -> Option<f64> {
        self.larger(|directed| directed.weighted_percentile_mm(percent))
    }

    /// The percentile of the distances, the larger one of both directions: MONAI's Hausdorff distance with a
    /// percentile.
    pub fn directed_hausdorff_mm(&self, percent: f64) -> Option<f64> {
        self.larger(|directed| directed.percentile_mm(percent))
    }

    /// The percentile of the distances of both directions taken together: MedPy's `hd95`, which nnU-Net
    /// reports.
    pub fn pooled_hausdorff_mm(&self, percent: f64) -> Option<f64> {
        if self.from_truth.is_empty() || self.from_predicted.is_empty() {
            return None;
        }
        let mut points = self.from_truth.points.clone();
        points.extend_from_slice(&self.from_predicted.points);
        points.par_sort_unstable_by(|a, b| a.mm.total_cmp(&b.mm));
        percentile(&points, percent)
    }

    /// The average symmetric surface distance (ASSD): the mean of the distances of both directions taken
    /// together, by weight (Heimann et al., 2009). MONAI's symmetric average surface distance, and MedPy's
    /// `assd` since 0.5.
    pub fn assd_mm(&self) -> Option<f64> {
        let [a, b] = [&self.from_truth, &self.from_predicted];
        let is_known = !a.is_empty() && !b.is_empty();
        is_known.then(|| (a.sum() + b.sum()) / (a.weight() + b.weight()))
    }

    /// The mean of the two directions' means, whichever surface is larger (MASD); what older tools call ASSD.
    pub fn masd_mm(&self) -> Option<f64> {
        let means = self.from_truth.mean_mm().zip(self.from_predicted.mean_mm());
        means.map(|(a, b)| a.midpoint(b))
    }

    fn larger(&self, of: impl Fn(&Directed) -> Option<f64>) -> Option<f64> {
        of(&self.from_truth).zip(of(&self.from_predicted)).map(|(a, b)| a.max(b))
    }
}

/// The sum, which is 0 and not -0 of nothing.
fn total(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, |sum, value| sum + value)
}

/// Of points in ascending order.
fn percentile(points: &[Point], percent: f64) -> Option<f64> {
    let last = points.len().checked_sub(1)?;
    let at = (percent / 100.0).clamp(0.0, 1.0) * last as f64;
    let low = at.floor() as usize;
    let [a, b] = [low, (low + 1).min(last)].map(|n| points[n].mm);
    // An infinite distance has no part.
    Some(if a == b { a } else { a + (b - a) * (at - at.floor()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directed(points: &[(f64, f64)]) -> Directed {
        Directed::new(
            points.iter().map(|(mm, weight)| Point { mm: *mm, weight: *weight }).collect(),
        )
    }

    #[test]
    fn percentiles_with_and_without_weights_are_those_of_their_definitions() {
        let distances = directed(&[(3.0, 1.0), (0.0, 6.0), (1.0, 2.0), (9.0, 1.0)]);
        assert_eq!(distances.weight(), 10.0);
        assert_eq!(distances.weighted_percentile_mm(60.0), Some(0.0));
        assert_eq!(distances.weighted_percentile_mm(61.0), Some(1.0));
        assert_eq!(distances.weighted_percentile_mm(100.0), Some(9.0));
        // numpy.percentile([0, 1, 3, 9], [0, 50, 95, 100])
        let found = [0.0, 50.0, 95.0, 100.0].map(|p| distances.percentile_mm(p).unwrap());
        assert!(found.iter().zip([0.0, 2.0, 8.1, 9.0]).all(|(a, b)| (a - b).abs() < 1e-12));
        assert_eq!((distances.weight_within(1.0), distances.weight_within(0.5)), (8.0, 6.0));
        assert_eq!(distances.mean_mm(), Some(1.4));
    }

    #[test]
    fn both_directions_are_joined_in_the_ways_that_are_named() {
        let distances = SurfaceDistances {
            from_truth: directed(&[(0.0, 1.0), (0.0, 1.0), (4.0, 1.0)]),
            from_predicted: directed(&[(2.0, 1.0)]),
        };
        assert_eq!(distances.hausdorff_mm(), Some(4.0));
        assert_eq!(distances.assd_mm(), Some(6.0 / 4.0));
        assert_eq!(distances.masd_mm(), Some((4.0 / 3.0 + 2.0) / 2.0));
        assert_eq!(distances.directed_hausdorff_mm(50.0), Some(2.0));
        assert_eq!(distances.pooled_hausdorff_mm(50.0), Some(1.0));
        assert_eq!(distances.surface_dice(2.0), Some(0.75));
    }

    #[test]
    fn nothing_is_made_up_where_a_surface_is_missing() {
        let lonely = SurfaceDistances {
            from_truth: directed(&[(f64::INFINITY, 1.0), (f64::INFINITY, 1.0)]),
            ..Default::default()
        };
        assert!(
            lonely.surface_dice(1e9).is_some_and(|dice| dice == 0.0 && dice.is_sign_positive())
        );
        assert_eq!((lonely.hausdorff_mm(), lonely.assd_mm()), (None, None));
        assert_eq!((lonely.pooled_hausdorff_mm(95.0), lonely.masd_mm()), (None, None));
        assert_eq!(SurfaceDistances::default().surface_dice(1.0), None);
    }
}
