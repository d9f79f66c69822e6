//! Draws phantoms by the recipe that the model was trained on.
//!
//! Lengths are fractions of the volume: the center of voxel `i` of `n` lies at
//! `(i + 0.5) / n`. Axes are (z, y, x), which are the `[D, H, W]` of the arrays.

use std::ops::Range;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};

use crate::dice::dice_of;
use crate::organ::{Atlas, Organ};

const BODY_CENTER_YX: [f64; 2] = [0.5, 0.5];
const BODY_RADII_YX: [f64; 2] = [0.42, 0.46];
const BODY_INTENSITY: f64 = 0.30;

// Standard deviations: the first two are common to all organs of a phantom.
const COMMON_SHIFT_STD: f64 = 0.02;
const COMMON_SCALE_STD: f64 = 0.05;
const CENTER_STD: f64 = 0.015;
const RADIUS_STD: f64 = 0.08;
const ROTATION_STD_RAD: f64 = 0.15;
const INTENSITY_STD: f64 = 0.02;
const NOISE_STD: f64 = 0.03;

/// A synthetic volume with its truth: all six organs, in `[D, H, W]` C order.
#[derive(Debug, Clone, PartialEq)]
pub struct Phantom {
    /// The number that it was drawn from.
    pub seed: u64,
    /// `[D, H, W]`.
    pub shape: [usize; 3],
    /// `[D, H, W]`, intensities in `0..=1`.
    pub volume: Vec<f32>,
    /// `[D, H, W]`, the [label](Organ::label) of each voxel, 0 outside the organs.
    pub truth: Vec<u8>,
}

impl Phantom {
    /// The `[D, H, W]` of [`Phantom::draw`], which is the input of the model.
    pub const SHAPE: [usize; 3] = [32, 256, 256];

    /// Draws the phantom with this number at the model's own size, [`Phantom::SHAPE`].
    ///
    /// A seed names one phantom, on every machine.
    #[must_use]
    pub fn draw(seed: u64) -> Phantom {
        Phantom::draw_sized(seed, Phantom::SHAPE)
    }

    /// Draws the phantom with this number at another `[D, H, W]`.
    ///
    /// The organs are those of [`Phantom::draw`], sampled more coarsely or finely; the
    /// noise is another.
    #[must_use]
    pub fn draw_sized(seed: u64, shape: [usize; 3]) -> Phantom {
        let mut normal = Normal { rng: ChaCha8Rng::seed_from_u64(seed) };
        // The organs come before the noise, so that they do not depend on the shape.
        let organs = draw_organs(&mut normal);

        let [d, h, w] = shape;
        let body = body_mask(h, w);
        let mut truth = vec![0; d * h * w];
        for (organ, ellipsoid) in &organs {
            ellipsoid.paint(shape, &body, organ.label(), &mut truth);
        }

        let mut intensities = [BODY_INTENSITY; 1 + Organ::ALL.len()];
        for (organ, ellipsoid) in &organs {
            intensities[usize::from(organ.label())] = ellipsoid.intensity;
        }
        let volume = truth
            .iter()
            .zip(body.iter().cycle())
            .map(|(&label, &in_body)| {
                let intensity = if in_body { intensities[usize::from(label)] } else { 0.0 };
                normal.sample(intensity, NOISE_STD).clamp(0.0, 1.0) as f32
            })
            .collect();

        Phantom { seed, shape, volume, truth }
    }

    /// The organ's true mask: `[D, H, W]`, 1 inside, 0 outside.
    #[must_use]
    pub fn mask(&self, organ: Organ) -> Vec<u8> {
        self.truth.iter().map(|&label| u8::from(label == organ.label())).collect()
    }

    /// How many voxels the organ has.
    #[must_use]
    pub fn voxel_count(&self, organ: Organ) -> usize {
        self.truth.iter().filter(|&&label| label == organ.label()).count()
    }

    /// The [`dice`](crate::dice) of a mask against the organ's true mask.
    ///
    /// `mask` is `[D, H, W]`, and inside where it is not 0. Returns `None` for a mask of
    /// another length.
    #[must_use]
    pub fn dice(&self, mask: &[u8], organ: Organ) -> Option<f64> {
        if mask.len() != self.truth.len() {
            return None;
        }
        let in_truth = self.truth.iter().map(|&label| label == organ.label());
        dice_of(mask.iter().map(|&v| v != 0).zip(in_truth))
    }
}

