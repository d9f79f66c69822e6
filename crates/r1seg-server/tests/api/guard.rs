//! Who may send requests, and what they see of others.

use serde_json::json;

use crate::support::{Client, KEYS, Running, liver, uploaded};

#[test]
fn s5_without_its_key_nobody_gets_in() {
    let running = Running::with_keys();
    let nobody = running.client();
    let paths =
        ["/v1/models", "/v1/volumes/vol_0", "/v1/results/res_0", "/v1/masks/res_0.png", "/metrics"];
    for client in [nobody.clone(), nobody.clone().with_key("wrong-key-of-the-tests")] {
        for path in paths {
            let reply = client.get(path);
            assert_eq!((reply.status, reply.code().as_str()), (401, "R-SRV-01"), "{path}");
            assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        }
        for path in ["/v1/volumes", "/v1/segment", "/v1/chat/completions"] {
            // Refused before the body is read.
            assert_eq!(client.post(path, &json!({})).status, 401, "{path}");
        }
    }
    for path in ["/v1/health/live", "/v1/health/ready", "/v1/info", "/openapi.json", "/"] {
        assert_eq!(nobody.get(path).status, 200, "{path}");
    }
    assert_eq!(nobody.get("/v1/info").json()["key_required"], true);
    let twice = nobody.clone().with_key(KEYS[0]).with_key(KEYS[1]);
    assert_eq!(twice.get("/v1/models").status, 401);
    assert_eq!(nobody.with_key(KEYS[0]).get("/v1/models").status, 200);
}

#[test]
fn s8_what_belongs_to_another_key_is_not_there() {
    let running = Running::with_keys();
    let [one, other] = KEYS.map(|key| running.client().with_key(key));
    let id = uploaded(&one, 7);
    let found = one.post("/v1/segment", &liver(&id)).json();
    let result = found["id"].as_str().unwrap();
    for path in [
        format!("/v1/volumes/{id}"),
        format!("/v1/volumes/{id}/volume.nii.gz"),
        format!("/v1/volumes/{id}/slice.png"),
        format!("/v1/results/{result}"),
        format!("/v1/results/{result}.zip"),
        format!("/v1/results/{result}/files/mask.nii.gz"),
        format!("/v1/masks/{result}.nii.gz"),
    ] {
        let reply = other.get(&path);
        assert_eq!((reply.status, reply.code().as_str()), (404, "R-SRV-04"), "{path}");
        assert_eq!(one.get(&path).status, 200, "{path}");
    }
    assert_eq!(other.delete(&format!("/v1/volumes/{id}")).status, 404);
    assert_eq!(other.delete(&format!("/v1/results/{result}")).status, 404);
    assert_eq!(other.post("/v1/segment", &liver(&id)).status, 404);
    let chat = json!({"model": "demo", "messages": [{"role": "user", "content": [
        {"type": "volume", "volume": {"id": id}}, {"type": "text", "text": "Liver?"}]}]});
    assert_eq!(other.post("/v1/chat/completions", &chat).status, 404);
    // The same bytes under another key are another volume, with nothing encoded yet.
    let theirs = uploaded(&other, 7);
    assert_ne!(theirs, id);
    let mask = json!({"model": "demo", "volume": theirs, "prompts": [
        {"text": "liver", "mask": {"result": result, "label": 1}}]});
    assert_eq!(other.post("/v1/segment", &mask).status, 404);
    let misses = |client: &Client| crate::support::metric(client, "r1seg_cache_misses_total");
    let before = misses(&other);
    assert_eq!(other.post("/v1/segment", &liver(&theirs)).status, 200);
    assert_eq!(misses(&other), before + 1.0);
}

#[test]
fn s9_a_page_of_another_origin_gets_nothing() {
    let client = Running::shared().client();
    let own = format!("http://{}", client.address);
    let with = |name: &str, value: &str| client.clone().with_header(name, value);
    assert_eq!(with("Origin", &own).get("/v1/models").status, 200);
    for origin in ["http://evil.example", "null", "http://localhost:1", "https://127.0.0.1", ""] {
        let reply = with("Origin", origin).get("/v1/models");
        assert_eq!((reply.status, reply.code().as_str()), (403, "R-SRV-03"), "{origin}");
        assert_eq!(reply.header("access-control-allow-origin"), None);
    }
    assert_eq!(with("Sec-Fetch-Site", "cross-site").get("/v1/models").status, 403);
    assert_eq!(with("Sec-Fetch-Site", "same-site").get("/v1/models").status, 403);
    assert_eq!(with("Sec-Fetch-Site", "same-origin").get("/v1/models").status, 200);
    assert_eq!(with("Sec-Fetch-Site", "cross-site").get("/").status, 200);
    let asked = with("Origin", "http://evil.example")
        .with_header("Access-Control-Request-Method", "POST")
        .send("OPTIONS", "/v1/segment", "", b"");
    assert_eq!(asked.status, 403);
}

#[test]
fn s9_a_name_that_an_attacker_lets_point_here_is_refused() {
    let running =
        Running::start(|config| config.allowed_hosts = vec!["ct.example.org".to_string()]);
    let client = running.client();
    let port = client.address.port();
    let called = |host: &str| client.clone().with_header("Host", host).get("/v1/info");
    for host in ["localhost", "127.0.0.1", "[::1]", "LOCALHOST", "ct.example.org", "localhost."] {
        assert_eq!(called(&format!("{host}:{port}")).status, 200, "{host}");
        assert_eq!(called(host).status, 200, "{host}");
    }
    for host in [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.1.2.3",
        "a@localhost",
        "",
        "x y",
    ] {
        let reply = called(host);
        assert!([421, 400].contains(&reply.status), "{host}: {}", reply.status);
    }
    let twice = client.clone().with_header("Host", "localhost").with_header("Host", "evil.example");
    assert!([421, 400].contains(&twice.get("/v1/info").status));
    let none = client.raw(b"GET /v1/info HTTP/1.0\r\n\r\n");
    assert_eq!(none.status, 421);
    let target = client.raw(
        b"GET http://evil.example/v1/info HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(target.status, 421);
}

#[test]
fn every_response_is_named_and_says_what_browsers_may_do_with_it() {
    let client = Running::shared().client();
    for path in ["/", "/v1/info", "/v1/volumes/vol_0", "/nothing", "/v1/health/live"] {
        let reply = client.get(path);
        let id = reply.header("x-request-id").unwrap();
        assert!(id.starts_with("req_") && id.len() == 36, "{path}: {id}");
        if reply.status >= 400 {
            assert_eq!(reply.json()["error"]["request_id"], id);
        }
        let policy = reply.header("content-security-policy").unwrap();
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "frame-ancestors 'none'",
            "form-action 'none'",
        ] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(reply.header("access-control-allow-origin"), None);
    }
    assert_eq!(client.get("/v1/info").header("cache-control"), Some("no-store"));
    let page = client.get("/");
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let again = client.clone().with_header("If-None-Match", page.header("etag").unwrap()).get("/");
    assert_eq!((again.status, again.body.len()), (304, 0));
    assert_eq!(client.delete("/v1/info").code(), "R-SRV-05");
}
