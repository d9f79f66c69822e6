//! The recorded pipeline of SAM-Med3D: a CT with labels through torchio and SimpleITK to the crop
//! that the network sees, and back to the grid of the file.

#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml allows this in tests, but does not see that helpers are of tests"
)]

use std::path::{Path, PathBuf};

use r1seg_volume::{
    AxisMap, NearestMode, Orientation, Prepared, ReadOptions, Region, SpacingConvention, Step,
    Volume, crop_around, foreground_box, prepare, read,
};
use serde_json::Value;

const ROI: [usize; 3] = [128; 3];

/// The pipeline with the grid of torchio up to 0.20.10, and with that of later versions.
const RECORDED: [(&str, SpacingConvention); 2] = [
    ("pipeline.json", SpacingConvention::ItkCeil),
    ("pipeline_centered.json", SpacingConvention::ItkCentered),
];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/sam-med3d/golden").join(name)
}

fn volume(name: &str) -> Volume {
    read(golden(name), &ReadOptions::default()).unwrap().volume
}

fn recorded(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(golden(name)).unwrap()).unwrap()
}

/// What the authors' script does to a CT before it crops, in the network's order of axes, x, y, z.
fn canonical(ct: &Volume, convention: SpacingConvention) -> Prepared {
    let steps = [
        Step::Space { mm: [1.5; 3], convention },
        Step::Orient(Orientation::RAS),
        Step::Turn(AxisMap::REVERSED_ORDER),
    ];
    prepare(ct, &steps).unwrap()
}

fn numbers<const N: usize>(value: &Value) -> [f64; N] {
    std::array::from_fn(|n| value[n].as_f64().unwrap())
}

/// Where a prepared grid begins in the world.
fn origin(prepared: &Prepared, ct: &Volume) -> [f64; 3] {
    prepared.map().mm_of_point(ct.geometry(), [0.0; 3]).unwrap()
}

/// Origins are recorded with six digits after the point, of f32.
fn assert_origin(got: [f64; 3], affine: &Value) {
    for n in 0..3 {
        let expected = affine[n][3].as_f64().unwrap();
        assert!((got[n] - expected).abs() < 5e-5, "{got:?} {affine}");
    }
}

/// The bytes of a tensor of `pipeline.safetensors`.
fn tensor(name: &str) -> Vec<[u8; 4]> {
    let file = std::fs::read(golden("pipeline.safetensors")).unwrap();
    let (length, rest) = file.split_first_chunk::<8>().unwrap();
    let (header, data) = rest.split_at(usize::try_from(u64::from_le_bytes(*length)).unwrap());
    let header: Value = serde_json::from_slice(header).unwrap();
    let [start, end] = numbers(&header[name]["data_offsets"]).map(|at| at as usize);
    data[start..end].as_chunks().0.to_vec()
}

/// The runs of each label, or of the one place that was clicked.
fn targets(pipeline: &Value) -> Vec<(String, &Value)> {
    let labels = ["1", "2"].map(|label| {
        (format!("clicks1.label_{label}"), &pipeline["runs"]["clicks1"]["labels"][label])
    });
    let points = ["user_one", "user_points"].map(|run| (run.to_owned(), &pipeline["runs"][run]));
    labels.into_iter().chain(points).collect()
}

/// A label of the file, as 0 and 1.
fn label(labels: &Volume, run: &str) -> Option<Vec<u8>> {
    let label: f32 = run.strip_prefix("clicks1.label_")?.parse().ok()?;
    Some(labels.voxels().iter().map(|v| u8::from(v == label)).collect())
}

/// What a run crops around, in prepared cells.
fn target(prepared: &Prepared, labels: &Volume, run: &str, recorded: &Value) -> Region {
    let Some(label) = label(labels, run) else {
        let [i, j, k] = numbers(&recorded["voxels"][0]).map(|n| n as usize);
        return Region::at(prepared.map().cell_of([k, j, i]).unwrap(), [1; 3]);
    };
    let label = prepared.map().gather(&label, NearestMode::NearestExact).unwrap();
    let count = label.iter().filter(|v| **v == 1).count();
    assert_eq!(count, recorded["canonical_label_voxels"].as_u64().unwrap() as usize);
    let label: Vec<i16> = label.into_iter().map(i16::from).collect();
    foreground_box(&label.into(), prepared.shape(), 0.0).unwrap().unwrap()
}

#[test]
fn a_ct_is_resampled_to_the_recorded_grid_and_to_its_every_number() {
    let ct = volume("ct.nii.gz");
    for (name, convention) in RECORDED {
        let (prepared, pipeline) = (canonical(&ct, convention), recorded(name));
        let values = prepared.to_f32();
        assert!(values.iter().all(|v| v.fract() == 0.0));
        let sum: i64 = values.iter().map(|v| *v as i64).sum();
        for (run, recorded) in targets(&pipeline) {
            assert_eq!(prepared.shape(), numbers(&recorded["canonical_shape"]).map(|n| n as usize));
            assert_eq!(Some(sum), recorded["canonical_sum"].as_i64(), "{name} {run}");
            assert_origin(origin(&prepared, &ct), &recorded["canonical_affine"]);
        }
    }
}