/// Normally distributed numbers from a stream that no release of a crate may change.
struct Normal {
    rng: ChaCha8Rng,
}

impl Normal {
    fn sample(&mut self, mean: f64, std: f64) -> f64 {
        let standard: f64 = StandardNormal.sample(&mut self.rng);
        mean + std * standard
    }

    fn sample_around(&mut self, mean: [f64; 3], std: f64) -> [f64; 3] {
        mean.map(|mean| self.sample(mean, std))
    }
}

/// The organs of one phantom, in the order of [`Organ::ALL`]: later ones overwrite.
fn draw_organs(normal: &mut Normal) -> [(Organ, Ellipsoid); 6] {
    let shift_zyx = normal.sample_around([0.0; 3], COMMON_SHIFT_STD);
    let scale = normal.sample(1.0, COMMON_SCALE_STD);

    Organ::ALL.map(|organ| {
        let Atlas { center_zyx, radii_zyx, intensity } = organ.atlas();
        let shifted_zyx = std::array::from_fn(|axis| center_zyx[axis] + shift_zyx[axis]);
        let ellipsoid = Ellipsoid {
            center_zyx: normal.sample_around(shifted_zyx, CENTER_STD),
            radii_zyx: radii_zyx.map(|radius| radius * scale * normal.sample(1.0, RADIUS_STD)),
            rotation_rad: normal.sample(0.0, ROTATION_STD_RAD),
            intensity: normal.sample(intensity, INTENSITY_STD),
        };
        (organ, ellipsoid)
    })
}

/// An ellipsoid turned in the (y, x) plane.
struct Ellipsoid {
    center_zyx: [f64; 3],
    radii_zyx: [f64; 3],
    rotation_rad: f64,
    intensity: f64,
}

impl Ellipsoid {
    /// Writes `label` into the voxels of `truth` (`shape`, which is `[D, H, W]`) that lie
    /// in the ellipsoid and in the body (`[H, W]`).
    fn paint(&self, shape: [usize; 3], body: &[bool], label: u8, truth: &mut [u8]) {
        let [d, h, w] = shape;
        let [z_center, y_center, x_center] = self.center_zyx;
        let [z_radius, y_radius, x_radius] = self.radii_zyx;
        let (sin, cos) = self.rotation_rad.sin_cos();
        // However it is turned, it stays within its longer radius: a box to look at.
        let reach = y_radius.max(x_radius);

        for z in voxels_within(z_center, z_radius, d) {
            let dz = (voxel_center(z, d) - z_center) / z_radius;
            for y in voxels_within(y_center, reach, h) {
                let dy = voxel_center(y, h) - y_center;
                for x in voxels_within(x_center, reach, w) {
                    let dx = voxel_center(x, w) - x_center;
                    let v = (cos * dy + sin * dx) / y_radius;
                    let u = (cos * dx - sin * dy) / x_radius;
                    if dz * dz + v * v + u * u <= 1.0 && body[y * w + x] {
                        truth[(z * h + y) * w + x] = label;
                    }
                }
            }
        }
    }
}

/// The body, `[H, W]`: it is the same in every slice.
fn body_mask(h: usize, w: usize) -> Vec<bool> {
    let mut mask = Vec::with_capacity(h * w);
    for y in 0..h {
        let v = (voxel_center(y, h) - BODY_CENTER_YX[0]) / BODY_RADII_YX[0];
        for x in 0..w {
            let u = (voxel_center(x, w) - BODY_CENTER_YX[1]) / BODY_RADII_YX[1];
            mask.push(v * v + u * u <= 1.0);
        }
    }
    mask
}

fn voxel_center(index: usize, count: usize) -> f64 {
    (index as f64 + 0.5) / count as f64
}

