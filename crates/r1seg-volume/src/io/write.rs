use std::io::{self, Write};
use std::path::Path;

use flate2::{Compression, GzBuilder};

use super::{Overwrite, nifti, npy, write_atomically};
use crate::error::Detail;
use crate::{Error, LabelMap, Mask, Volume};

/// The file format of a mask or volume that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MaskFormat {
    /// `.nii`.
    Nifti,
    /// `.nii.gz`.
    NiftiGz,
    /// `.npy`.
    Npy,
}

impl MaskFormat {
    /// The format that a file name stands for: `.nii.gz`, `.nii` or `.npy`, in any letter case.
    ///
    /// # Errors
    /// `R-OUT-04` for any other name.
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        [(".nii.gz", Self::NiftiGz), (".nii", Self::Nifti), (".npy", Self::Npy)]
            .into_iter()
            .find(|(extension, _)| name.ends_with(extension))
            .map(|(_, format)| format)
            .ok_or_else(|| Error::from(Detail::UnknownExtension { path: path.to_owned() }))
    }
}

/// Writes a mask in the format that the file name stands for, as a whole or not at all.
///
/// NIfTI: u8, the shape of the input, `scl_slope` 1, `scl_inter` 0, intent LABEL; `srow_*`, the
/// quaternion, both codes, `pixdim` and `xyzt_units` are the input's, bit for bit. Free text and
/// extensions are not copied, since they may name a patient. A NIfTI-2 input, or an axis beyond
/// 32767, gives NIfTI-2. Equal masks give equal files, compressed or not.
///
/// npy: `|u1` in the axes of the input array: `DxHxW`, unless it was read as x, y, z, and with a
/// leading axis of 1 if it had one.
///
/// # Errors
/// As [`write_atomically`], and `R-OUT-04`.
pub fn write_mask(path: impl AsRef<Path>, mask: &Mask, overwrite: Overwrite) -> Result<(), Error> {
    let format = MaskFormat::from_path(&path)?;
    write_atomically(path, overwrite, |out| write_mask_to(out, mask, format))
}

/// Writes a mask to a stream, such as standard output.
///
/// # Errors
/// Those of `out`.
pub fn write_mask_to(mut out: impl Write, mask: &Mask, format: MaskFormat) -> io::Result<()> {
    match format {
        MaskFormat::Nifti => nifti::write_mask(&mut out, mask),
        MaskFormat::Npy => npy::write_mask(&mut out, mask),
        MaskFormat::NiftiGz => gzip(out, |out| nifti::write_mask(out, mask)),
    }
}

/// Writes a label map in the format that the file name stands for: what [`write_mask`] does for masks,
/// with the same header and the same promises.
///
/// Voxels are u8 up to label 255, and u16 if there are more labels (`<u2` in npy). Where labels
/// overlap, the file holds what the map shows.
///
/// # Errors
/// As [`write_atomically`], and `R-OUT-04`.
pub fn write_labels(
    path: impl AsRef<Path>,
    labels: &LabelMap,
    overwrite: Overwrite,
) -> Result<(), Error> {
    let format = MaskFormat::from_path(&path)?;
    write_atomically(path, overwrite, |out| write_labels_to(out, labels, format))
}

/// Writes a label map to a stream, such as standard output.
///
/// # Errors
/// Those of `out`.
pub fn write_labels_to(
    mut out: impl Write,
    labels: &LabelMap,
    format: MaskFormat,
) -> io::Result<()> {
    match format {
        MaskFormat::Nifti => nifti::write_labels(&mut out, labels),
        MaskFormat::Npy => npy::write_labels(&mut out, labels),
        MaskFormat::NiftiGz => gzip(out, |out| nifti::write_labels(out, labels)),
    }
}

/// Writes labels in bytes, if they fit, or little-endian u16.
pub(super) fn label_values(out: &mut dyn Write, labels: &[u16], fit_bytes: bool) -> io::Result<()> {
    let mut bytes = Vec::new();
    for labels in labels.chunks(1 << 16) {
        bytes.clear();
        match fit_bytes {
            true => bytes.extend(labels.iter().map(|label| label.to_le_bytes()[0])),
            false => bytes.extend(labels.iter().flat_map(|label| label.to_le_bytes())),
        }
        out.write_all(&bytes)?;
    }
    Ok(())
}

/// Writes a volume, as f32, in the format that the file name stands for: what [`write_mask`] does
/// for masks, with the same header and the same promises.
///
/// # Errors
/// As [`write_atomically`], and `R-OUT-04`.
pub fn write_volume(
    path: impl AsRef<Path>,
    volume: &Volume,
    overwrite: Overwrite,
) -> Result<(), Error> {
    let format = MaskFormat::from_path(&path)?;
    write_atomically(path, overwrite, |out| match format {
        MaskFormat::Nifti => nifti::write_volume(out, volume),
        MaskFormat::Npy => npy::write_volume(out, volume),
        MaskFormat::NiftiGz => gzip(out, |out| nifti::write_volume(out, volume)),
    })
}

/// No name and no time in the gzip header: equal contents are equal files.
pub(super) fn gzip(
    out: impl Write,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut encoder = GzBuilder::new().mtime(0).write(out, Compression::default());
    write(&mut encoder)?;
    encoder.finish()?.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_volume_reads_back_as_it_was() {
        let affine = [
            [-1.5, 0.0, 0.0, 9.0],
            [0.0, -2.0, 0.0, 8.0],
            [0.0, 0.0, 3.0, -7.0],
            [0.0, 0.0, 0.0, 1.0],
        ];
        let geometry = crate::Geometry::with_affine([4, 5, 6], affine).unwrap();
        let data: Vec<f32> = (0..120).map(|v| v as f32 / 7.0).collect();
        let volume = Volume::new(data, geometry).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for name in ["v.nii.gz", "v.nii", "v.npy"] {
            let path = folder.path().join(name);
            write_volume(&path, &volume, Overwrite::Refuse).unwrap();
            let read = super::super::read(&path, &super::super::ReadOptions::default()).unwrap();
            assert_eq!(read.volume.voxels().to_f32(), volume.voxels().to_f32());
            if name != "v.npy" {
                assert_eq!(read.volume.geometry().affine(), Some(&affine));
            }
        }
    }

    #[test]
    fn the_file_name_says_the_format() {
        let format = |name: &str| MaskFormat::from_path(name).map_err(|e| e.code());
        assert_eq!(format("out/mask.NII.gz"), Ok(MaskFormat::NiftiGz));
        assert_eq!(format("mask.nii"), Ok(MaskFormat::Nifti));
        assert_eq!(format("mask.npy"), Ok(MaskFormat::Npy));
        assert_eq!(format("mask.gz"), Err("R-OUT-04"));
        assert_eq!(format("mask"), Err("R-OUT-04"));
    }
}
