use std::io::{self, Write};

use super::header::{NiftiFields, NiftiVersion};
use crate::io::write::label_values;
use crate::{Geometry, LabelMap, Mask, Volume};

/// Voxels that are written at a time.
const CHUNK: usize = 1 << 14;

/// How voxels are stored, and what they mean.
struct Encoding {
    intent: i16,
    datatype: i16,
    bitpix: i16,
}

/// `NIFTI_INTENT_LABEL`, `DT_UINT8`.
const LABELS: Encoding = Encoding { intent: 1002, datatype: 2, bitpix: 8 };
/// `NIFTI_INTENT_LABEL`, `DT_UINT16`.
const WIDE_LABELS: Encoding = Encoding { intent: 1002, datatype: 512, bitpix: 16 };
/// `NIFTI_INTENT_NONE`, `DT_FLOAT32`.
const INTENSITIES: Encoding = Encoding { intent: 0, datatype: 16, bitpix: 32 };
/// `NIFTI_XFORM_SCANNER_ANAT`.
const SCANNER_ANAT: i32 = 1;
/// `NIFTI_UNITS_MM`.
const MM: i32 = 2;

/// Writes a mask as uncompressed single-file NIfTI, little-endian.
pub(in crate::io) fn write_mask(out: &mut dyn Write, mask: &Mask) -> io::Result<()> {
    write_header(out, mask.geometry(), &LABELS)?;
    out.write_all(mask.data())
}

/// Writes a label map as uncompressed single-file NIfTI, little-endian.
pub(in crate::io) fn write_labels(out: &mut dyn Write, labels: &LabelMap) -> io::Result<()> {
    let fit_bytes = labels.fits_bytes();
    write_header(out, labels.geometry(), if fit_bytes { &LABELS } else { &WIDE_LABELS })?;
    label_values(out, labels.labels(), fit_bytes)
}

/// Writes a volume as uncompressed single-file NIfTI, f32 little-endian.
pub(in crate::io) fn write_volume(out: &mut dyn Write, volume: &Volume) -> io::Result<()> {
    write_header(out, volume.geometry(), &INTENSITIES)?;
    let mut bytes = Vec::new();
    let mut values = Vec::new();
    let voxels = volume.voxels();
    for first in (0..voxels.len()).step_by(CHUNK) {
        values.clear();
        bytes.clear();
        voxels.append_to(first..voxels.len().min(first + CHUNK), &mut values);
        bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        out.write_all(&bytes)?;
    }
    Ok(())
}

fn write_header(out: &mut dyn Write, geometry: &Geometry, encoding: &Encoding) -> io::Result<()> {
    let fields = match geometry.nifti() {
        Some(fields) => fields.clone(),
        None => fields_for(geometry),
    };
    let [d, h, w] = geometry.shape();
    let sizes = [w, h, d];
    let small = sizes.iter().all(|size| i16::try_from(*size).is_ok());
    let header = if fields.version == NiftiVersion::One && small {
        header_1(&fields, sizes, encoding)
    } else {
        header_2(&fields, sizes, encoding)
    };
    out.write_all(&header)?;
    // Four zero bytes say that there are no extensions.
    out.write_all(&[0; 4])
}

/// Fields for a volume that did not come from NIfTI.
fn fields_for(geometry: &Geometry) -> NiftiFields {
    let mut fields = NiftiFields {
        version: NiftiVersion::One,
        ndim: 3,
        pixdim: [1.0; 8],
        xyzt_units: 0,
        qform_code: 0,
        sform_code: 0,
        quatern: [0.0; 3],
        qoffset: [0.0; 3],
        srow: [[0.0; 4]; 3],
    };
    if let (Some(affine), Some([d, h, w])) = (geometry.affine(), geometry.spacing_mm()) {
        fields.pixdim[1..4].copy_from_slice(&[w, h, d]);
        fields.srow = [affine[0], affine[1], affine[2]];
        fields.sform_code = SCANNER_ANAT;
        fields.xyzt_units = MM;
    }
    fields
}

/// A header under construction; `put` never runs past its end, since all offsets are constants.
struct Bytes<const N: usize>([u8; N]);

impl<const N: usize> Bytes<N> {
    fn put(&mut self, offset: usize, bytes: &[u8]) {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn f32s(&mut self, offset: usize, values: &[f64]) {
        for (n, v) in values.iter().enumerate() {
            self.put(offset + 4 * n, &(*v as f32).to_le_bytes());
        }
    }

    fn f64s(&mut self, offset: usize, values: &[f64]) {
        for (n, v) in values.iter().enumerate() {
            self.put(offset + 8 * n, &v.to_le_bytes());
        }
    }
}

/// `dim`: the sizes, then ones, behind the number of dimensions of the input.
fn dim(fields: &NiftiFields, sizes: [usize; 3]) -> [i64; 8] {
    let mut dim = [1; 8];
    dim[0] = fields.ndim.max(3) as i64;
    for (n, size) in sizes.into_iter().enumerate() {
        dim[n + 1] = size as i64;
    }
    dim
}

fn header_1(fields: &NiftiFields, sizes: [usize; 3], encoding: &Encoding) -> Vec<u8> {
    let mut b = Bytes([0; 348]);
    b.put(0, &348_i32.to_le_bytes());
    // `regular`: readers of the Analyze format look for it.
    b.put(38, b"r");
    for (n, size) in dim(fields, sizes).into_iter().enumerate() {
        b.put(40 + 2 * n, &(size as i16).to_le_bytes());
    }
    b.put(68, &encoding.intent.to_le_bytes());
    b.put(70, &encoding.datatype.to_le_bytes());
    b.put(72, &encoding.bitpix.to_le_bytes());
    b.f32s(76, &fields.pixdim);
    b.f32s(108, &[352.0, /* scl_slope */ 1.0, /* scl_inter */ 0.0]);
    b.put(123, &fields.xyzt_units.to_le_bytes()[..1]);
    b.put(252, &(fields.qform_code as i16).to_le_bytes());
    b.put(254, &(fields.sform_code as i16).to_le_bytes());
    b.f32s(256, &fields.quatern);
    b.f32s(268, &fields.qoffset);
    b.f32s(280, fields.srow.as_flattened());
    b.put(344, b"n+1\0");
    b.0.to_vec()
}

fn header_2(fields: &NiftiFields, sizes: [usize; 3], encoding: &Encoding) -> Vec<u8> {
    let mut b = Bytes([0; 540]);
    b.put(0, &540_i32.to_le_bytes());
    b.put(4, b"n+2\0\r\n\x1a\n");
    b.put(12, &encoding.datatype.to_le_bytes());
    b.put(14, &encoding.bitpix.to_le_bytes());
    for (n, size) in dim(fields, sizes).into_iter().enumerate() {
        b.put(16 + 8 * n, &size.to_le_bytes());
    }
    b.f64s(104, &fields.pixdim);
    b.put(168, &544_i64.to_le_bytes());
    b.f64s(176, &[/* scl_slope */ 1.0, /* scl_inter */ 0.0]);
    b.put(344, &fields.qform_code.to_le_bytes());
    b.put(348, &fields.sform_code.to_le_bytes());
    b.f64s(352, &fields.quatern);
    b.f64s(376, &fields.qoffset);
    b.f64s(400, fields.srow.as_flattened());
    b.put(500, &fields.xyzt_units.to_le_bytes());
    b.put(504, &i32::from(encoding.intent).to_le_bytes());
    b.0.to_vec()
}
