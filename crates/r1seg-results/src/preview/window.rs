//! Which intensities are black and which are white.

use std::str::FromStr;

use r1seg::volume::{IntensityRange, Voxels};

use super::label_stats::{LabelStats, rows};
use super::raster::Field;

/// Enough for percentiles and shares that a picture needs, however large the volume is.
const SAMPLES: usize = 1 << 15;

/// What fills more than this share of the samples at their lowest value is background or
/// padding.
const PADDING_SHARE: f64 = 0.01;

/// How far around a mask counts as its neighborhood.
const AROUND_MM: f64 = 8.0;

/// HU of lungs; bowel gas and the air around a patient are lower, tissue is higher.
const LUNG_HU: std::ops::Range<f32> = -950.0..-400.0;

/// The intensities that are black and white.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    pub(super) low: f32,
    pub(super) high: f32,
    /// What radiologists call it; only HU have such windows.
    pub(super) name: Option<&'static str>,
}

pub(super) const SOFT_TISSUE: Window = named(400.0, 40.0, "soft tissue");
pub(super) const LUNG: Window = named(1500.0, -600.0, "lung");
const MEDIASTINUM: Window = named(350.0, 50.0, "mediastinum");
const LIVER: Window = named(150.0, 30.0, "liver");
const BONE: Window = named(1800.0, 400.0, "bone");
const BRAIN: Window = named(80.0, 40.0, "brain");
/// Contrast medium and bone.
pub(super) const DENSE: Window = named(1000.0, 300.0, "wide");

const fn named(width: f32, level: f32, name: &'static str) -> Window {
    Window { low: level - width / 2.0, high: level + width / 2.0, name: Some(name) }
}

/// Neither the name of a window nor a level and a width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "soft, mediastinum, liver, lung, bone or brain is needed, or a level and a width above 0: 40,400"
)]
pub struct UnknownWindow;

/// A window by its name, or as `LEVEL,WIDTH` in the units of the volume.
impl FromStr for Window {
    type Err = UnknownWindow;

    fn from_str(text: &str) -> Result<Self, UnknownWindow> {
        Ok(match text.trim().to_ascii_lowercase().as_str() {
            "soft" | "soft-tissue" => SOFT_TISSUE,
            "mediastinum" => MEDIASTINUM,
            "liver" => LIVER,
            "lung" => LUNG,
            "bone" => BONE,
            "brain" => BRAIN,
            _ => return Self::of_level_and_width(text).ok_or(UnknownWindow),
        })
    }
}

impl Window {
    fn of_level_and_width(text: &str) -> Option<Self> {
        let number = |text: &str| text.trim().parse::<f32>().ok().filter(|n| n.is_finite());
        let (level, width) = text.split_once(',')?;
        let (level, width) = (number(level)?, number(width)?);
        let (low, high) = (level - width / 2.0, level + width / 2.0);
        (low < high && (high - low).is_finite()).then_some(Self { low, high, name: None })
    }

    /// The window that shows what is under and around the mask; `steps_mm` are those of a
    /// voxel along D, H and W.
    pub(super) fn choose(field: &Field<'_>, stats: &LabelStats, steps_mm: [f64; 3]) -> Self {
        let samples = samples(field.volume);
        let (Some(low), Some(high)) = (samples.first(), samples.last()) else {
            return SOFT_TISSUE;
        };
        let inside = without_padding(&samples);
        let is_hu = |values: &[f32]| match values {
            [low, .., high] => IntensityRange::of(*low, *high) == IntensityRange::Hu,
            _ => false,
        };
        if is_hu(&samples) || is_hu(inside) {
            return Self::of_tissue(field, stats, steps_mm);
        }
        // Most of what lies above the mean is tissue, in CT of any scale as in MR.
        let mean = samples.iter().map(|v| f64::from(*v)).sum::<f64>() / samples.len() as f64;
        let bright = inside.split_at(inside.partition_point(|v| f64::from(*v) <= mean)).1;
        let (Some(from), Some(to)) = (percentile(bright, 0.05), percentile(bright, 0.99)) else {
            return Self {
                low: *low,
                high: if low < high { *high } else { *low + 1.0 },
                name: None,
            };
        };
        let low = (from - (to - from) / 2.0).max(*low);
        Self { low, high: if low < to { to } else { low + 1.0 }, name: None }
    }

    fn of_tissue(field: &Field<'_>, stats: &LabelStats, steps_mm: [f64; 3]) -> Self {
        let (mut under, around) = under_and_around(field, stats, steps_mm);
        let lung_under = share(&under, |hu| LUNG_HU.contains(&hu));
        let lung_around = share(&around, |hu| LUNG_HU.contains(&hu));
        under.retain(|hu| *hu >= LUNG_HU.start);
        under.sort_unstable_by(f32::total_cmp);
        let Some(median) = percentile(&under, 0.5) else { return SOFT_TISSUE };
        // The heart and the dome of the liver border on lung too, but have sharp edges; a
        // tumor of the lung reaches into it.
        let is_in_lung = lung_around > 0.7 || lung_around > 0.3 && lung_under > 0.05;
        match median {
            _ if median < LUNG_HU.end || is_in_lung => LUNG,
            // Half of it would be white.
            _ if median > SOFT_TISSUE.high => DENSE,
            _ => SOFT_TISSUE,
        }
    }

