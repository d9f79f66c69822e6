//! `mcp`, line by line: what a client of the protocol writes and reads.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use r1seg::phantom::{Phantom, volume};
use r1seg::volume::{Overwrite, write_volume};
use serde_json::{Value, json};

use crate::usage::snapshot;
use crate::{Desk, data, finish};

const LIVER: &str = "Can you segment the liver in this image?";

/// A server, and a client that knows nothing but lines of JSON.
struct Session {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    /// All that was read.
    lines: Vec<Value>,
}

impl Session {
    /// The embedded model, and a phantom in `scans/ct.nii.gz`, after both sides have greeted.
    fn demo(desk: &Desk) -> Self {
        std::fs::create_dir(desk.path("scans")).unwrap();
        let phantom = volume(&Phantom::draw(7)).unwrap();
        write_volume(desk.path("scans/ct.nii.gz"), &phantom, Overwrite::Refuse).unwrap();
        let mut session = Self::start(desk.command().args([
            "mcp", "--model", "demo", "--device", "cpu", "--root", "scans", "--out", "results",
            "-v",
        ]));
        session.greet();
        session
    }

    fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let stdin = child.stdin.take();
        Self { child, stdin, stdout, lines: Vec::new() }
    }

    fn write(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    fn send(&mut self, id: u64, method: &str, params: Value) {
        let line = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.write(&line.to_string());
    }

    fn call(&mut self, id: u64, tool: &str, args: Value) {
        let meta = json!({ "progressToken": format!("of-{id}") });
        let params = json!({ "name": tool, "arguments": args, "_meta": meta });
        self.send(id, "tools/call", params);
    }

    fn read(&mut self) -> Value {
        let mut line = String::new();
        assert!(self.stdout.read_line(&mut line).unwrap() > 0, "the server has ended");
        let message: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert_eq!(message["jsonrpc"], "2.0", "{line}");
        self.lines.push(message.clone());
        message
    }

    /// The response of this id; other messages are kept.
    fn response(&mut self, id: u64) -> Value {
        loop {
            let message = self.read();
            if message["id"] == id {
                return message;
            }
        }
    }

    fn greet(&mut self) {
        let client = json!({ "name": "lines", "version": "0" });
        let params = json!({
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client,
        });
        self.send(0, "initialize", params);
        let greeting = self.response(0);
        assert_eq!(greeting["result"]["serverInfo"]["name"], "r1seg", "{greeting}");
        self.write(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    }

    /// Closes the connection; what is left of both streams, and the exit code.
    fn close(mut self) -> (Option<i32>, String, String) {
        drop(self.stdin.take());
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.stdout, &mut rest).unwrap();
        let mut stderr = String::new();
        let mut errors = self.child.stderr.take().unwrap();
        std::io::Read::read_to_string(&mut errors, &mut stderr).unwrap();
        (self.child.wait().unwrap().code(), rest, stderr)
    }
}

fn result(response: &Value) -> &Value {
    assert_ne!(response["result"]["isError"], true, "{response:#}");
    &response["result"]["structuredContent"]
}

fn ask() -> Value {
    json!({ "volume": "ct.nii.gz", "questions": [LIVER] })
}

#[test]
fn a_client_of_lines_lists_and_calls_the_tools() {
    let desk = Desk::new();
    let mut session = Session::demo(&desk);
    session.send(1, "tools/list", json!({}));
    let tools = session.response(1);
    let names: Vec<_> =
        tools["result"]["tools"].as_array().unwrap().iter().map(|t| &t["name"]).collect();
    assert_eq!(names, ["list_models", "inspect_volume", "ask_volume", "segment_volume"]);

    session.call(2, "inspect_volume", json!({ "volume": "ct.nii.gz" }));
    assert_eq!(result(&session.response(2))["shape"], json!([256, 256, 32]));
    session.call(3, "ask_volume", ask());
    let response = session.response(3);
    let outcome = result(&response);
    assert_eq!(outcome["answers"][0]["status"], "found", "{outcome:#}");
    let told: Vec<_> =
        session.lines.iter().filter(|m| m["method"] == "notifications/progress").collect();
    assert!(told.iter().any(|m| m["params"]["progressToken"] == "of-3"), "{told:#?}");
    session.call(
        4,
        "segment_volume",
        json!({ "volume": "ct.nii.gz", "targets": [{ "organ": "Milz" }] }),
    );
    assert_eq!(result(&session.response(4))["masks"][0]["name"], "spleen");

    // The folder of a call is that of `infer`, with a report that keeps to its schema.
    let mut names = desk.names("results");
    names.sort();
    assert_eq!(names, ["ct", "ct-2"]);
    let report = std::fs::read(desk.path("results/ct/report.json")).unwrap();
    crate::schema::assert_keeps_to("report", &serde_json::from_slice(&report).unwrap());
    let volume_ml = |text: &Value| text["masks"][0]["volume_ml"].clone();
    let infer =
        ["infer", "--model", "demo", "--device", "cpu", "--image", "scans/ct.nii.gz", "--json"];
    let run = desk.run(infer.into_iter().chain(["--prompt", LIVER, "--out", "infer"]));
    let said: Value = serde_json::from_str(&run.succeeds().stdout).unwrap();
    assert_eq!(volume_ml(outcome), volume_ml(&said));
    for file in ["mask.nii.gz", "mask.seg.nrrd", "preview.png", "labels.json", "answer.txt"] {
        let bytes = |folder: &str| std::fs::read(desk.path(folder).join(file)).unwrap();
        assert!(bytes("results/ct") == bytes("infer"), "{file}");
    }

    let (code, rest, stderr) = session.close();
    assert_eq!((code, rest.as_str()), (Some(0), ""), "{stderr}");
    // Neither questions nor names of files, not even with -v.
    for word in ["liver", "spleen", "Milz", "ct.nii"] {
        assert!(!stderr.contains(word), "{word}: {stderr}");
    }
    assert!(stderr.contains("research use only") && stderr.contains("vit"), "{stderr}");
}