#[test]
fn the_crop_around_a_label_or_a_point_is_the_recorded_one() {
    let (ct, labels) = (volume("ct.nii.gz"), volume("label.nii.gz"));
    for (name, convention) in RECORDED {
        let (prepared, pipeline) = (canonical(&ct, convention), recorded(name));
        for (run, recorded) in targets(&pipeline) {
            let start = crop_around(target(&prepared, &labels, &run, recorded), ROI);
            let [padded, cropped]: [[f64; 6]; 2] =
                ["pad_ini_fin", "crop_ini_fin"].map(|key| numbers(&recorded[key]));
            for n in 0..3 {
                let end = start[n] + 128 - prepared.shape()[n] as i64;
                assert_eq!(start[n], (cropped[2 * n] - padded[2 * n]) as i64, "{name} {run}");
                assert_eq!(end, (padded[2 * n + 1] - cropped[2 * n + 1]) as i64, "{name} {run}");
            }
            let roi = prepared.then(&[Step::Window { start, shape: ROI }]).unwrap();
            assert_origin(origin(&roi, &ct), &recorded["roi_affine"]);
            if let Some(label) = label(&labels, &run) {
                let label = roi.map().gather(&label, NearestMode::NearestExact).unwrap();
                let count = label.iter().filter(|v| **v == 1).count();
                assert_eq!(Some(count as u64), recorded["roi_label_voxels"].as_u64());
            }
            let clicked = recorded["voxels"].as_array().into_iter().flatten().enumerate();
            for (n, voxel) in clicked {
                let [i, j, k] = numbers(voxel).map(|n| n as usize);
                for (map, key) in [(prepared.map(), "canonical_index"), (roi.map(), "roi_points")] {
                    let expected = numbers(&recorded[key][n]).map(|n| n as usize);
                    assert_eq!(map.cell_of([k, j, i]), Some(expected), "{name} {run} {key}");
                    let mm = numbers(&recorded["world"][n]);
                    assert_eq!(map.cell_at_mm(ct.geometry(), mm), Some(expected));
                }
            }
        }
    }
}

#[test]
fn the_network_is_given_the_recorded_values() {
    let (ct, labels) = (volume("ct.nii.gz"), volume("label.nii.gz"));
    let index: Vec<usize> =
        tensor("roi.index").into_iter().map(|n| u32::from_le_bytes(n) as usize).collect();
    for (name, convention) in RECORDED {
        let (prepared, pipeline) = (canonical(&ct, convention), recorded(name));
        for (run, recorded) in targets(&pipeline) {
            let start = crop_around(target(&prepared, &labels, &run, recorded), ROI);
            let steps = [Step::Window { start, shape: ROI }, Step::NormalizePositive];
            let values = prepared.then(&steps).unwrap().to_f32();
            // A sum of two million values, which the authors' code computes in f32.
            let mean = values.iter().map(|v| f64::from(v.abs())).sum::<f64>() / 128.0_f64.powi(3);
            let expected = recorded["roi_mean_abs"].as_f64().unwrap();
            assert!((mean / expected - 1.0).abs() < 1e-6, "{name} {run}: {mean} {expected}");
            if convention == SpacingConvention::ItkCeil {
                let sample = tensor(&format!("{run}.roi_sample"));
                assert_eq!(sample.len(), 2048);
                for (at, expected) in index.iter().zip(sample.into_iter().map(f32::from_le_bytes)) {
                    let got = values[*at];
                    // Of values up to 25, by the rounding of their mean and deviation.
                    let tolerance = 1e-6 * expected.abs().max(1.0);
                    assert!((got - expected).abs() <= tolerance, "{run} {at}: {got} {expected}");
                }
            }
        }
    }
}

#[test]
fn a_mask_of_the_crop_comes_back_to_the_voxels_that_its_cells_hold() {
    let (ct, labels) = (volume("ct.nii.gz"), volume("label.nii.gz"));
    let [depth, height, width] = ct.shape();
    // No two neighbors alike along any axis for long, so that a cell beside the right one shows.
    let mask: Vec<u8> =
        (0..1 << 21_u32).map(|n: u32| (n.wrapping_mul(0x9e37_79b9) >> 31) as u8).collect();
    for (name, convention) in RECORDED {
        let (prepared, pipeline) = (canonical(&ct, convention), recorded(name));
        for (run, recorded) in targets(&pipeline) {
            let start = crop_around(target(&prepared, &labels, &run, recorded), ROI);
            let roi = prepared.then(&[Step::Window { start, shape: ROI }]).unwrap();
            let back = roi.map().mask_to_source(&mask, NearestMode::NearestExact).unwrap();
            // The authors' rule: through the world to the recorded affine of the crop, whose axes are
            // those of the world.
            let first: [f64; 3] =
                std::array::from_fn(|n| recorded["roi_affine"][n][3].as_f64().unwrap());
            let (mut inside, mut voxel) = (0, 0);
            for (k, j, i) in (0..depth)
                .flat_map(|k| (0..height).flat_map(move |j| (0..width).map(move |i| (k, j, i))))
            {
                let mm = ct.geometry().world_mm([i, j, k].map(|n| n as f64)).unwrap();
                let at: [f64; 3] = std::array::from_fn(|n| (mm[n] - first[n]) / 1.5);
                let is_inside = at.iter().all(|at| (-0.5..127.5).contains(at));
                let [x, y, z] = at.map(|at| (at + 0.5).floor() as usize);
                let expected = if is_inside { mask[(x * 128 + y) * 128 + z] } else { 0 };
                assert_eq!(back[voxel], expected, "{name} {run} {:?} {at:?}", [i, j, k]);
                inside += usize::from(is_inside);
                voxel += 1;
            }
            assert!(1_000_000 < inside && inside < voxel, "{inside} of {voxel}");
        }
    }
}
