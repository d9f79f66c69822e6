use std::fs;

use r1seg_hub::{Cancel, ErrorKind, FileState, Hub, Remedy};

use crate::client::{config, hub, id};
use crate::download::download;
use crate::server::{COMMIT, MODEL, Server};

#[test]
fn offline_mode_opens_no_connection() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&server, folder.path());
    config.offline = true;
    let offline = Hub::new(config.clone());
    for result in [download(&offline, &id(MODEL)), offline.resolve(&id(MODEL))] {
        let error = result.unwrap_err();
        assert_eq!((error.code(), error.kind()), ("R-HUB-01", ErrorKind::Missing));
        let model = "lihao0011/R1Seg-3D-SAM".to_owned();
        assert_eq!(error.remedy(), Some(Remedy::DownloadOnline { model }));
    }
    assert_eq!(server.connections(), 0);

    config.offline = false;
    let online = download(&Hub::new(config), &id(MODEL)).unwrap();
    let before = server.connections();
    assert_eq!(download(&offline, &id(MODEL)).unwrap(), online);
    assert_eq!(offline.resolve(&id(MODEL)).unwrap(), online);
    assert_eq!(offline.list().unwrap().len(), 1);
    offline.verify(&online, &Cancel::default(), &mut |_| {}).unwrap();
    assert_eq!(server.connections(), before);
}

#[test]
fn resolving_needs_no_network_and_names_what_is_missing() {
    let server = Server::start();
    let (_folder, hub) = hub(&server);
    assert!(hub.resolve(&id(MODEL)).is_err_and(|e| e.code() == "R-HUB-02"));
    let snapshot = download(&hub, &id(MODEL)).unwrap();
    let before = server.connections();
    // A file that lost its end is as good as none.
    let config = fs::canonicalize(snapshot.path.join("config.json")).unwrap();
    fs::write(&config, "{").unwrap();
    fs::remove_file(snapshot.path.join("model.safetensors")).unwrap();
    let error = hub.resolve(&id(MODEL)).unwrap_err();
    assert_eq!(
        error.message(),
        format!(
            "{MODEL} is not complete: 2 of its files are missing: config.json, model.safetensors"
        )
    );
    assert_eq!(server.connections(), before);
    assert_eq!(download(&hub, &id(MODEL)).unwrap(), snapshot);
}

#[test]
fn w5_shards_that_the_index_names_must_be_there() {
    let server = Server::start();
    let (_folder, hub) = hub(&server);
    server.delete("model.safetensors");
    server.put("model-00001-of-00002.safetensors", vec![1; 10], true);
    server.put(
        "model.safetensors.index.json",
        r#"{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#,
        false,
    );
    let error = download(&hub, &id(MODEL)).unwrap_err();
    assert!(
        error.code() == "R-HUB-03"
            && error.message().ends_with("are missing: model-00002-of-00002.safetensors"),
        "{error}"
    );
    server.put("model-00002-of-00002.safetensors", vec![2; 10], true);
    assert_eq!(download(&hub, &id(MODEL)).unwrap().files.len(), 5);
}