/// The voxels of an axis that may lie within `radius` of `center`, one too many at each
/// end so that rounding loses none.
fn voxels_within(center: f64, radius: f64, count: usize) -> Range<usize> {
    // A cast from float to integer saturates, so that no end leaves the axis.
    let first = ((center - radius) * count as f64 - 1.0).floor().max(0.0) as usize;
    let end = ((center + radius) * count as f64 + 1.0).ceil().max(0.0) as usize;
    first.min(count)..end.min(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COARSE: [usize; 3] = [16, 64, 64];

    /// The mean position of an organ's voxels, (z, y, x), in fractions of the volume.
    fn centroid(phantom: &Phantom, organ: Organ) -> [f64; 3] {
        let [d, h, w] = phantom.shape;
        let mut sum = [0.0; 3];
        for (i, _) in phantom.truth.iter().enumerate().filter(|(_, l)| **l == organ.label()) {
            sum[0] += voxel_center(i / (h * w), d);
            sum[1] += voxel_center(i / w % h, h);
            sum[2] += voxel_center(i % w, w);
        }
        sum.map(|sum| sum / phantom.voxel_count(organ) as f64)
    }

    /// Mean and standard deviation of the intensities where `inside` holds.
    fn mean_and_std(phantom: &Phantom, inside: impl Fn(usize) -> bool) -> (f64, f64) {
        let values = || (0..phantom.volume.len()).filter(|&i| inside(i));
        let count = values().count() as f64;
        let mean = values().map(|i| f64::from(phantom.volume[i])).sum::<f64>() / count;
        let variance =
            values().map(|i| (f64::from(phantom.volume[i]) - mean).powi(2)).sum::<f64>() / count;
        (mean, variance.sqrt())
    }

    #[test]
    fn phantom_of_every_seed_has_every_organ() {
        for seed in 0..200 {
            let phantom = Phantom::draw_sized(seed, COARSE);
            for organ in Organ::ALL {
                assert!(phantom.voxel_count(organ) > 20, "seed {seed}: no {organ}");
            }
        }
    }

    #[test]
    fn phantom_intensities_stay_in_range_and_reach_both_tissue_and_air() {
        let phantom = Phantom::draw_sized(3, COARSE);
        assert!(phantom.volume.iter().all(|v| (0.0..=1.0).contains(v)));
        assert!(phantom.volume.contains(&0.0));
        assert!(phantom.volume.iter().any(|&v| v > 0.8));
    }

    #[test]
    fn phantom_with_the_same_seed_is_the_same() {
        assert_eq!(Phantom::draw_sized(11, COARSE), Phantom::draw_sized(11, COARSE));
    }

    #[test]
    fn phantom_of_seed_zero_stays_the_one_that_it_is() {
        let phantom = Phantom::draw(0);
        let counts = Organ::ALL.map(|organ| phantom.voxel_count(organ));
        assert_eq!(counts, [78_910, 12_112, 9_361, 5_710, 4_473, 9_708]);

        // Sums and logarithms differ in their last bits between machines.
        let sum: f64 = phantom.volume.iter().copied().map(f64::from).sum();
        assert!((sum - 432_432.261).abs() < 0.01, "{sum}");
    }

    #[test]
    fn phantom_with_another_seed_differs_in_volume_and_truth() {
        let (a, b) = (Phantom::draw_sized(1, COARSE), Phantom::draw_sized(2, COARSE));
        assert_ne!(a.volume, b.volume);
        assert_ne!(a.truth, b.truth);
    }

    #[test]
    fn phantom_at_another_size_has_the_same_organs() {
        let (coarse, fine) = (Phantom::draw_sized(5, COARSE), Phantom::draw(5));
        for organ in [Organ::Liver, Organ::Spleen, Organ::Bladder] {
            let (a, b) = (centroid(&coarse, organ), centroid(&fine, organ));
            for axis in 0..3 {
                assert!((a[axis] - b[axis]).abs() < 0.01, "{organ}: {a:?} {b:?}");
            }
        }
    }

    #[test]
    fn phantom_at_model_size_has_organs_of_the_atlas() {
        let phantom = Phantom::draw(0);
        assert_eq!(phantom.shape, Phantom::SHAPE);
        assert_eq!(phantom.volume.len(), 32 * 256 * 256);

        // What the ellipsoids of the atlas hold without variation, where nothing cuts them.
        // A common scale of one standard deviation alone is 15% of that.
        for (organ, voxels) in [
            (Organ::Liver, 100_000),
            (Organ::Spleen, 15_000),
            (Organ::LeftKidney, 8_800),
            (Organ::RightKidney, 8_500),
            (Organ::Aorta, 5_800),
            (Organ::Bladder, 14_500),
        ] {
            let count = phantom.voxel_count(organ);
            assert!((voxels / 2..voxels * 2).contains(&count), "{organ}: {count}");
        }
    }

    #[test]
    fn phantom_kidneys_are_on_their_own_sides() {
        for seed in 0..20 {
            let phantom = Phantom::draw_sized(seed, COARSE);
            let [_, _, left_x] = centroid(&phantom, Organ::LeftKidney);
            let [_, _, right_x] = centroid(&phantom, Organ::RightKidney);
            assert!(left_x > 0.5 && right_x < 0.5, "seed {seed}: {left_x} {right_x}");
        }
    }

    #[test]
    fn phantom_noise_has_the_strength_of_the_recipe() {
        let phantom = Phantom::draw(4);
        for organ in Organ::ALL {
            let (mean, std) = mean_and_std(&phantom, |i| phantom.truth[i] == organ.label());
            assert!((mean - organ.atlas().intensity).abs() < 5.0 * INTENSITY_STD, "{organ}");
            assert!((std - NOISE_STD).abs() < 0.002, "{organ}: {std}");
        }
        // Air is noise cut off at zero, whose mean is std / sqrt(2 pi).
        let corner = |i: usize| i % 256 < 20 && i / 256 % 256 < 20;
        let (mean, _) = mean_and_std(&phantom, corner);
        assert!((mean - NOISE_STD / std::f64::consts::TAU.sqrt()).abs() < 5e-4, "{mean}");
    }

    #[test]
    fn phantom_organs_stay_inside_the_body() {
        let phantom = Phantom::draw_sized(8, COARSE);
        let body = body_mask(64, 64);
        let mut voxels = phantom.truth.iter().zip(body.iter().cycle());
        assert!(voxels.all(|(&label, &in_body)| in_body || label == 0));
    }

    #[test]
    fn phantom_painted_in_a_box_equals_one_painted_everywhere() {
        let mut normal = Normal { rng: ChaCha8Rng::seed_from_u64(9) };
        let [d, h, w] = COARSE;
        let mut expected = vec![0; d * h * w];
        for (organ, e) in draw_organs(&mut normal) {
            let (sin, cos) = e.rotation_rad.sin_cos();
            for (i, label) in expected.iter_mut().enumerate() {
                let (y, x) = (voxel_center(i / w % h, h), voxel_center(i % w, w));
                let (dy, dx) = (y - e.center_zyx[1], x - e.center_zyx[2]);
                let dz = (voxel_center(i / (h * w), d) - e.center_zyx[0]) / e.radii_zyx[0];
                let v = (cos * dy + sin * dx) / e.radii_zyx[1];
                let u = (cos * dx - sin * dy) / e.radii_zyx[2];
                let body = ((y - 0.5) / 0.42).powi(2) + ((x - 0.5) / 0.46).powi(2) <= 1.0;
                if body && dz * dz + v * v + u * u <= 1.0 {
                    *label = organ.label();
                }
            }
        }
        assert_eq!(Phantom::draw_sized(9, COARSE).truth, expected);
    }

    #[test]
    fn phantom_dice_compares_with_one_organ() {
        let phantom = Phantom::draw_sized(6, COARSE);
        let liver = phantom.mask(Organ::Liver);
        assert_eq!(phantom.dice(&liver, Organ::Liver), Some(1.0));
        assert_eq!(phantom.dice(&liver, Organ::Aorta), Some(0.0));
        assert_eq!(phantom.dice(&[1], Organ::Liver), None);

        let (n, liver_count) = (liver.len() as f64, phantom.voxel_count(Organ::Liver) as f64);
        let everything = vec![1; liver.len()];
        let expected = 2.0 * liver_count / (n + liver_count);
        assert_eq!(phantom.dice(&everything, Organ::Liver), Some(expected));
    }

    #[test]
    fn phantom_with_an_empty_axis_is_empty() {
        assert!(Phantom::draw_sized(0, [0, 8, 8]).volume.is_empty());
        assert!(Phantom::draw_sized(0, [4, 0, 8]).truth.is_empty());
    }
}
