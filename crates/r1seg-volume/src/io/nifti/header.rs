//! The bytes of a NIfTI-1 (348) and NIfTI-2 (540) header, by the offsets of `nifti1.h` and
//! `nifti2.h`. Fields that may name a patient (`descrip`, `db_name`, `aux_file`, `intent_name`,
//! extensions) are neither read nor written.

use std::path::PathBuf;

use crate::Error;
use crate::error::Detail;
use crate::io::SourceKind;
use crate::io::scalar::{Endian, Scalar};

/// NIfTI-1 or NIfTI-2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NiftiVersion {
    /// 348-byte header, 16-bit sizes, f32 geometry.
    One,
    /// 540-byte header, 64-bit sizes, f64 geometry.
    Two,
}

impl NiftiVersion {
    /// `sizeof_hdr`.
    pub(super) fn header_length(self) -> usize {
        match self {
            Self::One => 348,
            Self::Two => 540,
        }
    }

    /// Offset of the voxels where there are no extensions.
    pub(super) fn least_vox_offset(self) -> u64 {
        match self {
            Self::One => 352,
            Self::Two => 544,
        }
    }

    pub(super) fn kind(self) -> SourceKind {
        match self {
            Self::One => SourceKind::Nifti1,
            Self::Two => SourceKind::Nifti2,
        }
    }
}

/// The fields of a NIfTI header that place a volume in the world, as they are stored.
///
/// A NIfTI-1 header holds f32, which f64 carries without loss, so that a mask repeats every bit.
#[derive(Debug, Clone, PartialEq)]
pub struct NiftiFields {
    /// Which header they come from, and which the mask gets.
    pub version: NiftiVersion,
    /// Number of dimensions of the file, 1..=7; those above three are 1.
    pub ndim: usize,
    /// `pixdim`: qfac, then voxel sizes in file order i, j, k, then the rest.
    pub pixdim: [f64; 8],
    /// `xyzt_units`.
    pub xyzt_units: i32,
    /// `qform_code`.
    pub qform_code: i32,
    /// `sform_code`.
    pub sform_code: i32,
    /// `quatern_b`, `quatern_c`, `quatern_d`.
    pub quatern: [f64; 3],
    /// `qoffset_x`, `qoffset_y`, `qoffset_z`.
    pub qoffset: [f64; 3],
    /// `srow_x`, `srow_y`, `srow_z`.
    pub srow: [[f64; 4]; 3],
}

/// A parsed header, not yet checked beyond its magic.
#[derive(Debug, Clone)]
pub(super) struct Header {
    /// The voxels are in another file.
    pub(super) pair: bool,
    pub(super) dim: [i64; 8],
    pub(super) datatype: i16,
    pub(super) bitpix: i16,
    pub(super) vox_offset: f64,
    pub(super) scl_slope: f64,
    pub(super) scl_inter: f64,
    pub(super) fields: NiftiFields,
}

/// Reads numbers at fixed offsets of a header whose length has been checked.
struct Bytes<'a> {
    bytes: &'a [u8],
    endian: Endian,
}

impl Bytes<'_> {
    fn at<const N: usize>(&self, offset: usize) -> [u8; N] {
        let mut raw = [0; N];
        raw.copy_from_slice(&self.bytes[offset..offset + N]);
        if self.endian == Endian::Big {
            raw.reverse();
        }
        raw
    }

    fn i16(&self, offset: usize) -> i16 {
        i16::from_le_bytes(self.at(offset))
    }

    fn i32(&self, offset: usize) -> i32 {
        i32::from_le_bytes(self.at(offset))
    }

    fn i64(&self, offset: usize) -> i64 {
        i64::from_le_bytes(self.at(offset))
    }

    fn f32s<const N: usize>(&self, offset: usize) -> [f64; N] {
        std::array::from_fn(|n| f64::from(f32::from_le_bytes(self.at(offset + 4 * n))))
    }

    fn f64s<const N: usize>(&self, offset: usize) -> [f64; N] {
        std::array::from_fn(|n| f64::from_le_bytes(self.at(offset + 8 * n)))
    }
}

/// Version and byte order, told by `sizeof_hdr`.
pub(in crate::io) fn sniff(start: &[u8]) -> Option<(NiftiVersion, Endian)> {
    let sizeof_hdr = start.first_chunk::<4>()?;
    for (version, length) in [(NiftiVersion::One, 348_u32), (NiftiVersion::Two, 540)] {
        if *sizeof_hdr == length.to_le_bytes() {
            return Some((version, Endian::Little));
        }
        if *sizeof_hdr == length.to_be_bytes() {
            return Some((version, Endian::Big));
        }
    }
    None
}

