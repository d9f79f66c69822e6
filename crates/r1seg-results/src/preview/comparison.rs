//! One slice of two label maps side by side, and where they differ.

use r1seg::volume::Voxels;

use super::canvas::{Rect, Text};
use super::palette::{BACKGROUND, FAINT_TEXT, TEXT, color_of};
use super::raster::Field;
use super::sheet::shortened;
use super::view::{Anatomy, Plane, View};
use super::window::Window;
use super::{Picture, Scene, overlay};

/// Two label maps of one grid.
#[derive(Debug)]
pub struct Comparison<'a> {
    /// What the labels are drawn on, `[D, H, W]` in C order; drawn as black if its number of voxels is not
    /// that of the shape.
    pub volume: &'a Voxels,
    /// `[D, H, W]`.
    pub shape: [usize; 3],
    /// As of a [`Scene`].
    pub axes: Option<[[f64; 3]; 3]>,
    /// Labels of both in C order, 0 is background.
    pub labels: [&'a [u16]; 2],
    /// What the two are called above their panels.
    pub names: [&'a str; 2],
    /// The line above the picture.
    pub title: &'a str,
    /// The intensities that are black and white; chosen by what is under the labels if not given.
    pub window: Option<Window>,
}

/// The axial slice in which two label maps differ most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorstSlice {
    /// The array axis that it is normal to: 0, 1 or 2 for D, H or W.
    pub axis: usize,
    /// Its place along that axis.
    pub index: usize,
    /// How many of its voxels differ.
    pub different: usize,
}

const PANEL: usize = 392;
const MARGIN: usize = 12;
const TOP: usize = 34;
const HEADING: usize = 22;
const FOOT: usize = 52;
const OUTLINE: usize = 1;

/// What a voxel is in the third panel: a label of a color, and what that means.
const ONLY_FIRST: u16 = 1;
const ONLY_SECOND: u16 = 2;
const SAME: u16 = 3;
const OTHER: u16 = 4;
const KEYS: [(u16, &str); 4] = [
    (SAME, "the same in both"),
    (ONLY_FIRST, "only in A"),
    (ONLY_SECOND, "only in B"),
    (OTHER, "another label"),
];

const PLAIN: Text = Text { color: TEXT, scale: 2, on_image: false };
const FAINT: Text = Text { color: FAINT_TEXT, scale: 2, on_image: false };

impl Comparison<'_> {
    /// The axial slice with the most voxels that differ; of equal ones the first. `None` for maps that do
    /// not differ, or not of this shape.
    pub fn worst_slice(&self) -> Option<WorstSlice> {
        let [d, h, w] = self.shape;
        let [a, b] = self.labels;
        if a.len() != d * h * w || b.len() != a.len() {
            return None;
        }
        let axis = Anatomy::new(self.axes).view(Plane::Axial, self.shape).through;
        let mut different = vec![0; self.shape[axis]];
        for (n, _) in a.iter().zip(b).enumerate().filter(|(_, (a, b))| a != b) {
            different[[n / (h * w), n / w % h, n % w][axis]] += 1;
        }
        let most = different.iter().copied().max().filter(|most| 0 < *most)?;
        let index = different.iter().position(|count| *count == most)?;
        Some(WorstSlice { axis, index, different: most })
    }
}

/// Draws one axial slice of both maps and where they differ, `index` voxels along the array axis that axial
/// slices are normal to, as radiologists look at it and in its true aspect ratio.
pub fn render_comparison(comparison: &Comparison<'_>, index: usize) -> Picture {
    let anatomy = Anatomy::new(comparison.axes);
    let view = anatomy.view(Plane::Axial, comparison.shape);
    let index = index.min(comparison.shape[view.through].saturating_sub(1));
    let [width, height] = view.size_within([PANEL - MARGIN, PANEL - MARGIN]);
    let mut picture =
        Picture::filled(3 * PANEL + MARGIN, TOP + HEADING + height.max(1) + FOOT, BACKGROUND);
    let room = PLAIN.characters_in(picture.width - 2 * MARGIN);
    picture.write(MARGIN, 10, &shortened(comparison.title, room), PLAIN);

    let different = difference(comparison, &view, index);
    let [first, second] = comparison.labels;
    let [a, b] = comparison.names;
    let panels = [(a, first), (b, second), ("A against B", different.as_slice())];
    let window = window(comparison, &anatomy);
    for (n, (name, labels)) in panels.into_iter().enumerate() {
        let x = MARGIN + n * PANEL;
        let room = FAINT.characters_in(PANEL - MARGIN);
        picture.write(x, TOP, &shortened(name, room), FAINT);
        if width == 0 || height == 0 {
            continue;
        }
        let mut field = Field::new(&scene(comparison, labels));
        field.window = window;
        let tile = field.cut(&view, index, [width, height]);
        let area = Rect { x, y: TOP + HEADING, width: PANEL - MARGIN, height };
        let place = area.centered([width, height]);
        overlay::draw(&mut picture, (place.x, place.y), &tile, OUTLINE);
    }
    draw_keys(&mut picture, TOP + HEADING + height + 10);
    picture
}

