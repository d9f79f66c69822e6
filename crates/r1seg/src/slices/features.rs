//! What an encoder has made of slices, which is the same for all questions about a volume.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use r1seg_volume::{Overwrite, npy_header, read_matrix, write_atomically};

use crate::Error;

/// The features of the slices of a volume, a row each: computed once, and given again with
/// [`EncodeOptions::slice_features`](crate::EncodeOptions).
#[derive(Debug, Clone, PartialEq)]
pub struct SliceFeatures {
    shape: [usize; 2],
    numbers: Vec<f32>,
}

impl SliceFeatures {
    /// Of so many slices, each with the same number of features, row by row.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] where the numbers are not as many, or not all finite.
    pub fn new(numbers: Vec<f32>, shape: [usize; 2]) -> Result<Self, Error> {
        let wrong = |message| Error::InvalidOption { what: "slice_features", message };
        if Some(numbers.len()) != shape[0].checked_mul(shape[1]) {
            let [slices, width] = shape;
            let message = format!("{} numbers for {slices} slices of {width}", numbers.len());
            return Err(wrong(message));
        }
        if !numbers.iter().all(|v| v.is_finite()) {
            return Err(wrong("a number is NaN or infinite".to_string()));
        }
        Ok(Self { shape, numbers })
    }

    /// Reads a numpy array `[S, E]`.
    ///
    /// # Errors
    /// When the file holds another kind of array, or numbers that are not finite.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, Error> {
        let (shape, numbers) = read_matrix(path.as_ref())?;
        Self::new(numbers, shape)
    }

    /// Writes them as [`read`](Self::read) reads them.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path, overwrite: Overwrite) -> Result<(), Error> {
        let header = npy_header("<f4", false, &self.shape);
        let bytes: Vec<u8> = self.numbers.iter().flat_map(|v| v.to_le_bytes()).collect();
        Ok(write_atomically(path, overwrite, |out| {
            out.write_all(&header)?;
            out.write_all(&bytes)
        })?)
    }

    /// Number of slices, and of features of each.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// Row by row.
    pub fn numbers(&self) -> &[f32] {
        &self.numbers
    }

    pub(crate) fn tensor(&self, device: &Device) -> candle_core::Result<Tensor> {
        Tensor::from_slice(&self.numbers, (self.shape[0], self.shape[1]), device)
    }

    /// # Shapes
    /// - `features`: `[1, S, E]`
    pub(crate) fn of(features: &Tensor) -> candle_core::Result<Self> {
        let (_, slices, width) = features.dims3()?;
        let numbers = features.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        Ok(Self { shape: [slices, width], numbers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_come_back_from_their_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("features.npy");
        let features =
            SliceFeatures::new((0..6).map(|n| n as f32 / 7.0).collect(), [2, 3]).unwrap();
        features.write(&path, Overwrite::Refuse).unwrap();
        assert_eq!(SliceFeatures::read(&path).unwrap(), features);
        assert!(features.write(&path, Overwrite::Refuse).is_err());
    }

    #[test]
    fn numbers_that_are_no_features_are_refused() {
        for (numbers, shape) in [(vec![0.0; 5], [2, 3]), (vec![f32::NAN; 6], [2, 3])] {
            assert_eq!(SliceFeatures::new(numbers, shape).unwrap_err().code(), "R-ARG-02");
        }
    }
}
