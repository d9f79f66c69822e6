//! Compared with what the authors' code makes of the same numbers.

use std::collections::HashMap;

use r1seg_volume::sliding::windows;
use r1seg_volume::{GridMap, Lattice, NearestMode, SpacingConvention};
use safetensors::SafeTensors;
use serde_json::Value;

use super::tests::click;
use super::*;

const PATCH: [usize; 3] = [32, 48, 64];

/// What the authors' code was recorded to make of the same numbers.
struct Recorded {
    says: Value,
    tensors: HashMap<String, Vec<u8>>,
}

impl Recorded {
    fn load(name: &str) -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/vista3d/golden/");
        let says = std::fs::read(format!("{path}{name}.json")).unwrap();
        let bytes = std::fs::read(format!("{path}{name}.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        Self {
            says: serde_json::from_slice(&says).unwrap(),
            tensors: tensors.iter().map(|(key, view)| (key.into(), view.data().into())).collect(),
        }
    }

    fn list(&self, key: &str) -> &[Value] {
        self.says[key].as_array().unwrap()
    }

    fn bytes(&self, key: &str) -> &[u8] {
        &self.tensors[key]
    }

    fn whole(&self, key: &str) -> Vec<i32> {
        let words = self.bytes(key).chunks_exact(4);
        words.map(|word| i32::from_le_bytes(word.try_into().unwrap())).collect()
    }

    /// NaN is recorded as 1e9.
    fn numbers(&self, key: &str) -> Vec<f32> {
        let words = self.bytes(key).chunks_exact(4);
        let numbers = words.map(|word| f32::from_le_bytes(word.try_into().unwrap()));
        numbers.map(|value| if value == 1e9 { f32::NAN } else { value }).collect()
    }

    /// Logits of the patch: the signs of all, and the values where these are recorded.
    fn patch(&self, name: &str) -> Vec<f32> {
        let packed = self.bytes(&format!("{name}.packed"));
        let bit = |n: usize| packed[n / 8] >> (7 - n % 8) & 1;
        let mut logits: Vec<f32> =
            (0..packed.len() * 8).map(|n| if bit(n) == 1 { 1.0 } else { -1.0 }).collect();
        let sample = self.numbers(&format!("{name}.sample"));
        for (at, value) in self.whole(&format!("index.{}", logits.len())).iter().zip(&sample) {
            assert_eq!(0.0 < *value, 0.0 < logits[*at as usize]);
            logits[*at as usize] = *value;
        }
        logits
    }
}

fn clicks(points: &Value, labels: &Value) -> Vec<Click> {
    let points: Vec<[f64; 3]> = serde_json::from_value(points.clone()).unwrap();
    let labels: Vec<i64> = serde_json::from_value(labels.clone()).unwrap();
    assert_eq!(points.len(), labels.len());
    points.into_iter().zip(labels).map(|(at, label)| click(at, label)).collect()
}

fn is_near(value: f32, expected: f32, largest: f32) -> bool {
    value.is_nan() && expected.is_nan() || (value - expected).abs() <= 1e-5 * largest
}

/// The case of the window named so, its logits for an object, and the clicks that it sees.
fn window(patch: &Recorded, name: &str, object: usize) -> (Value, Vec<f32>, Vec<Click>) {
    let case = patch.list("window").iter().find(|case| case["name"] == name).unwrap().clone();
    let start: [usize; 3] = serde_json::from_value(case["start"].clone()).unwrap_or_default();
    let all = clicks(&case["points"][object], &case["labels"][object]);
    let seen = clicks_in(&all, Region::at(start, PATCH));
    (case, patch.patch(&format!("window.{name}.{object}")), seen)
}

/// An earlier mask of a case: 0.5 * (radius - distance to the center).
fn earlier_mask(case: &Value) -> Vec<f32> {
    let center: [f32; 3] = serde_json::from_value(case["prev"]["center"].clone()).unwrap();
    let radius = case["prev"]["radius"].as_f64().unwrap() as f32;
    let half_is_nan = case["prev"]["nan_half"].as_bool().unwrap_or(false);
    let [d, h, w] = PATCH;
    let logit = |n: usize| {
        let at = [n / (h * w), n / w % h, n % w];
        let apart: [f32; 3] = std::array::from_fn(|n| at[n] as f32 - center[n]);
        let distance = apart.iter().map(|v| v * v).sum::<f32>().sqrt();
        if half_is_nan && at[2] < 32 { f32::NAN } else { 0.5 * (radius - distance) }
    };
    (0..d * h * w).map(logit).collect()
}