fn scene<'a>(comparison: &'a Comparison<'_>, labels: &'a [u16]) -> Scene<'a> {
    let axes = comparison.axes;
    Scene { labels, axes, ..Scene::new(comparison.volume, comparison.shape) }
}

/// The same for all panels.
fn window(comparison: &Comparison<'_>, anatomy: &Anatomy) -> Window {
    let field = Field::new(&scene(comparison, comparison.labels[0]));
    let stats = super::label_stats::LabelStats::new(field.shape, field.labels);
    let chosen = || Window::choose(&field, &stats, anatomy.steps_mm());
    comparison.window.unwrap_or_else(chosen)
}

/// Labels of [`KEYS`] in one slice, and none elsewhere.
fn difference(comparison: &Comparison<'_>, view: &View, index: usize) -> Vec<u16> {
    let [_, h, w] = comparison.shape;
    let [a, b] = comparison.labels;
    let of_voxel = |(n, (a, b)): (usize, (&u16, &u16))| {
        let place = [n / (h * w), n / w % h, n % w];
        match (*a, *b) {
            _ if place[view.through] != index => 0,
            (0, 0) => 0,
            (_, 0) => ONLY_FIRST,
            (0, _) => ONLY_SECOND,
            (a, b) if a == b => SAME,
            _ => OTHER,
        }
    };
    a.iter().zip(b).enumerate().map(of_voxel).collect()
}

fn draw_keys(picture: &mut Picture, y: usize) {
    let mut x = MARGIN;
    for (label, text) in KEYS {
        picture.fill(Rect { x, y, width: 14, height: 14 }, color_of(label));
        picture.write(x + 20, y, text, PLAIN);
        x += 20 + PLAIN.width_of(text.len()) + 28;
    }
    let notice = "research use only, not a medical device";
    picture.write(MARGIN, y + 22, notice, FAINT);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: [usize; 3] = [3, 8, 8];

    fn labels(voxels: &[usize], label: u16) -> Vec<u16> {
        (0..192).map(|n| if voxels.contains(&n) { label } else { 0 }).collect()
    }

    fn comparison<'a>(volume: &'a Voxels, a: &'a [u16], b: &'a [u16]) -> Comparison<'a> {
        let axes = Some([[0.0, 0.0, 4.0], [0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]]);
        let (labels, names) = ([a, b], ["A", "B"]);
        Comparison { volume, shape: SHAPE, axes, labels, names, title: "t", window: None }
    }

    #[test]
    fn the_worst_slice_is_the_axial_one_with_most_differences() {
        let volume = Voxels::F32(vec![0.0; 192]);
        let (a, b) = (labels(&[0, 70, 71, 72], 1), labels(&[0, 70, 130], 1));
        let worst = comparison(&volume, &a, &b).worst_slice();
        assert_eq!(worst, Some(WorstSlice { axis: 0, index: 1, different: 2 }));
        assert_eq!(comparison(&volume, &a, &a).worst_slice(), None);
        assert_eq!(comparison(&volume, &a, &b[1..]).worst_slice(), None);
        // Stored with its slices last, the same are normal to the last axis.
        let turned = Comparison {
            axes: Some([[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 4.0]]),
            ..comparison(&volume, &a, &b)
        };
        assert_eq!(turned.worst_slice().map(|worst| worst.axis), Some(2));
    }

    #[test]
    fn each_kind_of_difference_has_its_color() {
        let volume = Voxels::F32(vec![0.0; 192]);
        // A block each: the same, only in A, only in B, another label.
        let block = |at: usize| (0..2).flat_map(move |y| (0..2).map(move |x| 64 + at + 8 * y + x));
        let mut a = labels(&block(0).chain(block(4)).chain(block(32)).collect::<Vec<_>>(), 5);
        let mut b = labels(&block(0).chain(block(36)).collect::<Vec<_>>(), 5);
        block(32).for_each(|n| (a[n], b[n]) = (5, 6));
        let picture = render_comparison(&comparison(&volume, &a, &b), 1);
        let third = |color: [u8; 3]| {
            let top = TOP + HEADING;
            let pixels = (top..picture.height - FOOT).flat_map(|y| {
                let row = &picture.rgb[3 * y * picture.width..][..3 * picture.width];
                row[3 * (MARGIN + 2 * PANEL)..].chunks_exact(3)
            });
            pixels.filter(|pixel| *pixel == color).count()
        };
        for (label, name) in KEYS {
            assert!(0 < third(color_of(label)), "{name}");
        }
        let same = render_comparison(&comparison(&volume, &a, &a), 1);
        assert_eq!((same.width, same.height), (picture.width, picture.height));
    }

    #[test]
    fn nothing_to_draw_is_a_picture_without_panels() {
        let volume = Voxels::F32(Vec::new());
        let none = Comparison { shape: [0; 3], ..comparison(&volume, &[], &[]) };
        assert_eq!(none.worst_slice(), None);
        let picture = render_comparison(&none, 3);
        assert_eq!(picture.rgb.len(), 3 * picture.width * picture.height);
    }
}
