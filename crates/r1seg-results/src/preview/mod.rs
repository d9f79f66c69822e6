//! A picture of a volume and its mask, to see at a glance whether the mask is where it
//! should be.
//!
//! [`render`] turns a [`Scene`] into a [`Picture`]: three orthogonal cuts through the mask,
//! a mosaic of axial slices and a legend. Cuts follow the radiological convention and the
//! true aspect ratio: `view` says which way the axes run, `label_stats` where the mask is,
//! `window` which intensities show it, `raster` resamples a cut, `overlay` colors it,
//! `panel` adds letters and `marks`, `legend` draws what `captions` says of labels, and
//! `sheet` puts all of it in its place. [`render_slice`] draws one slice alone, [`render_comparison`] one of
//! two label maps and where they differ. Only what is drawn is converted and resampled.

mod canvas;
mod captions;
mod comparison;
mod font;
mod label_stats;
mod legend;
mod marks;
mod overlay;
mod palette;
mod panel;
mod raster;
mod sheet;
mod slice;
mod view;
mod window;

use std::io::{self, Write};

use r1seg::PromptPoint;
use r1seg::volume::{Geometry, LabelMap, Region, Volume, Voxels};

use crate::Error;
pub use comparison::{Comparison, WorstSlice, render_comparison};
pub use palette::color_of as label_color;
pub use slice::{SliceAxis, render_slice};
pub use window::{UnknownWindow, Window};

/// What there is to draw.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The voxels, `[D, H, W]` in C order. Drawn as no voxels if their number is not that of
    /// the shape.
    pub volume: &'a Voxels,
    /// `[D, H, W]`.
    pub shape: [usize; 3],
    /// The steps in the world (RAS+ mm) of one voxel along D, H and W, if they are known;
    /// otherwise voxels are drawn as cubes and the sides have no letters.
    pub axes: Option<[[f64; 3]; 3]>,
    /// `[D, H, W]` like the volume: 0 is background. Empty for no mask.
    pub labels: &'a [u16],
    /// Boxes that were found, each in the color of its label.
    pub boxes: &'a [BoxMark],
    /// The box that was asked about.
    pub asked_boxes: &'a [Region],
    /// The points that were asked about.
    pub points: &'a [PromptPoint],
    /// Label 1, label 2 and so on.
    pub names: &'a [Named],
    /// The line above the picture.
    pub title: &'a str,
    /// The intensities that are black and white; chosen by what is under the labels if not given.
    pub window: Option<Window>,
}

impl<'a> Scene<'a> {
    /// A volume with nothing on it.
    pub fn of(volume: &'a Volume) -> Self {
        let axes = Self::axes_of(volume.geometry());
        Self { axes, ..Self::new(volume.voxels(), volume.shape()) }
    }

    /// The steps in the world of one voxel along D, H and W, where they are known.
    pub fn axes_of(geometry: &Geometry) -> Option<[[f64; 3]; 3]> {
        geometry.affine().map(|a| {
            // Columns of the affine are the steps along i, j, k; rows here are D, H, W.
            [2, 1, 0].map(|column| [a[0][column], a[1][column], a[2][column]])
        })
    }

    /// A volume with nothing on it, whose place in the world is not known.
    pub fn new(volume: &'a Voxels, shape: [usize; 3]) -> Self {
        Self {
            volume,
            shape,
            axes: None,
            labels: &[],
            boxes: &[],
            asked_boxes: &[],
            points: &[],
            names: &[],
            title: "",
            window: None,
        }
    }
}

/// The name of a label, and the mask that it is drawn from.
#[derive(Debug, Clone, Default)]
pub struct Named {
    /// What the label is called.
    pub name: String,
    /// `None` if the model gave no mask at all.
    pub mask: Option<Coverage>,
}

/// How much there is of a mask, and how much of it the picture shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    /// All of its voxels.
    voxels: usize,
    /// Those that are drawn as another label.
    hidden: usize,
    /// As which labels, the most frequent first.
    under: Vec<u16>,
}

impl Coverage {
    /// Of a label of a map, which the picture shows.
    pub fn of(labels: &LabelMap, label: u16) -> Self {
        let covered = labels.covered(label);
        let mut under: Vec<u16> = covered.keys().copied().collect();
        under.sort_by_key(|other| std::cmp::Reverse(covered.get(other)));
        Self { voxels: labels.voxels(label), hidden: covered.values().sum(), under }
    }
}

/// A box to draw.
#[derive(Debug, Clone, Copy)]
pub struct BoxMark {
    /// The label that it belongs to; it need not have voxels.
    pub label: u16,
    /// Part of the scene; drawn where it has voxels.
    pub region: Region,
}

/// Pixels.
#[derive(Debug)]
pub struct Picture {
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
    /// `[height, width, 3]`: red, green and blue of each pixel.
    pub rgb: Vec<u8>,
}

impl Picture {
    /// The bytes of the picture as a PNG file.
    ///
    /// # Errors
    /// [`Error::Encoding`] for a side without pixels.
    pub fn png(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.write_png(&mut bytes).map_err(|e| Error::encoding("the picture", e))?;
        Ok(bytes)
    }

    /// Writes the picture as a PNG file, whose bytes depend on the pixels only.
    ///
    /// # Errors
    /// Those of writing, and [`io::ErrorKind::InvalidInput`] for a side without pixels.
    pub fn write_png(&self, out: impl Write) -> io::Result<()> {
        let side = |pixels: usize| {
            u32::try_from(pixels)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "picture is too large"))
        };
        let mut encoder = png::Encoder::new(out, side(self.width)?, side(self.height)?);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::Balanced);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.rgb)?;
        writer.finish()?;
        Ok(())
    }
}

/// Draws a scene.
///
/// The cuts go through the centroid of the label that has the most voxels; without labels through
/// the middle of the first box, the first point, or the middle of the volume. A cut that would miss the label there, as between two
/// kidneys, goes where the label is fullest. The window is chosen for what is under and around
/// the mask.
pub fn render(scene: &Scene<'_>) -> Picture {
    sheet::draw(scene)
}

#[cfg(test)]
mod tests;
