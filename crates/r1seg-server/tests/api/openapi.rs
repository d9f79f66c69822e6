//! The description of the API, compared with what the server does.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{Running, demo};

fn document() -> Value {
    let reply = Running::shared().client().get("/openapi.json");
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
    reply.json()
}

/// All paths with their methods.
fn operations(document: &Value) -> Vec<(String, String)> {
    let paths = document["paths"].as_object().unwrap();
    let methods = |(path, item): (&String, &Value)| {
        let methods: Vec<_> = item.as_object().unwrap().keys().cloned().collect();
        methods.into_iter().map(|method| (path.clone(), method)).collect::<Vec<_>>()
    };
    paths.iter().flat_map(methods).collect()
}

#[test]
fn every_path_of_the_contract_is_described() {
    let described: BTreeSet<String> = operations(&document())
        .into_iter()
        .map(|(path, method)| format!("{} {path}", method.to_uppercase()))
        .collect();
    let expected = [
        "GET /",
        "GET /metrics",
        "GET /openapi.json",
        "GET /v1/health/live",
        "GET /v1/health/ready",
        "GET /v1/info",
        "GET /v1/masks/{file}",
        "GET /v1/models",
        "GET /v1/results/{id}",
        "DELETE /v1/results/{id}",
        "GET /v1/results/{id}/files/{name}",
        "GET /v1/volumes/{id}",
        "DELETE /v1/volumes/{id}",
        "GET /v1/volumes/{id}/slice.png",
        "GET /v1/volumes/{id}/volume.nii.gz",
        "POST /v1/chat/completions",
        "POST /v1/segment",
        "POST /v1/volumes",
        "POST /v1/volumes/phantom",
    ];
    assert_eq!(described, expected.map(str::to_string).into());
}

#[test]
fn every_path_that_is_described_answers_and_says_so_in_its_metrics() {
    let running = Running::start(|_| {});
    let client = running.client();
    for (path, method) in operations(&document()) {
        let method = method.to_uppercase();
        let concrete = path.replace("{id}", "x").replace("{name}", "x").replace("{file}", "x.png");
        let body = if method == "POST" { "{}" } else { "" };
        let reply = client.send(&method, &concrete, "application/json", body.as_bytes());
        assert!(![405, 500].contains(&reply.status), "{method} {path}: {}", reply.status);
        if reply.status == 404 {
            assert_ne!(
                reply.json()["error"]["message"],
                "there is no such path, or it has expired"
            );
        }
        let metrics = client.get("/metrics").text();
        assert!(
            metrics.contains(&format!("route=\"{path}\",method=\"{method}\"")),
            "{method} {path}"
        );
    }
}

#[test]
fn what_is_described_says_of_keys_errors_and_schemas_what_is_true() {
    let document = document();
    assert_eq!(document["info"]["title"], "r1seg");
    assert_eq!(document["components"]["securitySchemes"]["key"]["scheme"], "bearer");
    for (path, method) in operations(&document) {
        let operation = &document["paths"][&path][&method];
        let needs_key = operation["security"] == json!([{"key": []}]);
        let open = ["/", "/openapi.json", "/v1/info", "/v1/health/live", "/v1/health/ready"];
        assert_eq!(needs_key, !open.contains(&path.as_str()), "{method} {path}");
        assert!(!operation["summary"].as_str().unwrap_or_default().is_empty(), "{method} {path}");
        for status in ["400", "421", "429", "500", "503"] {
            assert!(operation["responses"][status].is_object(), "{method} {path} {status}");
        }
    }
    // Every reference leads to a schema.
    let text = document.to_string();
    for name in
        text.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next())
    {
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
}

#[test]
fn a_program_can_serve_the_paths_itself() {
    let server = r1seg_server::Server::new(r1seg_server::Config::default(), vec![demo()]).unwrap();
    let own: Value = serde_json::from_str(server.openapi()).unwrap();
    assert_eq!(own, document());
    drop(server.router());
}
