use std::fs::{self, File};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use r1seg_hub::{Cancel, DownloadOptions, Event};

use crate::client::{hub, hub_in, id};
use crate::server::{MODEL, Reply, Server, weights};

#[test]
fn w9_two_downloads_at_once_are_one_transfer() {
    let server = Server::start();
    let (folder, _) = hub(&server);
    server.on_weights(|reply, _| {
        std::thread::sleep(Duration::from_millis(400));
        reply
    });
    let waited = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let run = || {
            let hub = hub_in(&server, folder.path());
            let snapshot = hub.download(&id(MODEL), &DownloadOptions::default(), &mut |event| {
                if let Event::Waiting { .. } = event {
                    waited.fetch_add(1, Ordering::SeqCst);
                }
            });
            fs::read(snapshot.unwrap().path.join("model.safetensors")).unwrap()
        };
        let both = [scope.spawn(run), scope.spawn(run)];
        for thread in both {
            assert_eq!(thread.join().unwrap(), weights());
        }
    });
    assert_eq!(server.requests_of("/cdn/").len(), 1);
    assert!(waited.load(Ordering::SeqCst) >= 1);
}

#[test]
fn w9_lock_of_another_process_is_waited_for_and_can_be_cancelled() {
    let server = Server::start();
    let (folder, hub) = hub(&server);
    let locks = folder.path().join(".locks/models--lihao0011--R1Seg-3D-SAM");
    fs::create_dir_all(&locks).unwrap();
    let lock =
        File::create(locks.join(format!("{}.lock", server.file("config.json").hash()))).unwrap();
    lock.lock().unwrap();
    let begin = Instant::now();
    let cancel = Cancel::when(move || begin.elapsed() > Duration::from_millis(300));
    let options = DownloadOptions { cancel, ..DownloadOptions::default() };
    let mut waiting = Vec::new();
    let result = hub.download(&id(MODEL), &options, &mut |event| {
        if let Event::Waiting { name } = event {
            waiting.push(name.to_owned());
        }
    });
    assert!(result.is_err_and(|e| e.code() == "R-HUB-40"));
    assert_eq!(waiting, ["config.json"]);
    assert!(server.requests_of("config.json").is_empty());
    lock.unlock().unwrap();
    hub.download(&id(MODEL), &DownloadOptions::default(), &mut |_| {}).unwrap();
}

#[test]
fn abandoned_transfer_does_not_disturb_the_next() {
    let server = Server::start();
    let (_folder, hub) = hub(&server);
    server.on_weights(|reply, n| match n {
        0 => Reply { drip: Some(Duration::from_millis(30)), ..reply },
        _ => reply,
    });
    let snapshot = hub.download(&id(MODEL), &DownloadOptions::default(), &mut |_| {}).unwrap();
    assert_eq!(fs::read(snapshot.path.join("model.safetensors")).unwrap(), weights());
}