/// Signs everywhere, and values where they are recorded.
fn assert_same(patch: &Recorded, logits: &[f32], expected: &[f32], what: &str) {
    let at = patch.whole(&format!("index.{}", logits.len()));
    let largest = at.iter().map(|n| expected[*n as usize].abs()).fold(0.0, f32::max);
    for n in at.iter().map(|n| *n as usize) {
        let (value, expected) = (logits[n], expected[n]);
        assert!(is_near(value, expected, largest), "{what} at {n}: {value}, not {expected}");
    }
    let signs = logits.iter().zip(expected).filter(|(a, b)| (0.0 < **a) != (0.0 < **b)).count();
    assert_eq!(signs, 0, "{what}");
}

#[test]
fn the_components_near_clicks_are_the_recorded_ones() {
    let rules = Recorded::load("rules");
    let shape = [14, 12, 16];
    let components =
        |key: &str| ConnectedComponents::of(rules.bytes(key), shape, |v| v != 0).unwrap();
    let differences =
        Differences { add: components("components.pos"), remove: components("components.neg") };
    assert_eq!(rules.list("components").len(), 11);
    for (n, case) in rules.list("components").iter().enumerate() {
        let runs = differences.at(shape, &clicks(&case["points"], &case["labels"]));
        let mut found = vec![0; shape.iter().product()];
        runs.into_iter().for_each(|run| found[run].fill(1_u8));
        let voxels = found.iter().filter(|v| **v == 1).count();
        assert_eq!(voxels as u64, case["voxels"].as_u64().unwrap(), "case {n}");
        assert_eq!(found, rules.bytes(&format!("components.out_{n}")), "case {n}");
    }
}

#[test]
fn parts_without_a_positive_click_get_the_recorded_mean() {
    let rules = Recorded::load("rules");
    let logits = rules.numbers("keep.logits");
    assert!(logits.iter().any(|logit| logit.is_nan()));
    assert_eq!(rules.list("keep").len(), 5);
    for (n, case) in rules.list("keep").iter().enumerate() {
        let mut kept = logits.clone();
        let clicks = clicks(&case["points"], &case["labels"]);
        keep_clicked(&mut kept, [14, 12, 16], &clicks).unwrap();
        let positive = kept.iter().filter(|logit| 0.0 < **logit).count();
        assert_eq!(positive as u64, case["positive"].as_u64().unwrap(), "case {n}");
        let expected = rules.numbers(&format!("keep.out_{n}"));
        let largest = logits.iter().map(|v| v.abs()).fold(0.0, f32::max);
        let same = kept.iter().zip(&expected).all(|(a, b)| is_near(*a, *b, largest));
        assert!(same, "case {n}");
    }
}

#[test]
fn windows_around_clicks_are_the_recorded_ones() {
    let rules = Recorded::load("rules");
    assert_eq!(rules.list("point_windows").len(), 13);
    for case in rules.list("point_windows") {
        let number = |key: &str| case[key].as_u64().unwrap() as usize;
        let at = [case["p"].as_f64().unwrap(), 9.0, 20.0];
        let (shape, roi) = ([number("size"), 64, 32], [number("roi"), 32, 32]);
        let [start, end]: [usize; 2] = serde_json::from_value(case["window"].clone()).unwrap();
        let expected = Region { start: [start, 0, 0], end: [end, 32, 32] };
        for label in [1, -1] {
            assert_eq!(click_windows(&[click(at, label)], shape, roi), [(expected, 1)], "{case}");
        }
    }
}

#[test]
fn windows_over_a_volume_are_the_recorded_ones() {
    let rules = Recorded::load("rules");
    assert_eq!(rules.list("windows").len(), 7);
    for case in rules.list("windows") {
        let shape =
            |key: &str| -> [usize; 3] { serde_json::from_value(case[key].clone()).unwrap() };
        let overlap = case["overlap"].as_f64().unwrap();
        let found = windows(shape("image"), shape("roi"), overlap).unwrap();
        let starts: Vec<[usize; 3]> = found.iter().map(|window| window.start).collect();
        let by_axis: [Vec<usize>; 3] = serde_json::from_value(case["starts"].clone()).unwrap();
        let first: Vec<[usize; 3]> = serde_json::from_value(case["first"].clone()).unwrap();
        assert_eq!(starts.len() as u64, case["n"].as_u64().unwrap(), "{case}");
        assert_eq!(starts[..first.len()], first, "{case}");
        for (n, expected) in by_axis.into_iter().enumerate() {
            let along: BTreeSet<usize> = starts.iter().map(|start| start[n]).collect();
            assert_eq!(along.into_iter().collect::<Vec<_>>(), expected, "{case}");
        }
    }
}

