use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use r1seg_hub::{Cancel, DownloadOptions, Error, Event, Hub, ModelId, Snapshot, Token};

use crate::client::{config, hub, hub_in, id};
use crate::server::{COMMIT, MODEL, Reply, Server, weights};

pub(crate) fn download(hub: &Hub, id: &ModelId) -> Result<Snapshot, Error> {
    hub.download(id, &DownloadOptions::default(), &mut |_| {})
}

#[test]
fn download_brings_what_is_needed_and_no_code() {
    let server = Server::start();
    let (folder, hub) = hub(&server);
    let mut log = Vec::new();
    let snapshot = hub
        .download(&id("r1seg-3d-sam"), &DownloadOptions::default(), &mut |event| match event {
            Event::Resolved { commit, files, bytes } => {
                log.push(format!("{commit} {files} {bytes}"))
            }
            Event::Done { name, bytes } => log.push(format!("{name} {bytes}")),
            _ => {}
        })
        .unwrap();
    assert_eq!(snapshot.files, ["README.md", "config.json", "model.safetensors"]);
    assert_eq!(snapshot.commit, COMMIT);
    assert_eq!(fs::read(snapshot.path.join("model.safetensors")).unwrap(), weights());
    let total = 7 + 20 + weights().len();
    assert_eq!(log[0], format!("{COMMIT} 3 {total}"));
    assert_eq!(
        log[1..],
        ["README.md 7", "config.json 20", &format!("model.safetensors {}", weights().len())]
    );
    assert!(server.requests_of("modeling.py").is_empty());
    let model = folder.path().join("models--lihao0011--R1Seg-3D-SAM");
    assert_eq!(snapshot.path, model.join("snapshots").join(COMMIT));
    assert_eq!(hub.resolve(&id(MODEL)).unwrap(), snapshot.clone());
    // The second time only the branch is looked up.
    let before = server.requests().len();
    assert_eq!(download(&hub, &id(MODEL)).unwrap(), snapshot);
    assert_eq!(server.requests().len(), before + 1);
}

#[test]
fn token_goes_to_the_hub_and_not_to_where_it_redirects() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&server, folder.path());
    config.token = Token::new("hf_secret");
    download(&Hub::new(config), &id(MODEL)).unwrap();
    let with_token = |part: &str| -> Vec<bool> {
        let has = |value: Option<&str>| value == Some("Bearer hf_secret");
        server.requests_of(part).iter().map(|r| has(r.header("authorization"))).collect()
    };
    assert_eq!(with_token("/api/"), [true]);
    assert_eq!(with_token("/resolve/"), [true, true, true]);
    assert_eq!(with_token("/cdn/"), [false]);
    assert!(server.requests_of("/cdn/")[0].header("authorization").is_none());
    assert!(server.requests_of("/cdn/")[0].header("host").unwrap().starts_with("localhost"));
}

#[test]
fn redirect_within_the_hub_keeps_the_token() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&server, folder.path());
    config.token = Token::new("hf_secret");
    server.on(|request, _| {
        // A model that was renamed.
        let old = request.path.strip_prefix("/api/models/old/name/")?;
        Some(Reply::new(307, "").with("Location", format!("/api/models/{MODEL}/{old}")))
    });
    let result = download(&Hub::new(config), &id("old/name"));
    assert_eq!(result.unwrap_err().code(), "R-HUB-10");
    let listing = server.requests_of(&format!("/api/models/{MODEL}/"));
    assert_eq!(listing[0].header("authorization"), Some("Bearer hf_secret"));
}

