//! `r1seg serve`: how it begins and ends. What it answers is tested with the crate `r1seg-server`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use crate::{Desk, data, finish};

/// A server that has said where it listens.
struct Running {
    child: Child,
    host: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Where a test has ended it, there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn start(folder: &std::path::Path, more: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_r1seg"));
        command.args(["serve", "--model", "demo", "--port", "0", "--upload-dir"]).arg(folder);
        command.args(more).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let host = line.trim().strip_prefix("http://").and_then(|url| url.strip_suffix('/'));
        let host = host.unwrap_or_else(|| panic!("{line:?}")).to_string();
        Self { child, host }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        let host = &self.host;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }
}

#[cfg(unix)]
#[test]
fn s11_a_server_is_ready_when_it_says_so_and_a_signal_ends_it_with_its_code() {
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Running::start(folder.path(), &[]);
        assert!(server.get("/v1/health/ready").starts_with("HTTP/1.1 200"));
        assert!(server.get("/v1/volumes/vol_secret").starts_with("HTTP/1.1 404"));
        let pid = server.child.id();
        Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).status().unwrap();
        let mut said = String::new();
        server.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(server.child.wait().unwrap().code(), Some(code), "{said}");
        assert!(said.contains("research use only"), "{said}");
        let access = "method=GET route=/v1/volumes/{id} status=404";
        assert!(said.contains(access) && !said.contains("secret"), "{said}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_health_check_says_whether_the_server_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Running::start(folder.path(), &[]);
    let (_, port) = server.host.rsplit_once(':').unwrap();
    let check = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_r1seg"));
        command.args(["serve", "--healthcheck", "--port", port]).args(more).output().unwrap()
    };
    for host in ["127.0.0.1", "0.0.0.0"] {
        let output = check(&["--host", host]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    }
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let output = check(&[]);
    assert_eq!(output.status.code(), Some(75));
    assert!(String::from_utf8_lossy(&output.stderr).contains("R-SRV-25"), "{output:?}");
}

#[cfg(unix)]
#[test]
fn a_quiet_server_says_nothing_but_where_it_listens() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Running::start(folder.path(), &["--quiet"]);
    server.get("/v1/info");
    let pid = server.child.id();
    Command::new("sh").args(["-c", &format!("kill -TERM {pid}")]).status().unwrap();
    let mut said = String::new();
    server.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((server.child.wait().unwrap().code(), said.as_str()), (Some(143), ""));
}

#[test]
fn s5_a_server_that_others_reach_needs_keys_that_can_be_used() {
    let desk = Desk::new();
    std::fs::write(desk.path("keys"), "short\n").unwrap();
    let serve = |more: &str| {
        desk.run(["serve", "--model", "demo"].into_iter().chain(more.split_whitespace()))
    };
    serve("--host 0.0.0.0").fails(2, "R-SRV-18").says("a file of keys");
    serve("--host ::").fails(2, "R-SRV-18");
    serve("--api-key-file keys").fails(2, "R-SRV-19").says("line 1 is shorter");
    serve("--api-key-file absent").fails(2, "R-SRV-19");
    desk.run(["serve"]).fails(2, "R-ARG-03").says("no model was named");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    serve(&format!("--port {port}")).fails(73, "R-SRV-20");
}

#[test]
fn viewers_are_answered_where_they_are_named_and_a_model_can() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(folder.path(), &["--quiet", "--compat", "voxtell"]);
    assert!(server.get("/healthz").contains(r#"{"ok":true}"#));
    assert!(server.get("/capabilities").contains(r#""model":"demo""#));
    // An hour instead of what programs have.
    let info = server.get("/v1/info");
    assert!(info.contains(r#""ttl_s":3600"#) && info.contains(r#""timeout_s":3600"#), "{info}");
    let times = ["--quiet", "--compat", "voxtell", "--ttl", "5m", "--timeout", "2m"];
    let info = Running::start(folder.path(), &times).get("/v1/info");
    assert!(info.contains(r#""ttl_s":300"#) && info.contains(r#""timeout_s":120"#), "{info}");

    let desk = Desk::new();
    let serve = |more: &str| {
        desk.run(["serve", "--model", "demo"].into_iter().chain(more.split_whitespace()))
    };
    serve("--compat nninteractive").fails(2, "R-SRV-21").says("send points");
    let times = "--compat nninteractive --session-liveness 3s";
    serve(times).fails(2, "R-SRV-24").says("10 s are needed");
    assert!(serve("--viewer-axes SAS").stderr.contains("`SAS`"));
    serve("--compat voxtell,nninteractive").fails(2, "R-SRV-21");
    let unknown = serve("--compat slicer");
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.stderr.contains("[possible values: voxtell, nninteractive]"), "{unknown:?}");
    let mut command = desk.command();
    command.args(["serve", "--compat", "voxtell", "--model"]).arg(data("sam-med3d"));
    finish(&mut command).fails(2, "R-SRV-21").says("send texts");
}
