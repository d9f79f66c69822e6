//! A picture of a volume and its mask, to see at a glance whether the mask is where it
//! should be.
//!
//! [`render`] turns a [`Scene`] into a [`Picture`]: three orthogonal cuts through the mask,
//! a mosaic of axial slices and a legend. Cuts follow the radiological convention and the
//! true aspect ratio: [`view`] says which way the axes run, [`census`] where the mask is,
//! [`window`] which intensities show it, [`raster`] resamples a cut, [`overlay`] colors it,
//! [`panel`] adds letters and [`marks`], and [`sheet`] puts all of it in its place. Only what
//! is drawn is converted and resampled.

mod canvas;
mod census;
mod font;
mod legend;
mod marks;
mod overlay;
mod palette;
mod panel;
mod raster;
mod sheet;
mod view;
mod window;

use std::io::{self, Write};

pub(crate) use palette::color_of as label_color;

use r1seg::volume::{Region, Voxels};

/// What there is to draw.
pub(crate) struct Scene<'a> {
    /// The voxels, `[D, H, W]` in C order. Drawn as no voxels if their number is not that of
    /// the shape.
    pub(crate) volume: &'a Voxels,
    /// `[D, H, W]`.
    pub(crate) shape: [usize; 3],
    /// The steps in the world (RAS+ mm) of one voxel along D, H and W, if they are known;
    /// otherwise voxels are drawn as cubes and the sides have no letters.
    pub(crate) axes: Option<[[f64; 3]; 3]>,
    /// `[D, H, W]` like the volume: 0 is background. Empty for no mask.
    pub(crate) labels: &'a [u8],
    /// Boxes, each in the color of its label.
    pub(crate) boxes: &'a [BoxMark],
    /// The name of label 1, of label 2 and so on.
    pub(crate) names: &'a [String],
    /// The line above the picture.
    pub(crate) title: &'a str,
}

/// A box to draw.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BoxMark {
    /// The label that it belongs to; it need not have voxels.
    pub(crate) label: u8,
    /// Part of the scene; drawn where it has voxels.
    pub(crate) region: Region,
}

/// Pixels.
pub(crate) struct Picture {
    /// In pixels.
    pub(crate) width: usize,
    /// In pixels.
    pub(crate) height: usize,
    /// `[height, width, 3]`: red, green and blue of each pixel.
    pub(crate) rgb: Vec<u8>,
}

impl Picture {
    /// Writes the picture as a PNG file, whose bytes depend on the pixels only.
    ///
    /// # Errors
    /// Those of writing, and [`io::ErrorKind::InvalidInput`] for a side without pixels.
    pub(crate) fn write_png(&self, out: impl Write) -> io::Result<()> {
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
/// the middle of the first box, or of the volume. A cut that would miss the label there, as between two
/// kidneys, goes where the label is fullest. The window is chosen for what is under and around
/// the mask.
pub(crate) fn render(scene: &Scene<'_>) -> Picture {
    sheet::draw(scene)
}

#[cfg(test)]
mod tests;
