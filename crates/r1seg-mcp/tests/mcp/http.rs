use ::http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use r1seg::ModelSource;
use r1seg_mcp::args::{AskVolume, InspectVolume, SegmentVolume};
use r1seg_mcp::results::{Inspected, Models, Outcome};
use r1seg_mcp::{
    Call, Desk, Failure, Hints, HttpOptions, HttpService, LocalDesk, LocalOptions, Server,
    http_service,
};
use serde_json::{Value, json};
use tower_service::Service;

/// Whose key a request had, as a layer around the service would say it.
#[derive(Clone)]
struct Key(&'static str);

/// A desk that says who calls.
struct Counter;

impl Desk for Counter {
    fn hints(&self) -> Hints {
        let hint = || "x".to_string();
        Hints { volume: "The id of an uploaded volume.".to_string(), mask: hint(), results: hint() }
    }

    async fn list_models(&self, call: Call) -> Result<Models, Failure> {
        let volumes = call.extension::<Key>().map_or("nobody", |key| key.0).to_string();
        Ok(Models { models: vec![], volumes, results: String::new(), research_use_only: true })
    }

    async fn inspect_volume(&self, _: InspectVolume, _: Call) -> Result<Inspected, Failure> {
        Ok(Inspected::default())
    }

    async fn ask_volume(&self, _: AskVolume, _: Call) -> Result<Outcome, Failure> {
        Ok(Outcome::default())
    }

    async fn segment_volume(&self, _: SegmentVolume, _: Call) -> Result<Outcome, Failure> {
        Ok(Outcome::default())
    }
}

fn request(body: &Value) -> Request<Full<bytes::Bytes>> {
    Request::post("/mcp")
        .header("host", "localhost:8080")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .body(Full::from(body.to_string()))
        .unwrap()
}

fn initialize() -> Value {
    json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": { "name": "test", "version": "0" },
        },
    })
}

async fn send<D: Desk>(
    service: &mut HttpService<D>,
    request: Request<Full<bytes::Bytes>>,
) -> (StatusCode, Option<String>, String) {
    let response: Response<_> = service.call(request).await.unwrap();
    let status = response.status();
    let session = response.headers().get("mcp-session-id").map(|v| v.to_str().unwrap().to_string());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, session, String::from_utf8(body.to_vec()).unwrap())
}

/// What a call is answered, by a service that keeps no session between requests.
async fn call<D: Desk>(service: &mut HttpService<D>, key: Option<Key>, method: &str) -> String {
    let (status, session, body) = send(service, request(&initialize())).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(session, None);
    let of_client = |body: Value| {
        let mut request = request(&body);
        if let Some(key) = &key {
            request.extensions_mut().insert(key.clone());
        }
        request
    };
    let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    assert_eq!(send(service, of_client(initialized)).await.0, StatusCode::ACCEPTED);
    let params = json!({ "name": "list_models", "arguments": {} });
    let called = json!({ "jsonrpc": "2.0", "id": 2, "method": method, "params": params });
    let (status, _, body) = send(service, of_client(called)).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body
}

#[tokio::test]
async fn a_desk_over_http_knows_whose_key_a_request_had() {
    let mut service = http_service(Server::new(Counter), HttpOptions::default());
    let body = call(&mut service, Some(Key("alice")), "tools/call").await;
    assert!(body.contains("alice"), "{body}");
    let body = call(&mut service, None, "tools/call").await;
    assert!(body.contains("nobody"), "{body}");
}

#[tokio::test]
async fn a_page_of_another_site_and_a_foreign_host_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let options = LocalOptions::new(vec![ModelSource::from("demo").find().unwrap()], folder.path());
    let mut service =
        http_service(Server::new(LocalDesk::new(options).unwrap()), HttpOptions::default());
    let tools = call(&mut service, None, "tools/list").await;
    assert!(tools.contains("segment_volume"), "{tools}");

    let mut page = request(&initialize());
    page.headers_mut().insert("origin", "https://example.org".parse().unwrap());
    assert_eq!(send(&mut service, page).await.0, StatusCode::FORBIDDEN);
    let mut host = request(&initialize());
    host.headers_mut().insert("host", "example.org".parse().unwrap());
    assert_eq!(send(&mut service, host).await.0, StatusCode::FORBIDDEN);
    let huge = json!({ "x": "x".repeat(2 << 20) });
    assert_eq!(send(&mut service, request(&huge)).await.0, StatusCode::PAYLOAD_TOO_LARGE);
}
