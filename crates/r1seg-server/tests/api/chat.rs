//! Chat completions, in OpenAI's form.

use serde_json::{Value, json};

use crate::support::{LIVER, Running, phantom, uploaded};

fn ask(volume: Value) -> Value {
    json!({"model": "demo", "messages": [
        {"role": "system", "content": "You read CTs."},
        {"role": "user", "content": [
            {"type": "volume", "volume": volume},
            {"type": "text", "text": LIVER},
        ]},
    ]})
}

#[test]
fn an_answer_has_openais_form_and_the_masks_beside_it() {
    let client = Running::shared().client();
    let id = uploaded(&client, 7);
    let reply = client.post("/v1/chat/completions", &ask(json!({"id": id})));
    assert_eq!(reply.status, 200, "{}", reply.text());
    let answer = reply.json();
    assert_eq!((&answer["object"], &answer["model"]), (&json!("chat.completion"), &json!("demo")));
    let choice = &answer["choices"][0];
    assert!(choice["message"]["content"].as_str().unwrap().contains("[SEG]"), "{answer}");
    assert_eq!(
        (&choice["message"]["role"], &choice["finish_reason"]),
        (&json!("assistant"), &json!("stop"))
    );
    let usage = &answer["usage"];
    let sum =
        usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"], sum);
    assert_eq!(answer["r1seg"]["result"]["masks"][0]["label"], 1);
}

#[test]
fn a_stream_is_chunks_then_the_mask_then_the_end() {
    let client = Running::shared().client();
    let id = uploaded(&client, 8);
    let mut request = ask(json!({"id": id}));
    request["stream"] = json!(true);
    request["stream_options"] = json!({"include_usage": true});
    let reply = client.post("/v1/chat/completions", &request);
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/event-stream")));
    let events = reply.events();
    let (done, chunks) = events.split_last().unwrap();
    assert_eq!(done.1, "[DONE]");
    let chunks: Vec<(String, Value)> = chunks
        .iter()
        .map(|(name, data)| (name.clone(), serde_json::from_str(data).unwrap()))
        .collect();
    for (_, chunk) in &chunks {
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert_eq!(chunk["id"], chunks[0].1["id"]);
    }
    assert_eq!(chunks[0].1["choices"][0]["delta"]["role"], "assistant");
    let text: String =
        chunks.iter().filter_map(|(_, c)| c["choices"][0]["delta"]["content"].as_str()).collect();
    let [.., (mask, with_mask), (_, last), (_, usage)] = chunks.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!(mask, "mask");
    assert_eq!(with_mask["choices"][0]["delta"], json!({}));
    assert_eq!(with_mask["r1seg"]["result"]["answers"][0]["text"], text);
    assert_eq!(last["choices"][0]["finish_reason"], "stop");
    assert_eq!(usage["choices"], json!([]));
    assert!(usage["usage"]["total_tokens"].as_u64().unwrap() > 0);
}

#[test]
fn a_volume_may_come_inside_of_the_message() {
    use base64::Engine;
    let client = Running::shared().client();
    let data = base64::engine::general_purpose::STANDARD.encode(phantom(6));
    let reply =
        client.post("/v1/chat/completions", &ask(json!({"data": data, "name": "ct.nii.gz"})));
    assert_eq!(reply.status, 200, "{}", reply.text());
    // It is kept as if it had been uploaded.
    let id = reply.json()["r1seg"]["result"]["volume"].as_str().unwrap().to_string();
    assert_eq!(client.get(&format!("/v1/volumes/{id}")).json()["name"], "ct.nii.gz");
}

#[test]
fn an_answer_is_cut_where_the_client_wants() {
    let client = Running::shared().client();
    let mut request = ask(json!({"id": uploaded(&client, 12)}));
    request["max_completion_tokens"] = json!(1);
    let answer = client.post("/v1/chat/completions", &request).json();
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["completion_tokens"], 1);
    // Draws at random are the same for the same seed.
    request["max_completion_tokens"] = json!(12);
    request["temperature"] = json!(1.5);
    request["seed"] = json!(5);
    let text = || client.post("/v1/chat/completions", &request).json()["choices"].clone();
    assert_eq!(text(), text());
}

#[test]
fn what_is_no_question_about_a_volume_is_refused() {
    let client = Running::shared().client();
    let id = uploaded(&client, 13);
    let with = |field: &str, value: Value| {
        let mut request = ask(json!({"id": id}));
        request[field] = value;
        request
    };
    let message = |content: Value| with("messages", json!([{"role": "user", "content": content}]));
    for (request, status) in [
        (with("model", json!("gpt-4o")), 404),
        (with("n", json!(2)), 422),
        (with("n", json!(-1)), 422),
        (with("max_tokens", json!(0)), 422),
        (with("temperature", json!(3)), 422),
        (with("temperature", json!(-1)), 422),
        (with("top_p", json!(0)), 422),
        (with("messages", json!([])), 422),
        (message(json!(LIVER)), 422),
        (message(json!("")), 422),
        (message(json!([{"type": "volume", "volume": {"id": id}}])), 422),
        (ask(json!({})), 422),
        (ask(json!({"id": id, "data": "AAAA"})), 422),
        (ask(json!({"data": "no base64!"})), 422),
        (ask(json!({"data": "AAAA"})), 415),
        (ask(json!({"id": "vol_0"})), 404),
        (ask(json!({"url": "http://127.0.0.1:1/ct.nii.gz"})), 422),
        (ask(json!({"path": "/etc/passwd"})), 422),
        (message(json!([{"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/"}}])), 422),
    ] {
        let reply = client.post("/v1/chat/completions", &request);
        assert_eq!(reply.status, status, "{request}: {}", reply.text());
    }
}
