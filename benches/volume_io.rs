//! Files to the model's input, and a mask to a file, in bytes of voxels before compression.
//!
//! The volume is a phantom of 64x256x256 voxels in whole HU, which compresses as a CT does.
#![expect(clippy::unwrap_used, reason = "a benchmark stops at the first error")]

mod common;

use std::path::PathBuf;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use r1seg::Recipe;
use r1seg::phantom::{Organ, Phantom};
use r1seg::volume::{
    Geometry, Mask, Overwrite, ReadOptions, Volume, read as read_volume, write_mask, write_volume,
};

const SHAPE: [usize; 3] = [64, 256, 256];
const SPACING_MM: [f64; 3] = [5.0, 1.0, 1.0];
/// The input of the published model.
const MODEL_GRID: [usize; 3] = [32, 256, 256];

/// Bytes of a 16-bit volume.
fn volume_bytes() -> Throughput {
    Throughput::Bytes(SHAPE.iter().product::<usize>() as u64 * 2)
}

/// A phantom in HU, and the mask of its liver.
fn volume_and_mask() -> (Volume, Mask) {
    let phantom = Phantom::draw_sized(7, SHAPE);
    let geometry = Geometry::with_spacing(SHAPE, SPACING_MM).unwrap();
    let mask = Mask::new(phantom.mask(Organ::Liver), geometry.clone()).unwrap();
    let hu: Vec<i16> =
        phantom.volume.iter().map(|v| (v * 1400.0 - 1000.0).round() as i16).collect();
    (Volume::new(hu, geometry).unwrap(), mask)
}

fn read(c: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let (volume, _) = volume_and_mask();
    let mut group = common::group(c, "volume_io/read");
    group.throughput(volume_bytes());
    for extension in ["nii.gz", "nii", "npy"] {
        let path = folder.path().join(format!("ct.{extension}"));
        write_volume(&path, &volume, Overwrite::Refuse).unwrap();
        group.bench_function(extension, |b| {
            b.iter(|| read_volume(&path, &ReadOptions::default()).unwrap());
        });
    }
    group.finish();
}

/// Real CT series, where `R1SEG_DATA` names a folder that has them.
fn dicom(c: &mut Criterion) {
    let Some(data) = std::env::var_os("R1SEG_DATA").map(PathBuf::from) else { return };
    let mut group = common::group(c, "volume_io/dicom");
    for (name, folder) in
        [("uncompressed", "dicom/ibsi1_lung/image"), ("jpeg-2000", "dicom/totalseg_ct_jpeg2000")]
    {
        let options = ReadOptions::default();
        let volume = read_volume(data.join(folder), &options).unwrap().volume;
        group.throughput(Throughput::Bytes(volume.voxels().len() as u64 * 2));
        group.bench_function(name, |b| {
            b.iter(|| read_volume(data.join(folder), &options).unwrap());
        });
    }
    group.finish();
}

fn prepare(c: &mut Criterion) {
    let (volume, _) = volume_and_mask();
    let mut group = common::group(c, "volume_io/prepare");
    group.throughput(volume_bytes());
    group.bench_function("m3d-seg", |b| b.iter(|| Recipe::M3dSeg.apply(&volume, None).unwrap()));
    group.bench_function("m3d-seg+resize", |b| {
        b.iter(|| Recipe::M3dSeg.apply(&volume, None).unwrap().resize(MODEL_GRID).unwrap());
    });
    group.finish();
}

fn write(c: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let (_, mask) = volume_and_mask();
    let mut group = common::group(c, "volume_io/write-mask");
    group.throughput(Throughput::Bytes(mask.data().len() as u64));
    for extension in ["nii.gz", "npy"] {
        let path = folder.path().join(format!("mask.{extension}"));
        group.bench_function(extension, |b| {
            b.iter(|| write_mask(&path, &mask, Overwrite::Replace).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, read, dicom, prepare, write);
criterion_main!(benches);
