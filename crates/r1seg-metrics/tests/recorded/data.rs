//! Segmentations of real CTs, which the repository does not hold.

use std::path::{Path, PathBuf};

use r1seg_metrics::surface::Pair;
use r1seg_metrics::{Empties, LabelOptions, compare_labels};
use r1seg_volume::{LabelMap, ReadOptions, Volume, read};
use serde_json::Value;

use crate::{F32, F64, assert_close};

/// The folder, or a line that says what is skipped.
fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("R1SEG_DATA").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: set R1SEG_DATA to the folder that holds expected_metrics.json");
    }
    folder
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn volume(path: &Path) -> Volume {
    read(path, &ReadOptions::default()).unwrap().volume
}

fn labels(path: &Path) -> LabelMap {
    LabelMap::from_volume(&volume(path)).unwrap()
}

/// The recorded numbers of two masks. SimpleITK calls the first mask its source, and its errors are
/// relative to the second, its target.
fn check(pair: &Pair, expected: &Value, voxels: usize, what: &str) {
    let overlap = pair.overlap();
    let counts = [overlap.truth, overlap.predicted].map(Value::from);
    assert_eq!([&counts[0], &counts[1]], [&expected["voxels_a"], &expected["voxels_b"]], "{what}");
    assert_close(overlap.dice(Empties::Formula), &expected["dice"], F64, what);
    assert_close(overlap.iou(Empties::Formula), &expected["jaccard"], F64, what);
    assert_close(overlap.volume_similarity(), &expected["volume_similarity"], F64, what);
    let missed = overlap.precision(Empties::Formula).map(|precision| 1.0 - precision);
    assert_close(missed, &expected["false_negative_error"], F64, what);
    let outside = voxels as f64 - overlap.predicted as f64;
    let invented = (overlap.truth - overlap.both) as f64 / outside;
    assert_close(Some(invented), &expected["false_positive_error"], F64, what);
    let sets = pair.voxel_sets();
    assert_close(sets.hausdorff_mm, &expected["hausdorff_mm"], F32, what);
    assert_close(sets.mean_mm, &expected["avg_hausdorff_mm"], F32, what);
}

#[test]
fn all_labels_of_a_ct_have_the_numbers_of_simpleitk() {
    let Some(folder) = folder() else { return };
    let expected = json(&folder.join("expected_metrics.json"));
    let expected = expected.as_object().unwrap();
    let of = |name: &str| expected.iter().find(|(key, _)| key.starts_with(name)).unwrap().1;
    let small = folder.join("ct/totalseg_small");
    let [a, b] = ["example_seg.nii.gz", "example_seg_fast.nii.gz"].map(|n| labels(&small.join(n)));
    let options = LabelOptions { empties: Empties::Formula, tolerance_mm: Some(3.0) };
    let found = compare_labels(&a, &b, None, options).unwrap();
    let mut checked = 0;
    for (label, expected) in of("totalseg_small").as_object().unwrap() {
        let label: u16 = label.parse().unwrap();
        let [truth, predicted] = [&a, &b].map(|map| map.label_mask(label));
        let mm = a.geometry().spacing_mm().unwrap();
        let pair = Pair::new(truth.data(), predicted.data(), a.shape(), mm).unwrap();
        check(&pair, expected, a.geometry().voxels(), expected["name"].as_str().unwrap());
        let comparison = found.iter().find(|comparison| comparison.label == label).unwrap();
        assert_eq!(comparison.overlap, pair.overlap());
        assert_eq!(comparison.surface, Some(pair.scores(3.0, Empties::Formula)));
        checked += 1;
    }
    assert_eq!(checked, 40);

    let aorta = folder.join("ct/totalseg_aorta");
    let [a, b] = ["aorta_true_lumen.nii.gz", "aorta.nii.gz"].map(|n| labels(&aorta.join(n)));
    let mm = a.geometry().spacing_mm().unwrap();
    let masks = [&a, &b].map(LabelMap::any_label);
    let pair = Pair::new(masks[0].data(), masks[1].data(), a.shape(), mm).unwrap();
    check(&pair, of("totalseg_aorta"), a.geometry().voxels(), "aorta");

    let amos = folder.join("masks/amos_0013");
    let [a, b] = ["label.nii.gz", "neurosam3d_pred_kidney_right.nii.gz"]
        .map(|name| labels(&amos.join(name)));
    // The prediction has a wrong header: what is compared lies on the label's grid.
    let mm = a.geometry().spacing_mm().unwrap();
    let masks = [a.label_mask(3), b.any_label()];
    let pair = Pair::new(masks[0].data(), masks[1].data(), a.shape(), mm).unwrap();
    check(&pair, of("amos_0013"), a.geometry().voxels(), "kidney");
}

#[test]
fn volumes_are_those_of_totalsegmentators_statistics() {
    let Some(folder) = folder() else { return };
    let masks = folder.join("ct/totalseg_small/seg_fast");
    let statistics = json(&masks.join("statistics.json"));
    let all = labels(&folder.join("ct/totalseg_small/example_seg_fast.nii.gz"));
    let (mut checked, mut empty) = (0, 0);
    for (name, expected) in statistics.as_object().unwrap() {
        let mask = labels(&masks.join(format!("{name}.nii.gz"))).any_label();
        let voxel = mask.geometry().voxel_volume_mm3().unwrap();
        let pair = Pair::new(mask.data(), mask.data(), mask.shape(), [1.0; 3]).unwrap();
        let mm3 = pair.overlap().truth as f64 * voxel;
        assert_close(Some(mm3), &expected["volume"], 1e-9, name);
        assert_eq!(mask.shape(), all.shape());
        (checked, empty) = (checked + 1, empty + usize::from(pair.overlap().truth == 0));
    }
    assert_eq!(checked, 117);
    assert!(empty > 50, "{empty} masks without a voxel");
}
