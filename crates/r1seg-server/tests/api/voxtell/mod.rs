//! The paths of VoxTell's server, as its plug-ins for viewers call them.

mod grids;
mod jobs;
mod refusals;

use r1seg::volume::{Overwrite, ReadOptions, Volume, read_from, write_volume};
use r1seg_server::{Config, Protocol, Served};
use r1seg_viewers::{Array, vxa2};
use serde_json::{Value, json};

use crate::support::{Client, Running, demo, phantom, recorded};

/// More than any array of these tests.
const LIMIT: u64 = 1 << 28;

fn serving(models: Vec<Served>) -> Running {
    Running::of(models, voxtell)
}

fn voxtell(config: &mut Config) {
    config.viewers = vec![Protocol::VoxTell];
}

/// The id of an image that is uploaded as a plug-in does it.
fn image(client: &Client, file: &[u8]) -> String {
    let path = "/images?include_image=false";
    let reply = client.send("POST", path, "application/octet-stream", file);
    assert_eq!((reply.status, reply.body.len()), (200, 0), "{}", reply.text());
    meta(reply.header("x-meta"))["image_id"].as_str().unwrap().to_string()
}

fn meta(header: Option<&str>) -> Value {
    serde_json::from_str(header.unwrap()).unwrap()
}

/// The id of a job that has begun.
fn begun(client: &Client, image: &str, prompts: Value) -> String {
    let reply = client.post("/jobs", &json!({"image_id": image, "prompts": prompts}));
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["job_id"].as_str().unwrap().to_string()
}

/// All events of a job, once it has ended.
fn events(client: &Client, job: &str) -> Vec<Value> {
    let reply = client.get(&format!("/jobs/{job}/events"));
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.header("content-type"), Some("application/x-ndjson"));
    let lines = reply.text();
    lines
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Runs prompts to their end: what was said on the way, and the masks.
fn run(client: &Client, image: &str, prompts: Value) -> (Vec<String>, Array) {
    let job = begun(client, image, prompts);
    let events = events(client, &job);
    assert_eq!(events.last(), Some(&json!({"status": "done"})), "{events:?}");
    let said = events.iter().filter(|event| event["event"] == "oom_fallback");
    let said = said.map(|event| event["message"].as_str().unwrap().to_string()).collect();
    (said, masks(client, &job))
}

fn masks(client: &Client, job: &str) -> Array {
    let reply = client.get(&format!("/jobs/{job}/result"));
    assert_eq!(reply.status, 200, "{}", reply.text());
    vxa2::read(&mut reply.body.as_slice(), LIMIT).unwrap()
}

/// One of several masks.
fn mask(masks: &Array, index: usize) -> &[u8] {
    let voxels: usize = masks.shape()[1..].iter().product();
    &masks.bytes()[index * voxels..][..voxels]
}

/// What the API of our own finds for the same prompts, in the order of viewers.
fn of_the_api(client: &Client, model: &Value, file: &[u8], prompts: Value) -> Vec<Vec<u8>> {
    let geometry =
        read_from(file, "ct", &ReadOptions::default()).unwrap().volume.geometry().clone();
    let volume = client.upload("ct.nii.gz", file).json()["id"].clone();
    let result =
        client.post("/v1/segment", &json!({"model": model, "volume": volume, "prompts": prompts}));
    assert_eq!(result.status, 200, "{}", result.text());
    let result = result.json();
    let path = |name: &str| format!("/v1/results/{}/files/{name}", result["id"].as_str().unwrap());
    let found = |answer: &Value| {
        let Some(label) = answer["labels"][0].as_u64() else { return vec![0; geometry.voxels()] };
        let mask = result["masks"].as_array().unwrap().iter().find(|mask| mask["label"] == label);
        let file = client.get(&path(mask.unwrap()["file"].as_str().unwrap())).body;
        let volume = read_from(&file[..], "mask", &ReadOptions::default()).unwrap().volume;
        volume.voxels().iter().map(|value| u8::from(value == label as f32)).collect()
    };
    let answers = result["answers"].as_array().unwrap();
    answers.iter().map(|answer| grids::canonical(&found(answer), &geometry)).collect()
}

/// A volume as the bytes of a file.
fn file_of(volume: &Volume, name: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    write_volume(&path, volume, Overwrite::Refuse).unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn viewers_find_the_server_and_what_it_can_do() {
    let client = serving(vec![demo()]);
    let client = client.client();
    assert_eq!(client.get("/healthz").json(), json!({"ok": true}));
    let known = client.get("/capabilities").json();
    assert_eq!((&known["model"], &known["available_embeddings"]), (&json!("demo"), &json!([])));
    assert_eq!(known["patch_size"].as_array().unwrap().len(), 3);
}

#[test]
fn a_server_of_both_protocols_says_what_each_of_their_viewers_reads() {
    let running = Running::of(vec![recorded("segvol")], |config| {
        config.viewers = Protocol::ALL.to_vec();
    });
    let client = running.client();
    let known = client.get("/capabilities").json();
    for key in ["model", "patch_size", "available_embeddings", "supported_interactions"] {
        assert!(!known[key].is_null(), "{key} in {known}");
    }
    let image = image(&client, &phantom(9));
    let (_, masks) = run(&client, &image, json!("liver"));
    assert_eq!(masks.shape(), [1, 16, 64, 64]);
    assert_eq!(client.post_text("/claim", "").status, 200);
}

#[test]
fn a_server_that_was_not_asked_to_has_no_paths_of_viewers() {
    let client = Running::shared().client();
    for path in ["/healthz", "/capabilities", "/jobs/1/events"] {
        let reply = client.get(path);
        assert_eq!((reply.status, reply.code().as_str()), (404, "R-SRV-04"), "{path}");
    }
}