#[test]
fn w9_transfer_that_breaks_off_is_resumed_where_it_broke() {
    let server = Server::start();
    let (_folder, hub) = hub(&server);
    server.on_weights(|reply, n| match n {
        0 => Reply { cut: Some(1_500_000), ..reply },
        1 => Reply { cut: Some(400_000), ..reply },
        _ => reply,
    });
    let mut waits = Vec::new();
    let snapshot = hub
        .download(&id(MODEL), &DownloadOptions::default(), &mut |event| {
            if let Event::Retrying { name, attempt, reason, .. } = event {
                waits.push((name.to_owned(), attempt, reason.code()));
            }
        })
        .unwrap();
    assert_eq!(fs::read(snapshot.path.join("model.safetensors")).unwrap(), weights());
    let name = || "model.safetensors".to_owned();
    assert_eq!(waits, [(name(), 1, "R-HUB-19"), (name(), 2, "R-HUB-19")]);
    let ranges: Vec<_> =
        server.requests_of("/cdn/").iter().map(|r| r.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges, [None, Some("bytes=1500000-".into()), Some("bytes=1900000-".into())]);
}

#[test]
fn server_without_ranges_is_read_from_the_beginning() {
    let server = Server::start();
    let (_folder, hub) = hub(&server);
    server.on_weights(|reply, n| {
        let whole = Reply::new(200, weights());
        if n == 0 { Reply { cut: Some(1_000_000), ..reply } } else { whole }
    });
    let snapshot = download(&hub, &id(MODEL)).unwrap();
    assert_eq!(fs::read(snapshot.path.join("model.safetensors")).unwrap(), weights());
}

#[test]
fn part_of_an_earlier_run_that_is_wrong_is_replaced() {
    let server = Server::start();
    let (folder, hub) = hub(&server);
    let hash = server.file("model.safetensors").hash();
    let blobs = folder.path().join("models--lihao0011--R1Seg-3D-SAM/blobs");
    fs::create_dir_all(&blobs).unwrap();
    for wrong in [vec![7; 1000], vec![7; weights().len()], vec![7; weights().len() + 5]] {
        fs::write(blobs.join(format!("{hash}.incomplete")), wrong).unwrap();
        let snapshot = download(&hub, &id(MODEL)).unwrap();
        assert_eq!(fs::read(snapshot.path.join("model.safetensors")).unwrap(), weights());
        assert!(!blobs.join(format!("{hash}.incomplete")).exists());
        fs::remove_file(blobs.join(&hash)).unwrap();
    }
}

#[test]
fn chunked_bodies_are_read_whole() {
    let server = Server::start();
    let (_folder, hub) = hub(&server);
    server.on_weights(|reply, n| match n {
        0 => Reply { chunked: true, cut: Some(5000), ..reply },
        _ => Reply { chunked: true, ..reply },
    });
    let snapshot = download(&hub, &id(MODEL)).unwrap();
    assert_eq!(fs::read(snapshot.path.join("model.safetensors")).unwrap(), weights());
    assert_eq!(server.requests_of("/cdn/").len(), 2);
}

#[test]
fn w9_cancelled_download_leaves_a_part_and_goes_on_from_it() {
    let server = Server::start();
    let (folder, hub) = hub(&server);
    server.on_weights(|reply, n| match n {
        // Half of it, then silence.
        0 => Reply { cut: Some(1_000_000), drip: None, ..reply }.with("Content-Length", "3145728"),
        _ => reply,
    });
    let stop = Arc::new(AtomicBool::new(false));
    let asked = stop.clone();
    let cancel = Cancel::when(move || asked.load(Ordering::SeqCst));
    let options = DownloadOptions { cancel, ..DownloadOptions::default() };
    let mut began = None;
    let error = hub.download(&id(MODEL), &options, &mut |event| {
        if let Event::Progress { name: "model.safetensors", bytes, .. } = event
            && bytes >= 500_000
        {
            began.get_or_insert_with(Instant::now);
            stop.store(true, Ordering::SeqCst);
        }
    });
    assert!(error.is_err_and(|e| e.code() == "R-HUB-40"));
    assert!(began.unwrap().elapsed() < Duration::from_secs(1));
    let hash = server.file("model.safetensors").hash();
    let model = folder.path().join("models--lihao0011--R1Seg-3D-SAM");
    let part = fs::metadata(model.join(format!("blobs/{hash}.incomplete"))).unwrap().len();
    assert!((500_000..=1_000_000).contains(&part));
    assert!(!model.join("refs/main").exists());
    assert!(hub.resolve(&id(MODEL)).is_err_and(|e| e.code() == "R-HUB-02"));
    let pinned = hub.resolve(&id(&format!("{MODEL}@{COMMIT}"))).unwrap_err();
    assert!(
        pinned.code() == "R-HUB-03" && pinned.message().ends_with("are missing: model.safetensors"),
        "{pinned}"
    );

    let snapshot = download(&hub, &id(MODEL)).unwrap();
    assert_eq!(fs::read(snapshot.path.join("model.safetensors")).unwrap(), weights());
    let resumed = server.requests_of("/cdn/")[1].header("range").map(str::to_owned);
    assert_eq!(resumed, Some(format!("bytes={part}-")));
}

