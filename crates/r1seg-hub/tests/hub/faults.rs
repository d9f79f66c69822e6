use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use r1seg_hub::{DownloadOptions, Error, ErrorKind, Event, Hub, Token};
use serde_json::json;

use crate::client::{config, hub, id};
use crate::download::download;
use crate::server::{COMMIT, MODEL, Reply, Server, git_hash, weights};

/// The error of a download from a hub that always answers `reply` to requests of `part`.
fn error_of(part: &'static str, reply: Reply) -> Error {
    let server = Server::start();
    let (folder, hub) = hub(&server);
    server.on(move |request, _| request.path.contains(part).then(|| reply.clone()));
    let error = download(&hub, &id(MODEL)).unwrap_err();
    assert!(!folder.path().join("models--lihao0011--R1Seg-3D-SAM/refs/main").exists());
    error
}

#[test]
fn statuses_are_told_apart() {
    for (status, code, kind) in [
        (400, "R-HUB-15", ErrorKind::Model),
        (401, "R-HUB-11", ErrorKind::Missing),
        (403, "R-HUB-12", ErrorKind::Missing),
        (404, "R-HUB-10", ErrorKind::Missing),
        (429, "R-HUB-13", ErrorKind::Network),
        (500, "R-HUB-14", ErrorKind::Network),
        (503, "R-HUB-14", ErrorKind::Network),
        (304, "R-HUB-15", ErrorKind::Model),
    ] {
        for part in ["/api/", "/cdn/", "config.json"] {
            let error = error_of(part, Reply::new(status, "secret text of the server"));
            assert_eq!((error.code(), error.kind()), (code, kind), "{status} {part}");
            assert!(!error.to_string().contains("secret"), "{error}");
            assert!(error.remedy().is_some());
        }
    }
}

#[test]
fn refused_token_is_told_from_no_token_and_from_conditions() {
    let refused = |token: Option<Token>, reply: Reply| {
        let server = Server::start();
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(&server, folder.path());
        config.token = token;
        server.on(move |_, _| Some(reply.clone()));
        download(&Hub::new(config), &id(MODEL)).unwrap_err()
    };
    let without = refused(None, Reply::new(401, ""));
    assert!(without.code() == "R-HUB-11" && without.message().contains("an access token"));
    let with = refused(Token::new("hf_x"), Reply::new(401, ""));
    assert!(with.code() == "R-HUB-11" && with.message().contains("a valid token"));
    assert!(!format!("{with} {with:?} {:?}", with.remedy()).contains("hf_x"));
    let gated = refused(None, Reply::new(401, "").with("X-Error-Code", "GatedRepo"));
    assert!(gated.code() == "R-HUB-12");
}

#[test]
fn unknown_model_gets_a_suggestion() {
    let server = Server::start();
    let (_folder, hub) = hub(&server);
    let error = download(&hub, &id("lihao011/R1Seg-3D-SAM")).unwrap_err();
    assert_eq!(error.remedy(), Some("did you mean R1Seg-3D-SAM?".to_owned().into()));
}

#[test]
fn failing_server_is_asked_again_and_for_longer_and_longer() {
    let server = Server::start();
    let (_folder, hub) = hub(&server);
    server.on(|request, n| {
        let fails = n < 3 && !request.path.contains("model.safetensors");
        fails.then(|| Reply::new(502, ""))
    });
    let mut waits = Vec::new();
    let result = hub.download(&id(MODEL), &DownloadOptions::default(), &mut |event| {
        if let Event::Retrying { name: MODEL, wait, .. } = event {
            waits.push(wait.as_millis());
        }
    });
    assert!(result.is_ok());
    assert_eq!(waits, [10, 20, 40]);
}

#[test]
fn retry_after_is_honored_up_to_a_limit() {
    for (asked, expected) in [("1", 1000), ("86400", 1500), ("Wed, 21 Oct 2015 07:28:00 GMT", 10)] {
        let server = Server::start();
        let (_folder, hub) = hub(&server);
        let sound = server.clone();
        server.on(move |request, n| {
            let limited = Reply::new(429, "").with("Retry-After", asked);
            Some(if n == 0 && request.path.contains("/api/") {
                limited
            } else {
                sound.reply(request)
            })
        });
        let (begin, mut waits) = (Instant::now(), Vec::new());
        hub.download(&id(MODEL), &DownloadOptions::default(), &mut |event| {
            if let Event::Retrying { wait, .. } = event {
                waits.push(wait.as_millis());
            }
        })
        .unwrap();
        assert_eq!(waits, [expected], "{asked}");
        assert!(begin.elapsed() >= Duration::from_millis(expected as u64));
    }
}

