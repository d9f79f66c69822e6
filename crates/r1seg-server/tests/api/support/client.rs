//! HTTP over a plain socket, so that tests can send what no proper client sends.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Sends requests, each over a connection of its own.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    headers: Vec<(String, String)>,
}

/// A response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// The words behind the status.
    pub(crate) reason: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The code of an error.
    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_string()
    }

    /// The events of a stream: names and data.
    pub(crate) fn events(&self) -> Vec<(String, String)> {
        let text = self.text();
        let field = |event: &str, name: &str| {
            let line = event.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::trim).unwrap_or_default().to_string()
        };
        text.split("\n\n")
            .filter(|event| !event.trim().is_empty() && !event.starts_with(':'))
            .map(|event| (field(event, "event:"), field(event, "data:")))
            .collect()
    }
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, headers: Vec::new() }
    }

    pub(crate) fn with_key(self, key: &str) -> Self {
        self.with_header("Authorization", &format!("Bearer {key}"))
    }

    pub(crate) fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_string(), value.to_string()));
        self
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.send("GET", path, "", b"")
    }

    pub(crate) fn delete(&self, path: &str) -> Reply {
        self.send("DELETE", path, "", b"")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_text(path, &body.to_string())
    }

    pub(crate) fn post_text(&self, path: &str, body: &str) -> Reply {
        self.send("POST", path, "application/json", body.as_bytes())
    }

    pub(crate) fn upload(&self, name: &str, file: &[u8]) -> Reply {
        self.form("/v1/volumes", &[("file", Some(name), file)])
    }

    pub(crate) fn form(&self, path: &str, parts: &[(&str, Option<&str>, &[u8])]) -> Reply {
        self.send("POST", path, "multipart/form-data; boundary=xYx", &multipart(parts))
    }

    pub(crate) fn send(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> Reply {
        let head = self.head(method, path, kind, Some(body.len()));
        // A server that has seen enough answers and closes before all was sent.
        let mut stream = self.open(head.as_bytes());
        let _ = stream.write_all(body);
        reply(&mut BufReader::new(stream))
    }

    /// The head of a request.
    pub(crate) fn head(
        &self,
        method: &str,
        path: &str,
        kind: &str,
        length: Option<usize>,
    ) -> String {
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str(&format!("Host: {}\r\n", self.address));
        }
        head.push_str("Connection: close\r\n");
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !kind.is_empty() {
            head.push_str(&format!("Content-Type: {kind}\r\n"));
        }
        if let Some(length) = length {
            head.push_str(&format!("Content-Length: {length}\r\n"));
        }
        head + "\r\n"
    }

    /// A connection over which so many bytes were sent.
    pub(crate) fn open(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    }

    /// Sends a whole request as it stands, and reads the response.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Reply {
        reply(&mut BufReader::new(self.open(bytes)))
    }

    /// Begins a request whose response goes on, and reads its head and so many lines of it.
    pub(crate) fn begin(&self, path: &str, body: &Value, lines: usize) -> BufReader<TcpStream> {
        let body = body.to_string();
        let head = self.head("POST", path, "application/json", Some(body.len()));
        let mut reader = BufReader::new(self.open((head + &body).as_bytes()));
        let mut line = String::new();
        while line.trim_end() != "" || line.is_empty() {
            line.clear();
            assert!(reader.read_line(&mut line).unwrap() > 0, "the server hung up");
        }
        for _ in 0..lines {
            reader.read_line(&mut line).unwrap();
        }
        reader
    }
}

/// A multipart body with the boundary `xYx`.
pub(crate) fn multipart(parts: &[(&str, Option<&str>, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, file, bytes) in parts {
        let file = file.map(|file| format!("; filename=\"{file}\"")).unwrap_or_default();
        let head =
            format!("--xYx\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--xYx--\r\n");
    body
}

/// Reads a response; status 0 where the server closed without one.
pub(crate) fn reply(reader: &mut impl BufRead) -> Reply {
    let mut status = String::new();
    let read = reader.read_line(&mut status).unwrap_or(0);
    let mut words = status.trim_end().splitn(3, ' ').skip(1);
    let code = words.next().and_then(|code| code.parse().ok()).unwrap_or(0);
    let reason = words.next().unwrap_or_default().to_string();
    let mut headers = Vec::new();
    let mut lines = std::iter::from_fn(|| {
        let mut line = String::new();
        let read = reader.read_line(&mut line).unwrap_or(0);
        (read > 0 && !line.trim().is_empty()).then_some(line)
    });
    while read > 0
        && let Some(line) = lines.next()
    {
        let (name, value) = line.split_once(':').unwrap();
        headers.push((name.to_ascii_lowercase(), value.trim().to_string()));
    }
    let mut reply = Reply { status: code, reason, headers, body: Vec::new() };
    if reply.header("transfer-encoding") == Some("chunked") {
        reply.body = chunked(reader);
    } else if let Some(length) = reply.header("content-length").and_then(|l| l.parse().ok()) {
        reply.body = vec![0; length];
        reader.read_exact(&mut reply.body).unwrap();
    }
    reply
}

fn chunked(reader: &mut impl BufRead) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap() == 0 {
            return body;
        }
        let length = usize::from_str_radix(line.trim(), 16).unwrap();
        let mut chunk = vec![0; length + 2];
        reader.read_exact(&mut chunk).unwrap();
        if length == 0 {
            return body;
        }
        body.extend_from_slice(&chunk[..length]);
    }
}
