//! The simulated clicks of SAM-Med3D's evaluation, against those that the authors' script made in a CT.

use std::path::PathBuf;

use r1seg::Recipe;
use r1seg::simulate::{Click, RandomState, next_click};
use r1seg::volume::{
    NearestMode, Prepared, ReadOptions, Step, Volume, crop_around, foreground_box, read,
};
use serde_json::Value;

use crate::case::data;

const ROI: [usize; 3] = [128; 3];

/// The recipe of each recording.
const RECORDED: [(&str, Recipe); 2] =
    [("pipeline.json", Recipe::SamMed3d), ("pipeline_centered.json", Recipe::SamMed3dCentered)];

fn golden(name: &str) -> PathBuf {
    data("sam-med3d/golden").join(name)
}

fn pipeline(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(golden(name)).unwrap()).unwrap()
}

fn volume(name: &str) -> Volume {
    read(golden(name), &ReadOptions::default()).unwrap().volume
}

/// The recorded clicks of a run, label by label, in the order that they were drawn in.
fn clicks<'a>(pipeline: &'a Value, run: &str) -> impl Iterator<Item = &'a Value> {
    let labels = &pipeline["runs"][run]["labels"];
    ["1", "2"].into_iter().flat_map(|label| labels[label]["clicks"].as_array().unwrap())
}

fn number(value: &Value) -> u32 {
    value.as_u64().unwrap().try_into().unwrap()
}

/// A label of the CT on the crop that is made around it.
fn cropped(prepared: &Prepared, labels: &Volume, label: f32) -> Vec<u8> {
    let label: Vec<u8> = labels.voxels().iter().map(|v| u8::from(v == label)).collect();
    let here = prepared.map().gather(&label, NearestMode::NearestExact).unwrap();
    let here: Vec<i16> = here.into_iter().map(i16::from).collect();
    let region = foreground_box(&here.into(), prepared.shape(), 0.0).unwrap().unwrap();
    let start = crop_around(region, ROI);
    let crop = prepared.then(&[Step::Window { start, shape: ROI }]).unwrap();
    crop.map().gather(&label, NearestMode::NearestExact).unwrap()
}

#[test]
fn the_generator_draws_what_the_script_drew() {
    for (name, _) in RECORDED {
        let pipeline = pipeline(name);
        let check = &pipeline["np_randint_check"];
        let mut random = RandomState::new(number(&check["seed"]));
        for call in check["calls"].as_array().unwrap() {
            assert_eq!(random.randint(number(&call[0])), number(&call[1]), "{name}");
        }
        for (run, count) in [("clicks1", 2), ("clicks3", 6)] {
            let mut random = RandomState::new(number(&pipeline["runs"][run]["seed"]));
            assert_eq!(clicks(&pipeline, run).count(), count);
            for click in clicks(&pipeline, run) {
                let drawn = &click["randint_n_and_result"];
                assert_eq!(random.randint(number(&drawn[0])), number(&drawn[1]), "{name} {run}");
            }
        }
    }
}

#[test]
fn the_first_click_into_each_label_is_the_recorded_one() {
    let (ct, labels) = (volume("ct.nii.gz"), volume("label.nii.gz"));
    for (name, recipe) in RECORDED {
        let (prepared, pipeline) = (recipe.apply(&ct, None).unwrap(), pipeline(name));
        let mut random = RandomState::new(233);
        for (recorded, label) in clicks(&pipeline, "clicks1").zip([1.0, 2.0]) {
            let truth = cropped(&prepared, &labels, label);
            let click = next_click(&vec![0; truth.len()], &truth, ROI, &mut random);
            let cell = [0, 1, 2].map(|n| number(&recorded["point"][n]) as usize);
            assert_eq!(click, Some(Click { cell, positive: true }), "{name} {label}");
        }
    }
}

#[test]
fn later_clicks_are_positive_in_the_label_and_negative_beside_it() {
    let (ct, labels) = (volume("ct.nii.gz"), volume("label.nii.gz"));
    for (name, recipe) in RECORDED {
        let (prepared, pipeline) = (recipe.apply(&ct, None).unwrap(), pipeline(name));
        let mut both = [0; 2];
        for label in [1_u8, 2] {
            let truth = cropped(&prepared, &labels, f32::from(label));
            let recorded = &pipeline["runs"]["clicks3"]["labels"][label.to_string()]["clicks"];
            for click in recorded.as_array().unwrap() {
                let cell @ [x, y, z] = [0, 1, 2].map(|n| number(&click["point"][n]) as usize);
                // A mask that is wrong in this cell alone.
                let mut mask = truth.clone();
                let index = (x * 128 + y) * 128 + z;
                mask[index] = 1 - mask[index];
                let positive = number(&click["label"]) == 1;
                let found = next_click(&mask, &truth, ROI, &mut RandomState::new(0));
                assert_eq!(found, Some(Click { cell, positive }), "{name} {label}");
                both[usize::from(positive)] += 1;
            }
        }
        assert!(both.iter().all(|count| 0 < *count), "{both:?}");
    }
}
