//! What is refused, and that the session goes on.

use r1seg_server::Keys;
use r1seg_viewers::ElementType;
use serde_json::json;

use super::{segvol, sent, viewers, voxels};
use crate::support::{KEYS, Reply, Running, Viewer, array, recorded};

const INSIDE: [f64; 3] = [6.0, 20.0, 31.0];

fn is_refused(reply: &Reply, words: &str) {
    assert_eq!(reply.status, 400, "{}", reply.text());
    assert!(reply.reason.contains(words), "{}", reply.reason);
    // A body says the same, for whoever reads it.
    assert_eq!(reply.json()["detail"], reply.reason.as_str());
}

#[test]
fn a_refused_prompt_says_why_and_leaves_the_session_as_it_was() {
    let (client, volume) = (segvol().client(), sent("segvol/golden/volume.npy", None));
    let mut viewer = Viewer::with_image(&client, &volume, None);
    is_refused(&viewer.try_point(INSIDE, false), "every point is negative");
    viewer.point(INSIDE, true);
    let one = viewer.buffer.clone();
    assert!(voxels(&one) > 0);

    is_refused(&viewer.try_point([16.0, 20.0, 31.0], true), "16 x 64 x 64");
    is_refused(&viewer.try_point([-1.0, 20.0, 31.0], true), "outside of the image");
    is_refused(&viewer.try_box([[5.0, 6.0], [9.0, 30.0], [9.0, 30.0]], true), "box in one slice");
    is_refused(&viewer.try_box([[2.0, 9.0]; 3], false), "negative boxes");
    is_refused(&viewer.try_box([[2.0, 9.0]; 3], true), "points and a box together");
    let mask = array(ElementType::U8, &[16, 64, 64], one.clone());
    for path in ["/add_scribble_interaction", "/add_lasso_interaction"] {
        let meta = json!({"include_interaction": true, "interaction_bbox": null});
        is_refused(&viewer.send(path, &meta, &mask), "scribbles and lassos");
    }
    let body = json!({"coordinates": [1, 2], "include_interaction": true});
    assert_eq!(viewer.post("/add_point_interaction", &body).status, 400);
    let body = json!({"shape": [16, 64, 64], "dtype": "float32"});
    is_refused(&viewer.post("/set_target_buffer", &body), "whole numbers");
    let body = json!({"shape": [16, 64, 65], "dtype": "uint8"});
    is_refused(&viewer.post("/set_target_buffer", &body), "shape of the image");
    let body = json!({"shape": [1 << 20, 1 << 20, 1 << 20], "dtype": "uint8"});
    assert_eq!(viewer.post("/set_target_buffer", &body).status, 413);

    // None of these was a prompt.
    assert!(viewer.undo() && voxels(&viewer.buffer) == 0);
    viewer.point(INSIDE, true);
    assert!(viewer.buffer == one);
}

#[test]
fn a_mask_that_is_refused_does_not_stay_in_the_viewer() {
    let (client, volume) = (segvol().client(), sent("segvol/golden/volume.npy", None));
    let mut viewer = Viewer::with_image(&client, &volume, None);
    viewer.point(INSIDE, true);
    let one = viewer.buffer.clone();
    viewer.reset();
    // The plug-in writes it into its own mask before it asks.
    viewer.buffer.fill(1);
    is_refused(&viewer.seed(&vec![1; one.len()], false), "corrects no masks");
    viewer.point(INSIDE, true);
    assert!(viewer.buffer == one);
}

#[test]
fn an_image_that_is_no_volume_of_a_ct_is_refused() {
    let viewer = Viewer::claim(&segvol().client());
    let send = |shape: &[usize], meta: serde_json::Value| {
        let bytes = vec![0; shape.iter().product()];
        viewer.send("/set_image", &meta, &array(ElementType::U8, shape, bytes))
    };
    is_refused(&send(&[8, 8, 8], json!({})), "four are needed");
    is_refused(&send(&[3, 8, 8, 8], json!({})), "3 channels");
    assert_eq!(send(&[1, 1, 32, 32], json!({})).status, 400);
    let spacing = json!({"image_properties": {"spacing": [0.0, 1.0, 1.0]}});
    is_refused(&send(&[1, 8, 8, 8], spacing), "three numbers");
    is_refused(&send(&[1, 8, 8, 8], json!([1])), "X-Meta");
    for element in [ElementType::I16, ElementType::F64, ElementType::Bool, ElementType::F16] {
        let bytes = vec![0; 512 * element.size()];
        let body = array(element, &[1, 8, 8, 8], bytes);
        let reply = viewer.send("/set_image", &json!({"image_properties": null}), &body);
        assert_eq!(reply.json()["original_image_shape"], json!([1, 8, 8, 8]), "{element:?}");
    }
    viewer.post("/release", &json!({}));
}

#[test]
fn a_key_is_asked_for_and_tokens_belong_to_it() {
    let server = Running::of(vec![recorded("segvol")], |config| {
        viewers(config);
        config.keys = Keys::of_lines(&KEYS.join("\n")).unwrap();
    });
    let [one, other] = KEYS.map(|key| server.client().with_key(key));
    assert_eq!(server.client().send("POST", "/claim", "", b"").status, 401);
    assert_eq!(server.client().get("/capabilities").status, 401);
    let reply = one.send("POST", "/claim", "", b"");
    let token = reply.json()["lease_token"].as_str().unwrap().to_string();
    let beat = |client: &crate::support::Client| {
        let client = client.clone().with_header("X-Lease-Token", &token);
        client.post("/heartbeat", &json!({})).status
    };
    assert_eq!((beat(&one), beat(&other), beat(&server.client())), (200, 410, 401));
    assert_eq!(one.post("/heartbeat", &json!({})).status, 410, "without a token");
}