    /// For example `soft tissue window: W 400 L 40 HU`.
    pub(super) fn text(&self) -> String {
        let (width, level) = (self.high - self.low, self.low + (self.high - self.low) / 2.0);
        let text = format!("W {} L {}", rounded(width.into()), rounded(level.into()));
        self.name.map_or(text.clone(), |name| format!("{name} window: {text} HU"))
    }
}

/// A number in three digits, or in more if it needs them before the point.
pub(super) fn rounded(number: f64) -> String {
    let decimals = match number.abs() {
        0.0 => return "0".to_owned(),
        size if !(0.001..1e6).contains(&size) => return format!("{number:.2e}"),
        100.0.. => return format!("{number:.0}"),
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{number:.decimals$}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Intensities from all over the volume in ascending order, without those that are none.
fn samples(voxels: &Voxels) -> Vec<f32> {
    let count = voxels.len();
    let mut samples: Vec<f32> = if count <= SAMPLES {
        voxels.iter().collect()
    } else {
        // Multiples of the golden ratio spread evenly, and never along an axis.
        let golden = (5_f64.sqrt() - 1.0) / 2.0;
        // A cast from float to integer saturates.
        let index = |i: usize| ((i as f64 * golden).fract() * count as f64) as usize;
        (0..SAMPLES).filter_map(|i| voxels.get(index(i))).collect()
    };
    samples.retain(|v| v.is_finite());
    samples.sort_unstable_by(f32::total_cmp);
    samples
}

/// Ascending samples without the lowest value, if that is common.
fn without_padding(samples: &[f32]) -> &[f32] {
    let padding = samples.partition_point(|v| Some(v) == samples.first());
    let is_common = padding as f64 > samples.len() as f64 * PADDING_SHARE;
    if is_common && padding < samples.len() { samples.split_at(padding).1 } else { samples }
}

/// Of ascending values; `None` of none.
fn percentile(values: &[f32], share: f64) -> Option<f32> {
    // A cast from float to integer saturates.
    values.get((values.len().saturating_sub(1) as f64 * share).round() as usize).copied()
}

fn share(values: &[f32], is_counted: impl Fn(f32) -> bool) -> f64 {
    values.iter().filter(|v| is_counted(**v)).count() as f64 / values.len().max(1) as f64
}

/// Intensities of some voxels of the mask, and of voxels near them that have no label.
fn under_and_around(
    field: &Field<'_>,
    stats: &LabelStats,
    steps_mm: [f64; 3],
) -> (Vec<f32>, Vec<f32>) {
    let voxels: u64 = stats.counts.iter().sum();
    // Every so many of the mask's voxels is taken.
    let every = usize::try_from(voxels).unwrap_or(usize::MAX) / SAMPLES + 1;
    // A cast from float to integer saturates.
    let reach = steps_mm.map(|mm| ((AROUND_MM / mm).round() as usize).max(1));
    let (mut under, mut around, mut seen) = (Vec::new(), Vec::new(), 0);
    let [depths, heights, _] = &stats.extent;
    for (d, h, row) in rows(field.shape, field.labels) {
        if !depths.contains(&d) || !heights.contains(&h) {
            continue;
        }
        let (before, in_row) = (seen, row.iter().filter(|label| **label != 0).count());
        seen += in_row;
        if before / every == seen / every {
            continue;
        }
        let labeled = row.iter().enumerate().filter(|(_, label)| **label != 0);
        for (w, _) in labeled.skip(every - 1 - before % every).step_by(every) {
            let at = [d, h, w];
            under.extend(field.volume.get(field.index(at)));
            for axis in 0..3 {
                let there = |coordinate| {
                    let mut there = at;
                    there[axis] = coordinate;
                    field.index(there)
                };
                let below = at[axis].checked_sub(reach[axis]);
                let above = at[axis].saturating_add(reach[axis]);
                let above = (above < field.shape[axis]).then_some(above);
                let near = below.into_iter().chain(above).map(there);
                let outside = near.filter(|index| field.labels.get(*index) == Some(&0));
                around.extend(outside.filter_map(|index| field.volume.get(index)));
            }
        }
    }
    under.retain(|v| !v.is_nan());
    (under, around)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preview::Scene;

    const SHAPE: [usize; 3] = [16, 32, 32];

    /// The window of a cube of 6 voxels a side in the middle of a volume; `intensity` is told
    /// how many voxels of 4 mm it is to the cube, 0 inside.
    fn window(has_mask: bool, intensity: impl Fn(usize) -> i16) -> Window {
        let away = |i: usize, middle: usize| match i.abs_diff(middle) {
            0..3 => 0,
            far => far - 2,
        };
        let (mut volume, mut labels) = (Vec::new(), Vec::new());
        for i in 0..SHAPE.iter().product() {
            let far = away(i / 1024, 8).max(away(i / 32 % 32, 16)).max(away(i % 32, 16));
            volume.push(intensity(far));
            labels.push(u16::from(far == 0));
        }
        // What makes them HU.
        (volume[0], volume[1]) = (-1024, 1200);
        chosen(&volume.into(), if has_mask { &labels } else { &[] })
    }

    fn chosen(volume: &Voxels, labels: &[u16]) -> Window {
        let field = Field::new(&Scene { labels, ..Scene::new(volume, SHAPE) });
        Window::choose(&field, &LabelStats::new(SHAPE, labels), [4.0; 3])
    }

    #[test]
    fn mask_in_soft_tissue_gets_the_soft_tissue_window() {
        let organ = |far: usize| if far == 0 { 60 } else { -90 };
        assert_eq!(window(true, organ), SOFT_TISSUE);
        assert_eq!((SOFT_TISSUE.low, SOFT_TISSUE.high), (-160.0, 240.0));
    }

    #[test]
    fn mask_of_lung_and_nodule_within_it_get_the_lung_window() {
        let lung = |far: usize| if far == 0 { -820 } else { 40 };
        assert_eq!(window(true, lung), LUNG);
        let nodule = |far: usize| if far == 0 { 30 } else { -820 };
        assert_eq!(window(true, nodule), LUNG);
        assert_eq!((LUNG.low, LUNG.high), (-1350.0, 150.0));
    }

    #[test]
    fn mask_next_to_air_is_not_taken_for_lung() {
        let skin = |far: usize| if far == 0 { 30 } else { -1000 };
        assert_eq!(window(true, skin), SOFT_TISSUE);
        let everything = |far: usize| if far > 5 { -1000 } else { 30 };
        assert_eq!(window(true, everything), SOFT_TISSUE);
    }

    #[test]
    fn mask_brighter_than_the_soft_tissue_window_gets_a_wide_one() {
        let aorta = |far: usize| if far == 0 { 380 } else { 40 };
        assert_eq!(window(true, aorta), DENSE);
        let bony = |far: usize| if far == 0 { 40 } else { 380 };
        assert_eq!(window(true, bony), SOFT_TISSUE);
    }

    #[test]
    fn lung_without_a_mask_gets_the_soft_tissue_window() {
        assert_eq!(window(false, |_| -820), SOFT_TISSUE);
    }

    #[test]
    fn padding_changes_no_window() {
        for padding in [-3024, -8192, -32768] {
            let organ = |far: usize| [60, -90, -90, -90, -90].get(far).copied().unwrap_or(padding);
            assert_eq!(window(true, organ), SOFT_TISSUE, "{padding}");
        }
    }

    #[test]
    fn range_that_is_not_hu_is_cut_to_the_tissue() {
        // Two thirds background, tissue from 900 to 1100, a few outliers.
        let at = |i: i16| match i % 300 {
            0..200 => 0,
            299 => 30_000,
            tissue => 900 + (tissue - 200) * 2,
        };
        let volume: Vec<i16> = (0..16_384).map(at).collect();
        let Window { low, high, name } = chosen(&Voxels::from(volume), &[]);
        assert!((700.0..900.0).contains(&low), "{low}");
        assert!((1080.0..1200.0).contains(&high), "{high}");
        assert_eq!(name, None);
    }

    #[test]
    fn volume_of_one_value_has_a_window_with_a_width() {
        for value in [0.0, -1024.0, 1e30, f32::NAN] {
            let Window { low, high, .. } = chosen(&vec![value; 16_384].into(), &[]);
            assert!(low <= high, "{value}");
        }
    }

    #[test]
    fn window_is_written_the_way_radiologists_do() {
        assert_eq!(SOFT_TISSUE.text(), "soft tissue window: W 400 L 40 HU");
        assert_eq!(LUNG.text(), "lung window: W 1500 L -600 HU");
        assert_eq!(Window { low: 0.25, high: 0.75, name: None }.text(), "W 0.5 L 0.5");
    }

    #[test]
    fn a_window_is_chosen_by_name_or_by_level_and_width() {
        assert_eq!("Lung".parse::<Window>(), Ok(LUNG));
        assert_eq!("soft".parse::<Window>(), Ok(SOFT_TISSUE));
        let window = " -600, 1500".parse::<Window>().unwrap();
        assert_eq!((window.low, window.high, window.name), (-1350.0, 150.0, None));
        for text in ["", "lungs", "40", "40,0", "40,-1", "nan,1", "1,inf", "1,2,3", "1e38,1e39"] {
            assert!(text.parse::<Window>().is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_are_rounded_to_three_digits() {
        let numbers = [0.0, 3.0, 0.9765625, 3.27, 40.04, -600.0, 1023.4, 1e-9, f64::NAN];
        let expected = ["0", "3", "0.977", "3.27", "40", "-600", "1023", "1.00e-9", "NaN"];
        assert_eq!(numbers.map(rounded), expected);
    }
}
