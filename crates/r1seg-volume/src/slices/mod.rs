//! Slices of a CT as 8-bit pictures, for an encoder of pictures.
//!
//! The steps are those with which HSENet's authors prepared CT-RATE (`CT-RATE_nii_to_2D_slices.py` and
//! `CT-RATE_2D_to_npy_file.py`, HSENet @c7198f3): HU from -1000 to 1000, voxels of 1.5 x 0.75 x 0.75 mm, slices
//! at equal distances, gray levels from the smallest to the largest value of each slice, a turn by 90 degrees
//! and a JPEG of quality 95; then the middle of the slice in the size of the encoder.

mod bicubic;
mod jpeg;

use rayon::prelude::*;

use crate::error::Detail;
use crate::lattice::{Between, between_edges};
use crate::{Error, Volume};

/// Ends of the HU that gray levels stand for, over which values are brought to -1..1.
const HU: f64 = 1000.0;
/// Millimeters of a voxel that is sliced, across slices and within them.
pub(crate) const CT_RATE_MM: [f64; 3] = [1.5, 0.75, 0.75];
/// Most pixels of all slices.
const MOST_PIXELS: usize = 1 << 31;

/// How a CT is cut into slices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SliceRecipe {
    /// Number of slices.
    pub count: usize,
    /// Quality of the JPEG, from 1 to 100.
    pub jpeg_quality: u8,
    /// Height and width of a picture, in pixels.
    pub size: usize,
    /// Whether a scan with at least as many slices as it has voxels along the first axis of its file is cut
    /// along that axis, as the authors' script does it by mistake.
    pub as_published: bool,
}

/// Gray pictures of one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slices {
    shape: [usize; 3],
    pixels: Vec<u8>,
}

impl Slices {
    /// Number of pictures, their height and their width.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// The pictures one after the other, row by row.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Each picture after a change of its own.
    fn each(&self, shape: [usize; 2], change: impl Fn(&[u8]) -> Vec<u8> + Sync + Send) -> Self {
        let [count, height, width] = self.shape;
        let pictures: Vec<Vec<u8>> =
            self.pixels.par_chunks_exact((height * width).max(1)).map(change).collect();
        Self { shape: [count, shape[0], shape[1]], pixels: pictures.concat() }
    }
}

/// The pictures of a CT in HU.
///
/// # Errors
/// `R-GEO-06` without voxels, `R-GEO-14` without a known spacing, and `R-GEO-13` where it gives
/// no or too many pixels.
pub fn slices(volume: &Volume, recipe: &SliceRecipe) -> Result<Slices, Error> {
    let gray = gray_slices(volume, recipe)?;
    let [_, height, width] = gray.shape;
    let decoded = gray.each([height, width], |picture| {
        jpeg::round_trip(picture, [height, width], recipe.jpeg_quality)
    });
    Ok(decoded.each([recipe.size; 2], |picture| middle(picture, [height, width], recipe.size)))
}

/// The middle of a picture whose shorter side is brought to `size`, as torchvision's `Resize` and
/// `CenterCrop` do it.
fn middle(picture: &[u8], from: [usize; 2], size: usize) -> Vec<u8> {
    let short = from[0].min(from[1]);
    let to = from.map(|side| if side == short { size } else { size * side / short });
    let resized = bicubic::resize(picture, from, to);
    let [top, left] = to.map(|side| ((side - size) as f64 / 2.0).round_ties_even() as usize);
    let rows = resized.chunks_exact(to[1]).skip(top).take(size);
    rows.flat_map(|row| &row[left..left + size]).copied().collect()
}

/// The axes of a volume in the order of slices, rows and columns, before the turn; those of `[D, H, W]`.
fn axes(shape: [usize; 3], as_published: bool) -> [usize; 3] {
    let [depth, _, width] = shape;
    match as_published && width <= depth {
        true => [2, 1, 0],
        // Rows are the first axis of the file.
        false => [0, 2, 1],
    }
}