#[test]
fn body_that_drips_counts_as_stalled() {
    let server = Server::start();
    let (_folder, hub) = hub(&server);
    server.on_weights(|reply, _| Reply { drip: Some(Duration::from_millis(20)), ..reply });
    let options = DownloadOptions { retries: 1, ..DownloadOptions::default() };
    let begin = Instant::now();
    let error = hub.download(&id(MODEL), &options, &mut |_| {}).unwrap_err();
    assert_eq!(error.code(), "R-HUB-18");
    assert!(error.message().starts_with("model.safetensors: only "), "{error}");
    assert_eq!(server.requests_of("/cdn/").len(), 2);
    assert!(begin.elapsed() < Duration::from_secs(4));
}

#[test]
fn body_that_stops_counts_as_stalled() {
    let server = Server::start();
    let (_folder, hub) = hub(&server);
    server.on(|request, _| {
        let is_weights = request.path.contains("/cdn/");
        is_weights
            .then(|| Reply { drip: Some(Duration::from_secs(30)), ..Reply::new(200, weights()) })
    });
    let options = DownloadOptions { retries: 0, ..DownloadOptions::default() };
    let begin = Instant::now();
    let error = hub.download(&id(MODEL), &options, &mut |_| {}).unwrap_err();
    assert_eq!(error.code(), "R-HUB-18");
    let says = ["0", "1"].map(|n| format!("model.safetensors: only {n} bytes came in "));
    assert!(says.iter().any(|text| error.message().starts_with(text)), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(4));
}

#[test]
fn dead_server_is_no_connection() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&server, folder.path());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    config.endpoint = format!("http://127.0.0.1:{port}");
    let mut attempts = 0;
    let result = Hub::new(config).download(&id(MODEL), &DownloadOptions::default(), &mut |_| {
        attempts += 1;
    });
    let error = result.unwrap_err();
    assert_eq!((error.code(), error.kind(), attempts), ("R-HUB-16", ErrorKind::Network, 2));
    let expected = format!("no connection to 127.0.0.1:{port}: ");
    assert!(error.to_string().starts_with(&expected), "{error}");
}

#[cfg(feature = "tls")]
#[test]
fn server_that_speaks_no_tls_is_not_asked_again() {
    use std::io::{Read, Write};

    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&server, folder.path());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    config.endpoint = format!("https://{}", listener.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 64]).unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        // Whoever connects again gets no answer, and another error.
        stream.read(&mut [0; 4096]).unwrap()
    });
    let error = download(&Hub::new(config.clone()), &id(MODEL)).unwrap_err();
    assert_eq!((error.code(), error.kind()), ("R-HUB-26", ErrorKind::Io), "{error}");
    answering.join().unwrap();
    let empty = folder.path().join("empty.pem");
    fs::write(&empty, "no certificate").unwrap();
    config.certificates = Some(empty);
    let error = download(&Hub::new(config), &id(MODEL)).unwrap_err();
    assert_eq!((error.code(), error.kind()), ("R-HUB-34", ErrorKind::Usage));
}

#[test]
fn w7_wrong_bytes_never_enter_the_cache() {
    let server = Server::start();
    let (folder, hub) = hub(&server);
    let mut wrong = weights();
    wrong[2_000_000] ^= 1;
    let got = crate::server::FileOnHub { bytes: wrong.clone(), is_lfs: true }.hash();
    server.on_weights(move |_, _| Reply::new(200, wrong.clone()));
    let error = download(&hub, &id(MODEL)).unwrap_err();
    let expected = server.file("model.safetensors").hash();
    let says = format!("model.safetensors: its hash is {got}, expected {expected}");
    assert_eq!((error.message(), error.kind()), (says, ErrorKind::Model));
    let model = folder.path().join("models--lihao0011--R1Seg-3D-SAM");
    let blobs = fs::read_dir(model.join("blobs")).unwrap().count();
    assert_eq!(blobs, 2, "config.json and README.md");
    assert!(!model.join("refs/main").exists());
}

