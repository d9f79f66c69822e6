//! Which volume of a file is meant, and what is said about it beyond the file.

use std::fs;
use std::path::PathBuf;

use r1seg::volume::{Overwrite, ReadOptions, read, write_volume};
use serde_json::json;

use crate::input_faults::npy_of;
use crate::{Desk, nifti};

/// A file of 16 x 64 x 64 numbers in 0..1 with its slices last.
fn slices_last(desk: &Desk) -> PathBuf {
    let bytes: Vec<u8> =
        (0..64 * 64 * 16).flat_map(|n| ((n % 100) as f32 / 100.0).to_le_bytes()).collect();
    fs::write(desk.path("a.npy"), npy_of("<f4", "(64, 64, 16)", &bytes)).unwrap();
    desk.path("a.npy")
}

#[test]
fn p5_an_array_whose_slices_seem_last_is_warned_about_and_read_as_told() {
    let desk = Desk::new();
    let image = slices_last(&desk);
    desk.infer_volume(&image, "--no-preview").succeeds().says("warning[W-AXES]");
    assert_eq!(desk.report()["input"]["shape"], json!([16, 64, 64]));
    let run = desk.infer_volume(&image, "--no-preview --axes xyz --force");
    assert!(!run.succeeds().stderr.contains("W-AXES"), "{}", run.stderr);
    assert_eq!(desk.report()["input"]["shape"], json!([64, 64, 16]));
}

#[test]
fn n14_a_frame_of_a_4d_file_is_chosen() {
    let desk = Desk::new();
    let path = nifti(&desk, "ct.nii");
    let mut bytes = fs::read(&path).unwrap();
    let dims = [4_i16, 64, 64, 8, 2, 1, 1, 1].map(i16::to_le_bytes).concat();
    bytes[40..56].copy_from_slice(&dims);
    fs::write(&path, bytes).unwrap();
    desk.infer_volume(&path, "").fails(65, "R-NII-11").says("--frame");
    desk.infer_volume(&path, "--frame 2").fails(2, "R-IN-13").says("--frame 0..1");
    desk.infer_volume(&path, "--frame 1").succeeds();
    assert_eq!(desk.report()["input"]["shape"], json!([64, 64, 8]));
}

/// A zip archive of files that are stored as they are.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut local = Vec::new();
    let mut central = Vec::new();
    for (name, bytes) in files {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        let length = u32::try_from(bytes.len()).unwrap();
        let mut fields = [20_u16, 0, 0, 0, 0].map(u16::to_le_bytes).concat();
        fields.extend([crc.sum(), length, length].map(u32::to_le_bytes).concat());
        fields.extend([u16::try_from(name.len()).unwrap(), 0].map(u16::to_le_bytes).concat());
        let offset = u32::try_from(local.len()).unwrap();
        central.extend(b"PK\x01\x02\x14\0");
        central.extend(&fields);
        central.extend([0; 10]);
        central.extend(offset.to_le_bytes());
        central.extend(name.bytes());
        local.extend(b"PK\x03\x04");
        local.extend(fields);
        local.extend(name.bytes());
        local.extend(*bytes);
    }
    let count = u16::try_from(files.len()).unwrap();
    let (start, length) =
        (u32::try_from(local.len()).unwrap(), u32::try_from(central.len()).unwrap());
    local.extend(central);
    local.extend(b"PK\x05\x06\0\0\0\0");
    local.extend([count, count].map(u16::to_le_bytes).concat());
    local.extend([length, start].map(u32::to_le_bytes).concat());
    local.extend([0; 2]);
    local
}

