//! Images of another size, as Pillow resizes 8-bit pixels with `BICUBIC`: along rows first, each pass
//! rounded to whole gray levels, with weights in fixed-point numbers, so that the result is the same to the
//! last bit.

/// Fractional bits of the weights.
const BITS: u32 = 22;
/// How far the cubic reaches, in pixels of the smaller image.
const REACH: f64 = 2.0;

/// The image in another size.
///
/// # Shapes
/// - `pixels`: `from`, `[H, W]`    - returns: `to`
pub(super) fn resize(pixels: &[u8], from: [usize; 2], to: [usize; 2]) -> Vec<u8> {
    let ([height, width], [to_height, to_width]) = (from, to);
    let wide = match width == to_width {
        true => pixels.to_vec(),
        false => {
            let taps = taps(width, to_width);
            let mut out = Vec::with_capacity(height * to_width);
            for row in pixels.chunks_exact(width) {
                out.extend(taps.iter().map(|tap| tap.apply(&row[tap.first..], 1)));
            }
            out
        }
    };
    if height == to_height {
        return wide;
    }
    let mut out = Vec::with_capacity(to_height * to_width);
    for tap in taps(height, to_height) {
        let rows = &wide[tap.first * to_width..];
        out.extend((0..to_width).map(|x| tap.apply(&rows[x..], to_width)));
    }
    out
}

/// The pixels that a pixel is made of.
struct Tap {
    first: usize,
    weights: Vec<i32>,
}

impl Tap {
    /// Of pixels `step` apart, beginning with the first one.
    fn apply(&self, pixels: &[u8], step: usize) -> u8 {
        let weighted = self.weights.iter().zip(pixels.iter().step_by(step));
        let sum: i32 = weighted.map(|(weight, pixel)| weight * i32::from(*pixel)).sum();
        // Between 0 and 255, so that nothing is cut off.
        ((sum + (1 << (BITS - 1))) >> BITS).clamp(0, 255) as u8
    }
}

fn taps(from: usize, to: usize) -> Vec<Tap> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let reach = REACH * stretch;
    let tap = |n: usize| {
        let center = (n as f64 + 0.5) * scale;
        // Casts from float to integer round towards 0, and saturate below it.
        let first = (center - reach + 0.5) as usize;
        let end = ((center + reach + 0.5) as usize).min(from);
        let weight = |k: usize| cubic((k as f64 - center + 0.5) / stretch);
        let weights: Vec<f64> = (first..end).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        let fixed = |weight: &f64| {
            let scaled = weight / sum * f64::from(1 << BITS);
            (scaled + if scaled < 0.0 { -0.5 } else { 0.5 }) as i32
        };
        Tap { first, weights: weights.iter().map(fixed).collect() }
    };
    (0..to).map(tap).collect()
}

/// The cubic convolution with a = -1/2.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        return ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    }
    if x < REACH { (((x - 5.0) * x + 8.0) * x - 4.0) * A } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_image_stays_flat_in_every_size() {
        for to in [[1, 1], [3, 40], [40, 3], [7, 9], [20, 20]] {
            for value in [0, 77, 255] {
                assert_eq!(resize(&[value; 63], [7, 9], to), vec![value; to[0] * to[1]]);
            }
        }
    }

    // The definition of Pillow 11's `ImagingResampleHorizontal_8bpc`, in Python.
    #[test]
    fn rows_are_weighted_by_the_cubic() {
        let row = [0, 50, 200, 255];
        for to in [&[37, 215][..], &[4, 125, 250], &row, &[0, 6, 29, 83, 167, 222, 248, 255]] {
            assert_eq!(resize(&row, [1, 4], [1, to.len()]), to);
            assert_eq!(resize(&row, [4, 1], [to.len(), 1]), to);
        }
    }
}
