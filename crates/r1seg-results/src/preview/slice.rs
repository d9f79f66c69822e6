//! One slice alone, with nothing around it.

use super::label_stats::LabelStats;
use super::overlay;
use super::palette::BACKGROUND;
use super::raster::Field;
use super::view::{Anatomy, Plane};
use super::window::Window;
use super::{Picture, Scene};

/// Which way a slice cuts through the patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SliceAxis {
    /// Seen from the feet.
    Axial,
    /// Seen from the front.
    Coronal,
    /// Seen from the patient's left.
    Sagittal,
}

const OUTLINE: usize = 1;

/// Draws one slice of a scene, as radiologists look at it and in its true aspect ratio, within `limit`
/// pixels, `[width, height]`. `index` counts voxels along the array axis that the slice is normal to;
/// without one, or beyond the last one, the slice goes through the middle of the volume.
pub fn render_slice(
    scene: &Scene<'_>,
    axis: SliceAxis,
    index: Option<usize>,
    limit: [usize; 2],
) -> Picture {
    let mut field = Field::new(scene);
    let anatomy = Anatomy::new(scene.axes);
    let stats = LabelStats::new(field.shape, field.labels);
    let chosen = || Window::choose(&field, &stats, anatomy.steps_mm());
    field.window = scene.window.unwrap_or_else(chosen);
    let plane = match axis {
        SliceAxis::Axial => Plane::Axial,
        SliceAxis::Coronal => Plane::Coronal,
        SliceAxis::Sagittal => Plane::Sagittal,
    };
    let view = anatomy.view(plane, field.shape);
    let [width, height] = view.size_within(limit);
    if width == 0 || height == 0 {
        return Picture::filled(1, 1, BACKGROUND);
    }
    let middle = anatomy.middle(field.shape)[view.through];
    let index = index.filter(|index| *index < field.shape[view.through]).unwrap_or(middle);
    let mut picture = Picture::filled(width, height, BACKGROUND);
    let tile = field.cut(&view, index, [width, height]);
    overlay::draw(&mut picture, (0, 0), &tile, OUTLINE);
    picture
}

#[cfg(test)]
mod tests {
    use r1seg::volume::Voxels;

    use super::*;

    #[test]
    fn a_slice_shows_the_voxels_of_its_index_in_their_aspect_ratio() {
        // D is 4 mm, H and W are 1 mm; slice 2 is bright.
        let voxels =
            Voxels::F32((0..3 * 4 * 8).map(|n| f32::from(u8::from(n / 32 == 2))).collect());
        let axes = Some([[0.0, 0.0, 4.0], [0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]]);
        let window = "0.5,1".parse().ok();
        let scene = Scene { axes, window, ..Scene::new(&voxels, [3, 4, 8]) };
        let gray = |index| render_slice(&scene, SliceAxis::Axial, index, [80, 80]);
        let bright = gray(Some(2));
        assert_eq!((bright.width, bright.height), (80, 40));
        assert!(bright.rgb.iter().all(|value| *value == 255));
        assert!(gray(Some(0)).rgb.iter().all(|value| *value == 0));
        assert_eq!(gray(None).rgb, gray(Some(1)).rgb);
        assert_eq!(gray(Some(99)).rgb, gray(None).rgb);
        let coronal = render_slice(&scene, SliceAxis::Coronal, Some(0), [60, 60]);
        assert_eq!((coronal.width, coronal.height), (40, 60));
    }

    #[test]
    fn nothing_is_drawn_as_one_pixel() {
        let voxels = Voxels::F32(Vec::new());
        let picture = render_slice(&Scene::new(&voxels, [0; 3]), SliceAxis::Axial, None, [9, 9]);
        assert_eq!((picture.width, picture.height), (1, 1));
    }
}
