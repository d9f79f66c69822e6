//! What each tool calls a surface, and what of it is here under which name:
//!
//! - surface-distance 0.1: corners of voxels, by area. All of its numbers are those of `Pair::surfels`.
//! - MONAI 1.4: voxels at the border. Its percentile is `directed_hausdorff_mm`, its symmetric average
//!   `assd_mm`, its surface Dice that of `Pair::borders`.
//! - MedPy 0.5: the same voxels. Its `hd95` is `pooled_hausdorff_mm`, its `assd` `assd_mm`; `masd_mm` is the
//!   mean of its `asd` of both directions.
//! - SimpleITK 2.5: all voxels. Its Hausdorff distances are those of `Pair::voxel_sets`, smaller than those
//!   of surfaces where a part of one mask lies deep inside of the other.

use r1seg_metrics::Empties;
use r1seg_metrics::surface::{Pair, SurfaceDistances};
use serde_json::Value;

use crate::{F32, F64, assert_close, recorded};

fn numbers<const N: usize>(value: &Value) -> [f64; N] {
    std::array::from_fn(|n| value[n].as_f64().unwrap())
}

/// The masks as `scripts/record-metrics` draws them.
fn draw(shapes: &Value, size: [usize; 3]) -> Vec<u8> {
    let [_, h, w] = size;
    let mut mask = vec![0; size.iter().product()];
    for shape in shapes.as_array().unwrap() {
        if let Some(ellipsoid) = shape.get("ellipsoid") {
            let center: [f64; 3] = numbers(&ellipsoid["center"]);
            let weights: [f64; 3] = numbers(&ellipsoid["weights"]);
            for (n, voxel) in mask.iter_mut().enumerate() {
                let place = [n / (h * w), n / w % h, n % w];
                let sum: f64 =
                    (0..3).map(|n| weights[n] * (place[n] as f64 - center[n]).powi(2)).sum();
                if sum <= ellipsoid["limit"].as_f64().unwrap() {
                    *voxel = 1;
                }
            }
        } else {
            let number = |name: &str| shape["noise"][name].as_u64().unwrap() as u32;
            let mut state = number("seed");
            for voxel in &mut mask {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if (state >> 16) % number("share") == 0 {
                    *voxel = 1;
                }
            }
        }
    }
    mask
}

/// Each case with its name, and the tolerances of the surface Dice.
fn each_case(check: impl Fn(&str, &Pair, &Value, &[f64])) {
    let recorded = recorded("surface.json");
    let tolerances: [f64; 5] = numbers(&recorded["tolerances_mm"]);
    let cases = recorded["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 9);
    for case in cases {
        let shape = numbers::<3>(&case["shape"]).map(|n| n as usize);
        let [truth, predicted] = ["truth", "predicted"].map(|name| draw(&case[name], shape));
        let pair = Pair::new(&truth, &predicted, shape, numbers(&case["spacing_mm"])).unwrap();
        let voxels = [pair.overlap().truth, pair.overlap().predicted];
        assert_eq!(serde_json::json!(voxels), case["voxels"]);
        check(case["name"].as_str().unwrap(), &pair, case, &tolerances);
    }
}

fn surface_dice(found: &SurfaceDistances, expected: &Value, tolerances: &[f64], what: &str) {
    for (n, tolerance) in tolerances.iter().enumerate() {
        let what = format!("{what}: surface Dice at {tolerance} mm");
        // MONAI adds up in f32, others do not.
        assert_close(found.surface_dice(*tolerance), &expected[n], 1e-6, &what);
    }
}

#[test]
fn surfels_have_the_numbers_of_surface_distance() {
    each_case(|name, pair, case, tolerances| {
        let (found, expected) = (pair.surfels(), &case["surface_distance"]);
        let directions = [&found.from_truth, &found.from_predicted];
        for (n, directed) in directions.into_iter().enumerate() {
            assert_close(Some(directed.weight()), &expected["areas_mm2"][n], F64, name);
            assert_close(directed.mean_mm(), &expected["average_mm"][n], F64, name);
            for (t, tolerance) in tolerances.iter().enumerate() {
                let share = directed.weight_within(*tolerance) / directed.weight();
                assert_close(Some(share), &expected["overlap"][t][n], F64, name);
            }
        }
        for (t, tolerance) in tolerances.iter().enumerate() {
            assert_close(found.surface_dice(*tolerance), &expected["surface_dice"][t], F64, name);
        }
        assert_close(found.hausdorff_mm(), &expected["hausdorff_mm"], F64, name);
        assert_close(found.weighted_hausdorff_mm(95.0), &expected["hd95_mm"], F64, name);
        let scores = pair.scores(tolerances[2], Empties::Formula);
        assert_close(scores.surface_dice, &expected["surface_dice"][2], F64, name);
        assert_close(scores.hd95_surfels_mm, &expected["hd95_mm"], F64, name);
    });
}

#[test]
fn borders_have_the_numbers_of_monai_and_medpy() {
    each_case(|name, pair, case, tolerances| {
        let found = pair.borders();
        let (monai, medpy) = (&case["monai"], &case["medpy"]);
        assert_close(found.hausdorff_mm(), &monai["hausdorff_mm"], F32, name);
        assert_close(found.directed_hausdorff_mm(95.0), &monai["hd95_mm"], F32, name);
        assert_close(found.assd_mm(), &monai["assd_mm"], F32, name);
        surface_dice(&found, &monai["surface_dice"], tolerances, name);
        assert_close(found.hausdorff_mm(), &medpy["hausdorff_mm"], F64, name);
        assert_close(found.pooled_hausdorff_mm(95.0), &medpy["hd95_mm"], F64, name);
        assert_close(found.assd_mm(), &medpy["assd_mm"], F64, name);
        assert_close(found.masd_mm(), &medpy["masd_mm"], F64, name);
        let scores = pair.scores(1.0, Empties::Formula);
        assert_close(scores.hausdorff_mm, &medpy["hausdorff_mm"], F64, name);
        assert_close(scores.hd95_directed_mm, &monai["hd95_mm"], F32, name);
        assert_close(scores.hd95_pooled_mm, &medpy["hd95_mm"], F64, name);
        assert_close(scores.assd_mm, &medpy["assd_mm"], F64, name);
        assert_close(scores.masd_mm, &medpy["masd_mm"], F64, name);
    });
}

#[test]
fn voxels_have_the_numbers_of_simpleitk() {
    each_case(|name, pair, case, _| {
        let (found, overlap, expected) = (pair.voxel_sets(), pair.overlap(), &case["simpleitk"]);
        assert_close(overlap.dice(Empties::Formula), &expected["dice"], F64, name);
        assert_close(overlap.iou(Empties::Formula), &expected["jaccard"], F64, name);
        assert_close(overlap.volume_similarity(), &expected["volume_similarity"], F64, name);
        // SimpleITK's distances are f32.
        assert_close(found.hausdorff_mm, &expected["hausdorff_mm"], F32, name);
        assert_close(found.mean_mm, &expected["average_hausdorff_mm"], F32, name);
    });
}
