//! A session from its beginning to its end.

use std::time::{Duration, Instant};

use r1seg::volume::Region;
use r1seg::{Prompt, PromptPoint};
use serde_json::json;

use super::{expected, hull, segvol, sent, viewers, voxels};
use crate::support::{
    Client, LIVER, Running, Viewer, demo, eventually, metric, recorded, uploaded,
};

/// A point that SegVol's recorded prompts have, between two voxels as napari sends it.
const INSIDE: [f64; 3] = [6.199_999_809, 20.5, 31.0];

#[test]
fn every_prompt_gives_the_mask_that_the_library_gives_and_can_be_taken_back() {
    let (server, volume) = (segvol(), sent("segvol/golden/volume.npy", None));
    let model = recorded("segvol").model;
    let client = server.client();
    let mut viewer = Viewer::with_image(&client, &volume, None);
    assert!(!viewer.undo(), "there is nothing to take back");

    let first = Prompt::default().with_point(PromptPoint::positive([6, 20, 31]));
    let (ran, region) = viewer.point(INSIDE, true);
    let one = expected(&model, &volume, &first);
    assert!(ran && voxels(&one) > 0 && viewer.buffer == one);
    assert_eq!(region, hull(&one, volume.shape()));

    let both = first.with_point(PromptPoint::positive([12, 50, 10]));
    viewer.point([12.0, 50.0, 10.0], true);
    let two = expected(&model, &volume, &both);
    assert!(viewer.buffer == two && two != one);
    assert!(viewer.undo() && viewer.buffer == one);
    assert!(!viewer.undo() && viewer.buffer == one);

    // Prompts that wait change nothing until they run, together.
    let body =
        json!({"coordinates": [12, 50, 10], "include_interaction": true, "run_prediction": false});
    let reply = viewer.post("/add_point_interaction", &body);
    assert_eq!(viewer.apply(&reply), (false, None));
    assert!(viewer.buffer == one);
    assert!(viewer.predict().0 && viewer.buffer == two);
    assert_eq!(viewer.predict(), (false, None));
    assert!(viewer.undo() && viewer.buffer == one);

    viewer.reset();
    assert!(viewer.point(INSIDE, true).0 && viewer.buffer == one);

    viewer.reset();
    let region = Region { start: [2, 10, 12], end: [12, 40, 50] };
    let reply = viewer.try_box([[1.6, 12.4], [10.0, 40.0], [12.0, 50.0]], true);
    assert!(viewer.apply(&reply).0);
    assert!(viewer.buffer == expected(&model, &volume, &Prompt::default().with_region(region)));

    // Another buffer, of wider numbers, is empty again.
    viewer.set_target("int32");
    assert!(viewer.point(INSIDE, true).0 && viewer.buffer == one);

    assert_eq!(viewer.post("/release", &json!({})).json(), json!({"released": true}));
    assert_eq!(viewer.post("/heartbeat", &json!({})).status, 410);
    assert_eq!(viewer.post("/release", &json!({})).status, 200);
}