#[test]
fn cancel_does_not_wait_for_a_silent_server() {
    let server = Server::start();
    let (_folder, hub) = hub(&server);
    server.on(|_, _| {
        std::thread::sleep(Duration::from_secs(8));
        None
    });
    let begin = Instant::now();
    let cancel = Cancel::when(move || begin.elapsed() > Duration::from_millis(200));
    let options = DownloadOptions { cancel, ..DownloadOptions::default() };
    let result = hub.download(&id(MODEL), &options, &mut |_| {});
    assert!(result.is_err_and(|e| e.code() == "R-HUB-40"));
    assert!(begin.elapsed() < Duration::from_secs(1));
}

#[test]
fn w10_branch_that_moved_gets_a_second_snapshot_and_the_first_stays() {
    let server = Server::start();
    let (_folder, hub) = hub(&server);
    let old = download(&hub, &id(MODEL)).unwrap();
    let new_commit = "2".repeat(40);
    server.commit(&new_commit);
    server.put("config.json", "{}", false);
    let new = download(&hub, &id(MODEL)).unwrap();
    assert_eq!(new.commit, new_commit);
    assert_eq!(fs::read_to_string(new.path.join("config.json")).unwrap(), "{}");
    assert_eq!(hub.resolve(&id(MODEL)).unwrap().commit, new_commit);
    let pinned = hub.resolve(&id(&format!("{MODEL}@{COMMIT}"))).unwrap();
    assert_eq!((pinned.path, pinned.files), (old.path, old.files));
    // The weights did not change, and came once.
    assert_eq!(server.requests_of("/cdn/").len(), 1);
}

#[test]
fn w10_pinned_commit_that_is_complete_needs_no_network() {
    let server = Server::start();
    let (_folder, hub) = hub(&server);
    let pinned = id(&format!("{MODEL}@{COMMIT}"));
    let first = download(&hub, &pinned).unwrap();
    let before = server.connections();
    assert_eq!(download(&hub, &pinned).unwrap(), first);
    assert_eq!(server.connections(), before);
    // A file that is gone is fetched again, without a new listing.
    fs::remove_file(first.path.join("config.json")).unwrap();
    let listings = server.requests_of("/api/").len();
    assert_eq!(download(&hub, &pinned).unwrap(), first);
    assert_eq!(server.requests_of("/api/").len(), listings);
    // No branch was recorded, since none was asked for.
    assert!(hub.resolve(&id(MODEL)).is_err_and(|e| e.code() == "R-HUB-02"));
}

