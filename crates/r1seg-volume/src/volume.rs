use std::sync::Arc;

use crate::error::Detail;
use crate::{Error, Geometry, Voxels};

/// A 3D scalar grid with its geometry. Clones share the voxels.
#[derive(Debug, Clone, PartialEq)]
pub struct Volume {
    voxels: Arc<Voxels>,
    geometry: Geometry,
}

impl Volume {
    /// A volume of intensities in `[D, H, W]` C order: `Vec<f32>`, `Vec<i16>` or [`Voxels`].
    ///
    /// # Errors
    /// `R-GEO-01` if there is not one value a voxel.
    pub fn new(voxels: impl Into<Voxels>, geometry: Geometry) -> Result<Self, Error> {
        let voxels = voxels.into();
        check_length(voxels.len(), &geometry)?;
        Ok(Self { voxels: Arc::new(voxels), geometry })
    }

    /// Intensities in `[D, H, W]` C order; HU for most CT.
    pub fn voxels(&self) -> &Voxels {
        &self.voxels
    }

    /// The grid and its place in the world.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// `[D, H, W]`.
    pub fn shape(&self) -> [usize; 3] {
        self.geometry.shape()
    }

    /// The voxels and the geometry; the voxels are copied only where a clone still holds them.
    pub fn into_parts(self) -> (Voxels, Geometry) {
        (Arc::unwrap_or_clone(self.voxels), self.geometry)
    }
}

/// A label grid on the geometry of the volume that it was computed on: 0 is background.
#[derive(Debug, Clone, PartialEq)]
pub struct Mask {
    data: Vec<u8>,
    geometry: Geometry,
}

impl Mask {
    /// A mask of `data` in `[D, H, W]` C order.
    ///
    /// # Errors
    /// `R-GEO-01` if `data` has not one value a voxel.
    pub fn new(data: Vec<u8>, geometry: Geometry) -> Result<Self, Error> {
        check_length(data.len(), &geometry)?;
        Ok(Self { data, geometry })
    }

    /// A mask of data that has one value for each voxel of the grid.
    pub(crate) fn on_grid_of(data: Vec<u8>, geometry: Geometry) -> Self {
        debug_assert_eq!(data.len(), geometry.voxels());
        Self { data, geometry }
    }

    /// Labels in `[D, H, W]` C order.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The grid and its place in the world.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// `[D, H, W]`.
    pub fn shape(&self) -> [usize; 3] {
        self.geometry.shape()
    }

    /// The data and the geometry, without a copy.
    pub fn into_parts(self) -> (Vec<u8>, Geometry) {
        (self.data, self.geometry)
    }
}

fn check_length(got: usize, geometry: &Geometry) -> Result<(), Error> {
    let expected = geometry.voxels();
    if got == expected {
        return Ok(());
    }
    Err(Detail::DataLength { shape: geometry.shape(), expected, got }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_of_a_volume_share_its_voxels() {
        let volume = Volume::new(vec![1_i16; 24], Geometry::without_affine([2, 3, 4])).unwrap();
        let clone = volume.clone();
        assert!(std::ptr::eq(volume.voxels(), clone.voxels()));
        drop(volume);
        assert_eq!(clone.into_parts().0, Voxels::from(vec![1_i16; 24]));
    }

    #[test]
    fn volume_and_mask_refuse_data_of_another_length() {
        let g = Geometry::without_affine([2, 3, 4]);
        let error = Volume::new(vec![0.0_f32; 23], g.clone()).unwrap_err();
        assert_eq!(error.to_string(), "data has 23 values, but the shape 2x3x4 has 24 voxels");
        assert_eq!(Mask::new(vec![0; 25], g).unwrap_err().code(), "R-GEO-01");
    }
}