#[test]
fn small_files_are_checked_by_their_git_hash() {
    let error = error_of("config.json", Reply::new(200, "{\"model_type\": \"y\"}\n"));
    assert!(error.message().starts_with("config.json: its hash is "), "{error}");
}

#[test]
fn lengths_that_contradict_the_hub_are_refused_before_the_transfer() {
    for body in [weights()[1..].to_vec(), [weights(), vec![0]].concat()] {
        let expected = weights().len() as u64;
        let error = error_of("/cdn/", Reply::new(200, body.clone()));
        let got = body.len();
        let says =
            format!("model.safetensors: the hub states {expected} bytes, its server {got} or more");
        assert_eq!((error.code(), error.message()), ("R-HUB-20", says));
    }
    // Without a stated length, at the first byte too many.
    let longer = Reply { chunked: true, ..Reply::new(200, [weights(), vec![0; 1 << 20]].concat()) };
    assert!(error_of("/cdn/", longer).code() == "R-HUB-20");
}

#[test]
fn hash_that_the_hub_contradicts_itself_about_is_refused_before_the_transfer() {
    let server = Server::start();
    let (_folder, hub) = hub(&server);
    let other = "0".repeat(64);
    let sent = other.clone();
    server.on(move |request, _| match request.path.as_str() {
        "/cdn/right-bytes" => Some(Reply::new(200, weights())),
        path if path.ends_with("model.safetensors") => Some(
            Reply::new(302, "")
                .with("X-Linked-Etag", format!("\"{sent}\""))
                .with("Location", "/cdn/right-bytes"),
        ),
        _ => None,
    });
    let error = download(&hub, &id(MODEL)).unwrap_err();
    let says = format!("model.safetensors: its hash is {other}, expected ");
    assert!(error.code() == "R-HUB-21" && error.message().starts_with(&says), "{error}");
}

#[test]
fn answers_that_are_no_listing_are_refused() {
    let long = format!("{{\"sha\": \"{}\"", " ".repeat(33 << 20));
    for (reply, reason) in [
        (Reply::new(200, "<!doctype html><title>Log in</title>"), "JSON"),
        (Reply::new(200, ""), "JSON"),
        (Reply::new(200, "[[[[[[[[".repeat(100_000)), "JSON"),
        (Reply::new(200, long), "32 MiB"),
        (Reply::new(302, "").with("Location", "/api/x"), "8 times"),
        (Reply::new(302, "").with("Location", "ftp://x/y"), "not an address"),
        (Reply::new(200, "{}").with("Content-Encoding", "gzip"), "compressed"),
    ] {
        let error = error_of("/api/", reply);
        assert_eq!(error.code(), "R-HUB-23", "{reason}: {error}");
        assert!(error.message().contains(reason), "{reason}: {error}");
    }
}

#[test]
fn redirect_that_leads_in_a_circle_ends() {
    let server = Server::start();
    let (_folder, hub) = hub(&server);
    server.on(|request, _| Some(Reply::new(302, "").with("Location", request.path.clone())));
    assert_eq!(download(&hub, &id(MODEL)).unwrap_err().code(), "R-HUB-23");
    assert_eq!(server.requests().len(), 9);
}