#[test]
fn patterns_choose_other_files() {
    let server = Server::start();
    let (_folder, hub) = hub(&server);
    server.put("demo/ct volume.npy", vec![1; 500], true);
    let allow = Some(vec!["demo/*".to_owned(), "config.json".to_owned()]);
    let options = DownloadOptions { allow, ..DownloadOptions::default() };
    // The server of this test does not decode addresses.
    let plain = server.clone();
    server.on(move |request, _| {
        let request =
            crate::server::Request { path: request.path.replace("%20", " "), ..request.clone() };
        Some(plain.reply(&request))
    });
    let snapshot = hub.download(&id(MODEL), &options, &mut |_| {}).unwrap();
    assert_eq!(snapshot.files, ["config.json", "demo/ct volume.npy"]);
    assert_eq!(fs::read(snapshot.path.join("demo/ct volume.npy")).unwrap(), vec![1; 500]);
    #[cfg(unix)]
    {
        let link = fs::read_link(snapshot.path.join("demo/ct volume.npy")).unwrap();
        assert!(link.starts_with("../../../blobs"));
    }
    // A later download of everything adds to it.
    assert_eq!(download(&hub, &id(MODEL)).unwrap().files.len(), 4);
    assert!(hub_in(&server, &hub.config().cache).resolve(&id(MODEL)).is_ok());
}

#[test]
fn a_model_in_a_folder_of_its_repository_is_found_in_that_folder() {
    let server = Server::start();
    let (_folder, hub) = hub(&server);
    server.delete("model.safetensors");
    server.put("net/config.json", "{}", false);
    server.put("net/model.safetensors", weights(), true);
    let pinned = id(&format!("{MODEL}@{COMMIT}"));
    let snapshot = download(&hub, &pinned).unwrap();
    assert_eq!(snapshot.files, ["README.md", "net/config.json", "net/model.safetensors"]);
    assert!(snapshot.path.ends_with(format!("snapshots/{COMMIT}/net")), "{snapshot:?}");
    assert_eq!(fs::read(snapshot.path.join("model.safetensors")).unwrap(), weights());
    assert_eq!(hub.resolve(&pinned).unwrap(), snapshot);

    let verify = || hub.verify(&snapshot, &Cancel::default(), &mut |_| {}).unwrap();
    let checks = verify();
    assert!(checks.len() == 3 && checks.iter().all(|check| !check.is_bad()), "{checks:?}");
    snapshot.require_intact(&checks).unwrap();
    fs::remove_file(snapshot.path.join("config.json")).unwrap();
    let error = snapshot.require_intact(&verify()).unwrap_err();
    assert_eq!(error.code(), "R-HUB-03");
    assert!(error.message().contains("net/config.json"), "{error}");
    assert_eq!(hub.resolve(&pinned).unwrap_err().code(), "R-HUB-03");
}

#[test]
fn w7_damaged_file_is_fetched_again_if_asked() {
    let server = Server::start();
    let (_folder, hub) = hub(&server);
    let pinned = id(&format!("{MODEL}@{COMMIT}"));
    let snapshot = download(&hub, &pinned).unwrap();
    let file = snapshot.path.join("model.safetensors");
    let mut bytes = weights();
    bytes[77] ^= 1;
    fs::write(&file, bytes).unwrap();
    // Its length is right, so that a plain download has nothing to do.
    download(&hub, &pinned).unwrap();
    assert_ne!(fs::read(&file).unwrap(), weights());
    let options = DownloadOptions { rehash: true, ..DownloadOptions::default() };
    hub.download(&pinned, &options, &mut |_| {}).unwrap();
    assert_eq!(fs::read(&file).unwrap(), weights());
    assert_eq!(server.requests_of("/resolve/").len(), 4);
}

#[test]
fn files_of_an_abandoned_download_are_not_asked_for_again() {
    let server = Server::start();
    let (_folder, hub) = hub(&server);
    server.on_weights(|_, _| Reply::new(404, ""));
    assert_eq!(download(&hub, &id(MODEL)).unwrap_err().code(), "R-HUB-10");
    let allow = Some(vec!["*.json".to_owned()]);
    let options = DownloadOptions { allow, ..DownloadOptions::default() };
    let snapshot = hub.download(&id(MODEL), &options, &mut |_| {}).unwrap();
    assert_eq!(snapshot.files, ["README.md", "config.json"]);
    assert_eq!(server.requests_of("/cdn/").len(), 1);
}
