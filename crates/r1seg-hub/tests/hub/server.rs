//! A hub of one model, and everything that servers do wrong. The tests of the command line use it, too.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use sha1::{Digest, Sha1};
use sha2::Sha256;

pub(crate) const COMMIT: &str = "1111111111111111111111111111111111111111";
pub(crate) const MODEL: &str = "lihao0011/R1Seg-3D-SAM";

#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Breaks off after so many bytes of the body.
    pub(crate) cut: Option<usize>,
    pub(crate) chunked: bool,
    /// Sends a byte, waits, and so on.
    pub(crate) drip: Option<Duration>,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self { status, headers: Vec::new(), body, cut: None, chunked: false, drip: None }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    fn send(&self, stream: &mut TcpStream, is_head: bool) -> std::io::Result<()> {
        let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if self.chunked {
            head += "Transfer-Encoding: chunked\r\n";
        } else if !self.headers.iter().any(|(name, _)| name == "Content-Length") {
            head += &format!("Content-Length: {}\r\n", self.body.len());
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        if is_head {
            return Ok(());
        }
        let body = &self.body[..self.cut.unwrap_or(self.body.len()).min(self.body.len())];
        if let Some(wait) = self.drip {
            for byte in body {
                stream.write_all(&[*byte])?;
                std::thread::sleep(wait);
            }
        } else if self.chunked {
            for chunk in body.chunks(1000) {
                stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes())?;
                stream.write_all(chunk)?;
                stream.write_all(b"\r\n")?;
            }
            if self.cut.is_none() {
                stream.write_all(b"0\r\n\r\n")?;
            }
        } else {
            stream.write_all(body)?;
        }
        stream.flush()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct FileOnHub {
    pub(crate) bytes: Vec<u8>,
    pub(crate) is_lfs: bool,
}

impl FileOnHub {
    /// What the blob is called in the cache.
    pub(crate) fn hash(&self) -> String {
        if self.is_lfs { hex(&Sha256::digest(&self.bytes)) } else { git_hash(&self.bytes) }
    }
}

pub(crate) fn git_hash(bytes: &[u8]) -> String {
    let hasher = Sha1::new_with_prefix(format!("blob {}\0", bytes.len())).chain_update(bytes);
    hex(&hasher.finalize())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

type Fault = dyn Fn(&Request, usize) -> Option<Reply> + Send + Sync;

struct State {
    port: u16,
    repository: String,
    model: Mutex<(String, BTreeMap<String, FileOnHub>)>,
    fault: Mutex<Arc<Fault>>,
    requests: Mutex<Vec<Request>>,
    connections: AtomicUsize,
}

#[derive(Clone)]
pub(crate) struct Server(Arc<State>);

/// 3 MiB that repeat nowhere.
pub(crate) fn weights() -> Vec<u8> {
    (0..3_u32 << 18).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

impl Server {
    pub(crate) fn start() -> Self {
        let small = |text: &str| FileOnHub { bytes: text.into(), is_lfs: false };
        let files = BTreeMap::from([
            ("config.json".into(), small("{\"model_type\": \"x\"}\n")),
            ("README.md".into(), small("# card\n")),
            ("modeling.py".into(), small("import os; os.system('x')\n")),
            ("model.safetensors".into(), FileOnHub { bytes: weights(), is_lfs: true }),
        ]);
        Self::publish(MODEL, files)
    }

    /// A hub with these files in a repository of this name.
    pub(crate) fn publish(repository: &str, files: BTreeMap<String, FileOnHub>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let state = Arc::new(State {
            port: listener.local_addr().unwrap().port(),
            repository: repository.to_owned(),
            model: Mutex::new((COMMIT.to_owned(), files)),
            fault: Mutex::new(Arc::new(|_, _| None)),
            requests: Mutex::default(),
            connections: AtomicUsize::new(0),
        });
        let server = Self(state);
        let accepting = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                accepting.0.connections.fetch_add(1, Ordering::SeqCst);
                let server = accepting.clone();
                // A client may go away at any time.
                std::thread::spawn(move || server.serve(stream).ok());
            }
        });
        server
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
        let mut words = first.split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut headers = HashMap::new();
        for line in lines {
            let line = line?;
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        let request = Request { method, path, headers };
        let earlier = {
            let mut requests = self.0.requests.lock().unwrap();
            requests.push(request.clone());
            requests.iter().filter(|r| r.path == request.path).count() - 1
        };
        let fault = self.0.fault.lock().unwrap().clone();
        let reply = fault(&request, earlier).unwrap_or_else(|| self.reply(&request));
        reply.send(&mut stream, request.method == "HEAD")
    }

    /// What a sound hub answers.
    pub(crate) fn reply(&self, request: &Request) -> Reply {
        let (commit, files) = self.0.model.lock().unwrap().clone();
        let path = request.path.split('?').next().unwrap();
        let repository = &self.0.repository;
        if path.starts_with(&format!("/api/models/{repository}/revision/")) {
            return Reply::new(200, self.listing().to_string());
        }
        if path.starts_with(&format!("/api/models/{repository}/tree/")) {
            return Reply::new(200, self.tree().to_string());
        }
        if let Some(hash) = path.strip_prefix("/cdn/") {
            let file = files.values().find(|file| file.hash() == hash).unwrap();
            return ranged(request, &file.bytes).with("ETag", "\"storage-tag\"");
        }
        let name = path.strip_prefix(&format!("/{repository}/resolve/{commit}/"));
        match name.and_then(|name| files.get(name)) {
            Some(file) if file.is_lfs => Reply::new(302, "")
                .with("Location", format!("http://localhost:{}/cdn/{}", self.0.port, file.hash()))
                .with("X-Linked-Etag", format!("\"{}\"", file.hash()))
                .with("X-Linked-Size", file.bytes.len().to_string())
                .with("X-Repo-Commit", commit),
            Some(file) => ranged(request, &file.bytes)
                .with("ETag", format!("\"{}\"", file.hash()))
                .with("X-Repo-Commit", commit),
            None => Reply::new(404, "not found").with("X-Error-Code", "EntryNotFound"),
        }
    }

    pub(crate) fn listing(&self) -> serde_json::Value {
        let (commit, files) = self.0.model.lock().unwrap().clone();
        let siblings: Vec<_> = files
            .iter()
            .map(|(name, file)| {
                let mut sibling = json!({
                    "rfilename": name, "size": file.bytes.len(), "blobId": git_hash(&file.bytes),
                });
                if file.is_lfs {
                    let size = file.bytes.len();
                    sibling["blobId"] = json!("f".repeat(40));
                    sibling["lfs"] =
                        json!({ "sha256": file.hash(), "size": size, "pointerSize": 134 });
                }
                sibling
            })
            .collect();
        json!({ "id": self.0.repository, "sha": commit, "private": false, "siblings": siblings })
    }

    /// The listing that Python asks for.
    fn tree(&self) -> serde_json::Value {
        let (_, files) = self.0.model.lock().unwrap().clone();
        let entry = |(name, file): (&String, &FileOnHub)| {
            let (size, oid) = (file.bytes.len(), git_hash(&file.bytes));
            let mut entry = json!({ "type": "file", "path": name, "size": size, "oid": oid });
            if file.is_lfs {
                entry["lfs"] = json!({ "oid": file.hash(), "size": size, "pointerSize": 134 });
            }
            entry
        };
        files.iter().map(entry).collect()
    }

    /// Answers in the place of the sound hub; the number is how often this path was asked before.
    pub(crate) fn on(
        &self,
        fault: impl Fn(&Request, usize) -> Option<Reply> + Send + Sync + 'static,
    ) {
        *self.0.fault.lock().unwrap() = Arc::new(fault);
    }

    /// Fails the transfer of the weights.
    pub(crate) fn on_weights(&self, fault: impl Fn(Reply, usize) -> Reply + Send + Sync + 'static) {
        let server = self.clone();
        self.on(move |request, n| {
            request.path.starts_with("/cdn/").then(|| fault(server.reply(request), n))
        });
    }

    pub(crate) fn file(&self, name: &str) -> FileOnHub {
        self.0.model.lock().unwrap().1[name].clone()
    }

    pub(crate) fn put(&self, name: &str, bytes: impl Into<Vec<u8>>, is_lfs: bool) {
        let file = FileOnHub { bytes: bytes.into(), is_lfs };
        self.0.model.lock().unwrap().1.insert(name.to_owned(), file);
    }

    pub(crate) fn delete(&self, name: &str) {
        self.0.model.lock().unwrap().1.remove(name).unwrap();
    }

    pub(crate) fn commit(&self, commit: &str) {
        self.0.model.lock().unwrap().0 = commit.to_owned();
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.port
    }

    pub(crate) fn connections(&self) -> usize {
        self.0.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.0.requests.lock().unwrap().clone()
    }

    pub(crate) fn requests_of(&self, part: &str) -> Vec<Request> {
        self.requests().into_iter().filter(|r| r.path.contains(part)).collect()
    }
}

fn ranged(request: &Request, bytes: &[u8]) -> Reply {
    let from = request
        .header("range")
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    match from {
        None => Reply::new(200, bytes),
        Some(from) if from >= bytes.len() => Reply::new(416, ""),
        Some(from) => Reply::new(206, &bytes[from..])
            .with("Content-Range", format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len())),
    }
}