impl Header {
    /// Parses `bytes`, a whole header of `version`.
    pub(super) fn parse(
        bytes: &[u8],
        version: NiftiVersion,
        endian: Endian,
        path: impl Fn() -> PathBuf,
    ) -> Result<Self, Error> {
        let b = Bytes { bytes, endian };
        let magic_at = if version == NiftiVersion::One { 344 } else { 4 };
        let mut magic = [0; 4];
        magic.copy_from_slice(&bytes[magic_at..magic_at + 4]);
        let pair = match (&magic, version) {
            (b"n+1\0", NiftiVersion::One) | (b"n+2\0", NiftiVersion::Two) => false,
            (b"ni1\0", NiftiVersion::One) | (b"ni2\0", NiftiVersion::Two) => true,
            _ => {
                let sizeof_hdr = version.header_length();
                return Err(Detail::NiftiMagic { path: path(), sizeof_hdr, magic }.into());
            }
        };
        let (dim, pixdim) = match version {
            NiftiVersion::One => {
                (std::array::from_fn(|n| i64::from(b.i16(40 + 2 * n))), b.f32s(76))
            }
            NiftiVersion::Two => (std::array::from_fn(|n| b.i64(16 + 8 * n)), b.f64s(104)),
        };
        let ndim = match usize::try_from(dim[0]) {
            Ok(n @ 1..=7) => n,
            _ => return Err(Detail::NiftiDim0 { path: path(), dim0: dim[0] }.into()),
        };
        Ok(match version {
            NiftiVersion::One => {
                let [vox_offset, scl_slope, scl_inter] = b.f32s(108);
                let fields = NiftiFields {
                    version,
                    ndim,
                    pixdim,
                    xyzt_units: i32::from(bytes[123]),
                    qform_code: i32::from(b.i16(252)),
                    sform_code: i32::from(b.i16(254)),
                    quatern: b.f32s(256),
                    qoffset: b.f32s(268),
                    srow: [b.f32s(280), b.f32s(296), b.f32s(312)],
                };
                let (datatype, bitpix) = (b.i16(70), b.i16(72));
                Self { pair, dim, datatype, bitpix, vox_offset, scl_slope, scl_inter, fields }
            }
            NiftiVersion::Two => {
                let [scl_slope, scl_inter] = b.f64s(176);
                let fields = NiftiFields {
                    version,
                    ndim,
                    pixdim,
                    xyzt_units: b.i32(500),
                    qform_code: b.i32(344),
                    sform_code: b.i32(348),
                    quatern: b.f64s(352),
                    qoffset: b.f64s(376),
                    srow: [b.f64s(400), b.f64s(432), b.f64s(464)],
                };
                let (datatype, bitpix) = (b.i16(12), b.i16(14));
                let vox_offset = b.i64(168) as f64;
                Self { pair, dim, datatype, bitpix, vox_offset, scl_slope, scl_inter, fields }
            }
        })
    }

    /// The number type of the voxels, which `bitpix` must agree with.
    pub(super) fn scalar(&self, path: impl Fn() -> PathBuf) -> Result<Scalar, Error> {
        let scalar = match self.datatype {
            2 => Scalar::U8,
            4 => Scalar::I16,
            8 => Scalar::I32,
            16 => Scalar::F32,
            64 => Scalar::F64,
            256 => Scalar::I8,
            512 => Scalar::U16,
            768 => Scalar::U32,
            1024 => Scalar::I64,
            1280 => Scalar::U64,
            code => {
                let name = match code {
                    0 => "unknown",
                    1 => "binary",
                    32 => "complex64",
                    128 => "RGB24",
                    1536 => "float128",
                    1792 => "complex128",
                    2048 => "complex256",
                    2304 => "RGBA32",
                    _ => "not in the NIfTI standard",
                };
                return Err(Detail::NiftiDatatype { path: path(), code, name }.into());
            }
        };
        let expected = scalar.size() * 8;
        if usize::try_from(self.bitpix) != Ok(expected) {
            let (code, bitpix) = (self.datatype, self.bitpix);
            return Err(Detail::NiftiBitpix { path: path(), code, bitpix, expected }.into());
        }
        Ok(scalar)
    }
}
