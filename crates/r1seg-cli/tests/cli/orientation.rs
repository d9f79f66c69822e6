//! In which orientation a model sees a volume: what is said of it, and what can be chosen.

use std::path::{Path, PathBuf};

use r1seg::phantom::Phantom;
use r1seg::volume::{
    AxisMap, Geometry, Orientation, Overwrite, ReadOptions, Volume, mask_stats, read, write_volume,
};
use serde_json::{Value, json};

use crate::schema::assert_keeps_to;
use crate::{Desk, Run, data, finish};

/// Of the demo's phantom from right to left, anterior to posterior, inferior to superior.
const MM: [f64; 3] = [1.3, 1.3, 8.0];

/// The demo's phantom, stored in an orientation.
fn phantom(desk: &Desk, codes: &str) -> PathBuf {
    let phantom = Phantom::draw(7);
    write(desk, codes, &phantom.volume, phantom.shape)
}

/// Voxels that are LPS, stored in another orientation.
fn write(desk: &Desk, codes: &str, voxels: &[f32], shape: [usize; 3]) -> PathBuf {
    let map = AxisMap::between(Orientation::LPS, codes.parse().unwrap());
    let voxels = map.data(voxels, shape).unwrap();
    let mut affine = [[0.0; 4]; 4];
    affine[3][3] = 1.0;
    for (column, code) in codes.chars().enumerate() {
        let axis = ["LR", "PA", "SI"].iter().position(|pair| pair.contains(code)).unwrap();
        affine[axis][column] = if "RAS".contains(code) { MM[axis] } else { -MM[axis] };
        let size = shape[2 - axis] as f64;
        affine[axis][3] = if "RAS".contains(code) { 0.0 } else { MM[axis] * (size - 1.0) };
    }
    let geometry = Geometry::with_affine(map.shape(shape), affine).unwrap();
    let path = desk.path(&format!("{codes}.nii.gz"));
    write_volume(&path, &Volume::new(voxels, geometry).unwrap(), Overwrite::Refuse).unwrap();
    path
}

fn ask_demo(desk: &Desk, image: &Path, options: &str) -> (Run, Value) {
    let mut command = desk.command();
    command.args(["infer", "-m", "demo", "--device", "cpu", "--json", "--no-preview", "--force"]);
    command.args(["-p", "Can you segment the liver in this image?", "--out", "out", "-i"]);
    let run = finish(command.arg(image).args(options.split_whitespace()));
    let report: Value = serde_json::from_str(&run.succeeds().stdout).unwrap();
    assert_keeps_to("report", &report);
    (run, report)
}

fn codes_of(report: &Value) -> Vec<&str> {
    let warnings = report["warnings"].as_array().unwrap();
    warnings.iter().map(|warning| warning["code"].as_str().unwrap()).collect()
}

#[test]
fn n20_the_phantom_in_any_orientation_has_the_same_liver_once_it_is_asked_for_in_the_right_one() {
    let desk = Desk::new();
    let (run, as_drawn) = ask_demo(&desk, &phantom(&desk, "LPS"), "");
    assert!(!run.stderr.contains("W-ORIENT"), "{run:#?}");
    let input = &as_drawn["input"];
    assert_eq!((&input["orientation"], &input["seen_orientation"]), (&json!("LPS"), &json!("LPS")));
    let liver = &as_drawn["masks"][0];
    let truth = liver["volume_ml"].as_f64().unwrap();
    assert!((1000.0..2500.0).contains(&truth), "{truth}");
    let expected = read(desk.path("out/mask.nii.gz"), &ReadOptions::default()).unwrap().volume;

    for codes in ["LAS", "RAS", "PSL"] {
        let image = phantom(&desk, codes);
        let (_, report) = ask_demo(&desk, &image, "--orient LPS");
        let input = &report["input"];
        assert_eq!(input["orientation"], codes);
        assert_eq!(input["seen_orientation"], "LPS");
        assert!(!codes_of(&report).contains(&"W-ORIENT"), "{report}");
        let mask = &report["masks"][0];
        assert_eq!(mask["voxels"], liver["voxels"], "{codes}");
        assert!((mask["volume_ml"].as_f64().unwrap() - truth).abs() < 1e-3, "{codes}");
        let pairs = mask["centroid_mm"].as_array().unwrap().iter();
        for (mm, expected) in pairs.zip(liver["centroid_mm"].as_array().unwrap()) {
            assert!((mm.as_f64().unwrap() - expected.as_f64().unwrap()).abs() < 1e-3, "{codes}");
        }
        // On the stored grid, bit for bit.
        let ct = read(&image, &ReadOptions::default()).unwrap().volume;
        let mask = read(desk.path("out/mask.nii.gz"), &ReadOptions::default()).unwrap().volume;
        assert_eq!(mask.shape(), ct.shape());
        assert_eq!(mask.geometry().affine(), ct.geometry().affine());
        let back = AxisMap::between(ct.geometry().orientation().unwrap(), Orientation::LPS);
        let turned = back.data(&mask.voxels().to_f32(), mask.shape()).unwrap();
        assert_eq!(turned, expected.voxels().to_f32().as_ref(), "{codes}");
    }
}

#[test]
fn n20_the_demo_model_says_that_it_was_trained_on_another_orientation() {
    let desk = Desk::new();
    let (run, report) = ask_demo(&desk, &phantom(&desk, "RAS"), "");
    run.says(
        "warning[W-ORIENT]: the model sees the volume as RAS, but has been trained on LPS alone",
    );
    run.says("--orient LPS");
    assert_eq!(report["input"]["seen_orientation"], "RAS");
    assert!(codes_of(&report).contains(&"W-ORIENT"));
}