#[test]
fn p7_an_archive_of_several_arrays_needs_a_key() {
    let desk = Desk::new();
    let array = npy_of("<f4", "(16, 64, 64)", &0.5_f32.to_le_bytes().repeat(16 * 64 * 64));
    let other = npy_of("<i2", "(8, 64, 64)", &[0, 1].repeat(8 * 64 * 64));
    fs::write(desk.path("a.npz"), archive(&[("ct.npy", &array), ("other.npy", &other)])).unwrap();
    let image = desk.path("a.npz");
    desk.infer_volume(&image, "").fails(65, "R-NPZ-02").says("--key");
    desk.infer_volume(&image, "--key nope").fails(65, "R-NPZ-02");
    desk.infer_volume(&image, "--key ct").succeeds();
    let report = desk.report();
    assert_eq!(
        (&report["input"]["kind"], &report["input"]["shape"][2]),
        (&json!("npz"), &json!(16))
    );
    assert_eq!(desk.names("out")[2], "mask.npy");
}

#[test]
fn an_array_whose_spacing_is_given_gets_masks_in_mm_too() {
    let desk = Desk::new();
    let image = crate::data("phi3/golden/volume.npy");
    desk.infer_volume(&image, "--spacing 5,0.8,0.75").succeeds().says(" mL (");
    let masks = ["mask.nii.gz", "mask.npy", "mask.seg.nrrd"];
    assert_eq!(desk.names("out")[2..5], masks);
    let report = desk.report();
    assert_eq!(report["input"]["spacing_mm"], json!([0.75, 0.8, 5.0]));
    assert_eq!(report["input"]["affine_source"], "given");
    assert_eq!(report["masks"][0]["path"], "mask.nii.gz");
    let volume_ml = 4661.0 * 5.0 * 0.8 * 0.75 / 1000.0;
    assert!((report["masks"][0]["volume_ml"].as_f64().unwrap() - volume_ml).abs() < 1e-9);
    let mask = |name: &str| {
        read(desk.path("out").join(name), &ReadOptions::default()).unwrap().volume.into_parts()
    };
    let ((nifti, geometry), (npy, _)) = (mask("mask.nii.gz"), mask("mask.npy"));
    assert_eq!(nifti, npy);
    let spacing = geometry.spacing_mm().unwrap();
    assert!(spacing.iter().zip([5.0, 0.8, 0.75]).all(|(a, b)| (a - b).abs() < 1e-6));
}

#[test]
fn an_array_takes_its_place_from_the_ct_that_it_was_made_from() {
    let desk = Desk::new();
    let ct = nifti(&desk, "ct.nii.gz");
    let volume = read(&ct, &ReadOptions::default()).unwrap().volume;
    write_volume(desk.path("a.npy"), &volume, Overwrite::Refuse).unwrap();
    desk.infer_volume(&desk.path("a.npy"), "--affine-from ct.nii.gz --no-preview").succeeds();
    let mask = read(desk.path("out/mask.nii.gz"), &ReadOptions::default()).unwrap().volume;
    assert_eq!(mask.geometry().affine(), volume.geometry().affine());
    let run = desk.infer_volume(&desk.path("a.npy"), "--affine-from no.nii.gz --force");
    run.fails(66, "R-IN-01").says("no.nii.gz");
}

#[test]
fn limits_on_the_volume_are_kept_and_said() {
    let desk = Desk::new();
    let image = nifti(&desk, "ct.nii.gz");
    for options in ["--max-input-bytes 256KiB", "--max-voxels 65536"] {
        desk.infer_volume(&image, options).succeeds();
        fs::remove_dir_all(desk.path("out")).unwrap();
    }
    for options in ["--max-input-bytes 255KiB", "--max-voxels 65535"] {
        desk.infer_volume(&image, options).fails(65, "R-IN-07");
    }
    for options in ["--max-input-bytes 4G", "--spacing 5,1", "--axes zxy", "--frame -1"] {
        assert_eq!(desk.infer_volume(&image, options).code, Some(2), "{options}");
    }
    let both = desk.infer_volume(&image, "--spacing 5,1,1 --affine-from x.nii");
    assert_eq!(both.code, Some(2));
    desk.is_empty_but_for(&["ct.nii.gz"]);
}