#[test]
fn what_comes_before_an_image_is_answered() {
    let viewer = Viewer::claim(&segvol().client());
    assert_eq!(viewer.post("/set_do_autozoom", &json!({"do_autozoom": true})).json(), json!({}));
    assert_eq!(viewer.post("/reset_interactions", &json!({})).json(), json!({}));
    for path in ["/undo", "/predict"] {
        let reply = viewer.post(path, &json!({}));
        assert_eq!(
            reply.header("x-meta"),
            Some(r#"{"ran_prediction":false,"bbox":null}"#),
            "{path}"
        );
    }
    let left = viewer.post("/heartbeat", &json!({})).json()["remaining_seconds"].as_f64().unwrap();
    assert!((590.0..=600.0).contains(&left), "{left}");
    let status = viewer.get("/lease_status").json();
    assert_eq!(status["idle_timeout_seconds"], 600.0);
    let reply = viewer.try_point([1.0; 3], true);
    assert_eq!((reply.status, &*reply.reason), (400, "no image was sent yet"));
    viewer.post("/release", &json!({}));
}

#[test]
fn a_session_whose_user_does_nothing_ends_and_its_place_is_free() {
    let server = Running::of(vec![recorded("segvol")], |config| {
        viewers(config);
        config.sessions.max_sessions = 1;
        config.sessions.idle = Duration::from_secs(2);
    });
    let (client, volume) = (server.client(), sent("segvol/golden/volume.npy", None));
    let viewer = Viewer::with_image(&client, &volume, None);
    let begin = Instant::now();
    let full = client.send("POST", "/claim", "", b"");
    assert_eq!((full.status, full.header("retry-after")), (503, Some("10")));
    assert_eq!(full.json()["detail"], "all 1 sessions of this server are taken");
    // Signs of life do not keep it.
    eventually("the session ends", || viewer.post("/heartbeat", &json!({})).status == 410);
    assert!(begin.elapsed() > Duration::from_secs(1));
    let reply = viewer.try_point([6.0, 20.0, 31.0], true);
    assert_eq!(reply.status, 410);
    assert!(reply.json()["detail"].as_str().unwrap().contains("ended"));
    eventually("it is swept", || metric(&client, "r1seg_sessions") == 0.0);
    assert_eq!(metric(&client, "r1seg_cache_bytes"), 0.0);
    assert_eq!(metric(&client, "r1seg_memory_bytes"), 0.0);
    // It is resumed as another one.
    let mut again = Viewer::with_image(&client, &volume, None);
    assert!(again.point([6.0, 20.0, 31.0], true).0);
}

#[test]
fn signs_of_life_are_answered_while_a_model_is_at_work() {
    let server = Running::of(vec![recorded("segvol"), demo()], viewers);
    let (client, volume) = (server.client(), sent("segvol/golden/volume.npy", None));
    let mut viewer = Viewer::with_image(&client, &volume, None);
    let twin = viewer.twin();
    let stream = busy(&client);
    std::thread::scope(|scope| {
        let predicting = scope.spawn(|| viewer.point([6.0, 20.0, 31.0], true).0);
        eventually("the prompt waits", || metric(&client, "r1seg_queue_depth") == 1.0);
        for _ in 0..3 {
            let begin = Instant::now();
            assert_eq!(twin.post("/heartbeat", &json!({})).status, 200);
            assert_eq!(twin.get("/lease_status").status, 200);
            assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
        }
        // The model is free once nobody waits for the answers.
        drop(stream);
        assert!(predicting.join().unwrap());
    });
}

#[test]
fn a_session_that_is_released_takes_its_prompt_with_it() {
    let server = Running::of(vec![recorded("segvol"), demo()], viewers);
    let (client, volume) = (server.client(), sent("segvol/golden/volume.npy", None));
    let viewer = Viewer::with_image(&client, &volume, None);
    let stream = busy(&client);
    let before = metric(&client, "r1seg_memory_bytes");
    std::thread::scope(|scope| {
        let prompt = scope.spawn(|| viewer.try_point([6.0, 20.0, 31.0], true).status);
        eventually("the prompt waits", || metric(&client, "r1seg_queue_depth") == 1.0);
        assert_eq!(viewer.post("/release", &json!({})).status, 200);
        drop(stream);
        assert_eq!(prompt.join().unwrap(), 410);
    });
    eventually("its image is gone", || metric(&client, "r1seg_memory_bytes") < before);
}

/// Keeps the models at work for somebody else, until the stream is dropped.
fn busy(client: &Client) -> impl Sized {
    let id = uploaded(client, 3);
    let prompts: Vec<_> = (0..24).map(|_| json!({"question": LIVER})).collect();
    let busy = json!({"model": "demo", "volume": id, "prompts": prompts, "stream": true});
    client.begin("/v1/segment", &busy, 8)
}

#[test]
fn two_hundred_sessions_leave_nothing_behind() {
    let server = Running::of(vec![recorded("segvol")], viewers);
    let (client, volume) = (server.client(), sent("segvol/golden/volume.npy", None));
    for n in 0..200 {
        let mut viewer = Viewer::with_image(&client, &volume, None);
        if n % 40 == 0 {
            assert!(viewer.point([6.0, 20.0, 31.0], true).0);
        }
        assert_eq!(viewer.post("/release", &json!({})).status, 200);
    }
    for name in ["sessions", "memory_bytes", "cache_bytes", "stored_bytes", "queue_depth"] {
        assert_eq!(metric(&client, &format!("r1seg_{name}")), 0.0, "{name}");
    }
    assert_eq!(server.files(), Vec::<std::path::PathBuf>::new());
    assert_eq!(
        std::fs::read_dir(server.folder.path()).unwrap().count(),
        1,
        "the server's own folder"
    );
}