#[test]
fn lines_that_are_no_calls_do_not_end_the_connection() {
    let desk = Desk::new();
    let mut session = Session::demo(&desk);
    let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    for line in [
        "",
        "{}",
        "[]",
        "not json",
        "\u{1}\u{2}",
        "{\"jsonrpc\":\"2.0\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"tools/call\"}",
        "{\"jsonrpc\":\"1.0\",\"id\":9,\"method\":7}",
        &deep,
        &format!("\"{}\"", "x".repeat(1 << 20)),
    ] {
        session.write(line);
    }
    for (id, params) in [
        (11, json!({ "name": "ask_volume", "arguments": { "volume": [1] } })),
        (12, json!({ "name": "ask_volume", "arguments": ask() , "x": 1 })),
        (13, json!({ "name": "inspect_volume", "arguments": { "volume": "../results" } })),
    ] {
        session.send(id, "tools/call", params);
    }
    session.send(14, "no/such/method", json!({}));
    session.send(15, "tools/call", json!({ "name": "rm", "arguments": {} }));
    assert_eq!(session.response(14)["error"]["code"], -32601);
    session.send(16, "ping", json!({}));
    let mut left = vec![11, 12, 13, 15, 16];
    left.retain(|id| !session.lines.iter().any(|message| message["id"] == *id));
    while !left.is_empty() {
        let message = session.read();
        left.retain(|id| message["id"] != *id);
    }
    let of = |id: u64| session.lines.iter().find(|m| m["id"] == id).unwrap();
    assert_eq!(of(11)["result"]["isError"], true);
    assert_eq!(of(13)["result"]["isError"], true);
    assert_eq!(of(15)["error"]["code"], -32602);
    assert_eq!(of(16)["result"], json!({}));
    assert_eq!(session.close().0, Some(0));
}

#[test]
fn a_call_that_is_cancelled_gets_no_response_and_leaves_no_folder() {
    let desk = Desk::new();
    let mut session = Session::demo(&desk);
    let many = json!({ "volume": "ct.nii.gz", "questions": vec![LIVER; 64] });
    session.call(5, "ask_volume", many);
    loop {
        let message = session.read();
        assert_ne!(message["id"], 5, "it was done before it could be stopped: {message}");
        if message["params"]["message"].as_str().is_some_and(|m| m.starts_with("answering")) {
            break;
        }
    }
    let cancelled = json!({ "requestId": 5, "reason": "enough" });
    let line =
        json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancelled });
    session.write(&line.to_string());
    session.call(6, "ask_volume", ask());
    let response = session.response(6);
    assert_eq!(result(&response)["answers"].as_array().unwrap().len(), 1);
    assert!(session.lines.iter().all(|message| message["id"] != 5), "{:#?}", session.lines);
    assert_eq!(desk.names("results"), ["ct"]);
    assert_eq!(session.close().0, Some(0));
}

#[test]
fn a_client_that_leaves_ends_the_server() {
    let desk = Desk::new();
    let run = finish(desk.command().args(["mcp", "--model", "demo"]));
    run.succeeds();
    assert_eq!(run.stdout, "");
}

#[cfg(unix)]
#[test]
fn a_signal_ends_the_server_and_what_it_computes() {
    let desk = Desk::new();
    let mut session = Session::demo(&desk);
    let many = json!({ "volume": "ct.nii.gz", "questions": vec![LIVER; 64] });
    session.call(5, "ask_volume", many);
    while !session.read()["params"]["message"].as_str().is_some_and(|m| m.starts_with("answering"))
    {
    }
    let start = Instant::now();
    let pid = session.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let code = session.child.wait().unwrap().code();
    assert_eq!(code, Some(143));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert!(!desk.path("results").exists() || desk.names("results").is_empty());
}

#[test]
fn what_cannot_be_served_is_refused_before_a_client_speaks() {
    let desk = Desk::new();
    desk.run(["mcp"]).fails(2, "R-ARG-03");
    desk.run(["mcp", "--model", "absent"]).fails(2, "R-MDL-02");
    desk.run(["mcp", "--model", "demo", "--root", "absent"]).fails(66, "R-MCP-08");
    desk.run(["mcp", "--model", "demo", "--model", "demo"]).fails(2, "R-MCP-07");
    let clip = data("m3d-clip").display().to_string();
    desk.run(["mcp", "--model", &clip]).fails(2, "R-MCP-01");
    desk.is_empty_but_for(&[]);
}

#[test]
fn the_help_of_mcp_is_as_documented() {
    let desk = Desk::new();
    snapshot(&desk, "help_mcp", &desk.run(["mcp", "--help"]).succeeds().stdout);
}