#[test]
fn w7_verify_finds_a_changed_byte_by_the_name_of_the_blob() {
    let server = Server::start();
    let (folder, hub) = hub(&server);
    let snapshot = download(&hub, &id(MODEL)).unwrap();
    let check = |hub: &Hub| {
        let checks = hub.verify(&snapshot, &Cancel::default(), &mut |_| {}).unwrap();
        let error = snapshot.require_intact(&checks).err().map(|e| (e.code(), e.kind()));
        (checks, error)
    };
    let (checks, error) = check(&hub);
    let names: Vec<_> = checks.iter().map(|check| check.name.as_str()).collect();
    assert_eq!(names, ["README.md", "config.json", "model.safetensors"]);
    assert!(checks.iter().all(|check| matches!(check.state, FileState::Intact(_))));
    assert_eq!(error, None);

    let blob = fs::canonicalize(snapshot.path.join("model.safetensors")).unwrap();
    let mut bytes = fs::read(&blob).unwrap();
    bytes[12345] ^= 0x10;
    fs::write(&blob, bytes).unwrap();
    // As after Python's download: no record, only names.
    let model = folder.path().join("models--lihao0011--R1Seg-3D-SAM");
    for has_record in [true, false] {
        if !has_record {
            fs::remove_dir_all(model.join(".r1seg")).unwrap();
        }
        assert!(hub.resolve(&id(MODEL)).is_ok(), "lengths alone do not show it");
        let (checks, error) = check(&hub);
        let bad: Vec<_> = checks.iter().filter(|check| check.is_bad()).collect();
        assert_eq!(bad.len(), 1);
        let FileState::Damaged { expected, got } = &bad[0].state else { panic!("{bad:?}") };
        assert_eq!(expected.to_string(), server.file("model.safetensors").hash());
        assert_ne!(expected, got);
        assert_eq!(error, Some(("R-HUB-21", ErrorKind::Model)));
    }
}

#[test]
fn verify_names_missing_and_unknown_files_and_can_be_cancelled() {
    let server = Server::start();
    let (_folder, hub) = hub(&server);
    let snapshot = download(&hub, &id(MODEL)).unwrap();
    fs::remove_file(snapshot.path.join("README.md")).unwrap();
    fs::write(snapshot.path.join("notes.txt"), "mine").unwrap();
    let checks = hub.verify(&snapshot, &Cancel::default(), &mut |_| {}).unwrap();
    let state = |name: &str| &checks.iter().find(|check| check.name == name).unwrap().state;
    assert_eq!(state("README.md"), &FileState::Missing);
    assert_eq!(state("notes.txt"), &FileState::Unknown);
    assert_eq!(snapshot.require_intact(&checks).unwrap_err().code(), "R-HUB-03");
    let cancelled = hub.verify(&snapshot, &Cancel::when(|| true), &mut |_| {});
    assert!(cancelled.is_err_and(|e| e.code() == "R-HUB-40"));
}

#[test]
fn list_counts_shared_files_once_and_remove_keeps_them() {
    let server = Server::start();
    let (folder, hub) = hub(&server);
    assert_eq!(hub.list().unwrap(), []);
    assert_eq!(hub.remove(&id(MODEL)).unwrap_err().code(), "R-HUB-02");
    let old = download(&hub, &id(MODEL)).unwrap();
    let new_commit = "2".repeat(40);
    server.commit(&new_commit);
    server.put("config.json", "{}", false);
    let new = download(&hub, &id(MODEL)).unwrap();
    fs::create_dir_all(folder.path().join("datasets--a--b")).unwrap();

    let weights = server.file("model.safetensors").bytes.len() as u64;
    let models = hub.list().unwrap();
    assert_eq!(models.len(), 1);
    let model = &models[0];
    assert_eq!((model.id.repository().as_str(), model.bytes), (MODEL, weights + 7 + 20 + 2));
    let of = |n: usize| {
        (&*model.revisions[n].commit, model.revisions[n].files, model.revisions[n].bytes)
    };
    assert_eq!(of(0), (COMMIT, 3, weights + 7 + 20));
    assert_eq!(of(1), (&*new_commit, 3, weights + 7 + 2));
    assert_eq!(
        (model.revisions[0].refs.len(), &*model.revisions[1].refs),
        (0, &["main".to_owned()][..])
    );

    let pinned = id(&format!("{MODEL}@{COMMIT}"));
    assert_eq!(hub.remove(&pinned).unwrap(), 20);
    assert!(!old.path.exists());
    assert_eq!(hub.resolve(&id(MODEL)).unwrap(), new);
    assert_eq!(hub.remove(&id(MODEL)).unwrap(), weights + 7 + 2);
    assert_eq!(hub.list().unwrap(), []);
    assert!(hub.resolve(&id(MODEL)).is_err_and(|e| e.code() == "R-HUB-02"));
}
