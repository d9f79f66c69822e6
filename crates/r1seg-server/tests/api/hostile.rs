//! Requests that no proper client sends.

use std::io::{BufReader, Read, Write};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use r1seg_server::Config;
use serde_json::json;

use crate::support::{Client, LIVER, Running, multipart, phantom, uploaded};

fn impatient(config: &mut Config) {
    config.limits.max_body_bytes = 1 << 20;
    config.limits.header_timeout = Duration::from_millis(500);
    config.limits.idle_timeout = Duration::from_millis(500);
    config.limits.body_timeout = Duration::from_secs(2);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A NIfTI header of i16 voxels.
fn nifti([i, j, k]: [i16; 3]) -> Vec<u8> {
    let mut header = vec![0; 352];
    header[0..4].copy_from_slice(&348_i32.to_le_bytes());
    for (n, value) in [3, i, j, k, 1, 1, 1, 1].into_iter().enumerate() {
        header[40 + 2 * n..42 + 2 * n].copy_from_slice(&value.to_le_bytes());
    }
    header[70..72].copy_from_slice(&4_i16.to_le_bytes());
    header[72..74].copy_from_slice(&16_i16.to_le_bytes());
    for n in 0..4 {
        header[76 + 4 * n..80 + 4 * n].copy_from_slice(&1_f32.to_le_bytes());
    }
    header[108..112].copy_from_slice(&352_f32.to_le_bytes());
    header[344..348].copy_from_slice(b"n+1\0");
    header
}

#[test]
fn s1_a_body_over_the_limit_is_refused_and_leaves_nothing() {
    let running = Running::start(impatient);
    let client = running.client();
    // By what it says beforehand.
    let head =
        client.head("POST", "/v1/volumes", "multipart/form-data; boundary=xYx", Some(1 << 30));
    let reply = client.raw(head.as_bytes());
    assert_eq!((reply.status, reply.code().as_str()), (413, "R-SRV-06"));
    // By what it sends, without an end.
    let head = client.head("POST", "/v1/volumes", "multipart/form-data; boundary=xYx", None);
    let head = head.replace("Connection: close", "Connection: close\r\nTransfer-Encoding: chunked");
    let mut stream = client.open(head.as_bytes());
    let part = b"--xYx\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n";
    let chunk =
        |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    stream.write_all(&chunk(part)).unwrap();
    let block = chunk(&vec![7; 1 << 16]);
    let mut sent = 0_usize;
    while stream.write_all(&block).is_ok() {
        sent += 1 << 16;
        assert!(sent < 1 << 28, "the server takes it all");
    }
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413"), "{answer}");
    let json = format!("{{\"model\": \"{}\"", "x".repeat(2 << 20));
    assert_eq!(client.post_text("/v1/segment", &json).status, 413);
    assert_eq!(running.files(), Vec::<std::path::PathBuf>::new());
    let metrics = client.get("/metrics").text();
    assert!(metrics.contains("r1seg_stored_bytes 0"), "{metrics}");
}

#[test]
fn s1_a_form_in_which_no_part_begins_is_refused_long_before_the_limit() {
    let running = Running::start(|_| {});
    let client = running.client();
    let head = client.head("POST", "/v1/volumes", "multipart/form-data; boundary=xYx", None);
    let head = head.replace("Connection: close", "Connection: close\r\nTransfer-Encoding: chunked");
    let chunk =
        |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    let part = "--xYx\r\nContent-Disposition: form-data; name=\"file\"\r\nX-Long: ";
    for start in ["no boundary at all", part] {
        let mut stream = client.open(head.as_bytes());
        stream.write_all(&chunk(start.as_bytes())).unwrap();
        let block = chunk(&[b'7'; 1 << 14]);
        let mut sent = 0_usize;
        while stream.write_all(&block).is_ok() {
            sent += 1 << 14;
            // Systems take some for a server that does not read.
            assert!(sent < 1 << 26, "the server takes it all: {start}");
        }
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    crate::support::eventually("nothing is left", || running.files().is_empty());
}

#[test]
fn s1_a_client_that_sends_too_slowly_is_let_go() {
    let running = Running::start(impatient);
    let client = running.client();
    // A head that never ends.
    let begin = Instant::now();
    let mut stream = client.open(b"GET /v1/info HTTP/1.1\r\nHost: localhost\r\nX-Slow: ");
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    let text = String::from_utf8_lossy(&rest);
    assert!(rest.is_empty() || text.starts_with("HTTP/1.1 408"), "{text}");
    assert!(begin.elapsed() < Duration::from_secs(5));
    // A body that stops.
    let head = client.head("POST", "/v1/segment", "application/json", Some(100));
    let reply = client.raw((head + "{\"model\"").as_bytes());
    assert_eq!((reply.status, reply.code().as_str()), (408, "R-SRV-07"));
    // A body that drips, an octet at a time, and is over its time as a whole.
    let head = client.head("POST", "/v1/volumes", "multipart/form-data; boundary=xYx", Some(1000));
    let mut stream = client.open(head.as_bytes());
    let begin = Instant::now();
    for _ in 0..40 {
        if stream.write_all(b"-").is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(begin.elapsed() < Duration::from_secs(10));
    let reply = crate::support::reply(&mut BufReader::new(stream));
    assert!([408, 0].contains(&reply.status), "{}", reply.status);
    assert_eq!(running.files(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn s1_a_client_that_asks_and_does_not_read_is_let_go() {
    let running = Running::start(impatient);
    let client = running.client();
    // More than the system takes for a client that does not read.
    let voxels: Vec<u8> = (0..96 * 96 * 40_u32)
        .flat_map(|n| (n.wrapping_mul(2_654_435_761) as u16).to_le_bytes())
        .collect();
    let noise = [nifti([96, 96, 40]), voxels].concat();
    let id = client.upload("ct.nii", &noise).json()["id"].as_str().unwrap().to_string();
    let path = format!("/v1/volumes/{id}/volume.nii.gz");
    assert_eq!(client.get(&path).status, 200);
    let head = client.head("GET", &path, "", None).replace("Connection: close\r\n", "");
    let streams: Vec<_> = (0..4).map(|_| client.open(head.repeat(40).as_bytes())).collect();
    crate::support::eventually("they are let go", || {
        crate::support::metric(&client, "r1seg_connections") <= 1.0
    });
    drop(streams);
}

#[test]
fn s1_an_upload_that_breaks_off_leaves_nothing() {
    let running = Running::start(|_| {});
    let client = running.client();
    let body = multipart(&[("file", Some("a.nii.gz"), &phantom(1))]);
    let head =
        client.head("POST", "/v1/volumes", "multipart/form-data; boundary=xYx", Some(body.len()));
    let mut stream = client.open(head.as_bytes());
    stream.write_all(&body[..body.len() / 2]).unwrap();
    crate::support::eventually("the upload begins", || !running.files().is_empty());
    drop(stream);
    crate::support::eventually("the upload is removed", || running.files().is_empty());
    // Nor does one whose last boundary is missing.
    let short = client.send(
        "POST",
        "/v1/volumes",
        "multipart/form-data; boundary=xYx",
        &body[..body.len() - 9],
    );
    assert_eq!((short.status, running.files().len()), (400, 0));
}

#[test]
fn s6_json_of_any_depth_and_of_any_type_is_refused() {
    let client = Running::shared().client();
    let id = uploaded(&client, 2);
    for path in ["/v1/segment", "/v1/chat/completions", "/v1/volumes/phantom"] {
        for (body, status) in [
            ("", 400),
            ("{", 400),
            ("null", 422),
            ("[1, 2]", 422),
            ("\"x\"", 422),
            ("{\"model\": 1e999}", 400),
            ("\u{feff}{}", 400),
            ("{\"model\": \"\\ud800\"}", 400),
        ] {
            let reply = client.post_text(path, body);
            // A wrong field may be seen before a wrong value of it.
            let is_seen = reply.status == status || status == 400 && reply.status == 422;
            assert!(
                is_seen || body == "[1, 2]" && reply.status == 400,
                "{path} {body}: {}",
                reply.text()
            );
        }
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert!([400, 422].contains(&client.post_text(path, &deep).status));
        let deep = "{\"a\":".repeat(100_000) + "1" + &"}".repeat(100_000);
        assert!([400, 422].contains(&client.post_text(path, &deep).status));
        assert_eq!(client.send("POST", path, "text/plain", b"{}").status, 415, "{path}");
        assert_eq!(client.send("POST", path, "", b"{}").status, 415, "{path}");
        let bytes = client.send("POST", path, "application/json", b"{\"a\": \"\xff\"}");
        assert!([400, 422].contains(&bytes.status), "{path}");
    }
    for (field, value) in [
        ("voxel", "[-1, 0, 0]"),
        ("voxel", "[\"1\", 0, 0]"),
        ("voxel", "[1.5, 0, 0]"),
        ("voxel", "[18446744073709551616, 0, 0]"),
        ("voxel", "[18446744073709551615, 0, 0]"),
        ("voxel", "[0, 0]"),
        ("voxel", "[0, 0, 0, 0]"),
    ] {
        let body = format!(
            r#"{{"model":"demo","volume":"{id}","prompts":[{{"text":"x","points":[{{"{field}":{value}}}]}}]}}"#
        );
        let reply = client.post_text("/v1/segment", &body);
        assert_eq!(reply.status, 422, "{body}: {}", reply.text());
    }
    let most = usize::MAX;
    let boxed = json!({"model": "demo", "volume": id, "prompts": [
        {"question": LIVER, "box": [[0, 0, 0], [most, most, most]]}]});
    assert_eq!(client.post("/v1/segment", &boxed).status, 422);
}

#[test]
fn s8_ids_and_names_lead_nowhere_else() {
    let client = Running::shared().client();
    let id = uploaded(&client, 2);
    let found = client.post("/v1/segment", &crate::support::liver(&id)).json();
    let result = found["id"].as_str().unwrap();
    for path in [
        "/v1/volumes/..".to_string(),
        "/v1/volumes/%2e%2e%2f%2e%2e%2fetc%2fpasswd".to_string(),
        "/v1/results/..%2f..%2f".to_string(),
        format!("/v1/results/{result}/files/..%2freport.json"),
        format!("/v1/results/{result}/files/..%2f..%2f..%2fetc%2fpasswd"),
        format!("/v1/results/{result}/files/%2fetc%2fpasswd"),
        format!("/v1/results/{result}/files/mask.nii.gz%00.png"),
        format!("/v1/results/{result}/files/"),
        format!("/v1/masks/{result}/../../x.png"),
        "/v1/masks/.png".to_string(),
        "/v1/results/.zip".to_string(),
        "/%2e%2e/%2e%2e/Cargo.toml".to_string(),
        "/../Cargo.toml".to_string(),
        "/assets/..%2f..%2fCargo.toml".to_string(),
        "/index.html/../../../Cargo.toml".to_string(),
        format!("/v1/volumes/{}", "v".repeat(10_000)),
    ] {
        let reply = client.get(&path);
        assert!([400, 404].contains(&reply.status), "{path}: {}", reply.status);
    }
    let invalid = client.get("/v1/volumes/%ff");
    assert_eq!((invalid.status, invalid.code().as_str()), (400, "R-SRV-08"));
}

#[test]
fn forged_types_bombs_and_cut_files_are_told_by_their_bytes() {
    let running = Running::start(|config| {
        config.limits.max_volume_bytes = 8 << 20;
        config.limits.max_memory_bytes = 2 << 20;
    });
    let client = running.client();
    let whole = phantom(3);
    let bomb = gzip(&[nifti([2000, 2000, 2000]), vec![0; 1 << 20]].concat());
    let larger = gzip(&[nifti([256, 256, 128]), vec![0; 256 * 256 * 128 * 2]].concat());
    for (name, bytes, status) in [
        ("ct.nii.gz", b"\x89PNG\r\n\x1a\n....".to_vec(), 415),
        ("ct.nii.gz", b"<html>".to_vec(), 415),
        ("ct.png", whole.clone(), 201),
        ("ct.nii.gz", whole[..whole.len() / 2].to_vec(), 422),
        ("ct.nii.gz", gzip(&vec![0; 10 << 20]), 415),
        ("ct.nii.gz", gzip(&gzip(&gzip(b"x"))), 415),
        ("ct.nii.gz", Vec::new(), 422),
        ("ct.nii", nifti([8, 8, 8]), 422),
        ("ct.nii.gz", bomb, 422),
        ("ct.nii.gz", larger, 422),
        ("a.nhdr", b"NRRD0004\ntype: short\ndimension: 3\nsizes: 8 8 8\nencoding: raw\ndata file: ../../../../etc/passwd\n".to_vec(), 422),
        ("a.nhdr", b"NRRD0004\ntype: short\ndimension: 3\nsizes: 8 8 8\nencoding: raw\ndata file: x.raw\n".to_vec(), 422),
        ("a.zip", b"PK\x05\x06".to_vec(), 415),
        ("model.bin", b"\x80\x02}q\x00.".to_vec(), 415),
    ] {
        let reply = client.upload(name, &bytes);
        assert_eq!(reply.status, status, "{name} {}: {}", bytes.len(), reply.text());
        let folder = running.folder.path().display().to_string();
        assert!(!reply.text().contains(&folder), "{}", reply.text());
    }
    // Memory is shared out, and not more than there is: 4 MiB of voxels.
    let full =
        client.upload("ct.nii", &[nifti([128, 128, 128]), vec![1; 128 * 128 * 128 * 2]].concat());
    assert_eq!((full.status, full.code().as_str()), (429, "R-SRV-12"), "{}", full.text());
    assert!(full.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
    assert_eq!(running.files().len(), 1, "only the one that was read is kept");
}

#[test]
fn unknown_fields_and_bodies_that_are_not_forms_are_refused() {
    let client = Running::shared().client();
    let file = phantom(3);
    for (parts, status) in [
        (vec![("url", None, b"http://127.0.0.1/".as_slice())], 400),
        (vec![("path", None, b"/etc/passwd".as_slice())], 400),
        (vec![], 422),
        (vec![("file", Some("a"), file.as_slice()), ("frame", None, b"-1")], 422),
        (vec![("file", Some("a"), file.as_slice()), ("frame", None, b"5")], 400),
    ] {
        let reply = client.form("/v1/volumes", &parts);
        assert!(
            reply.status == status || [400, 422].contains(&reply.status) && status == 400,
            "{:?}: {} {}",
            parts.iter().map(|part| part.0).collect::<Vec<_>>(),
            reply.status,
            reply.text()
        );
    }
    for (kind, body) in
        [("multipart/form-data", b"x".as_slice()), ("application/json", b"{}"), ("", b"x")]
    {
        assert_eq!(client.send("POST", "/v1/volumes", kind, body).status, 415, "{kind}");
    }
    let nameless = client.send("POST", "/v1/volumes", "multipart/form-data; boundary=", b"x");
    assert!([400, 415].contains(&nameless.status), "{}", nameless.text());
    let garbage =
        client.send("POST", "/v1/volumes", "multipart/form-data; boundary=xYx", &[7; 9999]);
    assert_eq!(garbage.status, 400, "{}", garbage.text());
    for (parts, said) in [
        (("series", None, b"\xff".as_slice()), "a field is not UTF-8"),
        (("request", None, b"{}".as_slice()), "there is a field of an unknown name"),
    ] {
        let reply = client.form("/v1/volumes", &[parts]);
        assert_eq!(reply.status, 400, "{}", reply.text());
        assert!(reply.text().contains(said), "{}", reply.text());
    }
    let cut = client.post_text("/v1/segment", "{");
    assert!(cut.text().contains("the body is not valid JSON: "), "{}", cut.text());
}

#[test]
fn a_request_inside_of_a_request_is_never_answered() {
    let client = Running::shared().client();
    let smuggled = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let both = format!(
        "POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}",
        5 + smuggled.len()
    );
    let twice = "POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\
                 Content-Length: 50\r\n\r\n{}";
    let odd = "POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n";
    let folded = "GET /v1/info HTTP/1.1\r\nHost: localhost\r\nX-A: 1\r\n Content-Length: 9\r\n\r\n";
    let space = "GET /v1/info HTTP/1.1\r\nHost : localhost\r\n\r\n";
    let negative = "POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n";
    for (name, bytes) in [
        ("both lengths", both.as_str()),
        ("two lengths", twice),
        ("an odd coding", odd),
        ("a folded header", folded),
        ("a blank before the colon", space),
        ("a negative length", negative),
    ] {
        let mut stream = client.open(bytes.as_bytes());
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        let answers = answer.matches("HTTP/1.1 ").count();
        assert!(answers <= 1, "{name}: {answer}");
        assert!(!answer.contains("\"object\":\"list\""), "{name}: {answer}");
    }
    let many: String = (0..200).map(|n| format!("X-{n}: 1\r\n")).collect();
    let long = format!("X-Long: {}\r\n", "a".repeat(200_000));
    for headers in [many, long] {
        let request = format!("GET /v1/info HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        let mut stream = client.open(b"");
        let _ = stream.write_all(request.as_bytes());
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    assert_eq!(Client::new(client.address).get("/v1/info").status, 200);
}
