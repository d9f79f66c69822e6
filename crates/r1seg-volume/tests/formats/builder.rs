//! Files made byte by byte, by the offsets of `nifti1.h`, `nifti2.h` and numpy's format page, so
//! that the reader is not tested against the writer.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use r1seg_volume::{Error, Loaded, ReadOptions, read_from};

#[derive(Clone)]
pub(crate) struct Nifti {
    pub(crate) version: u8,
    pub(crate) big: bool,
    pub(crate) dim: [i64; 8],
    pub(crate) datatype: i16,
    pub(crate) bitpix: i16,
    pub(crate) pixdim: [f64; 8],
    pub(crate) vox_offset: f64,
    pub(crate) scale: [f64; 2],
    pub(crate) units: i32,
    pub(crate) qform_code: i32,
    pub(crate) sform_code: i32,
    pub(crate) quatern: [f64; 3],
    pub(crate) qoffset: [f64; 3],
    pub(crate) srow: [[f64; 4]; 3],
    pub(crate) magic: &'static [u8; 4],
}

impl Nifti {
    /// A little-endian NIfTI-1 header of `i x j x k` u8 voxels, 1 mm each, with an identity sform.
    pub(crate) fn new(ijk: [i64; 3]) -> Self {
        Self {
            version: 1,
            big: false,
            dim: [3, ijk[0], ijk[1], ijk[2], 1, 1, 1, 1],
            datatype: 2,
            bitpix: 8,
            pixdim: [1.0; 8],
            vox_offset: 352.0,
            scale: [1.0, 0.0],
            units: 2,
            qform_code: 0,
            sform_code: 1,
            quatern: [0.0; 3],
            qoffset: [0.0; 3],
            srow: [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]],
            magic: b"n+1\0",
        }
    }

    pub(crate) fn version_2(mut self) -> Self {
        (self.version, self.vox_offset, self.magic) = (2, 544.0, b"n+2\0");
        self
    }

    pub(crate) fn header(&self) -> Vec<u8> {
        let mut b = vec![0; if self.version == 1 { 348 } else { 540 }];
        let mut put = |offset: usize, little_endian: &[u8]| {
            let mut bytes = little_endian.to_vec();
            if self.big {
                bytes.reverse();
            }
            b[offset..offset + bytes.len()].copy_from_slice(&bytes);
        };
        if self.version == 1 {
            let f = |v: f64| (v as f32).to_le_bytes();
            put(0, &348_i32.to_le_bytes());
            put(70, &self.datatype.to_le_bytes());
            put(72, &self.bitpix.to_le_bytes());
            for n in 0..8 {
                put(40 + 2 * n, &(self.dim[n] as i16).to_le_bytes());
                put(76 + 4 * n, &f(self.pixdim[n]));
            }
            for (n, v) in [self.vox_offset, self.scale[0], self.scale[1]].iter().enumerate() {
                put(108 + 4 * n, &f(*v));
            }
            put(123, &[self.units as u8]);
            put(252, &(self.qform_code as i16).to_le_bytes());
            put(254, &(self.sform_code as i16).to_le_bytes());
            let place = self.quatern.iter().chain(&self.qoffset).chain(self.srow.as_flattened());
            for (n, v) in place.enumerate() {
                put(256 + 4 * n, &f(*v));
            }
            b[148..160].copy_from_slice(b"NAME^PATIENT");
            b[344..348].copy_from_slice(self.magic);
        } else {
            put(0, &540_i32.to_le_bytes());
            put(12, &self.datatype.to_le_bytes());
            put(14, &self.bitpix.to_le_bytes());
            for n in 0..8 {
                put(16 + 8 * n, &self.dim[n].to_le_bytes());
                put(104 + 8 * n, &self.pixdim[n].to_le_bytes());
            }
            put(168, &(self.vox_offset as i64).to_le_bytes());
            put(176, &self.scale[0].to_le_bytes());
            put(184, &self.scale[1].to_le_bytes());
            put(344, &self.qform_code.to_le_bytes());
            put(348, &self.sform_code.to_le_bytes());
            let place = self.quatern.iter().chain(&self.qoffset).chain(self.srow.as_flattened());
            for (n, v) in place.enumerate() {
                put(352 + 8 * n, &v.to_le_bytes());
            }
            put(500, &self.units.to_le_bytes());
            b[240..252].copy_from_slice(b"NAME^PATIENT");
            b[4..8].copy_from_slice(self.magic);
        }
        b
    }

    /// The file with these voxel bytes; the gap up to them is filled with `E`s, as extensions.
    pub(crate) fn file(&self, voxels: &[u8]) -> Vec<u8> {
        let mut bytes = self.header();
        bytes.extend([0; 4]);
        bytes.resize(bytes.len().max(self.vox_offset.clamp(0.0, 4096.0) as usize), b'E');
        bytes.extend_from_slice(voxels);
        bytes
    }

    /// The file with voxels 0, 1, 2, … in u8.
    pub(crate) fn counting(&self) -> Vec<u8> {
        let voxels: i64 = self.dim[1..].iter().take(self.dim[0] as usize).product();
        self.file(&(0..voxels).map(|n| n as u8).collect::<Vec<_>>())
    }
}

pub(crate) fn npy(descr: &str, fortran_order: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    npy_with(
        &format!("{{'descr': '{descr}', 'fortran_order': {fortran_order}, 'shape': {shape}, }}"),
        data,
    )
}

pub(crate) fn npy_with(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16 + 1).to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.push(b'\n');
    bytes.extend_from_slice(data);
    bytes
}

/// An NRRD file of 4x5x6 voxels (fastest first) in LPS, 2 x 3 x 4 mm, whose other fields are given;
/// a given field takes the place of the one of that name.
pub(crate) fn nrrd(fields: &[&str], data: &[u8]) -> Vec<u8> {
    let defaults = [
        "dimension: 3",
        "sizes: 4 5 6",
        "space: left-posterior-superior",
        "space directions: (2,0,0) (0,3,0) (0,0,4)",
        "space origin: (10,20,30)",
    ];
    let name = |field: &str| field.split(':').next().unwrap_or_default().to_owned();
    let given: Vec<String> = fields.iter().map(|field| name(field)).collect();
    let defaults = defaults.iter().filter(|field| !given.contains(&name(field)));
    // A field without a value takes one away.
    let given = fields.iter().filter(|field| !field.ends_with(':'));
    let lines: Vec<&str> = ["NRRD0004"].iter().chain(defaults).chain(given).copied().collect();
    [lines.join("\n").as_bytes(), b"\n\n", data].concat()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn load(bytes: &[u8]) -> Result<Loaded, Error> {
    read_from(bytes, "volume", &ReadOptions::default())
}

/// The code of the error that these bytes give.
pub(crate) fn code(bytes: &[u8]) -> &'static str {
    load(bytes).unwrap_err().code()
}

/// The codes of the warnings that these bytes give.
pub(crate) fn warnings(bytes: &[u8]) -> Vec<&'static str> {
    load(bytes).unwrap().warnings.iter().map(|w| w.code).collect()
}
