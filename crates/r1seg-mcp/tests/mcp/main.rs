//! The tools as a client of the protocol sees them: rmcp's own client, in the same process.
//!
//! - `listing`: names, schemas and annotations of the tools.
//! - `asking`, `segmenting`, `inspecting`: what each tool gives, and which files it leaves.
//! - `faults`: what cannot be done is reported as a result of the tool, with a code and what to do.
//! - `progress`: what a client hears of a call, and how it stops one.
//! - `http`: the same over HTTP.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test helper may fail")]

mod asking;
mod faults;
mod http;
mod inspecting;
mod listing;
mod progress;
mod segmenting;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use r1seg::ModelSource;
use r1seg::phantom::{Phantom, volume};
use r1seg::volume::{Overwrite, write_volume};
use r1seg_mcp::{LocalDesk, LocalOptions, Server};
use rmcp::model::{CallToolRequestParams, CallToolResult, ProgressNotificationParam};
use rmcp::service::{NotificationContext, RunningService};
use rmcp::{ClientHandler, RoleClient, ServiceExt};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A file of the recorded cases.
fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data").join(path)
}

/// A client that keeps what it hears of the progress of its calls.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<Vec<ProgressNotificationParam>>>);

impl Listener {
    fn heard(&self) -> Vec<ProgressNotificationParam> {
        self.0.lock().unwrap().clone()
    }

    fn messages(&self) -> Vec<String> {
        self.heard().into_iter().filter_map(|step| step.message).collect()
    }
}

impl ClientHandler for Listener {
    async fn on_progress(
        &self,
        step: ProgressNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        self.0.lock().unwrap().push(step);
    }
}

/// A server on folders of its own, and a client of it.
struct Desk {
    folder: TempDir,
    client: RunningService<RoleClient, Listener>,
}

impl Desk {
    /// One that serves models by folder or name, and volumes in `scans`.
    async fn serving(models: &[&Path]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("scans")).unwrap();
        let models = models.iter().map(|model| ModelSource::from(*model).find().unwrap());
        let options = LocalOptions::new(models.collect(), folder.path().join("results"))
            .with_root(folder.path().join("scans"));
        let server = Server::new(LocalDesk::new(options).unwrap());
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        tokio::spawn(async move { server.serve(ours).await.unwrap().waiting().await });
        Self { folder, client: Listener::default().serve(theirs).await.unwrap() }
    }

    /// The embedded model, and a phantom in `ct.nii.gz`.
    async fn demo() -> Self {
        let desk = Self::serving(&[Path::new("demo")]).await;
        let phantom = volume(&Phantom::draw(7)).unwrap();
        write_volume(desk.scan("ct.nii.gz"), &phantom, Overwrite::Refuse).unwrap();
        desk
    }

    fn scan(&self, name: &str) -> PathBuf {
        self.folder.path().join("scans").join(name)
    }

    fn results(&self, name: &str) -> PathBuf {
        self.folder.path().join("results").join(name)
    }

    /// Names of all that lies below the folder of results.
    fn written(&self) -> Vec<String> {
        let entries = fs::read_dir(self.results("")).into_iter().flatten().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    async fn call(&self, tool: &'static str, args: Value) -> CallToolResult {
        self.client.call_tool(params(tool, args)).await.unwrap()
    }

    /// The structured content of a call that succeeds; its text says the same.
    async fn get(&self, tool: &'static str, args: Value) -> Value {
        let result = self.call(tool, args).await;
        assert_ne!(result.is_error, Some(true), "{result:#?}");
        assert!(text(&result).contains("not a medical device"), "{result:#?}");
        result.structured_content.unwrap()
    }

    /// The error of a call that fails, as JSON; its text says the same.
    async fn fails(&self, tool: &'static str, args: Value) -> Value {
        let result = self.call(tool, args).await;
        assert_eq!(result.is_error, Some(true), "{result:#?}");
        assert_eq!(result.structured_content, None);
        let object = &result.content[1].as_text().unwrap().text;
        let error = serde_json::from_str::<Value>(object).unwrap()["error"].clone();
        let code = error["code"].as_str().unwrap();
        assert!(text(&result).starts_with(&format!("error[{code}]: ")), "{result:#?}");
        error
    }
}

fn params(tool: &'static str, args: Value) -> CallToolRequestParams {
    let Value::Object(args) = args else { panic!("{args}") };
    CallToolRequestParams::new(tool).with_arguments(args)
}

fn text(result: &CallToolResult) -> &str {
    &result.content[0].as_text().unwrap().text
}

const LIVER: &str = "Can you segment the liver in this image?";

/// A call that asks for the liver of the phantom.
fn ask_liver() -> Value {
    json!({ "volume": "ct.nii.gz", "questions": [LIVER] })
}