/// The slices before they become a JPEG.
fn gray_slices(volume: &Volume, recipe: &SliceRecipe) -> Result<Slices, Error> {
    let (geometry, shape) = (volume.geometry(), volume.shape());
    if shape.contains(&0) || recipe.count == 0 || recipe.size == 0 {
        return Err(Detail::EmptyShape { shape }.into());
    }
    let spacing = geometry.header_spacing_mm().ok_or(Error::from(Detail::UnknownSpacing))?;
    // Pixels are taken for squares, and the axis across slices for that of the file.
    let from_mm = [spacing[0], spacing[2], spacing[2]];
    let order = axes(shape, recipe.as_published);
    let sizes = order.map(|axis| shape[axis]);
    let cells: [usize; 3] = std::array::from_fn(|n| cells(sizes[n], from_mm[n], CT_RATE_MM[n]));
    let [depth, rows, columns] = cells;
    let pixels = rows.checked_mul(columns).and_then(|n| n.checked_mul(recipe.count));
    if pixels.is_none_or(|n| n == 0 || n > MOST_PIXELS) || depth == 0 {
        return Err(Detail::LatticeSize { from_mm, to_mm: CT_RATE_MM }.into());
    }
    let planes = Planes {
        volume,
        strides: order.map(|axis| shape[axis + 1..].iter().product()),
        sizes,
        depth: between_edges(sizes[0], depth),
        rows: between_edges(sizes[1], rows),
        columns: between_edges(sizes[2], columns),
    };
    let picture = |index: usize| {
        let values = match evenly(depth, recipe.count, index) {
            Some(cell) => planes.at(cell),
            None => {
                let Between { low, high, way } = between_edges(depth, recipe.count)[index];
                blend(planes.at(low), &planes.at(high), way)
            }
        };
        turned(&gray(&values), [rows, columns])
    };
    let pictures: Vec<Vec<u8>> = (0..recipe.count).into_par_iter().map(picture).collect();
    // A turn by 90 degrees.
    Ok(Slices { shape: [recipe.count, columns, rows], pixels: pictures.concat() })
}

/// Cells of another size that an axis has.
pub(crate) fn cells(size: usize, from_mm: f64, to_mm: f64) -> usize {
    // Casts from float to integer round towards 0, and saturate.
    (size as f64 * (from_mm / to_mm)) as usize
}

/// The one of `depth` slices that is number `index` of `count`, as `torch.linspace` spreads them; `None`
/// where there are fewer, so that slices are interpolated.
fn evenly(depth: usize, count: usize, index: usize) -> Option<usize> {
    if depth < count {
        return None;
    }
    let last = (depth - 1) as f64;
    let step = last / (count.max(2) - 1) as f64;
    // From both ends, so that the last one is met.
    Some(match index < count / 2 {
        true => (step * index as f64) as usize,
        false => (last - step * (count - 1 - index) as f64) as usize,
    })
}

/// Planes of a volume at another resolution, in f64: a gray level may hang on the last digit.
struct Planes<'a> {
    volume: &'a Volume,
    /// Of slices, rows and columns, in voxels.
    strides: [usize; 3],
    sizes: [usize; 3],
    depth: Vec<Between>,
    rows: Vec<Between>,
    columns: Vec<Between>,
}

impl Planes<'_> {
    fn at(&self, cell: usize) -> Vec<f64> {
        let Between { low, high, way } = self.depth[cell];
        let first = self.stored(low);
        if low == high || way == 0.0 {
            return first;
        }
        blend(first, &self.stored(high), way)
    }

    /// A stored slice, interpolated along columns and rows.
    fn stored(&self, slice: usize) -> Vec<f64> {
        let [_, rows, columns] = self.sizes;
        let row = |row: usize| -> Vec<f64> {
            let first = slice * self.strides[0] + row * self.strides[1];
            let value = |column: usize| {
                let voxel = self.volume.voxels().get(first + column * self.strides[2]);
                f64::from(voxel.unwrap_or_default()).clamp(-HU, HU) / HU
            };
            let values: Vec<f64> = (0..columns).map(value).collect();
            self.columns.iter().map(|at| mix(values[at.low], values[at.high], at.way)).collect()
        };
        let narrow: Vec<Vec<f64>> = (0..rows).map(row).collect();
        let mut out = Vec::with_capacity(self.rows.len() * self.columns.len());
        for Between { low, high, way } in &self.rows {
            let ends = narrow[*low].iter().zip(&narrow[*high]);
            out.extend(ends.map(|(low, high)| mix(*low, *high, *way)));
        }
        out
    }
}

fn mix(low: f64, high: f64, way: f64) -> f64 {
    low * (1.0 - way) + high * way
}

fn blend(low: Vec<f64>, high: &[f64], way: f64) -> Vec<f64> {
    low.into_iter().zip(high).map(|(low, high)| mix(low, *high, way)).collect()
}

/// Gray levels from the smallest to the largest value; all 0 where these are the same.
fn gray(values: &[f64]) -> Vec<u8> {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if low < high {
        // Rounded towards 0, as numpy casts.
        return values.iter().map(|v| ((v - low) / (high - low) * 255.0) as u8).collect();
    }
    vec![0; values.len()]
}

/// Turned clockwise by 90 degrees.
fn turned(picture: &[u8], [rows, columns]: [usize; 2]) -> Vec<u8> {
    let at = |n: usize| picture[(rows - 1 - n % rows) * columns + n / rows];
    (0..rows * columns).map(at).collect()
}

#[cfg(test)]
mod tests;
