use std::fs;

use r1seg::volume::{Geometry, ReadOptions, Volume, read};
use r1seg::volume::{Overwrite, write_volume};
use serde_json::{Value, json};

use crate::{Desk, data};

/// A desk with a recorded model of `tests/data` and the volume of its recording.
async fn recorded(case: &str, volume: &str) -> Desk {
    let desk = Desk::serving(&[&data(case)]).await;
    fs::copy(data(&format!("{case}/golden/{volume}")), desk.scan(volume)).unwrap();
    desk
}

fn voxels(outcome: &Value) -> Vec<u64> {
    let masks = outcome["masks"].as_array().unwrap();
    masks.iter().map(|mask| mask["voxels"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn texts_points_and_boxes_are_segmented_each_as_a_label_of_its_own() {
    let desk = recorded("segvol", "volume.npy").await;
    let points = json!([
        { "voxel": [20, 30, 5] },
        { "voxel": [22, 31, 6], "positive": true },
        { "voxel": [3, 3, 1], "positive": false },
    ]);
    let region = json!([[12, 10, 3], [50, 40, 12]]);
    let args = json!({
        "volume": "volume.npy",
        "mode": "resize",
        "targets": [
            { "text": "liver" },
            { "organ": "Milz" },
            { "points": points, "name": "cyst" },
            { "box": region },
            { "text": "left kidney", "box": region },
        ],
    });
    let outcome = desk.get("segment_volume", args).await;
    let answers = outcome["answers"].as_array().unwrap();
    let prompts: Vec<_> = answers.iter().map(|answer| answer["prompt"].as_str().unwrap()).collect();
    assert_eq!(prompts, ["liver", "spleen", "cyst", "target 4", "left kidney"]);
    assert!(answers.iter().all(|answer| answer["text"].is_null()), "{outcome:#}");
    let names: Vec<_> = outcome["masks"].as_array().unwrap().iter().map(|m| &m["name"]).collect();
    assert_eq!(names, ["liver", "spleen", "cyst", "target 4", "left kidney"]);
    // An array says nothing in mm.
    assert!(outcome["masks"][0]["volume_ml"].is_null());
    let files: Vec<_> =
        outcome["files"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect();
    assert!(!files.contains(&"answer.txt") && files.contains(&"report.json"), "{files:?}");
}

#[tokio::test]
async fn voxels_of_an_agent_are_those_of_the_file() {
    let desk = recorded("segvol", "volume.npy").await;
    let text =
        json!({ "volume": "volume.npy", "mode": "resize", "targets": [{ "text": "liver" }] });
    let spacing = [text, json!({ "read": { "spacing_mm": [0.5, 1.0, 4.0] } })];
    let mut with_spacing = spacing[0].clone();
    with_spacing["read"] = spacing[1]["read"].clone();
    let plain = desk.get("segment_volume", spacing[0].clone()).await;
    let measured = desk.get("segment_volume", with_spacing).await;
    assert_eq!(voxels(&plain), voxels(&measured));
    let ml = measured["masks"][0]["volume_ml"].as_f64().unwrap();
    assert!((ml - voxels(&plain)[0] as f64 * 2.0 / 1000.0).abs() < 1e-6, "{measured:#}");
    // i is the fastest axis, which has 64 voxels; k has 16.
    let bbox = &measured["masks"][0]["bbox"];
    assert!(bbox[1][2].as_u64().unwrap() < 16, "{bbox}");
}

#[tokio::test]
async fn an_earlier_mask_is_corrected() {
    let desk = recorded("sam-med3d", "ct.nii.gz").await;
    let volume = read(desk.scan("ct.nii.gz"), &ReadOptions::default()).unwrap().volume;
    let [d, h, w] = volume.shape();
    let middle = json!([w / 2, h / 2, d / 2]);
    let clicked = json!({
        "volume": "ct.nii.gz",
        "targets": [{ "name": "object", "points": [{ "voxel": middle }] }],
    });
    let first = desk.get("segment_volume", clicked).await;
    assert_eq!(first["masks"][0]["name"], "object");
    let file = first["files"].as_array().unwrap().iter().find(|f| f["name"] == "mask.nii.gz");
    let file = file.unwrap()["location"].clone();
    if voxels(&first)[0] == 0 {
        return;
    }
    let corrected = json!({
        "volume": "ct.nii.gz",
        "targets": [{
            "points": [{ "voxel": middle, "positive": true }],
            "mask": { "file": file, "label": 1 },
        }],
    });
    let second = desk.get("segment_volume", corrected).await;
    assert_eq!(second["answers"].as_array().unwrap().len(), 1);
    // A mask of another grid is not a mask of this volume.
    let other = Volume::new(vec![1.0; 4096], Geometry::with_spacing([16; 3], [1.0; 3]).unwrap());
    write_volume(desk.scan("other.nii.gz"), &other.unwrap(), Overwrite::Refuse).unwrap();
    let args = json!({
        "volume": "ct.nii.gz",
        "targets": [{ "mask": { "file": "other.nii.gz" } }],
    });
    assert_eq!(desk.fails("segment_volume", args).await["code"], "R-GEO-02");
}

#[tokio::test]
async fn a_language_model_segments_organs_by_name() {
    let desk = Desk::demo().await;
    let args = json!({ "volume": "ct.nii.gz", "targets": [{ "organ": "Leber" }] });
    let outcome = desk.get("segment_volume", args).await;
    assert_eq!(outcome["masks"][0]["name"], "liver");
    assert!(outcome["answers"][0]["text"].as_str().unwrap().contains("[SEG]"), "{outcome:#}");
}
