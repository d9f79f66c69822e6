//! Tensors whose numbers do not lie in order in their storage: transposed matrices, columns, every
//! second row. They are put in order band by band, in bounded memory, whatever they reach over.

use crate::{Error, TensorEntry};

/// Bytes of a tensor that are put in order together.
const BAND: usize = 64 << 20;
/// Bytes of the file that are at hand at a time.
const WINDOW: usize = 8 << 20;

/// An axis of a part of a tensor.
#[derive(Debug, Clone, Copy)]
struct Axis {
    length: u64,
    /// The way to the next number in the storage.
    stride: u64,
    /// The way to the next number in the band.
    place: u64,
}

/// Reads the file at a position.
pub(crate) type ReadAt<'a> = dyn FnMut(u64, &mut [u8]) -> Result<(), Error> + 'a;

/// A tensor with strides, on its way into order.
#[derive(Debug)]
pub(crate) struct Strided<'a> {
    entry: &'a TensorEntry,
    size: u64,
    band: usize,
    window: usize,
}

impl<'a> Strided<'a> {
    pub(crate) fn new(entry: &'a TensorEntry) -> Self {
        Self { entry, size: entry.dtype.size() as u64, band: BAND, window: WINDOW }
    }

    /// Whether a pass over the storage in the order of addresses reads nothing over and over: no axis
    /// reaches into the next step of another, or all of the tensor is at hand at once. True of every
    /// view but those of `as_strided`.
    pub(crate) fn can_be_read(&self) -> bool {
        let span = self.entry.span().unwrap_or(u64::MAX);
        if span <= self.window as u64 {
            return true;
        }
        let axes = self.entry.shape.iter().zip(&self.entry.strides);
        let mut axes: Vec<(u64, u64)> =
            axes.filter(|(n, _)| **n > 1).map(|(n, stride)| (*stride, *n)).collect();
        axes.sort_unstable();
        let mut reach = 0u64;
        axes.into_iter().filter(|(stride, _)| *stride > 0).all(|(stride, length)| {
            let fits = stride > reach;
            reach = reach.saturating_add(stride.saturating_mul(length - 1));
            fits
        })
    }

    /// Hands the numbers over in their order, a band at a time. `deliver` says whether to go on.
    pub(crate) fn stream(
        &self,
        read_at: &mut ReadAt<'_>,
        deliver: &mut dyn FnMut(&[u8]) -> Result<bool, Error>,
    ) -> Result<bool, Error> {
        let shape = &self.entry.shape;
        if shape.contains(&0) {
            return Ok(true);
        }
        let most = (self.band as u64 / self.size).max(1);
        // A band is `rows` steps of the axis `cut`, with all axes behind it.
        let (mut cut, mut inner) = (shape.len().saturating_sub(1), 1u64);
        while cut > 0 && inner * shape[cut] <= most {
            inner *= shape[cut];
            cut -= 1;
        }
        let rows = (most / inner).max(1);
        let before: u64 = shape[..cut].iter().product();
        for number in 0..before {
            let mut base = 0;
            let mut rest = number;
            for (length, stride) in shape[..cut].iter().zip(&self.entry.strides).rev() {
                base += rest % length * stride;
                rest /= length;
            }
            let mut first = 0;
            while first < shape[cut] {
                let count = rows.min(shape[cut] - first);
                let band =
                    self.band(base + first * self.entry.strides[cut], cut, count, read_at)?;
                if !deliver(&band)? {
                    return Ok(false);
                }
                first += count;
            }
        }
        Ok(true)
    }

