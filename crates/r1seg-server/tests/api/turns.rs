//! Many clients and one model: turns, shared passes, and clients that leave.

use std::io::BufRead;
use std::time::{Duration, Instant};

use r1seg_server::{Config, Keys};
use serde_json::{Value, json};

use crate::support::{Client, KEYS, LIVER, Running, eventually, liver, metric, uploaded};

/// Questions of a long request: enough for it to run until it is stopped.
const MANY: usize = 240;

/// A server that takes long requests.
fn patient(set: impl FnOnce(&mut Config)) -> Running {
    Running::start(|config| {
        config.limits.max_prompts = MANY;
        set(config);
    })
}

/// A request with this many questions, which differ from those of other seeds.
fn questions(volume: &str, seed: usize, count: usize) -> Value {
    let questions: Vec<Value> = (0..count)
        .map(|n| json!({"question": format!("{LIVER} {}", "word ".repeat(n % 32 + seed))}))
        .collect();
    json!({"model": "demo", "volume": volume, "stream": true, "prompts": questions})
}

/// A request that keeps the demo model busy until its client leaves.
fn long(volume: &str, seed: usize) -> Value {
    questions(volume, seed, MANY)
}

#[test]
fn s3_a_client_that_leaves_frees_its_place() {
    let running = patient(|config| config.limits.queue = 1);
    let client = running.client();
    let id = uploaded(&client, 7);
    let active = || metric(&client, "r1seg_active");
    let queued = || metric(&client, "r1seg_queue_depth");
    let first = client.begin("/v1/segment", &long(&id, 0), 2);
    eventually("the first one runs", || active() == 1.0);
    let mut other = long(&id, 1);
    other["max_new_tokens"] = json!(50);
    let second = client.begin("/v1/segment", &other, 2);
    eventually("the second one waits", || queued() == 1.0);
    let full = client.post("/v1/segment", &liver(&id));
    assert_eq!((full.status, full.code().as_str()), (429, "R-SRV-11"), "{}", full.text());
    assert!(full.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    // A client that waits and leaves has no place any more.
    drop(second);
    eventually("its place is free", || queued() == 0.0);
    // A client that is being served and leaves stops the model.
    let left = Instant::now();
    drop(first);
    eventually("the model is free", || active() == 0.0);
    assert!(left.elapsed() < Duration::from_secs(15), "{:?}", left.elapsed());
    assert_eq!(metric(&client, "r1seg_cancelled_total"), 2.0);
    assert_eq!(client.post("/v1/segment", &liver(&id)).status, 200);
}

#[test]
fn s3_a_client_that_waits_for_one_answer_may_leave_as_well() {
    let running = patient(|_| {});
    let client = running.client();
    let id = uploaded(&client, 7);
    let mut request = long(&id, 2);
    request["stream"] = json!(false);
    let body = request.to_string();
    let head = client.head("POST", "/v1/segment", "application/json", Some(body.len()));
    let stream = client.open((head + &body).as_bytes());
    eventually("it runs", || metric(&client, "r1seg_active") == 1.0);
    drop(stream);
    eventually("the model is free", || metric(&client, "r1seg_active") == 0.0);
    assert_eq!(metric(&client, "r1seg_cancelled_total"), 1.0);
    eventually("it is logged as left", || {
        client
            .get("/metrics")
            .text()
            .contains("route=\"/v1/segment\",method=\"POST\",status=\"499\"")
    });
}

#[test]
fn requests_about_one_volume_share_a_pass() {
    let running = patient(|_| {});
    let client = running.client();
    let id = uploaded(&client, 7);
    let alone = client.post("/v1/segment", &liver(&id)).json();
    let passes = metric(&client, "r1seg_passes_total");
    let busy = client.begin("/v1/segment", &long(&id, 3), 2);
    eventually("the model is busy", || metric(&client, "r1seg_active") == 1.0);
    let ask = |question: &str| {
        let (client, id, question) = (client.clone(), id.clone(), question.to_string());
        std::thread::spawn(move || {
            let request =
                json!({"model": "demo", "volume": id, "prompts": [{"question": question}]});
            client.post("/v1/segment", &request).json()
        })
    };
    let both = [ask(LIVER), ask("Can you segment the spleen in this image?")];
    eventually("both wait", || metric(&client, "r1seg_queue_depth") == 2.0);
    drop(busy);
    let [one, other] = both.map(|asked| asked.join().unwrap());
    assert_eq!(metric(&client, "r1seg_passes_total"), passes + 2.0);
    assert_eq!(metric(&client, "r1seg_shared_total"), 1.0);
    // Each got its own, and the same as alone.
    assert_eq!(one["answers"][0]["text"], alone["answers"][0]["text"]);
    assert_eq!(one["masks"][0]["voxels"], alone["masks"][0]["voxels"]);
    assert_eq!(other["answers"][0]["prompt"], "Can you segment the spleen in this image?");
    assert_ne!(one["id"], other["id"]);
    assert_eq!(metric(&client, "r1seg_cache_misses_total"), 1.0);
}

#[test]
fn s2_clients_are_served_in_turns_however_many_requests_one_has() {
    let running = patient(|config| {
        config.keys = Keys::of_lines(&KEYS.join("\n")).unwrap();
    });
    let [greedy, modest] = KEYS.map(|key| running.client().with_key(key));
    let id = uploaded(&greedy, 7);
    let theirs = uploaded(&modest, 8);
    let busy = greedy.begin("/v1/segment", &long(&id, 4), 2);
    eventually("the model is busy", || metric(&greedy, "r1seg_active") == 1.0);
    let send = |client: &Client, volume: &str, tokens: usize| {
        // Each takes so long that the order of the answers is the order of the turns.
        let (client, mut request) = (client.clone(), questions(volume, 0, 8));
        request["stream"] = json!(false);
        // Other options, so that none of them shares a pass.
        request["max_new_tokens"] = json!(tokens);
        std::thread::spawn(move || {
            assert_eq!(client.post("/v1/segment", &request).status, 200);
            Instant::now()
        })
    };
    let many: Vec<_> = (0..6).map(|n| send(&greedy, &id, 100 + n)).collect();
    eventually("six wait", || metric(&greedy, "r1seg_queue_depth") == 6.0);
    let one = send(&modest, &theirs, 200);
    eventually("seven wait", || metric(&greedy, "r1seg_queue_depth") == 7.0);
    drop(busy);
    let one = one.join().unwrap();
    let later = many.into_iter().map(|t| t.join().unwrap()).filter(|t| *t > one);
    assert!(later.count() >= 3, "the modest client was served behind the greedy one");
}

#[test]
fn a_place_in_the_queue_is_told_as_it_changes() {
    let running = patient(|_| {});
    let client = running.client();
    let id = uploaded(&client, 7);
    let busy = client.begin("/v1/segment", &long(&id, 5), 2);
    eventually("the model is busy", || metric(&client, "r1seg_active") == 1.0);
    let mut waiting = client.begin("/v1/segment", &long(&id, 6), 0);
    let mut next = || {
        let mut line = String::new();
        while !line.starts_with("data:") {
            line.clear();
            assert!(waiting.read_line(&mut line).unwrap() > 0);
        }
        line.trim().to_string()
    };
    assert_eq!(next(), "data: {\"position\":0}");
    drop(busy);
    assert!(next().contains("\"stage\""));
}

#[test]
fn a_request_that_takes_too_long_is_ended_and_the_next_one_served() {
    // Over before any machine has finished.
    let running = patient(|config| config.limits.timeout = Duration::from_millis(1));
    let client = running.client();
    let id = uploaded(&client, 7);
    let mut request = long(&id, 7);
    let events = client.post("/v1/segment", &request).events();
    let (name, data) = events.last().unwrap();
    assert_eq!(name, "error", "{data}");
    let error: Value = serde_json::from_str(data).unwrap();
    assert_eq!(error["error"]["code"], "R-SRV-15");
    assert!(error["error"]["request_id"].as_str().unwrap().starts_with("req_"));
    request["stream"] = json!(false);
    let reply = client.post("/v1/segment", &request);
    assert_eq!((reply.status, reply.code().as_str()), (503, "R-SRV-15"));
    eventually("the model is free", || metric(&client, "r1seg_active") == 0.0);
}

#[test]
fn s2_more_requests_than_the_server_takes_are_told_to_come_back() {
    let running = Running::start(|config| {
        config.limits.max_requests = 4;
        config.limits.queue = 2;
    });
    let client = running.client();
    let id = uploaded(&client, 7);
    let clients: Vec<_> = (0..64)
        .map(|n| {
            let (client, mut request) = (client.clone(), liver(&id));
            request["max_new_tokens"] = json!(64 + n);
            std::thread::spawn(move || client.post("/v1/segment", &request))
        })
        .collect();
    let replies: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    let count = |status: u16| replies.iter().filter(|reply| reply.status == status).count();
    assert!(count(200) >= 1 && count(200) + count(429) == 64, "{} {}", count(200), count(429));
    for refused in replies.iter().filter(|reply| reply.status == 429) {
        assert!(refused.header("retry-after").is_some());
    }
    eventually("all places are free", || metric(&client, "r1seg_in_flight") <= 1.0);
    assert_eq!(metric(&client, "r1seg_queue_depth"), 0.0);
}
