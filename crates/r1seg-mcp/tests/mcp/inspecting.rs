use std::fs;

use serde_json::json;

use crate::Desk;

#[tokio::test]
async fn a_volume_is_described_in_the_order_of_its_file() {
    let desk = Desk::demo().await;
    let found = desk.get("inspect_volume", json!({ "volume": "ct.nii.gz" })).await;
    assert_eq!(found["shape"], json!([256, 256, 32]));
    assert_eq!(found["orientation"], "LPS");
    let spacing = found["spacing_mm"].as_array().unwrap();
    assert!((spacing[2].as_f64().unwrap() - 8.0).abs() < 1e-6, "{found:#}");
    assert_eq!(found["kind"], "nifti-1");
    assert_eq!(found["research_use_only"], true);
    assert!(["ok", "warnings"].contains(&found["verdict"].as_str().unwrap()), "{found:#}");
    // Looking leaves nothing.
    assert!(desk.written().is_empty());
}

#[tokio::test]
async fn an_absolute_path_within_the_folder_is_read_as_well() {
    let desk = Desk::demo().await;
    let path = desk.scan("ct.nii.gz");
    let found = desk.get("inspect_volume", json!({ "volume": path })).await;
    assert_eq!(found["volume"], json!(path));
}

#[tokio::test]
async fn a_mask_is_doubted_and_a_broken_file_refused() {
    let desk = Desk::demo().await;
    let outcome = desk.get("ask_volume", crate::ask_liver()).await;
    let mask = std::path::Path::new(outcome["results"].as_str().unwrap()).join("mask.nii.gz");
    fs::copy(mask, desk.scan("mask.nii.gz")).unwrap();
    let found = desk.get("inspect_volume", json!({ "volume": "mask.nii.gz" })).await;
    assert_eq!(found["verdict"], "doubtful");
    assert!(found["looks_like"].as_str().unwrap().contains("mask"), "{found:#}");

    fs::write(desk.scan("broken.nii.gz"), [0x1f, 0x8b, 8, 0, 0]).unwrap();
    let error = desk.fails("inspect_volume", json!({ "volume": "broken.nii.gz" })).await;
    assert!(error["code"].as_str().unwrap().starts_with("R-"), "{error}");
    assert!(error["fix"].is_string(), "{error}");
}
