//! The tools for agents at `/mcp`.

use serde_json::{Value, json};

use crate::support::{Client, KEYS, Running, uploaded};

/// A client that has introduced itself.
struct Agent {
    client: Client,
}

impl Agent {
    fn new(client: Client) -> Self {
        let client = client.with_header("Accept", "application/json, text/event-stream");
        let hello = request(
            1,
            "initialize",
            &json!({
            "protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": {"name": "test", "version": "0"}}),
        );
        let reply = client.post("/mcp", &hello);
        assert_eq!(reply.status, 200, "{}", reply.text());
        // A session would be kept for a client that never comes back.
        assert_eq!(reply.header("mcp-session-id"), None);
        let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        assert_eq!(client.post("/mcp", &ready).status, 202);
        Self { client }
    }

    /// What a method gives.
    fn ask(&self, method: &str, params: &Value) -> Value {
        let reply = self.client.post("/mcp", &request(2, method, params));
        assert_eq!(reply.status, 200, "{}", reply.text());
        let messages = reply.events().into_iter();
        let messages = messages.filter_map(|(_, data)| serde_json::from_str::<Value>(&data).ok());
        let mut answers = messages.filter(|message| message["id"] == 2);
        answers.next().unwrap_or_else(|| panic!("no answer: {}", reply.text()))["result"].clone()
    }

    fn call(&self, tool: &str, arguments: &Value) -> Value {
        self.ask("tools/call", &json!({"name": tool, "arguments": arguments}))
    }
}

fn request(id: u32, method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

#[test]
fn an_agent_inspects_asks_and_segments_a_volume_by_its_id() {
    let running = Running::start(|_| {});
    let volume = uploaded(&running.client(), 7);
    let agent = Agent::new(running.client());
    let tools = agent.ask("tools/list", &json!({}));
    assert_eq!(tools["tools"].as_array().unwrap().len(), 4, "{tools}");
    let models = agent.call("list_models", &json!({}));
    assert_eq!(models["structuredContent"]["models"][0]["id"], "demo", "{models}");

    let seen = agent.call("inspect_volume", &json!({"volume": volume}));
    assert_eq!(seen["structuredContent"]["shape"], json!([64, 64, 16]), "{seen}");

    let question = "Can you segment the liver in this image?";
    let asked = agent.call("ask_volume", &json!({"volume": volume, "questions": [question]}));
    let found = &asked["structuredContent"];
    assert_eq!(found["answers"][0]["status"], "found", "{asked}");
    assert!(found["masks"][0]["voxels"].as_u64().unwrap() > 0, "{asked}");
    let files = found["files"].as_array().unwrap();
    let mask = files.iter().find(|file| file["name"] == "mask.nii.gz").unwrap();
    let mask = running.client().get(mask["location"].as_str().unwrap());
    assert_eq!((mask.status, &mask.body[..2]), (200, &[0x1f, 0x8b][..]));
}

#[test]
fn what_an_agent_cannot_have_is_an_error_that_it_can_read() {
    let running = Running::start(|_| {});
    let volume = uploaded(&running.client(), 7);
    let agent = Agent::new(running.client());
    for (tool, arguments, code) in [
        ("ask_volume", json!({"volume": "vol_0", "questions": ["Liver?"]}), "R-SRV-"),
        ("ask_volume", json!({"volume": "../../etc/passwd", "questions": ["Liver?"]}), "R-SRV-"),
        ("ask_volume", json!({"volume": volume, "questions": []}), "R-SRV-"),
        ("ask_volume", json!({"volume": volume, "organs": ["pancras"]}), "R-SRV-"),
        (
            "segment_volume",
            json!({"volume": volume, "targets": [{"points": [{"voxel": [1, 1, 1]}]}]}),
            "R-SRV-",
        ),
        ("inspect_volume", json!({"volume": volume, "read": {"frame": 1}}), "R-SRV-"),
    ] {
        let reply = agent.call(tool, &arguments);
        let text = reply["content"][0]["text"].as_str().unwrap_or_default();
        assert_eq!(reply["isError"], true, "{tool} {arguments}: {reply}");
        assert!(text.starts_with(&format!("error[{code}")), "{tool} {arguments}: {text}");
    }
}

#[test]
fn s8_an_agent_needs_a_key_and_sees_the_volumes_of_that_key_alone() {
    let running = Running::with_keys();
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    assert_eq!(running.client().post("/mcp", &hello).status, 401);
    let volume = uploaded(&running.client().with_key(KEYS[0]), 7);
    let other = Agent::new(running.client().with_key(KEYS[1]));
    let reply = other.call("inspect_volume", &json!({"volume": volume}));
    assert_eq!(reply["isError"], true, "{reply}");
}