#[test]
fn voxels_take_their_labels_from_the_recorded_cells_of_the_spacing() {
    let rules = Recorded::load("rules");
    let mut compared = 0;
    for case in rules.list("spacing") {
        let (size, mm) = (case["n"].as_u64().unwrap(), case["spacing"].as_f64().unwrap());
        let expected = rules.whole(&format!("spacing.back_{size}_{mm:?}"));
        let shape = [size as usize, 1, 1];
        let lattice =
            Lattice::new(shape, [mm, 1.5, 1.5], [1.5; 3], SpacingConvention::Monai).unwrap();
        assert_eq!(lattice.shape()[0] as u64, case["size"].as_u64().unwrap(), "{case}");
        let map = GridMap::identity(shape).spaced(lattice);
        let cells: Vec<i32> = (0..lattice.shape()[0] as i32).collect();
        let found = map.inverse().gather(&cells, NearestMode::Nearest).unwrap();
        assert_eq!(found.len(), expected.len());
        let mut ties = 0;
        for (n, (found, expected)) in found.into_iter().zip(expected).enumerate() {
            let at = n as f64 * mm / 1.5;
            // The reference rounds these to either side.
            if (at.fract() - 0.5).abs() < 1e-9 && (at as i32) < lattice.shape()[0] as i32 - 1 {
                ties += 1;
            } else {
                assert_eq!(found, expected, "voxel {n}: {case}");
                compared += 1;
            }
        }
        assert_eq!(ties, case["ties"].as_u64().unwrap(), "{case}");
    }
    assert!(compared > 400, "{compared}");
}

#[test]
fn clicks_correct_a_class_and_an_earlier_mask_as_recorded() {
    let patch = Recorded::load("patch");
    let clicked = patch.patch("points.supported.0");
    for name in ["inside", "prev", "prev_nan"] {
        let (case, expected, seen) = window(&patch, name, 0);
        assert_eq!(seen, [click([18.0, 31.0, 40.0], 1)]);
        let before = match case.get("prev") {
            Some(_) => earlier_mask(&case),
            None => patch.patch("class.1"),
        };
        let mut logits = before.clone();
        correct(&mut logits, &clicked, PATCH, &seen).unwrap();
        assert_same(&patch, &logits, &expected, name);
        assert!(before.iter().zip(&logits).any(|(a, b)| !a.is_nan() && a != b), "{name}");
        let nan = logits.iter().filter(|logit| logit.is_nan()).count() as u64;
        assert_eq!(nan, patch.says["nan_voxels"][name].as_u64().unwrap_or(0), "{name}");
    }
}

/// The logits that the clicks alone led to are not recorded for these; where the result differs from
/// what was there before, it is theirs.
#[test]
fn all_that_was_recorded_to_change_is_near_a_click_that_wants_it() {
    let patch = Recorded::load("patch");
    let cases = [
        ("add", 0, Some(1)),
        ("remove", 0, Some(1)),
        ("remove_component", 0, Some(1)),
        ("mixed", 0, Some(1)),
        ("batch", 1, Some(5)),
        ("special", 0, Some(26)),
        ("offset", 0, Some(5)),
        ("prev_remove", 0, None),
    ];
    let mut changes = 0;
    for (name, object, class) in cases {
        let (case, expected, seen) = window(&patch, name, object);
        assert!(!seen.is_empty());
        let before = match class {
            Some(class) => patch.patch(&format!("class.{class}")),
            None => earlier_mask(&case),
        };
        let mut logits = before.clone();
        correct(&mut logits, &expected, PATCH, &seen).unwrap();
        assert_same(&patch, &logits, &expected, name);
        let is_flip = |(a, b): &(&f32, &f32)| (0.0 < **a) != (0.0 < **b);
        changes += before.iter().zip(&logits).filter(is_flip).count();
    }
    assert!(changes > 1000, "{changes}");
}

#[test]
fn windows_that_see_no_click_leave_the_class_alone() {
    let patch = Recorded::load("patch");
    for (name, object, class) in [("outside", 0, 5), ("batch", 0, 1), ("batch", 2, 6)] {
        let (_, expected, seen) = window(&patch, name, object);
        assert_eq!(seen, []);
        let mut logits = patch.patch(&format!("class.{class}"));
        correct(&mut logits, &[], PATCH, &seen).unwrap();
        assert_same(&patch, &logits, &expected, name);
    }
    for name in ["outside_points_only", "on_lower_face"] {
        let (_, expected, seen) = window(&patch, name, 0);
        assert_eq!(seen, []);
        assert!(expected.iter().all(|logit| *logit < 0.0));
    }
    let (_, _, seen) = window(&patch, "just_inside_lower_face", 0);
    assert_eq!(seen, [click([0.2, 31.0, 40.0], 1)]);
    let (_, _, seen) = window(&patch, "offset", 0);
    assert_eq!(seen, [click([19.0, 10.0, 17.0], 1)]);
}
