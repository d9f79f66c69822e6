//! Volumes: uploaded, described, drawn, deleted.

use serde_json::json;

use crate::support::{Running, liver, phantom, uploaded};

#[test]
fn an_upload_is_described_as_inspect_would() {
    let client = Running::shared().client();
    let bytes = phantom(1);
    let reply = client.form(
        "/v1/volumes",
        &[("file", Some("../../odd/ct.nii.gz"), &bytes), ("frame", None, b"")],
    );
    assert_eq!(reply.status, 201, "{}", reply.text());
    let volume = reply.json();
    assert_eq!(volume["name"], "ct.nii.gz");
    assert_eq!(volume["kind"], "nifti-1");
    assert_eq!(volume["shape"], json!([64, 64, 16]));
    assert_eq!(volume["orientation"], "LPS");
    assert_eq!(volume["bytes"], bytes.len());
    assert_eq!(volume["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(volume["is_hu"], false);
    assert!(volume["expires"].as_u64() > volume["created"].as_u64());
    let id = volume["id"].as_str().unwrap();
    assert!(id.starts_with("vol_") && id.len() == 36, "{id}");
    let again = client.get(&format!("/v1/volumes/{id}"));
    assert_eq!((again.status, again.json()["shape"].clone()), (200, volume["shape"].clone()));
}

#[test]
fn a_volume_comes_back_on_its_own_grid_and_as_slices() {
    let client = Running::shared().client();
    let id = uploaded(&client, 2);
    let file = client.get(&format!("/v1/volumes/{id}/volume.nii.gz"));
    assert_eq!((file.status, file.header("content-type")), (200, Some("application/gzip")));
    // What comes back can be uploaded again, and is the same volume.
    let again = client.upload("volume.nii.gz", &file.body).json();
    let first = client.get(&format!("/v1/volumes/{id}")).json();
    for field in ["shape", "spacing_mm", "orientation", "intensity_range"] {
        assert_eq!(again[field], first[field], "{field}");
    }
    for query in ["", "?axis=coronal&index=3", "?axis=sagittal&level=0.5&width=1&size=64"] {
        let png = client.get(&format!("/v1/volumes/{id}/slice.png{query}"));
        assert_eq!((png.status, png.header("content-type")), (200, Some("image/png")), "{query}");
        assert!(png.body.starts_with(b"\x89PNG"));
    }
    for query in [
        "?axis=diagonal",
        "?index=-1",
        "?index=x",
        "?level=1",
        "?level=1&width=0",
        "?level=NaN&width=1",
        "?size=1",
        "?size=100000",
        "?path=/etc/passwd",
    ] {
        let refused = client.get(&format!("/v1/volumes/{id}/slice.png{query}"));
        assert_eq!(refused.status, 422, "{query}: {}", refused.text());
    }
}

#[test]
fn a_phantom_is_drawn_for_the_demo_model() {
    let client = Running::shared().client();
    let reply = client.post("/v1/volumes/phantom", &json!({"seed": 7}));
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert_eq!(reply.json()["shape"], json!([256, 256, 32]));
    assert_eq!(reply.json()["name"], "phantom-7.nii.gz");
    for body in [json!({}), json!({"seed": -1}), json!({"seed": 1, "path": "/x"}), json!([])] {
        assert_eq!(client.post("/v1/volumes/phantom", &body).status, 422, "{body}");
    }
}

#[test]
fn an_array_gets_the_spacing_that_is_sent_along() {
    let client = Running::shared().client();
    // A header of numpy and 8 x 8 x 8 bytes.
    let mut npy = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (8, 8, 8), }";
    npy.extend_from_slice(format!("{header:<117}\n").as_bytes());
    npy.extend((0..512).map(|n| (n % 251) as u8));
    let with = |spacing: &[u8]| {
        client.form("/v1/volumes", &[("file", Some("a.npy"), &npy), ("spacing", None, spacing)])
    };
    let reply = with(b"0.5,1,2");
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert_eq!(reply.json()["spacing_mm"], json!([0.5, 1.0, 2.0]));
    assert_eq!(with(b"0.5,1").status, 422);
    let bare = client.upload("a.npy", &npy).json();
    assert_eq!((&bare["kind"], &bare["spacing_mm"]), (&json!("npy"), &json!(null)));
    // Masks of it are arrays, too, and NIfTI where somebody asks for that.
    let id = bare["id"].as_str().unwrap();
    let found = client.post("/v1/segment", &liver(id));
    assert_eq!(found.status, 200, "{}", found.text());
    let file = client.get(&format!("/v1/volumes/{id}/volume.nii.gz"));
    assert_eq!(file.status, 200, "{}", file.text());
}

#[test]
fn a_deleted_volume_takes_its_files_and_results_with_it() {
    let running = Running::start(|_| {});
    let client = running.client();
    let id = uploaded(&client, 3);
    let found = client.post("/v1/segment", &liver(&id)).json();
    let result = found["id"].as_str().unwrap();
    assert!(!running.files().is_empty());
    assert_eq!(client.delete(&format!("/v1/volumes/{id}")).status, 204);
    for path in [
        format!("/v1/volumes/{id}"),
        format!("/v1/volumes/{id}/volume.nii.gz"),
        format!("/v1/volumes/{id}/slice.png"),
        format!("/v1/results/{result}"),
        format!("/v1/masks/{result}.nii.gz"),
    ] {
        assert_eq!(client.get(&path).status, 404, "{path}");
    }
    assert_eq!(client.delete(&format!("/v1/volumes/{id}")).status, 404);
    assert_eq!(running.files(), Vec::<std::path::PathBuf>::new());
    let metrics = client.get("/metrics").text();
    for line in ["r1seg_stored_bytes 0", "r1seg_memory_bytes 0", "r1seg_cache_bytes 0"] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

#[test]
fn a_folder_of_slices_needs_a_choice_where_it_has_several_series() {
    let client = Running::shared().client();
    let series = |number: u8| {
        (0..5_u8).map(move |slice| (format!("s{number}_{slice}.dcm"), dicom(number, slice)))
    };
    let files: Vec<_> = series(1).chain(series(2)).collect();
    let parts: Vec<_> =
        files.iter().map(|(name, bytes)| ("file", Some(name.as_str()), bytes.as_slice())).collect();
    let choice = client.form("/v1/volumes", &parts);
    assert_eq!((choice.status, choice.code().as_str()), (409, "R-DCM-02"), "{}", choice.text());
    let listed = choice.json()["error"]["series"].clone();
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");
    assert!(choice.json()["error"]["fix"].as_str().unwrap().contains("`series`"));

    let mut chosen = parts.clone();
    chosen.push(("series", None, b"2"));
    let reply = client.form("/v1/volumes", &chosen);
    assert_eq!(reply.status, 201, "{}", reply.text());
    let volume = reply.json();
    assert_eq!((&volume["kind"], &volume["name"]), (&json!("dicom"), &json!("10 files")));
    assert_eq!((&volume["series"]["number"], &volume["series"]["of"]), (&json!(2), &json!(2)));
    assert_eq!(volume["shape"], json!([8, 8, 5]));
}

/// A slice of a CT, explicit little endian.
fn dicom(series: u8, slice: u8) -> Vec<u8> {
    let mut file = vec![0; 128];
    file.extend_from_slice(b"DICM");
    let mut element = |group: u16, element: u16, vr: &str, value: &[u8]| {
        let mut value = value.to_vec();
        if value.len() % 2 == 1 {
            value.push(if vr == "UI" { 0 } else { b' ' });
        }
        file.extend_from_slice(&group.to_le_bytes());
        file.extend_from_slice(&element.to_le_bytes());
        file.extend_from_slice(vr.as_bytes());
        if ["OB", "OW"].contains(&vr) {
            file.extend_from_slice(&[0, 0]);
            file.extend_from_slice(&u32::try_from(value.len()).unwrap().to_le_bytes());
        } else {
            file.extend_from_slice(&u16::try_from(value.len()).unwrap().to_le_bytes());
        }
        file.extend_from_slice(&value);
    };
    element(2, 0x10, "UI", b"1.2.840.10008.1.2.1");
    element(8, 0x16, "UI", b"1.2.840.10008.5.1.4.1.1.2");
    element(8, 0x18, "UI", format!("1.2.3.{series}.{}", slice + 1).as_bytes());
    element(8, 0x60, "CS", b"CT");
    element(0x20, 0xd, "UI", b"1.2.3");
    element(0x20, 0xe, "UI", format!("1.2.3.{series}").as_bytes());
    element(0x20, 0x13, "IS", format!("{}", slice + 1).as_bytes());
    element(0x20, 0x32, "DS", format!("0\\0\\{}", u32::from(slice) * 2).as_bytes());
    element(0x20, 0x37, "DS", b"1\\0\\0\\0\\1\\0");
    element(0x28, 0x2, "US", &1_u16.to_le_bytes());
    element(0x28, 0x4, "CS", b"MONOCHROME2");
    element(0x28, 0x10, "US", &8_u16.to_le_bytes());
    element(0x28, 0x11, "US", &8_u16.to_le_bytes());
    element(0x28, 0x30, "DS", b"1\\1");
    element(0x28, 0x100, "US", &16_u16.to_le_bytes());
    element(0x28, 0x101, "US", &16_u16.to_le_bytes());
    element(0x28, 0x102, "US", &15_u16.to_le_bytes());
    element(0x28, 0x103, "US", &1_u16.to_le_bytes());
    element(0x28, 0x1052, "DS", b"-1024");
    element(0x28, 0x1053, "DS", b"1");
    let pixels: Vec<u8> =
        (0..64_u16).flat_map(|n| (n * 20 + u16::from(slice)).to_le_bytes()).collect();
    element(0x7fe0, 0x10, "OW", &pixels);
    file
}