/// The recorded volume of the small models, stored in an orientation.
fn small(desk: &Desk, codes: &str) -> PathBuf {
    let volume = read(data("phi3/golden/volume.npy"), &ReadOptions::default()).unwrap().volume;
    write(desk, codes, &volume.voxels().to_f32(), volume.shape())
}

#[test]
fn n20_published_models_have_seen_any_orientation_of_axial_slices() {
    let desk = Desk::new();
    for (codes, is_doubtful) in [("RAS", false), ("LAI", false), ("PSL", true), ("LSA", true)] {
        let image = small(&desk, codes);
        let run = desk.infer_volume(&image, "--force --no-preview");
        run.succeeds();
        assert_eq!(run.stderr.contains("W-ORIENT"), is_doubtful, "{codes}: {run:#?}");
        if is_doubtful {
            run.says("whose slices are not axial");
        }
        let inspect = |options: &str| {
            let mut command = desk.command();
            command.arg("inspect").arg(&image).args(options.split_whitespace());
            finish(&mut command).succeeds().stdout.clone()
        };
        let found: Value = serde_json::from_str(&inspect("--json")).unwrap();
        assert_keeps_to("inspect", &found);
        assert_eq!(codes_of(&found).contains(&"W-ORIENT"), is_doubtful, "{codes}");
        assert_eq!(found["verdict"] == "doubtful", is_doubtful, "{found}");
        assert_eq!(found["input"]["orientation"], codes);
        assert_eq!(found["model_view"]["orientation"], codes);
        assert!(inspect("").contains(&format!("seen as      {codes}, as stored")));

        let turned: Value = serde_json::from_str(&inspect("--json --orient LPS")).unwrap();
        assert_keeps_to("inspect", &turned);
        assert_eq!(turned["input"]["orientation"], codes);
        assert_eq!(turned["model_view"]["orientation"], "LPS");
        // Along i, j and k of the file, the slices of the model lie where the file has them.
        let grid: Vec<u64> =
            codes.chars().map(|code| if "SI".contains(code) { 32 } else { 256 }).collect();
        assert_eq!(turned["model_view"]["grid"], serde_json::json!(grid), "{codes}");
        assert!(!codes_of(&turned).contains(&"W-ORIENT"), "{codes}");
        assert!(inspect("--orient LPS").contains("seen as      LPS: i to left"));
    }
}

#[test]
fn segment_and_embed_see_the_volume_in_the_orientation_that_was_asked_for() {
    let desk = Desk::new();
    let mut found = Vec::new();
    for codes in ["LPS", "SRA"] {
        let image = small(&desk, codes);
        let mut command = desk.command();
        command.args(["segment", "--device", "cpu", "--text", "liver", "--mode", "resize"]);
        command.args(["--orient", "LPS", "--force", "--json", "--no-preview", "--out", "out"]);
        command.arg("-m").arg(data("segvol")).arg("-i").arg(&image);
        let run = finish(&mut command);
        let report: Value = serde_json::from_str(&run.succeeds().stdout).unwrap();
        assert_keeps_to("segment", &report);
        assert_eq!(report["input"]["orientation"], codes);
        assert_eq!(report["input"]["seen_orientation"], "LPS");
        let mask = read(desk.path("out/mask.nii.gz"), &ReadOptions::default()).unwrap().volume;
        let (voxels, geometry) = mask.into_parts();
        let labels = voxels.iter().map(|v| v as u8).collect();
        let mask = r1seg::volume::Mask::new(labels, geometry.clone()).unwrap();
        let volume = Volume::new(voxels, geometry).unwrap();
        let centroid = mask_stats(&mask, 1, &volume).unwrap().centroid_mm.unwrap();

        let mut command = desk.command();
        command.args(["embed", "--device", "cpu", "--orient", "LPS", "--force", "-o", "v.npy"]);
        command.arg("-m").arg(data("m3d-clip")).arg("-i").arg(&image);
        finish(&mut command).succeeds();
        let vectors = std::fs::read(desk.path("v.npy")).unwrap();
        found.push((report["masks"][0]["voxels"].clone(), centroid.map(f64::round), vectors));
    }
    assert_eq!(found[0], found[1]);
}

#[test]
fn an_orientation_that_is_not_known_cannot_be_changed() {
    let desk = Desk::new();
    let run = desk.infer("--orient LPS");
    run.fails(2, "R-GEO-11").says("cannot be brought to LPS").says("--affine-from");
    // Voxel sizes say nothing about sides.
    desk.infer("--orient LPS --spacing 5,1,1").fails(2, "R-GEO-11");
    desk.is_empty_but_for(&[]);
    desk.infer("--orient stored").succeeds();
    let affine_from = small(&desk, "RAS").display().to_string();
    let run = desk.infer(&format!("--force --orient LPS --affine-from {affine_from}"));
    run.succeeds();
    let input = &desk.report()["input"];
    assert_eq!((&input["orientation"], &input["seen_orientation"]), (&json!("RAS"), &json!("LPS")));

    let run = desk.infer("--orient LRS");
    assert_eq!(run.code, Some(2), "{run:#?}");
    run.says("`LRS` is not an orientation; use stored, LPS, RAS or three other axis codes");
}
