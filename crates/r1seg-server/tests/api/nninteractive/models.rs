//! What each model is served with.

use std::time::Duration;

use r1seg::{Prompt, PromptPoint};
use r1seg_server::{Config, Server, ViewerSessions};
use serde_json::json;

use super::{expected, segvol, sent, viewers, voxels};
use crate::support::{Running, Viewer, demo, metric, recorded};

#[test]
fn capabilities_say_what_a_model_takes() {
    let own = segvol().client().get("/capabilities").json();
    let tools = &own["supported_interactions"];
    assert_eq!(
        *tools,
        json!({"points": true, "bbox2d": false, "bbox3d": true, "scribble": false, "lasso": false})
    );
    assert_eq!(own["supports_initial_label"], false);
    assert_eq!(own["supports_undo"], true);
    assert_eq!(own["preferred_scribble_thickness"].as_array().unwrap().len(), 3);
    assert!(own["license"].as_str().unwrap().contains("research use only"));

    let server = Running::of(vec![recorded("sam-med3d")], viewers);
    let own = server.client().get("/capabilities").json();
    assert_eq!(own["supported_interactions"]["bbox3d"], false);
    assert_eq!(own["supports_initial_label"], true);
}

#[test]
fn sam_med3d_clicks_on_from_its_logits_and_from_an_earlier_mask() {
    let spacing = [0.79, 0.81, 2.53];
    let server = Running::of(vec![recorded("sam-med3d")], viewers);
    let (client, volume) = (server.client(), sent("sam-med3d/golden/ct.nii.gz", Some(spacing)));
    let model = recorded("sam-med3d").model;
    // In one of the organs of the recorded CT, and beside it.
    let (inside, beside) = ([73, 174, 20], [73, 184, 20]);
    let at = |voxel: [usize; 3]| voxel.map(|n| n as f64);

    let viewer = Viewer::claim(&client);
    let refused = viewer.set_image(&volume, None);
    assert_eq!(refused.status, 400);
    assert!(refused.reason.contains("without a spacing"), "{}", refused.reason);
    assert_eq!(viewer.try_point(at(inside), true).reason, "no image was sent yet");
    viewer.post("/release", &json!({}));

    // Of a spacing that is negative only the length is meant.
    let mut viewer = Viewer::with_image(&client, &volume, Some(spacing.map(|mm: f64| -mm)));
    let refused = viewer.try_point(at(inside), false);
    assert_eq!(refused.status, 400);
    assert!(refused.reason.contains("every point is negative"), "{}", refused.reason);

    let mut session = model.encode(&volume).unwrap().session();
    let mut run = r1seg::RunContext::default();
    let first = session.click(PromptPoint::positive(inside), &mut run).unwrap().mask.unwrap();
    let second = session.click(PromptPoint::negative(beside), &mut run).unwrap().mask.unwrap();
    assert!(first != second);
    viewer.point(at(inside), true);
    assert!(voxels(&viewer.buffer) > 0 && viewer.buffer == first.data());
    viewer.point(at(beside), false);
    assert!(viewer.buffer == second.data());
    assert!(viewer.undo() && viewer.buffer == first.data());

    // What napari does when a session was lost: another one begins with the mask so far.
    let mask = viewer.buffer.clone();
    viewer.post("/release", &json!({}));
    let mut viewer = Viewer::with_image(&client, &volume, Some(spacing));
    let seeded = viewer.seed(&mask, false);
    viewer.buffer.clone_from(&mask);
    assert_eq!(viewer.apply(&seeded), (false, None));
    viewer.point(at(beside), false);
    let prompt = Prompt::default()
        .with_mask(std::sync::Arc::new(first))
        .with_point(PromptPoint::negative(beside));
    assert!(viewer.buffer == expected(&model, &volume, &prompt));
    assert!(viewer.undo() && viewer.buffer == mask);
}

#[test]
fn vista3d_takes_points_without_a_class() {
    let spacing = [1.5, 1.2, 1.3];
    let server = Running::of(vec![recorded("vista3d")], viewers);
    let (client, volume) = (server.client(), sent("vista3d/golden/ct.nii.gz", Some(spacing)));
    let model = recorded("vista3d").model;
    let mut viewer = Viewer::with_image(&client, &volume, Some(spacing));
    let prompt = Prompt::default().with_point(PromptPoint::positive([23, 36, 29]));
    viewer.point([23.0, 36.0, 29.0], true);
    assert!(voxels(&viewer.buffer) > 0);
    assert!(viewer.buffer == expected(&model, &volume, &prompt));
    viewer.point([18.0, 30.0, 33.0], false);
    let prompt = prompt.with_point(PromptPoint::negative([18, 30, 33]));
    assert!(viewer.buffer == expected(&model, &volume, &prompt));
    let refused = viewer.try_box([[2.0, 9.0]; 3], true);
    assert_eq!((refused.status, &*refused.reason), (400, "boxes are not supported by this model"));
}

#[test]
fn what_was_encoded_for_a_session_makes_room_and_is_made_again() {
    let server = Running::of(vec![recorded("segvol")], |config| {
        viewers(config);
        // Less than one of them takes.
        config.limits.max_cache_bytes = 1;
    });
    let (client, volume) = (server.client(), sent("segvol/golden/volume.npy", None));
    let mut viewer = Viewer::with_image(&client, &volume, None);
    viewer.point([6.0, 20.0, 31.0], true);
    let one = viewer.buffer.clone();
    viewer.point([12.0, 50.0, 10.0], true);
    assert!(viewer.buffer != one);
    assert!(viewer.undo() && viewer.buffer == one);
    assert_eq!(metric(&client, "r1seg_cache_bytes"), 0.0);
    assert!(metric(&client, "r1seg_cache_misses_total") >= 3.0);
}

#[test]
fn a_server_without_a_model_for_clicks_does_not_begin_to_serve_them() {
    let refused = |models, set: fn(&mut ViewerSessions)| {
        let mut config = Config::default();
        viewers(&mut config);
        set(&mut config.sessions);
        Server::new(config, models).map(drop).unwrap_err()
    };
    for models in [vec![demo()], vec![recorded("r1seg-3dsam")]] {
        let error = refused(models, |_| {});
        assert_eq!(error.code(), "R-SRV-21");
        assert!(error.to_string().contains("points and boxes"), "{error}");
    }
    let error = refused(vec![recorded("segvol")], |s| s.mode = Some(r1seg::InferenceMode::Sliding));
    assert!(error.to_string().contains("segvol") && error.code() == "R-SRV-21", "{error}");
    let error = refused(vec![recorded("segvol")], |s| s.liveness = Duration::from_secs(3));
    assert_eq!(error.code(), "R-SRV-24");
}