    /// `count` steps of the axis `cut` from the number `first` of the storage on.
    fn band(
        &self,
        first: u64,
        cut: usize,
        count: u64,
        read_at: &mut ReadAt<'_>,
    ) -> Result<Vec<u8>, Error> {
        let (shape, strides) = (&self.entry.shape, &self.entry.strides);
        let mut axes = Vec::new();
        let mut place = 1;
        for axis in (cut..shape.len()).rev() {
            let length = if axis == cut { count } else { shape[axis] };
            if length > 1 {
                axes.push(Axis { length, stride: strides[axis], place });
            }
            place *= length;
        }
        // In the order of addresses, so that the window moves over the storage once.
        axes.sort_by_key(|axis| std::cmp::Reverse(axis.stride));
        let reach: u64 = axes.iter().map(|axis| axis.stride * (axis.length - 1)).sum();
        let end = self.entry.start + (first + reach + 1) * self.size;
        let mut band = vec![0; bytes(place * self.size)];
        let mut window = Window { start: 0, bytes: Vec::new(), end, most: self.window };
        let (runs, run) = split_run(axes);
        let mut index = vec![0u64; runs.len()];
        loop {
            let steps = |way: fn(&Axis) -> u64| -> u64 {
                index.iter().zip(&runs).map(|(i, axis)| i * way(axis)).sum()
            };
            let at = self.entry.start + (first + steps(|axis| axis.stride)) * self.size;
            let to = steps(|axis| axis.place) * self.size;
            self.copy_run(run, at, to, &mut window, &mut band, read_at)?;
            let mut axis = runs.len();
            loop {
                let Some(next) = axis.checked_sub(1) else {
                    return Ok(band);
                };
                axis = next;
                index[axis] += 1;
                if index[axis] < runs[axis].length {
                    break;
                }
                index[axis] = 0;
            }
        }
    }

    /// The numbers along the axis that is closest together.
    fn copy_run(
        &self,
        run: Axis,
        at: u64,
        to: u64,
        window: &mut Window,
        band: &mut [u8],
        read_at: &mut ReadAt<'_>,
    ) -> Result<(), Error> {
        let size = bytes(self.size);
        if run.stride == 1 && run.place == 1 {
            let mut rest = &mut band[bytes(to)..bytes(to + run.length * self.size)];
            let mut at = at;
            while !rest.is_empty() {
                let part = window.bytes_from(at, size, read_at)?;
                let length = part.len().min(rest.len());
                let (now, later) = rest.split_at_mut(length);
                now.copy_from_slice(&part[..length]);
                at += length as u64;
                rest = later;
            }
            return Ok(());
        }
        for i in 0..run.length {
            let part = window.bytes_from(at + i * run.stride * self.size, size, read_at)?;
            let to = bytes(to + i * run.place * self.size);
            band[to..to + size].copy_from_slice(&part[..size]);
        }
        Ok(())
    }
}

/// The last axis, and those before it.
fn split_run(mut axes: Vec<Axis>) -> (Vec<Axis>, Axis) {
    let run = axes.pop().unwrap_or(Axis { length: 1, stride: 1, place: 1 });
    (axes, run)
}

/// A part of the file.
struct Window {
    start: u64,
    bytes: Vec<u8>,
    /// Nothing is read from here on.
    end: u64,
    most: usize,
}

impl Window {
    /// What is at hand from `at` on: `least` bytes, or more.
    fn bytes_from(
        &mut self,
        at: u64,
        least: usize,
        read_at: &mut ReadAt<'_>,
    ) -> Result<&[u8], Error> {
        let is_here = self.start <= at && at + least as u64 <= self.start + self.bytes.len() as u64;
        if !is_here {
            let length = bytes(self.end - at).min(self.most.max(least));
            self.bytes.resize(length, 0);
            read_at(at, &mut self.bytes)?;
            self.start = at;
        }
        Ok(&self.bytes[bytes(at - self.start)..])
    }
}

