//! What the server says to whoever listens to its spans and events.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test helper may fail")]

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};

use r1seg::{CancelToken, CheckpointSource, LoadOptions, load};
use r1seg_server::{Config, Keys, Protocol, Served, Server};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::{Layer, Registry};

#[path = "api/support/client.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod client;

/// Everything that was said, at every level.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<String>>);

struct Words<'a>(&'a mut String);

impl Visit for Words<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = writeln!(self.0, "{field} = {value:?}");
    }
}

impl<S: Subscriber> Layer<S> for Heard {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        attributes.record(&mut Words(&mut self.0.lock().unwrap()));
    }

    fn on_record(&self, _: &Id, values: &Record<'_>, _: Context<'_, S>) {
        values.record(&mut Words(&mut self.0.lock().unwrap()));
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut heard = self.0.lock().unwrap();
        let _ = writeln!(heard, "{}", event.metadata().name());
        event.record(&mut Words(&mut heard));
    }
}

#[test]
fn s10_no_name_prompt_answer_or_key_is_said_at_any_level() {
    let heard = Heard::default();
    tracing::subscriber::set_global_default(Registry::default().with(heard.clone())).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.address = "127.0.0.1:0".parse().unwrap();
    config.upload_dir = Some(folder.path().to_path_buf());
    config.viewers = vec![Protocol::VoxTell];
    config.keys = Keys::of_lines("secret-key-of-the-ward").unwrap();
    let source = CheckpointSource::demo();
    let model = load(&source, &LoadOptions::default()).unwrap();
    let server = Server::new(config, vec![Served { model, source }]).unwrap();
    let stop = CancelToken::default();
    let (sender, ready) = std::sync::mpsc::channel();
    let token = stop.clone();
    let thread = std::thread::spawn(move || {
        server.run(&token, move |address| sender.send(address).unwrap())
    });
    let client = client::Client::new(ready.recv().unwrap()).with_key("secret-key-of-the-ward");

    let phantom = serde_json::json!({"seed": 424_242});
    let volume = client.post("/v1/volumes/phantom", &phantom).json();
    let id = volume["id"].as_str().unwrap();
    let named = client.get(&format!("/v1/volumes/{id}/volume.nii.gz")).body;
    assert_eq!(client.upload("Doe^Jane.nii.gz", &named).status, 201);
    let question = "Can you segment the liver in this image?";
    let asked = serde_json::json!({"model": "demo", "volume": id, "prompts": [
        {"question": question, "name": "Jane's liver"}]});
    let found = client.post("/v1/segment", &asked).json();
    let answer = found["answers"][0]["text"].as_str().unwrap();
    for path in ["/v1/volumes/Doe^Jane", "/Doe^Jane", "/v1/volumes/x/slice.png?result=Doe^Jane"] {
        assert_eq!(client.get(path).status, 404);
    }
    client.post("/v1/segment", &serde_json::json!({"Doe^Jane": 1}));
    client.upload("Doe^Jane.nii.gz", b"Doe^Jane");
    // What a viewer sends.
    let path = "/images?include_image=false&Doe^Jane";
    let meta = client.send("POST", path, "application/octet-stream", &named);
    let meta: serde_json::Value = serde_json::from_str(meta.header("x-meta").unwrap()).unwrap();
    let image = meta["image_id"].as_str().unwrap();
    let asked = |prompt: &str| serde_json::json!({"image_id": image, "prompts": [prompt]});
    let job = client.post("/jobs", &asked(question)).json();
    let job = job["job_id"].as_str().unwrap();
    assert!(client.get(&format!("/jobs/{job}/events")).text().contains("\"done\""));
    assert_eq!(client.get(&format!("/jobs/{job}/result")).status, 200);
    client.post("/jobs", &serde_json::json!({"image_id": "Doe^Jane", "prompts": ["Jane"]}));
    client.get("/jobs/Doe^Jane/events");
    stop.cancel();
    thread.join().unwrap().unwrap();

    let heard = heard.0.lock().unwrap();
    assert!(heard.contains("access\n") && heard.contains("route = \"/v1/segment\""), "{heard}");
    assert!(heard.contains("status = 200"), "{heard}");
    let folder = folder.path().display().to_string();
    for secret in
        ["Doe", "Jane", "liver", question, answer, id, "secret-key", "424242", "phantom-", &folder]
            .into_iter()
            .chain([image, job])
    {
        assert!(!heard.contains(secret), "{secret} in {heard}");
    }
}