#[test]
fn hostile_file_names_are_refused_and_nothing_is_written() {
    for name in [
        "../../evil.safetensors",
        "/tmp/evil.safetensors",
        "a\\..\\evil.bin",
        "C:evil.bin",
        "x\0.bin",
    ] {
        let server = Server::start();
        let (folder, hub) = hub(&server);
        let mut listing = server.listing();
        listing["siblings"].as_array_mut().unwrap().push(json!({ "rfilename": name, "size": 3 }));
        server.on(move |request, _| {
            request.path.contains("/api/").then(|| Reply::new(200, listing.to_string()))
        });
        let error = download(&hub, &id(MODEL)).unwrap_err();
        assert_eq!(error.code(), "R-HUB-24", "{name}");
        assert!(error.message().ends_with("(number 4)"), "{name}: {error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn commit_other_than_the_pinned_one_is_refused() {
    let server = Server::start();
    let (_folder, hub) = hub(&server);
    let error = download(&hub, &id(&format!("{MODEL}@{}", "3".repeat(40)))).unwrap_err();
    assert_eq!(error.code(), "R-HUB-23");
}

#[test]
fn r2_model_that_cannot_fit_is_refused_before_the_transfer() {
    let server = Server::start();
    let (_folder, hub) = hub(&server);
    let mut listing = server.listing();
    let weights = listing["siblings"].as_array_mut().unwrap();
    let weights = weights.iter_mut().find(|file| file.get("lfs").is_some()).unwrap();
    weights["lfs"]["size"] = json!(1_u64 << 60);
    server.on(move |request, _| {
        request.path.contains("/api/").then(|| Reply::new(200, listing.to_string()))
    });
    let error = download(&hub, &id(MODEL)).unwrap_err();
    assert_eq!(error.code(), "R-HUB-30");
    let message = error.message();
    let number = |at: usize| message.split(' ').nth(at).and_then(|n| n.parse::<u64>().ok());
    let (needed, free) = (number(0).unwrap(), number(4).unwrap());
    assert!(needed >= 1 << 60 && free < needed, "{message}");
    assert!(server.requests_of("/resolve/").is_empty());
}

#[cfg(unix)]
#[test]
fn r2_cache_that_is_a_file_cannot_be_created() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cache");
    fs::write(&file, "").unwrap();
    let error = download(&Hub::new(config(&server, &file)), &id(MODEL)).unwrap_err();
    assert_eq!((error.code(), error.kind()), ("R-HUB-31", ErrorKind::CannotCreate));
}

#[test]
fn mirror_that_lists_names_alone_is_asked_for_each_hash() {
    let server = Server::start();
    let (_folder, hub) = hub(&server);
    let names = ["config.json", "model.safetensors"].map(|name| json!({ "rfilename": name }));
    let listing = json!({ "sha": COMMIT, "siblings": names }).to_string();
    let tags = Arc::new(Mutex::new(Vec::new()));
    let seen = tags.clone();
    server.on(move |request, _| {
        if request.path.contains("/api/") {
            return Some(Reply::new(200, listing.clone()));
        }
        seen.lock().unwrap().push(request.method.clone());
        None
    });
    let snapshot = download(&hub, &id(MODEL)).unwrap();
    assert_eq!(fs::read(snapshot.path.join("model.safetensors")).unwrap(), weights());
    assert_eq!(*tags.lock().unwrap(), ["HEAD", "HEAD", "GET", "GET", "GET"]);
    let checks = hub.verify(&snapshot, &Default::default(), &mut |_| {}).unwrap();
    assert!(checks.iter().all(|check| matches!(check.state, r1seg_hub::FileState::Intact(_))));
}

#[test]
fn mirrors_etag_may_be_weak_or_bare_but_must_be_a_hash() {
    let text = "{\"model_type\": \"x\"}\n";
    let hash = git_hash(text.as_bytes());
    for (tag, is_good) in [
        (format!("W/\"{hash}\""), true),
        (hash.clone(), true),
        (hash.to_uppercase(), true),
        ("\"9d377b10ce778c4938b3c7e2c63a229a\"".to_owned(), false),
        ("\"d41d8cd98f00b204e9800998ecf8427e-2\"".to_owned(), false),
        (format!("\"{hash}/../x\""), false),
    ] {
        let server = Server::start();
        let (_folder, hub) = hub(&server);
        let mut listing = server.listing();
        for sibling in listing["siblings"].as_array_mut().unwrap() {
            if sibling["rfilename"] == "config.json" {
                *sibling = json!({ "rfilename": "config.json" });
            }
        }
        let sent = tag.clone();
        server.on(move |request, _| match request.path.as_str() {
            path if path.contains("/api/") => Some(Reply::new(200, listing.to_string())),
            path if path.ends_with("config.json") => {
                Some(Reply::new(200, text).with("ETag", sent.clone()))
            }
            _ => None,
        });
        match download(&hub, &id(MODEL)) {
            Ok(snapshot) => {
                assert!(is_good, "{tag}");
                assert_eq!(fs::read_to_string(snapshot.path.join("config.json")).unwrap(), text);
            }
            Err(error) => {
                assert!(!is_good && error.code() == "R-HUB-22", "{tag}: {error}");
            }
        }
    }
}