/// Bytes of a band or of a window, which memory holds.
fn bytes(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use r1seg_checkpoint::NumberFormat;

    /// Two-byte numbers 0, 1, 2.. after 10 other bytes.
    fn storage(numbers: u16) -> Vec<u8> {
        [0xff; 10].into_iter().chain((0..numbers).flat_map(u16::to_le_bytes)).collect()
    }

    fn entry(offset: u64, shape: &[u64], strides: &[u64]) -> TensorEntry {
        TensorEntry {
            name: "x".to_owned(),
            dtype: NumberFormat::Bf16,
            shape: shape.to_vec(),
            strides: strides.to_vec(),
            start: 10 + 2 * offset,
            storage: [10, 10 + 2 * 8192],
        }
    }

    /// The numbers in order, the bytes read, and the largest read and band.
    fn gathered(entry: &TensorEntry, band: usize, window: usize) -> (Vec<u16>, [usize; 3]) {
        let file = storage(8192);
        let (mut numbers, mut read, mut largest, mut widest) = (Vec::new(), 0, 0, 0);
        let strided = Strided { entry, size: 2, band, window };
        let go_on = strided.stream(
            &mut |at, buffer| {
                let at = at as usize;
                buffer.copy_from_slice(&file[at..at + buffer.len()]);
                read += buffer.len();
                largest = largest.max(buffer.len());
                Ok(())
            },
            &mut |band| {
                widest = widest.max(band.len());
                numbers.extend(band.as_chunks().0.iter().map(|pair| u16::from_le_bytes(*pair)));
                Ok(true)
            },
        );
        assert!(go_on.unwrap());
        (numbers, [read, largest, widest])
    }

    /// Index by index, as strides are defined.
    fn expected(offset: u64, shape: &[u64], strides: &[u64]) -> Vec<u16> {
        let mut numbers = vec![offset];
        for (length, stride) in shape.iter().zip(strides) {
            numbers =
                numbers.iter().flat_map(|at| (0..*length).map(move |i| at + i * stride)).collect();
        }
        numbers.into_iter().map(|at| at as u16).collect()
    }

    #[test]
    fn every_view_comes_in_its_order_whatever_the_bands_and_windows() {
        let views: [(u64, &[u64], &[u64]); 9] = [
            (0, &[40, 64], &[1, 40]),
            (7, &[40, 20], &[64, 1]),
            (3, &[64], &[40]),
            (1, &[20, 16], &[128, 2]),
            (5, &[3, 8, 16, 5], &[1, 48, 384, 3]),
            (5, &[4, 7, 9], &[512, 1, 7]),
            (2, &[6, 5], &[0, 3]),
            (2, &[1, 30, 1, 4], &[9, 4, 77, 120]),
            (11, &[4, 4], &[2, 1]),
        ];
        for (offset, shape, strides) in views {
            let entry = entry(offset, shape, strides);
            assert!(Strided::new(&entry).can_be_read(), "{shape:?} {strides:?}");
            for (band, window) in [(1, 1), (2, 64), (100, 6), (1000, 1000), (1 << 20, 1 << 20)] {
                let (numbers, [_, largest, widest]) = gathered(&entry, band, window);
                let what = format!("{shape:?} {strides:?} in {band}, {window}");
                assert_eq!(numbers, expected(offset, shape, strides), "{what}");
                assert!(largest <= window.max(2) && widest <= band.max(2), "{what}");
            }
        }
    }

    #[test]
    fn each_band_passes_over_the_storage_once() {
        // The transpose of 64 rows of 40 numbers.
        let transposed = entry(0, &[40, 64], &[1, 40]);
        let span = transposed.span().unwrap() as usize;
        for bands in [1, 4, 40] {
            let (_, [read, ..]) = gathered(&transposed, 2 * 64 * 40 / bands, 100);
            assert!(read <= bands * span, "{read} {span}");
        }
        // Columns of a matrix, a row at a time: nothing is read twice.
        let columns = entry(8, &[64, 16], &[40, 1]);
        let (_, [read, ..]) = gathered(&columns, 2 * 16, 100);
        assert!(read <= columns.span().unwrap() as usize, "{read}");
    }

    #[test]
    fn axes_that_reach_into_each_other_are_read_only_where_all_of_it_is_at_hand() {
        let small = entry(0, &[100, 100], &[3, 2]);
        assert!(Strided::new(&small).can_be_read());
        assert!(!Strided { window: 64, ..Strided::new(&small) }.can_be_read());
        let nested = entry(0, &[10, 100], &[200, 2]);
        assert!(Strided { window: 64, ..Strided::new(&nested) }.can_be_read());
    }
}
