//! A server on a free port, and a client that can also behave badly.

mod client;
mod viewer;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;

use r1seg::phantom::{Phantom, volume};
use r1seg::volume::{Overwrite, write_volume};
use r1seg::{CancelToken, CheckpointSource, LoadOptions, load};
use r1seg_server::{Config, Error, Keys, Served, Server};
use serde_json::{Value, json};

pub(crate) use client::{Client, Reply, multipart, reply};
pub(crate) use viewer::{Viewer, array};

pub(crate) const LIVER: &str = "Can you segment the liver in this image?";
pub(crate) const KEYS: [&str; 2] = ["first-key-of-the-tests", "second-key-of-the-tests"];

/// A server, until it is dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stop: CancelToken,
    thread: Option<JoinHandle<Result<(), Error>>>,
    /// Where it keeps what is uploaded.
    pub(crate) folder: tempfile::TempDir,
}

impl Running {
    /// With the demo model, as `set` sets it up.
    pub(crate) fn start(set: impl FnOnce(&mut Config)) -> Self {
        Self::of(vec![demo()], set)
    }

    pub(crate) fn of(models: Vec<Served>, set: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.address = "127.0.0.1:0".parse().unwrap();
        config.upload_dir = Some(folder.path().to_path_buf());
        set(&mut config);
        let server = Server::new(config, models).unwrap();
        let stop = CancelToken::default();
        let (sender, ready) = channel();
        let token = stop.clone();
        let thread = std::thread::spawn(move || {
            server.run(&token, move |address| sender.send(address).unwrap())
        });
        Self { address: ready.recv().unwrap(), stop, thread: Some(thread), folder }
    }

    /// One for all tests that do not mind each other.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Running> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(|_| {}))
    }

    /// One that asks for [`KEYS`].
    pub(crate) fn with_keys() -> &'static Self {
        static SHARED: OnceLock<Running> = OnceLock::new();
        SHARED.get_or_init(|| {
            Self::start(|config| config.keys = Keys::of_lines(&KEYS.join("\n")).unwrap())
        })
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// Files in its private folder, at any depth.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.folder.path().to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        files
    }

    pub(crate) fn ask_to_stop(&self) {
        self.stop.cancel();
    }

    /// Waits for its end.
    pub(crate) fn join(&mut self) -> Result<(), Error> {
        self.stop.cancel();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.thread.is_some() {
            let _ = self.join();
        }
    }
}

/// The embedded model, loaded once.
pub(crate) fn demo() -> Served {
    static DEMO: OnceLock<Served> = OnceLock::new();
    DEMO.get_or_init(|| {
        let source = CheckpointSource::demo();
        let model = load(&source, &LoadOptions::default()).unwrap();
        Served { model, source }
    })
    .clone()
}

/// A small model that others recorded.
pub(crate) fn recorded(name: &str) -> Served {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data").join(name);
    let source = CheckpointSource::Folder(folder);
    let model = load(&source, &LoadOptions::default()).unwrap();
    Served { model, source }
}

/// A small phantom as the bytes of a `.nii.gz` file.
pub(crate) fn phantom(seed: u64) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ct.nii.gz");
    let drawn = volume(&Phantom::draw_sized(seed, [16, 64, 64])).unwrap();
    write_volume(&file, &drawn, Overwrite::Refuse).unwrap();
    std::fs::read(file).unwrap()
}

/// Uploads a phantom; the id of its volume.
pub(crate) fn uploaded(client: &Client, seed: u64) -> String {
    let reply = client.upload("ct.nii.gz", &phantom(seed));
    assert_eq!(reply.status, 201, "{}", reply.text());
    reply.json()["id"].as_str().unwrap().to_string()
}

/// A request for the liver.
pub(crate) fn liver(volume: &str) -> Value {
    json!({"model": "demo", "volume": volume, "prompts": [{"question": LIVER, "name": "liver"}]})
}

/// The value of a metric, with its labels as they are written.
pub(crate) fn metric(client: &Client, name: &str) -> f64 {
    let text = client.get("/metrics").text();
    let line =
        text.lines().find(|line| line.strip_prefix(name).is_some_and(|l| l.starts_with(' ')));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
}

/// Waits until something holds, for a while.
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let begin = std::time::Instant::now();
    while !holds() {
        assert!(begin.elapsed().as_secs() < 30, "{what}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
