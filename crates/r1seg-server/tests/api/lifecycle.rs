//! Beginning, expiring, ending.

use std::io::BufRead;
use std::time::{Duration, Instant};

use r1seg_server::{Config, Keys, Server};
use serde_json::json;

use crate::support::{Running, demo, eventually, liver, metric, recorded, uploaded};

#[test]
fn a_server_says_that_it_lives_and_what_it_is() {
    let client = Running::shared().client();
    assert_eq!(client.get("/v1/health/live").json(), json!({"status": "ok"}));
    assert_eq!(client.get("/v1/health/ready").json(), json!({"status": "ok"}));
    let info = client.get("/v1/info").json();
    assert_eq!((&info["demo"], &info["research_use_only"]), (&json!(true), &json!(true)));
    assert_eq!(info["limits"]["queue"], 32);
    let model = client.get("/v1/models").json()["data"][0].clone();
    assert_eq!((&model["id"], &model["is_demo"]), (&json!("demo"), &json!(true)));
    assert_eq!(model["capabilities"]["prompts"][0], "question");
    assert_eq!(model["examples"][0], crate::support::LIVER);
}

#[test]
fn a_server_that_others_reach_needs_a_key_and_its_models_names_of_their_own() {
    let open = || {
        let mut config = Config::default();
        config.address = "0.0.0.0:0".parse().unwrap();
        config
    };
    let error = |config, models| Server::new(config, models).unwrap_err();
    assert_eq!(error(open(), vec![demo()]).code(), "R-SRV-18");
    let mut with_key = open();
    with_key.keys = Keys::of_lines("0123456789abcdef").unwrap();
    Server::new(with_key, vec![demo()]).unwrap();
    assert_eq!(error(Config::default(), vec![]).code(), "R-SRV-21");
    assert_eq!(error(Config::default(), vec![demo(), demo()]).code(), "R-SRV-21");
    let clip = error(Config::default(), vec![recorded("m3d-clip")]);
    assert!(clip.to_string().contains("takes no prompts"), "{clip}");
}

#[test]
fn what_nobody_uses_expires_and_what_is_used_stays() {
    // Long enough for a machine that does nothing for some seconds.
    const TTL: Duration = Duration::from_secs(6);
    let running = Running::start(|config| config.limits.ttl = TTL);
    let client = running.client();
    let unused = uploaded(&client, 2);
    let found = client.post("/v1/segment", &liver(&unused)).json();
    let result = found["id"].as_str().unwrap();
    let used = uploaded(&client, 1);
    let begin = Instant::now();
    while begin.elapsed() < 2 * TTL {
        assert_eq!(client.get(&format!("/v1/volumes/{used}")).status, 200);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(client.get(&format!("/v1/volumes/{unused}")).status, 404);
    assert_eq!(client.get(&format!("/v1/results/{result}")).status, 404);
    eventually("all files go", || running.files().is_empty());
    eventually("all volumes go", || metric(&client, "r1seg_volumes") == 0.0);
    eventually("what models made of them goes", || metric(&client, "r1seg_cache_bytes") == 0.0);
}

#[cfg(unix)]
#[test]
fn s8_files_are_for_this_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let running = Running::start(|_| {});
    let client = running.client();
    uploaded(&client, 1);
    for file in running.files() {
        let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&file), 0o600, "{}", file.display());
        assert_eq!(mode(file.parent().unwrap()), 0o700);
        assert_eq!(mode(file.parent().unwrap().parent().unwrap()), 0o700);
    }
}

#[test]
fn s11_what_runs_is_finished_when_the_server_stops() {
    let mut running = Running::start(|_| {});
    let client = running.client();
    let id = uploaded(&client, 7);
    let mut request = liver(&id);
    request["stream"] = json!(true);
    let mut reader = client.begin("/v1/segment", &request, 1);
    running.ask_to_stop();
    let mut rest = String::new();
    let mut line = String::new();
    while reader.read_line(&mut line).unwrap_or(0) > 0 {
        rest.push_str(&line);
        line.clear();
    }
    assert!(rest.contains("event: result"), "{rest}");
    running.join().unwrap();
    assert_eq!(running.files(), Vec::<std::path::PathBuf>::new());
    assert_eq!(std::fs::read_dir(running.folder.path()).unwrap().count(), 0);
}

#[test]
fn s11_a_server_that_stops_waits_no_longer_than_it_should() {
    let mut running = Running::start(|config| {
        config.limits.drain_timeout = Duration::from_millis(300);
        config.limits.max_prompts = 240;
    });
    let client = running.client();
    let id = uploaded(&client, 7);
    let prompts: Vec<_> =
        (0..240).map(|n| json!({"question": format!("{} {n}", crate::support::LIVER)})).collect();
    let request = json!({"model": "demo", "volume": id, "stream": true, "prompts": prompts});
    let held = client.begin("/v1/segment", &request, 2);
    let begin = Instant::now();
    running.join().unwrap();
    // Well below the 30 s that it waits by default, and well above what a slow machine needs.
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    drop(held);
}

#[test]
fn metrics_count_what_happened_and_name_nobody() {
    let running = Running::start(|_| {});
    let client = running.client();
    let id = uploaded(&client, 7);
    let found = client.post("/v1/segment", &liver(&id)).json();
    client.get("/v1/volumes/vol_secret");
    client.get("/secret/path");
    let text = client.get("/metrics").text();
    for line in [
        "r1seg_uploads_total 1",
        "r1seg_volumes 1",
        "r1seg_results 1",
        "r1seg_passes_total 1",
        "r1seg_cache_misses_total 1",
        "r1seg_queue_depth 0",
        "r1seg_active 0",
        "r1seg_requests_total{route=\"/v1/segment\",method=\"POST\",status=\"200\"} 1",
        "r1seg_requests_total{route=\"/v1/volumes/{id}\",method=\"GET\",status=\"404\"} 1",
        "r1seg_stage_seconds_count{stage=\"encode\"} 1",
        "r1seg_stage_seconds_count{stage=\"total\"} 1",
        "# EOF",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    for secret in [id.as_str(), found["id"].as_str().unwrap(), "secret", "ct.nii.gz", "liver"] {
        assert!(!text.contains(secret), "{secret}");
    }
}
