//! Bytes that no plug-in sends.

use r1seg_viewers::ElementType;
use serde_json::json;

use super::{sent, viewers};
use crate::support::{Running, Viewer, array, metric, recorded};

/// A generator that is the same on every machine.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        })
        .collect()
}

#[test]
fn arrays_that_lie_are_refused_before_memory_is_taken() {
    let server = Running::of(vec![recorded("segvol")], viewers);
    let client = server.client();
    let viewer = Viewer::claim(&client);
    let good = array(ElementType::I16, &[1, 8, 8, 8], noise(7, 1024));
    let mut bodies: Vec<Vec<u8>> = (0..40).map(|seed| noise(seed + 1, 300)).collect();
    bodies.push(Vec::new());
    for at in 0..good.len() {
        bodies.push(good[..at].to_vec());
        let mut changed = good.clone();
        changed[at] ^= 0x81;
        bodies.push(changed);
    }
    // Sides of 2^20 voxels, in the place of those that are there.
    let name = "int16".len();
    let mut huge = good.clone();
    for axis in 1..4 {
        let at = 8 + name + 8 * axis;
        huge[at..at + 8].copy_from_slice(&(1_i64 << 20).to_le_bytes());
    }
    let reply = viewer.send("/set_image", &json!({}), &huge);
    assert_eq!(reply.status, 413, "{}", reply.reason);
    for body in &bodies {
        let reply = viewer.send("/set_image", &json!({}), body);
        assert!([200, 400, 413].contains(&reply.status), "{} {}", reply.status, reply.text());
    }
    assert_eq!(metric(&client, "r1seg_panics_total"), 0.0);
    assert_eq!(viewer.send("/set_image", &json!({}), &good).status, 200);
    viewer.post("/release", &json!({}));
    assert_eq!(metric(&client, "r1seg_memory_bytes"), 0.0);
}

#[test]
fn requests_that_are_no_requests_are_refused_and_the_session_goes_on() {
    let server = Running::of(vec![recorded("segvol")], viewers);
    let (client, volume) = (server.client(), sent("segvol/golden/volume.npy", None));
    let mut viewer = Viewer::with_image(&client, &volume, None);
    for path in [
        "/set_target_buffer",
        "/set_do_autozoom",
        "/add_point_interaction",
        "/add_bbox_interaction",
    ] {
        for body in [
            json!({}),
            json!(null),
            json!([1, 2, 3]),
            json!({"coordinates": "x", "include_interaction": 1, "shape": "y", "do_autozoom": 3}),
            json!({"coordinates": [1e308, -1e308, 0], "include_interaction": true}),
            json!({"bbox_coords": [[0, 1], [2, 3]], "include_interaction": true}),
            json!({"bbox_coords": [[1e308, 1], [2, 3], [4, -1e308]], "include_interaction": true}),
            json!({"shape": [-1, 2, 3], "dtype": "uint8"}),
            json!({"shape": [16, 64, 64], "dtype": "complex128"}),
        ] {
            let reply = viewer.post(path, &body);
            assert_eq!(reply.status, 400, "{path} {body}: {}", reply.text());
        }
    }
    let meta = json!({"run_prediction": "x"});
    let lied = array(ElementType::U8, &[16, 64, 63], vec![1; 16 * 64 * 63]);
    assert_eq!(viewer.send("/add_initial_seg_interaction", &meta, &lied).status, 400);
    let long = json!({"image_properties": {"spacing": vec![1.0; 2000]}});
    assert_eq!(viewer.send("/set_image", &long, b"").status, 400);
    assert!(viewer.point([6.0, 20.0, 31.0], true).0);
    assert_eq!(metric(&client, "r1seg_panics_total"), 0.0);
}
